#include "shm/rl_check.h"

#include <stdbool.h>

#include "shm/rl_clock.h"
#include "shm/rl_cold.h"
#include "shm/rl_hash.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define CHECK_TRIES 4096 /* under 1 ms; a slot is re-based in under a microsecond */

/* Age of the agent's heartbeat. A beat ahead of now (coarse clock) is fresh. */
static inline uint64_t beat_age(const struct rl_view *view, uint64_t now_ns)
{
	/* Relaxed: the beat stands for itself. */
	uint64_t beat = atomic_load_explicit(&view->live->beat_ns, memory_order_relaxed);

	return now_ns > beat ? now_ns - beat : 0;
}

/*
 * The terms a slot counts by: its own q and clock, the rule's limit and window. False when
 * the slot was wiped or its words are damaged.
 */
static inline bool slot_terms(const struct rl_view *view, const struct rl_slot *slot,
			      const struct rl_rule *rule, struct rl_window_terms *ret,
			      bool *ret_coarse)
{
	/* Relaxed, both: ordered after the acquire of head, final while head keeps that value. */
	uint32_t q = rl_pair_low(atomic_load_explicit(&slot->shape, memory_order_relaxed));
	uint64_t made_for = atomic_load_explicit(&slot->window_ns, memory_order_relaxed);

	if (q == 0)
		return false;
	*ret_coarse = rl_clock_is_coarse(made_for);
	ret->q = q;
	ret->limit = rl_window_limit(rule->limit, q);
	ret->span_ns = rule->window_ns + rl_clock_hold_ns(*ret_coarse, view->tick_ns);
	return true;
}

/*
 * One try on the open slot at index, whose head was read before anything else. The rule is
 * read after the head: a check that is past this point finishes under the rule it read.
 */
static inline int try_slot(struct rl_seg *seg, uint64_t index, uint64_t head,
			   const struct rl_rule *rule, uint32_t cost,
			   struct rl_window_answer *answer, uint64_t *ret_now_ns)
{
	struct rl_slot *slot = &seg->slot[index];
	struct rl_window_terms terms;
	bool coarse;

	if (!slot_terms(&seg->view, slot, rule, &terms, &coarse))
		return RL_TRY_AGAIN;
	*ret_now_ns = rl_clock_now_ns(coarse);
	if (cost > terms.limit) { /* a raise the agent has not re-based this slot for yet */
		answer->remaining = 0;
		answer->wait_ns = RL_SECOND_NS;
		return RL_TRY_LIMITED;
	}
	return rl_window_try(slot, head, &terms, cost, *ret_now_ns, answer);
}

static inline void fill_answer(const struct rl_view *view, const struct rl_rule *rule,
			       const struct rl_window_answer *from, uint64_t now_ns,
			       struct rl_answer *ret)
{
	ret->limit = rule->limit;
	ret->window_ns = rule->window_ns;
	ret->remaining = from->remaining;
	ret->wait_ns = from->wait_ns;
	ret->age_ns = beat_age(view, now_ns);
	ret->now_ns = now_ns;
}

RL_COLD static int claim(struct rl_seg *seg, struct rl_member *member, const struct rl_id *id,
			 const struct rl_rule *rule)
{
	const struct rl_claim terms = {rule->id, rule->q, rule->window_ns};
	int opened = rl_table_claim(seg, id, &terms);

	if (opened == 1)
		rl_member_count(&member->claims, 1);
	return opened;
}

/* A stamp lies ahead of the clock: bring it back, and let the check start over. */
RL_COLD static void mend(struct rl_member *member, struct rl_slot *slot, uint32_t cell)
{
	int mended = rl_window_mend(slot, cell, rl_clock_precise_ns());

	rl_member_count(&member->mended, (uint64_t)mended);
}

RL_COLD static int failed(struct rl_member *member, int error, struct rl_answer *ret)
{
	*ret = (struct rl_answer){0};
	rl_member_count(&member->errors, 1);
	if (error == RL_E_FULL)
		rl_member_count(&member->full, 1);
	return error;
}

int rl_check_spend(struct rl_seg *seg, struct rl_member *member, uint64_t handle, const void *key,
		   size_t key_len, uint32_t cost, struct rl_answer *ret)
{
	struct rl_id id = rl_hash_key(seg->view.hash_key, rl_pair_high(handle), key, key_len);

	for (int i = 0; i < CHECK_TRIES; i++) {
		struct rl_window_answer answer;
		struct rl_rule rule;
		uint64_t head, now_ns;
		uint64_t index = rl_table_find(&seg->view, &id, &head);
		int got = rl_rules_read(&seg->view, handle, &rule);

		if (got == 0 && cost > rule.limit)
			got = RL_E_COST;
		if (got == 0 && index == RL_NO_SLOT)
			got = claim(seg, member, &id, &rule);
		if (got < 0)
			return failed(member, got, ret);
		if (index == RL_NO_SLOT)
			continue;
		got = try_slot(seg, index, head, &rule, cost, &answer, &now_ns);
		if (got == RL_TRY_AHEAD)
			mend(member, &seg->slot[index], answer.cell);
		if (got == RL_TRY_AHEAD || got == RL_TRY_AGAIN)
			continue;
		fill_answer(&seg->view, &rule, &answer, now_ns, ret);
		if (got == RL_TRY_ALLOWED)
			rl_member_count(&member->allowed, cost);
		else
			rl_member_count(&member->limited, 1);
		return got == RL_TRY_ALLOWED;
	}
	return failed(member, RL_E_BUSY, ret);
}

static int look_at_slot(const struct rl_view *view, uint64_t index, uint64_t head,
			const struct rl_rule *rule, uint32_t cost, struct rl_answer *ret,
			uint32_t *ret_used)
{
	struct rl_window_answer answer;
	struct rl_window_terms terms;
	uint64_t now_ns;
	bool coarse;
	int got;

	if (!slot_terms(view, &view->slot[index], rule, &terms, &coarse))
		return RL_E_BUSY;
	now_ns = rl_clock_now_ns(coarse);
	if (cost > terms.limit)
		cost = terms.limit;
	got = rl_window_look(&view->slot[index], head, &terms, cost, now_ns, &answer);
	if (got == RL_TRY_AGAIN)
		return RL_E_BUSY;
	*ret_used = terms.limit - answer.remaining;
	fill_answer(view, rule, &answer, now_ns, ret);
	return got == RL_TRY_ALLOWED;
}

int rl_check_look(const struct rl_view *view, uint64_t handle, const void *key, size_t key_len,
		  uint32_t cost, struct rl_answer *ret, uint32_t *ret_used)
{
	struct rl_id id = rl_hash_key(view->hash_key, rl_pair_high(handle), key, key_len);
	struct rl_window_answer fresh = {0};
	struct rl_rule rule;
	uint64_t head;
	uint64_t index = rl_table_find(view, &id, &head);
	int error = rl_rules_read(view, handle, &rule);

	*ret = (struct rl_answer){0};
	*ret_used = 0;
	if (error != 0)
		return error;
	if (cost > rule.limit)
		return RL_E_COST;
	if (index != RL_NO_SLOT)
		return look_at_slot(view, index, head, &rule, cost, ret, ret_used);
	fresh.remaining = rule.limit;
	fill_answer(view, &rule, &fresh, rl_clock_precise_ns(), ret);
	return 1;
}
