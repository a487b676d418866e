/*
 * inflight.h - the agent's part in limits on requests in flight: what the dead held goes back.
 *
 * Every INFLIGHT_MS it tests the lock of each holder (shm/rl_holder.h). One whose lock is free at
 * two passes is dead, and its cells are emptied then: 0.25 to 0.5 s after its death. Nothing of
 * this is kept here but who was seen dead once: after a restart it begins with that anew.
 */
#ifndef AGENT_INFLIGHT_H
#define AGENT_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/config/config.h"
#include "shm/rl_segment.h"

#define INFLIGHT_MS 250u

struct inflight {
	struct rl_seg *seg;
	int fd;        /* of "<path>.alive"; -1: not opened yet, no rule needs it */
	bool busy;     /* the last pass left lines or holders */
	bool is_short; /* a quarter of all lines is in use */
	uint64_t seen_free[RL_HOLDERS_MAX]; /* word of a holder whose lock was free; 0 = was not */
};

void inflight_init(struct inflight *inflight, struct rl_seg *seg);

/*
 * Before rules are published: the file that processes lock, if any rule limits requests in flight.
 * False after logging why not.
 */
bool inflight_prepare(struct inflight *inflight, const char *path,
		      const struct agent_config *config, mode_t mode);

/* Call every INFLIGHT_MS. */
void inflight_pass(struct inflight *inflight);

#endif
