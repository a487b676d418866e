#include "shm/rl_check.h"

#include "shm/rl_audit.h"
#include "shm/rl_check_steps.h"
#include "shm/rl_check_usual.h"
#include "shm/rl_count.h"
#include "shm/rl_inflight.h"
#include "shm/rl_mark.h"
#include "shm/rl_now.h"
#include "shm/rl_table.h"

/* A new slot of a bounded rule may admit its blind share before anybody is asked. */
static uint32_t blind_share(const struct rl_view *view, const struct rl_rule *rule)
{
	struct rl_fleet_terms fleet;

	rl_fleet_unpack(rule->fleet, rule->wait_ns, &fleet);
	return rl_fleet_blind(rule->limit, &fleet, rl_shared_hosts(view));
}

void rl_check_text(const struct rl_check_key *key, struct rl_key_text *ret)
{
	if (key->text != NULL)
		*ret = *key->text;
	else
		rl_key_text(key->bytes, key->len, ret);
}

RL_COLD int rl_check_claim(struct rl_seg *seg, struct rl_member *member,
			   const struct rl_check_key *key, const struct rl_rule *rule)
{
	struct rl_claim terms = {.rule_id = rule->id, .q = rule->q, .window_ns = rule->window_ns};
	int opened;

	terms.held = rl_pool_held(&seg->view, rule, key);
	terms.now_ns = rl_now_ns(&seg->view, rl_clock_is_coarse(rule->window_ns));
	/* It goes on in its pool, unless it has a slot that is not mapped here. */
	if (terms.held > 0 && !rl_rule_is_local(rule))
		return rl_segment_has_grown(&seg->view) ? RL_E_GROWN : RL_E_FULL;
	rl_check_text(key, &terms.text);
	terms.credit = blind_share(&seg->view, rule);
	terms.hint =
		rl_hint(0, terms.credit / RL_BLIND_LOW_PARTS, rl_key_part(rule->id, &terms.text));
	if (rl_rule_algorithm(rule) != RL_SLIDING) {
		terms.algorithm = rl_rule_algorithm(rule);
		terms.q = 0;
		terms.word =
			rl_count_begin(&seg->view, terms.algorithm, rule->limit, rule->window_ns,
				       terms.held, rl_now_ns(&seg->view, false), &terms.hint);
	}
	terms.audited = rl_audit_picks(&seg->view, rule, &terms.text);
	terms.local = rl_rule_is_local(rule);
	opened = rl_table_claim(seg, &key->id, &terms);
	if (opened == 1)
		rl_member_count(&member->claims, 1);
	return opened;
}

RL_COLD void rl_check_mend(struct rl_member *member, struct rl_slot *slot, uint32_t cell)
{
	int mended = rl_window_mend(slot, cell, rl_clock_precise_ns());

	rl_member_count(&member->mended, (uint64_t)mended);
}

RL_COLD int rl_check_failed(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			    int error, struct rl_answer *ret)
{
	struct rl_rule rule;

	*ret = (struct rl_answer){0};
	if (error == RL_E_GROWN) /* no answer yet: it is asked again */
		return error;
	rl_member_count(&member->errors, 1);
	if (error == RL_E_FULL)
		rl_member_count(&member->full, 1);
	if (rl_rules_read(&seg->view, handle, &rule) == 0)
		rl_member_count(&member->rule[rule.index].errors, 1);
	return error;
}

RL_COLD struct rl_usual_rule rl_usual_rule_elsewhere(const struct rl_view *view, uint64_t handle)
{
	struct rl_rule rule;

	if (rl_rules_read(view, handle, &rule) != 0 || !rl_rule_is_plain(&rule))
		return (struct rl_usual_rule){0, 0};
	return (struct rl_usual_rule){rl_pair(rule.limit, rule.index), rule.window_ns};
}

int rl_check_unusual(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		     const struct rl_check_key *key, uint32_t cost, uint32_t flags,
		     struct rl_answer *ret)
{
	struct rl_rule rule;
	int got = rl_rules_read(&seg->view, handle, &rule);

	if (got == 0 && (rule.fleet & RL_RULE_SPECIAL) != 0)
		return rl_check_spend_special(seg, member, handle, key, cost, flags, ret);
	if (got == 0 && !rl_rule_is_local(&rule))
		return rl_check_spend_shared(seg, member, handle, key, cost, flags, ret);
	return rl_check_spend_other(seg, member, handle, key, cost, flags, ret);
}

int rl_check_spend(struct rl_seg *seg, struct rl_member *member, uint64_t handle, const void *key,
		   size_t key_len, uint32_t cost, uint32_t flags, struct rl_answer *ret)
{
	struct rl_check_key hashed;

	rl_check_hash(&seg->view, handle, key, key_len, &hashed);
	return rl_check_spend_key(seg, member, handle, &hashed, cost, flags, ret);
}

/* rl_check_usual() of more than one unit. */
static int spend_cost(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		      const struct rl_id *id, uint32_t cost, struct rl_answer *ret)
{
	struct rl_window_answer answer;
	struct rl_usual usual;
	int got;

	if (!usual_find(seg, id, usual_home(&seg->view, id), &usual) ||
	    !usual_terms(&seg->view, handle, &usual) || cost > usual.terms.limit)
		return RL_NOT_USUAL;
	usual.now_ns = rl_clock_now_ns(usual.coarse);
	got = rl_window_try(usual.slot, usual.head, &usual.terms, cost, usual.now_ns, &answer);
	if (got == RL_TRY_ALLOWED) {
		usual_spent(seg, member, &usual, id, cost, &answer, ret);
		return 1;
	}
	if (got != RL_TRY_LIMITED)
		return RL_NOT_USUAL;
	usual_answer(&seg->view, &usual, answer.remaining, answer.wait_ns, ret);
	rl_member_limited(seg, &member->rule[usual.rule_index]);
	return 0;
}

