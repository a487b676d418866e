/*
 * Goal:   the estimate of the store's clock holds the truth, gets as good as the quickest answer,
 *         and notices a step of that clock once.
 * Method: answers made up from a clock that the test knows, with random delays on both ways.
 */
#include "tests/t.h"

#include "agent/watch/skew.h"

#define MS   UINT64_C(1000000)
#define SEC  UINT64_C(1000000000)
#define BASE (UINT64_C(1700000000) * SEC) /* the store's clock, when ours is 0 */

static int64_t add_of(const struct skew *skew, uint64_t now_ns, uint64_t *ret_by_ns)
{
	int64_t add_ns;

	assert_true(skew_now(skew, now_ns, &add_ns, ret_by_ns));
	return add_ns;
}

/* The store read its clock up_ns after the call was sent, down_ns before the answer came. */
static enum skew_news answer(struct skew *skew, uint64_t sent_ns, uint64_t up_ns, uint64_t down_ns,
			     uint64_t add_ns, int64_t *ret_step_ns)
{
	return skew_answer(skew, sent_ns, sent_ns + up_ns + down_ns,
			   (sent_ns + up_ns + add_ns) / MS, ret_step_ns);
}

static void test_skew__nothing_is_known_before_the_first_answer(void **state)
{
	struct skew skew = {0};
	int64_t add_ns;
	uint64_t by_ns;

	(void)state;
	assert_false(skew_now(&skew, SEC, &add_ns, &by_ns));
	assert_false(skew_is_steady(&skew));
}

static void test_skew__truth_is_always_within_what_is_said(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int run = 0; run < 200; run++) {
		uint64_t now_ns = SEC + t_below(&seed, SEC),
			 add_ns = BASE + t_below(&seed, 10 * SEC);
		struct skew skew = {0};

		for (int i = 0; i < 50; i++) {
			uint64_t up_ns = t_below(&seed, 3 * MS), down_ns = t_below(&seed, 3 * MS);
			uint64_t took_ns = up_ns + down_ns + t_below(&seed, 100 * MS), by_ns;
			int64_t step_ns, got;

			assert_int_equal(answer(&skew, now_ns, up_ns, down_ns, add_ns, &step_ns),
					 SKEW_SAME);
			now_ns += took_ns;
			add_ns += took_ns / 2000 * t_below(&seed, 100) / 100; /* below 500 ppm */
			got = add_of(&skew, now_ns, &by_ns);
			assert_true(got - (int64_t)by_ns <= (int64_t)add_ns + 1);
			assert_true(got + (int64_t)by_ns >= (int64_t)add_ns - 1);
		}
	}
}

static void test_skew__quick_answers_make_slow_ones_precise(void **state)
{
	struct skew skew = {0};
	uint64_t by_ns, now_ns = SEC;
	int64_t step_ns;

	(void)state;
	answer(&skew, now_ns, 200 * MS, 0, BASE, &step_ns);
	add_of(&skew, now_ns + 200 * MS, &by_ns);
	assert_in_range(by_ns, 100 * MS, 101 * MS); /* half of the round trip */
	for (int i = 0; i < 100; i++)
		answer(&skew, now_ns += 10 * MS + 137000, 50000, 50000, BASE, &step_ns);
	add_of(&skew, now_ns, &by_ns);
	assert_true(by_ns < 200000); /* below the millisecond that answers are cut to */
	answer(&skew, now_ns += MS, 90 * MS, 90 * MS, BASE, &step_ns);
	add_of(&skew, now_ns + 180 * MS, &by_ns);
	assert_true(by_ns < 200000 + 180 * MS / 2000 + 1000);
}

/* Answers every 10 ms, from *now_ns to until_ns; how many steps, and the sum of them. */
static int steps(struct skew *skew, uint64_t *now_ns, uint64_t until_ns, uint64_t add_ns,
		 int64_t *ret_sum_ns)
{
	int count = 0;

	for (; *now_ns < until_ns; *now_ns += 10 * MS) {
		int64_t step_ns;

		if (answer(skew, *now_ns, 100000, 100000, add_ns, &step_ns) == SKEW_STEPPED) {
			count++;
			*ret_sum_ns += step_ns;
		}
	}
	return count;
}

