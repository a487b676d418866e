/*
 * rules.h - the rules that the victims check and move about: one of each way to count.
 *
 * Rooms:  bench/kill/, bench/figure_kill.c, tests/proc/.
 */
#ifndef BENCH_KILL_RULES_H
#define BENCH_KILL_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

enum kill_rule {
	KILL_MANY,       /* never refuses */
	KILL_GROUPS,     /* sliding, groups of 44 */
	KILL_FEW,        /* sliding, an exact log */
	KILL_FULL_RING,  /* the same, of as many units as a ring can remember */
	KILL_FIXED,      /* fixed window */
	KILL_TOKEN,      /* token bucket */
	KILL_LEAKY,      /* leaky bucket */
	KILL_LIMITS,     /* an agent moves its limit, 12 to 23 */
	KILL_WINDOWS,    /* its limit and window, and so the size of its groups */
	KILL_ALGORITHMS, /* its algorithm */
	KILL_BRIEF,      /* 20 ms: its keys are freed all the time */
	KILL_RULES,
};

enum { KILL_COST_MAX = 7, KILL_VARIANTS = 12 };

/*
 * Put them in force as this variant says; 0: each with its largest limit, as the parent judges
 * it. All but the brief one are of a year or less, so that what was admitted is held to the end.
 */
void kill_rules_publish(struct rl_seg *seg, uint32_t variant);

/* Of variant 0. exact: a key's window tells every unit, also after a re-base. */
uint32_t kill_rule_limit(enum kill_rule rule);
bool kill_rule_exact(enum kill_rule rule);

/* Handles of all of them, the same in every variant. */
void kill_rule_handles(const struct rl_view *view, uint64_t ret[KILL_RULES]);

#endif
