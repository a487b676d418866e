/*
 * steps.h - one operation of a worker, killed after each of its instructions.
 *
 * Rooms:  bench/figure_kill.c, tests/proc/.
 */
#ifndef BENCH_KILL_STEPS_H
#define BENCH_KILL_STEPS_H

#include "bench/kill/tally.h"
#include "bench/kill/victims.h"

/* How many kinds of operations there are: checks, claims, refusals, refunds. */
uint32_t kill_steps_count(void);
const char *kill_steps_name(uint32_t number);

/*
 * Fork a child for every stride-th instruction of the operation (the first one at random below
 * stride), let it run up to there (PTRACE_SINGLESTEP), SIGKILL it, and judge: what the key holds,
 * the next check at once, an agent's pass, and all that is left of the limit. Returns how many
 * instructions the whole operation has, from its child's stop to its end.
 */
uint32_t kill_steps_run(const struct kill_scene *scene, uint32_t number, uint32_t stride,
			uint64_t *seed, struct kill_tally *tally);

#endif