static void expect_step(int64_t by_ns)
{
	struct skew skew = {0};
	uint64_t now_ns = SEC, error_ns;
	int64_t sum_ns = 0;

	assert_int_equal(steps(&skew, &now_ns, 3 * SEC, BASE, &sum_ns), 0);
	assert_int_equal(steps(&skew, &now_ns, 3 * SEC + 400 * MS, BASE + (uint64_t)by_ns, &sum_ns),
			 0);
	assert_false(skew_is_steady(&skew));
	assert_int_equal(steps(&skew, &now_ns, 9 * SEC, BASE + (uint64_t)by_ns, &sum_ns), 1);
	assert_true(skew_is_steady(&skew));
	assert_true(sum_ns > by_ns - 2000000 && sum_ns < by_ns + 2000000);
	assert_true(add_of(&skew, now_ns, &error_ns) - (int64_t)BASE - by_ns < 1000000);
}

static void test_skew__step_of_the_stores_clock_is_noticed_once(void **state)
{
	(void)state;
	expect_step((int64_t)(2 * SEC));
	expect_step(-(int64_t)(2 * SEC));
	expect_step((int64_t)(60 * MS));
	expect_step(-(int64_t)(3600 * SEC));
}

static void test_skew__single_wrong_answer_is_no_step(void **state)
{
	struct skew skew = {0};
	uint64_t now_ns = SEC;
	int64_t sum_ns = 0, step_ns;

	(void)state;
	steps(&skew, &now_ns, 2 * SEC, BASE, &sum_ns);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(answer(&skew, now_ns, 1000, 1000, BASE + 5 * SEC, &step_ns),
				 SKEW_SAME);
		now_ns += 10 * MS;
		assert_int_equal(steps(&skew, &now_ns, now_ns + 20 * MS, BASE, &sum_ns), 0);
		assert_true(skew_is_steady(&skew));
	}
}

/* A partition's time stands still after a step back, until the clock has caught up. */
static void test_skew__clock_that_stands_still_and_goes_on_has_stepped_once(void **state)
{
	struct skew skew = {0};
	uint64_t now_ns = SEC, frozen_ns;
	int64_t sum_ns = 0, step_ns;
	int count = 0;

	(void)state;
	steps(&skew, &now_ns, 3 * SEC, BASE, &sum_ns);
	frozen_ns = now_ns;
	for (; now_ns < frozen_ns + SEC; now_ns += 10 * MS)
		count += skew_answer(&skew, now_ns, now_ns + 200000, (BASE + frozen_ns) / MS,
				     &step_ns) == SKEW_STEPPED;
	count += steps(&skew, &now_ns, now_ns + 3 * SEC, BASE - SEC, &sum_ns);
	assert_int_equal(count, 1);
	assert_true(sum_ns > -(int64_t)SEC - 2000000 && sum_ns < -(int64_t)SEC + 2000000);
}

static void test_skew__nonsense_is_not_believed(void **state)
{
	struct skew skew = {0};
	int64_t step_ns, add_ns;
	uint64_t by_ns;

	(void)state;
	skew_answer(&skew, 2 * SEC, SEC, 5, &step_ns); /* answered before it was sent */
	skew_answer(&skew, SEC, 2 * SEC, UINT64_MAX, &step_ns);
	skew_answer(&skew, SEC, 2 * SEC, INT64_MAX / 2, &step_ns); /* beyond 64 bits of ns */
	assert_false(skew_now(&skew, SEC, &add_ns, &by_ns));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_skew__nothing_is_known_before_the_first_answer),
		cmocka_unit_test(test_skew__truth_is_always_within_what_is_said),
		cmocka_unit_test(test_skew__quick_answers_make_slow_ones_precise),
		cmocka_unit_test(test_skew__step_of_the_stores_clock_is_noticed_once),
		cmocka_unit_test(test_skew__single_wrong_answer_is_no_step),
		cmocka_unit_test(test_skew__clock_that_stands_still_and_goes_on_has_stepped_once),
		cmocka_unit_test(test_skew__nonsense_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
