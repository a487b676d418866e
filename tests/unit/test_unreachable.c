/*
 * Goal:   while Redis does not answer a host admits what the rule's on_unreachable says: its
 *         share by rate, by the frozen total and by its own window; its own limit; all; nothing.
 * Method: virtual time, one slot whose partition is stale; the borders of each of the three tests
 *         of "share" with the two others out of the way.
 */
#include "tests/shared_key.h"

#include "shm/rl_unreachable.h"

#define START (RL_CLOCK_BIAS_NS + 1000 * RL_SECOND_NS)
#define W     (100 * RL_SECOND_NS)

static struct shared_key k;
static struct rl_window_answer answer;

static int setup(void **state)
{
	(void)state;
	shared_key_make(&k, "100/100s", (struct rl_fleet_terms){RL_BOUNDED, 1, RL_SHARE, 0, 0},
			START);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	shared_key_drop(&k);
	return 0;
}

static void use(uint8_t consistency, uint8_t on_unreachable, const char *terms, uint64_t hosts)
{
	shared_rule(&k, terms,
		    (struct rl_fleet_terms){consistency, RL_NO_CREDIT_DENY, on_unreachable, 0, 0});
	k.t.seg.fleet->hosts = hosts;
}

static int try(uint32_t cost, uint64_t now)
{
	struct rl_window_terms terms = shared_terms(&k);
	struct rl_fleet_terms fleet;
	struct rl_shared_ask ask = {.index = k.index,
				    .head = shared_slot(&k)->head,
				    .rule = &k.rule,
				    .terms = &terms,
				    .cost = cost,
				    .now_ns = now};

	rl_fleet_unpack(k.rule.fleet, k.rule.wait_ns, &fleet);
	return rl_unreachable_try(&k.t.seg, &ask, &fleet, &answer);
}

/* Redis knows of all but so many. */
static void acknowledge_all_but(uint64_t units)
{
	shared_side(&k)->acked = rl_acked(shared_n(&k) - units, true, 2);
}

static uint32_t at_once(uint64_t now)
{
	uint32_t count = 0;

	while (count < 1000 && try(1, now) == RL_TRY_ALLOWED)
		count++;
	return count;
}

static void test_unreachable__closed_admits_nothing(void **state)
{
	uint64_t head = shared_slot(&k)->head;

	(void)state;
	use(RL_STRICT, RL_CLOSED, "100/100s", 1);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(answer.wait_ns, RL_SECOND_NS);
	assert_true(shared_slot(&k)->head == head);
}

static void test_unreachable__open_admits_and_counts_everything(void **state)
{
	uint64_t n = shared_n(&k);

	(void)state;
	use(RL_BOUNDED, RL_OPEN, "100/100s", 5);
	shared_give(&k, 3);
	assert_int_equal(at_once(START), 1000);
	assert_int_equal(shared_n(&k), n + 1000);
	assert_int_equal(shared_credit(&k), 3); /* it is not from credit */
}

static void test_unreachable__local_is_the_own_window_at_the_whole_limit(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_OWN, "100/100s", 5);
	assert_in_range(at_once(START), 100 - 4, 100); /* q - 1 may be held: no number is skipped */
	assert_int_equal(answer.wait_ns, W + 1);
	assert_int_equal(try(1, START + W), RL_TRY_LIMITED);
	assert_int_equal(try(1, START + W + 1), RL_TRY_ALLOWED);
}

/* 100 for 4 hosts: 25 in a window, one at once, then one in four seconds. */
static void test_unreachable__share_is_a_rate_with_a_small_burst(void **state)
{
	uint32_t count;

	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 4);
	acknowledge_all_but(0);
	count = at_once(START);
	assert_int_equal(count, 1);
	assert_in_range(answer.wait_ns, 4 * RL_SECOND_NS, 4 * RL_SECOND_NS + 10);
	for (uint64_t ms = 50; ms <= 100000; ms += 50) {
		acknowledge_all_but(0);
		count += at_once(START + ms * 1000000);
	}
	assert_in_range(count, 25, 26);
}

static void test_unreachable__burst_is_a_fiftieth_of_the_share(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_SHARE, "1000/100s", 2);
	for (int i = 0; i < 10; i++) {
		acknowledge_all_but(0);
		assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	}
	acknowledge_all_but(0);
	assert_int_equal(try(1, START), RL_TRY_LIMITED); /* 500 / 50 */
}

static void test_unreachable__cost_above_the_burst_passes_once_idle(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 4);
	acknowledge_all_but(0);
	assert_int_equal(try(5, START), RL_TRY_ALLOWED);
	acknowledge_all_but(0);
	assert_int_equal(try(5, START + 19 * RL_SECOND_NS), RL_TRY_LIMITED);
	assert_int_equal(try(5, START + 21 * RL_SECOND_NS), RL_TRY_ALLOWED);
}

/* 3 for 10 hosts: bounded, each may have one in a window. */
static void test_unreachable__bounded_share_below_one_is_one_a_window(void **state)
{
	uint32_t count = 0;

	(void)state;
	use(RL_BOUNDED, RL_SHARE, "3/100s", 10);
	acknowledge_all_but(0);
	for (uint64_t s = 0; s < 1000; s++)
		count += at_once(START + s * RL_SECOND_NS);
	assert_in_range(count, 9, 10);
}

