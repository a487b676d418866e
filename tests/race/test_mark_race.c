/*
 * Goal:   resets and blocks hold against checks, re-bases and frees that run beside them.
 * Method: threads on ONE mapping, so that TSan sees them all. Limits, windows and algorithms change
 *         under the checks; the thread that blocks asks for itself what it must be told.
 */
#include "tests/t.h"

#include <pthread.h>
#include <string.h>

#include "agent/sweep.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_member.h"
#include "shm/rl_rules.h"

enum { ROUNDS = 12000, LIMIT = 50 };

static struct t_seg t;
static atomic_bool stop;
static _Atomic uint64_t admitted, resets, wrong;
static uint64_t handle;

static void publish(uint32_t algorithm, uint32_t limit, uint64_t window_ns)
{
	const struct rl_rule_spec spec = {
		.name = "r", .terms = {limit, window_ns}, .algorithm = (uint8_t)algorithm};
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
}

static int spend(struct rl_member *member, const char *key)
{
	struct rl_answer answer;

	return rl_check_spend(&t.seg, member, handle, key, strlen(key), 1, 0, &answer);
}

static void *check_all_the_time(void *member)
{
	while (!atomic_load(&stop))
		if (spend(member, "reset") == 1)
			atomic_fetch_add(&admitted, 1);
	return NULL;
}

static void *reset_often(void *unused)
{
	struct rl_check_key key;

	rl_check_hash(&t.seg.view, handle, "reset", 5, &key);
	for (int i = 0; i < ROUNDS; i++) {
		int error = rl_check_reset(&t.seg, handle, &key);

		if (error == 0)
			atomic_fetch_add(&resets, 1);
		else if (error != RL_E_BUSY)
			atomic_fetch_add(&wrong, 1);
	}
	return unused;
}

/* What was blocked is refused, whatever the agent does meanwhile, until it is not. */
static void *block_often(void *member)
{
	struct rl_check_key key;

	rl_check_hash(&t.seg.view, handle, "block", 5, &key);
	for (int i = 0; i < ROUNDS; i++) {
		if (rl_check_block(&t.seg, member, handle, &key, 60 * RL_SECOND_NS) != 0)
			continue; /* the agent's thread lost its processor while it was closed */
		for (int k = 0; k < 20; k++)
			if (spend(member, "block") == 1)
				atomic_fetch_add(&wrong, 1);
		if (rl_check_block(&t.seg, member, handle, &key, 0) != 0)
			continue;
		(void)spend(member, "block");
	}
	return NULL;
}

static void *sweep_often(void *change)
{
	static struct sweep sweep;

	for (uint32_t i = 0; !atomic_load(&stop); i++) {
		/* The larger limit never holds more than the smaller one's groups remember. */
		publish(change != NULL ? i % rl_algorithm_count() : RL_SLIDING, LIMIT + i % 7,
			change != NULL ? RL_WINDOW_MIN_NS : RL_DAY_NS);
		sweep_init(&sweep, &t.seg);
		for (uint64_t s = 0; s < t.seg.view.slot_count; s++)
			sweep_slot(&sweep, s, rl_clock_precise_ns());
	}
	return NULL;
}

static void race(bool change)
{
	struct rl_member *member = rl_member_take(&t.seg, 1);
	pthread_t thread[5];

	atomic_store(&stop, false);
	atomic_store(&admitted, 0);
	atomic_store(&resets, 0);
	atomic_store(&wrong, 0);
	pthread_create(&thread[0], NULL, check_all_the_time, member);
	pthread_create(&thread[1], NULL, check_all_the_time, member);
	pthread_create(&thread[2], NULL, sweep_often, change ? &stop : NULL);
	pthread_create(&thread[3], NULL, reset_often, NULL);
	pthread_create(&thread[4], NULL, block_often, member);
	pthread_join(thread[3], NULL);
	pthread_join(thread[4], NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(atomic_load(&wrong), 0);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 100);
	publish(RL_SLIDING, LIMIT, RL_DAY_NS);
	handle = t_rule(&t.seg.view, "r");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_seg_drop(&t);
	return 0;
}

static void test_mark_race__each_reset_gives_one_limit_and_no_more(void **state)
{
	struct rl_member *member;
	struct rl_check_key key;
	int last = 0;

	(void)state;
	race(false);
	/* Two threads may each have been admitted once as of the time before a reset. */
	assert_true(atomic_load(&admitted) <= (atomic_load(&resets) + 1) * (LIMIT + 6 + 2));
	assert_true(atomic_load(&resets) > ROUNDS / 2);
	publish(RL_SLIDING, LIMIT, RL_DAY_NS);
	member = rl_member_take(&t.seg, 2);
	rl_check_hash(&t.seg.view, handle, "reset", 5, &key);
	assert_int_equal(rl_check_reset(&t.seg, handle, &key), 0);
	while (spend(member, "reset") == 1)
		last++;
	assert_int_equal(last, LIMIT);
}

static void test_mark_race__block_holds_over_any_change_of_the_rule(void **state)
{
	(void)state;
	race(true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mark_race__each_reset_gives_one_limit_and_no_more),
		TEST(test_mark_race__block_holds_over_any_change_of_the_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
