/*
 * Goal:   the agent hears every ring and a caller that waits for credit every turn, also the one
 *         that comes between its look and its sleep; nobody sleeps longer than was agreed.
 * Method: real futexes. A step of the other side comes upon an access to memory, between look and
 *         sleep; 10^5 rounds of a caller and a thread that grants. A lost wake-up shows as a wait
 *         that lasts to its end, which is far away. No upper bound of a time is asserted else.
 */
#include "tests/shared_key.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "agent/sync/bell.h"
#include "shm/rl_bell.h"
#include "shm/rl_check.h"

#define FAR_NS (20 * RL_SECOND_NS) /* a sleep that lasts as long was not ended by anybody */

static struct shared_key k;

/* wait: 1 s, interval 1 s: callers may wait. The heartbeat lies ahead: the agent is there. */
static void make(uint64_t wait_ns)
{
	shared_key_make(
		&k, "1000000/h",
		(struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, wait_ns},
		rl_clock_precise_ns() + RL_DAY_NS);
	k.t.seg.fleet->interval_ns = RL_SECOND_NS;
}

static int setup(void **state)
{
	(void)state;
	make(RL_SECOND_NS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	shared_key_drop(&k);
	return 0;
}

static void ring(void *unused)
{
	(void)unused;
	rl_bell_ring(&k.t.seg);
}

static void test_bell__ring_before_the_sleep_is_heard_at_once(void **state)
{
	uint64_t begin = t_now_ns();
	uint32_t heard = 0;

	(void)state;
	errno = 4321;
	ring(NULL);
	ring(NULL);
	assert_true(rl_bell_wait(&k.t.seg, &heard, FAR_NS));
	assert_int_equal(heard, 2);
	assert_int_equal(errno, 4321);
	assert_true(t_now_ns() - begin < FAR_NS);
}

static void test_bell__ring_between_look_and_sleep_is_heard_at_once(void **state)
{
	uint64_t begin = t_now_ns();
	uint32_t heard = 0;

	(void)state;
	if (t_under_tsan())
		return;
	t_upon_access(&k.t.seg.fleet->bell, PROT_READ, ring, NULL); /* it says that it sleeps */
	assert_true(rl_bell_wait(&k.t.seg, &heard, FAR_NS));
	assert_true(t_now_ns() - begin < FAR_NS);
}

static void test_bell__nobody_rings_and_the_sleep_ends(void **state)
{
	uint64_t begin = t_now_ns();
	uint32_t heard = 0;

	(void)state;
	errno = 4321;
	assert_false(rl_bell_wait(&k.t.seg, &heard, 20000000));
	assert_true(t_now_ns() - begin >= 20000000);
	assert_int_equal(heard, 0);
	assert_int_equal(k.t.seg.fleet->asleep, 0);
	assert_int_equal(errno, 4321);
}

static void *ring_once_it_sleeps(void *unused)
{
	(void)unused;
	while (atomic_load(&k.t.seg.fleet->asleep) == 0)
		;
	ring(NULL);
	return NULL;
}

static void test_bell__ring_wakes_the_sleeper(void **state)
{
	uint64_t begin = t_now_ns();

	(void)state;
	for (uint32_t i = 0; i < 500; i++) {
		uint32_t heard = i;
		pthread_t thread;

		pthread_create(&thread, NULL, ring_once_it_sleeps, NULL);
		assert_true(rl_bell_wait(&k.t.seg, &heard, FAR_NS));
		pthread_join(thread, NULL);
		assert_int_equal(heard, i + 1);
	}
	assert_true(t_now_ns() - begin < FAR_NS);
}

static void give_one(void)
{
	uint64_t head = atomic_load(&shared_slot(&k)->head);

	while (!atomic_compare_exchange_weak(&shared_slot(&k)->head, &head,
					     rl_head_with_credit(head, rl_head_credit(head) + 1) ^
						     RL_HEAD_GRANT))
		;
}

static void grant(void *unused)
{
	(void)unused;
	give_one();
	rl_turn_next(&k.t.seg, k.index, 1);
}

static void test_bell__turn_before_the_wait_ends_it_at_once(void **state)
{
	uint32_t seen = rl_turn_seen(shared_slot(&k));
	uint64_t begin = t_now_ns();

	(void)state;
	errno = 4321;
	rl_turn_next(&k.t.seg, k.index, 0);
	rl_turn_wait(&k.t.seg, k.index, seen, FAR_NS);
	assert_true(t_now_ns() - begin < FAR_NS);
	assert_int_equal(shared_side(&k)->waiters, 0);
	assert_int_equal(errno, 4321);
}

static void test_bell__turn_between_look_and_wait_ends_it_at_once(void **state)
{
	uint32_t seen = rl_turn_seen(shared_slot(&k));
	uint64_t begin = t_now_ns();

	(void)state;
	if (t_under_tsan())
		return;
	t_upon_access(&shared_side(&k)->waiters, PROT_READ, grant, NULL);
	rl_turn_wait(&k.t.seg, k.index, seen, FAR_NS);
	assert_true(t_now_ns() - begin < FAR_NS);
}

static void test_bell__count_of_waiters_never_falls_below_zero(void **state)
{
	uint32_t seen = rl_turn_seen(shared_slot(&k));

	(void)state;
	shared_side(&k)->waiters = 7; /* six were killed in it */
	rl_turn_wait(&k.t.seg, k.index, seen, 1);
	assert_int_equal(shared_side(&k)->waiters, 7);
	shared_side(&k)->waiters = UINT16_MAX; /* damaged: it wraps to 0, and stays there */
	rl_turn_wait(&k.t.seg, k.index, seen, 1);
	assert_int_equal(shared_side(&k)->waiters, 0);
}

static void *grant_once_somebody_waits(void *unused)
{
	while (atomic_load(&shared_side(&k)->waiters) == 0)
		;
	grant(unused);
	return NULL;
}

static int check(uint32_t flags, struct rl_answer *ret)
{
	return rl_check_spend(&k.t.seg, &k.t.seg.member[0], k.handle, "k", 1, 1, flags, ret);
}

static void test_bell__caller_that_may_wait_is_woken_by_a_grant(void **state)
{
	struct rl_answer answer;
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, grant_once_somebody_waits, NULL);
	assert_int_equal(check(RL_CHECK_MAY_WAIT, &answer), 1);
	pthread_join(thread, NULL);
	assert_int_equal(answer.by, RL_DECIDED_CREDIT);
	assert_int_equal(shared_side(&k)->refused, 0);
	assert_int_equal(shared_side(&k)->waiters, 0);
}

