/*
 * Goal:   overload makes keys be told less often in the stated order, and no longer than it lasts.
 * Method: the agent's looks at a clock of the test's own, with calls that take as long as it says.
 */
#include "tests/t.h"

#include <stdlib.h>

#include "agent/log.h"
#include "agent/sync/part.h"

#define MS UINT64_C(1000000)

static struct sync sync_;
static struct rl_seg seg;
static uint64_t now_ns;
static unsigned logged;

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	(void)level, (void)event, (void)format;
	logged++;
}

static int begin(void **state)
{
	(void)state;
	free(seg.fleet);
	seg.fleet = calloc(1, sizeof(*seg.fleet));
	sync_ = (struct sync){.seg = &seg};
	now_ns = 1000000 * MS;
	logged = 0;
	return seg.fleet == NULL ? -1 : 0;
}

/* So long as a tick of the agent comes each 10 ms, with answers that took so long. */
static void pass(uint64_t for_ns, uint64_t took_ns)
{
	for (uint64_t end_ns = now_ns + for_ns; now_ns < end_ns; now_ns += 10 * MS) {
		for (int i = 0; i < 16; i++)
			load_answered(&sync_.load, took_ns);
		load_look(&sync_, now_ns);
	}
}

static uint64_t level(void)
{
	return atomic_load(&seg.fleet->slowed);
}

static void test_load__slow_calls_raise_it_by_steps_and_quick_ones_lower_it(void **state)
{
	(void)state;
	pass(1000 * MS, MS);
	assert_int_equal(level(), 0);
	pass(150 * MS, 20 * MS);
	assert_int_equal(level(), 0); /* not for a moment's trouble */
	pass(250 * MS, 20 * MS);
	assert_int_equal(level(), 1);
	assert_int_equal(logged, 1);
	pass(600 * MS, 20 * MS);
	assert_in_range(level(), 3, 4);
	pass(5000 * MS, 20 * MS);
	assert_int_equal(level(), RL_SLOWED_MOST);
	assert_int_equal(logged, 1); /* said once */
	pass(450 * MS, MS);
	assert_int_equal(level(), RL_SLOWED_MOST);
	pass(450 * MS, MS);
	assert_int_equal(level(), RL_SLOWED_MOST - 1); /* one step, then the next */
	pass(4000 * MS, MS);
	assert_int_equal(level(), 0);
}

/* The network is as long as it is: nothing is gained by asking less often. */
static void test_load__a_store_far_away_is_not_slow(void **state)
{
	(void)state;
	pass(20000 * MS, 30 * MS);
	assert_int_equal(level(), 0);
	pass(20000 * MS, 90 * MS);
	assert_int_equal(level(), 0);
}

static void test_load__full_calls_one_after_the_other_raise_it(void **state)
{
	(void)state;
	pass(1000 * MS, MS);
	sync_.part[7].full_since_ns = now_ns;
	pass(200 * MS, MS);
	assert_int_equal(level(), 0);
	pass(400 * MS, MS);
	assert_in_range(level(), 1, 2);
	sync_.part[7].full_since_ns = 0;
	pass(1500 * MS, MS);
	assert_int_equal(level(), 0);
}

static uint64_t interval(uint64_t interval_ns, uint64_t window_ns, bool far)
{
	return load_interval_ns(&sync_.load, interval_ns, window_ns, far);
}

static void test_load__keys_far_from_their_limit_are_slowed_first(void **state)
{
	static const uint32_t far[] = {1, 2, 4, 8, 16, 32, 64}, near[] = {1, 1, 1, 1, 2, 4, 8};

	(void)state;
	for (uint32_t l = 0; l <= RL_SLOWED_MOST; l++) {
		sync_.load.level = l;
		assert_int_equal(interval(10 * MS, 100000 * MS, true), far[l] * 10 * MS);
		assert_int_equal(interval(10 * MS, 100000 * MS, false), near[l] * 10 * MS);
	}
	/* Never more seldom than eight times a window, or each second, unless it was. */
	assert_int_equal(interval(20 * MS, 1000 * MS, true), 125 * MS);
	assert_int_equal(interval(100 * MS, 100000 * MS, true), 1000 * MS);
	assert_int_equal(interval(500 * MS, 1000 * MS, true), 500 * MS);
	assert_int_equal(rl_slowed_far(UINT64_MAX), 64); /* whatever a damaged word says */
	assert_int_equal(rl_slowed_all(UINT64_MAX), 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			test_load__slow_calls_raise_it_by_steps_and_quick_ones_lower_it, begin),
		cmocka_unit_test_setup(test_load__a_store_far_away_is_not_slow, begin),
		cmocka_unit_test_setup(test_load__full_calls_one_after_the_other_raise_it, begin),
		cmocka_unit_test_setup(test_load__keys_far_from_their_limit_are_slowed_first,
				       begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
