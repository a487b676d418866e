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

/* What was admitted at once, perhaps given back later. Times in ns of CLOCK_MONOTONIC. */
struct unit {
	uint64_t begin_ns, end_ns; /* of the call */
	uint64_t now_ns;           /* the check's own reading */
	uint64_t refund_ns;        /* when its refund was asked for; UINT64_MAX: never given back */
	uint32_t units;            /* how many */
	uint32_t limit;            /* the limit that the check went by */
};

struct units_verdict {
	uint64_t admitted, given_back; /* units */
	uint64_t late;                 /* calls of W and longer */
	uint64_t over_by_reading;      /* units above the limit, in the worst window */
	uint64_t over_by_span;
	double over_percent; /* the worse of both, of the limit that it was above */
};

/*
 * Judge admits of costs above 1, refunds, and a limit that changes. What must hold at each admit e:
 *
 *   by reading  what was never given back and has its reading in (e - W, e] is at most the limit
 *   by span     at the end of e's call: what has its whole call in the W before, and whose refund
 * has not been asked for yet, is at most the limit
 *
 * The limit is the one e went by, or the largest that a check went by whose call overlaps e's or
 * that has e's reading: which of them counted last cannot be told. With one limit this is the
 * statement of judge(): the fullest windows end with an admit.
 *
 * By reading a refunded unit counts nowhere, not even before its refund: a worker that was
 * stopped between its reading and its count, while others admitted and gave back, counts as of its
 * reading, when the others' units were not yet back. By span it counts as long as it was surely
 * held.
 *
 * unit[] is sorted anew.
 */
void judge_units(struct unit *unit, size_t count, uint64_t window_ns, struct units_verdict *ret);

#endif
