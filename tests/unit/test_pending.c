/*
 * Goal:   a check of an event loop that is short of credit is left pending without sleeping, the
 *         agent is told which turn it waits for, and it is finished as one that slept would be; it
 *         never outlives the rule's wait, and without an agent nothing stays pending.
 * Method: the public functions on a real segment, with the test in the place of the agent: it
 *         reads the notes, gives credit and turns, and closes the socket. Waits are long where the
 *         test acts in them, and the words of a pending check are set back where one must end.
 */
#include "tests/shared_key.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_bell.h"
#include "shm/rl_wait.h"

#define MS UINT64_C(1000000)

static const struct rl_fleet_terms strict = {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0,
					     RL_SECOND_NS};

static struct shared_key k;
static struct rl_client *client;
static struct rl_waiter waiter;
static struct rl_pending pending;
static struct rl_result result;
static char path[128];
static int listener, agent;

static int setup(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)state;
	shared_key_make(&k, "100/h", strict, rl_clock_precise_ns());
	assert_int_equal(rl_attach(k.t.path, &client, NULL), 0);
	snprintf(path, sizeof(path), "%s" RL_WAIT_SUFFIX, k.t.path);
	assert_true(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	unlink(path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 4), 0);
	assert_true(rl_waiter_open(client, &waiter) >= 0);
	agent = accept(listener, NULL, NULL);
	assert_true(agent >= 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_waiter_close(&waiter);
	close(agent);
	close(listener);
	unlink(path);
	rl_detach(client);
	shared_key_drop(&k);
	return 0;
}

static void beat(void)
{
	k.t.seg.live->beat_ns = rl_clock_precise_ns();
}

static int start(void)
{
	beat();
	return rl_check_start(client, &waiter, k.handle, "k", 1, 3, &pending, &result);
}

static int finish(void)
{
	beat();
	return rl_check_finish(client, &waiter, &pending, &result);
}

/* The next note; false when there is none. */
static bool next_note(struct rl_wait_note *ret)
{
	return recv(agent, ret, sizeof(*ret), MSG_DONTWAIT) == sizeof(*ret);
}

static uint32_t notes(void)
{
	struct rl_wait_note note;
	uint32_t count = 0;

	while (next_note(&note))
		count++;
	return count;
}

static bool is_readable(void)
{
	struct pollfd look = {.fd = waiter.fd, .events = POLLIN};

	return poll(&look, 1, 0) == 1;
}

static void test_pending__short_check_is_left_and_the_agent_told_of_its_turn(void **state)
{
	struct rl_wait_note note;

	(void)state;
	shared_slot(&k)->turn = 41;
	assert_int_equal(start(), RL_PENDING);
	assert_in_range(result.retry_after_ns, RL_SECOND_NS / 2, RL_SECOND_NS);
	assert_int_equal(shared_slot(&k)->asked, 3);
	assert_int_equal(shared_side(&k)->refused, 3);
	assert_int_equal(shared_side(&k)->waiters, 1);
	assert_true(next_note(&note));
	assert_int_equal(note.index, k.index);
	assert_int_equal(note.turn, 41);
	assert_int_equal(note.spare, 0);
	assert_int_equal(notes(), 0);
	assert_false(is_readable());
}

static void test_pending__credit_that_came_is_charged_when_it_is_finished(void **state)
{
	uint64_t n;

	(void)state;
	n = shared_n(&k);
	assert_int_equal(start(), RL_PENDING);
	shared_give(&k, 5);
	rl_turn_next(&k.t.seg, k.index, 0);
	assert_int_equal(send(agent, "", 1, 0), 1);
	assert_true(is_readable());
	assert_int_equal(shared_n(&k), n);
	assert_int_equal(rl_waiter_read(&waiter), 0);
	assert_int_equal(finish(), RL_ALLOWED);
	assert_int_equal(shared_side(&k)->waiters, 0);
	assert_int_equal(shared_n(&k), n + 3);
	assert_int_equal(shared_credit(&k), 2);
	assert_int_equal(result.decided_by, RL_BY_CREDIT);
	assert_int_equal(shared_side(&k)->refused, 0); /* it is in the count now */
	assert_false(is_readable());
	assert_int_equal(finish(), -EINVAL); /* it is no longer pending */
}

static void test_pending__usual_answers_need_no_agent_and_no_note(void **state)
{
	(void)state;
	shared_give(&k, 3);
	assert_int_equal(start(), RL_ALLOWED);
	assert_int_equal(notes(), 0);
	shared_rule(&k, "100/h", (struct rl_fleet_terms){0});
	assert_int_equal(
		rl_check_start(client, &waiter, k.handle, "other", 5, 1, &pending, &result),
		RL_ALLOWED);
	assert_int_equal(finish(), -EINVAL);
}

