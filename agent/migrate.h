/*
 * migrate.h - a segment of an earlier release, met by the agent of this one.
 *
 * Rooms:  agent/keeper.c, under the segment's lock.
 *
 * Its counts go into a new segment before that takes its name: local ones, what hosts share and
 * were not told yet, who this host is to them, blocks, switches, statistics. The old one is told
 * first that it has half of each local limit (split.h) and no credit. Killed anywhere before the
 * rename: the next agent begins again, and finds it a little more worn: limits are not lowered
 * twice, but for those of overrides.
 */
#ifndef AGENT_MIGRATE_H
#define AGENT_MIGRATE_H

#include <stdbool.h>

#include "agent/config/config.h"
#include "agent/split.h"
#include "shm/rl_segment.h"

/*
 * Make the segment at path anew out of the one that lies there. spec is what a new one would be
 * made by, with the rules of split_halve() after this has begun. 0 and *ret, or RL_E_ABI when it is
 * none that can be carried over, or another error with why; then it is there as it was.
 */
int migrate(const char *path, const struct agent_config *config, struct rl_segment_spec *spec,
	    struct split *split, struct rl_seg *ret, char *why);

/* What to do about the segment at path after this error. */
const char *migrate_advice(const char *path, int error);

#endif
