/*
 * rl_saved.h - what the slot of one key holds, in words that mean something without its segment:
 * taken from a segment in use, put into one that nobody has yet.
 *
 * Rooms:  shm/, and agent/ for its snapshots.
 *
 * Of rules that this host alone counts. What hosts share is in Redis, and what was in flight has
 * ended with who held it. Times are of the biased clock (rl_clock.h) of the boot they were taken
 * in.
 */
#ifndef RL_SAVED_H
#define RL_SAVED_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_hash.h"
#include "shm/rl_segment.h"
#include "shm/rl_side.h"

struct rl_saved {
	struct rl_id id; /* under the hash key of the segment it was taken from */
	struct rl_key_text text;
	uint64_t n; /* of a sliding window: the head's count */
	uint64_t window_ns;
	uint64_t mark;       /* of a sliding window: rl_mark.h, without the flag of a block */
	uint64_t blocked_ns; /* until then; 0: it is not */
	uint32_t rule_id;
	uint32_t algorithm; /* RL_SLIDING, or a row's number */
	uint32_t scale;     /* q of a sliding window; else units a window that the word counts by */
	uint32_t units;     /* of a word: held at taken_ns */
	uint64_t taken_ns;  /* when it was; of each key, as a sweep takes seconds */
	uint64_t ring[RL_RING]; /* of a sliding window: its stamps; 0 of those that have expired */
};

/*
 * Take what slot index holds. 1; 0 when that is nothing, or nothing of a rule that is local;
 * RL_E_BUSY when the agent is re-basing or emptying it, or it changes all the time: ask again a
 * little later. Others may change the slot meanwhile: then it is at least what the slot held when
 * this began. Any thread; reads only.
 */
int rl_saved_take(const struct rl_view *view, uint64_t index, struct rl_saved *ret);

/* Can these words be put? Not all of damaged ones are found; the others cannot harm. */
bool rl_saved_sound(const struct rl_saved *saved);

/* How to put all of a snapshot. */
struct rl_saved_terms {
	uint64_t now_ns;  /* by this boot's clock: what seems later was now */
	int64_t shift_ns; /* from the clock of that boot to this one's */
	bool same_hash;   /* the segment has the hash key it was taken under */
};

/*
 * Give the key a slot that holds the same, in a segment that no other process has yet. 1; 0 when
 * its rule is not in force any more, or not local, or the key is a long one and the segment has
 * another hash key; or an error of rl_table_claim().
 */
int rl_saved_put(struct rl_seg *seg, const struct rl_saved *saved,
		 const struct rl_saved_terms *terms);

#endif
