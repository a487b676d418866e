/*
 * Goal:   the bound in force is the number of the formulas: L; L + N c0; L + 2 N max(1, c0); N L;
 * and while Redis does not answer what on_unreachable allows a host. Method: terms and hosts by
 * hand, each consistency and each policy.
 */
#include "tests/t.h"

#include "shm/rl_bound.h"

static struct rl_rule shared(uint32_t limit, uint8_t consistency, uint32_t beta_ppm,
			     uint8_t no_credit, uint8_t on_unreachable)
{
	struct rl_fleet_terms terms = {.consistency = consistency,
				       .no_credit = no_credit,
				       .on_unreachable = on_unreachable,
				       .beta_ppm = beta_ppm};

	return (struct rl_rule){
		.limit = limit, .window_ns = UINT64_C(1000000000), .fleet = rl_fleet_pack(&terms)};
}

static void expect(struct rl_bound got, uint64_t units, enum rl_bound_by by, bool of_fleet)
{
	assert_int_equal(got.units, units);
	assert_int_equal(got.by, by);
	assert_int_equal(got.of_fleet, of_fleet);
}

static void test_bound__while_redis_answers_it_is_what_is_promised(void **state)
{
	struct rl_rule strict = shared(1000, RL_STRICT, 0, RL_NO_CREDIT_DENY, RL_CLOSED);
	struct rl_rule deny = shared(1000, RL_BOUNDED, 100000, RL_NO_CREDIT_DENY, RL_SHARE);
	struct rl_rule allow = shared(1000, RL_BOUNDED, 100000, RL_NO_CREDIT_ALLOW, RL_SHARE);
	struct rl_rule eventual = shared(1000, RL_EVENTUAL, 0, 0, RL_SHARE);

	(void)state;
	expect(rl_bound_in_force(&strict, 10, RL_FRESH), 1000, RL_BOUND_STRICT, true);
	expect(rl_bound_in_force(&deny, 10, RL_FRESH), 1100, RL_BOUND_BOUNDED, true);
	expect(rl_bound_in_force(&deny, 7, RL_FRESH), 1000 + 7 * 14, RL_BOUND_BOUNDED, true);
	expect(rl_bound_in_force(&deny, 101, RL_FRESH), 1000, RL_BOUND_BOUNDED, true);
	expect(rl_bound_in_force(&allow, 10, RL_FRESH), 1200, RL_BOUND_BOUNDED, true);
	expect(rl_bound_in_force(&allow, 101, RL_FRESH), 1202, RL_BOUND_BOUNDED, true);
	expect(rl_bound_in_force(&eventual, 10, RL_FRESH), 10000, RL_BOUND_EVENTUAL, true);
	expect(rl_bound_in_force(&eventual, 0, RL_FRESH), 1000, RL_BOUND_EVENTUAL, true);
}

static void test_bound__while_it_does_not_on_unreachable_decides(void **state)
{
	struct rl_rule share = shared(1000, RL_BOUNDED, 100000, RL_NO_CREDIT_DENY, RL_SHARE);
	struct rl_rule own = shared(1000, RL_BOUNDED, 100000, RL_NO_CREDIT_DENY, RL_OWN);
	struct rl_rule open = shared(1000, RL_BOUNDED, 100000, RL_NO_CREDIT_DENY, RL_OPEN);
	struct rl_rule closed = shared(1000, RL_BOUNDED, 100000, RL_NO_CREDIT_DENY, RL_CLOSED);
	struct rl_rule strict = shared(10, RL_STRICT, 0, RL_NO_CREDIT_DENY, RL_SHARE);
	struct rl_rule small = shared(10, RL_BOUNDED, 0, RL_NO_CREDIT_DENY, RL_SHARE);

	(void)state;
	expect(rl_bound_in_force(&share, 10, RL_STALE), 102, RL_BOUND_SHARE, false);
	expect(rl_bound_in_force(&share, 10, RL_ALONE), 102, RL_BOUND_SHARE, false);
	expect(rl_bound_in_force(&share, 1, RL_STALE), 1000, RL_BOUND_SHARE, false);
	expect(rl_bound_in_force(&own, 10, RL_STALE), 1000, RL_BOUND_OWN, false);
	expect(rl_bound_in_force(&open, 10, RL_STALE), RL_BOUND_NONE, RL_BOUND_OPEN, false);
	expect(rl_bound_in_force(&closed, 10, RL_STALE), 1100, RL_BOUND_CLOSED, true);
	/* A share that rounds to 0: none of a strict rule, one of a bounded one. */
	expect(rl_bound_in_force(&strict, 20, RL_STALE), 0, RL_BOUND_SHARE, false);
	expect(rl_bound_in_force(&small, 20, RL_STALE), 2, RL_BOUND_SHARE, false);
}

static void test_bound__local_rule_knows_no_redis(void **state)
{
	struct rl_rule rule = {.limit = 46, .window_ns = UINT64_C(1000000000)};

	(void)state;
	expect(rl_bound_in_force(&rule, 10, RL_ALONE), 46, RL_BOUND_LOCAL, false);
	rule.fleet = RL_RULE_INTERPOLATE;
	assert_true(rl_bound_in_force(&rule, 10, RL_FRESH).units > 46);
	rule.fleet = UINT32_C(2) << RL_RULE_ALGORITHM_AT; /* a token bucket */
	rule.burst = 10;
	expect(rl_bound_in_force(&rule, 10, RL_FRESH), 56, RL_BOUND_LOCAL, false);
}

static void test_bound__rule_that_lets_everything_pass_has_none(void **state)
{
	struct rl_rule rule = shared(1000, RL_STRICT, 0, RL_NO_CREDIT_DENY, RL_CLOSED);

	(void)state;
	rule.fleet |= RL_RULE_OFF;
	expect(rl_bound_in_force(&rule, 10, RL_STALE), RL_BOUND_NONE, RL_BOUND_OFF, false);
	rule.fleet ^= RL_RULE_OFF | RL_RULE_SHADOW;
	rule.shadow_ppm = 1000000;
	expect(rl_bound_in_force(&rule, 10, RL_FRESH), RL_BOUND_NONE, RL_BOUND_SHADOW, false);
	rule.shadow_ppm = 999999; /* it is kept for the others */
	expect(rl_bound_in_force(&rule, 10, RL_FRESH), 1000, RL_BOUND_STRICT, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound__while_redis_answers_it_is_what_is_promised),
		cmocka_unit_test(test_bound__while_it_does_not_on_unreachable_decides),
		cmocka_unit_test(test_bound__local_rule_knows_no_redis),
		cmocka_unit_test(test_bound__rule_that_lets_everything_pass_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
