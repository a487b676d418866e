/*
 * victims.h - what is killed: workers that check without pause, agents that take over, move the
 * rules about and sweep; and the agent that is left alive, to see what it can mend.
 *
 * Rooms:  bench/kill/ and bench/figure_kill.c. Each runs in a child of its own.
 */
#ifndef BENCH_KILL_VICTIMS_H
#define BENCH_KILL_VICTIMS_H

#include <stdint.h>

#include "bench/kill/notes.h"
#include "client/rl.h"

struct kill_scene {
	const char *path;
	struct rl_seg *seg;
	struct rl_client *client;
	uint64_t rule[KILL_RULES];
	uint64_t batch; /* part of every key: each batch has new ones */
};

/* A key's bytes. */
struct kill_key {
	uint64_t batch, number;
};

/*
 * Checks of one and of seven units, of one and of two rules, batches, refunds, peeks, for ever.
 * When its notes are full it waits for its end.
 */
_Noreturn void kill_work(const struct kill_scene *scene, struct kill_notes *notes, uint64_t seed);

/* Takes the lock and over as rl-agent does, then publishes and sweeps for ever. */
_Noreturn void kill_keep(const struct kill_scene *scene, uint64_t seed);

/* Takes over, judges by variant 0, sweeps until nothing is left to do, and exits with 0. */
_Noreturn void kill_mend(const struct kill_scene *scene);

#endif
