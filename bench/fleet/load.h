/*
 * load.h - requests to the hosts of a fleet, sent by threads of this process in real time.
 */
#ifndef BENCH_FLEET_LOAD_H
#define BENCH_FLEET_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/fleet/fleet.h"
#include "bench/fleet/log.h"

struct fleet_traffic {
	const char *rule;
	const char *key;   /* of the first key: this and "0"; and so on */
	uint32_t keys;     /* 1 .. 256; each request takes one of them at random */
	uint32_t hosts;    /* bit h: host h gets some; 0: all do */
	uint32_t threads;  /* of each host */
	uint32_t at_once;  /* requests of each host at the start, as fast as the threads can */
	double per_second; /* then, of all these hosts together, memoryless; 0: no more */
	uint32_t batch;    /* so many come together, one after the other; 0: 1 */
	bool paced;        /* at even distances instead, each thread by itself */
	uint64_t turn_ns;  /* 0; else one host after the other gets all of them, for so long each */
	uint32_t flags;    /* of the checks: 0 or RL_MAY_WAIT */
	uint64_t seed;
};

struct fleet_load;

/* Begin to send; *traffic may go. All threads start within a fraction of a millisecond. */
struct fleet_load *fleet_load_start(struct fleet *fleet, const struct fleet_traffic *traffic);

/* When it started. */
uint64_t fleet_load_began_ns(const struct fleet_load *load);

/* No more to this host; returns when its last check has returned. */
void fleet_load_leave(struct fleet_load *load, uint32_t host);

/*
 * What each host was sent at once is answered; then no more. *ret is what was recorded. Exits
 * on an answer that is an error, but for busy ones, which are counted.
 */
void fleet_load_end(struct fleet_load *load, struct fleet_log *ret);

/* Start, wait for so long, end. */
void fleet_load_run(struct fleet *fleet, const struct fleet_traffic *traffic, uint64_t ns,
		    struct fleet_log *ret);

#endif
