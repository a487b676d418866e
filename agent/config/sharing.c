#include "agent/config/read.h"
#include "agent/config/value.h"

#define MS_NS UINT64_C(1000000)

/* What a rule has that says no more than its consistency. */
static const struct rl_fleet_terms usual[] = {
	[RL_LOCAL] = {.consistency = RL_LOCAL},
	[RL_BOUNDED] = {.consistency = RL_BOUNDED,
			.no_credit = RL_NO_CREDIT_ALLOW,
			.on_unreachable = RL_SHARE,
			.beta_ppm = 100000,
			.wait_ns = 2 * MS_NS},
	[RL_STRICT] = {.consistency = RL_STRICT,
		       .no_credit = RL_NO_CREDIT_DENY,
		       .on_unreachable = RL_CLOSED,
		       .wait_ns = 2 * MS_NS},
	[RL_EVENTUAL] = {.consistency = RL_EVENTUAL, .on_unreachable = RL_SHARE},
};

/* A word that is none is read on as bounded, where every other key has a meaning. */
static unsigned read_consistency(struct yaml_file *file, const yaml_node_t *rule, bool has_redis)
{
	static const struct value_choice choice = {"consistency", rl_consistency_name,
						   RL_CONSISTENCIES};
	yaml_node_t *node = yaml_get(file, rule, choice.key);
	uint8_t value = has_redis ? RL_BOUNDED : RL_LOCAL;

	if (!value_choice(file, rule, &choice, &value))
		return RL_BOUNDED;
	if (value != RL_LOCAL && !has_redis)
		yaml_fault(file, node,
			   "%s %s rule is shared between hosts through Redis: add a top-level "
			   "'redis'",
			   value == RL_EVENTUAL ? "an" : "a", rl_consistency_name(value));
	return value;
}

static void refuse_on_local(struct yaml_file *file, const yaml_node_t *rule, bool has_redis)
{
	static const char *const shared[] = {"beta", "wait", "no_credit", "on_unreachable"};

	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		yaml_node_t *node = yaml_get(file, rule, shared[i]);

		if (node != NULL)
			yaml_fault(file, node,
				   "'%s' on a local rule: it counts on this host alone%s",
				   shared[i],
				   has_redis ? "" : " (to share it, add a top-level 'redis')");
	}
}

/* It has no credit, so nothing that is about credit. */
static void refuse_on_eventual(struct yaml_file *file, const yaml_node_t *rule)
{
	static const char *const credit[] = {"beta", "wait", "no_credit"};

	for (size_t i = 0; i < sizeof(credit) / sizeof(credit[0]); i++) {
		yaml_node_t *node = yaml_get(file, rule, credit[i]);

		if (node != NULL)
			yaml_fault(file, node,
				   "'%s' on an eventual rule: it has no credit to be short of",
				   credit[i]);
	}
}

static void read_beta(struct yaml_file *file, const yaml_node_t *rule, struct rl_fleet_terms *ret)
{
	yaml_node_t *node = yaml_get(file, rule, "beta");

	if (ret->consistency != RL_STRICT)
		value_part(file, rule, "beta", &ret->beta_ppm);
	else if (node != NULL)
		yaml_fault(file, node,
			   "'beta' on a strict rule: nothing passes without credit, its beta is 0");
}

static void read_no_credit(struct yaml_file *file, const yaml_node_t *rule,
			   struct rl_fleet_terms *ret)
{
	static const struct value_choice choice = {"no_credit", rl_no_credit_name, RL_NO_CREDITS};

	value_choice(file, rule, &choice, &ret->no_credit);
	if (ret->consistency == RL_STRICT && ret->no_credit == RL_NO_CREDIT_ALLOW)
		yaml_fault(file, yaml_get(file, rule, choice.key),
			   "'allow' on a strict rule: more than the limit could pass; a strict "
			   "rule always has 'deny'");
}

static void read_unreachable(struct yaml_file *file, const yaml_node_t *rule,
			     struct rl_fleet_terms *ret)
{
	static const struct value_choice choice = {"on_unreachable", rl_unreachable_name,
						   RL_UNREACHABLES};

	value_choice(file, rule, &choice, &ret->on_unreachable);
	if (ret->consistency == RL_STRICT && ret->on_unreachable != RL_CLOSED)
		yaml_warning(file, yaml_get(file, rule, choice.key),
			     "'%s' on a strict rule: while Redis cannot be reached more than the "
			     "limit may pass",
			     rl_unreachable_name(ret->on_unreachable));
}

void config_read_sharing(struct yaml_file *file, const yaml_node_t *rule,
			 const struct agent_config *config, struct rl_fleet_terms *ret)
{
	static const struct value_span wait = {"wait", 0, RL_WAIT_MAX_NS,
					       "a time 0 .. 1s, e.g. 2ms"};

	*ret = usual[read_consistency(file, rule, config->has_redis)];
	if (ret->consistency == RL_LOCAL) {
		refuse_on_local(file, rule, config->has_redis);
		return;
	}
	if (ret->consistency == RL_EVENTUAL) {
		refuse_on_eventual(file, rule);
		read_unreachable(file, rule, ret);
		return;
	}
	read_beta(file, rule, ret);
	value_span(file, rule, &wait, &ret->wait_ns);
	read_no_credit(file, rule, ret);
	read_unreachable(file, rule, ret);
}
