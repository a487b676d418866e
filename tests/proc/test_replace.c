/*
 * Goal:   processes that were started before any segment, and that see it removed and made anew
 *         under load, follow each time; one limit holds in each segment, no unit is lost, and a
 *         process that is stopped or killed on the way changes nothing for the others.
 * Method: real processes of two threads each. The test is the agent: makes segments at one path, of
 *         several sizes, beats, and falls silent. Answers are noted in memory that outlives the
 *         processes, and held against the counts in all segments.
 */
#include "tests/t.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_member.h"

enum { WORKERS = 3, THREADS = 2, ROUNDS = 8, LIMIT = 2000, KILLED = 1, STOPPED = 2 };

/* What outlives the workers. */
struct notes {
	_Atomic uint64_t allowed, limited, absent, undecided, wrong;
};

static struct t_seg t; /* for its path; removed before anybody comes */
static struct rl_seg made[ROUNDS];
static struct rl_seg *_Atomic beating;
static atomic_bool stop;
static struct notes *notes;
static struct rl_client *client;
static uint64_t rule;
static pid_t worker[WORKERS];

static void note(int got)
{
	atomic_fetch_add(got == RL_ALLOWED      ? &notes->allowed
			 : got == RL_LIMITED    ? &notes->limited
			 : got == RL_ERR_ABSENT ? &notes->absent
			 : got == RL_ERR_BUSY   ? &notes->undecided
						: &notes->wrong,
			 1);
}

static void *work(void *unused)
{
	for (;;) {
		note(rl_check(client, rule, "bob", 3, 1, 0, NULL));
		usleep(20);
	}
	return unused;
}

static void start_worker(int w)
{
	pthread_t thread;

	worker[w] = fork();
	assert_true(worker[w] >= 0);
	if (worker[w] > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* it knows no end */
	if (rl_open(t.path, &client, NULL) != 0 || rl_rule(client, "r", &rule) != 0)
		_exit(1);
	for (int i = 1; i < THREADS; i++)
		pthread_create(&thread, NULL, work, NULL);
	work(NULL);
}

/* Ends it; it must have been running until now. */
static void kill_worker(int w)
{
	int status;

	assert_int_equal(waitpid(worker[w], &status, WNOHANG), 0);
	kill(worker[w], SIGKILL);
	assert_int_equal(waitpid(worker[w], &status, 0), worker[w]);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void *beat(void *unused)
{
	while (!atomic_load(&stop)) {
		struct rl_seg *seg = atomic_load(&beating);

		if (seg != NULL)
			rl_clock_beat(seg->live);
		usleep(20000);
	}
	return unused;
}

static struct rl_totals totals_of(const struct rl_seg *seg)
{
	struct rl_totals totals;

	rl_member_totals(&seg->view, &totals);
	return totals;
}

/* All of them are in the segment, and its limit is used up. Milliseconds it took. */
static double wait_for_all(const struct rl_seg *seg, uint32_t workers)
{
	uint64_t began = t_now_ns(), end = began + 20 * RL_SECOND_NS;
	struct rl_totals totals;

	do {
		usleep(1000);
		totals = totals_of(seg);
	} while ((totals.members < workers || totals.allowed < LIMIT) && t_now_ns() < end);
	assert_int_equal(totals.members, workers);
	assert_int_equal(totals.allowed, LIMIT);
	return (double)(t_now_ns() - began) / 1e6;
}

/* The next segment, each of another size. */
static void make(int round)
{
	const struct rl_segment_spec spec = {.keys = 100 + 1000 * (uint64_t)round, .mode = 0660};

	atomic_store(&beating, NULL);
	if (round > 0)
		assert_int_equal(unlink(t.path), 0);
	assert_int_equal(rl_segment_create(t.path, &spec, &made[round], NULL), 0);
	t_rules(&made[round], 2 - round % 2, "r 2000/h", "other 1/h");
	atomic_store(&beating, &made[round]);
}

/* An agent that sees its file gone says so; another is just killed. */
static void leave(int round)
{
	usleep(30000); /* beat() may have had it in hand */
	if (round % 4 != 0)
		atomic_store(&made[round].live->beat_ns, 0);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 100);
	assert_int_equal(unlink(t.path), 0);
	notes = t_shared(sizeof(*notes));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int r = 0; r < ROUNDS; r++)
		rl_segment_detach(&made[r]);
	munmap(notes, sizeof(*notes));
	t_seg_drop(&t);
	return 0;
}

/* In some rounds a process is killed and another comes; one sleeps through a whole segment. */
static double one_round(int round)
{
	double took;

	if (round == 3)
		kill(worker[STOPPED], SIGSTOP);
	make(round);
	if (round > 0)
		leave(round - 1);
	if (round % 2 == 1) {
		kill_worker(KILLED);
		start_worker(KILLED);
	}
	rl_member_sweep(&made[round]);
	took = wait_for_all(&made[round], round == 3 ? WORKERS - 1 : WORKERS);
	if (round == 3)
		kill(worker[STOPPED], SIGCONT);
	return took;
}

static void test_replace__processes_follow_each_new_segment_and_its_limit_holds(void **state)
{
	uint64_t spent = 0, allowed;
	pthread_t beater;

	(void)state;
	if (t_under_tsan()) /* it knows no threads of forked processes */
		return;
	for (int w = 0; w < WORKERS; w++)
		start_worker(w);
	while (atomic_load(&notes->absent) < 1000)
		usleep(1000); /* all of them began without one */
	pthread_create(&beater, NULL, beat, NULL);
	for (int r = 0; r < ROUNDS; r++)
		printf("# segment %d: all followed, and used its limit up, after %.0f ms\n", r,
		       one_round(r));
	for (int w = 0; w < WORKERS; w++)
		kill_worker(w);
	atomic_store(&stop, true);
	pthread_join(beater, NULL);
	for (int r = 0; r < ROUNDS; r++)
		spent += totals_of(&made[r]).allowed;
	allowed = atomic_load(&notes->allowed);
	printf("# %llu units spent, %llu noted; %llu limited, %llu absent, %llu undecided\n",
	       (unsigned long long)spent, (unsigned long long)allowed,
	       (unsigned long long)notes->limited, (unsigned long long)notes->absent,
	       (unsigned long long)notes->undecided);
	assert_int_equal(spent, (uint64_t)ROUNDS * LIMIT);
	assert_true(allowed <= spent);
	assert_true(allowed + (ROUNDS / 2 + WORKERS) * THREADS >= spent); /* the killed ones' own */
	assert_int_equal(notes->wrong, 0);
	assert_true(notes->undecided <= THREADS); /* of the one that slept */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_replace__processes_follow_each_new_segment_and_its_limit_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
