/*
 * rl_check_other.c - rl_check_spend() where the usual case does not go: a rule with an algorithm
 * or an option of its own, and a slot that was made when its rule had another one.
 */
#include "shm/rl_audit.h"
#include "shm/rl_check_steps.h"
#include "shm/rl_count.h"
#include "shm/rl_mark.h"
#include "shm/rl_table.h"

static void fill_from_count(const struct rl_view *view, const struct rl_rule *rule,
			    const struct rl_count_answer *from, uint64_t now_ns, bool allowed,
			    struct rl_answer *ret)
{
	const struct rl_window_answer window = {.remaining = from->remaining,
						.wait_ns = allowed ? 0 : from->wait_ns};

	fill_answer(view, rule, &window, now_ns, ret);
	ret->delay_ns = allowed ? from->delay_ns : 0;
}

int rl_check_count(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		   const struct rl_check_key *key, uint32_t cost, struct rl_answer *ret)
{
	struct rl_count_answer answer;
	struct rl_count count;
	uint64_t now_ns;
	int got;

	if (!rl_count_of(&seg->view, &seg->slot[index], rule, &count))
		return RL_TRY_AGAIN;
	got = rl_count_try(&seg->slot[index], head, &count, cost, &answer, &now_ns);
	if (got == RL_TRY_ALLOWED || got == RL_TRY_LIMITED)
		fill_from_count(&seg->view, rule, &answer, now_ns, got == RL_TRY_ALLOWED, ret);
	if (got == RL_TRY_ALLOWED)
		ret->ticket = ticket_of(index, cost, rl_count_state(rl_head_n(head), answer.next),
					&key->id);
	return got;
}

int rl_check_look_count(const struct rl_view *view, uint64_t index, uint64_t head,
			const struct rl_rule *rule, uint32_t cost, struct rl_answer *ret,
			uint32_t *ret_used)
{
	const struct rl_slot *slot = &view->slot[index];
	struct rl_count_answer answer;
	struct rl_count count;
	uint64_t now_ns;
	int got;

	if (!rl_count_of(view, slot, rule, &count))
		return RL_E_BUSY;
	got = rl_count_look(slot, head, &count, cost, &answer, &now_ns);
	if (got == RL_TRY_AGAIN)
		return RL_E_BUSY;
	if (got == RL_TRY_LIMITED && slot_is_gone(slot))
		return RL_E_BUSY;
	*ret_used = rl_count_held(slot, head, &count, now_ns);
	if (*ret_used == RL_COUNT_NONE)
		return RL_E_BUSY;
	if (got == RL_TRY_ALLOWED)
		answer.remaining += cost; /* nothing was spent */
	fill_from_count(view, rule, &answer, now_ns, got == RL_TRY_ALLOWED, ret);
	return got == RL_TRY_ALLOWED;
}

int rl_check_since_reset(const struct rl_slot *slot, uint64_t head,
			 const struct rl_window_terms *terms, uint32_t cost, int got,
			 struct rl_window_answer *answer)
{
	uint32_t room = rl_mark_room(slot, rl_head_n(head), terms->limit);

	if (room > answer->remaining)
		answer->remaining = room;
	if (room < cost)
		return got;
	answer->wait_ns = 0;
	return RL_TRY_ALLOWED;
}

bool rl_check_blocked(const struct rl_view *view, uint64_t index, uint64_t id,
		      const struct rl_rule *rule, struct rl_answer *ret)
{
	const struct rl_slot *slot = &view->slot[index];
	/* Relaxed: under head. */
	uint64_t shape = atomic_load_explicit(&slot->shape, memory_order_relaxed);
	struct rl_window_answer none = {0};
	uint64_t until_ns, now_ns;

	if (rl_shape_algorithm(shape) == RL_SLIDING && (rl_mark_of(slot) & RL_MARK_BLOCK) == 0)
		return false;
	until_ns = rl_block_until(&view->side[index], id);
	if (until_ns == 0)
		return false;
	now_ns = rl_now_ns(view, false);
	if (until_ns <= now_ns)
		return false;
	none.wait_ns = until_ns - now_ns;
	fill_answer(view, rule, &none, now_ns, ret);
	ret->by = RL_DECIDED_BLOCK;
	return true;
}

