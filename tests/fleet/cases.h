/*
 * cases.h - the reference cases of a fleet's accuracy, and what they share. Real agents, a real
 * Redis; M hosts, L = 1000/s, T = 50 ms, strict, callers that may wait, unless said. maxW is the
 * most that was admitted in any (t - W, t]; "when" may be off by T + RTT + 5 ms.
 *
 *	R1   M=1, L=100/2s, 1000 requests at once, then 10/ms   100 at once, none before W, then
 *	                                                         100 again; maxW = 100
 *	R5   M=3, L=100/s: at the end of a clock's second, flood  100 until W, not 200
 *	R6   M=1, L=100/500ms, 100 at once each 1.1 W             all of them each round
 *	R8   M=10, Poisson 10x for 12 s       maxW <= L; >= 98 % of what an exact log admits; each
 *	                                      host 8 .. 12 % of it; <= 60 syncs a second and host
 *	R11  M=10, 1000 requests to each host within 1 ms, cold   strict: 1000 exactly; bounded 10 %
 *	                                      deny: <= 1100; allow: <= 1200
 *	R15  R8 with each 5th reply dropped, or the connection cut each 200 ms; one agent killed
 *	     each 100 ms                      maxW <= L; when quiet, Redis has each admit once
 *	R16  R8 at 2x, one host vanishes with its leases          maxW <= L; >= 97 % used after
 *	                                      10 s + T
 *	R17  M=3, bounded, share, 2x, no waiting; Redis stopped for 5 s    maxW <= 1.05 L; >= 60 %
 *	                                      admitted meanwhile; normal 500 ms after
 *	R18  R8 at 2x, clocks 500 ms behind to 500 ms ahead, one steps by 2 s     as without
 *
 * Every case prints what it measured. In a build with a sanitizer the bounds still hold, and
 * rates and delays are only printed.
 */
#ifndef TESTS_FLEET_CASES_H
#define TESTS_FLEET_CASES_H

#include "tests/t.h"

#include <stdio.h>

#include "bench/bench.h"
#include "bench/fleet/load.h"

#define MS     UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

#define T      (50 * MS)    /* between two syncs, as the cases configure it */
#define WHEN   (T + 6 * MS) /* tolerance on when something happens: T + RTT + 5 ms */
#define AS_T50 "interval: 50ms"

/* Ended by its teardown also when a case fails, so only when no load runs may one assert. */
static struct fleet fleet;

static inline int end_fleet(void **state)
{
	(void)state;
	fleet_stop(&fleet);
	return 0;
}

#define CASE(f) cmocka_unit_test_teardown(f, end_fleet)

static inline double percent_of(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

/* Judge a log as one key's and print the verdict. */
static inline struct verdict judge_and_print(const char *name, const struct fleet_log *log,
					     const struct fleet_part *part, uint32_t limit,
					     uint64_t window_ns)
{
	struct verdict v;

	fleet_judge(log, part, limit, window_ns, &v);
	printf("# %s: %llu requests, %llu admitted, %.1f %% of an exact log; most in a window "
	       "%llu by reading, %llu by span, of %u; span p99.9 %.0f us, %llu busy\n",
	       name, (unsigned long long)v.requests, (unsigned long long)v.allowed,
	       percent_of(v.allowed, v.exact), (unsigned long long)v.most_by_reading,
	       (unsigned long long)v.most_by_span, limit, v.span_p999_ns / 1000.0,
	       (unsigned long long)log->busy);
	fflush(stdout);
	return v;
}

/* Wait for quiet: every admit is in Redis once. */
static inline void assert_all_in_redis(const char *name, const struct fleet_log *log,
				       const char *key, uint32_t keys)
{
	struct fleet_balance balance;

	fleet_balance(&fleet, log, key, keys, &balance);
	printf("# %s: %llu admitted, Redis was told of %llu: %llu lost, %llu doubled\n", name,
	       (unsigned long long)balance.admitted, (unsigned long long)balance.in_redis,
	       (unsigned long long)balance.lost, (unsigned long long)balance.doubled);
	fflush(stdout);
	assert_true(balance.admitted > 0);
	assert_int_equal(balance.lost, 0);
	assert_int_equal(balance.doubled, 0);
}

#endif
