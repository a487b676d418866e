/*
 * rl_check_usual.h - the check that nearly every caller makes: one unit, a key that has its slot, a
 * plain rule. In steps, so that a check under several rules can take the first ones of all first.
 *
 * Rooms:  rl_check.c, rl_check_all.c and client/. Inline: it is the hot path. Whatever is unusual
 *         is left to rl_check_spend_key(), which does the same from the start.
 */
#ifndef RL_CHECK_USUAL_H
#define RL_CHECK_USUAL_H

#include "shm/rl_check_steps.h"
#include "shm/rl_mark.h"
#include "shm/rl_tags.h"
#include "shm/rl_window_steps.h"

#define RL_NOT_USUAL (-1)

/* What is not usual, all of it: another rule, a new key, a marked slot, an error, a lost race. */
int rl_check_unusual(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		     const struct rl_check_key *key, uint32_t cost, uint32_t flags,
		     struct rl_answer *ret);

/* One usual check, as far as it got. */
struct rl_usual {
	struct rl_slot *slot;
	uint64_t index, head;
	bool coarse;         /* by which clock */
	uint64_t now_ns;     /* its reading, after head */
	uint32_t limit;      /* the rule's */
	uint64_t window_ns;  /* likewise */
	uint32_t rule_index; /* where it lies, for statistics */
	struct rl_window_terms terms;
	struct rl_window_one one;
	uint64_t wait_ns; /* RL_TRY_LIMITED */
};

/* A guess of where the key's slot is, for usual_find(): the home lane, or better. */
static inline uint64_t usual_home(const struct rl_view *view, const struct rl_id *id)
{
	return rl_tag_bucket(id, &view->newest) * RL_LANES + rl_tag_home(id);
}

static inline uint64_t usual_guess(const struct rl_view *view, const struct rl_id *id)
{
	uint64_t head, index = rl_table_find(view, id, &head);

	return index != RL_NO_SLOT ? index : usual_home(view, id);
}

/* First step: the slot and its head, which is read before all that follows. guess < slot_count. */
static inline bool usual_find(struct rl_seg *seg, const struct rl_id *id, uint64_t guess,
			      struct rl_usual *ret)
{
	struct rl_slot *slot = &seg->slot[guess];
	/* pairs[slot_head.acq]: as rl_table_find(), whose first look this is. */
	uint64_t head = atomic_load_explicit(&slot->head, memory_order_acquire);

	/* Relaxed, all: ordered after the acquire of head, and final while head keeps that value.
	 */
	if (RL_RARELY(!rl_head_is_open(head) ||
		      atomic_load_explicit(&slot->id[0], memory_order_relaxed) != id->word[0] ||
		      atomic_load_explicit(&slot->id[1], memory_order_relaxed) != id->word[1])) {
		uint64_t found_head;

		guess = rl_table_find(&seg->view, id, &found_head);
		if (guess == RL_NO_SLOT)
			return false;
		slot = &seg->slot[guess];
		head = found_head;
	}
	ret->slot = slot;
	ret->index = guess;
	ret->head = head;
	ret->coarse = slot_is_coarse(slot);
	return true;
}

/*
 * usual_rule() of a rule that does not lie where its handle says; all 0: it is none. By value: a
 * pointer to what the inlined steps found would keep all of it in memory, 7 ns.
 */
struct rl_usual_rule {
	uint64_t limit_index; /* limit:32 (high) | index:32 */
	uint64_t window_ns;
};
struct rl_usual_rule rl_usual_rule_elsewhere(const struct rl_view *view, uint64_t handle);

/*
 * The rule's limit and window, if it has nothing else to it. Not all that rl_rules_read() looks at:
 * a damaged window makes wrong answers, and nothing else.
 */
static inline bool usual_rule(const struct rl_view *view, uint64_t handle, struct rl_usual *ret)
{
	uint32_t id = rl_pair_high(handle), index = rl_pair_low(handle);
	uint64_t generation, id_flags;
	const struct rl_rule_rec *rec;

	if (RL_RARELY(index >= RL_RULES_MAX))
		return false;
	/* pairs[rules_gen.acq]: the bank of this generation was complete before it was named. */
	generation = atomic_load_explicit(&view->live->generation, memory_order_acquire);
	rec = &view->bank[generation & 1].rule[index];
	/* pairs[rules_word.acq], all: of a bank rewritten meanwhile show the newer generation. */
	id_flags = atomic_load_explicit(&rec->id_flags, memory_order_acquire);
	ret->limit = rl_pair_high(atomic_load_explicit(&rec->shape, memory_order_acquire));
	ret->window_ns = atomic_load_explicit(&rec->window_ns, memory_order_acquire);
	ret->rule_index = index;
	if (RL_RARELY(rl_pair_high(id_flags) != id)) {
		struct rl_usual_rule rule = rl_usual_rule_elsewhere(view, handle);

		ret->limit = rl_pair_high(rule.limit_index);
		ret->rule_index = rl_pair_low(rule.limit_index);
		ret->window_ns = rule.window_ns;
		return ret->limit != 0;
	}
	/* pairs[rules_gen.acq]: as above. */
	return !RL_RARELY(atomic_load_explicit(&view->live->generation, memory_order_acquire) !=
				  generation ||
			  rl_pair_low(id_flags) != 0 || ret->limit - 1 >= RL_LIMIT_MAX);
}

