/*
 * rl_check_reset.c - what may be said of a key without a check: forget what it spent, block it.
 *
 * Both mark a slot whose head stays open (rl_mark.h). The agent may be about to re-base it, or to
 * free it, from what it read before. So who marks looks at the head afterwards, and the agent at
 * the marks after it has closed the head, all seq_cst: at least one of the two sees the other. An
 * open head may be that of a re-base which began before the mark and has ended since, and wrote
 * over it: so who marks then looks whether the mark is there.
 */
#include "shm/rl_audit.h"
#include "shm/rl_check_steps.h"
#include "shm/rl_count.h"
#include "shm/rl_mark.h"
#include "shm/rl_now.h"
#include "shm/rl_table.h"

#define BLOCK_MAX_NS (36525 * RL_DAY_NS) /* a century */

/*
 * Has the slot of the sliding window all bits of mark? Of another algorithm's slot: does it need
 * none, as a block, which every check there looks for?
 */
static bool has_mark(const struct rl_slot *slot, uint64_t mark)
{
	/* Relaxed, both: under a head that was acquired. */
	uint64_t shape = atomic_load_explicit(&slot->shape, memory_order_relaxed);

	if (rl_shape_algorithm(shape) != RL_SLIDING)
		return mark == RL_MARK_BLOCK;
	return (atomic_load_explicit(&slot->state, memory_order_relaxed) & mark) == mark;
}

/* Is the mark (0: none was needed) still in the slot, and was it written to this key's slot? */
static bool stands(const struct rl_seg *seg, const struct rl_id *id, uint64_t index, uint64_t mark)
{
	const struct rl_slot *slot = &seg->slot[index];
	uint64_t head;
	/* seq_cst: after the mark, see above. pairs[slot_head.acq]: with all words of the re-base
	 * that opened it. */
	uint64_t after = atomic_load_explicit(&slot->head, memory_order_seq_cst);

	return rl_head_is_open(after) && (mark == 0 || has_mark(slot, mark)) &&
	       rl_table_find(&seg->view, id, &head) == index;
}

static int local_rule(const struct rl_view *view, uint64_t handle, struct rl_rule *ret)
{
	int error = rl_rules_read(view, handle, ret);

	if (error == 0 && rl_rule_in_flight(ret))
		return RL_E_ALGORITHM;
	return error == 0 && !rl_rule_is_local(ret) ? RL_E_SHARED : error;
}

/*
 * The count goes on behind a group that nobody counts in: so no refund of what is forgotten reaches
 * it, and n never falls below the floor. False: others changed the slot. *ret_mark: as stands().
 */
static bool reset_window(struct rl_slot *slot, uint64_t head, uint32_t q, uint64_t *ret_mark)
{
	uint64_t mark = rl_mark_of(slot), floor = (rl_head_n(head) / q + 2) * q;
	uint64_t next = head + ((floor - rl_head_n(head)) << RL_HEAD_N_SHIFT);

	if (floor > RL_N_MAX) /* the agent is long overdue */
		return false;
	/* pairs[slot_head.rel]: as an admit. Killed after it: the numbers that were skipped are
	 * held with the groups they are in. */
	if (!atomic_compare_exchange_strong_explicit(&slot->head, &head, next, memory_order_release,
						     memory_order_relaxed))
		return false;
	*ret_mark = RL_MARK_FLOOR | floor;
	/* seq_cst: before the head is looked at again. */
	return atomic_compare_exchange_strong_explicit(&slot->state, &mark,
						       (mark & (RL_MARK_BLOCK | RL_MARK_AUDIT)) |
							       RL_MARK_FLOOR | floor,
						       memory_order_seq_cst, memory_order_relaxed);
}

static bool reset_once(struct rl_seg *seg, uint64_t index, uint64_t head,
		       const struct rl_rule *rule, uint64_t *ret_mark)
{
	struct rl_slot *slot = &seg->slot[index];
	struct rl_window_terms terms;
	struct rl_count count;
	bool coarse;

	if (slot_terms(&seg->view, slot, rule, &terms, &coarse))
		return reset_window(slot, head, terms.q, ret_mark);
	if (!rl_count_of(&seg->view, slot, rule, &count))
		return false;
	return rl_count_reset(slot, head, &count);
}