/* And not while the fleet's window holds anything of before the outage. */
static void test_unreachable__bounded_share_below_one_waits_for_the_frozen_total(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_SHARE, "3/100s", 10);
	acknowledge_all_but(0);
	shared_side(&k)->total = rl_total(START, 3);
	assert_int_equal(at_once(START + W / 2), 0);
	assert_int_equal(at_once(START + W + RL_SECOND_NS), 1);
}

static void test_unreachable__strict_share_below_one_is_none(void **state)
{
	(void)state;
	use(RL_STRICT, RL_SHARE, "3/100s", 10);
	acknowledge_all_but(0);
	for (uint64_t s = 0; s < 1000; s += 10)
		assert_int_equal(at_once(START + s * RL_SECOND_NS), 0);
	assert_int_equal(answer.wait_ns, W / 8);
	use(RL_STRICT, RL_SHARE, "10/100s", 10);
	assert_int_equal(at_once(START), 1);
}

/* 10 hosts, 100 at the last answer: one more of each fits when 10 of them have left. */
static void test_unreachable__frozen_total_fades_over_the_window(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 10);
	acknowledge_all_but(0);
	shared_side(&k)->total = rl_total(START, 100);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(answer.wait_ns, W / 8);
	assert_int_equal(try(1, START + 9 * RL_SECOND_NS), RL_TRY_LIMITED);
	assert_int_equal(shared_slot(&k)->state, 0); /* the rate is not spent */
	assert_int_equal(try(1, START + 12 * RL_SECOND_NS), RL_TRY_ALLOWED);
}

static void test_unreachable__frozen_total_is_over_after_a_window(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 10);
	acknowledge_all_but(0);
	shared_side(&k)->total = rl_total(START, UINT32_MAX);
	assert_int_equal(try(1, START + 99 * RL_SECOND_NS), RL_TRY_LIMITED);
	assert_int_equal(try(1, START + W + RL_SECOND_NS), RL_TRY_ALLOWED);
}

/* Its time has 32 bits, in units of 4.2 ms. */
static void test_unreachable__frozen_total_fades_over_the_wrap_of_its_time(void **state)
{
	uint64_t wrap = UINT64_C(3) << 54;

	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 10);
	acknowledge_all_but(0);
	shared_side(&k)->total = rl_total(wrap - RL_SECOND_NS, 100);
	assert_int_equal(try(1, wrap + 7 * RL_SECOND_NS), RL_TRY_LIMITED);
	assert_int_equal(try(1, wrap + 12 * RL_SECOND_NS), RL_TRY_ALLOWED);
}

/* As many as this host has admitted since the last answer, the nine others may have too. */
static void test_unreachable__units_since_the_last_answer_count_for_every_host(void **state)
{
	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 10);
	shared_side(&k)->total = rl_total(START, 50); /* half of it has faded: 25, + 1 */
	acknowledge_all_but(6);
	assert_int_equal(try(1, START + W / 2), RL_TRY_ALLOWED);
	acknowledge_all_but(7);
	shared_slot(&k)->state = 0;
	assert_int_equal(try(1, START + W / 2), RL_TRY_LIMITED);
	/* Never as more than their shares: the rate sees to that. */
	acknowledge_all_but(90);
	shared_side(&k)->total = 0;
	assert_int_equal(try(1, START + W / 2), RL_TRY_ALLOWED);
}

static void test_unreachable__own_window_holds_at_the_limit(void **state)
{
	uint64_t now = START + 50 * RL_SECOND_NS;

	(void)state;
	use(RL_BOUNDED, RL_SHARE, "100/100s", 1);
	for (int i = 0; i < 100; i++)
		assert_int_equal(rl_window_add(shared_slot(&k), shared_slot(&k)->head,
					       shared_terms(&k).q, 1, 0, START),
				 RL_TRY_ALLOWED);
	acknowledge_all_but(0);
	assert_int_equal(try(1, now), RL_TRY_LIMITED);
	assert_int_equal(answer.wait_ns, START + W + 1 - now);
	assert_int_equal(shared_slot(&k)->state, now); /* the rate's part is given back */
	assert_int_equal(try(1, START + W + 1), RL_TRY_ALLOWED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unreachable__closed_admits_nothing),
		TEST(test_unreachable__open_admits_and_counts_everything),
		TEST(test_unreachable__local_is_the_own_window_at_the_whole_limit),
		TEST(test_unreachable__share_is_a_rate_with_a_small_burst),
		TEST(test_unreachable__burst_is_a_fiftieth_of_the_share),
		TEST(test_unreachable__cost_above_the_burst_passes_once_idle),
		TEST(test_unreachable__bounded_share_below_one_is_one_a_window),
		TEST(test_unreachable__bounded_share_below_one_waits_for_the_frozen_total),
		TEST(test_unreachable__strict_share_below_one_is_none),
		TEST(test_unreachable__frozen_total_fades_over_the_window),
		TEST(test_unreachable__frozen_total_is_over_after_a_window),
		TEST(test_unreachable__frozen_total_fades_over_the_wrap_of_its_time),
		TEST(test_unreachable__units_since_the_last_answer_count_for_every_host),
		TEST(test_unreachable__own_window_holds_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
