/*
 * Goal:   a host that vanishes with all it holds costs the fleet neither its limit nor, for
 *         longer than Redis waits for it, its use.
 * Method: ten hosts at twice the limit; one is sent no more, its agent killed and its segment
 *         removed while it holds leases; the others go on. Case R16 of bench/cases/cases.h.
 */
#include "tests/fleet/cases.h"

static void test_fleet_gone__a_vanished_hosts_leases_are_charged_and_the_rest_is_used(void **state)
{
	(void)state;
	assert_holds(case_r16, 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_fleet_gone__a_vanished_hosts_leases_are_charged_and_the_rest_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
