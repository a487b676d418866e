/*
 * Goal:   one try under a shared rule spends credit only while its lease lives, asks for more at
 *         the right moment, and without credit does what the rule says and no more.
 * Method: virtual time and a slot set by hand at both sides of every border; the answer without
 *         writing is held against the try itself in random states. Limits of cost and flags
 *         through the public function.
 */
#include "tests/shared_key.h"

#include <errno.h>
#include <sys/resource.h>

#include "client/rl.h"
#include "shm/rl_check.h"

#define START (RL_CLOCK_BIAS_NS + 1000 * RL_SECOND_NS)
#define MS    UINT64_C(1000000)
#define T     (20 * MS) /* the interval of a window of a second */

static const struct rl_fleet_terms strict = {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 2 * MS};
static const struct rl_fleet_terms bounded = {RL_BOUNDED, RL_NO_CREDIT_ALLOW, RL_SHARE, 100000,
					      2 * MS};

static struct shared_key k;
static struct rl_shared_answer answer;

static int setup(void **state)
{
	(void)state;
	shared_key_make(&k, "100/s", strict, START);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	shared_key_drop(&k);
	return 0;
}

static int try(uint32_t cost, uint64_t now)
{
	struct rl_shared_ask ask = shared_ask(&k, cost, now);

	return rl_shared_try(&k.t.seg, &ask, &answer);
}

static int try_waiting(uint32_t cost, uint64_t now, bool asked)
{
	struct rl_shared_ask ask = shared_ask(&k, cost, now);

	ask.wait_ns = k.rule.wait_ns;
	ask.asked = asked;
	return rl_shared_try(&k.t.seg, &ask, &answer);
}

static uint32_t rings(void)
{
	return k.t.seg.fleet->bell;
}

static bool is_dirty(void)
{
	return (k.t.seg.dirty[0].word[k.index / 64] >> (k.index % 64) & 1) != 0;
}

static void test_shared__credit_moves_to_the_count_with_its_stamp(void **state)
{
	uint64_t n = shared_n(&k), q = rl_window_q(100), grant = RL_HEAD_GRANT;

	(void)state;
	shared_give(&k, 9);
	shared_slot(&k)->head |= grant;
	assert_int_equal(try(7, START), RL_TRY_ALLOWED);
	assert_int_equal(answer.by, RL_DECIDED_CREDIT);
	assert_int_equal(answer.state, RL_FRESH);
	assert_int_equal(answer.window.remaining, 2);
	assert_int_equal(shared_n(&k), n + 7);
	assert_int_equal(shared_credit(&k), 2);
	assert_true((shared_slot(&k)->head & RL_HEAD_GRANT) != 0);
	for (uint64_t g = n / q; g <= (n + 6) / q; g++)
		assert_int_equal(shared_slot(&k)->ring[g % RL_RING], START);
	assert_true(is_dirty());
	assert_int_equal(shared_side(&k)->refused, 0);
	assert_int_equal(try(3, START), RL_TRY_LIMITED); /* 2 are left */
	assert_int_equal(shared_credit(&k), 2);
	assert_int_equal(try(2, START), RL_TRY_ALLOWED);
}

static void test_shared__head_that_moved_spends_nothing(void **state)
{
	struct rl_shared_ask ask;
	uint64_t head;

	(void)state;
	shared_give(&k, 5);
	ask = shared_ask(&k, 2, START);
	shared_slot(&k)->head ^= RL_HEAD_GRANT; /* the agent, meanwhile */
	head = shared_slot(&k)->head;
	assert_int_equal(rl_shared_try(&k.t.seg, &ask, &answer), RL_TRY_AGAIN);
	assert_true(shared_slot(&k)->head == head);
	assert_false(is_dirty());
}

static void test_shared__credit_is_spent_only_before_its_lease_ends(void **state)
{
	_Atomic uint64_t *until = &shared_part(&k)->lease_until_ns;

	(void)state;
	shared_give(&k, 5);
	*until = START;
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	*until = START - 1;
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	assert_int_equal(shared_credit(&k), 5);
	*until = START + 1;
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(shared_credit(&k), 4);
}

