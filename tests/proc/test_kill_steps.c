/*
 * Goal:   a worker that is killed after any instruction of a check, a claim or a refund leaves
 *         its key with what it had, or with what it asked for; the next check of the key is
 *         answered, and an agent's pass finds nothing that it cannot mend.
 * Method: each operation is noted instruction by instruction (PTRACE_SINGLESTEP); then real
 *         processes are stopped after every $STRIDE-th of them and killed (bench/kill/).
 */
#include "tests/t.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/fleet/fleet.h"
#include "bench/kill/scene.h"
#include "bench/kill/steps.h"

#define STRIDE 11

static struct t_seg t;
static struct kill_scene scene;

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 50);
	kill_scene_make(&scene, t.path, &t.seg);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kill_scene_drop(&scene);
	t_seg_drop(&t);
	return 0;
}

static void kill_each_step(uint32_t number, uint64_t *seed)
{
	const char *wanted = getenv("STRIDE");
	uint32_t stride = wanted != NULL ? (uint32_t)atoi(wanted) : STRIDE;
	struct kill_tally tally = {0};
	uint32_t length = kill_steps_run(&scene, number, stride, seed, &tally);

	printf("# %s: %u instructions, %llu kills, %llu steps\n", kill_steps_name(number), length,
	       (unsigned long long)tally.workers, (unsigned long long)tally.steps);
	assert_int_equal(tally.lost, 0);
	assert_int_equal(tally.excess, 0);
	assert_int_equal(tally.hung, 0);
	assert_int_equal(tally.unexplained, 0);
	assert_true(tally.uncertain_max <= 1);
	assert_true(tally.steps >=
		    length / stride * 9 / 10); /* the path is nearly always the same */
}

static void test_kill_steps__worker_killed_after_any_instruction_leaves_its_key_right(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	if (fleet_is_slow_build()) {
		printf("# not in this build: most instructions are the sanitizer's\n");
		return;
	}
	for (uint32_t i = 0; i < kill_steps_count(); i++)
		kill_each_step(i, &seed);
}

/* The judge itself, at both sides of its borders. */
static void test_kill_steps__judge_tells_lost_from_uncertain(void **state)
{
	struct kill_tally tally = {0};

	(void)state;
	kill_judge(&tally, 5, 5, 8, 10, true);
	assert_true(tally.uncertain == 0 && tally.uncertain_max == 0);
	kill_judge(&tally, 8, 5, 8, 10, true);
	assert_true(tally.uncertain == 3 && tally.uncertain_max == 1);
	assert_true(tally.lost == 0 && tally.excess == 0);
	kill_judge(&tally, 9, 5, 8, 10, false); /* a window that rounds up */
	assert_true(tally.uncertain_max == 1);
	kill_judge(&tally, 9, 5, 8, 10, true);
	assert_true(tally.uncertain_max > 1);
	tally.uncertain_max = 0;
	kill_judge(&tally, 6, 5, 5, 10, true); /* nobody was asking */
	assert_true(tally.uncertain_max > 1);
	kill_judge(&tally, 4, 5, 8, 10, true);
	assert_int_equal(tally.lost, 1);
	kill_judge(&tally, 10, 10, 12, 10, true);
	assert_int_equal(tally.excess, 0);
	kill_judge(&tally, 10, 11, 12, 10, true);
	assert_int_equal(tally.excess, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_kill_steps__worker_killed_after_any_instruction_leaves_its_key_right),
		cmocka_unit_test(test_kill_steps__judge_tells_lost_from_uncertain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
