/*
 * rl_inflight.h - limit the requests in flight of a key: acquire before, release after.
 *
 * Rooms:  shm/ and above. What client/rl_inflight.c publishes.
 *
 * The promise: the units that are held never exceed the limit, at any instant, whoever is stopped
 * or killed; and what a dead process held is given back, all of it and nothing else.
 *
 * ACQUIRE   1. sum up the key's cells (rl_hold.h); held + cost > limit: refused, nothing written
 *           2. ask: add cost to what one's own cell asks for
 *           3. read the slot's state again (is it the same life, not being freed?) and one's own
 *              holder word (not taken for dead?); if not, withdraw and start over
 *           4. sum up again: if held + asked of all, with one's own, is at most limit: what was
 *              asked for is held. If held + cost > limit: withdraw, refused
 *           5. else others ask at this moment for the same units: who asks in the cell that comes
 *              first, and came first to it, looks again; the others withdraw and try again
 *
 * WHY IT NEVER EXCEEDS THE LIMIT. Cells, state and holder words are only loaded and changed with
 * seq_cst, so there is one order of all of it. Of all who hold units at some instant, take the one
 * that asked (step 2) last. Its walk of step 4 came after the others' asks and before their
 * releases, and they were in their cells all the time, as asked or held: it saw every unit that is
 * held at the instant, its own too, and found at most limit.
 *
 * A unit that a walk counts may be gone when the walk is over, so a refusal means: so much was
 * held or being asked for, each unit at an instant within the call.
 *
 * KILLED at any step: the process's cells are set to 0 by the agent once its death is certain
 * (rl_holder.h). There is nothing else to settle.
 *
 * FREEING a slot: the agent marks its state as closing, then sums up: nothing there, it frees the
 * slot; else it takes the mark off. Whoever asked before that is seen; whoever asked after it sees
 * the mark (step 3). Killed in between: the next agent does it again; the key answers busy.
 *
 * A slot of such a rule has an identity of its own, so that a rule that goes from another algorithm
 * to this one or back finds each of its counts as it left them, as long as they are in use.
 */
#ifndef RL_INFLIGHT_H
#define RL_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_check.h"
#include "shm/rl_hold.h"

/*
 * Acquire cost units of the key for the holder who. 1 and ret->ticket, or 0, or nothing is held
 * and a negative error: RL_E_RULE, RL_E_ALGORITHM, RL_E_COST, RL_E_FULL (no slot, or no line),
 * RL_E_BUSY, RL_E_HOLDER (who was taken for dead: become another holder). Arguments and *ret as
 * rl_check_spend(); wait_ns and window_ns are 0. Lock-free, async-signal-safe.
 */
int rl_inflight_acquire(struct rl_seg *seg, struct rl_member *member, uint32_t who, uint64_t handle,
			const void *key, size_t key_len, uint32_t cost, struct rl_answer *ret);

/*
 * Release what the ticket says, acquired by the holder who under the rule. 0, RL_E_TICKET (it does
 * not hold that any more, or never did) or RL_E_RULE (another rule's ticket). Lock-free,
 * async-signal-safe.
 */
int rl_inflight_release(struct rl_seg *seg, uint32_t who, uint64_t handle,
			const struct rl_ticket *ticket);

/* Is it a ticket of rl_inflight_acquire()? */
static inline bool rl_inflight_is_ticket(uint64_t place)
{
	return place != 0 && (place & 0x7fffffff) == 0;
}

/* rl_check_look() of such a rule: *ret_used is what is held. */
int rl_inflight_look(const struct rl_view *view, uint64_t handle, const void *key, size_t key_len,
		     uint32_t cost, struct rl_answer *ret, uint32_t *ret_used);

/* The identity of a key's slot. */
struct rl_id rl_inflight_id(const struct rl_view *view, uint64_t handle, const void *key,
			    size_t key_len);

/* Can these be the words of an open slot of such a rule? Its state is one of rl_count_is(). */
bool rl_inflight_sound(uint64_t n, uint64_t shape, uint64_t window_ns);

/* Its agent is about to free it, or was killed then. */
static inline bool rl_inflight_is_closing(uint64_t state)
{
	return (state & RL_HOLD_CLOSING) != 0;
}

/* The agent: free the open slot, whose head was read as head, if nothing is held or asked for. */
bool rl_inflight_free_idle(struct rl_seg *seg, uint64_t index, uint64_t head);

#endif
