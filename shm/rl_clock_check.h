/*
 * rl_clock_check.h - do this process and a segment's agent read the same CLOCK_MONOTONIC?
 *
 * Rooms:  shm/ only, for rl_segment.c and rl_create.c.
 *
 * A container with its own time namespace shifts CLOCK_MONOTONIC: its stamps would lie days
 * away from everybody else's, and limits would be lifted or never end. A segment kept on a
 * disk over a reboot has the same fault.
 */
#ifndef RL_CLOCK_CHECK_H
#define RL_CLOCK_CHECK_H

#include "shm/rl_layout.h"

/* Fill boot_id, timens_ino and tick_ns of a header that is being built. */
void rl_clock_sign(struct rl_hdr *hdr);

/* Write the pair of clock readings that others compare theirs with. The agent, 10 a second. */
void rl_clock_beat(struct rl_live *live);

/* 0, or RL_E_CLOCKS and one line in why (RL_WHY_MAX bytes or NULL). hdr must have passed
 * rl_segment_usable(). */
int rl_clock_check(const struct rl_hdr *hdr, const struct rl_live *live, char *why);

#endif