static void test_bell__caller_that_gets_nothing_waits_its_time_and_is_refused(void **state)
{
	uint64_t begin, n = shared_n(&k);
	struct rl_answer answer;

	(void)state;
	shared_key_drop(&k);
	make(30000000);
	begin = t_now_ns();
	assert_int_equal(check(RL_CHECK_MAY_WAIT, &answer), 0);
	assert_true(t_now_ns() - begin >= 30000000);
	assert_int_equal(answer.by, RL_DECIDED_NO_CREDIT);
	assert_true(answer.wait_ns > 0);
	assert_int_equal(shared_n(&k), n);
	assert_int_equal(shared_side(&k)->refused, 1);
	assert_int_equal(shared_side(&k)->waiters, 0);
}

/* An answer that brings nothing, and says so: the rest of the time is not waited out. */
static void *tell_to_come_back_later(void *unused)
{
	while (atomic_load(&shared_side(&k)->waiters) == 0)
		;
	atomic_store(&shared_slot(&k)->hint, rl_hint((rl_clock_precise_ns() + RL_DAY_NS) / 1000000,
						     0, rl_hint_part(shared_slot(&k)->hint)));
	rl_turn_next(&k.t.seg, k.index, 64);
	return unused;
}

static void test_bell__waiting_caller_is_refused_when_the_window_is_full(void **state)
{
	uint64_t begin;
	struct rl_answer answer;
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, tell_to_come_back_later, NULL);
	begin = t_now_ns();
	assert_int_equal(check(RL_CHECK_MAY_WAIT, &answer), 0);
	pthread_join(thread, NULL);
	assert_int_equal(answer.by, RL_DECIDED_CREDIT);
	assert_true(answer.wait_ns > RL_DAY_NS / 2);
	assert_true(t_now_ns() - begin < FAR_NS);
	assert_int_equal(shared_side(&k)->refused, 1);
}

