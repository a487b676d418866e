/*
 * Goal:   what a client holds belongs to the segment it was acquired in: moved to the next one it
 *         acquires there from 0, and an old ticket gives nothing back that is not its own.
 * Method: rl.h on segments replaced by the test, which also makes the files that are locked. A
 *         ticket that would fit the other segment but for its key's identity is made of two.
 */
#include "tests/t.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_holder.h"
#include "shm/rl_inflight.h"

static struct t_seg t;
static struct rl_client *client;
static uint64_t rule;
static int fd; /* the agent's, of "<path>.alive" */

static void furnish(struct rl_seg *seg)
{
	const struct rl_segment_spec spec = {.mode = 0660};
	const struct rl_rule_spec two = {
		.name = "two", .terms = {2, RL_WINDOW_MIN_NS}, .algorithm = RL_CONCURRENCY};
	size_t other;

	fd = rl_alive_make(seg, t.path, &spec, NULL);
	assert_true(fd >= 0);
	assert_int_equal(rl_rules_publish(seg, &two, 1, &other), 0);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 200);
	furnish(&t.seg);
	assert_int_equal(rl_open(t.path, &client, NULL), 0);
	rule = t_client_rule(client, "two");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

/* As the next agent does when the file has been removed. The old mapping goes to *ret_old. */
static void make_anew(struct rl_seg *ret_old)
{
	const struct rl_segment_spec spec = {.keys = 200, .mode = 0660};

	*ret_old = t.seg;
	assert_int_equal(unlink(t.path), 0);
	assert_int_equal(rl_segment_create(t.path, &spec, &t.seg, NULL), 0);
	furnish(&t.seg); /* the old agent's descriptor stays, as its process may */
}

static int acquire(struct rl_client *by, struct rl_result *ret)
{
	return rl_acquire(by, rule, "bob", 3, 1, ret);
}

static uint32_t used(const struct rl_seg *seg)
{
	struct rl_answer answer;
	uint32_t units = 0;

	assert_true(rl_check_look(&seg->view, rule, "bob", 3, 1, &answer, &units) >= 0);
	return units;
}