/* Each partition has a lease of its own. */
static void test_shared__lease_and_silence_are_those_of_the_keys_partition(void **state)
{
	uint32_t own = rl_hint_part(shared_slot(&k)->hint);

	(void)state;
	shared_give(&k, 5);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (p != own) {
			k.t.seg.fleet->part[p].lease_until_ns = 0;
			k.t.seg.fleet->part[p].silent_ns = START - RL_SECOND_NS;
		}
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(answer.state, RL_FRESH);
	k.t.seg.fleet->part[own].silent_ns = START - RL_SECOND_NS;
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(answer.state, RL_STALE);
}

static void test_shared__told_to_come_back_later_it_refuses_until_then(void **state)
{
	uint64_t until_ms = START / MS + 7, until = until_ms * MS;

	(void)state;
	shared_rule(&k, "100/s", bounded); /* which would go into debt */
	shared_slot(&k)->hint = rl_hint(until_ms, 3, rl_hint_part(shared_slot(&k)->hint));
	assert_int_equal(try_waiting(1, START, false), RL_TRY_LIMITED);
	assert_int_equal(answer.by, RL_DECIDED_CREDIT);
	assert_int_equal(answer.window.wait_ns, until - START);
	assert_int_equal(shared_side(&k)->debt, 0);
	assert_int_equal(shared_side(&k)->refused, 1);
	assert_int_equal(shared_slot(&k)->asked, 0);
	assert_int_equal(rings(), 0);
	assert_int_equal(try(2, until - 1), RL_TRY_LIMITED);
	assert_int_equal(answer.window.wait_ns, 1);
	assert_int_equal(shared_side(&k)->refused, 3);
	shared_fresh(&k, 1, until);
	assert_int_equal(try(1, until), RL_TRY_ALLOWED); /* a debt */
	assert_int_equal(answer.by, RL_DECIDED_NO_CREDIT);
}

/* Credit is the host's whatever the hint says. */
static void test_shared__credit_is_spent_also_when_told_to_come_back_later(void **state)
{
	(void)state;
	shared_slot(&k)->hint = rl_hint(START / MS + 100, 9, rl_hint_part(shared_slot(&k)->hint));
	shared_give(&k, 1);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(rings(), 0); /* and asks for none */
}

static uint32_t debts_until_refused(void)
{
	uint32_t count = 0;

	while (try(1, START) == RL_TRY_ALLOWED) {
		assert_int_equal(answer.by, RL_DECIDED_NO_CREDIT);
		assert_true(++count < 1000);
	}
	assert_int_equal(answer.by, RL_DECIDED_NO_CREDIT);
	assert_int_equal(answer.window.wait_ns, T);
	return count;
}

static void test_shared__debt_is_the_blind_share_or_one(void **state)
{
	static const struct {
		uint64_t hosts;
		uint32_t debt;
	} a[] = {{1, 10}, {2, 5}, {3, 3}, {10, 1}, {11, 1}, {1000000, 1}, {0, 1}};

	(void)state;
	shared_rule(&k, "100/s", bounded); /* 10 % of 100 */
	for (size_t i = 0; i < sizeof(a) / sizeof(a[0]); i++) {
		uint64_t n = shared_n(&k);

		k.t.seg.fleet->hosts = a[i].hosts;
		shared_side(&k)->debt = 0; /* an answer has settled it */
		assert_int_equal(debts_until_refused(), a[i].debt);
		assert_int_equal(shared_side(&k)->debt, a[i].debt);
		assert_int_equal(shared_n(&k), n + a[i].debt);
		assert_int_equal(shared_credit(&k), 0);
	}
}

static void test_shared__debt_takes_whole_costs_only(void **state)
{
	(void)state;
	shared_rule(&k, "100/s", bounded);
	assert_int_equal(try(11, START), RL_TRY_LIMITED);
	assert_int_equal(shared_side(&k)->debt, 0);
	assert_int_equal(try(7, START), RL_TRY_ALLOWED);
	assert_int_equal(try(4, START), RL_TRY_LIMITED);
	assert_int_equal(try(3, START), RL_TRY_ALLOWED);
	assert_int_equal(shared_side(&k)->debt, 10);
}

static void test_shared__debt_of_a_try_that_failed_is_given_back(void **state)
{
	struct rl_shared_ask ask;

	(void)state;
	shared_rule(&k, "100/s", bounded);
	ask = shared_ask(&k, 4, START);
	shared_slot(&k)->head ^= RL_HEAD_GRANT;
	assert_int_equal(rl_shared_try(&k.t.seg, &ask, &answer), RL_TRY_AGAIN);
	assert_int_equal(shared_side(&k)->debt, 0);
}