static void test_bell__caller_that_may_not_wait_does_not(void **state)
{
	struct rl_answer answer;

	(void)state;
	shared_key_drop(&k);
	make(RL_WAIT_MAX_NS);
	for (int i = 0; i < 1000; i++) /* a quarter of an hour, if it did */
		assert_int_equal(check(0, &answer), 0);
}

static atomic_bool done;

/* An agent: a grant for each unit asked for, at once or a little later. */
static void *grant_what_is_asked(void *unused)
{
	uint64_t seed = t_seed();

	(void)unused;
	while (!atomic_load(&done)) {
		uint32_t asked = atomic_exchange(&shared_slot(&k)->asked, 0);

		if (asked == 0)
			continue;
		for (volatile uint64_t spin = t_below(&seed, 3000); spin > 0; spin--)
			;
		if (t_below(&seed, 16) == 0)
			rl_turn_next(&k.t.seg, k.index, 1); /* nothing yet */
		for (; asked > 0; asked--)
			give_one();
		rl_turn_next(&k.t.seg, k.index, 1);
	}
	return NULL;
}

/* The answer after which a caller goes to sleep comes at any moment of its two looks. */
static void test_bell__no_grant_is_slept_through(void **state)
{
	uint32_t rounds = t_under_tsan() ? 5000 : 100000, slow = 0;
	struct rl_answer answer;
	pthread_t thread;

	(void)state;
	t_seed(); /* before there are threads */
	atomic_store(&done, false);
	pthread_create(&thread, NULL, grant_what_is_asked, NULL);
	for (uint32_t i = 0; i < rounds && slow < 5; i++) {
		uint64_t begin = t_now_ns();

		if (check(RL_CHECK_MAY_WAIT, &answer) != 1 || t_now_ns() - begin >= RL_SECOND_NS)
			slow++;
	}
	atomic_store(&done, true);
	pthread_join(thread, NULL);
	assert_true(slow < 5); /* a machine may stand still for a second, now and then */
}

static void note_heard(void *arg)
{
	event_base_loopbreak(arg);
}

static void test_bell__ring_reaches_the_agents_loop(void **state)
{
	struct event_base *base = event_base_new();
	const struct timeval far = {.tv_sec = 20};
	struct bell *bell;

	(void)state;
	assert_non_null(base);
	bell = bell_new(base, &k.t.seg, note_heard, base);
	assert_non_null(bell);
	event_base_loopexit(base, &far);
	for (int i = 0; i < 20; i++) {
		ring(NULL);
		event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
		assert_true(event_base_got_break(base));
	}
	bell_free(bell);
	event_base_free(base);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bell__ring_before_the_sleep_is_heard_at_once),
		TEST(test_bell__ring_between_look_and_sleep_is_heard_at_once),
		TEST(test_bell__nobody_rings_and_the_sleep_ends),
		TEST(test_bell__ring_wakes_the_sleeper),
		TEST(test_bell__turn_before_the_wait_ends_it_at_once),
		TEST(test_bell__turn_between_look_and_wait_ends_it_at_once),
		TEST(test_bell__count_of_waiters_never_falls_below_zero),
		TEST(test_bell__caller_that_may_wait_is_woken_by_a_grant),
		TEST(test_bell__caller_that_gets_nothing_waits_its_time_and_is_refused),
		TEST(test_bell__waiting_caller_is_refused_when_the_window_is_full),
		TEST(test_bell__caller_that_may_not_wait_does_not),
		TEST(test_bell__no_grant_is_slept_through),
		TEST(test_bell__ring_reaches_the_agents_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
