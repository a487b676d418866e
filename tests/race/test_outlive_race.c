/*
 * Goal:   threads that check while their client moves from segment to segment lose no unit, spend
 *         none twice and are told of no error; when the old memory is taken away under them at
 *         once, without the grace, they may be undecided but are never let in above the limit.
 * Method: one client. Three threads check one key without pause; a fourth makes the segment anew
 *         again and again, lets the old agent fall silent, and waits for the client to follow. The
 *         counts in all segments are held against the threads' own.
 */
#include "tests/t.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_member.h"

enum { THREADS = 3, ROUNDS = 25, LIMIT = 500 };

static struct t_seg t;
static struct rl_seg made[ROUNDS]; /* those after t.seg, in turn; kept mapped here */
static struct rl_client *client;
static uint64_t rule;
static atomic_bool stop;
static _Atomic uint64_t allowed, limited, undecided, wrong;

static void *worker(void *unused)
{
	while (!atomic_load(&stop)) {
		int got = rl_check(client, rule, "bob", 3, 1, 0, NULL);

		atomic_fetch_add(got == RL_ALLOWED                          ? &allowed
				 : got == RL_LIMITED                        ? &limited
				 : got == RL_ERR_BUSY || got == RL_ERR_FULL ? &undecided
									    : &wrong,
				 1);
	}
	return unused;
}

static uint64_t spent_in(const struct rl_seg *seg)
{
	struct rl_totals totals;

	rl_member_totals(&seg->view, &totals);
	return totals.allowed;
}

/* Until it holds, or 20 s: then the test fails by its counts. */
static void until(bool (*holds)(const void *), const void *what)
{
	uint64_t end = t_now_ns() + 20 * RL_SECOND_NS;

	while (!holds(what) && t_now_ns() < end)
		usleep(500);
}

static bool has_moved(const void *from)
{
	return client_mapped(client) != from;
}

static bool is_full(const void *seg)
{
	return spent_in(seg) >= LIMIT;
}

static void replace(struct rl_seg *old, struct rl_seg *ret)
{
	const struct rl_segment_spec spec = {.keys = 100, .mode = 0660};
	const struct mapped *before = client_mapped(client);

	assert_int_equal(unlink(t.path), 0);
	assert_int_equal(rl_segment_create(t.path, &spec, ret, NULL), 0);
	t_rules(ret, 1, "r 500/h");
	atomic_store(&old->live->beat_ns, rl_clock_precise_ns() - 2 * RL_SECOND_NS);
	atomic_store(&client->look_ns, 0);
	until(has_moved, before);
}

static void run(bool at_once)
{
	pthread_t thread[THREADS];

	atomic_store(&stop, false);
	allowed = limited = undecided = wrong = 0;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, worker, NULL);
	for (int r = 0; r < ROUNDS; r++) {
		replace(r == 0 ? &t.seg : &made[r - 1], &made[r]);
		if (at_once)
			client_let_go(client_mapped(client));
		else
			until(is_full, &made[r]);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 100);
	t_rules(&t.seg, 1, "r 500/h");
	client = t_attach(&t);
	rule = t_client_rule(client, "r");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	for (int r = 0; r < ROUNDS; r++)
		rl_segment_detach(&made[r]);
	t_seg_drop(&t);
	return 0;
}

static void test_outlive_race__moves_lose_no_unit_and_are_no_error(void **state)
{
	uint64_t spent = spent_in(&t.seg);

	(void)state;
	run(false);
	for (int r = 0; r < ROUNDS; r++) {
		assert_int_equal(spent_in(&made[r]), LIMIT);
		spent = spent_in(&t.seg) + (uint64_t)(r + 1) * LIMIT;
	}
	printf("# %d moves: %llu allowed, %llu limited\n", ROUNDS, (unsigned long long)allowed,
	       (unsigned long long)limited);
	assert_true(spent_in(&t.seg) <= LIMIT);
	assert_int_equal(allowed, spent);
	assert_int_equal(undecided, 0);
	assert_int_equal(wrong, 0);
}

static void test_outlive_race__old_memory_taken_away_at_once_lets_nobody_in(void **state)
{
	(void)state;
	run(true);
	printf("# %d moves: %llu allowed, %llu limited, %llu undecided\n", ROUNDS,
	       (unsigned long long)allowed, (unsigned long long)limited,
	       (unsigned long long)undecided);
	for (int r = 0; r < ROUNDS; r++)
		assert_true(spent_in(&made[r]) <= LIMIT);
	assert_true(allowed <= (ROUNDS + 1) * LIMIT);
	assert_int_equal(wrong, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_outlive_race__moves_lose_no_unit_and_are_no_error),
		TEST(test_outlive_race__old_memory_taken_away_at_once_lets_nobody_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
