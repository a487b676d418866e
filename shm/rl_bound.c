#include "shm/rl_bound.h"

#include "shm/rl_algorithm.h"
#include "shm/rl_unreachable.h"

#define PPM_ALL 1000000u

static bool passes_all(const struct rl_rule *rule, struct rl_bound *ret)
{
	bool off = (rule->fleet & (RL_RULE_OFF | RL_RULE_OFF_ALL)) != 0;
	bool shadow = (rule->fleet & RL_RULE_SHADOW) != 0 && rule->shadow_ppm >= PPM_ALL;

	*ret = (struct rl_bound){RL_BOUND_NONE, off ? RL_BOUND_OFF : RL_BOUND_SHADOW, false};
	return off || shadow;
}

struct rl_bound rl_bound_promised(const struct rl_rule *rule, uint32_t hosts)
{
	struct rl_fleet_terms terms;
	struct rl_bound bound;

	if (passes_all(rule, &bound))
		return bound;
	if (rl_rule_is_local(rule)) {
		bound.units = rl_algorithm_bound(rl_rule_algorithm(rule), rule->limit, rule->burst,
						 (rule->fleet & RL_RULE_INTERPOLATE) != 0);
		bound.by = RL_BOUND_LOCAL;
		return bound;
	}
	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	return (struct rl_bound){
		.units = rl_fleet_bound(rule->limit, &terms, hosts),
		.by = terms.consistency == RL_STRICT     ? RL_BOUND_STRICT
		      : terms.consistency == RL_EVENTUAL ? RL_BOUND_EVENTUAL
							 : RL_BOUND_BOUNDED,
		.of_fleet = true,
	};
}

static uint64_t of_share(const struct rl_rule *rule, const struct rl_fleet_terms *terms,
			 uint32_t hosts)
{
	uint64_t share = rl_shared_share(rule->limit, terms, hosts);
	uint64_t most = share == 0 ? 0 : share + rl_unreachable_burst(share);

	return most < rule->limit ? most : rule->limit;
}

struct rl_bound rl_bound_in_force(const struct rl_rule *rule, uint32_t hosts, enum rl_state state)
{
	struct rl_bound bound = rl_bound_promised(rule, hosts);
	struct rl_fleet_terms terms;

	if (!bound.of_fleet || state == RL_FRESH)
		return bound;
	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	switch (terms.on_unreachable) {
	case RL_SHARE:
		return (struct rl_bound){of_share(rule, &terms, hosts), RL_BOUND_SHARE, false};
	case RL_OWN:
		return (struct rl_bound){rule->limit, RL_BOUND_OWN, false};
	case RL_OPEN:
		return (struct rl_bound){RL_BOUND_NONE, RL_BOUND_OPEN, false};
	default:
		bound.by = RL_BOUND_CLOSED;
		return bound;
	}
}
