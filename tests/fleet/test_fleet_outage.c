/*
 * Goal:   while Redis does not answer, hosts of a bounded rule go on by their shares: hardly
 *         above the limit, most of it used, and as before soon after it is back.
 * Method: three hosts at twice the limit; Redis is stopped by SIGSTOP for 5 s and continued.
 *         Case R17 of cases.h.
 */
#include "tests/fleet/cases.h"

enum { HOSTS = 3, LIMIT = 1000 };

#define BEFORE (2 * SECOND)
#define OUTAGE (5 * SECOND)
#define AFTER  (2 * SECOND)
#define NORMAL (500 * MS) /* after the return */

/* R17 */
static void test_fleet_outage__hosts_go_on_by_their_shares_and_return_soon(void **state)
{
	static const char *const rules[] = {
		"name: r, limit: 1000/s, consistency: bounded, beta: 10%, on_unreachable: share",
		NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .redis = AS_T50};
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r17-",
					      .keys = 1,
					      .threads = 2,
					      .per_second = 2 * LIMIT,
					      .seed = t_seed()};
	struct fleet_part outage = FLEET_WHOLE, around = FLEET_WHOLE;
	uint64_t stop_ns, continue_ns, last = 0, admitted;
	struct fleet_load *load;
	struct fleet_log log;
	struct verdict v;

	(void)state;
	fleet_start(&fleet, &spec);
	load = fleet_load_start(&fleet, &traffic);
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + BEFORE);
	fleet_stop_redis(&fleet);
	stop_ns = fleet_now_ns(&fleet);
	fleet_sleep_until(&fleet, stop_ns + OUTAGE);
	continue_ns = fleet_now_ns(&fleet);
	fleet_continue_redis(&fleet);
	fleet_sleep_until(&fleet, continue_ns + AFTER);
	fleet_load_end(load, &log);

	around.from_ns = stop_ns - SECOND;
	outage.from_ns = stop_ns + 250 * MS;
	outage.to_ns = continue_ns;
	v = judge_and_print("R17", &log, &around, LIMIT, SECOND);
	admitted = fleet_admitted(&log, &outage);
	for (uint32_t h = 0; h < HOSTS; h++) {
		uint64_t at = fleet_recovered_ns(&log, (int)h, continue_ns);

		last = at > last ? at : last;
	}
	printf("# R17: %.1f %% of the limit during the outage, normal after %.0f ms\n",
	       percent_of(admitted * SECOND, LIMIT * (outage.to_ns - outage.from_ns)),
	       last == UINT64_MAX ? -1.0 : (double)(last - continue_ns) / (double)MS);
	fleet_log_free(&log);
	assert_true(last != UINT64_MAX);
	if (fleet_is_slow_build())
		return;
	assert_true(fleet_most(&v) <= LIMIT + LIMIT / 20);
	assert_true(admitted * SECOND * 100 >= LIMIT * (outage.to_ns - outage.from_ns) * 60);
	assert_true(last - continue_ns <= NORMAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fleet_outage__hosts_go_on_by_their_shares_and_return_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
