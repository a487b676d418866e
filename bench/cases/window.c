/* Under a strict rule of one host or a few: R1, R5, R6; and a bucket, R7. */
#include <stdio.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

static const char *const rules[] = {
	"name: two, limit: 100/2s, consistency: strict, wait: 200ms",
	"name: one, limit: 100/s, consistency: strict, wait: 200ms",
	"name: half, limit: 100/500ms, consistency: strict, wait: 200ms",
	"name: bucket, limit: 100/s, algorithm: token_bucket, burst: 10, consistency: local",
	NULL,
};

static void start(struct fleet *fleet, uint32_t hosts)
{
	const struct fleet_spec spec = {.hosts = hosts, .rules = rules, .redis = AS_T50};

	fleet_start(fleet, &spec);
}

static uint64_t admitted_in(const struct fleet_log *log, uint64_t from_ns, uint64_t to_ns)
{
	const struct fleet_part part = {from_ns, to_ns, FLEET_ALL, FLEET_ALL};

	return fleet_admitted(log, &part);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* A key of its own for each round. */
static const char *key_of(char ret[16], const char *prefix, uint32_t round)
{
	snprintf(ret, 16, "%s-%u-", prefix, round);
	return ret;
}

/* Some part of a second, so that rounds begin at any phase of all clocks. */
static void wait_for_any_phase(struct fleet *fleet, uint64_t *seed)
{
	fleet_sleep_until(fleet, fleet_now_ns(fleet) + bench_random(seed) % SECOND);
}

void case_r1(struct fleet_case *c, uint32_t rounds)
{
	uint64_t most = 0, held = 0, again_most = 0, allowed_least = UINT64_MAX, seed = case_seed();
	struct fleet fleet;

	case_begin(c, "R1", "one host, 100/2s, 1000 at once, then 10/ms, %u rounds", rounds);
	start(&fleet, 1);
	for (uint32_t i = 0; i < rounds; i++) {
		char key[16];
		const struct fleet_traffic traffic = {.rule = "two",
						      .key = key_of(key, "r1", i),
						      .keys = 1,
						      .threads = 8,
						      .at_once = 1000,
						      .per_second = 10000,
						      .flags = RL_MAY_WAIT,
						      .seed = seed + i};
		const struct fleet_part whole = FLEET_WHOLE;
		struct fleet_log log;
		struct verdict v;
		uint64_t first, again;

		wait_for_any_phase(&fleet, &seed);
		fleet_load_run(&fleet, &traffic, 3500 * MS, &log);
		v = case_judge("R1", &log, &whole, 100, 2 * SECOND);
		first = fleet_first_admit(&log, &whole);
		again = admitted_in(&log, first + 2 * SECOND, first + 4 * SECOND);
		held += admitted_in(&log, first + WHEN, first + 2 * SECOND);
		most = larger(most, fleet_most(&v));
		again_most = larger(again_most, again);
		allowed_least = v.allowed < allowed_least ? v.allowed : allowed_least;
		fleet_log_free(&log);
	}
	fleet_stop(&fleet);
	case_note(c, "maxW", (double)most, "", CASE_AT_MOST, 100);
	case_rate(c, "before W", (double)held, "", CASE_EXACTLY, 0);
	case_note(c, "in the next W", (double)again_most, "", CASE_AT_MOST, 100);
	case_rate(c, "in both", (double)allowed_least, "", CASE_EXACTLY, 200);
}

/* Where a window that is aligned to a clock would be about to end. */
static void wait_for_the_end_of_a_second(struct fleet *fleet)
{
	struct timespec t;
	uint64_t left;

	clock_gettime(CLOCK_REALTIME, &t);
	left = (1970 * MS - (uint64_t)t.tv_nsec) % SECOND;
	fleet_sleep_until(fleet, fleet_now_ns(fleet) + left);
}

void case_r5(struct fleet_case *c, uint32_t rounds)
{
	uint64_t most = 0, late_most = 0;
	struct fleet fleet;

	case_begin(c, "R5", "three hosts, 100/s, at a second's end, then flooded, %u rounds",
		   rounds);
	start(&fleet, 3);
	for (uint32_t i = 0; i < rounds; i++) {
		char key[16];
		const struct fleet_traffic traffic = {.rule = "one",
						      .key = key_of(key, "r5", i),
						      .keys = 1,
						      .threads = 4,
						      .at_once = 50,
						      .per_second = 2000,
						      .flags = RL_MAY_WAIT,
						      .seed = case_seed() + i};
		const struct fleet_part whole = FLEET_WHOLE;
		struct fleet_log log;
		struct verdict v;
		uint64_t first;

		wait_for_the_end_of_a_second(&fleet);
		fleet_load_run(&fleet, &traffic, 1400 * MS, &log);
		v = case_judge("R5", &log, &whole, 100, SECOND);
		first = fleet_first_admit(&log, &whole);
		most = larger(most, fleet_most(&v));
		late_most = larger(late_most, admitted_in(&log, first + 2 * WHEN, first + SECOND));
		fleet_log_free(&log);
	}
	fleet_stop(&fleet);
	case_note(c, "maxW", (double)most, "", CASE_AT_MOST, 100);
	/* What one host gave back and another took. */
	case_rate(c, "late in W", (double)late_most, "", CASE_AT_MOST, 2);
}

void case_r6(struct fleet_case *c, uint32_t rounds)
{
	struct fleet_traffic traffic = {.rule = "half",
					.key = "r6-",
					.keys = 1,
					.threads = 4,
					.at_once = 100,
					.flags = RL_MAY_WAIT,
					.seed = case_seed()};
	struct fleet_log log = {0}, round;
	struct fleet fleet;
	struct verdict v;
	uint64_t next;

	case_begin(c, "R6", "one host, 100/500ms, 100 at once each 1.1 W, %u rounds", rounds);
	start(&fleet, 1);
	next = fleet_now_ns(&fleet);
	for (uint32_t i = 0; i < rounds; i++, next += 550 * MS) {
		fleet_sleep_until(&fleet, next);
		fleet_load_run(&fleet, &traffic, 0, &round);
		fleet_log_add(&log, &round);
	}
	fleet_stop(&fleet);
	v = case_judge_whole(c, &log, 100, 500 * MS, 100);
	fleet_log_free(&log);
	case_rate(c, "of all", case_percent(v.allowed, (uint64_t)rounds * 100), " %", CASE_AT_LEAST,
		  98);
}

/* 200 at once, then one each 5 ms for a second. */
static void bucket_round(struct fleet *fleet, uint32_t round, struct fleet_log *ret)
{
	char key[16];
	const struct fleet_traffic traffic = {.rule = "bucket",
					      .key = key_of(key, "r7", round),
					      .keys = 1,
					      .threads = 1,
					      .at_once = 200,
					      .per_second = 200,
					      .paced = true,
					      .seed = case_seed() + round};

	fleet_load_run(fleet, &traffic, 1100 * MS, ret);
}

void case_r7(struct fleet_case *c, uint32_t rounds)
{
	uint64_t most = 0, at_once_most = 0, least = UINT64_MAX, then_most = 0;
	struct fleet fleet;

	case_begin(c, "R7", "one host, token bucket of 100/s, burst 10, %u rounds", rounds);
	start(&fleet, 1);
	for (uint32_t i = 0; i < rounds; i++) {
		const struct fleet_part whole = FLEET_WHOLE;
		struct fleet_log log;
		struct verdict v;
		uint64_t first, at_once, then;

		bucket_round(&fleet, i, &log);
		v = case_judge("R7", &log, &whole, 110, SECOND);
		first = fleet_first_admit(&log, &whole);
		at_once = admitted_in(&log, first, first + 5 * MS);
		then = admitted_in(&log, first + 5 * MS, first + SECOND + 5 * MS);
		most = larger(most, fleet_most(&v));
		at_once_most = larger(at_once_most, at_once);
		then_most = larger(then_most, then);
		least = then < least ? then : least;
		fleet_log_free(&log);
	}
	fleet_stop(&fleet);
	case_note(c, "maxW", (double)most, "", CASE_AT_MOST, 110);
	case_rate(c, "at once", (double)at_once_most, "", CASE_EXACTLY, 10);
	case_rate(c, "then at least", (double)least, "", CASE_AT_LEAST, 99);
	case_note(c, "then at most", (double)then_most, "", CASE_AT_MOST, 101);
}
