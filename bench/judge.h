/*
 * judge.h - what a log of requests proves about a window: excess, utilisation, false rejects.
 */
#ifndef BENCH_JUDGE_H
#define BENCH_JUDGE_H

#include "bench/traffic.h"

struct verdict {
	uint64_t requests, allowed;
	uint64_t exact; /* what an exact log of single events admits of the same requests */
	uint64_t most_by_reading; /* admits with check's readings in one interval (t - W, t] */
	uint64_t most_by_span;    /* admits whose spans lie whole in one interval (t - W, t] */
	uint64_t false_rejects;   /* refused, and the exact log admits it */
	uint64_t below_limit;     /* refused with fewer than limit admits in (t - W, t] */
	uint32_t span_p999_ns;    /* of all requests */
};

/* Judge a log that is sorted by the check's reading. */
void judge(const struct log *log, uint32_t limit, uint64_t window_ns, struct verdict *ret);

#endif