/* What is admitted shows in the count; demand is that and what was refused. */
static void test_shared__demand_counts_each_unit_once(void **state)
{
	(void)state;
	shared_rule(&k, "100/s", bounded);
	assert_int_equal(debts_until_refused(), 10);
	assert_int_equal(shared_side(&k)->refused, 1);
	assert_int_equal(try(5, START), RL_TRY_LIMITED);
	assert_int_equal(shared_side(&k)->refused, 6);
	assert_int_equal(shared_slot(&k)->asked, 5); /* the largest: none of them is there still */
}

static void test_shared__deny_refuses_and_asks(void **state)
{
	uint64_t head = shared_slot(&k)->head;

	(void)state;
	assert_int_equal(try(3, START), RL_TRY_LIMITED);
	assert_int_equal(answer.by, RL_DECIDED_NO_CREDIT);
	assert_int_equal(answer.window.wait_ns, T);
	assert_true(shared_slot(&k)->head == head);
	assert_int_equal(shared_side(&k)->refused, 3);
	assert_int_equal(shared_slot(&k)->asked, 3);
	assert_int_equal(shared_side(&k)->debt, 0);
	assert_int_equal(rings(), 1);
	assert_true(is_dirty());
}

static void test_shared__rings_only_where_credit_crosses_the_low_water(void **state)
{
	(void)state;
	shared_slot(&k)->hint = rl_hint(0, 3, rl_hint_part(shared_slot(&k)->hint));
	shared_give(&k, 6);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(rings(), 0); /* 4 left */
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(rings(), 1); /* 3 */
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(try(1, START), RL_TRY_ALLOWED);
	assert_int_equal(rings(), 1); /* 0 */
	shared_give(&k, 20);
	assert_int_equal(try(20, START), RL_TRY_ALLOWED); /* over it in one step */
	assert_int_equal(rings(), 2);
}

static void test_shared__only_who_may_wait_is_told_to(void **state)
{
	(void)state;
	assert_int_equal(try_waiting(1, START, false), RL_TRY_SHORT);
	assert_true(answer.asked);
	assert_int_equal(try(1, START), RL_TRY_LIMITED);
	shared_rule(&k, "100/s", (struct rl_fleet_terms){RL_STRICT, 1, RL_CLOSED, 0, 0});
	assert_int_equal(try_waiting(1, START, false), RL_TRY_LIMITED); /* a wait of 0 */
}

static void test_shared__nobody_waits_after_two_intervals_without_an_answer(void **state)
{
	(void)state;
	k.t.seg.live->beat_ns = START - 2 * T;
	assert_int_equal(try_waiting(1, START, false), RL_TRY_SHORT);
	k.t.seg.live->beat_ns = START - 2 * T - 1;
	assert_int_equal(try_waiting(1, START, false), RL_TRY_LIMITED);
	assert_int_equal(answer.state, RL_FRESH);
	assert_int_equal(answer.by, RL_DECIDED_NO_CREDIT);
	k.t.seg.live->beat_ns = START;
	shared_part(&k)->silent_ns = START - 2 * T;
	assert_int_equal(try_waiting(1, START, false), RL_TRY_SHORT);
	shared_part(&k)->silent_ns = START - 2 * T - 1;
	assert_int_equal(try_waiting(1, START, false), RL_TRY_LIMITED);
	assert_int_equal(answer.state, RL_FRESH);
	k.t.seg.fleet->interval_ns = T + 1; /* as configured, for every window */
	assert_int_equal(try_waiting(1, START, false), RL_TRY_SHORT);
}

static void test_shared__interval_that_nobody_configures_is_not_gone_by(void **state)
{
	static const uint64_t most[] = {RL_INTERVAL_MIN_NS, RL_INTERVAL_MAX_NS};

	(void)state;
	for (int i = 0; i < 2; i++) {
		k.t.seg.fleet->interval_ns = most[i];
		assert_int_equal(rl_shared_interval_ns(&k.t.seg.view, 1000 * MS), most[i]);
		k.t.seg.fleet->interval_ns = i == 0 ? most[i] - 1 : most[i] + 1;
		assert_int_equal(rl_shared_interval_ns(&k.t.seg.view, 1000 * MS), T);
	}
	k.t.seg.fleet->interval_ns = UINT64_MAX;
	assert_int_equal(rl_shared_interval_ns(&k.t.seg.view, 1000 * MS), T);
}

