/*
 * rl_check_steps.h - the steps that all kinds of checks have in common.
 *
 * Rooms:  rl_check*.c and rl_inflight.c. Inline: the hot path has them, too.
 */
#ifndef RL_CHECK_STEPS_H
#define RL_CHECK_STEPS_H

#include <stdbool.h>

#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_cold.h"
#include "shm/rl_hash.h"
#include "shm/rl_now.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define TICKET_COST_BITS 31

#define CHECK_TRIES 4096 /* under 1 ms; a slot is re-based in under a microsecond */

/* Age of the agent's heartbeat. A beat ahead of now (coarse clock) is fresh. */
static inline uint64_t beat_age(const struct rl_view *view, uint64_t now_ns)
{
	/* Relaxed: the beat stands for itself. */
	uint64_t beat = atomic_load_explicit(&view->live->beat_ns, memory_order_relaxed);

	return now_ns > beat ? now_ns - beat : 0;
}

/* By which clock: that of the window the slot was made for. */
static inline bool slot_is_coarse(const struct rl_slot *slot)
{
	/* Relaxed: ordered after the acquire of head, final while head keeps that value. */
	return rl_clock_is_coarse(atomic_load_explicit(&slot->window_ns, memory_order_relaxed));
}

/* The slot's group size. False when it was wiped, is damaged or not of the sliding window. */
static inline bool slot_q(const struct rl_slot *slot, uint32_t *ret_q)
{
	/* pairs[slot_shape.acq]: who sees the shape of a re-base sees its close on the re-read of
	 * head. An admit fails without that; a refusal would be by groups that are not its head's.
	 */
	*ret_q = rl_shape_q(atomic_load_explicit(&slot->shape, memory_order_acquire));
	return !RL_RARELY(*ret_q - 1 >= RL_Q_MAX);
}

/* The terms of a slot with this q and clock, under a plain rule. */
static inline void plain_terms(const struct rl_view *view, uint32_t q, bool coarse, uint32_t limit,
			       uint64_t window_ns, struct rl_window_terms *ret)
{
	ret->q = q;
	ret->limit = rl_window_limit(limit, q);
	ret->span_ns = window_ns + rl_clock_hold_ns(coarse, view->tick_ns);
	ret->counted = ret->interpolate = false;
}

/* The terms a slot counts by, under any rule. False as slot_q(). */
static inline bool slot_terms(const struct rl_view *view, const struct rl_slot *slot,
			      const struct rl_rule *rule, struct rl_window_terms *ret,
			      bool *ret_coarse)
{
	uint32_t q;

	if (!slot_q(slot, &q))
		return false;
	*ret_coarse = slot_is_coarse(slot);
	plain_terms(view, q, *ret_coarse, rule->limit, rule->window_ns, ret);
	ret->counted = !rl_rule_is_local(rule);
	ret->interpolate = (rule->fleet & RL_RULE_INTERPOLATE) != 0;
	return true;
}

/*
 * Was the segment taken away under this check (rl_segment_blank_out())? No slot ever has a head of
 * 0. A refusal that may rest on such zeros is no answer: the check starts over, and then finds no
 * rule. The sliding window asks by itself whether its head is still the one it read.
 */
static inline bool slot_is_gone(const struct rl_slot *slot)
{
	/* pairs[slot_head.acq]: as any reader of a slot. */
	return atomic_load_explicit(&slot->head, memory_order_acquire) == 0;
}

static inline void fill_answer(const struct rl_view *view, const struct rl_rule *rule,
			       const struct rl_window_answer *from, uint64_t now_ns,
			       struct rl_answer *ret)
{
	ret->state = RL_RARELY(beat_age(view, now_ns) > RL_ALONE_NS) ? RL_ALONE : RL_FRESH;
	ret->limit = rule->limit;
	ret->remaining = from->remaining;
	ret->by = RL_DECIDED_WINDOW;
	ret->window_ns = rule->window_ns;
	ret->wait_ns = from->wait_ns;
	ret->delay_ns = 0;
	ret->now_ns = now_ns - RL_CLOCK_BIAS_NS;
	ret->ticket = (struct rl_ticket){0};
}

