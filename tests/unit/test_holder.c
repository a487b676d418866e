/*
 * Goal:   a thread that gives up a holder's number never drops the lock of another thread of its
 *         process that takes the same number just then: it would be taken for dead, and what it
 *         holds would be given to others.
 * Method: fcntl() is the test's own, and calls step() just before or after a lock is changed: what
 *         another thread does there. A child, which inherits no lock, says whether it is taken.
 */
#include "tests/t.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/rl_holder.h"

static struct t_seg t;
static int fd;
static uint32_t other;              /* the other thread's number and life */
static short upon;                  /* F_UNLCK: step before it; F_WRLCK: after it */
static void (*step)(uint32_t mine); /* once */
static uint32_t mine;

int fcntl(int at, int how, ...)
{
	void (*now)(uint32_t) = NULL;
	struct flock *byte;
	va_list args;
	int got;

	va_start(args, how);
	byte = va_arg(args, void *);
	va_end(args);
	if (how == F_SETLK && step != NULL && byte->l_type == upon) {
		now = step;
		step = NULL;
	}
	if (now != NULL && upon == F_UNLCK)
		now(mine);
	got = (int)syscall(SYS_fcntl, at, how, byte);
	if (now != NULL && upon == F_WRLCK)
		now(mine);
	return got;
}

static int setup(void **state)
{
	const struct rl_segment_spec spec = {.mode = 0660};

	(void)state;
	t_seg_make(&t, 400);
	fd = rl_alive_make(&t.seg, t.path, &spec, NULL);
	assert_true(fd >= 0);
	assert_int_equal(rl_holder_take(&t.seg, fd, (uint32_t)getpid(), &mine), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	step = NULL;
	close(fd);
	t_seg_drop(&t);
	return 0;
}

static bool is_locked(uint32_t who)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(rl_holder_is_gone(fd, rl_holder_number(who)));
	assert_int_equal(waitpid(child, &status, 0), child);
	return status == 0;
}

/* As the agent does when the lock was lost. */
static void bury(uint32_t who)
{
	assert_true(rl_holder_bury(&t.seg, fd, rl_holder_number(who)));
	rl_holder_free(&t.seg, rl_holder_number(who));
}

static void other_takes(uint32_t unused)
{
	(void)unused;
	assert_int_equal(rl_holder_take(&t.seg, fd, (uint32_t)getpid(), &other), 0);
}

static void agent_frees_and_other_takes(uint32_t who)
{
	rl_holder_free(&t.seg, rl_holder_number(who));
	other_takes(who);
}

static void agent_buries_and_other_takes(uint32_t who)
{
	bury(who);
	other_takes(who);
}

static void other_keeps(uint32_t who)
{
	assert_false(rl_holder_keep(&t.seg, fd, who));
}

static void check_other(void)
{
	assert_null(step);
	assert_true(rl_holder_is(&t.seg.view, other));
	assert_true(is_locked(other));
}

static void test_holder__number_taken_while_its_last_holder_lets_go_keeps_its_lock(void **state)
{
	(void)state;
	bury(mine);
	upon = F_UNLCK;
	step = other_takes;
	assert_false(rl_holder_keep(&t.seg, fd, mine));
	assert_int_equal(rl_holder_number(other), rl_holder_number(mine));
	check_other();
}

static void test_holder__lock_dropped_between_it_and_the_word_is_taken_again(void **state)
{
	(void)state;
	bury(mine);
	upon = F_WRLCK;
	step = other_keeps;
	other_takes(mine);
	check_other();
}

static void test_holder__leaving_drops_no_lock_but_its_own(void **state)
{
	(void)state;
	upon = F_UNLCK;
	step = agent_frees_and_other_takes;
	rl_holder_leave(&t.seg, fd, mine);
	check_other();
	assert_int_equal(rl_holder_state(t.seg.holders->word[rl_holder_number(mine)]),
			 RL_HOLDER_LEFT);
	assert_false(is_locked(mine));
}

/* One that had lost its lock, and was stopped in the middle of it. */
static void test_holder__leaving_late_drops_no_lock_but_its_own(void **state)
{
	(void)state;
	upon = F_UNLCK;
	step = agent_buries_and_other_takes;
	rl_holder_leave(&t.seg, fd, mine);
	assert_int_equal(rl_holder_number(other), rl_holder_number(mine));
	check_other();
}

static void test_holder__who_leaves_is_locked_no_more(void **state)
{
	(void)state;
	assert_true(is_locked(mine));
	rl_holder_leave(&t.seg, fd, mine);
	assert_false(is_locked(mine));
	assert_false(rl_holder_is(&t.seg.view, mine));
	assert_false(rl_holder_keep(&t.seg, fd, mine));
	assert_false(is_locked(mine));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_holder__number_taken_while_its_last_holder_lets_go_keeps_its_lock),
		TEST(test_holder__lock_dropped_between_it_and_the_word_is_taken_again),
		TEST(test_holder__leaving_drops_no_lock_but_its_own),
		TEST(test_holder__leaving_late_drops_no_lock_but_its_own),
		TEST(test_holder__who_leaves_is_locked_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
