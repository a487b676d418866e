/*
 * rl_mark.h - what was said of one key of a local rule: forget what it spent, or block it.
 *
 * Rooms:  shm/, and agent/ for the sweep. Loads and CAS of two words of a slot; no clock.
 *
 * state, of a slot of the sliding window (of others it is what they count by):
 *
 *	[ block:1 | floor:1 | audit:1 | event:61 ]
 *
 * audit: admits are noted, rl_audit.h. block: look at the block word. floor: the events numbered
 *below this one are forgotten. So an event may be admitted also while fewer than L were counted
 *since: then any L + 1 events since the reset have one among them that the window let pass, a
 *window after the one L before it. 0 nearly always; a check of a plain rule tests no more than
 *that.
 *
 * block word, rl_side.total of a slot of a local rule (a shared one's has the fleet's total):
 *
 *	[ 1 | id:31 | until:32 ]    until, in seconds of the precise clock
 *
 * id is of the key's identity: whoever was stopped before its CAS here and wakes when the slot is
 * another key's blocks nobody by it.
 */
#ifndef RL_MARK_H
#define RL_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_clock.h"
#include "shm/rl_layout.h"

#define RL_MARK_BLOCK (UINT64_C(1) << 63)
#define RL_MARK_FLOOR (UINT64_C(1) << 62)
#define RL_MARK_AUDIT (UINT64_C(1) << 61)
#define RL_MARK_EVENT (RL_MARK_AUDIT - 1)

static inline uint64_t rl_mark_of(const struct rl_slot *slot)
{
	/* Relaxed: who marks a slot and then sees it open knows that no re-base and no wipe missed
	 * it (rl_check_reset.c); a check that runs beside it may be before it. */
	return atomic_load_explicit(&slot->state, memory_order_relaxed);
}

/* The first event that is not forgotten; 0 when none is, or the mark is not of this slot's life. */
uint64_t rl_mark_floor(uint64_t mark, uint64_t n);

/* So many units may follow at once after event, by what came since the slot was reset. */
uint32_t rl_mark_room(const struct rl_slot *slot, uint64_t event, uint32_t limit);

/*
 * Clear a mark that says nothing any more: of a reset that as many events as the limit have
 * followed, or none at all but left of when hosts shared the rule. The flags of a block and
 * of the audit stay as long as the slot: who blocks the key anew relies on it. Nothing when the
 * slot has gone on from head.
 */
void rl_mark_tidy(struct rl_slot *slot, uint64_t head, uint32_t limit);

/* Tell the checks of a plain rule to look for a block. False: others changed the slot. */
bool rl_mark_block(struct rl_slot *slot);

static inline uint64_t rl_block_word(uint64_t id, uint64_t until_ns)
{
	return RL_MARK_BLOCK | (id >> 33) << 32 |
	       (uint32_t)((until_ns + RL_SECOND_NS - 1) / RL_SECOND_NS);
}

/* Until when a block word blocks the key whose identity begins with id; 0: it does not. */
static inline uint64_t rl_block_until_by(uint64_t word, uint64_t id)
{
	return word >> 32 == (RL_MARK_BLOCK >> 32 | id >> 33) ? (word & UINT32_MAX) * RL_SECOND_NS
							      : 0;
}

static inline uint64_t rl_block_until(const struct rl_side *side, uint64_t id)
{
	/* Relaxed: as rl_mark_of(). */
	return rl_block_until_by(atomic_load_explicit(&side->total, memory_order_relaxed), id);
}

/* Is this slot's own key blocked at now? */
static inline bool rl_block_holds(const struct rl_slot *slot, const struct rl_side *side,
				  uint64_t now_ns)
{
	/* Relaxed: under a head that was acquired. */
	uint64_t id = atomic_load_explicit(&slot->id[0], memory_order_relaxed);

	return rl_block_until(side, id) > now_ns;
}

#endif
