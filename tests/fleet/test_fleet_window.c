/*
 * Goal:   under a strict rule the fleet's window is a true one: what was admitted is held for W,
 *         all of it may be admitted again after W, and no phase of any clock matters.
 * Method: real agents and Redis; bursts, a flood and rounds, every request recorded. Cases R1,
 *         R5 and R6 of cases.h.
 */
#include "tests/fleet/cases.h"

#include <time.h>

static const char *const rules[] = {
	"name: two, limit: 100/2s, consistency: strict, wait: 200ms",
	"name: one, limit: 100/s, consistency: strict, wait: 200ms",
	"name: half, limit: 100/500ms, consistency: strict, wait: 200ms",
	NULL,
};

static void start(uint32_t hosts)
{
	const struct fleet_spec spec = {.hosts = hosts, .rules = rules, .redis = AS_T50};

	fleet_start(&fleet, &spec);
}

static uint64_t admitted_in(const struct fleet_log *log, uint64_t from_ns, uint64_t to_ns)
{
	const struct fleet_part part = {from_ns, to_ns, FLEET_ALL, FLEET_ALL};

	return fleet_admitted(log, &part);
}

/* R1: 1000 at once, then 10 a ms. */
static void test_fleet_window__a_burst_is_held_for_w_and_then_given_again(void **state)
{
	const struct fleet_traffic traffic = {.rule = "two",
					      .key = "r1-",
					      .keys = 1,
					      .threads = 8,
					      .at_once = 1000,
					      .per_second = 10000,
					      .flags = RL_MAY_WAIT,
					      .seed = t_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_log log;
	struct verdict v;
	uint64_t first, held, again;

	(void)state;
	start(1);
	fleet_load_run(&fleet, &traffic, 3500 * MS, &log);
	v = judge_and_print("R1", &log, &whole, 100, 2 * SECOND);
	first = fleet_first_admit(&log, &whole);
	held = admitted_in(&log, first + WHEN, first + 2 * SECOND);
	again = admitted_in(&log, first + 2 * SECOND, first + 4 * SECOND);
	printf("# R1: %llu within %llu ms, %llu more before W, %llu in the next W\n",
	       (unsigned long long)admitted_in(&log, first, first + WHEN),
	       (unsigned long long)(WHEN / MS), (unsigned long long)held,
	       (unsigned long long)again);
	fleet_log_free(&log);
	assert_true(fleet_most(&v) <= 100);
	assert_true(again <= 100);
	if (fleet_is_slow_build())
		return;
	assert_int_equal(held, 0);
	assert_int_equal(v.allowed, 200);
}

/* Where a window that is aligned to a clock would be about to end. */
static void wait_for_the_end_of_a_second(void)
{
	struct timespec t;
	uint64_t left;

	clock_gettime(CLOCK_REALTIME, &t);
	left = (1970 * MS - (uint64_t)t.tv_nsec) % SECOND;
	fleet_sleep_until(&fleet, fleet_now_ns(&fleet) + left);
}

/* R5: L at the end of a window, then a flood for W. */
static void test_fleet_window__no_second_limit_after_the_turn_of_a_clock(void **state)
{
	const struct fleet_traffic traffic = {.rule = "one",
					      .key = "r5-",
					      .keys = 1,
					      .threads = 4,
					      .at_once = 50,
					      .per_second = 2000,
					      .flags = RL_MAY_WAIT,
					      .seed = t_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_log log;
	struct verdict v;
	uint64_t first, late;

	(void)state;
	start(3);
	wait_for_the_end_of_a_second();
	fleet_load_run(&fleet, &traffic, 1400 * MS, &log);
	v = judge_and_print("R5", &log, &whole, 100, SECOND);
	first = fleet_first_admit(&log, &whole);
	late = admitted_in(&log, first + 2 * WHEN, first + SECOND);
	printf("# R5: %llu before W, %llu of them after %llu ms\n",
	       (unsigned long long)admitted_in(&log, first, first + SECOND),
	       (unsigned long long)late, (unsigned long long)(2 * WHEN / MS));
	fleet_log_free(&log);
	assert_true(fleet_most(&v) <= 100);
	if (!fleet_is_slow_build())
		assert_true(late <= 2); /* what one host gave back and another took */
}

/* R6: a client that sends all of L at once and comes back 1.1 W later. */
static void test_fleet_window__a_cron_client_gets_all_of_it_each_round(void **state)
{
	struct fleet_traffic traffic = {.rule = "half",
					.key = "r6-",
					.keys = 1,
					.threads = 4,
					.at_once = 100,
					.flags = RL_MAY_WAIT,
					.seed = t_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_log log = {0}, round;
	struct verdict v;
	uint64_t next;
	int rounds = 5;

	(void)state;
	start(1);
	next = fleet_now_ns(&fleet);
	for (int i = 0; i < rounds; i++, next += 550 * MS) {
		fleet_sleep_until(&fleet, next);
		fleet_load_run(&fleet, &traffic, 0, &round);
		fleet_log_add(&log, &round);
	}
	v = judge_and_print("R6", &log, &whole, 100, 500 * MS);
	fleet_log_free(&log);
	assert_true(fleet_most(&v) <= 100);
	if (!fleet_is_slow_build())
		assert_true(v.allowed * 100 >= (uint64_t)rounds * 100 * 98);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fleet_window__a_burst_is_held_for_w_and_then_given_again),
		CASE(test_fleet_window__no_second_limit_after_the_turn_of_a_clock),
		CASE(test_fleet_window__a_cron_client_gets_all_of_it_each_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
