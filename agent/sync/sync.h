/*
 * sync.h - the agent's side of a fleet: brings this host's admits to Redis, and credit back.
 *
 * Rooms:  agent/main.c. One thread, the loop's; Redis is never waited for.
 *
 * Keys are divided into RL_PARTS partitions. In each at most one call is under way; it is kept
 * until it is answered, over losses of the connection and over deaths of this agent (slot.h),
 * and sent again with the same number. An active key is part of a call every interval T of its
 * window, at once (SYNC_GAP_NS apart) when somebody runs short of credit.
 *
 * THREE TIMES after which a missing answer matters
 *   2 T                     nobody waits for credit any longer (rl_shared_waits)
 *   stale_after, 250 ms     the rules' on_unreachable decides (rl_shared_state)
 *   SYNC_LEASE_NS, 5 s      what credit is left may not be spent any more; Redis counts it as
 *                           used after twice that, so no clocks need agree
 */
#ifndef AGENT_SYNC_H
#define AGENT_SYNC_H

#include <event2/event.h>
#include <stdbool.h>

#include "agent/config/config.h"
#include "agent/store/store.h"
#include "shm/rl_segment.h"

#define SYNC_TICK_MS    10u
#define SYNC_GAP_NS     UINT64_C(500000)
#define SYNC_LEASE_NS   UINT64_C(5000000000)
#define SYNC_RECLAIM_MS 10000u
#define SYNC_HELLO_NS \
	UINT64_C(200000000) /* the same in the first SYNC_YOUNG_NS: who else begins? */
#define SYNC_YOUNG_NS UINT64_C(3000000000)
/* A host that was never told N takes none for so long: nothing is admitted blind meanwhile, as
 * the first of several that begin together would take the share of all. */
#define SYNC_SETTLE_NS UINT64_C(500000000)
#define SYNC_ALIVE_NS  UINT64_C(2500000000) /* a partition with nothing to say says so */

struct sync;

/*
 * Begin to sync by this configuration, which has a redis. NULL after logging why not.
 * Everything else happens from the loop.
 */
struct sync *sync_new(struct event_base *base, struct rl_seg *seg, const char *path,
		      const struct agent_config *config);

/* The times in the store's answers are told to watch, which lives longer. */
struct watch;
void sync_watched_by(struct sync *sync, struct watch *watch);

/* The rules have changed. */
void sync_rules_changed(struct sync *sync);

/* Only what their lists say of some keys: credit that was lent stays. */
void sync_lists_changed(struct sync *sync);

/* This host's id in its fleet. */
const char *sync_host(const struct sync *sync);

/* up(arg) is called when the store of what the fleet is told can be asked; before the loop runs. */
void sync_listen(struct sync *sync, void (*up)(void *arg), void *arg);

/* May sync_control() be called? */
bool sync_can_control(const struct sync *sync);

/* As store_control(), of this host. */
int sync_control(struct sync *sync, const void *bytes, size_t size, store_fn *fn, void *arg);

/*
 * What the fleet was told is known here. After an outage no new call is put together before that,
 * or for a second: units that were to be forgotten would be told.
 */
void sync_heard(struct sync *sync);

/* Stop. What is under way stays in the segment for the next agent. NULL is fine. */
void sync_free(struct sync *sync);

/*
 * May the sweep free this idle slot? Not before its units are reported and its credit is given
 * back, as long as Redis can be told; sync NULL: no fleet, always.
 */
bool sync_may_free(struct sync *sync, uint64_t index);

#endif
