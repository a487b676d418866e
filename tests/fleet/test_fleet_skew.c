/*
 * Goal:   the clocks of the hosts need not agree, nor be right: the fleet's window is as true.
 * Method: ten hosts whose clocks are 500 ms behind to 500 ms ahead, and one's step 2 s ahead in
 *         the middle; agents by a preloaded clock_gettime, workers' threads by the same one
 *         linked in. The recorder asks the kernel. Case R18 of cases.h.
 */
#include "tests/fleet/cases.h"

#include "tests/skew/skew.h"

enum { HOSTS = 10, LIMIT = 1000, STEPS = 4 };

static void set_offset(uint32_t host, int64_t ns)
{
	/* Relaxed: a number that stands for itself. */
	atomic_store_explicit(fleet.host[host].offset_ns, ns, memory_order_relaxed);
}

/* Hosts do not begin with a clock that jumps: theirs are off before their agents start. */
static void start(void)
{
	static const char *const rules[] = {"name: r, limit: 1000/s, consistency: strict", NULL};
	static int64_t offset[HOSTS];
	struct fleet_spec spec = {.hosts = HOSTS,
				  .rules = rules,
				  .redis = AS_T50,
				  .set_clock = skew_thread,
				  .offset_ns = offset};

	for (int h = 0; h < HOSTS; h++)
		offset[h] = ((int64_t)h * 1000 / (HOSTS - 1) - 500) * (int64_t)MS;
	fleet_start(&fleet, &spec);
}

/* R18 */
static void test_fleet_skew__clocks_that_are_off_and_step_change_nothing(void **state)
{
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r18-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 2 * LIMIT,
					      .flags = RL_MAY_WAIT,
					      .seed = t_seed()};
	struct fleet_part part = FLEET_WHOLE;
	struct fleet_load *load;
	struct fleet_log log;
	struct verdict v;
	bool all_admitted = true;

	(void)state;
	if (t_under_tsan())
		return; /* its runtime has a clock_gettime of its own */
	start();
	load = fleet_load_start(&fleet, &traffic);
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + 3 * SECOND);
	set_offset(STEPS, (int64_t)(2 * SECOND));
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + 6 * SECOND);
	fleet_load_end(load, &log);
	v = judge_and_print("R18", &log, &part, LIMIT, SECOND);
	for (part.host = 0; part.host < HOSTS; part.host++)
		all_admitted = all_admitted && fleet_admitted(&log, &part) > 0;
	fleet_log_free(&log);
	assert_true(all_admitted);
	assert_true(fleet_most(&v) <= LIMIT);
	if (!fleet_is_slow_build())
		assert_true(v.allowed * 100 >= v.exact * 97);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fleet_skew__clocks_that_are_off_and_step_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
