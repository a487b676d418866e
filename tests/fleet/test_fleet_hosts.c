/*
 * Goal:   hosts share one limit: never above it, nearly all of it used, fairly, wherever the
 *         requests come, and with few calls to Redis; nobody is refused below it; and a flood
 *         that hits all hosts cold stays within the rule's bound.
 * Method: real agents and Redis, Poisson traffic and bursts, every request recorded. Cases R8 to
 *         R13 of bench/cases/cases.h, in short; proof_fleet has them in long.
 */
#include "tests/fleet/cases.h"

static void test_fleet_hosts__ten_at_ten_times_the_limit_share_it_fairly(void **state)
{
	(void)state;
	assert_holds(case_r8, fleet_is_slow_build() ? 3 : 8);
}

static void test_fleet_hosts__below_the_limit_hardly_anybody_is_refused(void **state)
{
	(void)state;
	assert_holds(case_r9_near, 3);
}

static void test_fleet_hosts__a_client_that_moves_finds_the_limit_where_it_goes(void **state)
{
	(void)state;
	assert_holds(case_r10_moving, 5);
}

static void test_fleet_hosts__a_burst_on_ten_cold_hosts_stays_within_the_bound(void **state)
{
	(void)state;
	assert_holds(case_r11, 1);
}

static void test_fleet_hosts__bursts_that_come_again_stay_within_the_bound(void **state)
{
	(void)state;
	assert_holds(case_r12_again, 3);
}

static void test_fleet_hosts__twenty_that_hardly_ask_use_a_small_limit(void **state)
{
	(void)state;
	assert_holds(case_r13, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fleet_hosts__ten_at_ten_times_the_limit_share_it_fairly),
		cmocka_unit_test(test_fleet_hosts__below_the_limit_hardly_anybody_is_refused),
		cmocka_unit_test(
			test_fleet_hosts__a_client_that_moves_finds_the_limit_where_it_goes),
		cmocka_unit_test(
			test_fleet_hosts__a_burst_on_ten_cold_hosts_stays_within_the_bound),
		cmocka_unit_test(test_fleet_hosts__bursts_that_come_again_stay_within_the_bound),
		cmocka_unit_test(test_fleet_hosts__twenty_that_hardly_ask_use_a_small_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
