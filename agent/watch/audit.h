/*
 * audit.h - keeps an exact log of the keys that are audited, and measures what their windows held.
 *
 * Rooms:  agent/main.c and agent/watch/; agent/sync/ for the fleet's. One thread, the loop's.
 *
 * What is kept of each key follows from the notes of who admitted (shm/rl_audit.h), and from
 * nothing that any algorithm goes by. A rule whose terms change begins anew with all its keys: what
 * was admitted under the old ones is not held against the new ones.
 *
 * Bounded: AUDIT_KEYS keys of LOG_MOST spans each; notes of further keys are counted as not kept.
 */
#ifndef WATCH_AUDIT_H
#define WATCH_AUDIT_H

#include "agent/watch/log.h"
#include "agent/watch/tally.h"
#include "shm/rl_audit.h"
#include "shm/rl_rules.h"

#define AUDIT_KEYS     1024u
#define AUDIT_LOOKS    64u                  /* keys judged in a tick */
#define AUDIT_JUDGE_NS UINT64_C(100000000)  /* a key, at most so often */
#define AUDIT_TELL_NS  UINT64_C(1000000000) /* what is of late is published */

struct audit_key {
	uint64_t index; /* its slot */
	uint32_t id;    /* rl_audit_id() */
	uint32_t made;  /* of all keys there ever were, which: who asks again knows it by this */
	struct rl_rule rule;     /* with what its lists say of the key */
	uint64_t since_ns;       /* admits that began before count for nothing */
	uint64_t judged_ns;      /* when it was last judged */
	uint64_t young_ns;       /* the first end that was not judged yet; 0: all were */
	uint64_t seen_ns;        /* when it was last admitted */
	uint64_t told_ns;        /* when the other hosts were last told of it */
	bool asked;              /* and have not answered yet */
	bool reset;              /* it has been forgotten since then */
	uint32_t moves;          /* of the store's clock that the next two know of */
	uint64_t fleet_since_us; /* of the store's clock: what began before is not judged */
	uint64_t fleet_until_us; /* windows that end before have been judged */
	struct key_log log;
};

struct audit {
	struct rl_seg *seg;
	struct rl_audit_reader reader;
	uint64_t generation; /* of the rules */
	uint32_t rule_count; /* sorted by id */
	struct rl_named_rule rule[RL_RULES_MAX];
	struct tally tally;
	uint32_t key_count, made;
	uint32_t next;  /* to be judged */
	uint32_t shown; /* to other hosts: where to look first */
	uint64_t lately_ns;
	struct audit_key key[AUDIT_KEYS];
	uint16_t where[4 * AUDIT_KEYS]; /* by slot: 1 + place in key; 0 ends a search */
	struct log_span scratch[LOG_MOST];
};

/* NULL when there is no memory. What was noted before is not taken. */
struct audit *audit_new(struct rl_seg *seg);
void audit_free(struct audit *audit);

/* Take what was noted, judge some keys, and publish. Every 10 ms or so. */
void audit_tick(struct audit *audit);

/* The key of a slot, or NULL. Good until the next tick. */
struct audit_key *audit_find(struct audit *audit, uint64_t index);

/* So many windows of all hosts were judged; the most that one held. */
void audit_fleet(struct audit *audit, const struct audit_key *key, uint64_t judged, uint64_t most);

/* How long admits of a key are kept: two windows, and until all hosts have told of them. */
uint64_t audit_keep_ns(uint64_t window_ns);

#endif
