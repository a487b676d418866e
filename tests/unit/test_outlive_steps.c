/*
 * Goal:   a check that is moved to another segment in its middle, and whose old one is taken away
 *         under it, ends; it is not limited by that, admits nothing twice, and crashes nowhere.
 * Method: a child is stepped through a call (PTRACE_SINGLESTEP). After each STRIDE-th instruction a
 *         signal handler forks off a process that moves right there, in the handler, and goes on:
 * as a thread that was stopped there for hours would. Both segments are prepared alike, so the
 *         answer may only be the one both would give, or that it could not decide.
 */
#include "tests/t.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define STRIDE 29 /* instructions between two moves, from a random first one; $STRIDE */
#define STEPS \
	20000 /* so slow is a clock reading that the next tick makes it start over: enough \
	       */
#define YEAR (365 * RL_DAY_NS)
#define MANY 1000000u

enum { FIXED = 1, TOKEN_BUCKET = 2, LEAKY_BUCKET = 3 };

static const struct rl_rule_spec rules[] = {
	{.name = "window", .terms = {MANY, YEAR}},
	{.name = "window-1", .terms = {1, YEAR}},
	{.name = "fixed", .terms = {MANY, YEAR}, .algorithm = FIXED},
	{.name = "fixed-1", .terms = {1, YEAR}, .algorithm = FIXED},
	{.name = "token", .terms = {MANY, YEAR}, .algorithm = TOKEN_BUCKET, .burst = MANY},
	{.name = "token-1", .terms = {1, YEAR}, .algorithm = TOKEN_BUCKET, .burst = 1},
	{.name = "leaky", .terms = {MANY, YEAR}, .algorithm = LEAKY_BUCKET, .burst = MANY},
	{.name = "shared", .terms = {MANY, YEAR}, .fleet = {.consistency = RL_STRICT}},
	{.name = "shared-1", .terms = {MANY, YEAR}, .fleet = {.consistency = RL_STRICT}},
};
enum { RULES = sizeof(rules) / sizeof(rules[0]) };

static struct t_seg t;      /* the old segment: its file is removed */
static struct rl_seg fresh; /* at the path */
static struct rl_client *client;

static int *moved_status; /* how the process ended that went on with another segment */

/* The slot of "bob" under a shared rule, with so much credit, as an agent leaves it. */
static void give(struct rl_seg *seg, const char *name, uint32_t credit)
{
	uint64_t handle = t_rule(&seg->view, name), head;
	struct rl_id id = rl_hash_key(seg->view.hash_key, rl_pair_high(handle), "bob", 3);
	struct rl_claim claim = {.rule_id = rl_pair_high(handle),
				 .q = rl_window_q(MANY),
				 .window_ns = YEAR,
				 .credit = credit};

	rl_key_text("bob", 3, &claim.text);
	claim.hint = rl_hint(0, 0, rl_key_part(claim.rule_id, &claim.text));
	assert_int_equal(rl_table_claim(seg, &id, &claim), 1);
	assert_true(rl_table_find(&seg->view, &id, &head) != RL_NO_SLOT);
	assert_int_equal(rl_head_credit(head), credit);
}

/* The rules; "bob" known under each, and nothing left under "*-1". */
static void prepare(struct rl_seg *seg)
{
	uint64_t later = rl_clock_precise_ns() + RL_DAY_NS;
	struct rl_answer answer;
	size_t other;

	assert_int_equal(rl_rules_publish(seg, rules, RULES, &other), 0);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		seg->fleet->part[p].lease_until_ns = later;
	for (int r = 0; r < RULES; r++)
		if (strncmp(rules[r].name, "shared", 6) != 0)
			assert_int_equal(rl_check_spend(seg, seg->member,
							t_rule(&seg->view, rules[r].name), "bob", 3,
							1, 0, &answer),
					 1);
	give(seg, "shared", 100000);
	give(seg, "shared-1", 0);
}

static int setup(void **state)
{
	const struct rl_segment_spec spec = {.keys = 4000, .mode = 0660};

	(void)state;
	moved_status = mmap(NULL, sizeof(*moved_status), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(moved_status != MAP_FAILED);
	t_seg_make(&t, 4000);
	prepare(&t.seg);
	client = t_attach(&t);
	assert_int_equal(unlink(t.path), 0);
	assert_int_equal(rl_segment_create(t.path, &spec, &fresh, NULL), 0);
	prepare(&fresh);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(moved_status, sizeof(*moved_status));
	rl_detach(client);
	rl_segment_detach(&fresh);
	t_seg_drop(&t);
	return 0;
}

enum call { CHECK, PEEK, ALL, REFUND };

struct stepped {
	const char *rule;
	enum call call;
	bool new_key;
	int answer; /* of both segments */
	uint64_t handle;
	struct rl_result spent; /* what REFUND gives back */
};

static int ask(const struct stepped *s, const char *key)
{
	struct rl_result spent = s->spent;
	struct rl_ask all[2] = {{.rule = s->handle, .key = "bob", .key_len = 3, .cost = 1},
				{.rule = s->handle, .key = key, .key_len = strlen(key), .cost = 1}};

	switch (s->call) {
	case PEEK:
		return rl_peek(client, s->handle, key, strlen(key), 1, NULL);
	case ALL:
		return rl_check_all(client, all, 2);
	case REFUND:
		return rl_refund(client, s->handle, &spent);
	default:
		return rl_check(client, s->handle, key, strlen(key), 1, 0, NULL);
	}
}

static void on_move(int number)
{
	pid_t mover = fork();

	(void)number;
	if (mover > 0) {
		waitpid(mover, moved_status, 0);
		raise(SIGSTOP); /* and on, one instruction at a time, as if nothing had been */
		return;
	}
	errno = E2BIG;
	if (rl_refresh(client, NULL) != 1 || errno != E2BIG)
		_exit(1);
	client_let_go(client_mapped(client));
}

/* Exit status: 100 + the answer, or how far an error is below -4096. */
static void run(const struct stepped *s, const char *key)
{
	sigset_t child_ended; /* would be one more stop */
	int got;

	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ended, NULL);
	signal(SIGUSR1, on_move);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	got = ask(s, key);
	_exit(got >= 0 ? 100 + got : -4096 - got);
}

