/*
 * Goal:   the clocks of the hosts need not agree, nor be right: the fleet's window is as true.
 * Method: ten hosts whose clocks are 500 ms behind to 500 ms ahead, and one's step 2 s ahead in
 *         the middle; agents by a preloaded clock_gettime, workers' threads by the same one
 *         linked in. The recorder asks the kernel. Case R18 of bench/cases/cases.h.
 */
#include "tests/fleet/cases.h"

static void test_fleet_skew__clocks_that_are_off_and_step_change_nothing(void **state)
{
	(void)state;
	if (!t_under_tsan()) /* its runtime has a clock_gettime of its own */
		assert_holds(case_r18, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fleet_skew__clocks_that_are_off_and_step_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
