/*
 * rl_bell.h - wake the agent, and wait for credit: the two futexes of the segment.
 *
 * Rooms:  shm/ and agent/. System calls, so never on the way of a check that has its answer;
 * errno is preserved; async-signal-safe.
 */
#ifndef RL_BELL_H
#define RL_BELL_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

/* A worker: the agent has something urgent. One fetch_add; a system call only if it sleeps. */
void rl_bell_ring(struct rl_seg *seg);

/*
 * The agent's bell thread: sleep until somebody has rung since *heard, at most for timeout_ns.
 * True when somebody has; *heard is then what was heard.
 */
bool rl_bell_wait(struct rl_seg *seg, uint32_t *heard, uint64_t timeout_ns);

/*
 * A worker: sleep while the slot's turn is still seen, at most for timeout_ns. seen was read
 * (rl_turn_seen) before the try that found no credit. Counted in the slot's waiters meanwhile;
 * killed in it: counted until the agent sets it back.
 */
uint32_t rl_turn_seen(const struct rl_slot *slot);
void rl_turn_wait(struct rl_seg *seg, uint64_t index, uint32_t seen, uint64_t timeout_ns);

/*
 * The same for a worker that does not sleep, but comes again: it is counted from rl_turn_enter()
 * to rl_turn_leave(). One that never does is counted until the agent sets it back.
 */
void rl_turn_enter(struct rl_seg *seg, uint64_t index);
void rl_turn_leave(struct rl_seg *seg, uint64_t index);

/* The agent: a new turn for this slot; wake at most this many of its waiters. */
void rl_turn_next(struct rl_seg *seg, uint64_t index, uint32_t wake);

#endif
