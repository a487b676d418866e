/*
 * Goal:   a rate in one word admits its burst, then its rate, and says exactly when the next one
 *         passes.
 * Method: virtual time; a reference case with numbers worked out by hand, borders both ways, and
 *         random requests judged by the largest window of their log.
 */
#include "tests/t.h"

#include "shm/rl_clock.h"
#include "shm/rl_gcra.h"
#include "shm/rl_terms.h"

#define START RL_CLOCK_BIAS_NS
#define MS    UINT64_C(1000000)

static uint64_t taken; /* what the word was after the last take */

static uint64_t take(_Atomic uint64_t *word, uint64_t cost_ns, uint64_t burst_ns, uint64_t now_ns)
{
	return rl_gcra_take(word, cost_ns, burst_ns, now_ns, &taken);
}

static _Atomic uint64_t word;

/* 100 a second, burst 10: 200 at once, then one in 5 ms for a second. */
static void test_gcra__reference_case_admits_10_then_100(void **state)
{
	uint64_t cost = rl_gcra_span(1, 100, RL_SECOND_NS), at[300];
	uint32_t count = 0, largest = 0;

	(void)state;
	word = 0;
	for (int i = 0; i < 200; i++)
		if (take(&word, cost, 10 * cost, START) == 0)
			at[count++] = START;
	assert_int_equal(count, 10);
	for (uint64_t i = 1; i <= 200; i++)
		if (take(&word, cost, 10 * cost, START + i * 5 * MS) == 0)
			at[count++] = START + i * 5 * MS;
	assert_in_range(count, 10 + 99, 10 + 101);
	for (uint32_t i = 0, j = 0; i < count; i++) {
		while (at[i] - at[j] >= RL_SECOND_NS)
			j++;
		if (i - j + 1 > largest)
			largest = i - j + 1;
	}
	assert_in_range(largest, 100, 110);
}

static void test_gcra__refusal_says_when_it_passes_to_the_nanosecond(void **state)
{
	uint64_t cost = rl_gcra_span(1, 100, RL_SECOND_NS), wait;

	(void)state;
	word = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(take(&word, cost, 3 * cost, START), 0);
	wait = take(&word, cost, 3 * cost, START);
	assert_int_equal(wait, cost);
	assert_int_equal(take(&word, cost, 3 * cost, START + wait - 1), 1);
	assert_int_equal(word, START + 3 * cost); /* a refusal costs nothing */
	assert_int_equal(take(&word, cost, 3 * cost, START + wait), 0);
}

static void test_gcra__idle_rate_has_its_burst_and_no_more(void **state)
{
	uint64_t cost = rl_gcra_span(1, 100, RL_SECOND_NS);
	uint32_t count = 0;

	(void)state;
	word = 0;
	take(&word, cost, 5 * cost, START);
	while (take(&word, cost, 5 * cost, START + 1000 * RL_SECOND_NS) == 0)
		count++;
	assert_int_equal(count, 5);
}

/* It would never pass, else: once it is not ahead at all, it does. */
static void test_gcra__cost_above_the_burst_passes_when_idle(void **state)
{
	uint64_t unit = rl_gcra_span(1, 100, RL_SECOND_NS), wait;

	(void)state;
	word = 0;
	assert_int_equal(take(&word, 50 * unit, 10 * unit, START), 0);
	wait = take(&word, 50 * unit, 10 * unit, START + 1);
	assert_int_equal(wait, 50 * unit - 1);
	assert_int_not_equal(take(&word, 50 * unit, 10 * unit, START + wait), 0);
	assert_int_equal(take(&word, 50 * unit, 10 * unit, START + 1 + wait), 0);
	/* Small ones wait for what it took. */
	assert_int_not_equal(take(&word, unit, 10 * unit, START + 2 + wait), 0);
}

static void test_gcra__what_is_returned_can_be_taken_again(void **state)
{
	uint64_t cost = rl_gcra_span(1, 100, RL_SECOND_NS);

	(void)state;
	word = 0;
	assert_int_equal(take(&word, cost, cost, START), 0);
	assert_int_not_equal(take(&word, cost, cost, START), 0);
	rl_gcra_return(&word, taken, cost);
	assert_int_equal(take(&word, cost, cost, START), 0);
}