static void test_shared__waiter_that_is_admitted_takes_its_demand_back(void **state)
{
	(void)state;
	assert_int_equal(try_waiting(3, START, false), RL_TRY_SHORT);
	assert_int_equal(shared_side(&k)->refused, 3);
	assert_int_equal(try_waiting(3, START, true), RL_TRY_SHORT);
	assert_false(answer.asked);
	assert_int_equal(shared_side(&k)->refused, 3);
	shared_give(&k, 3);
	assert_int_equal(try_waiting(3, START, true), RL_TRY_ALLOWED);
	assert_int_equal(shared_side(&k)->refused, 0);
}

static void test_shared__waiter_that_is_refused_leaves_its_demand_once(void **state)
{
	struct rl_shared_ask ask;

	(void)state;
	assert_int_equal(try_waiting(3, START, false), RL_TRY_SHORT);
	ask = shared_ask(&k, 3, START); /* its time is over */
	ask.asked = true;
	ask.ring = false;
	assert_int_equal(rl_shared_try(&k.t.seg, &ask, &answer), RL_TRY_LIMITED);
	assert_int_equal(shared_side(&k)->refused, 3);
	assert_int_equal(shared_slot(&k)->asked, 3);
	assert_int_equal(rings(), 1);
}

static void test_shared__waiter_admitted_by_policy_takes_its_demand_back(void **state)
{
	(void)state;
	shared_rule(&k, "100/s", (struct rl_fleet_terms){RL_BOUNDED, 1, RL_OPEN, 0, 2 * MS});
	assert_int_equal(try_waiting(2, START, false), RL_TRY_SHORT);
	shared_part(&k)->silent_ns = START - RL_SECOND_NS;
	assert_int_equal(try_waiting(2, START, true), RL_TRY_ALLOWED);
	assert_int_equal(answer.by, RL_DECIDED_POLICY);
	assert_int_equal(shared_side(&k)->refused, 0);
}

static void test_shared__states_begin_one_nanosecond_after_their_age(void **state)
{
	const struct rl_view *view = &k.t.seg.view;
	uint32_t part = rl_hint_part(shared_slot(&k)->hint);

	(void)state;
	k.t.seg.live->beat_ns = START - RL_ALONE_NS;
	assert_int_equal(rl_shared_state(view, part, START), RL_FRESH);
	k.t.seg.live->beat_ns = START - RL_ALONE_NS - 1;
	assert_int_equal(rl_shared_state(view, part, START), RL_ALONE);
	k.t.seg.live->beat_ns = START + 1; /* a coarse clock lies behind */
	assert_int_equal(rl_shared_state(view, part, START), RL_FRESH);
	k.t.seg.live->beat_ns = START;
	shared_part(&k)->silent_ns = START - RL_STALE_AFTER_NS;
	assert_int_equal(rl_shared_state(view, part, START), RL_FRESH);
	shared_part(&k)->silent_ns = START - RL_STALE_AFTER_NS - 1;
	assert_int_equal(rl_shared_state(view, part, START), RL_STALE);
	k.t.seg.live->beat_ns = START - RL_ALONE_NS - 1;
	assert_int_equal(rl_shared_state(view, part, START), RL_ALONE);
	k.t.seg.fleet->stale_after_ns = RL_SECOND_NS;
	k.t.seg.live->beat_ns = START;
	assert_int_equal(rl_shared_state(view, part, START), RL_FRESH);
	shared_part(&k)->silent_ns = START + 1;
	assert_int_equal(rl_shared_state(view, part, START), RL_FRESH);
}

/* Silence is counted up to the last heartbeat: an agent's restart is no outage of Redis. */
static void test_shared__killed_agent_makes_nothing_stale(void **state)
{
	uint32_t part = rl_hint_part(shared_slot(&k)->hint);

	(void)state;
	k.t.seg.live->beat_ns = START - RL_SECOND_NS / 2;
	shared_part(&k)->silent_ns = START - RL_SECOND_NS / 2 - RL_STALE_AFTER_NS;
	assert_int_equal(rl_shared_state(&k.t.seg.view, part, START), RL_FRESH);
	shared_part(&k)->silent_ns -= 1;
	assert_int_equal(rl_shared_state(&k.t.seg.view, part, START), RL_STALE);
}