int rl_check_reset(struct rl_seg *seg, uint64_t handle, const struct rl_check_key *key)
{
	for (int i = 0; i < CHECK_TRIES; i++) {
		struct rl_rule rule;
		uint64_t mark = 0, head, index = rl_table_find(&seg->view, &key->id, &head);
		int error = local_rule(&seg->view, handle, &rule);

		if (error != 0)
			return error;
		if (index == RL_NO_SLOT && !rl_table_holds(seg, &key->id))
			return rl_segment_has_grown(&seg->view) ? RL_E_GROWN : 0;
		if (index != RL_NO_SLOT && reset_once(seg, index, head, &rule, &mark) &&
		    stands(seg, &key->id, index, mark)) {
			if (mark != 0 && rl_audit_marked(&seg->slot[index]))
				rl_audit_note(seg, index, rl_clock_precise_ns(), 0, RL_AUDIT_RESET);
			return 0;
		}
	}
	return RL_E_BUSY;
}

/*
 * The block word first: a flag without one is put out by the next check. Killed before it is taken
 * back from a slot that is no longer the key's: the word blocks nobody (rl_mark.h); where hosts
 * share the rule, what is told of the fleet's total is wrong for a window at most.
 */
static bool block_once(struct rl_seg *seg, const struct rl_id *id, uint64_t index, uint64_t word)
{
	_Atomic uint64_t *total = &seg->side[index].total;
	/* Relaxed: it fails if anybody else wrote. */
	uint64_t before = atomic_load_explicit(total, memory_order_relaxed), seen = before;

	/* seq_cst: before the head is looked at again. */
	if (!atomic_compare_exchange_strong_explicit(total, &seen, word, memory_order_seq_cst,
						     memory_order_relaxed))
		return false;
	if ((word == 0 || rl_mark_block(&seg->slot[index])) &&
	    stands(seg, id, index, word == 0 ? 0 : RL_MARK_BLOCK))
		return true;
	/* Relaxed: as above. */
	atomic_compare_exchange_strong_explicit(total, &word, before, memory_order_relaxed,
						memory_order_relaxed);
	return false;
}

int rl_check_make(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		  const struct rl_check_key *key)
{
	struct rl_rule rule;
	uint64_t head;
	int got = rl_rules_read(&seg->view, handle, &rule);

	if (got == 0 && rl_rule_in_flight(&rule))
		got = RL_E_ALGORITHM;
	if (got == 0 && rl_table_find(&seg->view, &key->id, &head) == RL_NO_SLOT)
		got = rl_check_claim(seg, member, key, &rule);
	return got < 0 ? got : 0;
}

int rl_check_block(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		   const struct rl_check_key *key, uint64_t for_ns)
{
	uint64_t until_ns =
		rl_now_ns(&seg->view, false) + (for_ns < BLOCK_MAX_NS ? for_ns : BLOCK_MAX_NS);
	uint64_t word = for_ns == 0 ? 0 : rl_block_word(key->id.word[0], until_ns);

	for (int i = 0; i < CHECK_TRIES; i++) {
		struct rl_rule rule;
		uint64_t head, index = rl_table_find(&seg->view, &key->id, &head);
		int got = local_rule(&seg->view, handle, &rule);

		if (got == 0 && index == RL_NO_SLOT && word == 0 && !rl_table_holds(seg, &key->id))
			return rl_segment_has_grown(&seg->view) ? RL_E_GROWN : 0;
		if (got == 0 && index == RL_NO_SLOT)
			got = rl_check_claim(seg, member, key, &rule);
		if (got < 0)
			return got;
		if (index != RL_NO_SLOT && block_once(seg, &key->id, index, word))
			return 0;
	}
	return RL_E_BUSY;
}
