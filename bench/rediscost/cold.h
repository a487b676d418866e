/*
 * cold.h - many addresses that come a few times each, to the hosts of a fleet.
 *
 * Rooms:  bench/figure_rediscost.c.
 */
#ifndef BENCH_REDISCOST_COLD_H
#define BENCH_REDISCOST_COLD_H

#include "bench/fleet/fleet.h"

enum { COLD_KEYS = 30000 }; /* addresses of all hosts together: room for so many in each */

/*
 * Each address comes 1 to 3 times, to one host, its requests a few milliseconds to a second
 * apart; 3,000 new ones a second. Returns the number of requests when all is said to Redis.
 */
uint64_t cold_run(struct fleet *fleet, const char *rule);

#endif
