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

#include "shm/rl_fleet.h"
#include "shm/rl_segment.h"
#include "shm/rl_terms.h"

/* What one check needs of its rule. */
struct rl_rule {
	uint32_t id;
	uint32_t limit;     /* units a window, 1 .. RL_LIMIT_MAX */
	uint32_t q;         /* units in one group of the ring, for this limit */
	uint32_t fleet;     /* rl_fleet_pack() and RL_RULE_*; rl_rule_is_local(), ..is_plain() */
	uint64_t window_ns; /* RL_WINDOW_MIN_NS .. RL_WINDOW_MAX_NS */
	uint32_t burst;     /* units; 0: not given */
	uint32_t delay;     /* units */
	uint64_t wait_ns;   /* 0 .. RL_WAIT_MAX_NS; clamped by rl_fleet_unpack() */
};

/* The bits of fleet that rl_fleet_pack() leaves. */
#define RL_RULE_INTERPOLATE  (UINT32_C(1) << 19)
#define RL_RULE_GIVEN        (UINT32_C(1) << 20) /* in a segment whose clock is given */
#define RL_RULE_ALGORITHM_AT 27

/* By the number of a row of rl_algorithm.h; 0: by the sliding window. */
static inline uint32_t rl_rule_algorithm(const struct rl_rule *rule)
{
	return rule->fleet >> RL_RULE_ALGORITHM_AT;
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

struct rl_named_rule {
	char name[RL_NAME_MAX + 1];
	uint32_t index;
	struct rl_rule rule;
};

struct rl_rule_spec {
	char name[RL_NAME_MAX + 1];
	struct rl_terms terms;
	struct rl_fleet_terms fleet; /* valid; all zero: a local rule */
	uint8_t algorithm;           /* RL_SLIDING, or a row's number: of a local rule only */
	bool interpolate;            /* the rest: as rl_algorithm_options() allows it, else 0 */
	uint32_t burst, delay;       /* units, 0 .. RL_LIMIT_MAX */
};

/*
 * Read the rule of a handle. Returns 0, RL_E_RULE (not in force), or RL_E_BUSY after
 * RL_RULES_TRIES reloads during the read. Wait-free, async-signal-safe.
 */
int rl_rules_read(const struct rl_view *view, uint64_t handle, struct rl_rule *ret);

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
 * then the index of the second), or RL_E_CLOCK (*ret_other is to be shared by hosts, and the
 * segment's clock is given), and the old rules stay. Killed before the last store: the
 * old rules stay, and the next publish writes the same bank again.
 */
int rl_rules_publish(struct rl_seg *seg, const struct rl_rule_spec *spec, size_t count,
		     size_t *ret_other);

#endif
