/*
 * rl_check_special.c - rules that are switched off, have lists, or let keys pass whatever they say.
 */
#include "shm/rl_check_steps.h"
#include "shm/rl_hash.h"

#define PPM 1000000u

/* Without a count: everything passes, or nothing does until the rule changes. */
static int answer_uncounted(const struct rl_view *view, const struct rl_rule *rule, bool passes,
			    uint32_t by, struct rl_answer *ret)
{
	struct rl_window_answer answer = {0};

	if (passes)
		answer.remaining =
			rl_algorithm_most(rl_rule_algorithm(rule), rule->limit, rule->burst);
	else
		answer.wait_ns = rule->window_ns;
	fill_answer(view, rule, &answer, rl_now_ns(view, false), ret);
	given_state(view, ret);
	if (rl_rule_in_flight(rule))
		ret->window_ns = ret->wait_ns = 0;
	ret->by = by;
	return passes ? 1 : 0;
}

/* The end of a block may come between two readings of the clock: then in a moment. */
static int answer_blocked(const struct rl_view *view, const struct rl_rule *rule,
			  struct rl_answer *ret)
{
	uint64_t until_ns = rule->until_s * RL_SECOND_NS, now_ns = rl_now_ns(view, false);
	int got = answer_uncounted(view, rule, false, RL_DECIDED_BLOCK, ret);

	ret->wait_ns = until_ns > now_ns ? until_ns - now_ns : 1;
	return got;
}

int rl_check_verdict(const struct rl_view *view, const struct rl_rule *rule, struct rl_answer *ret)
{
	if ((rule->fleet & (RL_RULE_OFF | RL_RULE_OFF_ALL)) != 0)
		return answer_uncounted(view, rule, true, RL_DECIDED_OFF, ret);
	if ((rule->fleet & RL_RULE_LISTED) == 0)
		return RL_CHECK_COUNTS;
	if (rule->verdict == RL_VERDICT_ALLOW)
		return answer_uncounted(view, rule, true, RL_DECIDED_LIST, ret);
	if (rule->verdict == RL_VERDICT_BLOCK)
		return answer_blocked(view, rule, ret);
	if (rule->verdict == RL_VERDICT_DENY)
		return answer_uncounted(view, rule, false, RL_DECIDED_LIST, ret);
	return RL_CHECK_COUNTS;
}

/*
 * Is the key one of those that are let pass? By a hash that is the same on all hosts and for ever,
 * so a key is treated alike everywhere, and those of 10 % are among those of 20 %.
 */
static bool is_shadowed(const struct rl_rule *rule, const struct rl_check_key *key)
{
	static const uint64_t open_key[2] = {UINT64_C(0x726174656c206b65),
					     UINT64_C(0x79207368617265)};
	struct rl_key_text text;
	struct rl_id id;

	if ((rule->fleet & RL_RULE_SHADOW) == 0)
		return false;
	rl_check_text(key, &text);
	id = rl_hash_key(open_key, rule->id, text.word, sizeof(text.word));
	return (id.word[0] >> 32) * PPM >> 32 < rule->shadow_ppm;
}

int rl_check_shadow(const struct rl_rule *rule, const struct rl_check_key *key, int got,
		    struct rl_answer *ret)
{
	if (got != 0 || !is_shadowed(rule, key))
		return got;
	ret->by = RL_DECIDED_SHADOW; /* wait_ns stays: when it would have passed */
	return 1;
}

int rl_check_spend_special(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			   const struct rl_check_key *key, uint32_t cost, uint32_t flags,
			   struct rl_answer *ret)
{
	struct rl_rule rule;
	int got = clock_fits(&seg->view, key) ? 0 : RL_E_CLOCK, told;

	if (got == 0)
		got = read_rule_of(&seg->view, handle, key, &rule);
	if (got == 0 && rl_rule_in_flight(&rule))
		got = RL_E_ALGORITHM;
	if (got < 0)
		return rl_check_failed(seg, member, handle, got, ret);
	got = rl_check_verdict(&seg->view, &rule, ret);
	if (got != RL_CHECK_COUNTS)
		count_answer(seg, member, &rule, got, cost, ret);
	else
		got = rl_rule_is_local(&rule)
			      ? rl_check_spend_other(seg, member, handle, key, cost, flags, ret)
			      : rl_check_spend_shared(seg, member, handle, key, cost, flags, ret);
	told = rl_check_shadow(&rule, key, got, ret);
	if (told != got)
		rl_member_count(&member->rule[rule.index].shadowed, 1);
	return told;
}
