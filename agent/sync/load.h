/*
 * load.h - when the store or this agent cannot follow, keys are told less often, in a stated order.
 *
 *	level 0        each key in its interval T
 *	level 1 .. 3   keys far from their limit every 2, 4, 8 T
 *	level 4 .. 6   those every 16, 32, 64 T, all others every 2, 4, 8 T
 *
 * never more seldom than 8 times a window or once a second, if that is more than T. Who runs
 * short of credit asks at once, as ever, and goes first in each call. What is admitted stays
 * within the same bounds: credit is lent, and blind shares are of any age. When nothing is
 * answered at all, the rules' on_unreachable is the last step.
 *
 * A level more after LOAD_WORSE_NS of trouble: calls that take several times what the store's
 * quickest take, or calls of a partition that are full one after the other. A level less after
 * LOAD_BETTER_NS without. Keys keep the times at which they are due, so nothing comes at once.
 *
 * Rooms:  agent/sync/ only. The agent's own memory; the level is published in rl_fleet.slowed.
 */
#ifndef SYNC_LOAD_H
#define SYNC_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_fleet.h"

#define LOAD_LOOK_NS   UINT64_C(100000000)
#define LOAD_WORSE_NS  UINT64_C(200000000)
#define LOAD_BETTER_NS UINT64_C(500000000)
#define LOAD_SLOW_NS   UINT64_C(8000000) /* a call that takes less is never slow */

struct sync;

struct load {
	uint32_t level;
	uint64_t looked_ns;
	uint64_t took_ns;      /* of a call, smoothed */
	uint64_t best_ns;      /* of the quickest, which is forgotten in minutes; 0: none yet */
	uint64_t bad_since_ns; /* 0: not now */
	uint64_t well_since_ns;
	uint64_t said_ns; /* when it was last logged */
	bool slow;        /* why it is bad: slow calls, else full ones */
};

/* A call was answered after so long. */
void load_answered(struct load *load, uint64_t took_ns);

/* Raise or lower the level. At any time; every LOAD_LOOK_NS it counts. */
void load_look(struct sync *sync, uint64_t now_ns);

/* What T is made of a key with such a window. far: from its limit. */
uint64_t load_interval_ns(const struct load *load, uint64_t interval_ns, uint64_t window_ns,
			  bool far);

#endif
