/*
 * rl_check.h - one check from key to answer: table, rule, clock and window put together.
 *
 * Rooms:  shm/ and above. What client/rl.c publishes.
 */
#ifndef RL_CHECK_H
#define RL_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_hash.h"
#include "shm/rl_member.h"
#include "shm/rl_segment.h"
#include "shm/rl_shared.h"
#include "shm/rl_side.h"

#define RL_KEY_BYTES_MAX  1024 /* of a key */
#define RL_CHECK_MAY_WAIT 1u   /* flag: this caller may sleep for credit */

/* A key as a check takes it: its identity under a rule, and what a new slot needs of it. */
struct rl_check_key {
	struct rl_id id;   /* rl_hash_key() of the rule's id and the key */
	const void *bytes; /* 1 .. RL_KEY_BYTES_MAX of them */
	size_t len;
	const struct rl_key_text *text; /* made before of a key that is not at hand; else NULL */
	bool given; /* it has raised the time of a segment whose clock is given */
};

/*
 * Flag: as RL_CHECK_MAY_WAIT, but where it would sleep it returns RL_CHECK_WAITS. The key is then
 * the first member of an rl_check_wait, and so may only be passed to rl_check_spend_key().
 */
#define RL_CHECK_PENDING 2u
#define RL_CHECK_WAITS   3 /* no answer yet: the caller is to come again */

/* A check that waits, between two of its tries. All zero but for the key: it has not begun. */
struct rl_check_wait {
	struct rl_check_key key;
	bool over;            /* it may wait no longer: its next try is its answer */
	bool asked;           /* its cost is in the slot's demand */
	uint64_t deadline_ns; /* of waiting, precise clock; 0: not begun */
	/* With RL_CHECK_WAITS: come again when the slot at index has another turn, at the latest
	 * after this. */
	uint64_t index;
	uint32_t turn;
	uint64_t within_ns;
};

static inline void rl_check_hash(const struct rl_view *view, uint64_t handle, const void *bytes,
				 size_t len, struct rl_check_key *ret)
{
	ret->id = rl_hash_key(view->hash_key, (uint32_t)(handle >> 32), bytes, len);
	ret->bytes = bytes;
	ret->len = len;
	ret->text = NULL;
	ret->given = false;
}

/* What to give back an admit by: rl_check_refund(). All zero: nothing can be. */
struct rl_ticket {
	uint64_t place; /* slot:33 | cost:31 */
	uint64_t mark; /* 0:1 | when:21 | the event's number:42, or the word after it: rl_count.h */
	uint64_t id;   /* first half of the identity, to know the slot by */
};

/*
 * The answer. Laid out as rl.h's struct rl_result, which is one: it is written once, where the
 * caller wants it (a copy read in other words than it was written in costs 5 ns of 50).
 */
struct rl_answer {
	uint32_t state;     /* enum rl_state */
	uint32_t limit;     /* of the rule, units a window */
	uint32_t remaining; /* units that could be admitted at once after this */
	uint32_t by;        /* enum rl_decided */
	uint64_t window_ns; /* of the rule */
	uint64_t wait_ns;   /* refused: until this cost could pass; else 0 */
	uint64_t delay_ns;  /* allowed: hold the request up for so long; 0 = serve at once */
	uint64_t now_ns;    /* the reading the answer was made with, without RL_CLOCK_BIAS_NS */
	struct rl_ticket ticket; /* allowed: what it spent, if that can be given back */
} __attribute__((may_alias));

/*
 * May the key spend cost units under the rule now? Returns 1 and spends them, or 0 and
 * changes nothing, or a negative error and nothing is spent: RL_E_RULE, RL_E_COST, RL_E_FULL
 * (new key, no slot), RL_E_BUSY, RL_E_CLOCK (the segment's clock is
 * given, and key->given is not, or the other way round). *ret is filled with the answer, with zeros
 * on error.
 *
 *   key_len  0 .. RL_KEY_BYTES_MAX, cost 1 .. : checked by the caller
 *   flags    0 or RL_CHECK_MAY_WAIT: sleep for credit, at most the rule's wait_ns, only under a
 *            rule that hosts share and only while Redis answers
 *
 * Lock-free: every failed try is another process's success, and there are at most
 * RL_CHECK_TRIES. No allocation, and but for waiting and for waking a sleeping agent no system
 * call; async-signal-safe.
 */