/* A byte that was for another key: what is asked for must not be asked for twice. */
static void test_pending__finished_without_a_turn_it_asks_for_nothing_more(void **state)
{
	(void)state;
	assert_int_equal(start(), RL_PENDING);
	for (int i = 0; i < 5; i++)
		assert_int_equal(finish(), RL_PENDING);
	assert_int_equal(shared_slot(&k)->asked, 3);
	assert_int_equal(shared_side(&k)->refused, 3);
	assert_int_equal(notes(), 6); /* it wants to be told again, each time */
	/* After a turn that brought nothing it does ask. */
	shared_slot(&k)->asked = 0;
	rl_turn_next(&k.t.seg, k.index, 0);
	assert_int_equal(finish(), RL_PENDING);
	assert_int_equal(shared_slot(&k)->asked, 3);
	assert_int_equal(shared_side(&k)->refused, 3);
}

/* A byte that came for the first check while the second was looked at is there for the first. */
static void test_pending__finishing_one_takes_no_word_from_another(void **state)
{
	struct rl_pending other;

	(void)state;
	assert_int_equal(start(), RL_PENDING);
	other = pending;
	assert_int_equal(start(), RL_PENDING);
	assert_int_equal(finish(), RL_PENDING);
	send(agent, "", 1, 0);
	pending = other;
	assert_int_equal(finish(), RL_PENDING);
	assert_true(is_readable());
	assert_int_equal(rl_waiter_read(&waiter), 0);
	assert_false(is_readable());
}

/* However many are left: not as if there were none. */
static void test_pending__count_of_those_that_wait_has_an_end(void **state)
{
	(void)state;
	shared_rule(&k, "1000000/h", strict);
	for (int i = 0; i < 70000; i++) {
		assert_int_equal(start(), RL_PENDING);
		notes();
	}
	assert_in_range(shared_side(&k)->waiters, 1, 2000);
}

static void test_pending__rules_wait_ends_it(void **state)
{
	uint64_t began_ns = rl_clock_precise_ns();

	(void)state;
	shared_rule(&k, "100/h",
		    (struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 30 * MS});
	assert_int_equal(start(), RL_PENDING);
	assert_true(result.retry_after_ns <= 30 * MS);
	while (finish() == RL_PENDING)
		assert_true(rl_clock_precise_ns() - began_ns < 2 * RL_SECOND_NS);
	assert_true(rl_clock_precise_ns() - began_ns >= 30 * MS);
	assert_int_equal(result.decided_by, RL_BY_NO_CREDIT);
	assert_true(result.retry_after_ns > 0);
}

static void test_pending__no_credit_allow_goes_into_debt_when_the_wait_is_over(void **state)
{
	struct rl_fleet_terms allow = {RL_BOUNDED, RL_NO_CREDIT_ALLOW, RL_SHARE, 0, MS};
	int got;

	(void)state;
	shared_rule(&k, "100/h", allow);
	beat();
	got = rl_check_start(client, &waiter, k.handle, "k", 1, 1, &pending, &result);
	for (uint64_t began_ns = rl_clock_precise_ns(); got == RL_PENDING; got = finish())
		assert_true(rl_clock_precise_ns() - began_ns < 2 * RL_SECOND_NS);
	assert_int_equal(got, RL_ALLOWED);
	assert_int_equal(result.decided_by, RL_BY_NO_CREDIT);
	assert_int_equal(shared_side(&k)->debt, 1);
}

static void
test_pending__agent_that_ends_makes_it_readable_and_is_waited_for_no_longer(void **state)
{
	(void)state;
	assert_int_equal(start(), RL_PENDING);
	close(agent);
	assert_true(is_readable());
	assert_int_equal(rl_waiter_read(&waiter), -EPIPE);
	assert_int_equal(finish(), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_NO_CREDIT);
	assert_int_equal(start(), RL_LIMITED); /* and nothing stays pending from now on */
	rl_waiter_close(&waiter);
	assert_int_equal(waiter.fd, -1);
	assert_true(rl_waiter_open(client, &waiter) >= 0);
	agent = accept(listener, NULL, NULL);
	assert_int_equal(start(), RL_PENDING);
}

/* Between its last look at the socket and its note. */
static void test_pending__agent_that_ends_before_the_note_is_not_waited_for(void **state)
{
	(void)state;
	close(agent);
	assert_int_equal(start(), RL_LIMITED);
	agent = -1;
}

static void test_pending__agent_that_does_not_read_costs_the_wait_and_no_more(void **state)
{
	int got = RL_PENDING;

	(void)state;
	shared_rule(&k, "100/h",
		    (struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 50 * MS});
	for (int i = 0; i < 5000 && got == RL_PENDING; i++) /* its socket is full by then */
		got = start();
	assert_int_equal(got, RL_PENDING);
	for (uint64_t began_ns = rl_clock_precise_ns(); got == RL_PENDING; got = finish())
		assert_true(rl_clock_precise_ns() - began_ns < 2 * RL_SECOND_NS);
	assert_int_equal(got, RL_LIMITED);
}

static void test_pending__without_a_waiter_it_is_answered_at_once(void **state)
{
	struct rl_waiter none = {.fd = -1};

	(void)state;
	beat();
	assert_int_equal(rl_check_start(client, NULL, k.handle, "k", 1, 3, &pending, &result),
			 RL_LIMITED);
	assert_int_equal(rl_check_start(client, &none, k.handle, "k", 1, 3, &pending, &result),
			 RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_NO_CREDIT);
	assert_int_equal(start(), RL_PENDING);
	assert_int_equal(rl_check_finish(client, NULL, &pending, &result), RL_LIMITED);
}

