/*
 * tally.h - what the audit has found of each rule: the most there ever was, and of late.
 *
 * Rooms:  agent/watch/ only.
 *
 * The most since the segment was made is kept in the segment (shm/rl_watch.h), so it outlives the
 * agent; what is of late is the agent's own.
 */
#ifndef WATCH_TALLY_H
#define WATCH_TALLY_H

#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

#define TALLY_PARTS   7u /* of TALLY_PART_NS: the one that goes on, and a minute before it */
#define TALLY_PART_NS UINT64_C(10000000000)

struct tally_part {
	uint64_t number; /* of the part of time */
	uint64_t excess, ppm;
};

struct tally {
	struct rl_seg *seg;
	struct {
		uint32_t id;
		struct tally_part part[TALLY_PARTS];
	} rule[RL_RULES_MAX]; /* by index */
};

/* A window of a key of this rule, whose limit is limit, held most units. */
void tally_window(struct tally *tally, const struct rl_rule *rule, uint64_t limit, uint64_t most,
		  uint64_t now_ns);

/* Publish what is of late, of all rules: it falls as well. */
void tally_lately(struct tally *tally, const struct rl_rule *rule, uint64_t now_ns);

#endif
