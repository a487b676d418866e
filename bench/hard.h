/*
 * hard.h - requests that are more than one unit of one rule: costs, refunds, two rules at once.
 *
 * A key sends them from several hands (threads, processes), each of which notes what it did in a
 * list of its own. What they prove is judge_units()'s business.
 */
#ifndef BENCH_HARD_H
#define BENCH_HARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/judge.h"
#include "shm/rl_check.h"

enum { HARD_HANDS = 8 };

/* One request. All times in ns of CLOCK_MONOTONIC. */
struct deed {
	uint64_t begin_ns, end_ns; /* before the call, after it */
	uint64_t refund_ns;        /* before the call that gave it back; UINT64_MAX: none did */
	uint64_t now_ns[2];        /* the readings of the two rules' checks */
	uint32_t limit[2]; /* the limits that the checks went by; 0: not asked, or an error */
	uint32_t units;    /* spent under each rule that was asked; 0: refused */
};

/* What one thread or process has of a key. */
struct hand {
	uint64_t seed;
	struct rl_ticket ticket; /* to be given back, of deed number of */
	size_t of;
	bool pending;
	struct deed *deed;
	size_t count, room;
	bool fixed; /* the room cannot grow: one refusal in 64 is noted */
	uint64_t refused, busy, given_back, kept, rolled_back;
};

/* A key, and what is asked of it. */
struct hard {
	uint64_t rule, second_rule; /* handles */
	uint64_t key;               /* its bytes are the key, under both rules */
	uint32_t cost_most;         /* costs are 1 .. this, evenly */
	uint32_t cost_limit;        /* but no cost above this */
	uint32_t refund_percent;    /* of what is admitted, given back a few requests later */
	uint32_t both_percent;      /* of the requests, under both rules, all or nothing */
	struct hand hand[HARD_HANDS];
};

/*
 * Send one request, and perhaps give back one that was admitted before. Half of those under both
 * rules go through rl_check_parts(); the others do as that does when another process takes the
 * second rule's last unit between its look and its spending, which is rare: they spend under the
 * first rule, are refused by the second, and give back. Exits on an answer that decides nothing.
 */
void hard_send(struct rl_seg *seg, struct rl_member *member, struct hard *hard, uint32_t hand);

/*
 * What was admitted of the key under one of its two rules, for judge_units(); free() it.
 * *ret_count: how many.
 */
struct unit *hard_units(const struct hard *hard, uint32_t which, size_t *ret_count);

#endif
