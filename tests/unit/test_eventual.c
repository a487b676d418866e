/*
 * Goal:   one try under an eventual rule goes by what the fleet held at the last answer, for as
 *         long as that can be so, and by what this host admitted since; it never asks, waits or
 *         goes into debt, and without Redis it does what the rule says.
 * Method: virtual time and a slot set by hand at both sides of every border; the answer without
 *         writing is held against the try itself in random states. Through the public function
 *         what a caller sees.
 */
#include "tests/shared_key.h"

#include "client/rl.h"
#include "shm/rl_check.h"
#include "shm/rl_eventual.h"

#define MS   UINT64_C(1000000)
#define UNIT (UINT64_C(1) << RL_TOTAL_SHIFT) /* of total's when */
#define T    (20 * MS)                       /* the interval of a window of a second */
#define W    RL_SECOND_NS
#define START \
	((RL_CLOCK_BIAS_NS + 1000 * W) / (UNIT * 15625) * UNIT * 15625) /* whole MS and UNIT */

static const struct rl_fleet_terms eventual = {.consistency = RL_EVENTUAL,
					       .on_unreachable = RL_CLOSED};

static struct shared_key k;
static struct rl_shared_answer answer;

static int setup(void **state)
{
	(void)state;
	shared_key_make(&k, "100/s", eventual, START);
	k.t.seg.fleet->hosts = 3;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	shared_key_drop(&k);
	return 0;
}

static struct rl_shared_ask ask_for(uint32_t cost, uint64_t now)
{
	struct rl_shared_ask ask = shared_ask(&k, cost, now);

	ask.wait_ns = 2 * MS; /* of no use: nobody waits */
	return ask;
}

static int try(uint32_t cost, uint64_t now)
{
	struct rl_shared_ask ask = ask_for(cost, now);

	k.t.seg.live->beat_ns = now; /* the agent lives */
	return rl_shared_try(&k.t.seg, &ask, &answer);
}

/* As an answer of START would: so many units, the first and the last of which leave then. */
static void told(uint32_t units, uint64_t first_ns, uint64_t last_ns)
{
	shared_side(&k)->acked = rl_acked(shared_n(&k), true, 1);
	shared_side(&k)->total = rl_total(START, units);
	shared_slot(&k)->hint = rl_hint((START + first_ns) / MS, rl_eventual_low(W, last_ns),
					rl_hint_part(shared_slot(&k)->hint));
}

static bool is_dirty(void)
{
	return (k.t.seg.dirty[0].word[k.index / 64] >> (k.index % 64) & 1) != 0;
}

static void test_eventual__fleets_total_and_what_was_admitted_since_fill_the_limit(void **state)
{
	(void)state;
	told(60, W, W);
	assert_int_equal(try(30, START), RL_TRY_ALLOWED);
	assert_int_equal(answer.by, RL_DECIDED_CREDIT);
	assert_int_equal(answer.window.remaining, 10);
	assert_int_equal(try(11, START), RL_TRY_LIMITED);
	assert_int_equal(try(10, START), RL_TRY_ALLOWED);
	assert_int_equal(answer.window.remaining, 0);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	/* What has been acknowledged is in the total, and counts no more beside it. */
	told(99, W, W);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(shared_credit(&k), 0);
}

static void test_eventual__new_key_has_the_limit_at_once_and_is_reported(void **state)
{
	uint64_t n = shared_n(&k);

	(void)state;
	assert_int_equal(try(100, START), RL_TRY_ALLOWED);
	assert_true(is_dirty());
	assert_int_equal(shared_n(&k), n + 100);
	assert_int_equal(shared_slot(&k)->ring[(n + 99) / rl_window_q(100) % RL_RING], START);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(answer.window.wait_ns, T);
}

/* Whatever Redis says: then this host alone admits no more than the limit. */
static void test_eventual__own_window_holds_when_the_total_says_nothing(void **state)
{
	(void)state;
	assert_int_equal(try(100, START), RL_TRY_ALLOWED);
	told(0, 0, 0);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(try(1, START + W), RL_TRY_LIMITED); /* and the hold of a clock's tick */
	assert_int_equal(try(1, START + W + 1), RL_TRY_ALLOWED);
}

static void test_eventual__check_never_asks_waits_or_goes_into_debt(void **state)
{
	(void)state;
	told(100, W, W);
	for (int i = 0; i < 10; i++)
		assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(k.t.seg.fleet->bell, 0);
	assert_int_equal(shared_slot(&k)->asked, 0);
	assert_int_equal(shared_side(&k)->debt, 0);
}

