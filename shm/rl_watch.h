/*
 * rl_watch.h - how the promise stands, per rule and host: what the agent publishes of it, and all
 * of it gathered for whoever shows it. One struct for a host and one for a rule, and one function
 * that fills each: `rlctl status` reads them, and so does whatever else is to show these numbers.
 *
 * Rooms:  shm/ and above. Readers need a read-only map, and no agent.
 *
 * What takes a look at each key is counted by the agent, a few keys at a time, and published; its
 * age is told. While no agent does that, rl_watch_count() counts it afresh. What can be told from a
 * few words (states, the bound in force) is never stored for readers: it is worked out when asked.
 */
#ifndef RL_WATCH_H
#define RL_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_bound.h"
#include "shm/rl_rules.h"
#include "shm/rl_shared.h"

#define RL_WATCH_OLD_NS UINT64_C(2000000000) /* numbers that are older than this are nobody's */

/* What a rule's keys hold, added up. */
struct rl_watch_sum {
	uint64_t active;    /* keys that are being synced, or have something to tell */
	uint64_t credit;    /* units that may still be admitted without asking */
	uint64_t untold;    /* units admitted that the store does not know of */
	uint64_t untold_ns; /* how long, at most, the oldest of them; 0 also: not known */
	uint64_t stale_ns;  /* since the oldest last answer to one that waits for one; likewise */
};

struct rl_watch_audit {
	uint32_t one_in; /* 0: none */
	uint64_t keys, admits, windows, fleet_windows;
	uint64_t excess, excess_ppm, lately, lately_ppm; /* units above the limit; of it */
};

struct rl_watch_part {
	enum rl_state state;
	uint64_t silent_ns;   /* how long a call is unanswered; 0: none is */
	uint64_t answered_ns; /* since the last answer; UINT64_MAX: there was none */
	uint64_t lease_ns;    /* how long credit may still be spent; 0: not */
};

/* This host in its fleet. */
struct rl_watch_host {
	uint64_t now_ns;
	bool shared;         /* a redis is configured; else of the rest only state and audit */
	enum rl_state state; /* the worst of all partitions */
	uint32_t hosts;      /* live, at least 1 */
	uint64_t silent_ns, answered_ns; /* the oldest of all partitions */
	struct rl_watch_part part[RL_PARTS];
	bool skew_known;
	int64_t skew_ns; /* the store's clock less this host's CLOCK_REALTIME */
	uint64_t skew_by_ns, skew_age_ns;
	uint64_t steps; /* of the store's clock */
	int64_t step_ns;
	uint64_t step_age_ns;
	uint64_t noted, missed, unkept; /* admits of audited keys: written down, lost, no room */
};

/* One rule on this host. */
struct rl_watch_rule_now {
	uint64_t slots;          /* of its keys, as of the sweep's last pass */
	uint64_t age_ns;         /* of sum; UINT64_MAX: nobody has made it yet */
	struct rl_watch_sum sum; /* all 0 of a local rule */
	struct rl_bound bound;   /* in force now */
	struct rl_watch_audit audit;
};

void rl_watch_read_host(const struct rl_view *view, struct rl_watch_host *ret);

void rl_watch_read_rule(const struct rl_view *view, const struct rl_watch_host *host,
			const struct rl_rule *rule, struct rl_watch_rule_now *ret);

/*
 * Count the sums of all rules afresh by a look at each slot: sum[i] is of rule[i]. For when no
 * agent does it; 20 ms for a million slots.
 */
void rl_watch_count(const struct rl_view *view, const struct rl_named_rule *rule, uint32_t count,
		    struct rl_watch_sum *sum);

/* Add what the open slot of this rule, which hosts share, holds; without ages. */
void rl_watch_add(const struct rl_view *view, uint64_t index, uint64_t head,
		  const struct rl_rule *rule, uint64_t now_ns, struct rl_watch_sum *sum);

/* The agent: publish. The numbers of another rule at that index are emptied first. */
void rl_watch_keys(struct rl_seg *seg, const struct rl_rule *rule, uint64_t slots);
void rl_watch_publish(struct rl_seg *seg, const struct rl_watch_host *host,
		      const struct rl_rule *rule, const struct rl_watch_sum *sum);
void rl_watch_made(struct rl_seg *seg, uint64_t now_ns);

/* Where a rule's audit is published. */
struct rl_watch_rule *rl_watch_of(struct rl_seg *seg, const struct rl_rule *rule);

#endif
