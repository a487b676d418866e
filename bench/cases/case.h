/*
 * case.h - a reference case of a fleet's accuracy: what must hold, what was measured, the verdict.
 *
 * A case is one function, called by a test in a short form and by proof_fleet in a long one, and
 * by figures for its numbers. It never asserts: it notes each number with what must hold of it.
 */
#ifndef BENCH_CASES_CASE_H
#define BENCH_CASES_CASE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/fleet/load.h"

#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

enum { CASE_TEXT = 400, CASE_NUMBERS = 16 };

struct fleet_case {
	char name[24], input[128];
	char expected[CASE_TEXT], measured[CASE_TEXT];
	bool holds;
	int numbers;
	struct {
		const char *what;
		double value;
	} number[CASE_NUMBERS];
};

enum case_must { CASE_SHOWN, CASE_AT_MOST, CASE_AT_LEAST, CASE_EXACTLY };

void case_begin(struct fleet_case *c, const char *name, const char *input, ...)
	__attribute__((format(printf, 3, 4)));

/* A number that must hold in any build: a promise. what stays where it is. */
void case_note(struct fleet_case *c, const char *what, double value, const char *unit,
	       enum case_must must, double bar);

/* A number that a build with a sanitizer is too slow for: there it is only shown. */
void case_rate(struct fleet_case *c, const char *what, double value, const char *unit,
	       enum case_must must, double bar);

/* A number that was noted; exits when there is none of that name. */
double case_number(const struct fleet_case *c, const char *what);

/* One line: name, input, expected, measured, verdict. */
void case_print(const struct fleet_case *c, const char *before);

/* Judge a part of a log as one key's, and print all that it says, behind a '#'. */
struct verdict case_judge(const char *name, const struct fleet_log *log,
			  const struct fleet_part *part, uint32_t limit, uint64_t window_ns);

/* The same of the whole log, with "maxW" noted: at most so many in any window. */
struct verdict case_judge_whole(struct fleet_case *c, const struct fleet_log *log, uint32_t limit,
				uint64_t window_ns, uint32_t most);

/* Wait for quiet; "lost" and "doubled" of all keys with this text in front: none. */
void case_balance(struct fleet_case *c, struct fleet *fleet, const struct fleet_log *log,
		  const char *key_prefix, uint32_t keys);

double case_percent(uint64_t part, uint64_t whole);

/* What was above the limit, percent of it. */
double case_excess_percent(uint64_t most, uint32_t limit);

/* $SEED, or one of its own, printed once. */
uint64_t case_seed(void);

#endif
