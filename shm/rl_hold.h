/*
 * rl_hold.h - who holds how many requests in flight of one key: cells, in lines that are chained.
 *
 * Rooms:  shm/, and agent/ to give back what the dead held.
 *
 * A slot of a concurrency rule says in its state word where its first line is:
 * [ 1 | life:9 | closing:1 | 9 | era of the line:20 | 1 + its index:24 ]; a line says where the
 * next one is. Each line has RL_HOLD_CELLS cells, and a cell is one holder's: what it asks for at
 * this moment, and what it holds. There is no total. It is the sum of the cells, so no death can
 * leave it wrong: what a process held, or was in the middle of asking for, is in its cell and
 * nowhere else, and is given back by setting that one word to 0.
 *
 * LINES are taken from a pool by CAS of their owner word, and then linked, by CAS of the last link
 * of the chain; only the agent sets them free, with their slot or with a claimant that died before
 * it could link its line. Whoever frees a line raises its era. A link names both eras, of the line
 * it stands in and of the one it leads to: so a claimant that was stopped before its CAS, and wakes
 * when one of the two has been freed, fails, or makes a link that counts as none.
 *
 * CELLS are taken by CAS from 0 and given back by the CAS that makes them empty. A holder may have
 * several of one key. Late writers of a line that was freed only ask, see that the slot has another
 * life, and take that back; another key's sum is too high meanwhile, which is safe.
 */
#ifndef RL_HOLD_H
#define RL_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_count.h"
#include "shm/rl_holder.h"
#include "shm/rl_segment.h"

#define RL_HOLD_UNITS   0xfffffu            /* of a cell, asked or held */
#define RL_HOLD_CLOSING (UINT64_C(1) << 53) /* of a state word: the agent is about to free it */
#define RL_HOLD_NONE    UINT32_MAX          /* no line */
#define RL_HOLD_CHAIN   (RL_HOLDERS_MAX / RL_HOLD_CELLS + 8) /* lines of one key, at most */

#define RL_HOLD_ERA (UINT64_C(1) << 44) /* of next: one era of the line itself */

static inline uint64_t rl_hold_cell(uint32_t who, uint32_t asked, uint32_t held)
{
	return (uint64_t)who << 40 | (uint64_t)asked << 20 | held;
}

static inline uint32_t rl_hold_who(uint64_t cell)
{
	return (uint32_t)(cell >> 40);
}

static inline uint32_t rl_hold_asked(uint64_t cell)
{
	return (uint32_t)(cell >> 20) & RL_HOLD_UNITS;
}

static inline uint32_t rl_hold_held(uint64_t cell)
{
	return (uint32_t)cell & RL_HOLD_UNITS;
}

/* A line's own era. */
static inline uint32_t rl_hold_era(uint64_t next)
{
	return (uint32_t)(next >> 44);
}

/* Where a cell is. */
struct rl_hold_place {
	uint32_t line, cell; /* line: RL_HOLD_NONE: nowhere */
};

/* The cells of a key as one walk over them saw them, each at its own instant. */
struct rl_hold_sum {
	uint64_t asked, held;
	uint64_t before;                 /* asked in cells that come before the caller's own */
	struct rl_hold_place own, empty; /* a cell of the holder's; one of nobody's */
	uint32_t last;                   /* line, RL_HOLD_NONE: there is none */
	uint64_t last_next;              /* its next */
};

/*
 * Sum up the chain that state leads to. own: the caller's cell, for before; or NULL. who: the
 * holder whose cell is looked for; or 0. Bounded; reads only.
 */
void rl_hold_sum(const struct rl_view *view, uint64_t state, uint32_t who,
		 const struct rl_hold_place *own, struct rl_hold_sum *ret);

/*
 * Ask for cost units: in a cell of one's own, or one of nobody's, as the walk saw them. True and
 * *ret_place, and *ret_first: nobody else of this process is asking there. False: look again.
 */
bool rl_hold_ask(struct rl_seg *seg, const struct rl_hold_sum *seen, uint32_t who, uint32_t cost,
		 struct rl_hold_place *ret_place, bool *ret_first);

/* What was asked for is held from now on; false when it is not there any more. */
bool rl_hold_grant(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t cost);

/* What was asked for is not wanted any more. */
void rl_hold_withdraw(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t cost);

/* What was held is given back; false when the cell does not hold as much for this holder. */
bool rl_hold_release(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t cost);

/*
 * Chain a line more to slot index, whose state was read as state and whose chain ends as seen.
 * RL_E_FULL: the pool has none. Else look again, whether it did or another one.
 */
int rl_hold_extend(struct rl_seg *seg, uint64_t index, uint64_t state,
		   const struct rl_hold_sum *seen, uint32_t who);

/* The agent: how many lines are taken, how many were set free, how many units were given back. */
struct rl_hold_tidied {
	uint32_t lines, freed;
	uint64_t units;
};

/*
 * The agent: go over all lines. Cells of holders that have left, and of lives that are over, are
 * emptied; lines of slots that are gone, and of claimants that died, are set free. Killed anywhere:
 * the next one does the rest.
 */
void rl_hold_tidy(struct rl_seg *seg, struct rl_hold_tidied *ret);

/* The line that a slot's state, or a line's next, leads to; RL_HOLD_NONE: to none that counts. */
uint32_t rl_hold_first(const struct rl_view *view, uint64_t link);

/* Who claimed a line, of its owner word. */
static inline uint32_t rl_hold_claimant(uint64_t owner)
{
	return rl_holder((uint32_t)(owner >> 12) & (RL_HOLDERS_MAX - 1),
			 (uint32_t)owner % RL_HOLDER_LIVES);
}

/* Slot and life that a line belongs to; false when it is free. */
bool rl_hold_owner(const struct rl_view *view, uint32_t line, uint64_t *ret_index,
		   uint32_t *ret_life);

#endif
