/*
 * Goal:   a host that vanishes with all it holds costs the fleet neither its limit nor, for
 *         longer than Redis waits for it, its use.
 * Method: ten hosts at twice the limit; one is sent no more, its agent killed and its segment
 *         removed while it holds leases; the others go on. Case R16 of cases.h.
 */
#include "tests/fleet/cases.h"

#define X      (10 * SECOND) /* a host that was silent for so long is taken for gone */
#define BEFORE (1500 * MS)
#define LOOK   (1500 * MS)

enum { HOSTS = 10, LIMIT = 1000, VICTIM = 3 };

static void test_fleet_gone__a_vanished_hosts_leases_are_charged_and_the_rest_is_used(void **state)
{
	static const char *const rules[] = {"name: r, limit: 1000/s, consistency: strict", NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .redis = AS_T50};
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r16-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 2 * LIMIT,
					      .flags = RL_MAY_WAIT,
					      .seed = t_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_part late = FLEET_WHOLE, of_victim = FLEET_WHOLE;
	struct fleet_load *load;
	struct fleet_log log;
	struct verdict v, after;
	uint64_t gone_ns;

	(void)state;
	fleet_start(&fleet, &spec);
	load = fleet_load_start(&fleet, &traffic);
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + BEFORE);
	fleet_load_leave(load, VICTIM);
	fleet_remove_host(&fleet, VICTIM);
	gone_ns = fleet_now_ns(&fleet);
	fleet_sleep_until(&fleet, gone_ns + X + WHEN + LOOK);
	fleet_load_end(load, &log);
	v = judge_and_print("R16", &log, &whole, LIMIT, SECOND);
	late.from_ns = gone_ns + X + WHEN;
	late.to_ns = late.from_ns + LOOK;
	of_victim.host = VICTIM;
	after = judge_and_print("R16 after X + T", &log, &late, LIMIT, SECOND);
	fleet_wait_ready(&fleet); /* the others count one host less */
	printf("# R16: after it %.1f %% of the limit\n",
	       percent_of(after.allowed, LIMIT * LOOK / SECOND));
	assert_true(fleet_admitted(&log, &of_victim) > 0);
	assert_true(fleet_last_admit(&log, &of_victim) < gone_ns);
	fleet_log_free(&log);
	assert_true(fleet_most(&v) <= LIMIT);
	if (!fleet_is_slow_build())
		assert_true(after.allowed * 100 >= LIMIT * LOOK / SECOND * 97);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fleet_gone__a_vanished_hosts_leases_are_charged_and_the_rest_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
