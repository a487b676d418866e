/*
 * rl_bound.h - what bounds a rule now: the number that any window of one of its keys keeps to.
 *
 * Rooms:  shm/ and above. Pure.
 *
 * For L units a window, N live hosts, c0 = floor(beta L / N); while Redis answers, of all hosts:
 *
 *   local               L on each host; of another algorithm rl_algorithm_bound()
 *   strict              L
 *   bounded, deny       L + N c0                   <= (1 + beta) L
 *   bounded, allow      L + 2 N max(1, c0)         each its share, and a debt as large
 *   eventual            N L, whatever the load: L and what others admit in two syncs
 *
 * and while it does not, of this host, besides credit that it still has:
 *
 *   share               L / N and a burst of 2 %, at most L
 *   local               L
 *   open                nothing
 *   closed              what is promised while it answers: credit that is left was set aside
 */
#ifndef RL_BOUND_H
#define RL_BOUND_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_rules.h"
#include "shm/rl_shared.h"

#define RL_BOUND_NONE UINT64_MAX

enum rl_bound_by {
	RL_BOUND_LOCAL = 0,
	RL_BOUND_BOUNDED = 1,
	RL_BOUND_STRICT = 2,
	RL_BOUND_EVENTUAL = 3,
	RL_BOUND_SHARE = 4, /* on_unreachable decides, as all that follow but the last two */
	RL_BOUND_OWN = 5,
	RL_BOUND_OPEN = 6,
	RL_BOUND_CLOSED = 7,
	RL_BOUND_OFF = 8,    /* switched off */
	RL_BOUND_SHADOW = 9, /* it only looks on */
};

struct rl_bound {
	uint64_t units; /* RL_BOUND_NONE: there is no bound */
	enum rl_bound_by by;
	bool of_fleet; /* of all hosts; else of this one */
};

/* hosts: live ones, this one included; 0 is taken for 1. state: of the rule's partitions. */
struct rl_bound rl_bound_in_force(const struct rl_rule *rule, uint32_t hosts, enum rl_state state);

/* What is promised while Redis answers. */
struct rl_bound rl_bound_promised(const struct rl_rule *rule, uint32_t hosts);

#endif
