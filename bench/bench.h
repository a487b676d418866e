/*
 * bench.h - what the figures share: a segment of their own, medians, percentiles, output.
 *
 * A figure program prints what it does, then lines  figure <name> <value> <unit>,  last.
 * It measures ratios within one run: absolute times on a shared machine are only shown.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

/* A new segment in a folder of its own under /dev/shm; exits with a message on failure. */
struct bench_seg {
	char dir[64];
	char path[96];
	struct rl_seg seg;
};
void bench_seg_make(struct bench_seg *bench, uint64_t keys);
void bench_seg_drop(struct bench_seg *bench);

/* Put these rules in force: "name limit" each, e.g. "a 5/10s". Exits on a wrong one. */
void bench_rules(struct rl_seg *seg, size_t count, const char *const *rules);

/* Handle of a rule that exists; exits when it does not. */
uint64_t bench_rule(const struct rl_view *view, const char *name);

/* Addresses, and the order in which to ask for them: the same in every figure. */
struct bench_key {
	char text[16];
	size_t len;
};
void bench_keys(struct bench_key *key, uint32_t keys, uint32_t *order, uint32_t count);

/* Print "figure name value unit". */
void bench_figure(const char *name, double value, const char *unit);

/* Print the compiler, the processor count and its name: figures mean little without. */
void bench_machine(void);

/* Median of count values, which are sorted in place. */
double bench_median(double *value, size_t count);

/* The smallest of count sorted values that at least part (0 .. 1) of them do not exceed. */
uint32_t bench_percentile(const uint32_t *sorted, size_t count, double part);

void bench_sort(uint32_t *value, size_t count);

/* Memory that the kernel could give without swapping; 0 when it does not say. */
uint64_t bench_memory_bytes(void);

/* CLOCK_MONOTONIC in ns, and a message with exit status 2. */
uint64_t bench_now_ns(void);
_Noreturn void bench_die(const char *what);

/* $SEED, or one of its own; printed, so that a run can be had again. Not 0. */
uint64_t bench_seed(void);

/* 64 random bits (xorshift64*); *state is not 0. */
uint64_t bench_random(uint64_t *state);

#endif
