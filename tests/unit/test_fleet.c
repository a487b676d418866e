/*
 * Goal:   a rule's fleet terms survive the segment, damaged ones become safe ones, and the
 *         shares and bounds are exact to the unit.
 * Method: every valid combination there and back; random words; borders worked out by hand.
 */
#include "tests/t.h"

#include <string.h>

#include "shm/rl_fleet.h"
#include "shm/rl_terms.h"

#define MS UINT64_C(1000000)

static void assert_same(const struct rl_fleet_terms *a, const struct rl_fleet_terms *b)
{
	assert_int_equal(a->consistency, b->consistency);
	assert_int_equal(a->no_credit, b->no_credit);
	assert_int_equal(a->on_unreachable, b->on_unreachable);
	assert_int_equal(a->beta_ppm, b->beta_ppm);
	assert_int_equal(a->wait_ns, b->wait_ns);
}

static void assert_survives(struct rl_fleet_terms terms)
{
	struct rl_fleet_terms back;

	memset(&back, 0xff, sizeof(back));
	rl_fleet_unpack(rl_fleet_pack(&terms), terms.wait_ns, &back);
	assert_same(&back, &terms);
}

static void test_fleet__every_valid_combination_survives(void **state)
{
	(void)state;
	assert_survives((struct rl_fleet_terms){0});
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){0}), 0);
	for (uint8_t away = 0; away < RL_UNREACHABLES; away++) {
		assert_survives((struct rl_fleet_terms){RL_STRICT, 1, away, 0, 2 * MS});
		for (uint32_t beta = 0; beta <= 1000000; beta += 100)
			for (uint8_t deny = 0; deny < RL_NO_CREDITS; deny++)
				assert_survives(
					(struct rl_fleet_terms){RL_BOUNDED, deny, away, beta, 7});
	}
	assert_survives((struct rl_fleet_terms){RL_BOUNDED, 0, 0, 0, RL_WAIT_MAX_NS});
}

/* Other processes, built at other times, read these bits. */
static void test_fleet__each_field_has_its_bits(void **state)
{
	(void)state;
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){.consistency = RL_BOUNDED}), 1);
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){RL_BOUNDED, 1, 0, 0, 0}), 1 + 4);
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){RL_BOUNDED, 0, 3, 0, 0}), 1 + 24);
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){RL_BOUNDED, 0, 0, 100, 0}), 1 + 32);
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){RL_STRICT, 1, 2, 0, 0}),
			 2 + 4 + 16);
	assert_int_equal(rl_fleet_pack(&(struct rl_fleet_terms){RL_BOUNDED, 1, 3, 1000000, 0}),
			 1 + 4 + 24 + (10000 << 5));
}

static void test_fleet__packing_rounds_beta_down(void **state)
{
	struct rl_fleet_terms back;

	(void)state;
	rl_fleet_unpack(rl_fleet_pack(&(struct rl_fleet_terms){RL_BOUNDED, 0, 0, 99, 0}), 0, &back);
	assert_int_equal(back.beta_ppm, 0);
	rl_fleet_unpack(rl_fleet_pack(&(struct rl_fleet_terms){RL_BOUNDED, 0, 0, 199, 0}), 0,
			&back);
	assert_int_equal(back.beta_ppm, 100);
}

static void test_fleet__wrong_terms_do_not_leak_into_other_fields(void **state)
{
	struct rl_fleet_terms back, wrong = {RL_BOUNDED, 0, 0, UINT32_MAX, UINT64_MAX};

	(void)state;
	rl_fleet_unpack(rl_fleet_pack(&wrong), wrong.wait_ns, &back);
	assert_same(&back, &(struct rl_fleet_terms){RL_BOUNDED, 0, 0, 1000000, RL_WAIT_MAX_NS});
	wrong = (struct rl_fleet_terms){RL_STRICT, 0, 0xff, 500, 0};
	rl_fleet_unpack(rl_fleet_pack(&wrong), 0, &back);
	assert_same(&back, &(struct rl_fleet_terms){RL_STRICT, 1, 3, 0, 0});
	wrong = (struct rl_fleet_terms){RL_BOUNDED, 0xfe, 0xfc, 0, 0};
	assert_int_equal(rl_fleet_pack(&wrong), 1);
	wrong = (struct rl_fleet_terms){RL_EVENTUAL, 1, 3, 500, 7};
	assert_int_equal(rl_fleet_pack(&wrong), 3 + 3 * 8);
	wrong = (struct rl_fleet_terms){0xff, 0, 0, 0, 0};
	assert_int_equal(rl_fleet_pack(&wrong), 2 + 4);
}