/* A given clock tells nothing of the agent's. */
static inline void given_state(const struct rl_view *view, struct rl_answer *ret)
{
	if (view->given)
		ret->state =
			beat_age(view, rl_clock_precise_ns()) > RL_ALONE_NS ? RL_ALONE : RL_FRESH;
}

/* Above what could ever pass, or above what the credit of a shared rule can hold; or no check. */
static inline int cost_fault(const struct rl_rule *rule, uint32_t cost)
{
	if (rl_rule_in_flight(rule))
		return RL_E_ALGORITHM;
	if (cost > rl_algorithm_most(rl_rule_algorithm(rule), rule->limit, rule->burst))
		return RL_E_COST;
	return !rl_rule_is_local(rule) && cost > RL_CREDIT_MAX ? RL_E_COST : 0;
}

/* Make a slot for a new key: RL_E_FULL or RL_E_BUSY, or not negative. */
int rl_check_claim(struct rl_seg *seg, struct rl_member *member, const struct rl_check_key *key,
		   const struct rl_rule *rule);

/* What a sync needs of the key: made before, or now. */
void rl_check_text(const struct rl_check_key *key, struct rl_key_text *ret);

/* The rule, with what its lists say of the key. */
static inline int read_rule_of(const struct rl_view *view, uint64_t handle,
			       const struct rl_check_key *key, struct rl_rule *ret)
{
	const void *bytes = key->text != NULL ? (const void *)key->text->word : key->bytes;
	size_t len = key->text != NULL ? rl_key_text_len(key->text) : key->len;

	return rl_rules_read_of(view, handle, &key->id, bytes, len, ret);
}

/* Its clock is given if and only if the check brings a moment. */
static inline bool clock_fits(const struct rl_view *view, const struct rl_check_key *key)
{
	return view->given == key->given;
}

/*
 * Read the rule, and make a slot for a key that has none. An error, or 0; index and head are those
 * of rl_table_find() (RL_NO_SLOT: one has been made, look again).
 */
static inline int find_or_claim(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
				const struct rl_check_key *key, uint32_t cost,
				struct rl_rule *ret_rule, uint64_t *ret_index, uint64_t *ret_head)
{
	int got;

	*ret_index = rl_table_find(&seg->view, &key->id, ret_head);
	got = read_rule_of(&seg->view, handle, key, ret_rule);
	if (got == 0)
		got = cost_fault(ret_rule, cost);
	if (got == 0 && *ret_index == RL_NO_SLOT)
		got = rl_check_claim(seg, member, key, ret_rule);
	return got < 0 ? got : 0;
}

#define EVENT_BITS 42
#define WHEN_MASK  UINT64_C(0x1fffff)

/*
 * When, in 64ths to 128ths of a window: the slot may have been freed and claimed since. A window
 * below 0x80 ns is damage.
 */
static inline uint64_t ticket_when(uint64_t window_ns, uint64_t now_ns)
{
	return now_ns >> (57 - __builtin_clzll(window_ns | 0x7f)) & WHEN_MASK;
}

static inline uint64_t mark_of(uint64_t event, uint64_t window_ns, uint64_t now_ns)
{
	return ticket_when(window_ns, now_ns) << EVENT_BITS | event;
}

/* The ticket of an admit, with the mark that it has by its algorithm. */
static inline struct rl_ticket ticket_of(uint64_t index, uint32_t cost, uint64_t mark,
					 const struct rl_id *id)
{
	return (struct rl_ticket){
		.place = index << TICKET_COST_BITS | cost, .mark = mark, .id = id->word[0]};
}

/*
 * The answer of a window, whose slot was marked as reset, by what came since:
 * RL_TRY_ALLOWED or RL_TRY_LIMITED instead of got, and what is left.
 */
int rl_check_since_reset(const struct rl_slot *slot, uint64_t head,
			 const struct rl_window_terms *terms, uint32_t cost, int got,
			 struct rl_window_answer *answer);

/* Refused until then because the key is blocked; false, and nothing is filled, when it is not. */
bool rl_check_blocked(const struct rl_view *view, uint64_t index, uint64_t id,
		      const struct rl_rule *rule, struct rl_answer *ret);