/* A flood of refused requests costs nobody anything until something may have changed. */
static void test_eventual__refusal_writes_only_when_something_may_have_left(void **state)
{
	(void)state;
	told(100, 300 * MS, W);
	assert_int_equal(try(3, START + 300 * MS - 1), RL_TRY_LIMITED);
	assert_int_equal(shared_side(&k)->refused, 0);
	assert_false(is_dirty());
	assert_int_equal(try(3, START + 300 * MS), RL_TRY_LIMITED);
	assert_int_equal(shared_side(&k)->refused, 3);
	assert_true(is_dirty());
}

/* Two intervals: an active key has had its next answer by then. */
static void test_eventual__total_holds_in_full_for_two_intervals(void **state)
{
	(void)state;
	told(100, 0, W); /* the first is leaving already */
	assert_int_equal(try(1, START + 2 * T), RL_TRY_LIMITED);
	assert_int_equal(try(1, START + 2 * T + W / 50 + 2 * UNIT), RL_TRY_ALLOWED);
}

static void test_eventual__total_holds_in_full_until_its_oldest_unit_leaves(void **state)
{
	(void)state;
	told(100, 500 * MS, W);
	assert_int_equal(try(1, START + 500 * MS), RL_TRY_LIMITED);
	/* Then it leaves evenly: half of the time, half of the units; one unit and two of the
	 * total's units of time on the safe side. */
	assert_int_equal(try(50, START + 750 * MS), RL_TRY_LIMITED);
	assert_int_equal(try(47, START + 750 * MS), RL_TRY_ALLOWED);
}

static void test_eventual__total_is_over_when_its_youngest_unit_has_left(void **state)
{
	(void)state;
	told(100, 400 * MS, 400 * MS);
	assert_int_equal(try(1, START + 400 * MS - 1), RL_TRY_LIMITED);
	assert_int_equal(try(100, START + 400 * MS + 2 * UNIT), RL_TRY_ALLOWED);
}

static void test_eventual__total_without_times_is_over_after_a_window(void **state)
{
	(void)state;
	told(100, 0, 0);
	shared_slot(&k)->hint = rl_hint(0, 0, 3); /* as after a change of rules */
	assert_int_equal(try(100, START + W - 1), RL_TRY_LIMITED);
	assert_int_equal(try(100, START + W + 2 * UNIT), RL_TRY_ALLOWED);
}

/* A coarse clock may lag behind the one that dated the answer. */
static void test_eventual__answer_of_a_moment_ahead_counts_in_full(void **state)
{
	(void)state;
	told(100, 0, W);
	assert_int_equal(try(1, START - 3 * UNIT), RL_TRY_LIMITED);
}

static void test_eventual__retry_is_when_that_much_has_left(void **state)
{
	(void)state;
	told(100, 500 * MS, W);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_in_range(answer.window.wait_ns, 500 * MS, 520 * MS);
	assert_int_equal(try(51, START), RL_TRY_LIMITED);
	assert_in_range(answer.window.wait_ns, 740 * MS, 770 * MS);
	assert_int_equal(try(100, START), RL_TRY_LIMITED);
	assert_in_range(answer.window.wait_ns, 990 * MS, W);
}

static void test_eventual__lowered_limit_holds_at_the_next_check(void **state)
{
	(void)state;
	told(60, W, W);
	shared_rule(&k, "61/s", eventual);
	assert_int_equal(try(2, START), RL_TRY_LIMITED);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
}

static void test_eventual__without_redis_the_rule_says_what_passes(void **state)
{
	(void)state;
	k.t.seg.fleet->part[rl_hint_part(shared_slot(&k)->hint)].silent_ns = START;
	assert_int_equal(try(1, START + RL_STALE_AFTER_NS), RL_TRY_ALLOWED);
	assert_int_equal(try(1, START + RL_STALE_AFTER_NS + 1), RL_TRY_LIMITED);
	assert_int_equal(answer.by, RL_DECIDED_POLICY);
	assert_int_equal(answer.state, RL_STALE);
	shared_rule(&k, "100/s", (struct rl_fleet_terms){RL_EVENTUAL, 0, RL_OWN, 0, 0});
	told(100, W, W);
	assert_int_equal(try(95, START + RL_STALE_AFTER_NS + 1), RL_TRY_ALLOWED);
	assert_int_equal(try(5, START + RL_STALE_AFTER_NS + 1), RL_TRY_LIMITED);
}

