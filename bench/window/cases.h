/*
 * cases.h - the window under harder traffic than one unit at a time under one limit.
 */
#ifndef BENCH_WINDOW_CASES_H
#define BENCH_WINDOW_CASES_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Run a sample of the cases, or all for longer, on a segment of their own, and print what each
 * proved. Then cases_failed() prints the figures and says whether any is worse than it must be.
 */
void cases_run(bool all, uint64_t *seed);
bool cases_failed(void);

#endif
