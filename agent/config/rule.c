#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"
#include "shm/rl_hash.h"

static void read_name(struct yaml_file *file, const yaml_node_t *rule, struct rl_rule_spec *spec)
{
	yaml_node_t *node = yaml_get(file, rule, "name");
	const char *text, *wrong;

	if (node == NULL) {
		yaml_fault(file, rule, "this rule has no 'name'");
		return;
	}
	text = yaml_text(file, node, "name", "the rule's name");
	if (text == NULL)
		return;
	wrong = rl_name_fault(text);
	if (wrong != NULL)
		yaml_fault(file, node, "bad name '%s': %s", text, wrong);
	else
		memcpy(spec->name, text, strlen(text) + 1);
}

static void read_limit(struct yaml_file *file, const yaml_node_t *rule, struct rl_rule_spec *spec)
{
	yaml_node_t *node = yaml_get(file, rule, "limit");
	const char *text, *wrong;

	if (node == NULL) {
		yaml_fault(file, rule, "this rule has no 'limit'");
		return;
	}
	text = yaml_text(file, node, "limit", "COUNT/WINDOW, e.g. 100/minute, 5/10s");
	if (text == NULL)
		return;
	wrong = spec->algorithm == RL_CONCURRENCY ? rl_terms_parse_count(text, &spec->terms)
						  : rl_terms_parse(text, &spec->terms);
	if (wrong != NULL)
		yaml_fault(file, node, "bad limit '%s': %s", text, wrong);
}

/* Two rules of one name, or (one in 4 billion) two names of one id. */
static void check_unique(struct yaml_file *file, const yaml_node_t *rule,
			 const struct agent_config *config)
{
	const char *name = config->rule[config->rule_count].name;

	for (size_t i = 0; i < config->rule_count && *name != '\0'; i++) {
		const char *other = config->rule[i].name;

		if (strcmp(name, other) == 0)
			yaml_fault(file, rule, "a rule named '%s' stands above already", name);
		else if (*other != '\0' && rl_hash_rule(name) == rl_hash_rule(other))
			yaml_fault(file, rule,
				   "the names '%s' and '%s' have the same id: rename one", name,
				   other);
	}
}

static void read_on_full(struct yaml_file *file, const yaml_node_t *rule, struct rl_rule_spec *spec)
{
	static const struct value_choice choice = {"on_full", rl_on_full_name, RL_FULLS};

	if (spec->algorithm == RL_CONCURRENCY)
		spec->on_full = RL_FULL_DENY;
	if (value_choice(file, rule, &choice, &spec->on_full) &&
	    spec->algorithm == RL_CONCURRENCY && spec->on_full != RL_FULL_DENY)
		yaml_fault(file, yaml_get(file, rule, choice.key),
			   "'on_full: %s' on a concurrency rule: a new key without a slot is told "
			   "RL_ERR_FULL, say deny or nothing",
			   rl_on_full_name(spec->on_full));
}

static void read_rule(struct yaml_file *file, const yaml_node_t *rule, struct agent_config *config)
{
	static const char *const known[] = {
		"name",           "limit",       "algorithm", "burst", "delay",
		"interpolate",    "consistency", "beta",      "wait",  "no_credit",
		"on_unreachable", "on_full",     "allow",     "deny",  "overrides",
		"shadow",         "enforce",     "audit",     NULL};
	struct rl_rule_spec *spec = &config->rule[config->rule_count];

	if (!yaml_check_keys(file, rule, "a rule", known))
		return;
	read_name(file, rule, spec);
	config_read_sharing(file, rule, config, &spec->fleet);
	config_read_algorithm(file, rule, spec);
	read_limit(file, rule, spec);
	config_read_lists(file, rule, spec);
	read_on_full(file, rule, spec);
	config_read_rule_audit(file, rule, config, spec);
	check_unique(file, rule, config);
	config->rule_count++;
}

void config_read_rules(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	yaml_node_t *rule;

	if (node->type != YAML_SEQUENCE_NODE) {
		yaml_fault(file, node, "'rules' must be a list (- name: ...)");
		return;
	}
	for (size_t i = 0; (rule = yaml_item(file, node, i)) != NULL && !yaml_enough(file); i++) {
		if (config->rule_count == RL_RULES_MAX) {
			yaml_fault(file, rule, "more than %u rules: a segment holds no more",
				   RL_RULES_MAX);
			return;
		}
		read_rule(file, rule, config);
	}
}
