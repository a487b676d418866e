/*
 * fleet.h - what a segment tells of its fleet: Redis, the other hosts, how each rule is shared.
 *
 * Everything in a segment was written by somebody else: text is made printable when it is
 * read, numbers are clamped where they are used.
 */
#ifndef TOOLS_FLEET_H
#define TOOLS_FLEET_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_rules.h"
#include "shm/rl_shared.h"
#include "tools/tool.h"

#define FLEET_TEXT       256 /* bytes for the words about one rule */
#define FLEET_OTHER_TEXT (32 * 8 + 1)
#define FLEET_STORE_TEXT (24 * 8 + 1)
#define FLEET_NODE_TEXT  (RL_NODE_WORDS * 8 + 1)

struct fleet {
	bool shared;         /* a redis is configured; else only state is filled */
	bool redis_up;       /* connected now */
	enum rl_state state; /* the worst of all partitions */
	uint32_t hosts;      /* live, this one included; at least 1 */
	uint64_t since_ns;   /* how long redis_up is as it is */
	uint64_t round_trip_ns;
	uint64_t slowed;    /* a level, rl_slowed_far(); 0: not */
	uint64_t silent_ns; /* age of the oldest unanswered call; 0 = none is under way */
	char name[RL_NAME_MAX + 1];
	char host[RL_NAME_MAX + 1];
	uint64_t calls, resends, keys, granted, returned, dropped, clashes;
	uint64_t orders, orders_version, orders_hosts, orders_live; /* what was ordered */
	uint64_t rules_version, rules_wanted, rules_hosts;          /* of pushed rules */
	uint64_t other_age_ns;        /* since another host used our id; 0 = not lately */
	char other[FLEET_OTHER_TEXT]; /* which */
	char store[FLEET_STORE_TEXT]; /* what has the counts, and where; may be empty */
	uint32_t nodes;               /* servers that have them, RL_PARTS at most */
	struct {
		char where[FLEET_NODE_TEXT];
		bool up;
		uint32_t parts; /* as bits */
	} node[RL_PARTS];
};

void fleet_read(const struct rl_view *view, struct fleet *ret);

/* Something is wrong: Redis is down or silent, or another host has this one's id. */
bool fleet_finding(const struct fleet *fleet);

/* The lines of `rlctl status`, for a fleet that is shared. */
void fleet_print(const struct fleet *fleet, const struct tool *tool, uint64_t agent_pid);

/* Put "redis", "fleet" and "sync" into all: objects, or null when nothing is shared. */
void fleet_json(const struct fleet *fleet, json_t *all);

/* What was ordered stands: a line of `rlctl status`; nothing when nothing does. */
void fleet_print_orders(const struct fleet *fleet);

/* "pushed version 7 (on 2 of 3 live hosts)", between those; nothing when none was. */
void fleet_print_pushed(const struct fleet *fleet, const char *before, const char *after);

/* Put "orders" and "rules_from" into all. */
void fleet_json_orders(const struct fleet *fleet, json_t *all);

/* The most that any window of one key may hold: of all hosts while fresh, or of this one. */
uint64_t fleet_bound(const struct fleet *fleet, const struct rl_rule *rule);

/* The bound in force: "strict: at most 100 of all hosts", "share: this host admits 33 of 100". */
char *fleet_in_force(const struct fleet *fleet, const struct rl_rule *rule, char text[FLEET_TEXT]);

/* A rule's limit: "100/minute", or "20 in flight". */
char *fleet_limit(const struct rl_rule *rule, char text[RL_TERMS_TEXT]);

/* How a rule is shared, in the words of a configuration: "strict, on_unreachable closed". */
char *fleet_sharing(const struct rl_rule *rule, char text[FLEET_TEXT]);

/* The same as members of a rule's JSON object. */
void fleet_sharing_json(const struct rl_rule *rule, json_t *object);

/* "fresh", "stale", "alone". */
const char *fleet_state_name(unsigned state);

#endif