static void test_pending__child_does_not_wait_by_its_parents_socket(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(start(), RL_PENDING);
	send(agent, "", 1, 0);
	pid = fork();
	if (pid == 0)
		_exit(rl_waiter_read(&waiter) == -EPIPE && start() == RL_LIMITED &&
				      finish() == -EINVAL
			      ? 0
			      : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(notes(), 1);
	assert_true(is_readable()); /* the byte is the parent's */
	assert_int_equal(finish(), RL_PENDING);
}

static void test_pending__cancelled_check_is_forgotten(void **state)
{
	uint64_t n;

	(void)state;
	n = shared_n(&k);
	assert_int_equal(start(), RL_PENDING);
	rl_check_cancel(&pending);
	shared_give(&k, 5);
	assert_int_equal(finish(), -EINVAL);
	assert_int_equal(shared_n(&k), n);
	rl_check_cancel(&pending);
	rl_check_cancel(NULL);
}

static void test_pending__long_key_is_the_same_when_it_is_finished(void **state)
{
	char key[RL_KEY_MAX];

	(void)state;
	memset(key, 'x', sizeof(key));
	beat();
	assert_int_equal(
		rl_check_start(client, &waiter, k.handle, key, sizeof(key), 2, &pending, &result),
		RL_PENDING);
	k.index = shared_find(&k, key, sizeof(key));
	shared_give(&k, 2);
	memset(key, 0, sizeof(key)); /* nothing is kept of it */
	assert_int_equal(finish(), RL_ALLOWED);
	assert_int_equal(shared_credit(&k), 0);
}

static void test_pending__pending_check_of_another_segment_is_not_finished_here(void **state)
{
	(void)state;
	assert_int_equal(start(), RL_PENDING);
	pending.word[1] ^= 1; /* whose it is */
	assert_int_equal(finish(), RL_ERR_KEY);
	assert_int_equal(finish(), -EINVAL);
}

static void test_pending__wrong_arguments_are_refused(void **state)
{
	struct rl_waiter other;

	(void)state;
	assert_int_equal(rl_check_start(NULL, &waiter, k.handle, "k", 1, 1, &pending, &result),
			 -EINVAL);
	assert_int_equal(rl_check_start(client, &waiter, k.handle, "k", 1, 1, NULL, &result),
			 -EINVAL);
	assert_int_equal(rl_check_start(client, &waiter, k.handle, "k", 1, 1, &pending, NULL),
			 -EINVAL);
	assert_int_equal(rl_check_start(client, &waiter, k.handle, "k", 0, 1, &pending, &result),
			 -EINVAL);
	assert_int_equal(rl_check_start(client, &waiter, k.handle, "k", 1, 0, &pending, &result),
			 -EINVAL);
	assert_int_equal(rl_check_start(client, &waiter, k.handle, "k", 1, 101, &pending, &result),
			 RL_ERR_COST);
	assert_int_equal(rl_check_finish(client, &waiter, NULL, &result), -EINVAL);
	assert_int_equal(rl_check_finish(client, &waiter, &pending, NULL), -EINVAL);
	assert_int_equal(rl_waiter_open(NULL, &other), -EINVAL);
	assert_int_equal(rl_waiter_open(client, NULL), -EINVAL);
	unlink(path);
	assert_int_equal(rl_waiter_open(client, &other), -ENOENT);
	assert_int_equal(other.fd, -1);
	rl_waiter_close(&other);
	rl_waiter_close(NULL);
	assert_int_equal(rl_waiter_read(NULL), -EINVAL);
	assert_int_equal(rl_waiter_read(&other), -EPIPE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_pending__short_check_is_left_and_the_agent_told_of_its_turn),
		TEST(test_pending__credit_that_came_is_charged_when_it_is_finished),
		TEST(test_pending__usual_answers_need_no_agent_and_no_note),
		TEST(test_pending__finished_without_a_turn_it_asks_for_nothing_more),
		TEST(test_pending__finishing_one_takes_no_word_from_another),
		TEST(test_pending__count_of_those_that_wait_has_an_end),
		TEST(test_pending__rules_wait_ends_it),
		TEST(test_pending__no_credit_allow_goes_into_debt_when_the_wait_is_over),
		TEST(test_pending__agent_that_ends_makes_it_readable_and_is_waited_for_no_longer),
		TEST(test_pending__agent_that_ends_before_the_note_is_not_waited_for),
		TEST(test_pending__agent_that_does_not_read_costs_the_wait_and_no_more),
		TEST(test_pending__without_a_waiter_it_is_answered_at_once),
		TEST(test_pending__child_does_not_wait_by_its_parents_socket),
		TEST(test_pending__cancelled_check_is_forgotten),
		TEST(test_pending__long_key_is_the_same_when_it_is_finished),
		TEST(test_pending__pending_check_of_another_segment_is_not_finished_here),
		TEST(test_pending__wrong_arguments_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
