/*
 * traffic.h - requests of many keys in given patterns, sent by four threads in real time.
 *
 * Every thread sends a share of every key's requests, so all four meet in each slot. A
 * request is recorded whole: a clock reading before the call, one after it, the reading the
 * check itself went by, and the answer.
 */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_segment.h"

struct hard;

enum { TRAFFIC_THREADS = 4 };

enum pattern {
	PATTERN_POISSON,   /* load times the limit, memoryless */
	PATTERN_BURSTS,    /* 8 times the limit in bursts of W / 20 .. W / 2, as much again idle */
	PATTERN_CRON,      /* the whole limit at once, and again 1.002 W later */
	PATTERN_ADVERSARY, /* one early, the rest at the window's end, then a flood of 4 times */
};

/* One key under one rule. */
struct source {
	enum pattern pattern;
	double load; /* PATTERN_POISSON: requests over limit */
	uint32_t limit;
	uint64_t window_ns;
	uint64_t rule; /* handle */
	uint64_t key;  /* its bytes are the key */
	uint64_t seed;
	struct hard *hard; /* NULL; else requests are hard_send()'s, which also notes them */
};

/* All times in ns of CLOCK_MONOTONIC. */
struct request {
	uint64_t begin_ns; /* before the call */
	uint64_t now_ns;   /* the check's own reading */
	uint32_t span_ns;  /* from before the call to after it */
	uint32_t allowed;  /* 0 or 1 */
};

struct log {
	struct request *request;
	size_t count;
};

/*
 * Send the traffic of count sources for duration_ns. ret[count] holds each source's requests,
 * sorted by the check's reading; free() each. Exits on an answer that is an error.
 */
void traffic_run(struct rl_seg *seg, const struct source *source, size_t count,
		 uint64_t duration_ns, struct log *ret);

#endif
