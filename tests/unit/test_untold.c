/*
 * Goal:   units of a blind share that were kept back are told at once when the rule, or the size of
 *         the fleet, no longer covers them; and no answer of before brings credit that it may not.
 * Method: the agent's untold.c, part.c and due.c with the test in the place of Redis.
 */
#include "tests/sync_rig.h"

#include "agent/sync/forget.h"
#include "agent/sync/untold.h"

#define MS UINT64_C(1000000)

static const struct rl_fleet_terms bounded = {RL_BOUNDED, RL_NO_CREDIT_DENY, RL_SHARE, 100000, 0};

static struct shared_key k;
static struct sync_part *part;

/* 10 of 100 blind, of one host; 2 are admitted and nobody is to be told. */
static int setup(void **state)
{
	uint64_t now_ns = rl_clock_precise_ns();

	(void)state;
	memset(&rig, 0, sizeof(rig));
	shared_key_make(&k, "100/60s", bounded, now_ns);
	assert_true(rig_start(&k.t.seg));
	part = &rig.sync.part[rl_hint_part(shared_slot(&k)->hint)];
	part->in_flight = false;
	shared_fresh(&k, 1, now_ns);
	untold_tick(&rig.sync, now_ns);
	assert_int_equal(rl_window_add(shared_slot(&k), shared_slot(&k)->head,
				       rl_pair_low(shared_slot(&k)->shape), 2, 0,
				       rl_clock_now_ns(rl_clock_is_coarse(k.rule.window_ns))),
			 RL_TRY_ALLOWED);
	shared_give(&k, 8);
	part->sent_ns = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_kill();
	shared_key_drop(&k);
	return 0;
}

static struct rl_rule *rule(void)
{
	return &rig.sync.rule[0].rule;
}

static void become(uint32_t limit, struct rl_fleet_terms terms)
{
	rule()->limit = limit;
	rule()->fleet = rl_fleet_pack(&terms);
}

static bool is_told(void)
{
	uint32_t before = rig.calls;

	part->sent_ns = 0;
	untold_tell(&rig.sync, k.index);
	untold_send(&rig.sync);
	return rig.calls > before && rig.items == 1 && rig.item[0].used == 2;
}

static void test_untold__nothing_is_told_that_the_rule_covers(void **state)
{
	(void)state;
	assert_false(is_told());
	assert_null(sync_active_find(&rig.sync.active, k.index));
}

static void test_untold__strict_rule_is_told_all(void **state)
{
	(void)state;
	become(100, (struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY, RL_SHARE, 0, 0});
	assert_true(is_told());
}

static void test_untold__limit_counts_at_the_fifth_of_the_share(void **state)
{
	(void)state;
	become(101, bounded);
	assert_false(is_told());
	become(99, bounded); /* a fifth of 9 */
	assert_true(is_told());
}

static void test_untold__what_has_left_the_window_is_not_told(void **state)
{
	(void)state;
	become(99, bounded);
	for (unsigned i = 0; i < RL_RING; i++)
		shared_slot(&k)->ring[i] -= 61 * RL_SECOND_NS;
	assert_false(is_told());
}

static void test_untold__local_rule_tells_nobody(void **state)
{
	(void)state;
	become(99, (struct rl_fleet_terms){0});
	assert_false(is_told());
}

static void test_untold__more_hosts_are_told_at_their_first_tick(void **state)
{
	uint64_t now_ns = rl_clock_precise_ns();

	(void)state;
	untold_tick(&rig.sync, now_ns);
	assert_int_equal(rig.calls, 0);
	k.t.seg.fleet->hosts = 2; /* 5 each, a fifth of it 1 */
	untold_tick(&rig.sync, now_ns + 1);
	assert_int_equal(rig.calls, 1);
	assert_int_equal(rig.item[0].used, 2);
	assert_int_equal(rig.item[0].credit, 5); /* of those 8 */
}

static void test_untold__fewer_hosts_count_when_they_are_fewer_for_long(void **state)
{
	uint64_t now_ns = rl_clock_precise_ns();

	(void)state;
	k.t.seg.fleet->hosts = 2;
	untold_tick(&rig.sync, now_ns);
	k.t.seg.fleet->hosts = 1;
	untold_tick(&rig.sync, now_ns + 10 * RL_SECOND_NS - 1);
	assert_int_equal(untold_hosts(&rig.sync), 2);
	assert_false(due_is_quiet(&rig.sync, rule(), k.index));
	untold_tick(&rig.sync, now_ns + 10 * RL_SECOND_NS);
	assert_int_equal(untold_hosts(&rig.sync), 1);
	assert_true(due_is_quiet(&rig.sync, rule(), k.index));
}

static void test_untold__credit_with_a_lease_is_left_when_hosts_join(void **state)
{
	struct sync_entry *entry = sync_active_add(&rig.sync.active, part->number, k.index);

	(void)state;
	entry->recorded = entry->close = entry->in_flight = true;
	k.t.seg.fleet->hosts = 2;
	untold_tick(&rig.sync, rl_clock_precise_ns());
	assert_int_equal(shared_credit(&k), 8);
}

