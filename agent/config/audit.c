/*
 * audit.c - 'audit', of the whole file and of a rule.
 */
#include "agent/config/read.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_audit.h"

bool config_read_audit(struct yaml_file *file, const yaml_node_t *mapping, uint32_t *ret)
{
	yaml_node_t *node = yaml_get(file, mapping, "audit");
	unsigned long long n;

	if (node == NULL || !yaml_number(file, node, "audit", 0, RL_AUDIT_MOST, &n))
		return false;
	if (!rl_audit_can_be(n)) {
		yaml_fault(file, node,
			   "'audit' must be 0 or a power of two up to %u, e.g. 1024: one key in "
			   "so many is audited",
			   RL_AUDIT_MOST);
		return false;
	}
	*ret = (uint32_t)n;
	return true;
}

/* What any window may hold is said of sliding windows alone; and times that are given are not ours.
 */
void config_read_rule_audit(struct yaml_file *file, const yaml_node_t *rule,
			    const struct agent_config *config, struct rl_rule_spec *ret)
{
	bool can = ret->algorithm == RL_SLIDING && !config->clock_given;
	uint32_t n = can ? config->audit : 0;

	if (config_read_audit(file, rule, &n) && n != 0 && !can)
		yaml_fault(file, yaml_get(file, rule, "audit"),
			   config->clock_given
				   ? "'audit' with 'clock: given': it measures real time"
				   : "'audit' on a rule of this algorithm: it measures sliding "
				     "windows");
	ret->audit = (uint8_t)rl_audit_code(n);
}
