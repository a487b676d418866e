/*
 * observe.h - what is published of the keys that are being synced: units that the store does not
 * know of, credit held, and for how long (shm/rl_watch.h).
 *
 * Rooms:  agent/sync/ only.
 */
#ifndef SYNC_OBSERVE_H
#define SYNC_OBSERVE_H

#include <stdint.h>

#include "shm/rl_watch.h"

#define OBSERVE_LOOKS   1024u               /* keys in a tick: some 50 us */
#define OBSERVE_PASS_NS UINT64_C(100000000) /* from one pass to the next, at least */

struct sync;

struct observe {
	uint32_t part, next;                   /* where to look on; 0, 0: a pass begins */
	uint64_t begun_ns;                     /* when the last one did */
	struct rl_watch_sum sum[RL_RULES_MAX]; /* by index */
};

/* Look at some keys, and publish when all have been looked at. Every tick. */
void observe_some(struct sync *sync, uint64_t now_ns);

#endif