/* A rule that was bounded a moment ago: Redis has set that credit aside. */
static void test_eventual__credit_of_before_is_spent_while_its_lease_lives(void **state)
{
	(void)state;
	told(100, W, W);
	shared_give(&k, 2);
	assert_int_equal(try(2, START), RL_TRY_ALLOWED);
	assert_int_equal(shared_credit(&k), 0);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
}

static void test_eventual__random_states_look_as_they_are_tried(void **state)
{
	uint64_t seed = t_seed();
	uint64_t now = START;
	uint32_t allowed = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint32_t cost = 1 + (uint32_t)t_below(&seed, t_below(&seed, 2) ? 3 : 100);
		struct rl_shared_answer seen;
		struct rl_shared_ask ask;
		int looked;

		told((uint32_t)t_below(&seed, 130), t_below(&seed, W), t_below(&seed, W + W / 2));
		now += t_below(&seed, W / 8);
		k.t.seg.live->beat_ns = now;
		ask = ask_for(cost, now);
		looked = rl_shared_look(&k.t.seg.view, &ask, &seen);
		assert_int_equal(try(cost, now), looked);
		assert_int_equal(answer.by, seen.by);
		assert_int_equal(answer.window.wait_ns, seen.window.wait_ns);
		assert_true(looked == RL_TRY_ALLOWED || seen.window.wait_ns > 0);
		allowed += looked == RL_TRY_ALLOWED;
		if (i % 20 == 0) { /* a fresh window */
			teardown(NULL);
			setup(NULL);
			now = START;
		}
	}
	assert_in_range(allowed, 500, 19500);
}

static void test_eventual__time_of_the_youngest_is_never_too_early(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	assert_int_equal(rl_eventual_low(W, 0), 0xffff);
	assert_int_equal(rl_eventual_low(W, W), 0);
	assert_int_equal(rl_eventual_low(W, UINT64_MAX), 0);
	assert_int_equal(rl_eventual_low(RL_WINDOW_MIN_NS, 0), 0xffff);
	for (int i = 0; i < 100000; i++) {
		uint64_t window =
			RL_WINDOW_MIN_NS + t_below(&seed, RL_WINDOW_MAX_NS >> t_below(&seed, 30));
		uint64_t ends = t_below(&seed, window + 1);
		uint64_t back = window - (window >> 16) * rl_eventual_low(window, ends);

		assert_true(back >= ends);
		assert_true(back - ends <= window / 200 + 1);
	}
}

static void test_eventual__caller_that_may_wait_is_answered_at_once(void **state)
{
	struct rl_check_key key = {.bytes = (const uint8_t *)"new", .len = 3};
	uint32_t used, admitted = 0;
	struct rl_answer got;

	(void)state;
	shared_fresh(&k, 3, rl_clock_precise_ns());
	rl_check_hash(&k.t.seg.view, k.handle, "new", 3, &key);
	assert_int_equal(rl_check_look(&k.t.seg.view, k.handle, "new", 3, 1, &got, &used), 1);
	assert_int_equal(got.remaining, 100);
	while (rl_check_spend(&k.t.seg, &k.t.seg.member[0], k.handle, "new", 3, 1,
			      RL_CHECK_MAY_WAIT, &got) == 1)
		admitted++;
	assert_in_range(admitted, 96, 100); /* the own window may hold back a part of a group */
	assert_int_equal(got.by, RL_DECIDED_CREDIT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_eventual__fleets_total_and_what_was_admitted_since_fill_the_limit),
		TEST(test_eventual__new_key_has_the_limit_at_once_and_is_reported),
		TEST(test_eventual__own_window_holds_when_the_total_says_nothing),
		TEST(test_eventual__check_never_asks_waits_or_goes_into_debt),
		TEST(test_eventual__refusal_writes_only_when_something_may_have_left),
		TEST(test_eventual__total_holds_in_full_for_two_intervals),
		TEST(test_eventual__total_holds_in_full_until_its_oldest_unit_leaves),
		TEST(test_eventual__total_is_over_when_its_youngest_unit_has_left),
		TEST(test_eventual__total_without_times_is_over_after_a_window),
		TEST(test_eventual__answer_of_a_moment_ahead_counts_in_full),
		TEST(test_eventual__retry_is_when_that_much_has_left),
		TEST(test_eventual__lowered_limit_holds_at_the_next_check),
		TEST(test_eventual__without_redis_the_rule_says_what_passes),
		TEST(test_eventual__credit_of_before_is_spent_while_its_lease_lives),
		TEST(test_eventual__random_states_look_as_they_are_tried),
		TEST(test_eventual__time_of_the_youngest_is_never_too_early),
		TEST(test_eventual__caller_that_may_wait_is_answered_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