static void test_inflight_outlive__old_tickets_give_nothing_back_in_the_new_segment(void **state)
{
	struct rl_result old[2], new[2], alike, no;
	struct rl_seg before;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(acquire(client, &old[i]), RL_ALLOWED);
	assert_int_equal(acquire(client, &no), RL_LIMITED);
	make_anew(&before);
	assert_int_equal(rl_refresh(client, NULL), 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(acquire(client, &new[i]), RL_ALLOWED);
	assert_int_equal(acquire(client, &no), RL_LIMITED);
	/* The line of its key may be the very one, and the holder have the number. */
	alike = old[1];
	memcpy(alike.ticket, new[0].ticket, 2 * sizeof(alike.ticket[0]));
	assert_int_equal(rl_release(client, rule, &alike), RL_ERR_TICKET);
	assert_int_equal(used(&t.seg), 2);

	assert_int_equal(rl_release(client, rule, &old[0]), 0);
	assert_int_equal(used(&before), 1);
	assert_int_equal(used(&t.seg), 2);
	assert_int_equal(rl_release(client, rule, &old[0]), RL_ERR_TICKET);

	client_mapped(client)->since_ns = rl_clock_precise_ns() - GRACE_NS;
	assert_int_equal(acquire(client, &no), RL_LIMITED);
	assert_true(client_mapped(client)->before->gone);
	assert_int_equal(rl_release(client, rule, &old[1]), RL_ERR_TICKET);
	assert_int_equal(used(&t.seg), 2);
	assert_int_equal(acquire(client, &no), RL_LIMITED);

	assert_int_equal(rl_release(client, rule, &new[0]), 0);
	assert_int_equal(acquire(client, &no), RL_ALLOWED);
	rl_segment_detach(&before);
}

static void test_inflight_outlive__without_a_segment_nothing_is_acquired(void **state)
{
	struct rl_client *early;
	struct rl_result result;
	char aside[sizeof(t.path) + 8];
	struct rl_seg before;
	uint64_t handle;

	(void)state;
	snprintf(aside, sizeof(aside), "%s.aside", t.path);
	assert_int_equal(rename(t.path, aside), 0);
	assert_int_equal(rl_open(t.path, &early, NULL), 0);
	assert_int_equal(rl_rule(early, "two", &handle), 0);
	memset(&result, 1, sizeof(result));
	errno = E2BIG;
	assert_int_equal(rl_acquire(early, handle, "bob", 3, 1, &result), RL_ERR_ABSENT);
	assert_int_equal(errno, E2BIG);
	assert_int_equal(result.ticket[0], 0);
	assert_int_equal(rl_release(early, handle, &result), RL_ERR_TICKET);

	assert_int_equal(rename(aside, t.path), 0);
	make_anew(&before);
	early->look_ns = 0;
	assert_int_equal(rl_acquire(early, handle, "bob", 3, 1, &result), RL_ERR_ABSENT);
	assert_int_equal(rl_acquire(early, handle, "bob", 3, 1, &result), RL_ALLOWED);
	assert_int_equal(used(&t.seg), 1);
	assert_int_equal(rl_release(early, handle, &result), 0);
	assert_int_equal(used(&t.seg), 0);
	rl_detach(early);
	rl_segment_detach(&before);
}

/* As the agent sees it: from another process. */
static bool lock_is_free(uint32_t number)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(rl_holder_is_gone(fd, number) ? 1 : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 1;
}

static void test_inflight_outlive__client_left_behind_does_not_drop_the_new_lock(void **state)
{
	struct rl_result old, new, no;
	struct rl_client *behind;
	struct rl_seg before;
	uint32_t who;

	(void)state;
	assert_int_equal(rl_attach(t.path, &behind, NULL), 0);
	assert_int_equal(acquire(behind, &old), RL_ALLOWED);
	make_anew(&before);
	assert_int_equal(rl_refresh(client, NULL), 1);
	assert_int_equal(acquire(client, &new), RL_ALLOWED);
	who = own_of(client_mapped(client))->holder;
	assert_int_not_equal(who, 0);
	assert_false(lock_is_free(rl_holder_number(who)));

	own_of(client_mapped(behind))->kept_ns = 0; /* it sees to its own lock */
	assert_int_equal(acquire(behind, &no), RL_ALLOWED);
	assert_false(lock_is_free(rl_holder_number(who)));
	assert_int_equal(rl_release(behind, rule, &old), 0);
	assert_int_equal(used(&t.seg), 1);
	rl_detach(behind);
	assert_false(lock_is_free(rl_holder_number(who)));
	rl_segment_detach(&before);
}

static uint64_t state_of(const struct rl_seg *seg, uint32_t who)
{
	return rl_holder_state(seg->holders->word[rl_holder_number(who)]);
}

static void test_inflight_outlive__detach_leaves_every_segment(void **state)
{
	uint32_t before_who, who;
	struct rl_client *other;
	struct rl_result result;
	struct rl_seg before;

	(void)state;
	assert_int_equal(rl_attach(t.path, &other, NULL), 0);
	assert_int_equal(acquire(other, &result), RL_ALLOWED);
	before_who = own_of(client_mapped(other))->holder;
	make_anew(&before);
	assert_int_equal(rl_refresh(other, NULL), 1);
	assert_int_equal(acquire(other, &result), RL_ALLOWED);
	who = own_of(client_mapped(other))->holder;
	assert_int_equal(state_of(&before, before_who), RL_HOLDER_TAKEN);
	assert_int_equal(state_of(&t.seg, who), RL_HOLDER_TAKEN);
	rl_detach(other);
	assert_int_equal(state_of(&before, before_who), RL_HOLDER_LEFT);
	assert_int_equal(state_of(&t.seg, who), RL_HOLDER_LEFT);
	assert_true(lock_is_free(rl_holder_number(who)));
	rl_segment_detach(&before);
}

static void test_inflight_outlive__child_moves_and_releases_nothing_of_its_parents(void **state)
{
	struct rl_result old, new, its;
	struct rl_seg before;
	int status;
	pid_t child;

	(void)state;
	assert_int_equal(acquire(client, &old), RL_ALLOWED);
	make_anew(&before);
	assert_int_equal(rl_refresh(client, NULL), 1);
	assert_int_equal(acquire(client, &new), RL_ALLOWED);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(rl_release(client, rule, &old) == RL_ERR_TICKET &&
				      rl_release(client, rule, &new) == RL_ERR_TICKET &&
				      acquire(client, &its) == RL_ALLOWED &&
				      acquire(client, &its) == RL_LIMITED
			      ? 0
			      : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(rl_release(client, rule, &old), 0);
	assert_int_equal(rl_release(client, rule, &new), 0);
	assert_int_equal(used(&t.seg), 1); /* the child's, until its death is seen */
	rl_segment_detach(&before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inflight_outlive__old_tickets_give_nothing_back_in_the_new_segment),
		TEST(test_inflight_outlive__without_a_segment_nothing_is_acquired),
		TEST(test_inflight_outlive__client_left_behind_does_not_drop_the_new_lock),
		TEST(test_inflight_outlive__detach_leaves_every_segment),
		TEST(test_inflight_outlive__child_moves_and_releases_nothing_of_its_parents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
