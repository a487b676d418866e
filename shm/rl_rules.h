/*
 * rl_rules.h - the rules in force, as workers read them and the agent publishes them.
 *
 * Rooms:  shm/ and above. Only the agent (holder of the segment's lock) publishes.
 *
 * Two banks are used in turn: generation g lies in bank g & 1. The agent writes the bank
 * that nobody reads and then stores g + 1. A reader copies what it needs and reads the
 * generation again; if it moved, a reader that was stopped over two reloads may have seen a
 * half-written bank, so it starts over.
 *
 * A rule is known by a 32-bit id that is a hash of its name, on every host and after every
 * restart, and keeps its index as long as it is in force. Both make its handle.
 */
#ifndef RL_RULES_H
#define RL_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_algorithm.h"
#include "shm/rl_fleet.h"
#include "shm/rl_lists.h"
#include "shm/rl_segment.h"
#include "shm/rl_terms.h"

/* What one check needs of its rule. */
struct rl_rule {
	uint32_t id;
	uint32_t index;     /* where it lies, below RL_RULES_MAX */
	uint32_t limit;     /* units a window, 1 .. RL_LIMIT_MAX */
	uint32_t q;         /* units in one group of the ring, for this limit */
	uint32_t fleet;     /* rl_fleet_pack() and RL_RULE_*; rl_rule_is_local(), ..is_plain() */
	uint64_t window_ns; /* RL_WINDOW_MIN_NS .. RL_WINDOW_MAX_NS */
	uint32_t burst;     /* units; 0: not given */
	uint32_t delay;     /* units */
	uint64_t wait_ns;   /* 0 .. RL_WAIT_MAX_NS; clamped by rl_fleet_unpack() */
	/* The rest of a rule with RL_RULE_LISTED or RL_RULE_SHADOW; else anything. */
	uint32_t shadow_ppm; /* of its keys, that are let pass whatever it says */
	uint32_t verdict;    /* enum rl_verdict, of one key: rl_lists_apply() */
	uint32_t until_s;    /* of RL_VERDICT_BLOCK: its end, in seconds of the segment's clock */
	struct rl_lengths lengths;
};

/* The bits of fleet that rl_fleet_pack() leaves. */
#define RL_RULE_INTERPOLATE  (UINT32_C(1) << 19)
#define RL_RULE_GIVEN        (UINT32_C(1) << 20) /* in a segment whose clock is given */
#define RL_RULE_OFF          (UINT32_C(1) << 21) /* switched off: everything passes */
#define RL_RULE_OFF_ALL      (UINT32_C(1) << 22) /* with all the others */
#define RL_RULE_SHADOW       (UINT32_C(1) << 23) /* lets some keys pass whatever it says */
#define RL_RULE_LISTED       (UINT32_C(1) << 24) /* has lists: rl_lists.h */
#define RL_RULE_SPECIAL      (RL_RULE_OFF | RL_RULE_OFF_ALL | RL_RULE_SHADOW | RL_RULE_LISTED)
#define RL_RULE_ALGORITHM_AT 27

/* By the number of a row of rl_algorithm.h; 0: by the sliding window. */
static inline uint32_t rl_rule_algorithm(const struct rl_rule *rule)
{
	return rule->fleet >> RL_RULE_ALGORITHM_AT;
}

/* It limits requests in flight: rl_inflight.h. */
static inline bool rl_rule_in_flight(const struct rl_rule *rule)
{
	return rl_rule_algorithm(rule) == RL_CONCURRENCY;
}

/* A local rule by the sliding window, with nothing else to it. */
static inline bool rl_rule_is_plain(const struct rl_rule *rule)
{
	return rule->fleet == 0;
}

/* Decided by this host's own window, not by credit from Redis. */
static inline bool rl_rule_is_local(const struct rl_rule *rule)
{
	return (rule->fleet & RL_FLEET_CONSISTENCY) == RL_LOCAL;
}

/* Shared without credit: rl_eventual.h. */
static inline bool rl_rule_is_eventual(const struct rl_rule *rule)
{
	return (rule->fleet & RL_FLEET_CONSISTENCY) == RL_EVENTUAL;
}

/* What a new key gets for which the table has no slot. */
enum rl_on_full {
	RL_FULL_POOL = 0,  /* what the rule's pool has left: rl_check_full.c */
	RL_FULL_ALLOW = 1, /* it passes, uncounted */
	RL_FULL_DENY = 2,
};
#define RL_FULLS 3u /* how many */

