/*
 * keeper.h - what an agent does to a segment under traffic: new limits, and the sweep.
 *
 * In place of the agent's program, so that limits change and slots are re-based and freed some
 * hundred times in a few seconds.
 */
#ifndef BENCH_WINDOW_KEEPER_H
#define BENCH_WINDOW_KEEPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_segment.h"

enum { KEEPER_CHANGES_MAX = 4096, KEEPER_LIMITS_MAX = 16 };

/* The limits were multiplied by parts / 12 (at least 1), between two readings. */
struct change {
	uint64_t before_ns, after_ns;
	uint32_t parts;
};

struct keeper {
	struct rl_seg *seg;
	const uint32_t *limit; /* rules l<limit> and s<limit> (a twelfth) stay, c<limit> changes */
	size_t limits;
	uint64_t window_ns;
	uint64_t seed;
	pthread_t thread;
	_Atomic uint32_t stop;
	struct change change[KEEPER_CHANGES_MAX];
	size_t changes;
};

/* The limit of rule c<limit> after a change by parts; that of s<limit>. */
uint32_t keeper_limit(uint32_t limit, uint32_t parts);
uint32_t keeper_second(uint32_t limit);

/* Publish the rules and start: a change every 0.5 to 2 W, every slot visited each 10 ms. */
void keeper_start(struct keeper *keeper, struct rl_seg *seg, const uint32_t *limit, size_t limits,
		  uint64_t window_ns, uint64_t seed);
void keeper_stop(struct keeper *keeper);

/*
 * Did a check with this call (before it, after it) go by limit, of a rule c<base>? Only a call
 * during a change may go by either.
 */
bool keeper_allows(const struct keeper *keeper, uint32_t base, uint64_t begin_ns, uint64_t end_ns,
		   uint32_t limit);

#endif
