/*
 * rl_rebase.h - give a slot new groups, or another algorithm, without forgetting what it holds.
 *
 * Rooms:  agent/ calls it, under the segment's lock; shm/ inside.
 *
 * Needed when a rule's limit or window changes (the size of a group belongs to the slot, and
 * so does the scale of a word), when its algorithm does, and once in 2 * 10^12 admits, long
 * before the count runs out of bits. Units go from one algorithm to another as a number: what
 * the old one holds at that moment, the new one holds from then on.
 */
#ifndef RL_REBASE_H
#define RL_REBASE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

/* A slot's window on paper: what rl_rebase_plan() reads and writes. */
struct rl_groups {
	uint64_t n;
	uint32_t q;
	uint64_t ring[RL_RING];
};

/*
 * Can these be the count, shape and window of a healthy slot? What is not comes from a
 * damaged segment: the functions below leave such a slot alone, and the sweep empties it.
 */
bool rl_rebase_sound(uint64_t n, uint64_t shape, uint64_t window_ns);

/* The same of a slot that counts in one word: rl_count.h. */
bool rl_rebase_sound_count(uint64_t n, uint64_t shape, uint64_t window_ns);

/*
 * The same events in groups of new_q. Counting back from the newest event, each new group
 * gets the youngest stamp of the old groups its events lie in and of all older ones, plus
 * later_ns: no event seems older than it is, so nothing is admitted that was not before.
 * new n > old n unless it is started anew past RL_N_REBASE. Pure. old is sound.
 */
void rl_rebase_plan(const struct rl_groups *old, uint32_t new_q, uint64_t later_ns,
		    struct rl_groups *ret);

/*
 * Does this open slot want new groups for its rule, and of which size? A lowered limit keeps
 * its large groups until what is in the window fits the smaller ring: forgetting the rest
 * would give it back when the limit is raised again. now_ns: precise.
 */
bool rl_rebase_wanted(const struct rl_view *view, const struct rl_slot *slot, uint64_t head,
		      const struct rl_rule *rule, uint64_t now_ns, uint32_t *ret_q);

/*
 * Re-base the slot, whose head was read as head, to groups of q and the rule's window, or to the
 * rule's algorithm. False
 * when it changed meanwhile, holds credit, or is part of a call to Redis under way. The slot is
 * closed for well under a microsecond. Killed before the close: the journal is dropped by
 * rl_rebase_recover(); killed after it: recover finishes the slot from the journal.
 */
bool rl_rebase_slot(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		    uint32_t q);

/*
 * Forget what this open slot of a rule that hosts share has spent before before_ns, on the slot's
 * clock: its window no longer holds it, and what of it is unreported never will be. A group that
 * ended later is kept whole. False as rl_rebase_slot(), and when the slot is none of the sliding
 * window. Killed anywhere: likewise; done again it forgets nothing more.
 */
bool rl_rebase_forget(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		      uint64_t before_ns);

/*
 * A new agent, first of all: finish what the last one was doing. True when it did. A damaged
 * entry is dropped; the slot closed for it is then emptied by the sweep.
 */
bool rl_rebase_recover(struct rl_seg *seg);

#endif