/* A stamp lies ahead of the clock: bring it back, and let the check start over. */
void rl_check_mend(struct rl_member *member, struct rl_slot *slot, uint32_t cell);

/*
 * The answer of a check that failed: by the rule's on_full when the table has no slot for the key;
 * else as rl_check_failed().
 */
int rl_check_unfit(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		   const struct rl_check_key *key, uint32_t cost, uint32_t flags, int error,
		   struct rl_answer *ret);

/* The key of a rule's pool; ret_name has RL_POOL_NAME bytes and is to stay as long as *ret. */
void rl_pool_key(const struct rl_view *view, uint64_t handle, uint32_t number, char *ret_name,
		 struct rl_check_key *ret);

/*
 * Units that the pool holds which a new key would share; 0: none, or the rule has no pool. Of a
 * rule that hosts share: 1, it holds some.
 */
uint32_t rl_pool_held(const struct rl_view *view, const struct rl_rule *rule,
		      const struct rl_check_key *key);

/* Count the error, also under the rule if it is in force; empty the answer; returns error. */
int rl_check_failed(struct rl_seg *seg, struct rl_member *member, uint64_t handle, int error,
		    struct rl_answer *ret);

/* Count an answer by the own window, or by a word: 1 or 0. */
static inline void count_answer(struct rl_seg *seg, struct rl_member *member,
				const struct rl_rule *rule, int got, uint32_t cost,
				const struct rl_answer *ret)
{
	struct rl_counts *counts = &member->rule[rule->index];

	if (got == 1)
		rl_member_allowed(
			seg, counts, cost, ret->remaining,
			rl_algorithm_most(rl_rule_algorithm(rule), rule->limit, rule->burst));
	else
		rl_member_limited(seg, counts);
}

#define RL_CHECK_COUNTS 2 /* neither: the count says */

/*
 * The answer that needs no count: 1 or 0, when the rule is off, or its lists say so; else
 * RL_CHECK_COUNTS. The rule has been read with its lists.
 */
int rl_check_verdict(const struct rl_view *view, const struct rl_rule *rule, struct rl_answer *ret);

/* What becomes of the answer got where the rule only looks on: a refusal passes. */
int rl_check_shadow(const struct rl_rule *rule, const struct rl_check_key *key, int got,
		    struct rl_answer *ret);

/* rl_check_spend() under a rule with one of RL_RULE_SPECIAL. */
int rl_check_spend_special(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			   const struct rl_check_key *key, uint32_t cost, uint32_t flags,
			   struct rl_answer *ret);

/* rl_check_spend() under a rule that is not plain, or on a slot that was made for another. */
int rl_check_spend_other(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			 const struct rl_check_key *key, uint32_t cost, uint32_t flags,
			 struct rl_answer *ret);

/*
 * One try on an open slot that counts in one word, whatever its rule: RL_TRY_ALLOWED,
 * RL_TRY_LIMITED and *ret filled, or RL_TRY_AGAIN, also when it is none.
 */
int rl_check_count(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		   const struct rl_check_key *key, uint32_t cost, struct rl_answer *ret);

/* rl_check_look() at such a slot; RL_E_BUSY when it is none. */
int rl_check_look_count(const struct rl_view *view, uint64_t index, uint64_t head,
			const struct rl_rule *rule, uint32_t cost, struct rl_answer *ret,
			uint32_t *ret_used);

/* rl_check_spend() under a rule that hosts share. */
int rl_check_spend_shared(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			  const struct rl_check_key *key, uint32_t cost, uint32_t flags,
			  struct rl_answer *ret);

/* rl_check_look() at an open slot of such a rule, whose own window has been looked at. */
int rl_check_look_shared(const struct rl_view *view, uint64_t index, uint64_t head,
			 const struct rl_rule *rule, const struct rl_window_terms *terms,
			 uint32_t cost, uint64_t now_ns, struct rl_answer *ret);

/* rl_check_look() under such a rule for a key that has no slot yet. */
int rl_check_look_unknown(const struct rl_view *view, const struct rl_rule *rule,
			  const struct rl_check_key *key, struct rl_answer *ret);

#endif
