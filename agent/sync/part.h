/*
 * part.h - one partition's call to the store: put together, sent, sent again, answered.
 *
 * Rooms:  agent/sync/ only.
 */
#ifndef SYNC_PART_H
#define SYNC_PART_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/store/store.h"
#include "agent/sync/active.h"
#include "agent/sync/identity.h"
#include "agent/sync/load.h"
#include "agent/sync/observe.h"
#include "agent/sync/say.h"
#include "agent/watch/watch.h"
#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

#define RETRY_NS      UINT64_C(100000000)   /* after an error of the server */
#define COMPLAIN_NS   UINT64_C(60000000000) /* the same trouble is said again */
#define PART_GRACE_NS UINT64_C(200000000)   /* two of the longest intervals */
#define LOST_GRACE_NS UINT64_C(750000000)   /* in which all have found a failover, and told */

struct sync_part {
	struct sync *sync;
	uint32_t number;
	bool in_flight; /* a call waits for its answer; kept over losses of the connection */
	bool refused;   /* the server answered it with an error: again at retry_ns */
	bool backlog;   /* more keys were due than one call takes */
	uint32_t cursor, early; /* where to look on for keys that are due, and that soon will be */
	uint32_t turns;         /* of the call, from one server to another, without a pause */
	uint32_t serial;        /* of the call as sent: an answer to another is not for us */
	uint64_t sent_ns;       /* when something was last sent; also again */
	uint64_t retry_ns;
	uint64_t back_ns;        /* when answers came again after an outage */
	uint64_t grace_ns;       /* how long then nothing is asked for */
	bool unchained;          /* the store is known not to know the call before: it is told so */
	uint64_t full_since_ns;  /* each call has been full since then; 0: the last was not */
	uint64_t alone_until_ns; /* one key a call until then */
	uint32_t count;
	uint64_t batch[SYNC_BATCH_MAX]; /* slots of the call */
	uint32_t wanted_count;
	uint64_t wanted[SYNC_BATCH_MAX]; /* slots that run short; more than that: backlog */
};

struct sync {
	struct event_base *base;
	struct rl_seg *seg;
	struct store *store;
	struct bell *bell;
	struct waiters *waiters; /* NULL: nobody can be told */
	struct watch *watch;     /* NULL: nobody wants to know of answers' times */
	struct observe observe;
	struct event *tick, *gap;
	struct identity identity;
	struct sync_active active;
	struct lost_log *log;
	struct load load;
	char at[STORE_WHERE]; /* where the store was up last; empty: nowhere yet */
	struct {
		uint64_t since_ns; /* when it was found; 0: there is none to be told of */
		uint64_t parts, calls, units;
		bool in_part; /* not all that was lost is known */
	} lost;
	struct sync_part part[RL_PARTS];
	const char *why; /* it cannot begin */
	uint32_t ticks;
	uint64_t began_ns, round_trip_ns, suspend_ns;
	uint64_t told_other_ns, told_error_ns, told_clash_ns; /* when it was last said */
	struct sync_said said;                                /* of the connection */
	struct store_server server;                           /* of the last connection */
	void (*listener)(void *arg);
	void *listener_arg;
	uint64_t lost_ns; /* since when partition 0 is down; 0: it is up */
	uint64_t hold_ns; /* until then no new call is put together */
	bool whole;       /* the next look at the dirty bits is at all of them */
	bool totals;
	struct {
		uint32_t hosts; /* the most that were seen lately: untold.h */
		uint64_t seen_ns;
	} shared_by;
	uint32_t rule_count; /* sorted by id */
	struct rl_named_rule rule[RL_RULES_MAX];
};

/* The partition's words in the segment. */
static inline struct rl_part *sync_words(const struct sync_part *part)
{
	return &part->sync->seg->fleet->part[part->number];
}

/* The rule of a slot, shared or not, or NULL. */
const struct rl_named_rule *sync_rule_of(const struct sync *sync, uint64_t index);

/*
 * Put together and send what is due; all: not only who runs short. When that comes too soon
 * after the last call, the gap's timer is set.
 */
void part_pump(struct sync_part *part, bool all);

/* This slot runs short. */
void part_want(struct sync_part *part, uint64_t index);

/* A nonce of its own for the first call. */
void part_init(struct sync *sync, uint32_t number);

/* The connection is up again: send the call under way once more. */
void part_resend(struct sync_part *part);

/* A new agent: make the call out of what the slots say is under way, which may be nothing. */
void part_recover(struct sync_part *part, const uint64_t *slot, uint32_t count);

/* No answers come: since now, if not for longer. */
void part_silent(struct sync_part *part);

/*
 * The connection is up again. One that was lost for a moment has cost a partition with nothing
 * under way nothing: it need not say so, or where connections are lost all the time each of them
 * would first hear from all partitions.
 */
void part_reached(struct sync_part *part);

/* Has it just come back from an outage? Then calls tell, and ask for nothing. */
bool part_in_grace(const struct sync_part *part);

/* The grace is over: fresh again. Nothing happens when there was none. */
void part_end_grace(struct sync_part *part);

/* All credit of this partition whose lease has lapsed is taken away. */
void part_drop_lapsed(struct sync_part *part);

/* The identity was used by another host: drop the call, begin anew. */
void sync_renew(struct sync *sync);

/* rules.c: read them, of a new agent. */
void rules_read(struct sync *sync);

/* The partition of a slot's key. */
uint32_t sync_part_of(const struct sync *sync, uint64_t index);

/*
 * takeover.c: take up what an agent before us left; forget: under another identity, so that
 * calls under way are not repeated.
 */
void takeover(struct sync *sync, bool forget);

#endif
