#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"
#include "shm/rl_algorithm.h"

/* The words by which the choice is made: concurrency, which is no row, comes last. */
static uint8_t number_of(unsigned choice)
{
	return (uint8_t)(choice < rl_algorithm_count() ? choice : RL_CONCURRENCY);
}

static const char *algorithm_name(unsigned choice)
{
	return rl_algorithm_name(number_of(choice));
}

/* "token_bucket or leaky_bucket": those that have the option. */
static void list_having(uint32_t option, char *ret, size_t size)
{
	*ret = '\0';
	for (uint32_t a = 0; a < rl_algorithm_count(); a++) {
		if ((rl_algorithm_options(a) & option) == 0)
			continue;
		if (*ret != '\0')
			strncat(ret, " or ", size - strlen(ret) - 1);
		strncat(ret, rl_algorithm_name(a), size - strlen(ret) - 1);
	}
}

/* A key that this algorithm has no use for. */
static bool is_refused(struct yaml_file *file, const yaml_node_t *rule, const char *key,
		       uint32_t option, uint8_t algorithm)
{
	yaml_node_t *node = yaml_get(file, rule, key);
	char having[128];

	if (node == NULL || (rl_algorithm_options(algorithm) & option) != 0)
		return false;
	list_having(option, having, sizeof(having));
	yaml_fault(file, node, "'%s' on a %s rule: only 'algorithm: %s' has one", key,
		   rl_algorithm_name(algorithm), having);
	return true;
}

static void read_units(struct yaml_file *file, const yaml_node_t *rule, const char *key,
		       uint32_t least, uint32_t most, uint32_t *ret)
{
	yaml_node_t *node = yaml_get(file, rule, key);
	unsigned long long units;

	if (node != NULL && yaml_number(file, node, key, least, most, &units))
		*ret = (uint32_t)units;
}

/* A leaky bucket may have none of either, as in nginx; a token bucket without room admits nothing.
 */
static void read_bucket(struct yaml_file *file, const yaml_node_t *rule, struct rl_rule_spec *ret)
{
	bool queues = (rl_algorithm_options(ret->algorithm) & RL_OPTION_DELAY) != 0;

	if (!is_refused(file, rule, "burst", RL_OPTION_BURST, ret->algorithm))
		read_units(file, rule, "burst", queues ? 0 : 1, RL_LIMIT_MAX, &ret->burst);
	if (!is_refused(file, rule, "delay", RL_OPTION_DELAY, ret->algorithm))
		read_units(file, rule, "delay", 0, ret->burst, &ret->delay);
}

static void read_interpolate(struct yaml_file *file, const yaml_node_t *rule,
			     struct rl_rule_spec *ret)
{
	yaml_node_t *node = yaml_get(file, rule, "interpolate");
	bool value = false;

	if (is_refused(file, rule, "interpolate", RL_OPTION_INTERPOLATE, ret->algorithm))
		return;
	value_truth(file, rule, "interpolate", &value);
	if (value && ret->fleet.consistency != RL_LOCAL)
		yaml_fault(file, node,
			   "'interpolate' on a rule that hosts share: it is for local ones");
	else
		ret->interpolate = value;
}

void config_read_algorithm(struct yaml_file *file, const yaml_node_t *rule,
			   struct rl_rule_spec *ret)
{
	const struct value_choice choice = {"algorithm", algorithm_name, rl_algorithm_count() + 1};
	yaml_node_t *node = yaml_get(file, rule, choice.key);
	uint8_t chosen = RL_SLIDING;

	if (!value_choice(file, rule, &choice, &chosen))
		return;
	ret->algorithm = number_of(chosen);
	if (ret->algorithm != RL_SLIDING && ret->fleet.consistency != RL_LOCAL)
		yaml_fault(file, node,
			   "a %s rule counts on each host alone: say 'consistency: local'",
			   rl_algorithm_name(ret->algorithm));
	read_bucket(file, rule, ret);
	read_interpolate(file, rule, ret);
}