/* Of the rule with this id; RL_FULL_DENY when there is none. Wait-free. */
uint32_t rl_rules_on_full(const struct rl_view *view, uint32_t id);

/* "pool", "allow", "deny"; "?" for what is none. */
const char *rl_on_full_name(unsigned on_full);

/*
 * Its audit, as rl_audit_code(), of the rule that lies at index under this id; 0 also of none.
 * Wait-free.
 */
uint32_t rl_rules_audit(const struct rl_view *view, uint32_t index, uint32_t id);

struct rl_named_rule {
	char name[RL_NAME_MAX + 1];
	uint32_t index;
	struct rl_rule rule;
};

/* What of a rule is counted in units; 0 of burst and delay: none given. */
struct rl_bucket_terms {
	uint32_t limit, burst, delay;
};

struct rl_rule_spec {
	char name[RL_NAME_MAX + 1];
	struct rl_terms terms;
	struct rl_fleet_terms fleet; /* valid; all zero: a local rule */
	uint8_t algorithm;           /* RL_SLIDING; of a local rule: a row's, or RL_CONCURRENCY */
	bool interpolate;            /* the rest: as rl_algorithm_options() allows it, else 0 */
	uint32_t burst, delay;       /* units, 0 .. RL_LIMIT_MAX */
	uint32_t shadow_ppm;         /* of the keys, 0 .. 1000000: counted, never refused */
	uint8_t audit;               /* rl_audit_code() */
	uint8_t on_full;             /* enum rl_on_full; a concurrency rule has no pool */
	const struct rl_list_item *list; /* [list_count]; of one key the first decides */
	size_t list_count;
};

/*
 * Read the rule of a handle. Returns 0, RL_E_RULE (not in force), or RL_E_BUSY after
 * RL_RULES_TRIES reloads during the read. Wait-free, async-signal-safe.
 */
int rl_rules_read(const struct rl_view *view, uint64_t handle, struct rl_rule *ret);

/* As rl_rules_read(), with what the rule's lists say of a key whose identity is id. */
int rl_rules_read_of(const struct rl_view *view, uint64_t handle, const struct rl_id *id,
		     const void *bytes, size_t len, struct rl_rule *ret);

/* Units in one group of the ring, for the rule's limit. */
uint32_t rl_rules_q(const struct rl_rule *rule);

/* The generation in force. */
uint64_t rl_rules_generation(const struct rl_view *view);

/* Handle of the rule with this name. 0, RL_E_RULE, RL_E_BUSY. */
int rl_rules_find(const struct rl_view *view, const char *name, uint64_t *ret_handle);

/*
 * Copy all rules of one generation, at most RL_RULES_MAX. Returns how many, or RL_E_BUSY.
 */
int rl_rules_list(const struct rl_view *view, struct rl_named_rule ret[RL_RULES_MAX],
		  uint64_t *ret_generation);

/*
 * Put exactly these rules in force. Counts are not touched. Returns 0 and the new
 * generation, or RL_E_RULES (more than RL_RULES_MAX, or two names with one id; *ret_other is
 * then the index of the second), or RL_E_LISTS (more entries of lists than the segment has room
 * for), or RL_E_CLOCK (*ret_other is to be shared by hosts, and the
 * segment's clock is given), and the old rules stay. Killed before the last store: the
 * old rules stay, and the next publish writes the same bank again.
 */
int rl_rules_publish(struct rl_seg *seg, const struct rl_rule_spec *spec, size_t count,
		     size_t *ret_other);

/*
 * The agent: lower the limit, burst and delay of a rule that is in force, in place, where they are
 * higher; and to half those of all overrides. Counts stay; checks go by it from their next reading
 * of the rule on. RL_E_RULE: no such rule. Killed amid: some are lower.
 */
int rl_rules_lower(struct rl_seg *seg, uint32_t id, const struct rl_bucket_terms *most);
void rl_rules_halve_overrides(struct rl_seg *seg);

/*
 * The agent: switch a rule (its id), or all of them (0), off or on again. What is off lets
 * everything pass and counts nothing. Checks that have read the rule finish under the old switch.
 * It stays so when rules are published, and over agents. RL_E_RULE: no such rule.
 */
int rl_rules_switch(struct rl_seg *seg, uint32_t id, bool on);

#endif