/* Others' credit comes back soon: who may wait that long does, and asks then. */
static void test_shared__told_to_come_back_within_its_wait_it_waits(void **state)
{
	uint64_t until_ms = START / MS + 2, until = until_ms * MS;

	(void)state;
	shared_slot(&k)->hint = rl_hint(until_ms, 0, rl_hint_part(shared_slot(&k)->hint));
	assert_int_equal(try_waiting(1, until - 2 * MS - 1, false), RL_TRY_LIMITED);
	assert_int_equal(try_waiting(1, until - 2 * MS, false), RL_TRY_SHORT);
	assert_int_equal(answer.window.wait_ns, 2 * MS);
	assert_int_equal(shared_slot(&k)->asked, 0);
	assert_int_equal(rings(), 0);
	assert_int_equal(try_waiting(1, until, false), RL_TRY_SHORT);
	assert_int_equal(shared_slot(&k)->asked, 1);
	assert_int_equal(rings(), 1);
}

/* Who waits takes what it asked for, each of them. */
static void test_shared__waiters_ask_for_the_sum(void **state)
{
	(void)state;
	assert_int_equal(try_waiting(3, START, false), RL_TRY_SHORT);
	assert_int_equal(try_waiting(2, START, false), RL_TRY_SHORT);
	assert_int_equal(shared_slot(&k)->asked, 5);
	assert_int_equal(try(4, START), RL_TRY_LIMITED);
	assert_int_equal(shared_slot(&k)->asked, 5);
	assert_int_equal(try(6, START), RL_TRY_LIMITED);
	assert_int_equal(shared_slot(&k)->asked, 6);
}

/* n is what Redis is told: numbers that stand for nobody would be charged to the fleet. */
static void test_shared__counts_never_skip_a_number(void **state)
{
	static const uint8_t away[] = {RL_SHARE, RL_OWN, RL_OPEN};
	uint64_t n = shared_n(&k), now = START, seed = t_seed();

	(void)state;
	for (size_t i = 0; i < 300; i++) {
		uint32_t cost = 1 + (uint32_t)t_below(&seed, 2);

		shared_rule(&k, "100/s",
			    (struct rl_fleet_terms){RL_BOUNDED, 0, away[i % 3], 100000, 0});
		now += t_below(&seed, 3) == 0 ? 3 * RL_SECOND_NS : RL_SECOND_NS / 40;
		shared_fresh(&k, 1, now);
		shared_side(&k)->debt = 0;
		shared_give(&k, t_below(&seed, 3) == 0 ? 5 : 0);
		if (t_below(&seed, 3) > 0)
			shared_part(&k)->silent_ns = now - RL_SECOND_NS;
		if (try(cost, now) == RL_TRY_ALLOWED)
			n += cost;
		assert_int_equal(shared_n(&k), n);
	}
	assert_true(n > RL_N_FIRST + 200);
}

/* Words that a look must not change: the slot, its side and bits, and the bell. */
struct picture {
	struct rl_slot slot;
	struct rl_side side;
	uint64_t dirty, rings;
};

static void photograph(struct picture *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(&ret->slot, shared_slot(&k), sizeof(ret->slot));
	memcpy(&ret->side, shared_side(&k), sizeof(ret->side));
	ret->dirty = k.t.seg.dirty[0].word[k.index / 64];
	ret->rings = rings();
}