static void assert_valid(const struct rl_fleet_terms *t)
{
	assert_true(t->consistency <= RL_EVENTUAL && t->no_credit <= 1 && t->on_unreachable <= 3);
	assert_true(t->beta_ppm <= RL_BETA_ALL_PPM && t->beta_ppm % RL_BETA_STEP_PPM == 0);
	assert_true(t->wait_ns <= RL_WAIT_MAX_NS);
	if (t->consistency == RL_STRICT)
		assert_true(t->no_credit == RL_NO_CREDIT_DENY && t->beta_ppm == 0);
	if (t->consistency == RL_LOCAL)
		assert_same(t, &(struct rl_fleet_terms){0});
	if (t->consistency == RL_EVENTUAL)
		assert_same(t, &(struct rl_fleet_terms){.consistency = RL_EVENTUAL,
							.on_unreachable = t->on_unreachable});
}

static void test_fleet__any_bits_make_valid_terms(void **state)
{
	uint64_t seed = t_seed();
	struct rl_fleet_terms terms, again;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		uint32_t flags = (uint32_t)(t_random(&seed) >> 32);
		uint64_t wait_ns = t_random(&seed) >> t_below(&seed, 64);

		rl_fleet_unpack(flags, wait_ns, &terms);
		assert_valid(&terms);
		assert_true(wait_ns > RL_WAIT_MAX_NS || terms.consistency == RL_LOCAL ||
			    terms.consistency == RL_EVENTUAL || terms.wait_ns == wait_ns);
		rl_fleet_unpack(rl_fleet_pack(&terms), terms.wait_ns, &again);
		assert_same(&again, &terms);
	}
	rl_fleet_unpack(3 | 2 << 3 | 1 << 2 | 7 << 5, 5, &terms);
	assert_same(&terms, &(struct rl_fleet_terms){RL_EVENTUAL, 0, RL_OPEN, 0, 0});
	rl_fleet_unpack(1 | 10001 << 5, 0, &terms);
	assert_int_equal(terms.beta_ppm, 1000000);
	rl_fleet_unpack(1 | UINT32_C(0xfff80000), 0, &terms); /* the free bits say nothing */
	assert_same(&terms, &(struct rl_fleet_terms){.consistency = RL_BOUNDED});
}

static struct rl_fleet_terms bounded(uint32_t beta_ppm, uint8_t no_credit)
{
	return (struct rl_fleet_terms){
		.consistency = RL_BOUNDED, .no_credit = no_credit, .beta_ppm = beta_ppm};
}

static uint32_t blind(uint32_t limit, uint32_t beta_ppm, uint32_t hosts)
{
	struct rl_fleet_terms terms = bounded(beta_ppm, 0);

	return rl_fleet_blind(limit, &terms, hosts);
}

static void test_fleet__blind_share_is_exact(void **state)
{
	struct rl_fleet_terms strict = {.consistency = RL_STRICT, .beta_ppm = 1000000};
	struct rl_fleet_terms eventual = {.consistency = RL_EVENTUAL, .beta_ppm = 1000000};
	struct rl_fleet_terms local = {.consistency = RL_LOCAL, .beta_ppm = 1000000};

	(void)state;
	assert_int_equal(blind(1000, 100000, 10), 10);
	assert_int_equal(blind(1000, 100000, 11), 9);
	assert_int_equal(blind(100, 100000, 10), 1);
	assert_int_equal(blind(100, 100000, 11), 0);
	assert_int_equal(blind(99, 100000, 10), 0);
	assert_int_equal(blind(1000, 0, 1), 0);
	assert_int_equal(blind(7, 1000000, 1), 7);
	assert_int_equal(blind(7, 999999, 1), 6);
	assert_int_equal(blind(100, 100000, 0), 0); /* how many is not known */
	assert_int_equal(blind(1048575, 1000000, 1), 1048575);
	assert_int_equal(blind(1048576, 1000000, 1), 1048575);
	assert_int_equal(blind(1048574, 1000000, 1), 1048574);
	assert_int_equal(blind(RL_LIMIT_MAX, 1000000, 1), 1048575);
	assert_int_equal(blind(RL_LIMIT_MAX, 1000000, 4096), 524287);
	assert_int_equal(blind(RL_LIMIT_MAX, 1000000, UINT32_MAX), 0);
	assert_int_equal(blind(1000, UINT32_MAX, 1), 1000); /* a damaged beta is at most all */
	assert_int_equal(rl_fleet_blind(1000, &strict, 1), 0);
	assert_int_equal(rl_fleet_blind(1000, &eventual, 1), 0);
	assert_int_equal(rl_fleet_blind(1000, &local, 1), 0);
}