int rl_check_spend_key(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		       const struct rl_check_key *key, uint32_t cost, uint32_t flags,
		       struct rl_answer *ret)
{
	int got = cost == 1 ? rl_check_usual(seg, member, handle, &key->id,
					     usual_home(&seg->view, &key->id), ret)
			    : spend_cost(seg, member, handle, &key->id, cost, ret);

	if (got != RL_NOT_USUAL)
		return got;
	return rl_check_unusual(seg, member, handle, key, cost, flags, ret);
}

static int look_at_open(const struct rl_view *view, uint64_t index, uint64_t head,
			const struct rl_rule *rule, uint32_t cost, struct rl_answer *ret,
			uint32_t *ret_used)
{
	const struct rl_slot *slot = &view->slot[index];
	struct rl_window_answer answer;
	struct rl_window_terms terms;
	uint64_t now_ns;
	bool coarse;
	int got;

	if (!slot_terms(view, slot, rule, &terms, &coarse))
		return rl_check_look_count(view, index, head, rule, cost, ret, ret_used);
	terms.span_ns = rule->window_ns + rl_hold_ns(view, coarse);
	now_ns = rl_now_ns(view, coarse);
	if (cost > terms.limit)
		cost = terms.limit;
	got = rl_window_look(slot, head, &terms, cost, now_ns, &answer);
	if (got == RL_TRY_AGAIN)
		return RL_E_BUSY;
	if (rl_rule_is_local(rule))
		got = rl_check_since_reset(slot, head, &terms, cost, got, &answer);
	*ret_used = terms.limit - answer.remaining;
	fill_answer(view, rule, &answer, now_ns, ret);
	if (terms.counted)
		return rl_check_look_shared(view, index, head, rule, &terms, cost, now_ns, ret);
	return got == RL_TRY_ALLOWED;
}

static int look_at_slot(const struct rl_view *view, uint64_t index, uint64_t head,
			const struct rl_rule *rule, const struct rl_check_key *key, uint32_t cost,
			struct rl_answer *ret, uint32_t *ret_used)
{
	int got = look_at_open(view, index, head, rule, cost, ret, ret_used);

	if (got >= 0 && rl_rule_is_local(rule) &&
	    rl_check_blocked(view, index, key->id.word[0], rule, ret))
		got = 0;
	given_state(view, ret);
	return got;
}

/* A key that has no slot yet. */
static int look_unknown(const struct rl_view *view, const struct rl_rule *rule,
			const struct rl_check_key *key, uint32_t cost, struct rl_answer *ret)
{
	struct rl_window_answer fresh = {0};
	uint32_t most = rl_algorithm_most(rl_rule_algorithm(rule), rule->limit, rule->burst);
	uint32_t held = rl_pool_held(view, rule, key);

	if (rl_rule_is_local(rule) && held < most)
		fresh.remaining = most - held;
	if (rl_rule_is_local(rule) && fresh.remaining < cost)
		fresh.wait_ns = rule->window_ns;
	fill_answer(view, rule, &fresh, rl_now_ns(view, false), ret);
	given_state(view, ret);
	if (!rl_rule_is_local(rule))
		return rl_check_look_unknown(view, rule, key, ret);
	return fresh.remaining >= cost ? 1 : 0;
}

int rl_check_look_key(const struct rl_view *view, uint64_t handle, const struct rl_check_key *key,
		      uint32_t cost, struct rl_answer *ret, uint32_t *ret_used)
{
	struct rl_rule rule;
	uint64_t head;
	uint64_t index = rl_table_find(view, &key->id, &head);
	int got = read_rule_of(view, handle, key, &rule);

	*ret = (struct rl_answer){0};
	*ret_used = 0;
	if (got == 0)
		got = rl_check_verdict(view, &rule, ret);
	if (got != RL_CHECK_COUNTS)
		return rl_check_shadow(&rule, key, got, ret);
	got = cost_fault(&rule, cost);
	if (got != 0)
		return got;
	if (index != RL_NO_SLOT)
		got = look_at_slot(view, index, head, &rule, key, cost, ret, ret_used);
	else if (rl_segment_has_grown(view))
		return RL_E_GROWN;
	else
		got = look_unknown(view, &rule, key, cost, ret);
	return rl_check_shadow(&rule, key, got, ret);
}

int rl_check_look(const struct rl_view *view, uint64_t handle, const void *key, size_t key_len,
		  uint32_t cost, struct rl_answer *ret, uint32_t *ret_used)
{
	struct rl_check_key hashed;

	int got;

	rl_check_hash(view, handle, key, key_len, &hashed);
	got = rl_check_look_key(view, handle, &hashed, cost, ret, ret_used);
	if (got == RL_E_ALGORITHM)
		return rl_inflight_look(view, handle, key, key_len, cost, ret, ret_used);
	return got;
}

bool rl_check_fits(const struct rl_view *view, uint64_t handle, const struct rl_check_key *key,
		   uint32_t cost)
{
	struct rl_window_terms terms;
	struct rl_rule rule;
	uint64_t head;
	uint64_t index = rl_table_find(view, &key->id, &head);
	bool coarse;

	return index != RL_NO_SLOT && rl_rules_read(view, handle, &rule) == 0 &&
	       rl_rule_is_plain(&rule) &&
	       slot_terms(view, &view->slot[index], &rule, &terms, &coarse) &&
	       rl_mark_of(&view->slot[index]) == 0 && cost <= terms.limit &&
	       rl_window_fits(&view->slot[index], head, &terms, cost, rl_clock_now_ns(coarse));
}