static void random_state(uint64_t *seed, uint64_t now)
{
	uint8_t consistency = 1 + (uint8_t)t_below(seed, 2);
	struct rl_fleet_terms fleet = {consistency, RL_NO_CREDIT_ALLOW, (uint8_t)t_below(seed, 4),
				       500000, 0};

	if (consistency == RL_STRICT)
		fleet.no_credit = RL_NO_CREDIT_DENY, fleet.beta_ppm = 0;
	shared_rule(&k, "100/s", fleet);
	shared_fresh(&k, 1 + t_below(seed, 30), now);
	shared_give(&k, (uint32_t)t_below(seed, 3));
	shared_side(&k)->debt = 0;
	shared_side(&k)->acked = rl_acked(shared_n(&k) - t_below(seed, 4), true, 2);
	shared_side(&k)->total = rl_total(now - t_below(seed, RL_SECOND_NS), t_below(seed, 110));
	shared_slot(&k)->hint = rl_hint(t_below(seed, 2) * (now / MS + t_below(seed, 4)), 0,
					rl_hint_part(shared_slot(&k)->hint));
	if (t_below(seed, 2) == 0)
		shared_part(&k)->silent_ns = now - RL_SECOND_NS;
	if (t_below(seed, 4) == 0)
		shared_part(&k)->lease_until_ns = now;
}

static void test_shared__look_answers_as_a_try_would_and_writes_nothing(void **state)
{
	uint64_t seed = t_seed(), now = START;
	uint32_t allowed = 0, limited = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint32_t cost = 1 + (uint32_t)t_below(&seed, 3);
		struct rl_shared_answer seen;
		struct rl_shared_ask ask;
		struct picture before, after;
		int got;

		now += t_below(&seed, 40 * MS);
		random_state(&seed, now);
		ask = shared_ask(&k, cost, now);
		photograph(&before);
		got = rl_shared_look(&k.t.seg.view, &ask, &seen);
		photograph(&after);
		assert_memory_equal(&before, &after, sizeof(before));
		if (rl_shared_try(&k.t.seg, &ask, &answer) == RL_TRY_ALLOWED) {
			assert_int_equal(got, RL_TRY_ALLOWED);
			allowed++;
		} else if (answer.by != RL_DECIDED_NO_CREDIT) { /* it would ask, and may get */
			assert_int_equal(got, RL_TRY_LIMITED);
			if (answer.by != RL_DECIDED_POLICY) /* which has several reasons */
				assert_int_equal(seen.window.wait_ns, answer.window.wait_ns);
			assert_true(seen.window.wait_ns > 0);
			limited++;
		}
		if (answer.by != RL_DECIDED_NO_CREDIT)
			assert_int_equal(seen.by, answer.by);
		assert_int_equal(seen.state, answer.state);
	}
	assert_true(allowed > 1000 && limited > 1000);
}

static void test_shared__share_of_a_host_is_a_fair_part_and_never_none_if_bounded(void **state)
{
	(void)state;
	assert_int_equal(rl_shared_share(100, &bounded, 3), 33);
	assert_int_equal(rl_shared_share(100, &bounded, 0), 100);
	assert_int_equal(rl_shared_share(3, &bounded, 3), 1);
	assert_int_equal(rl_shared_share(3, &bounded, 4), 1);
	assert_int_equal(rl_shared_share(3, &strict, 3), 1);
	assert_int_equal(rl_shared_share(3, &strict, 4), 0);
}

static void test_shared__cost_above_what_credit_can_hold_is_an_error(void **state)
{
	struct rl_client *client;
	struct rl_result result;

	(void)state;
	shared_rule(&k, "2000000/h", bounded);
	assert_int_equal(rl_attach(k.t.path, &client, NULL), 0);
	assert_true(rl_check(client, k.handle, "c", 1, RL_CREDIT_MAX, 0, &result) >= 0);
	assert_int_equal(rl_check(client, k.handle, "c", 1, RL_CREDIT_MAX + 1, 0, &result),
			 RL_ERR_COST);
	shared_rule(&k, "2000000/h", (struct rl_fleet_terms){0});
	assert_int_equal(rl_check(client, k.handle, "d", 1, RL_CREDIT_MAX + 1, 0, &result),
			 RL_ALLOWED);
	rl_detach(client);
}

static void test_shared__new_bounded_key_opens_with_its_blind_share(void **state)
{
	struct rl_answer got;

	(void)state;
	shared_rule(&k, "100/h", bounded);
	shared_fresh(&k, 2, rl_clock_precise_ns());
	for (uint32_t left = 4; left >= 1; left--) {
		/* The agent hears when a quarter of it is left. */
		assert_int_equal(k.t.seg.fleet->bell, 0);
		assert_int_equal(rl_check_spend(&k.t.seg, &k.t.seg.member[0], k.handle, "new", 3, 1,
						0, &got),
				 1);
		assert_int_equal(got.by, RL_DECIDED_CREDIT);
		assert_int_equal(got.remaining, left); /* of 5: 100 / 2 / 10 */
	}
	assert_int_equal(k.t.seg.fleet->bell, 1);
	k.index = shared_find(&k, "new", 3);
	assert_int_equal(rl_hint_low(shared_slot(&k)->hint), 1);
	assert_int_equal(shared_n(&k) - 4, rl_acked_n(shared_side(&k)->acked));
}

