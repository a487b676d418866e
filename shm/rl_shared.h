/*
 * rl_shared.h - one try of a check whose limit is shared with other hosts: credit first, then
 * what the rule says about a host that has none, or that cannot reach the fleet.
 *
 * Rooms:  shm/: the shared half of rl_check.c. The state and its figures: everywhere.
 *
 *   credit enough, its lease alive   move it to the count (one CAS): admitted
 *   fresh, told to come back later   refused until then: the fleet's window is full
 *   fresh, none                      ask; wait if the caller may (RL_TRY_SHORT); else the
 *                                    rule's no_credit: a bounded debt, or a refusal
 *   stale or alone                   the rule's on_unreachable
 *   fresh, the rule is eventual      no credit: what the fleet held at the last answer decides,
 *                                    rl_eventual.h
 *
 * An admit here stamps the ring as any other, so that the host's own window is right at once
 * when it must decide alone, and it never skips numbers: n minus what is acknowledged is what
 * Redis has still to be told.
 */
#ifndef RL_SHARED_H
#define RL_SHARED_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_rules.h"
#include "shm/rl_window.h"

#define RL_TRY_SHORT 4 /* no credit now; the caller may wait for some and try again */

#define RL_ALONE_NS UINT64_C(1000000000) /* an older heartbeat means: no agent */

/* How far an answer can be trusted, and who gave it; the values of client/rl.h. */
enum rl_state { RL_FRESH = 0, RL_STALE = 1, RL_ALONE = 2 };
enum rl_decided {
	RL_DECIDED_WINDOW = 0,
	RL_DECIDED_CREDIT = 1,
	RL_DECIDED_NO_CREDIT = 2,
	RL_DECIDED_POLICY = 3,
	RL_DECIDED_BLOCK = 4,
	RL_DECIDED_LIST = 5,
	RL_DECIDED_SHADOW = 6,
	RL_DECIDED_OFF = 7,
	RL_DECIDED_POOL = 8,
	RL_DECIDED_FULL = 9
};

struct rl_shared_ask {
	uint64_t index;
	uint64_t head; /* read before everything else */
	const struct rl_rule *rule;
	const struct rl_window_terms *terms; /* counted */
	uint32_t cost;                       /* 1 .. terms->limit */
	uint64_t now_ns;                     /* the slot's clock, read after head */
	uint64_t wait_ns;                    /* how long the caller may still wait; 0: not at all */
	bool ring;  /* ask the agent: for each first try, and each that follows a turn */
	bool asked; /* this call has asked already: its cost is in the slot's demand */
};

struct rl_shared_answer {
	struct rl_window_answer window; /* remaining: credit left */
	enum rl_state state;
	enum rl_decided by;
	bool asked; /* this try has added the cost to the slot's demand */
};

/*
 * One try. RL_TRY_ALLOWED, RL_TRY_LIMITED, RL_TRY_AGAIN, RL_TRY_AHEAD, RL_TRY_SHORT.
 * Lock-free but for a wake of the agent when it sleeps; async-signal-safe. Killed anywhere: at
 * most the cost is counted and not admitted, or is in the slot's demand or debt.
 */
int rl_shared_try(struct rl_seg *seg, const struct rl_shared_ask *ask,
		  struct rl_shared_answer *ret);

/* What a try would answer now, without writing: RL_TRY_ALLOWED or RL_TRY_LIMITED. */
int rl_shared_look(const struct rl_view *view, const struct rl_shared_ask *ask,
		   struct rl_shared_answer *ret);

/* May callers wait at all, or has an answer been missing for two sync intervals already? */
bool rl_shared_waits(const struct rl_view *view, const struct rl_slot *slot, uint64_t window_ns,
		     uint64_t now_ns);

/* The host's state for one partition of keys. */
enum rl_state rl_shared_state(const struct rl_view *view, uint32_t part, uint64_t now_ns);

/* Interval between two syncs of an active key, as configured or by its window. */
uint64_t rl_shared_interval_ns(const struct rl_view *view, uint64_t window_ns);

/* Live hosts of the fleet, as this host was last told; 0 = never. */
uint32_t rl_shared_hosts(const struct rl_view *view);

/* Units that one host alone may admit in a window, its fair share; at least 1 for bounded. */
uint64_t rl_shared_share(uint32_t limit, const struct rl_fleet_terms *fleet, uint64_t hosts);

#endif
