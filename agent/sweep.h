/*
 * sweep.h - the agent's walk over the table: give back idle slots, re-base changed ones.
 *
 * The table is walked in small slices from a timer, so that a heartbeat is never late. A
 * whole pass takes SWEEP_CALM_MS, or SWEEP_BUSY_MS when the table is more than three
 * quarters full or the lines for keys in flight more than one, the rules have just changed, or a
 * slot of a window below 10 s still waits for the smaller groups of a lowered limit.
 */
#ifndef AGENT_SWEEP_H
#define AGENT_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

#define SWEEP_SLICE_MS 10u
#define SWEEP_CALM_MS  10000u
#define SWEEP_BUSY_MS  500u

#define SWEEP_SUSPECTS 4096u

struct sweep {
	struct rl_seg *seg;
	bool (*may_free)(void *arg, uint64_t index); /* an idle slot; NULL: always */
	void *may_free_arg;
	uint64_t next;       /* slot the next slice begins with */
	uint64_t used;       /* slots not free, counted in this pass */
	uint64_t damaged;    /* slots with words nobody writes, in this pass */
	bool pressed;        /* the table is nearly full, and that was said */
	bool holds_short;    /* inflight_pass(): lines for keys in flight are wanted */
	bool hurry;          /* this pass left a slot of a short window for the next one */
	bool settles;        /* it looks which keys are audited: rl_audit.h */
	uint32_t pass_ms;    /* of the pass that is under way */
	uint32_t rule_count; /* rules in force, sorted by id */
	struct rl_rule rule[RL_RULES_MAX];
	uint64_t keys[RL_RULES_MAX]; /* slots of each, in this pass; by index */
	struct {
		uint64_t index, head, since_ns;
	} suspect[SWEEP_SUSPECTS]; /* unfinished claims, by index modulo the size */
};

void sweep_init(struct sweep *sweep, struct rl_seg *seg);

/* The rules have changed: read them, and begin a quick pass that re-bases what they touch. */
void sweep_rules_changed(struct sweep *sweep);

/* Only what their lists say of some keys. */
void sweep_lists_changed(struct sweep *sweep);

/* Walk one slice; call every SWEEP_SLICE_MS. */
void sweep_slice(struct sweep *sweep);

/* Visit one slot as a pass does: for tests. */
void sweep_slot(struct sweep *sweep, uint64_t index, uint64_t now_ns);

#endif
