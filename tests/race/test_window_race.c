/*
 * Goal:   four threads on one key never get more than the limit into any window, by the
 *         clock readings of their own checks; nothing races (TSan).
 * Method: one mapping (TSan is blind between two), the real precise clock, windows of 20 ms;
 *         one thread is paused now and then between its clock reading and its try, as a
 *         stopped worker would be. Every admit is logged by the reading it used.
 */
#include "tests/t.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/rl_clock.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

enum { THREADS = 4, LOG_MAX = 400000 };

#define W      UINT64_C(20000000)
#define RUN_NS UINT64_C(400000000)

static struct rl_slot slot;
static struct rl_window_terms terms;
static atomic_bool stop;
static uint64_t admit_at[THREADS][LOG_MAX];
static uint32_t admit_cost[THREADS][LOG_MAX];
static size_t admits[THREADS];
static _Atomic uint64_t spent_units;
static uint64_t seeds[THREADS];
static uint32_t cost_max;
static bool with_refunds; /* three of ten are given back, if that can be */
static _Atomic uint64_t refunded;

static void pause_a_little(uint64_t *seed)
{
	const struct timespec nap = {.tv_nsec = (long)t_below(seed, 2 * W)};

	nanosleep(&nap, NULL);
}

static bool refund(size_t me, uint32_t cost, uint64_t event)
{
	bool given_back = false;

	if (!with_refunds || t_below(&seeds[me], 10) >= 3)
		return false;
	for (int i = 0; i < 3 && !given_back; i++) {
		/* pairs[slot_head.acq]: as rl_check_all.c reads it. */
		uint64_t head = atomic_load_explicit(&slot.head, memory_order_acquire);

		given_back =
			rl_window_refund(&slot, head, &terms, cost, event, rl_clock_precise_ns());
	}
	atomic_fetch_add(&refunded, given_back);
	return given_back;
}

static void ask_once(size_t me)
{
	uint32_t cost = 1 + (uint32_t)t_below(&seeds[me], cost_max);
	struct rl_window_answer answer;
	uint64_t head, now;
	int got;

	do {
		/* pairs[slot_head.acq]: as rl_check.c reads it. */
		head = atomic_load_explicit(&slot.head, memory_order_acquire);
		now = rl_clock_precise_ns();
		if (me == 0 && t_below(&seeds[me], 2000) == 0)
			pause_a_little(&seeds[me]);
		got = rl_window_try(&slot, head, &terms, cost, now, &answer);
	} while (got == RL_TRY_AGAIN);
	if (got != RL_TRY_ALLOWED || admits[me] == LOG_MAX || refund(me, cost, answer.event))
		return;
	admit_at[me][admits[me]] = now;
	admit_cost[me][admits[me]++] = cost;
	atomic_fetch_add(&spent_units, cost);
}

static void *worker(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;

	while (!atomic_load(&stop)) {
		ask_once(me);
		if (t_below(&seeds[me], 64) == 0)
			pause_a_little(&(uint64_t){seeds[me] | 1});
	}
	return NULL;
}

struct admit {
	uint64_t at;
	uint32_t cost;
};

static int by_time(const void *a, const void *b)
{
	uint64_t x = ((const struct admit *)a)->at, y = ((const struct admit *)b)->at;

	return x < y ? -1 : x > y;
}

static uint64_t largest_window(void)
{
	struct admit *all = calloc(THREADS * LOG_MAX, sizeof(*all));
	uint64_t sum = 0, largest = 0;
	size_t count = 0;

	assert_non_null(all);
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < admits[t]; i++)
			all[count++] = (struct admit){admit_at[t][i], admit_cost[t][i]};
	qsort(all, count, sizeof(*all), by_time);
	for (size_t i = 0, j = 0; i < count; i++) {
		sum += all[i].cost;
		while (all[i].at - all[j].at >= W)
			sum -= all[j++].cost;
		if (sum > largest)
			largest = sum;
	}
	free(all);
	return largest;
}

/* With a credit in the head no number is skipped, so that the count must be what was spent. */
static void run(uint32_t limit, uint32_t most_cost, uint32_t credit)
{
	const struct timespec nap = {.tv_nsec = (long)RUN_NS};
	pthread_t thread[THREADS];
	uint64_t seed = t_seed(), first_n;

	memset(&slot, 0, sizeof(slot));
	memset(admits, 0, sizeof(admits));
	terms = (struct rl_window_terms){
		.limit = limit, .q = rl_window_q(limit), .span_ns = W + 1, .counted = credit != 0};
	first_n = (RL_N_FIRST / terms.q + 1) * terms.q;
	slot.head = rl_head_open(first_n) | credit;
	cost_max = most_cost;
	atomic_store(&spent_units, 0);
	atomic_store(&stop, false);
	for (size_t t = 0; t < THREADS; t++) {
		seeds[t] = t_random(&seed) | 1;
		pthread_create(&thread[t], NULL, worker, (void *)(uintptr_t)t);
	}
	nanosleep(&nap, NULL);
	atomic_store(&stop, true);
	for (size_t t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	assert_true(largest_window() <= limit);
	assert_true(atomic_load(&spent_units) >= limit); /* it ran */
	assert_true(rl_head_n(slot.head) - first_n >= atomic_load(&spent_units));
	if (credit > 0)
		assert_int_equal(rl_head_n(slot.head) - first_n, atomic_load(&spent_units));
}

static void test_window_race__four_threads_never_exceed_the_limit(void **state)
{
	static const uint32_t limits[] = {1, 7, 23, 24, 46, 100, 1000};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		run(limits[i], 1, i % 2);
}

static void test_window_race__costs_of_one_to_seven_never_exceed_the_limit(void **state)
{
	static const uint32_t limits[] = {7, 23, 24, 100};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		run(limits[i], 7, i % 2);
}

static void test_window_race__refunds_leave_no_window_with_more_than_the_limit(void **state)
{
	static const uint32_t limits[] = {1, 7, 23, 24, 100, 1000};

	(void)state;
	with_refunds = true;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		run(limits[i], limits[i] < 7 ? 1 : 7, 0);
	with_refunds = false;
	printf("# %llu refunded\n", (unsigned long long)atomic_load(&refunded));
	assert_true(atomic_load(&refunded) > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window_race__four_threads_never_exceed_the_limit),
		cmocka_unit_test(test_window_race__costs_of_one_to_seven_never_exceed_the_limit),
		cmocka_unit_test(
			test_window_race__refunds_leave_no_window_with_more_than_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