static void test_untold__new_agent_looks_at_all_slots_once(void **state)
{
	(void)state;
	rig_kill();
	assert_true(rig_start(&k.t.seg));
	for (uint32_t p = 0; p < RL_PARTS; p++)
		rig.sync.part[p].in_flight = false;
	become(99, bounded);
	rig.sync.shared_by.seen_ns = 0;
	untold_tick(&rig.sync, rl_clock_precise_ns());
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].used, 2);
}

static void test_untold__key_in_a_call_is_in_the_next_one_at_once(void **state)
{
	struct sync_answer answer = {.tag = k.index, .flags = SYNC_BLIND};
	char bytes[SYNC_ANSWER_SIZE];

	(void)state;
	become(99, bounded);
	assert_true(is_told());
	become(100, (struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY, RL_SHARE, 0, 0});
	assert_int_equal(rl_window_add(shared_slot(&k), shared_slot(&k)->head,
				       rl_pair_low(shared_slot(&k)->shape), 1, 1,
				       rl_clock_now_ns(rl_clock_is_coarse(k.rule.window_ns))),
			 RL_TRY_ALLOWED);
	untold_tell(&rig.sync, k.index);
	untold_send(&rig.sync);
	assert_int_equal(rig.calls, 1);
	part->sent_ns = 0;
	rig_write_answer(&answer, bytes);
	rig_deliver(SYNC_APPLIED, 1, bytes, sizeof(bytes));
	assert_int_equal(rig.calls, 2);
	assert_int_equal(rig.item[0].used, 1);
}

/* What is lent by an answer of 2 units' credit when the rule has become this one meanwhile. */
static uint32_t credit_by_an_answer(uint32_t grant, uint32_t flags, uint32_t limit,
				    struct rl_fleet_terms terms)
{
	struct sync_answer answer = {.tag = k.index, .grant = grant, .flags = flags};
	char bytes[SYNC_ANSWER_SIZE];

	become(99, bounded);
	shared_give(&k, 2);
	assert_true(is_told());
	become(limit, terms);
	rig_write_answer(&answer, bytes);
	rig_deliver(SYNC_APPLIED, 1, bytes, sizeof(bytes));
	return shared_credit(&k) - 2;
}

static void test_untold__blind_share_of_before_is_cut_to_that_of_now(void **state)
{
	static const struct rl_fleet_terms less = {RL_BOUNDED, RL_NO_CREDIT_DENY, RL_SHARE, 50000,
						   0};

	(void)state;
	assert_int_equal(credit_by_an_answer(7, SYNC_BLIND, 100, less), 3); /* 5 of 100 */
}

static void test_untold__blind_share_of_before_is_nothing_to_a_strict_rule(void **state)
{
	(void)state;
	assert_int_equal(credit_by_an_answer(7, SYNC_BLIND, 100,
					     (struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY,
								     RL_SHARE, 0, 0}),
			 0);
}

static void test_untold__lease_of_a_larger_limit_is_not_taken(void **state)
{
	(void)state;
	assert_int_equal(credit_by_an_answer(7, 0, 98, bounded), 0);
}

static void test_untold__lease_of_the_limit_is_taken(void **state)
{
	(void)state;
	assert_int_equal(credit_by_an_answer(7, 0, 99, bounded), 7);
}

static void test_untold__key_with_another_limit_is_told(void **state)
{
	(void)state;
	become(99, bounded);
	sync_limit_changed(&rig.sync, k.index);
	assert_int_equal(rig.calls, 1);
	assert_int_equal(rig.item[0].used, 2);
	assert_int_equal(rig.item[0].credit, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_untold__nothing_is_told_that_the_rule_covers),
		TEST(test_untold__strict_rule_is_told_all),
		TEST(test_untold__limit_counts_at_the_fifth_of_the_share),
		TEST(test_untold__what_has_left_the_window_is_not_told),
		TEST(test_untold__local_rule_tells_nobody),
		TEST(test_untold__more_hosts_are_told_at_their_first_tick),
		TEST(test_untold__fewer_hosts_count_when_they_are_fewer_for_long),
		TEST(test_untold__credit_with_a_lease_is_left_when_hosts_join),
		TEST(test_untold__new_agent_looks_at_all_slots_once),
		TEST(test_untold__key_in_a_call_is_in_the_next_one_at_once),
		TEST(test_untold__blind_share_of_before_is_cut_to_that_of_now),
		TEST(test_untold__blind_share_of_before_is_nothing_to_a_strict_rule),
		TEST(test_untold__lease_of_a_larger_limit_is_not_taken),
		TEST(test_untold__lease_of_the_limit_is_taken),
		TEST(test_untold__key_with_another_limit_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