/* Resume the child, with a signal; how it stopped or ended then. */
static int resume(pid_t child, enum __ptrace_request how, int number)
{
	int status;

	assert_int_equal(ptrace(how, child, NULL, (void *)(intptr_t)number), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

/* Not in the handler any more, nor in raise(), which hold the signal back. */
static bool may_be_moved(pid_t child)
{
	uint64_t held_back = 0;

	assert_int_equal(ptrace(PTRACE_GETSIGMASK, child, sizeof(held_back), &held_back), 0);
	return (held_back >> (SIGUSR1 - 1) & 1) == 0;
}

/* The answer, or "could not decide"; true: the latter. */
static bool undecided(const struct stepped *s, int status, uint32_t steps)
{
	int got = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);

	if (got >= 100 ? got != 100 + s->answer && s->call != REFUND
		       : got != -4096 - RL_ERR_BUSY && got != -4096 - RL_ERR_FULL)
		fail_msg("%s, moved after %u instructions: %d", s->rule, steps, got);
	return got < 100;
}

static void move_at_each_step(struct stepped s)
{
	const char *wanted = getenv("STRIDE");
	uint32_t stride = wanted != NULL ? (uint32_t)atoi(wanted) : STRIDE;
	uint64_t seed = t_seed();
	uint32_t first = (uint32_t)t_below(&seed, stride), moves = 0, without = 0, steps;
	const char *key = s.new_key ? "new" : "bob";
	int status;
	pid_t child;

	assert_int_equal(rl_rule(client, s.rule, &s.handle), 0);
	if (s.call == REFUND)
		assert_int_equal(rl_check(client, s.handle, key, 3, 1, 0, &s.spent), RL_ALLOWED);
	child = fork();
	if (child == 0)
		run(&s, key);
	assert_int_equal(waitpid(child, &status, 0), child);
	ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL);
	for (steps = 0; WIFSTOPPED(status);) {
		if (may_be_moved(child) && steps++ % stride == first) {
			rl_clock_beat(t.seg.live);
			rl_clock_beat(fresh.live);
			status = resume(child, PTRACE_CONT, SIGUSR1);
			assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
			without += undecided(&s, *moved_status, steps);
			moves++;
		}
		status = resume(child, steps < STEPS ? PTRACE_SINGLESTEP : PTRACE_CONT, 0);
	}
	assert_false(undecided(&s, status, 0)); /* of the one that was not moved */
	printf("# %-8s call %d: %u instructions, moved at %u, %u could not decide\n", s.rule,
	       (int)s.call, steps, moves, without);
	assert_true(moves > 20 && (without > 0 || s.call == REFUND));
}

static void test_outlive_steps__check_is_answered_or_undecided_wherever_it_is_moved(void **state)
{
	(void)state;
	if (t_under_tsan())
		return;
	for (int r = 0; r < RULES; r++) {
		bool refused = strstr(rules[r].name, "-1") != NULL;

		move_at_each_step((struct stepped){.rule = rules[r].name,
						   .answer = refused ? RL_LIMITED : RL_ALLOWED});
	}
}

static void test_outlive_steps__new_key_is_claimed_in_one_segment_only(void **state)
{
	(void)state;
	if (t_under_tsan())
		return;
	move_at_each_step((struct stepped){.rule = "window", .new_key = true});
	move_at_each_step((struct stepped){.rule = "token", .new_key = true});
}

static void test_outlive_steps__other_calls_as_well(void **state)
{
	(void)state;
	if (t_under_tsan())
		return;
	move_at_each_step((struct stepped){.rule = "window", .call = ALL, .new_key = true});
	move_at_each_step((struct stepped){.rule = "shared", .call = ALL});
	move_at_each_step((struct stepped){.rule = "fixed-1", .call = PEEK, .answer = RL_LIMITED});
	move_at_each_step((struct stepped){.rule = "shared", .call = PEEK});
	move_at_each_step((struct stepped){.rule = "window", .call = REFUND});
	move_at_each_step((struct stepped){.rule = "token", .call = REFUND});
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_outlive_steps__check_is_answered_or_undecided_wherever_it_is_moved),
		TEST(test_outlive_steps__new_key_is_claimed_in_one_segment_only),
		TEST(test_outlive_steps__other_calls_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
