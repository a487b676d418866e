/*
 * rl_member.h - one line of statistics per attached process.
 *
 * Rooms:  shm/ and above.
 *
 * A line is taken by CAS of its owner word and given back by its process when it detaches,
 * or by the agent when the process is gone. Its numbers are never set back, so the sum over
 * all lines is the host's total since the segment was made. Two processes in one line (all
 * lines taken, or a process taken for dead that is not) are slower, never wrong.
 */
#ifndef RL_MEMBER_H
#define RL_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

struct rl_totals {
	uint64_t allowed; /* units */
	uint64_t limited; /* checks */
	uint64_t errors;  /* checks, including full */
	uint64_t full;
	uint64_t mended;
	uint64_t claims;
	uint32_t members; /* lines with an owner */
};

/* Take a line for process pid (> 0). Always returns a line, the shared one if it must. */
struct rl_member *rl_member_take(struct rl_seg *seg, uint64_t pid);

/* Give the line back if pid still owns it. Killed before: the agent does it. */
void rl_member_give(struct rl_member *member, uint64_t pid);

/* The agent: give back the lines of processes that no longer exist. Returns how many. */
uint32_t rl_member_sweep(struct rl_seg *seg);

/* Lines whose owner lives. Of this pid namespace only: an owner of another reads as gone. */
uint32_t rl_member_living(const struct rl_view *view);

/* Does no process have this pid? One of another user's is there, too. */
bool rl_member_is_gone(uint64_t pid);

/* Sum of all lines; each number is exact, together they are a snapshot of a moving thing. */
void rl_member_totals(const struct rl_view *view, struct rl_totals *ret);

/* Count in a line. Relaxed: a number for people, publishes no other memory. */
static inline void rl_member_count(_Atomic uint64_t *counter, uint64_t units)
{
	atomic_fetch_add_explicit(counter, units, memory_order_relaxed);
}

#endif
