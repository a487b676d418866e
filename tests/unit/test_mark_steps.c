/*
 * Goal:   a reset or a block that the agent's re-base comes amid is in force when it says so,
 *         wherever it was stopped, and whatever the re-base had read by then.
 * Method: a child is stepped through rl_check_reset() or rl_check_block() (PTRACE_SINGLESTEP).
 * After its first write, and 0, 1, 2.. instructions more, the agent's re-base is made; the child
 * goes on, until it has marked the slot, when that is closed and its marks have been looked at.
 */
#include "tests/t.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_mark.h"
#include "shm/rl_rebase.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define HOUR_NS   (3600 * RL_SECOND_NS)
#define LIMIT     100u
#define AMID      200   /* instructions that it goes on amid the re-base */
#define POSITIONS 10000 /* more than a call has */

static struct t_seg t;
static struct rl_client *client;
static uint64_t rule, slot;
static pid_t child;

static void publish(uint8_t algorithm)
{
	const struct rl_rule_spec spec = {
		.name = "r", .terms = {LIMIT, HOUR_NS}, .algorithm = algorithm};
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	assert_int_equal(rl_rule(client, "r", &rule), 0);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 4000);
	assert_int_equal(rl_attach(t.path, &client, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

static int wait_for_child(void)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFSTOPPED(status))
		child = 0;
	return status;
}

static int step(void)
{
	assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
	return wait_for_child();
}

/* What this process sees of the slot, whatever it may write. */
static uint64_t words(void)
{
	const struct rl_slot *s = &t.seg.slot[slot];

	return s->head ^ s->state ^ t.seg.side[slot].total;
}

/* Upon the re-base's first write to what stands beside the slot: the marks have been looked at. */
static void go_on(void *marked)
{
	uint64_t before = words();

	for (int i = 0; i < AMID && words() == before && WSTOPSIG(step()) != SIGSTOP; i++)
		;
	*(bool *)marked |= words() != before;
}

static void stop_here(void *unused)
{
	(void)unused;
	raise(SIGSTOP);
}

/* A child that is about to make the call's first write, to the page of first. */
static void start(int (*call)(const char *key), const char *key, const void *first)
{
	child = fork();
	if (child == 0) {
		int error;

		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		t_upon_access(first, PROT_READ, stop_here, NULL);
		error = call(key);
		raise(SIGSTOP); /* no more to step through */
		_exit(-error);
	}
	assert_int_equal(WSTOPSIG(wait_for_child()), SIGSEGV);
	ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL);
	assert_int_equal(ptrace(PTRACE_CONT, child, NULL, SIGSEGV), 0);
	assert_int_equal(WSTOPSIG(wait_for_child()), SIGSTOP);
}

static void finish(void)
{
	int status = 0;

	while (child != 0) {
		ptrace(PTRACE_CONT, child, NULL, NULL);
		status = wait_for_child();
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static struct rl_check_key key_of(const char *key)
{
	struct rl_check_key asked;

	rl_check_hash(&t.seg.view, rule, key, strlen(key), &asked);
	return asked;
}

static int reset(const char *key)
{
	struct rl_check_key asked = key_of(key);

	return rl_check_reset(&t.seg, rule, &asked);
}

static int block(const char *key)
{
	struct rl_check_key asked = key_of(key);

	return rl_check_block(&t.seg, &t.seg.member[0], rule, &asked, 60 * RL_SECOND_NS);
}

static uint32_t admitted(const char *key, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && rl_check(client, rule, key, strlen(key), 1, 0, NULL) == RL_ALLOWED)
		n++;
	return n;
}

static void find_slot(const char *key)
{
	struct rl_check_key asked = key_of(key);
	uint64_t head;

	slot = rl_table_find(&t.seg.view, &asked.id, &head);
	assert_true(slot != RL_NO_SLOT);
}

static void rebase(bool *marked)
{
	struct rl_rule now;

	assert_int_equal(rl_rules_read(&t.seg.view, rule, &now), 0);
	t_upon_access(&t.seg.side[slot], PROT_READ, go_on, marked);
	rl_rebase_slot(&t.seg, slot, t.seg.slot[slot].head, &now, now.q);
	t.seg.side[slot].debt = 0; /* let go of the page */
}

/* One call, so many instructions after its first write. False: it has no more. */
static bool once(uint8_t from, int (*call)(const char *key), const char *key, uint32_t position,
		 bool *marked)
{
	uint64_t before;
	int status = 0;

	publish(from);
	assert_int_equal(admitted(key, call == block ? 1 : LIMIT), call == block ? 1 : LIMIT);
	find_slot(key);
	for (uint32_t i = 0; i < RL_RING && call == reset; i++) /* of killed checks: none is old */
		t.seg.slot[slot].ring[i] = rl_clock_precise_ns();
	publish(RL_SLIDING);
	before = words();
	start(call, key, call == block ? (void *)&t.seg.side[slot] : (void *)&t.seg.slot[slot]);
	while (words() == before)
		step();
	for (uint32_t i = 0; i < position && WSTOPSIG(status) != SIGSTOP; i++)
		status = step();
	if (WSTOPSIG(status) != SIGSTOP)
		rebase(marked);
	finish();
	return WSTOPSIG(status) != SIGSTOP;
}

static void test_mark_steps__block_stands_wherever_a_rebase_comes(void **state)
{
	static const uint8_t from[] = {RL_SLIDING, 2};

	(void)state;
	if (t_under_tsan())
		return;
	for (size_t f = 0; f < 2; f++) {
		uint32_t position = 0;
		bool marked = false;
		char key[32];

		do
			snprintf(key, sizeof(key), "%zu %u", f, position);
		while (once(from[f], block, key, position, &marked) &&
		       (assert_int_equal(admitted(key, 1), 0), ++position < POSITIONS));
		printf("# %u instructions\n", position);
		assert_in_range(position, 20, POSITIONS - 1);
		assert_true(marked || f == 1);
	}
}

static void test_mark_steps__reset_stands_wherever_a_rebase_comes(void **state)
{
	uint32_t position = 0, n;
	bool marked = false;
	char key[32];

	(void)state;
	if (t_under_tsan())
		return;
	for (snprintf(key, sizeof(key), "r 0");
	     position < POSITIONS && once(RL_SLIDING, reset, key, position, &marked);
	     snprintf(key, sizeof(key), "r %u", position)) {
		n = admitted(key, 2 * LIMIT);
		if (n < LIMIT * 8 / 10 || n > LIMIT) /* less what a re-base between two skips */
			fail_msg("%u units after %u instructions", n, position);
		position++;
	}
	printf("# %u instructions\n", position);
	assert_in_range(position, 20, POSITIONS - 1);
	assert_true(marked);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mark_steps__block_stands_wherever_a_rebase_comes),
		TEST(test_mark_steps__reset_stands_wherever_a_rebase_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
