/*
 * scene.h - batches of kills on one segment, each judged when its last victim is dead.
 *
 * Rooms:  bench/kill/ and bench/figure_kill.c.
 */
#ifndef BENCH_KILL_SCENE_H
#define BENCH_KILL_SCENE_H

#include "bench/kill/tally.h"
#include "bench/kill/victims.h"

/* A client of the segment, which has the rules of variant 0. */
void kill_scene_make(struct kill_scene *scene, const char *path, struct rl_seg *seg);
void kill_scene_drop(struct kill_scene *scene);

/*
 * Kill so many workers, or agents under working workers, at random moments; let an agent take
 * over and live; then hold every key against the notes, and empty the table.
 */
void kill_workers(struct kill_scene *scene, uint64_t kills, uint64_t *seed,
		  struct kill_tally *tally);
void kill_agents(struct kill_scene *scene, uint64_t kills, uint64_t *seed,
		 struct kill_tally *tally);

#endif
