/*
 * Goal:   while Redis does not answer, hosts of a bounded rule go on by their shares: hardly
 *         above the limit, most of it used, and as before soon after it is back. One that has
 *         forgotten everything costs the limit once more, and nothing later.
 * Method: three hosts at twice the limit; Redis is stopped by SIGSTOP for 5 s and continued. Ten
 *         at ten times; FLUSHALL. Cases R17 and R19 of bench/cases/cases.h.
 */
#include "tests/fleet/cases.h"

static void test_fleet_outage__hosts_go_on_by_their_shares_and_return_soon(void **state)
{
	(void)state;
	assert_holds(case_r17_second, 2);
}

static void test_fleet_outage__a_redis_that_forgot_all_costs_the_limit_once_more(void **state)
{
	(void)state;
	assert_holds(case_r19, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fleet_outage__hosts_go_on_by_their_shares_and_return_soon),
		cmocka_unit_test(
			test_fleet_outage__a_redis_that_forgot_all_costs_the_limit_once_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