/* Second step: the terms. The rule is read after the head: a check past this finishes under it. */
static inline bool usual_terms(const struct rl_view *view, uint64_t handle, struct rl_usual *usual)
{
	uint32_t q;

	if (!usual_rule(view, handle, usual) || !slot_q(usual->slot, &q) ||
	    RL_RARELY(rl_mark_of(usual->slot) != 0))
		return false;
	plain_terms(view, q, usual->coarse, usual->limit, usual->window_ns, &usual->terms);
	return true;
}

/* Third step, with the clock read after the first. RL_TRY_ALLOWED: go on; RL_TRY_LIMITED: refused.
 */
static inline int usual_look(uint64_t now_ns, struct rl_usual *usual)
{
	usual->now_ns = now_ns;
	return window_look_one(usual->slot, usual->head, &usual->terms, now_ns, &usual->one,
			       &usual->wait_ns);
}

static inline void usual_answer(const struct rl_view *view, const struct rl_usual *usual,
				uint32_t remaining, uint64_t wait_ns, struct rl_answer *ret)
{
	const struct rl_rule rule = {.limit = usual->limit, .window_ns = usual->window_ns};
	const struct rl_window_answer from = {.remaining = remaining, .wait_ns = wait_ns};

	fill_answer(view, &rule, &from, usual->now_ns, ret);
}

static inline void usual_spent(struct rl_seg *seg, struct rl_member *member,
			       const struct rl_usual *usual, const struct rl_id *id, uint32_t cost,
			       const struct rl_window_answer *answer, struct rl_answer *ret)
{
	usual_answer(&seg->view, usual, answer->remaining, 0, ret);
	ret->ticket = ticket_of(usual->index, cost,
				mark_of(answer->event, usual->window_ns, usual->now_ns), id);
	rl_member_allowed(seg, &member->rule[usual->rule_index], cost, answer->remaining,
			  usual->limit);
}

/* Last step: spend it. False: the head changed meanwhile, or a stamp cannot be raised. */
static inline bool usual_spend(struct rl_seg *seg, struct rl_member *member,
			       const struct rl_usual *usual, const struct rl_id *id,
			       struct rl_answer *ret)
{
	struct rl_window_answer answer;

	if (RL_RARELY(window_spend_one(usual->slot, &usual->terms, &usual->one, usual->now_ns,
				       &answer) != RL_TRY_ALLOWED))
		return false;
	usual_spent(seg, member, usual, id, 1, &answer, ret);
	return true;
}

/*
 * Lost to others, it is tried again by the same steps: by the general ones it would read the head
 * so long before its CAS that a process which makes one check after the other wins each time.
 */
#define USUAL_TRIES 256

/*
 * All steps: rl_check_spend_key() with a cost of 1, its slot being looked for at guess first. 1 or
 * 0; or RL_NOT_USUAL, and nothing was changed but that a stamp may have been raised.
 */
static inline __attribute__((always_inline)) int
rl_check_usual(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
	       const struct rl_id *id, uint64_t guess, struct rl_answer *ret)
{
	struct rl_usual usual;
	int got, tries = USUAL_TRIES;

	do {
		if (!usual_find(seg, id, guess, &usual) || !usual_terms(&seg->view, handle, &usual))
			return RL_NOT_USUAL;
		got = usual_look(rl_clock_now_ns(usual.coarse), &usual);
		if (got == RL_TRY_ALLOWED && usual_spend(seg, member, &usual, id, ret))
			return 1;
	} while (RL_RARELY(got == RL_TRY_ALLOWED) && --tries > 0);
	if (got != RL_TRY_LIMITED)
		return RL_NOT_USUAL;
	usual_answer(&seg->view, &usual, 0, usual.wait_ns, ret);
	rl_member_limited(seg, &member->rule[usual.rule_index]);
	return 0;
}

#endif