static uint64_t bound(uint32_t limit, uint32_t beta_ppm, uint8_t no_credit, uint32_t hosts)
{
	struct rl_fleet_terms terms = bounded(beta_ppm, no_credit);

	return rl_fleet_bound(limit, &terms, hosts);
}

static void test_fleet__bound_is_what_is_promised(void **state)
{
	struct rl_fleet_terms strict = {.consistency = RL_STRICT}, local = {0};
	struct rl_fleet_terms eventual = {.consistency = RL_EVENTUAL};

	(void)state;
	assert_int_equal(rl_fleet_bound(1000, &strict, 10), 1000);
	assert_int_equal(rl_fleet_bound(1000, &local, 10), 1000); /* on each host */
	assert_int_equal(rl_fleet_bound(1000, &eventual, 10), 10000);
	assert_int_equal(rl_fleet_bound(1000, &eventual, 0), 1000);
	assert_int_equal(rl_fleet_bound(RL_LIMIT_MAX, &eventual, UINT32_MAX),
			 UINT64_C(0x7fffffff) * UINT32_MAX);
	assert_int_equal(bound(1000, 100000, RL_NO_CREDIT_DENY, 10), 1100);
	assert_int_equal(bound(1000, 100000, RL_NO_CREDIT_DENY, 11), 1000 + 11 * 9);
	assert_int_equal(bound(100, 100000, RL_NO_CREDIT_DENY, 11), 100);
	assert_int_equal(bound(1000, 100000, RL_NO_CREDIT_ALLOW, 10), 1200);
	assert_int_equal(bound(100, 100000, RL_NO_CREDIT_ALLOW, 10), 120);
	assert_int_equal(bound(100, 100000, RL_NO_CREDIT_ALLOW, 50), 200); /* a debt of 1 each */
	assert_int_equal(bound(100, 0, RL_NO_CREDIT_ALLOW, 0), 102);
	assert_int_equal(bound(100, 0, RL_NO_CREDIT_DENY, 0), 100);
	assert_int_equal(bound(RL_LIMIT_MAX, 1000000, RL_NO_CREDIT_ALLOW, UINT32_MAX),
			 UINT64_C(0x7fffffff) + 2 * UINT64_C(0xffffffff));
}

static void test_fleet__interval_follows_the_window_within_its_borders(void **state)
{
	(void)state;
	assert_int_equal(rl_fleet_interval_ns(0), 10 * MS);
	assert_int_equal(rl_fleet_interval_ns(RL_WINDOW_MIN_NS), 10 * MS);
	assert_int_equal(rl_fleet_interval_ns(500 * MS), 10 * MS);
	assert_int_equal(rl_fleet_interval_ns(550 * MS), 11 * MS);
	assert_int_equal(rl_fleet_interval_ns(4950 * MS), 99 * MS);
	assert_int_equal(rl_fleet_interval_ns(5050 * MS), 100 * MS);
	assert_int_equal(rl_fleet_interval_ns(RL_WINDOW_MAX_NS), 100 * MS);
}

static void test_fleet__words_are_those_of_the_configuration(void **state)
{
	(void)state;
	assert_string_equal(rl_consistency_name(RL_LOCAL), "local");
	assert_string_equal(rl_consistency_name(RL_BOUNDED), "bounded");
	assert_string_equal(rl_consistency_name(RL_STRICT), "strict");
	assert_string_equal(rl_consistency_name(RL_EVENTUAL), "eventual");
	assert_string_equal(rl_consistency_name(4), "?");
	assert_string_equal(rl_no_credit_name(RL_NO_CREDIT_ALLOW), "allow");
	assert_string_equal(rl_no_credit_name(RL_NO_CREDIT_DENY), "deny");
	assert_string_equal(rl_no_credit_name(2), "?");
	assert_string_equal(rl_unreachable_name(RL_SHARE), "share");
	assert_string_equal(rl_unreachable_name(RL_OWN), "local");
	assert_string_equal(rl_unreachable_name(RL_OPEN), "open");
	assert_string_equal(rl_unreachable_name(RL_CLOSED), "closed");
	assert_string_equal(rl_unreachable_name(UINT32_MAX), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fleet__every_valid_combination_survives),
		cmocka_unit_test(test_fleet__each_field_has_its_bits),
		cmocka_unit_test(test_fleet__packing_rounds_beta_down),
		cmocka_unit_test(test_fleet__wrong_terms_do_not_leak_into_other_fields),
		cmocka_unit_test(test_fleet__any_bits_make_valid_terms),
		cmocka_unit_test(test_fleet__blind_share_is_exact),
		cmocka_unit_test(test_fleet__bound_is_what_is_promised),
		cmocka_unit_test(test_fleet__interval_follows_the_window_within_its_borders),
		cmocka_unit_test(test_fleet__words_are_those_of_the_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
