#include "shm/rl_mark.h"

#include "shm/rl_algorithm.h"
#include "shm/rl_word.h"

/*
 * Is a word of the slot, read before this with acquire, of this head's life? By the value of head
 * alone: no head of an earlier life comes back (rl_word.h).
 */
static bool in_life(const struct rl_slot *slot, uint64_t head)
{
	/* Relaxed: after an acquire of the word. Who writes a word of another life does so with
	 * release, after closing this one. */
	return atomic_load_explicit(&slot->head, memory_order_relaxed) == head;
}

uint64_t rl_mark_floor(uint64_t mark, uint64_t n)
{
	uint64_t floor = mark & RL_MARK_EVENT;

	return (mark & RL_MARK_FLOOR) != 0 && floor <= n ? floor : 0;
}

static uint32_t room_by(uint64_t mark, uint64_t event, uint32_t limit)
{
	uint64_t floor = rl_mark_floor(mark, event);

	return floor != 0 && event - floor < limit ? limit - (uint32_t)(event - floor) : 0;
}

uint32_t rl_mark_room(const struct rl_slot *slot, uint64_t event, uint32_t limit)
{
	return room_by(rl_mark_of(slot), event, limit);
}

void rl_mark_tidy(struct rl_slot *slot, uint64_t head, uint32_t limit)
{
	/* pairs[slot_state.acq]: the word of another algorithm, which the agent may have put there
	 * since head was read, holds all that the key has spent. */
	uint64_t seen = atomic_load_explicit(&slot->state, memory_order_acquire);

	if ((seen & ~(RL_MARK_BLOCK | RL_MARK_AUDIT)) == 0 ||
	    room_by(seen, rl_head_n(head), limit) > 0)
		return;
	/* Relaxed: publishes nothing; fails if it was marked anew. */
	if (in_life(slot, head))
		atomic_compare_exchange_strong_explicit(&slot->state, &seen,
							seen & (RL_MARK_BLOCK | RL_MARK_AUDIT),
							memory_order_relaxed, memory_order_relaxed);
}

bool rl_mark_block(struct rl_slot *slot)
{
	/* pairs[slot_head.acq]: one of now, for a key that others ask for moves on all the time. */
	uint64_t head = atomic_load_explicit(&slot->head, memory_order_acquire);
	/* Relaxed: under head. */
	uint64_t shape = atomic_load_explicit(&slot->shape, memory_order_relaxed);
	/* pairs[slot_state.acq]: as above. */
	uint64_t seen = atomic_load_explicit(&slot->state, memory_order_acquire), mark = seen;

	if (rl_shape_algorithm(shape) != RL_SLIDING || (seen & RL_MARK_BLOCK) != 0)
		return true;
	/* What is no mark is left of a time when hosts shared the rule. */
	if ((seen & RL_MARK_FLOOR) == 0)
		mark &= RL_MARK_AUDIT;
	/* seq_cst: before the head is looked at again (rl_check_reset.c). */
	return in_life(slot, head) &&
	       atomic_compare_exchange_strong_explicit(&slot->state, &seen, mark | RL_MARK_BLOCK,
						       memory_order_seq_cst, memory_order_relaxed);
}
