/*
 * rl_table.h - find or claim the slot of a key; give idle slots back; walk the table.
 *
 * Rooms:  shm/ and, for the sweep, agent/. Lock-free; bounded work in every call.
 *
 * A key has three buckets of 32 slots (in each extent, of a table that has grown), picked by its
 * 128-bit keyed identity. A bucket's 32 tags (16 bits of the identity each) share one cache line. A
 * lookup reads the key's home slot and, if that is not it, one to three tag lines and, nearly
 * always, only the right slot.
 *
 * GUARANTEES
 *   A. Two slots of one identity are never open at once, whoever is stopped or killed.
 *   B. A claimant that is killed or stopped blocks nobody: anyone with the same key may
 *      finish its claim, and the agent takes back what nobody finishes.
 *   C. A claimant or worker that sleeps and wakes late cannot change a slot that meanwhile
 *      belongs to another key: it writes with CAS-from-zero into words that only the agent
 *      sets to zero, and it admits by a CAS of a head word that never comes back.
 *   D. A slot is freed only when it is provably idle: every stamp is older than the window
 *      and the head did not change between that proof and the close.
 *
 * LIFE OF A SLOT (kinds of the head word, rl_word.h; n is the nonce: never below an earlier life's)
 *
 *      FREE(n) --worker--> CLAIM(n+1) --same worker--> TENT(n+1) --anyone--> open(n+1)
 *                             |                           |                     |
 *                             +-----------> SPOILED <-----+ (withdrawn)         | idle
 *                                              |                                |
 *      FREE(n) <--agent, all words zero-- WIPE(n) <---------agent---------------+
 *
 * CLAIM (source: hard to get right, so modelled): after its TENT a claimant reads all the
 * key's buckets afresh, whatever room it sees in the first. An open slot of the identity: every
 * TENT of it is withdrawn and the open one is used. Else the TENT at the LOWEST index is the
 * candidate, one's own or another's: with its word in hand all buckets are read once more; if
 * nothing is open, nothing lower is TENT and the word is unchanged, every higher TENT is withdrawn
 * (a failed CAS: start over) and the candidate is opened by CAS of exactly that word. Nobody admits
 * on a TENT. "Lower wins, loser withdraws itself" is wrong: a higher one that scanned earlier still
 * opens. tests/model plants that, the missing second read, and the bucket left out because there is
 * room before it, and must catch all three.
 *
 * GROWING: an extent is another stretch of buckets, and a key may lie in those of each. Who has not
 * mapped the newest finds what there was before; before it takes a slot, and before it opens one
 * that it saw tentative, it asks whether the table has grown, and if so does neither. This is
 * Dekker's once more: a claimant in the newest extent knew of it before its TENT and looks at all
 * buckets after that. So either it sees what the other has made tentative, or the other reads that
 * the table has grown after making it so. What is left tentative the next claimant finishes. All
 * older extents lie at lower indices: the lowest TENT is the same to both.
 *
 * WHO WITH WHOM                 find  claim  free  walk
 *   find   (any worker)          -      -     -     -
 *   claim  (any worker)          -      -     -     -
 *   free   (the agent only)      -      -     X     -      - = no coordination needed
 *   walk   (anyone)              -      -     -     -      X = one at a time (the lock)
 */
#ifndef RL_TABLE_H
#define RL_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_hash.h"
#include "shm/rl_segment.h"
#include "shm/rl_side.h"

#define RL_NO_SLOT UINT64_MAX

/*
 * Index of the open slot of id and, in *ret_head, the head word it was read under (acquire,
 * before the identity was compared); RL_NO_SLOT when there is none.
 */
uint64_t rl_table_find(const struct rl_view *view, const struct rl_id *id, uint64_t *ret_head);

/* What a new slot is made for. */
struct rl_claim {
	uint32_t rule_id;
	uint32_t q; /* sliding window; else 0 */
	uint64_t window_ns;
	uint32_t algorithm; /* RL_SLIDING, or a row's number */
	uint64_t word;      /* of a row: what start() says it begins with */
	uint64_t hint;      /* rl_hint(): its partition; of a row rl_count_hint() */
	uint32_t credit;    /* it opens with: the blind share of a bounded rule, else 0 */
	struct rl_key_text text;
	bool audited; /* rl_audit.h; local: also its marks */
	bool local;
	uint32_t held;   /* units that it begins with, of now_ns; of a row they are in its word */
	uint64_t now_ns; /* the slot's clock; with held */
};

/*
 * Make sure that id has an open slot. Returns 1 when this call opened it, 0 when another
 * did (look it up again in both cases), RL_E_FULL when all its buckets are full, RL_E_BUSY
 * when others changed them through all tries, RL_E_GROWN when there are more buckets than are
 * mapped here. Killed anywhere: guarantee B.
 */
int rl_table_claim(struct rl_seg *seg, const struct rl_id *id, const struct rl_claim *claim);

/*
 * The agent, for slot index with open head word head: close it and give it back. False when
 * the head changed meanwhile. Killed halfway: the slot stays WIPE, and the next agent's
 * rl_table_wipe() does the same writes again.
 */
bool rl_table_free(struct rl_seg *seg, uint64_t index, uint64_t head);

/*
 * The same; also false when the slot's rl_side.total is not what it was, total: read before the
 * slot was seen to be idle, as who blocks its key changes that, and not its head.
 */
bool rl_table_free_idle(struct rl_seg *seg, uint64_t index, uint64_t head, uint64_t total);

/*
 * The agent, for a SPOILED or WIPE slot, a CLAIM or TENT nobody has finished in a second, or
 * one with damaged words; their count starts anew with it.
 */
bool rl_table_wipe(struct rl_seg *seg, uint64_t index, uint64_t head);

/* Has id a slot, if only one that is closed for a moment? A find may have missed it. */
bool rl_table_holds(const struct rl_seg *seg, const struct rl_id *id);

/*
 * Does this slot, whose head was read (acquire) as open, lie in a bucket of its identity, under its
 * tag? Every slot does that was claimed: so as long as it is open.
 */
bool rl_table_in_place(const struct rl_view *view, uint64_t index);

/* Slots that are not free, by their tags; a snapshot of a moving thing. */
uint64_t rl_table_used(const struct rl_view *view);

#endif
