/*
 * rl_member.h - the statistics of one attached process, by rule; and their sums.
 *
 * Rooms:  shm/ and above.
 *
 * A member is taken by CAS of its owner word and given back by its process when it detaches,
 * or by the agent when the process is gone. Its numbers are never set back, so the sum over
 * all members is the host's total since the segment was made. Two processes in one (all are
 * taken, or a process is taken for dead that is not) are slower, never wrong.
 *
 * A rule's numbers lie at its index. When another rule comes to that index, what was counted there
 * is noted (struct rl_before) and left out of that rule's sums; it stays in the totals. So nothing
 * that a worker counts in is ever written by anybody else, and a kill loses and doubles nothing. A
 * check that has read the old rule and counts after that counts for the new one: one for each
 * thread, at most.
 */
#ifndef RL_MEMBER_H
#define RL_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_cold.h"
#include "shm/rl_segment.h"

/* Of one rule, or of all together. */
struct rl_rule_totals {
	uint64_t allowed;  /* units */
	uint64_t limited;  /* checks */
	uint64_t shadowed; /* checks, of limited */
	uint64_t errors;   /* checks */
	uint64_t near;     /* checks, of those admitted */
	uint64_t pooled;   /* checks */
	uint64_t refunded; /* units, of allowed */
};

struct rl_totals {
	uint64_t allowed; /* units */
	uint64_t limited; /* checks */
	uint64_t errors;  /* checks; of no rule that is in force, too */
	uint64_t full;
	uint64_t mended;
	uint64_t claims;
	uint32_t members;           /* with an owner */
	struct rl_rule_totals rule; /* of all rules there ever were */
	uint64_t latency[RL_LATENCY_BUCKETS];
};

/* Take a member for process pid (> 0). Always returns one, the shared one if it must. */
struct rl_member *rl_member_take(struct rl_seg *seg, uint64_t pid);

/* Give it back if pid still owns it. Killed before: the agent does it. */
void rl_member_give(struct rl_member *member, uint64_t pid);

/* The agent: give back those of processes that no longer exist. Returns how many. */
uint32_t rl_member_sweep(struct rl_seg *seg);

/* Members whose owner lives. Of this pid namespace only: an owner of another reads as gone. */
uint32_t rl_member_living(const struct rl_view *view);

/* Does no process have this pid? One of another user's is there, too. */
bool rl_member_is_gone(uint64_t pid);

/* Sum of all members; each number is exact, together they are a snapshot of a moving thing. */
void rl_member_totals(const struct rl_view *view, struct rl_totals *ret);

/* The same of the rule with this index and id, since it first came: all zero when it is not there.
 */
void rl_member_rule_totals(const struct rl_view *view, uint32_t index, uint32_t id,
			   struct rl_rule_totals *ret);

/* The rule whose numbers those at the index are; 0: of none yet. index < RL_RULES_MAX, as below. */
uint32_t rl_member_rule_at(const struct rl_view *view, uint32_t index);

/* The agent, before it puts the rule in force there. */
void rl_member_rule_comes(struct rl_seg *seg, uint32_t index, uint32_t id);

/* Checks that were timed. */
uint64_t rl_member_timings(const struct rl_totals *totals);

/* ns that a part (0.5: half; 1: all) of the checks that were timed took less than; 0: none was. */
uint64_t rl_member_latency(const struct rl_totals *totals, double part);

/* Count. Relaxed: a number for people, publishes no other memory. */
static inline void rl_member_count(_Atomic uint64_t *counter, uint64_t units)
{
	atomic_fetch_add_explicit(counter, units, memory_order_relaxed);
}

/*
 * Count a check's answer, and now and then have the next one timed: when a hash of what was counted
 * before is below one part of its range, which every RL_LATENCY_ONE_IN-th is, whatever the costs.
 */
static inline void rl_member_answered(struct rl_seg *seg, _Atomic uint64_t *counter, uint32_t units)
{
	uint64_t old = atomic_fetch_add_explicit(counter, units, memory_order_relaxed);

	/* Relaxed: whoever sees it is timed. */
	if (RL_RARELY((uint32_t)old * UINT32_C(2654435769) + UINT32_C(0x5bd1e995) <
		      UINT32_MAX / RL_LATENCY_ONE_IN)) /* not the first check of every process */
		atomic_store_explicit(&seg->timed, 1, memory_order_relaxed);
}

static inline void rl_member_limited(struct rl_seg *seg, struct rl_counts *rule)
{
	rl_member_answered(seg, &rule->limited, 1);
}

/* Admitted, and so many units of most are left. */
static inline void rl_member_allowed(struct rl_seg *seg, struct rl_counts *rule, uint32_t cost,
				     uint32_t left, uint32_t most)
{
	if ((uint64_t)left * 10 < most)
		rl_member_count(&rule->near, 1);
	rl_member_answered(seg, &rule->allowed, cost);
}

/* Is the check that now begins to be timed? */
static inline bool rl_member_is_timed(const struct rl_seg *seg)
{
	return atomic_load_explicit(&seg->timed, memory_order_relaxed) != 0; /* as above */
}

/* Then it begins; and has been answered. The two readings of the clock are in it by half. */
uint64_t rl_member_time(struct rl_seg *seg);
void rl_member_timed(struct rl_member *member, uint64_t begun_ns);

#endif
