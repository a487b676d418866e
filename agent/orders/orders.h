/*
 * orders.h - what operators have told this host and its fleet, and the pushed set of rules: kept,
 * shared with the other agents, and put in force.
 *
 * Rooms:  agent/main.c, agent/command.c. On the loop's thread; no call waits for Redis.
 *
 * THREE DOCUMENTS
 *   local    orders for this host alone: all there are without a fleet, else those with --local
 *   orders   the fleet's, swapped in its store (agent/store/control.h), as
 *   rules    the pushed set of rules is
 *
 * All three are kept in a file as well (keep.c), so that they hold when an agent starts while the
 * store cannot be reached, and so that what a store has lost comes back from the agents.
 *
 * A document is taken as a whole or not at all: what of it this host cannot put in force leaves the
 * one before it in force, is logged, and shows in the tip that this host reports. Blocks and
 * temporary limits go into the segment's lists with their ends, so they hold without any agent.
 */
#ifndef ORDERS_ORDERS_H
#define ORDERS_ORDERS_H

#include <event2/event.h>

#include "agent/config/config.h"
#include "agent/orders/order.h"
#include "shm/rl_segment.h"

#define ORDERS_ASK_MS 400 /* between two looks at what the fleet is told */

struct orders;
struct sync;

/*
 * Put these rules, lists and all, in force. rules: they are others; else only what their lists say
 * is. False after logging why not: the old ones stay.
 */
typedef bool orders_publish_fn(void *arg, const struct agent_config *config, bool rules);

/*
 * Read what was kept. config is the host's own, and is to outlive it; it is read again whenever
 * something changes. NULL: no memory.
 */
struct orders *orders_open(const struct agent_config *config, orders_publish_fn *publish,
			   void *arg);

/* What is to be in force now: config with the pushed rules and the orders. Good until the next
 * call. */
const struct agent_config *orders_config(struct orders *orders);

/*
 * The segment is there, orders_config() in force. sync NULL: there is no fleet. anew: the segment
 * was just made, perhaps from a snapshot. False: no memory.
 */
bool orders_begin(struct orders *orders, struct event_base *base, struct rl_seg *seg,
		  struct sync *sync, bool anew);

/* The host's own configuration has other rules now: put them in force, or say that a pushed set is.
 * False after logging why not. */
bool orders_reload(struct orders *orders);

/* No more will be done: commands that are under way are answered. NULL is fine. */
void orders_end(struct orders *orders);

/* After the sync. NULL is fine. */
void orders_free(struct orders *orders);

enum orders_verb { ORDERS_PUT, ORDERS_DROP, ORDERS_PUSH, ORDERS_CLEAR, ORDERS_ROLLBACK };

/* What somebody commands. */
struct orders_command {
	enum orders_verb verb;
	struct order order;      /* ORDERS_PUT, ORDERS_DROP; at and until are not filled in */
	uint64_t for_ms;         /* ORDERS_PUT of what has an end: so long */
	const char *text, *name; /* ORDERS_PUSH: a configuration, and what to call it in messages */
	int64_t uid;
	bool local, wait;
};

/* What became of it. */
struct orders_result {
	const char *error;   /* NULL: done */
	int code;            /* of a library's error; else 0 */
	bool fleet;          /* the fleet was told, not this host alone */
	uint64_t version;    /* of the fleet's document */
	uint32_t live, have; /* agents that live, and that go by this version already */
	const char *note;    /* worth to be known; or NULL */
};

typedef void orders_done_fn(void *arg, const struct orders_result *result);

/* done is called once: perhaps before this returns, at the latest when orders are freed. */
void orders_command(struct orders *orders, const struct orders_command *command,
		    orders_done_fn *done, void *arg);

/* All that stands, for people: a list of orders, each with "local" if it is this host's alone. */
json_t *orders_list(struct orders *orders);

/* Where the rules come from: {"from": "file"} or {"from": "push", "version": .., "text": ..}. */
json_t *orders_rules(struct orders *orders);

#endif
