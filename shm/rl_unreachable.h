/*
 * rl_unreachable.h - what a host admits while Redis does not answer, by the rule's
 * on_unreachable.
 *
 * Rooms:  shm/ only: called by rl_shared.c, and rl_bound.c for its figures.
 *
 *   share   three tests, all must pass: a rate of L / N with a burst of 2 % of that (GCRA in
 *           the slot's state); what the fleet held at the last answer, fading over W, and what
 *           this host has admitted since, N times as the others are in the same place, fit
 *           into L; the host's own window at L.
 *   local   the own window at L
 *   open    everything
 *   closed  nothing
 *
 * Each alone fails: the rate forgets what was admitted just before the outage, the frozen
 * total fades away in a long one. Measured: docs/PERFORMANCE.md.
 */
#ifndef RL_UNREACHABLE_H
#define RL_UNREACHABLE_H

#include "shm/rl_shared.h"

/* Units that may come at once under such a rate, beyond what it admits in a window. */
uint64_t rl_unreachable_burst(uint64_t share);

/* RL_TRY_ALLOWED, RL_TRY_LIMITED (ret->wait_ns is then > 0), RL_TRY_AGAIN, RL_TRY_AHEAD. */
int rl_unreachable_try(struct rl_seg *seg, const struct rl_shared_ask *ask,
		       const struct rl_fleet_terms *fleet, struct rl_window_answer *ret);

/* The answer without writing. */
int rl_unreachable_look(const struct rl_view *view, const struct rl_shared_ask *ask,
			const struct rl_fleet_terms *fleet, struct rl_window_answer *ret);

#endif
