/*
 * Goal:   under a strict rule the fleet's window is a true one: what was admitted is held for W,
 *         all of it may be admitted again after W, and no phase of any clock matters. A bucket
 *         has its burst and then its rate.
 * Method: real agents and Redis; bursts, a flood and rounds, every request recorded. Cases R1,
 *         R5, R6 and R7 of bench/cases/cases.h.
 */
#include "tests/fleet/cases.h"

static void test_fleet_window__a_burst_is_held_for_w_and_then_given_again(void **state)
{
	(void)state;
	assert_holds(case_r1, 1);
}

static void test_fleet_window__no_second_limit_after_the_turn_of_a_clock(void **state)
{
	(void)state;
	assert_holds(case_r5, 1);
}

static void test_fleet_window__a_cron_client_gets_all_of_it_each_round(void **state)
{
	(void)state;
	assert_holds(case_r6, 5);
}

static void test_fleet_window__a_bucket_has_its_burst_and_then_its_rate(void **state)
{
	(void)state;
	assert_holds(case_r7, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fleet_window__a_burst_is_held_for_w_and_then_given_again),
		cmocka_unit_test(test_fleet_window__no_second_limit_after_the_turn_of_a_clock),
		cmocka_unit_test(test_fleet_window__a_cron_client_gets_all_of_it_each_round),
		cmocka_unit_test(test_fleet_window__a_bucket_has_its_burst_and_then_its_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