int rl_check_spend(struct rl_seg *seg, struct rl_member *member, uint64_t handle, const void *key,
		   size_t key_len, uint32_t cost, uint32_t flags, struct rl_answer *ret);

/* The same for a key that has been hashed. */
int rl_check_spend_key(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		       const struct rl_check_key *key, uint32_t cost, uint32_t flags,
		       struct rl_answer *ret);

/*
 * What a check would answer, and writes nothing. Returns as above; a key that has no slot
 * yet may spend the whole limit, or would ask for credit. *ret_used: units of this host now
 * held in the window.
 */
int rl_check_look(const struct rl_view *view, uint64_t handle, const void *key, size_t key_len,
		  uint32_t cost, struct rl_answer *ret, uint32_t *ret_used);
int rl_check_look_key(const struct rl_view *view, uint64_t handle, const struct rl_check_key *key,
		      uint32_t cost, struct rl_answer *ret, uint32_t *ret_used);

/*
 * Give back what an admit under the rule spent. 1: given back. 0: it stays spent until its window
 * has passed, because others were admitted behind it, or because hosts share the rule; nothing is
 * changed. A ticket must be used once. Lock-free, async-signal-safe.
 */
int rl_check_refund(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		    const struct rl_ticket *ticket);

/*
 * Forget what the key has spent under a local rule; a block stays. 0, also when nothing was held;
 * RL_E_RULE, RL_E_SHARED, RL_E_BUSY. Killed in the middle: it was reset or not, and up to two
 * groups (a 12th of the limit) more are held until the window has passed. Lock-free,
 * async-signal-safe.
 */
int rl_check_reset(struct rl_seg *seg, uint64_t handle, const struct rl_check_key *key);

/*
 * See that the key has a slot, without a check. 0, also when it had one; RL_E_RULE, RL_E_FULL,
 * RL_E_BUSY, RL_E_GROWN.
 */
int rl_check_make(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		  const struct rl_check_key *key);

/*
 * Refuse the key under a local rule for so long, in whole seconds rounded up (at most a century);
 * 0: no longer. What it spends and has spent is another thing. 0, or RL_E_RULE, RL_E_SHARED,
 * RL_E_FULL, RL_E_BUSY. Killed in the middle: it is blocked or not. Lock-free,
 * async-signal-safe.
 */
int rl_check_block(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		   const struct rl_check_key *key, uint64_t for_ns);

#define RL_POOL_KEYS 8u /* slots of a rule that new keys share when the table is full */
#define RL_POOL_NAME 8  /* bytes for such a key */

/*
 * The agent: make the slots of all pools that are not there. Returns how many could not be made,
 * because the table is full: their rules' new keys are answered RL_E_FULL then.
 */
uint32_t rl_pool_ensure(struct rl_seg *seg);

/* Is the slot at index one of a pool? Its head has been read. */
bool rl_pool_is(const struct rl_view *view, uint64_t index);

/* Is this a pool's key? */
struct rl_key_text; /* rl_side.h */
bool rl_pool_is_text(const struct rl_key_text *text);

/* One of several rules that a request is to pass. */
struct rl_check_part {
	uint64_t handle;
	struct rl_check_key key;
	uint32_t cost, flags;
	struct rl_answer *answer; /* filled whatever the whole answer is; a ticket only by 1 */
	int got;                  /* 1, 0 or an error: what this rule said, or would say */
};

/*
 * May the request pass all of them? 1: all were spent. 0 or an error: none is spent; that of the
 * first part that said so.
 *
 * All are looked at before any is spent, so that a refusal writes nothing. If another process
 * gets between, what was spent is given back; what cannot be (rl_check_refund()) stays spent. So
 * does what a process spent that dies here: at most each part's cost, until its window has passed.
 */
int rl_check_parts(struct rl_seg *seg, struct rl_member *member, struct rl_check_part *part,
		   size_t count);

/*
 * Would the key's own window of a plain local rule admit this cost now? False also when that
 * cannot be told so quickly: a new key, another kind of rule.
 */
bool rl_check_fits(const struct rl_view *view, uint64_t handle, const struct rl_check_key *key,
		   uint32_t cost);

/* Ask the processor for the memory that a check of this key will read. */
void rl_check_prefetch(const struct rl_view *view, const struct rl_id *id);

#endif