static void test_shared__unknown_flags_are_refused(void **state)
{
	struct rl_client *client;
	struct rl_result result;

	(void)state;
	assert_int_equal(rl_attach(k.t.path, &client, NULL), 0);
	for (uint32_t bit = 1; bit < 32; bit++) {
		assert_int_equal(rl_check(client, k.handle, "c", 1, 1, UINT32_C(1) << bit, &result),
				 -EINVAL);
		assert_int_equal(
			rl_check(client, k.handle, "c", 1, 1, UINT32_C(1) << bit | 1, &result),
			-EINVAL);
	}
	assert_int_equal(shared_find(&k, "c", 1), RL_NO_SLOT);
	rl_detach(client);
}

/* Every sleep is a voluntary switch, so a thousand of them would show. */
static void test_shared__nobody_sleeps_under_a_local_rule(void **state)
{
	struct rl_client *client;
	struct rusage before, after;

	(void)state;
	shared_rule(&k, "1/h", (struct rl_fleet_terms){0});
	assert_int_equal(rl_attach(k.t.path, &client, NULL), 0);
	shared_fresh(&k, 1, rl_clock_precise_ns() + RL_DAY_NS); /* an agent is always there */
	assert_int_equal(rl_check(client, k.handle, "c", 1, 1, RL_MAY_WAIT, NULL), RL_ALLOWED);
	getrusage(RUSAGE_SELF, &before);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(rl_check(client, k.handle, "c", 1, 1, RL_MAY_WAIT, NULL),
				 RL_LIMITED);
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_nvcsw - before.ru_nvcsw < 500);
	rl_detach(client);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shared__credit_moves_to_the_count_with_its_stamp),
		TEST(test_shared__head_that_moved_spends_nothing),
		TEST(test_shared__credit_is_spent_only_before_its_lease_ends),
		TEST(test_shared__lease_and_silence_are_those_of_the_keys_partition),
		TEST(test_shared__told_to_come_back_later_it_refuses_until_then),
		TEST(test_shared__credit_is_spent_also_when_told_to_come_back_later),
		TEST(test_shared__debt_is_the_blind_share_or_one),
		TEST(test_shared__debt_takes_whole_costs_only),
		TEST(test_shared__debt_of_a_try_that_failed_is_given_back),
		TEST(test_shared__demand_counts_each_unit_once),
		TEST(test_shared__deny_refuses_and_asks),
		TEST(test_shared__rings_only_where_credit_crosses_the_low_water),
		TEST(test_shared__only_who_may_wait_is_told_to),
		TEST(test_shared__nobody_waits_after_two_intervals_without_an_answer),
		TEST(test_shared__interval_that_nobody_configures_is_not_gone_by),
		TEST(test_shared__waiter_that_is_admitted_takes_its_demand_back),
		TEST(test_shared__waiter_that_is_refused_leaves_its_demand_once),
		TEST(test_shared__waiter_admitted_by_policy_takes_its_demand_back),
		TEST(test_shared__states_begin_one_nanosecond_after_their_age),
		TEST(test_shared__killed_agent_makes_nothing_stale),
		TEST(test_shared__told_to_come_back_within_its_wait_it_waits),
		TEST(test_shared__waiters_ask_for_the_sum),
		TEST(test_shared__counts_never_skip_a_number),
		TEST(test_shared__look_answers_as_a_try_would_and_writes_nothing),
		TEST(test_shared__share_of_a_host_is_a_fair_part_and_never_none_if_bounded),
		TEST(test_shared__cost_above_what_credit_can_hold_is_an_error),
		TEST(test_shared__new_bounded_key_opens_with_its_blind_share),
		TEST(test_shared__unknown_flags_are_refused),
		TEST(test_shared__nobody_sleeps_under_a_local_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
