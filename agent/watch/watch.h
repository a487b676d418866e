/*
 * watch.h - the agent observes its own promise: the store's clock, and the audit.
 *
 * Rooms:  agent/main.c, agent/sync/. One thread, the loop's. shm/rl_watch.h has what is published.
 */
#ifndef WATCH_WATCH_H
#define WATCH_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/watch/audit.h"
#include "agent/watch/skew.h"
#include "shm/rl_segment.h"

#define WATCH_TICK_MS 10u
#define WATCH_SKEW_NS INT64_C(500000000) /* more is worth a warning */
#define WATCH_TELL_NS \
	UINT64_C(60000000000) /* one that steps all the time is said once in so long */

struct watch {
	struct rl_seg *seg;
	struct audit *audit;
	struct skew skew;
	uint32_t moves;        /* times that what is known of the store's clock was given up */
	bool skew_warned;      /* and it is still so */
	uint64_t step_told_ns; /* when a step was last said */
};

/* False when there is no memory. */
bool watch_open(struct watch *watch, struct rl_seg *seg);
void watch_close(struct watch *watch);

/* Every WATCH_TICK_MS. */
void watch_tick(struct watch *watch);

/* The store answered a call that was sent at sent_ns (precise clock): it was now_ms there. */
void watch_answer(struct watch *watch, uint64_t sent_ns, uint64_t now_ns, uint64_t now_ms);

#endif
