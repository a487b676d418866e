/*
 * fleet_words.c - a rule's sharing in words.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_algorithm.h"
#include "tools/fleet.h"

uint64_t fleet_bound(const struct fleet *fleet, const struct rl_rule *rule)
{
	struct rl_fleet_terms terms;

	if (rl_rule_is_local(rule))
		return rl_algorithm_bound(rl_rule_algorithm(rule), rule->limit, rule->burst,
					  (rule->fleet & RL_RULE_INTERPOLATE) != 0);
	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	return rl_fleet_bound(rule->limit, &terms, fleet->hosts);
}

/* While Redis answers. */
static void promise(const struct fleet *fleet, const struct rl_rule *rule,
		    const struct rl_fleet_terms *terms, char text[FLEET_TEXT])
{
	snprintf(text, FLEET_TEXT, "%s: at most %" PRIu64 " %s",
		 rl_consistency_name(terms->consistency), fleet_bound(fleet, rule),
		 terms->consistency == RL_LOCAL ? "on this host" : "of all hosts");
	if (terms->consistency == RL_EVENTUAL)
		snprintf(text, FLEET_TEXT,
			 "%s: %" PRIu32 " and what other hosts admit in two syncs, at most %" PRIu64
			 " of all hosts",
			 rl_consistency_name(RL_EVENTUAL), rule->limit, fleet_bound(fleet, rule));
}

/* While it does not. */
static void fallback(const struct fleet *fleet, const struct rl_rule *rule,
		     const struct rl_fleet_terms *terms, char text[FLEET_TEXT])
{
	const char *name = rl_unreachable_name(terms->on_unreachable);

	if (terms->on_unreachable == RL_SHARE)
		snprintf(text, FLEET_TEXT, "%s: this host admits %" PRIu64 " of %" PRIu32, name,
			 rl_shared_share(rule->limit, terms, fleet->hosts), rule->limit);
	else if (terms->on_unreachable == RL_OWN)
		snprintf(text, FLEET_TEXT, "%s: %" PRIu32 " on this host", name, rule->limit);
	else if (terms->on_unreachable == RL_OPEN)
		snprintf(text, FLEET_TEXT, "%s: no limit", name);
	else
		snprintf(text, FLEET_TEXT, "%s: leftover credit, then nothing", name);
}

char *fleet_in_force(const struct fleet *fleet, const struct rl_rule *rule, char text[FLEET_TEXT])
{
	struct rl_fleet_terms terms;

	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	if ((rule->fleet & (RL_RULE_OFF | RL_RULE_OFF_ALL)) != 0)
		snprintf(text, FLEET_TEXT, "SWITCHED OFF: everything passes");
	else if ((rule->fleet & RL_RULE_SHADOW) != 0 && rule->shadow_ppm >= 1000000)
		snprintf(text, FLEET_TEXT, "shadow: nothing is refused");
	else if (terms.consistency == RL_LOCAL || fleet->state == RL_FRESH)
		promise(fleet, rule, &terms, text);
	else
		fallback(fleet, rule, &terms, text);
	return text;
}

char *fleet_limit(const struct rl_rule *rule, char text[RL_TERMS_TEXT])
{
	const struct rl_terms terms = {rule->limit, rule->window_ns};

	if (!rl_rule_in_flight(rule))
		return rl_terms_format(&terms, text);
	snprintf(text, RL_TERMS_TEXT, "%" PRIu32 " in flight", rule->limit);
	return text;
}

/* What a local rule says beside its limit. */
static void local_words(const struct rl_rule *rule, char text[FLEET_TEXT])
{
	size_t len = (size_t)snprintf(text, FLEET_TEXT, "%s", rl_consistency_name(RL_LOCAL));

	if (rl_rule_algorithm(rule) != RL_SLIDING)
		len += (size_t)snprintf(text + len, FLEET_TEXT - len, ", %s",
					rl_algorithm_name(rl_rule_algorithm(rule)));
	if (rule->burst > 0)
		len += (size_t)snprintf(text + len, FLEET_TEXT - len, ", burst %" PRIu32,
					rule->burst);
	if (rule->delay > 0)
		len += (size_t)snprintf(text + len, FLEET_TEXT - len, ", delay %" PRIu32,
					rule->delay);
	if ((rule->fleet & RL_RULE_INTERPOLATE) != 0)
		snprintf(text + len, FLEET_TEXT - len, ", interpolate");
}