static void test_gcra__clock_that_lies_behind_is_refused_no_longer_than_the_word(void **state)
{
	uint64_t cost = rl_gcra_span(1, 100, RL_SECOND_NS);

	(void)state;
	word = 0;
	take(&word, cost, cost, START);
	assert_int_equal(take(&word, cost, cost, START - MS), cost + MS);
}

static void test_gcra__spans_of_the_largest_and_the_smallest_rate(void **state)
{
	(void)state;
	assert_true(rl_gcra_span(1, 1, RL_WINDOW_MAX_NS) >= RL_WINDOW_MAX_NS);
	assert_true(rl_gcra_span(1, 1, RL_WINDOW_MAX_NS) < RL_WINDOW_MAX_NS + 1000);
	assert_true(rl_gcra_span(1, RL_LIMIT_MAX, RL_WINDOW_MIN_NS) >= 1);
	assert_true(rl_gcra_span(RL_LIMIT_MAX, RL_LIMIT_MAX, RL_WINDOW_MIN_NS) >= RL_WINDOW_MIN_NS);
	assert_true(rl_gcra_span(RL_LIMIT_MAX, RL_LIMIT_MAX, RL_WINDOW_MIN_NS) <
		    RL_WINDOW_MIN_NS + 1000);
	assert_true(rl_gcra_span(UINT64_C(1) << 52, 1, RL_WINDOW_MAX_NS) == UINT64_C(1) << 62);
	for (uint64_t limit = 1; limit < RL_LIMIT_MAX; limit = limit * 7 + 3)
		assert_true(rl_gcra_span(limit, limit, RL_SECOND_NS) >= RL_SECOND_NS);
}

static void test_gcra__once_a_year(void **state)
{
	uint64_t cost = rl_gcra_span(1, 1, RL_WINDOW_MAX_NS);

	(void)state;
	word = 0;
	assert_int_equal(take(&word, cost, cost, START), 0);
	assert_int_equal(take(&word, cost, cost, START + cost - 1), 1);
	assert_int_equal(take(&word, cost, cost, START + cost), 0);
}

/* In any time the burst and the rate of that time, and one at the edge. */
static void test_gcra__random_requests_never_exceed_burst_and_rate(void **state)
{
	enum { MANY = 3000 };
	static uint64_t at[MANY];
	uint64_t seed = t_seed();

	(void)state;
	for (int round = 0; round < 20; round++) {
		uint64_t limit = 1 + t_below(&seed, 1000), burst = 1 + t_below(&seed, 20);
		uint64_t cost = rl_gcra_span(1, limit, RL_SECOND_NS), now = START;
		size_t count = 0;

		word = 0;
		for (int i = 0; i < MANY; i++) {
			now += t_below(&seed, 10) == 0 ? t_below(&seed, 20 * cost) : cost / 4;
			if (take(&word, cost, burst * cost, now) == 0)
				at[count++] = now;
		}
		for (size_t i = 0; i < count; i += 1 + i % 7)
			for (size_t j = 0; j <= i; j++)
				assert_true(i - j + 1 <= burst + (at[i] - at[j]) / cost);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gcra__reference_case_admits_10_then_100),
		cmocka_unit_test(test_gcra__refusal_says_when_it_passes_to_the_nanosecond),
		cmocka_unit_test(test_gcra__idle_rate_has_its_burst_and_no_more),
		cmocka_unit_test(test_gcra__cost_above_the_burst_passes_when_idle),
		cmocka_unit_test(test_gcra__what_is_returned_can_be_taken_again),
		cmocka_unit_test(
			test_gcra__clock_that_lies_behind_is_refused_no_longer_than_the_word),
		cmocka_unit_test(test_gcra__spans_of_the_largest_and_the_smallest_rate),
		cmocka_unit_test(test_gcra__once_a_year),
		cmocka_unit_test(test_gcra__random_requests_never_exceed_burst_and_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
