/*
 * Goal:   in a segment whose clock is given every decision follows from the moments that the
 *         callers give, to the nanosecond, and a live segment takes none.
 * Method: rl_check_at() on a segment made by the test, moments from 1970 to 2042.
 */
#include "tests/t.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/sweep.h"
#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_now.h"
#include "shm/rl_table.h"

#define MINUTE_NS (60 * RL_SECOND_NS)
#define NOW_NS    UINT64_C(1763769600000000000) /* 2025-11-22 00:00 UTC */

static struct t_seg t;
static struct rl_client *client;

static void publish(uint32_t algorithm, uint32_t limit, uint64_t window_ns)
{
	const struct rl_rule_spec spec = {
		.name = "r",
		.terms = {limit, window_ns},
		.algorithm = (uint8_t)algorithm,
		.burst = (rl_algorithm_options(algorithm) & RL_OPTION_BURST) != 0 ? limit : 0};
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
}

static int setup(void **state)
{
	const struct rl_segment_spec spec = {.keys = 1000, .mode = 0660, .clock_given = true};

	(void)state;
	t_seg_make_as(&t, &spec);
	publish(RL_SLIDING, 5, MINUTE_NS);
	client = t_attach(&t);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

static uint64_t rule(void)
{
	return t_client_rule(client, "r");
}

static int at(uint64_t now_ns, const char *key, struct rl_result *result)
{
	return rl_check_at(client, rule(), key, strlen(key), 1, now_ns, result);
}

static void test_given__moments_decide_to_the_nanosecond(void **state)
{
	static const uint64_t begin[] = {0, 60 * MINUTE_NS + 1, NOW_NS,
					 RL_GIVEN_MAX_NS - 10 * MINUTE_NS};
	static const uint64_t window[] = {RL_WINDOW_MIN_NS, RL_SECOND_NS, MINUTE_NS};
	struct rl_result result;
	char key[32];

	(void)state;
	for (size_t s = 0; s < sizeof(begin) / sizeof(begin[0]); s++)
		for (size_t w = 0; w < 3; w++) {
			uint64_t start = begin[s] + w * 3 * MINUTE_NS; /* time does not go back */

			publish(RL_SLIDING, 5, window[w]);
			snprintf(key, sizeof(key), "%zu-%zu", w, s);
			for (uint64_t i = 0; i < 5; i++)
				assert_int_equal(at(start + i, key, &result), RL_ALLOWED);
			assert_int_equal(result.now_ns, start + 4);
			assert_int_equal(at(start + window[w] - 1, key, &result), RL_LIMITED);
			assert_int_equal(result.retry_after_ns, 1);
			assert_int_equal(at(start + window[w], key, &result), RL_ALLOWED);
			assert_int_equal(at(start + window[w], key, &result), RL_LIMITED);
			assert_int_equal(at(start + window[w] + 1, key, &result), RL_ALLOWED);
			assert_int_equal(result.state, RL_STATE_FRESH);
		}
}

static void test_given__every_algorithm_goes_by_it(void **state)
{
	(void)state;
	for (uint32_t algorithm = 1; algorithm < rl_algorithm_count(); algorithm++) {
		uint32_t passed = 0;
		char key[16];
		uint64_t start = NOW_NS + algorithm * 120 * MINUTE_NS;

		publish(algorithm, 5, MINUTE_NS);
		snprintf(key, sizeof(key), "a%u", algorithm);
		/* Ten a minute for an hour; five a minute pass, and what a bucket had at first. */
		for (uint64_t i = 0; i < 600; i++)
			passed += at(start + i * 6 * RL_SECOND_NS, key, NULL) == RL_ALLOWED;
		assert_in_range(passed, 299, 306);
		/* A quick one, which counts in the smallest parts. */
		publish(algorithm, 1000, RL_SECOND_NS);
		snprintf(key, sizeof(key), "q%u", algorithm);
		for (uint64_t i = passed = 0; i < 6000; i++)
			passed += at(start + 61 * MINUTE_NS + i * 500000, key, NULL) == RL_ALLOWED;
		assert_in_range(passed, 2999, 4001);
	}
}

static void test_given__fixed_window_begins_with_the_epochs_minutes(void **state)
{
	(void)state;
	publish(1, 5, MINUTE_NS);
	for (int i = 0; i < 5; i++)
		assert_int_equal(at(NOW_NS + MINUTE_NS - 1, "k", NULL), RL_ALLOWED);
	assert_int_equal(at(NOW_NS + MINUTE_NS - 1, "k", NULL), RL_LIMITED);
	for (int i = 0; i < 5; i++)
		assert_int_equal(at(NOW_NS + MINUTE_NS, "k", NULL), RL_ALLOWED);
	assert_int_equal(at(NOW_NS + MINUTE_NS, "k", NULL), RL_LIMITED);
}

static void test_given__moments_that_go_back_admit_no_more(void **state)
{
	struct rl_result result;

	(void)state;
	for (uint32_t algorithm = 0; algorithm < rl_algorithm_count(); algorithm++) {
		char key[16];

		publish(algorithm, 5, MINUTE_NS);
		snprintf(key, sizeof(key), "a%u", algorithm);
		for (int i = 0; i < 5; i++)
			assert_int_equal(at(NOW_NS + MINUTE_NS - 1, key, NULL), RL_ALLOWED);
		while (at(NOW_NS + MINUTE_NS - 1, key, NULL) == RL_ALLOWED)
			; /* a leaky bucket's last */
		assert_int_equal(at(NOW_NS + 1, key, &result), RL_LIMITED);
		assert_int_equal(result.now_ns, NOW_NS + MINUTE_NS - 1);
		assert_true(result.retry_after_ns > 0);
		assert_int_equal(at(NOW_NS - 3600 * RL_SECOND_NS, key, NULL), RL_LIMITED);
	}
}

static void test_given__other_calls_go_by_the_latest_moment(void **state)
{
	struct rl_result result;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(at(NOW_NS, "k", &result), RL_ALLOWED);
	assert_int_equal(rl_peek(client, rule(), "k", 1, 1, NULL), RL_LIMITED);
	assert_int_equal(rl_refund(client, rule(), &result), RL_REFUNDED);
	assert_int_equal(rl_peek(client, rule(), "k", 1, 1, NULL), RL_ALLOWED);
	assert_int_equal(at(NOW_NS, "k", NULL), RL_ALLOWED);
	assert_int_equal(at(NOW_NS + MINUTE_NS, "other", NULL), RL_ALLOWED);
	assert_int_equal(rl_peek(client, rule(), "k", 1, 1, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 5);
	assert_int_equal(rl_block(client, rule(), "k", 1, 2 * RL_SECOND_NS), 0);
	assert_int_equal(at(NOW_NS + MINUTE_NS + RL_SECOND_NS, "k", &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_BLOCK);
	assert_int_equal(at(NOW_NS + MINUTE_NS + 4 * RL_SECOND_NS, "k", NULL), RL_ALLOWED);
}

static void test_given__sweep_frees_by_the_moments_too(void **state)
{
	static struct sweep sweep;

	(void)state;
	assert_int_equal(at(NOW_NS, "k", NULL), RL_ALLOWED);
	sweep_init(&sweep, &t.seg);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_now_ns(&t.seg.view, false));
	assert_int_equal(rl_table_used(&t.seg.view), 1);
	rl_now_given(t.seg.live, NOW_NS + RL_CLOCK_BIAS_NS + MINUTE_NS);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_now_ns(&t.seg.view, false));
	assert_int_equal(rl_table_used(&t.seg.view), 0);
}

static void test_given__live_segment_refuses_moments_and_this_one_the_clock(void **state)
{
	struct rl_client *live_client;
	struct rl_result result;
	struct rl_ask ask[2];
	struct rl_key key;
	struct t_seg live;
	uint64_t live_rule;

	(void)state;
	assert_int_equal(rl_check(client, rule(), "k", 1, 1, 0, &result), RL_ERR_CLOCK);
	assert_int_equal(rl_key_make(client, rule(), "k", 1, &key), 0);
	assert_int_equal(rl_check_key(client, &key, 1, 0, &result), RL_ERR_CLOCK);
	for (int i = 0; i < 2; i++)
		ask[i] = (struct rl_ask){.rule = rule(), .key = "k", .key_len = 1, .cost = 1};
	assert_int_equal(rl_check_all(client, ask, 2), RL_ERR_CLOCK);
	assert_int_equal(rl_check_batch(client, ask, 2), 0);
	assert_int_equal(ask[1].answer, RL_ERR_CLOCK);
	assert_int_equal(rl_table_used(&t.seg.view), 0);
	assert_int_equal(at(RL_GIVEN_MAX_NS + 1, "k", &result), -EINVAL);
	assert_int_equal(rl_check_at(client, rule(), "k", 1, 0, 1, &result), -EINVAL);
	assert_int_equal(rl_check_at(client, rule(), "k", 1, 6, 1, &result), RL_ERR_COST);

	t_seg_make(&live, 100);
	t_rules(&live.seg, 1, "r 5/minute");
	assert_int_equal(rl_attach(live.path, &live_client, NULL), 0);
	assert_int_equal(rl_rule(live_client, "r", &live_rule), 0);
	assert_int_equal(rl_check_at(live_client, live_rule, "k", 1, 1, 1, &result), RL_ERR_CLOCK);
	assert_int_equal(rl_check(live_client, live_rule, "k", 1, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(rl_check_at(live_client, live_rule, "k", 1, 1, 1, &result), RL_ERR_CLOCK);
	rl_detach(live_client);
	t_seg_drop(&live);
}

static void test_given__rule_that_hosts_share_is_refused(void **state)
{
	const struct rl_rule_spec spec[] = {
		{.name = "a", .terms = {5, MINUTE_NS}},
		{.name = "b",
		 .terms = {5, MINUTE_NS},
		 .fleet = {.consistency = RL_STRICT, .on_unreachable = RL_CLOSED}}};
	size_t other;

	(void)state;
	assert_int_equal(rl_rules_publish(&t.seg, spec, 2, &other), RL_E_CLOCK);
	assert_int_equal(other, 1);
	assert_int_equal(at(1, "k", NULL), RL_ALLOWED); /* the old rules stay */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_given__moments_decide_to_the_nanosecond),
		TEST(test_given__every_algorithm_goes_by_it),
		TEST(test_given__fixed_window_begins_with_the_epochs_minutes),
		TEST(test_given__moments_that_go_back_admit_no_more),
		TEST(test_given__other_calls_go_by_the_latest_moment),
		TEST(test_given__sweep_frees_by_the_moments_too),
		TEST(test_given__live_segment_refuses_moments_and_this_one_the_clock),
		TEST(test_given__rule_that_hosts_share_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