/* Where it is not obeyed as it stands. */
static void special_words(const struct rl_rule *rule, char text[FLEET_TEXT])
{
	size_t len = strlen(text);

	if ((rule->fleet & RL_RULE_LISTED) != 0)
		len += (size_t)snprintf(text + len, FLEET_TEXT - len, ", has lists");
	if ((rule->fleet & RL_RULE_SHADOW) != 0 && rule->shadow_ppm >= 1000000)
		len += (size_t)snprintf(text + len, FLEET_TEXT - len, ", shadow");
	else if ((rule->fleet & RL_RULE_SHADOW) != 0)
		len += (size_t)snprintf(text + len, FLEET_TEXT - len, ", enforced for %g %%",
					100 - (double)rule->shadow_ppm / 1e4);
	if ((rule->fleet & (RL_RULE_OFF | RL_RULE_OFF_ALL)) != 0)
		snprintf(text + len, FLEET_TEXT - len, ", SWITCHED OFF");
}

char *fleet_sharing(const struct rl_rule *rule, char text[FLEET_TEXT])
{
	struct rl_fleet_terms terms;
	char wait[RL_TERMS_TEXT], beta[64] = "";
	const char *away;

	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	away = rl_unreachable_name(terms.on_unreachable);
	if (terms.consistency == RL_BOUNDED)
		snprintf(beta, sizeof(beta), ", beta %g %%, no_credit %s",
			 (double)terms.beta_ppm / 1e4, rl_no_credit_name(terms.no_credit));
	if (terms.consistency == RL_LOCAL)
		local_words(rule, text);
	else if (terms.consistency == RL_EVENTUAL)
		snprintf(text, FLEET_TEXT, "%s, on_unreachable %s",
			 rl_consistency_name(terms.consistency), away);
	else
		snprintf(text, FLEET_TEXT, "%s%s, wait %s, on_unreachable %s",
			 rl_consistency_name(terms.consistency), beta,
			 rl_span_format(terms.wait_ns, wait), away);
	special_words(rule, text);
	return text;
}

void fleet_sharing_json(const struct rl_rule *rule, json_t *object)
{
	struct rl_fleet_terms terms;

	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	json_object_set_new(object, "consistency",
			    json_string(rl_consistency_name(terms.consistency)));
	json_object_set_new(object, "algorithm",
			    json_string(rl_algorithm_name(rl_rule_algorithm(rule))));
	if (rule->burst > 0)
		json_object_set_new(object, "burst", json_integer(rule->burst));
	if (rule->delay > 0)
		json_object_set_new(object, "delay", json_integer(rule->delay));
	if ((rule->fleet & RL_RULE_INTERPOLATE) != 0)
		json_object_set_new(object, "interpolate", json_true());
	if ((rule->fleet & (RL_RULE_OFF | RL_RULE_OFF_ALL)) != 0)
		json_object_set_new(object, "off", json_true());
	if ((rule->fleet & RL_RULE_LISTED) != 0)
		json_object_set_new(object, "lists", json_true());
	if ((rule->fleet & RL_RULE_SHADOW) != 0)
		json_object_set_new(object, "enforced",
				    json_real(1 - (double)rule->shadow_ppm / 1e6));
	if (terms.consistency == RL_LOCAL)
		return;
	json_object_set_new(object, "on_unreachable",
			    json_string(rl_unreachable_name(terms.on_unreachable)));
	if (terms.consistency == RL_EVENTUAL)
		return;
	json_object_set_new(object, "no_credit", json_string(rl_no_credit_name(terms.no_credit)));
	json_object_set_new(object, "beta", json_real((double)terms.beta_ppm / 1e6));
	json_object_set_new(object, "wait_s", json_real((double)terms.wait_ns / 1e9));
}