static int try_window(struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		      uint32_t cost, uint64_t now_ns, struct rl_window_answer *answer)
{
	int got = rl_window_try(slot, head, terms, cost, now_ns, answer);
	uint32_t room;

	if ((got == RL_TRY_LIMITED || got == RL_TRY_AHEAD) &&
	    rl_mark_room(slot, rl_head_n(head), terms->limit) >= cost) {
		*answer = (struct rl_window_answer){.event = rl_head_n(head)};
		got = rl_window_add(slot, head, terms->q, cost, 0, now_ns);
	}
	room = got == RL_TRY_ALLOWED ? rl_mark_room(slot, answer->event + cost, terms->limit) : 0;
	if (room > answer->remaining)
		answer->remaining = room;
	return got;
}

/* One try on an open slot of the sliding window, or of another algorithm. */
static int try_slot(struct rl_seg *seg, struct rl_member *member, uint64_t index, uint64_t head,
		    const struct rl_rule *rule, const struct rl_check_key *key, uint32_t cost,
		    struct rl_answer *ret)
{
	struct rl_window_answer answer = {.wait_ns = RL_SECOND_NS};
	struct rl_slot *slot = &seg->slot[index];
	struct rl_window_terms terms;
	int got = RL_TRY_LIMITED;
	uint64_t now_ns;
	bool coarse;

	if (rl_check_blocked(&seg->view, index, key->id.word[0], rule, ret))
		return RL_TRY_LIMITED;
	if (!slot_terms(&seg->view, slot, rule, &terms, &coarse))
		return rl_check_count(seg, index, head, rule, key, cost, ret);
	terms.span_ns = rule->window_ns + rl_hold_ns(&seg->view, coarse);
	rl_mark_tidy(slot, head, terms.limit);
	now_ns = rl_now_ns(&seg->view, coarse);
	if (cost <= terms.limit) /* else a raise the agent has not re-based this slot for yet */
		got = try_window(slot, head, &terms, cost, now_ns, &answer);
	if (got == RL_TRY_AHEAD)
		rl_check_mend(member, slot, answer.cell);
	if (got == RL_TRY_ALLOWED && rl_audit_marked(slot))
		rl_audit_note(seg, index, now_ns, cost, RL_AUDIT_ADMIT);
	fill_answer(&seg->view, rule, &answer, now_ns, ret);
	if (got == RL_TRY_ALLOWED)
		ret->ticket = ticket_of(index, cost, mark_of(answer.event, rule->window_ns, now_ns),
					&key->id);
	return got;
}

/*
 * try_slot(), and again while others are first: so the head is not read a rule's reading, and that
 * of its lists, before its CAS, when a process that makes one check after the other would win each
 * time. Not past a reload: the rule was read under this generation. Counts down *tries.
 */
static int try_often(struct rl_seg *seg, struct rl_member *member, uint64_t index, uint64_t head,
		     const struct rl_rule *rule, uint64_t generation,
		     const struct rl_check_key *key, uint32_t cost, int *tries,
		     struct rl_answer *ret)
{
	int got;

	do
		got = try_slot(seg, member, index, head, rule, key, cost, ret);
	while (got == RL_TRY_AGAIN && --*tries > 0 &&
	       rl_table_find(&seg->view, &key->id, &head) == index &&
	       rl_rules_generation(&seg->view) == generation);
	return got;
}

int rl_check_spend_other(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			 const struct rl_check_key *key, uint32_t cost, uint32_t flags,
			 struct rl_answer *ret)
{
	for (int tries = CHECK_TRIES; tries > 0; tries--) {
		struct rl_rule rule;
		uint64_t head, index, generation = rl_rules_generation(&seg->view);
		int got = clock_fits(&seg->view, key) ? 0 : RL_E_CLOCK;

		if (got == 0)
			got = find_or_claim(seg, member, handle, key, cost, &rule, &index, &head);
		if (got < 0)
			return rl_check_unfit(seg, member, handle, key, cost, flags, got, ret);
		if (!rl_rule_is_local(&rule)) /* since a moment ago */
			return rl_check_spend_shared(seg, member, handle, key, cost, flags, ret);
		if (index == RL_NO_SLOT)
			continue;
		got = try_often(seg, member, index, head, &rule, generation, key, cost, &tries,
				ret);
		given_state(&seg->view, ret);
		if (got == RL_TRY_LIMITED && slot_is_gone(&seg->slot[index]))
			continue;
		if (got != RL_TRY_ALLOWED && got != RL_TRY_LIMITED)
			continue;
		count_answer(seg, member, &rule, got == RL_TRY_ALLOWED, cost, ret);
		return got == RL_TRY_ALLOWED;
	}
	return rl_check_failed(seg, member, handle, RL_E_BUSY, ret);
}
