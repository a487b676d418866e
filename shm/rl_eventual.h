/*
 * rl_eventual.h - one try under an eventual rule, while Redis answers: what the fleet's window held
 * at the last answer, and what this host has admitted since, must leave room in the limit.
 *
 * Rooms:  shm/ only: called by rl_shared.c.
 *
 * There is no credit, nobody is asked and nobody waits. side.total counts in full for two intervals
 * after its answer, in which an active key gets the next one, and for as long as nothing of it
 * can have left its window (hint.again). A key that was at rest for longer takes what is left of it
 * to leave evenly, until the youngest has left (hint.low): all that is a guess here, until its
 * first check has brought an answer, 10 ms and a round trip later.
 *
 * The host's own window holds at L besides. So N hosts admit N L at most in any window; and L, but
 * for what the others admit from their last report before this host's last answer on: two
 * intervals, two ticks of the agent and a round trip.
 *
 * The agent writes total, then hint, then acked: a check that comes between counts a call's units
 * twice and not never.
 */
#ifndef RL_EVENTUAL_H
#define RL_EVENTUAL_H

#include "shm/rl_shared.h"

/* RL_TRY_ALLOWED, RL_TRY_LIMITED, RL_TRY_AGAIN, RL_TRY_AHEAD. Otherwise as rl_shared_try(). */
int rl_eventual_try(struct rl_seg *seg, const struct rl_shared_ask *ask,
		    struct rl_shared_answer *ret);

/* The answer without writing. */
int rl_eventual_look(const struct rl_view *view, const struct rl_shared_ask *ask,
		     struct rl_shared_answer *ret);

/* hint.low for a total whose youngest unit leaves so long after the answer: rounded up. */
uint32_t rl_eventual_low(uint64_t window_ns, uint64_t ends_ns);

#endif
