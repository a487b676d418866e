/*
 * Goal:   a reset gives a key its whole limit again and no more, a block refuses it for its time
 *         and no longer, by every algorithm, and the agent's re-base and sweep forget neither.
 * Method: the public functions on a segment made by the test, with the real clock; the agent's
 *         steps are made by the test.
 */
#include "tests/t.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/sweep.h"
#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_mark.h"
#include "shm/rl_rebase.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define HOUR_NS (3600 * RL_SECOND_NS)

static struct t_seg t;
static struct rl_client *client;

static void publish(uint32_t algorithm, uint32_t limit, uint64_t window_ns)
{
	const struct rl_rule_spec spec[] = {
		{.name = "r",
		 .terms = {limit, window_ns},
		 .algorithm = (uint8_t)algorithm,
		 .burst = (rl_algorithm_options(algorithm) & RL_OPTION_BURST) != 0 ? limit : 0},
		{.name = "shared",
		 .terms = {5, HOUR_NS},
		 .fleet = {.consistency = RL_STRICT,
			   .no_credit = RL_NO_CREDIT_DENY,
			   .on_unreachable = RL_OPEN}},
	};
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, spec, 2, &other), 0);
}

static int setup(void **state)
{

	(void)state;
	t_seg_make(&t, 4000);
	publish(RL_SLIDING, 100, HOUR_NS);
	client = t_attach(&t);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

static uint64_t rule_of(const char *name)
{
	return t_client_rule(client, name);
}

static int check(const char *key, uint32_t cost, struct rl_result *result)
{
	return rl_check(client, rule_of("r"), key, strlen(key), cost, 0, result);
}

static int reset(const char *key)
{
	return rl_reset(client, rule_of("r"), key, strlen(key));
}

static int block(const char *key, uint64_t for_ns)
{
	return rl_block(client, rule_of("r"), key, strlen(key), for_ns);
}

/* How many checks of one unit pass before the first that does not. */
static uint32_t admitted(const char *key, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && check(key, 1, NULL) == RL_ALLOWED)
		n++;
	return n;
}

static void sweep_all(void)
{
	static struct sweep sweep;

	sweep_init(&sweep, &t.seg);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_clock_precise_ns());
}

static void test_reset__gives_the_whole_limit_and_no_more(void **state)
{
	static const uint32_t limit[] = {1, 2, 22, 23, 24, 46, 100, 1000};

	(void)state;
	for (uint32_t algorithm = 0; algorithm < rl_algorithm_count(); algorithm++)
		for (size_t i = 0; i < sizeof(limit) / sizeof(limit[0]); i++) {
			char key[32];
			struct rl_result result;
			uint32_t most;

			publish(algorithm, limit[i], HOUR_NS);
			snprintf(key, sizeof(key), "%u-%u", algorithm, limit[i]);
			assert_int_equal(admitted(key, limit[i]), limit[i]);
			while (check(key, 1, &result) == RL_ALLOWED)
				; /* a leaky bucket has room for one more */
			assert_int_equal(reset(key), 0);
			assert_int_equal(
				rl_peek(client, rule_of("r"), key, strlen(key), 1, &result),
				RL_ALLOWED);
			most = rl_algorithm_most(algorithm, limit[i], limit[i]);
			assert_int_equal(result.remaining, most);
			assert_int_equal(check(key, 1, &result), RL_ALLOWED);
			assert_int_equal(result.remaining, most - 1);
			assert_int_equal(admitted(key, 2 * limit[i]), most - 1);
			assert_int_equal(check(key, 1, &result), RL_LIMITED);
			assert_true(result.retry_after_ns > 0);
		}
}

static void test_reset__of_a_key_half_used_with_costs_is_exact_too(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(check("k", 50, NULL), RL_ALLOWED);
	assert_int_equal(reset("k"), 0);
	assert_int_equal(check("k", 33, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 67);
	assert_int_equal(reset("k"), 0); /* again, while the first is in force */
	assert_int_equal(check("k", 100, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 0);
	assert_int_equal(check("k", 1, &result), RL_LIMITED);
	assert_int_equal(reset("k"), 0);
	assert_int_equal(check("k", 101, &result), RL_ERR_COST);
	assert_int_equal(admitted("k", 200), 100);
}

static void test_reset__of_what_is_not_known_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(reset("never seen"), 0);
	assert_int_equal(rl_table_used(&t.seg.view), 0);
	assert_int_equal(rl_reset(client, rule_of("shared"), "k", 1), RL_ERR_SHARED);
	assert_int_equal(rl_reset(client, rule_of("r") ^ UINT64_C(1) << 40, "k", 1), RL_ERR_RULE);
	assert_int_equal(rl_reset(client, rule_of("r"), "k", 0), -EINVAL);
	assert_int_equal(rl_reset(client, rule_of("r"), NULL, 1), -EINVAL);
	assert_int_equal(rl_reset(NULL, rule_of("r"), "k", 1), -EINVAL);
}

/* What was spent before a reset is not given back into the time after it. */
static void test_reset__takes_older_refunds_with_it(void **state)
{
	struct rl_result before, after;

	(void)state;
	for (int i = 0; i < 12; i++) /* in the middle of a group of five */
		assert_int_equal(check("k", 1, &before), RL_ALLOWED);
	assert_int_equal(reset("k"), 0);
	assert_int_equal(rl_refund(client, rule_of("r"), &before), RL_KEPT);
	assert_int_equal(check("k", 1, &after), RL_ALLOWED);
	assert_int_equal(rl_refund(client, rule_of("r"), &after), RL_REFUNDED);
	assert_int_equal(admitted("k", 200), 100);
}

static void test_reset__outlives_a_changed_limit(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(admitted("k", 100), 100);
	assert_int_equal(reset("k"), 0);
	assert_int_equal(admitted("k", 30), 30);
	publish(RL_SLIDING, 1000, HOUR_NS);
	sweep_all();
	assert_int_equal(rl_peek(client, rule_of("r"), "k", 1, 1, &result), RL_ALLOWED);
	assert_in_range(result.remaining, 1000 - 44, 1000 - 30); /* a group is held whole */
	publish(RL_SLIDING, 100, HOUR_NS);
	sweep_all();
	assert_in_range(admitted("k", 200), 100 - 45, 70);
	assert_int_equal(reset("k"), 0);
	assert_int_equal(admitted("k", 40), 40);
	publish(2, 100, HOUR_NS); /* a token bucket */
	sweep_all();
	assert_in_range(admitted("k", 200), 60 - 5, 60);
}

static void test_block__refuses_until_its_time_and_no_longer(void **state)
{
	(void)state;
	for (uint32_t algorithm = 0; algorithm < rl_algorithm_count(); algorithm++) {
		char key[16];
		struct rl_result result;
		uint64_t slot = RL_NO_SLOT;

		publish(algorithm, 100, HOUR_NS);
		snprintf(key, sizeof(key), "b%u", algorithm);
		assert_int_equal(check(key, 10, NULL), RL_ALLOWED);
		assert_int_equal(block(key, 90 * RL_SECOND_NS), 0);
		assert_int_equal(check(key, 1, &result), RL_LIMITED);
		assert_int_equal(result.decided_by, RL_BY_BLOCK);
		assert_in_range(result.retry_after_ns, 89 * RL_SECOND_NS, 91 * RL_SECOND_NS);
		assert_int_equal(rl_peek(client, rule_of("r"), key, strlen(key), 1, &result),
				 RL_LIMITED);
		assert_int_equal(result.decided_by, RL_BY_BLOCK);
		assert_int_equal(reset(key), 0); /* a block stays */
		assert_int_equal(check(key, 1, &result), RL_LIMITED);
		for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
			if (t.seg.side[i].total != 0)
				slot = i;
		assert_true(slot != RL_NO_SLOT);
		/* Its last second, and the one after. */
		t.seg.side[slot].total = rl_block_word(t.seg.slot[slot].id[0],
						       rl_clock_precise_ns() + RL_SECOND_NS / 10);
		assert_int_equal(check(key, 1, NULL), RL_LIMITED);
		t.seg.side[slot].total =
			rl_block_word(t.seg.slot[slot].id[0],
				      rl_clock_precise_ns() / RL_SECOND_NS * RL_SECOND_NS);
		assert_int_equal(check(key, 1, &result), RL_ALLOWED);
		assert_in_range(result.remaining, 99, 100);
		assert_int_equal(block(key, RL_SECOND_NS), 0); /* and anew */
		assert_int_equal(check(key, 1, NULL), RL_LIMITED);
		assert_int_equal(block(key, 0), 0);
		assert_int_equal(check(key, 1, &result), RL_ALLOWED);
		assert_int_equal(result.decided_by, RL_BY_WINDOW);
		t.seg.side[slot].total = 0;
	}
}

static void test_block__of_a_new_key_makes_its_slot_and_unblock_does_not(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(block("stranger", 0), 0);
	assert_int_equal(rl_table_used(&t.seg.view), 0);
	assert_int_equal(block("new", UINT64_MAX), 0);
	assert_int_equal(rl_table_used(&t.seg.view), 1);
	assert_int_equal(check("new", 1, &result), RL_LIMITED);
	assert_in_range(result.retry_after_ns / RL_DAY_NS, 36524, 36526);
	assert_int_equal(check("other", 1, &result), RL_ALLOWED);
	assert_int_equal(rl_block(client, rule_of("shared"), "k", 1, 1), RL_ERR_SHARED);
	assert_int_equal(rl_block(client, rule_of("r"), "k", 0, 1), -EINVAL);
	assert_int_equal(rl_block(NULL, rule_of("r"), "k", 1, 1), -EINVAL);
}

/* An idle slot is given back, one that holds a block is not, and a re-base keeps it. */
static void test_block__outlives_the_agents_passes(void **state)
{
	struct rl_result result;

	(void)state;
	for (uint32_t from = 0; from < rl_algorithm_count(); from++)
		for (uint32_t to = 0; to < rl_algorithm_count(); to++) {
			publish(from, 10, RL_WINDOW_MIN_NS);
			assert_int_equal(block("k", 600 * RL_SECOND_NS), 0);
			for (uint64_t end = t_now_ns() + 60000000; t_now_ns() < end;)
				; /* the window has passed */
			sweep_all();
			assert_int_equal(check("k", 1, &result), RL_LIMITED);
			publish(to, 50, 2 * RL_WINDOW_MIN_NS);
			sweep_all();
			assert_int_equal(check("k", 1, &result), RL_LIMITED);
			assert_int_equal(result.decided_by, RL_BY_BLOCK);
			assert_int_equal(block("k", 0), 0);
			assert_int_equal(check("k", 1, &result), RL_ALLOWED);
			for (uint64_t end = t_now_ns() + 60000000; t_now_ns() < end;)
				;
			sweep_all();
			assert_int_equal(rl_table_used(&t.seg.view), 0);
		}
}

/* Words of a slot that was shared are no marks, and marks are no words of a shared one. */
static void test_block__is_over_when_hosts_come_to_share_the_rule(void **state)
{
	const struct rl_rule_spec shared = {.name = "r",
					    .terms = {100, HOUR_NS},
					    .fleet = {.consistency = RL_STRICT,
						      .no_credit = RL_NO_CREDIT_DENY,
						      .on_unreachable = RL_OPEN}};
	struct rl_result result;
	uint64_t slot = 0;
	size_t other;

	(void)state;
	assert_int_equal(check("k", 100, NULL), RL_ALLOWED);
	assert_int_equal(block("k", 600 * RL_SECOND_NS), 0);
	while (t.seg.side[slot].total == 0)
		slot++;
	assert_int_equal(rl_rules_publish(&t.seg, &shared, 1, &other), 0);
	sweep_all();
	assert_int_equal(t.seg.side[slot].total, 0);
	assert_int_equal(t.seg.slot[slot].state, 0);
	t.seg.side[slot].total = rl_clock_precise_ns();
	t.seg.slot[slot].state = rl_clock_precise_ns();
	publish(RL_SLIDING, 100, HOUR_NS);
	assert_int_equal(check("k", 1, &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_WINDOW);
	assert_int_equal(t.seg.slot[slot].state, 0);
}

/* Who was stopped before its last step and wakes when the slot is another key's. */
static void test_block__of_another_key_blocks_nobody(void **state)
{
	uint64_t slot = 0;

	(void)state;
	assert_int_equal(block("k", 600 * RL_SECOND_NS), 0);
	while (t.seg.side[slot].total == 0)
		slot++;
	t.seg.slot[slot].id[0] ^= UINT64_C(1) << 33;
	assert_false(rl_block_holds(&t.seg.slot[slot], &t.seg.side[slot], rl_clock_precise_ns()));
	t.seg.slot[slot].id[0] ^= UINT64_C(1) << 33;
	assert_true(rl_block_holds(&t.seg.slot[slot], &t.seg.side[slot], rl_clock_precise_ns()));
}

static uint64_t open_slot(void)
{
	uint64_t slot = 0;

	while (!rl_head_is_open(t.seg.slot[slot].head))
		slot++;
	return slot;
}

static void block_it(void *slot)
{
	uint64_t index = *(uint64_t *)slot;

	t.seg.side[index].total =
		rl_block_word(t.seg.slot[index].id[0], rl_clock_precise_ns() + 60 * RL_SECOND_NS);
}

static void forget_it(void *slot)
{
	uint64_t index = *(uint64_t *)slot;

	t.seg.slot[index].state = RL_MARK_FLOOR | rl_head_n(t.seg.slot[index].head);
}

/* The agent looks at the slot and closes it; in between somebody else marks it. */
static void test_block__that_comes_while_the_slot_is_freed_is_seen(void **state)
{
	uint64_t slot, head;

	(void)state;
	if (t_under_tsan())
		return;
	publish(RL_SLIDING, 100, RL_WINDOW_MIN_NS);
	assert_int_equal(check("k", 1, NULL), RL_ALLOWED);
	slot = open_slot();
	head = t.seg.slot[slot].head;
	t_upon_access(&t.seg.slot[slot], PROT_READ, block_it, &slot);
	assert_false(rl_table_free(&t.seg, slot, head));
	assert_int_equal(t.seg.slot[slot].head, head);
	t.seg.side[slot].total = 0;
	assert_true(rl_table_free(&t.seg, slot, head));
}

static bool block_it_all(void *slot, uint64_t index)
{
	if (index == *(uint64_t *)slot)
		assert_int_equal(block("k", 60 * RL_SECOND_NS), 0);
	return true;
}

/* The whole call, between the agent's look at the slot and its end: the head does not change. */
static void test_block__of_a_slot_seen_to_be_idle_is_seen_before_it_is_freed(void **state)
{
	static const uint32_t algorithm[] = {RL_SLIDING, 1, 2};
	static struct sweep sweep;
	struct rl_result result;
	uint64_t slot;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		publish(algorithm[i], 100, RL_WINDOW_MIN_NS);
		assert_int_equal(block("k", 0), 0);
		assert_int_equal(check("k", 1, NULL), RL_ALLOWED);
		slot = open_slot();
		sweep_init(&sweep, &t.seg);
		sweep.may_free = block_it_all;
		sweep.may_free_arg = &slot;
		sweep_slot(&sweep, slot, rl_clock_precise_ns() + HOUR_NS / 2);
		assert_int_equal(check("k", 1, &result), RL_LIMITED);
		assert_int_equal(result.decided_by, RL_BY_BLOCK);
		assert_int_equal(block("k", 0), 0);
		assert_int_equal(check("k", 1, NULL), RL_ALLOWED);
		sweep.may_free = NULL;
		sweep_slot(&sweep, slot, rl_clock_precise_ns() + HOUR_NS / 2);
		assert_false(rl_head_is_open(t.seg.slot[slot].head));
	}
}

static void test_reset__that_comes_while_the_slot_is_rebased_is_seen(void **state)
{
	struct rl_rule rule;
	uint64_t slot;

	(void)state;
	if (t_under_tsan())
		return;
	assert_int_equal(admitted("k", 100), 100);
	slot = open_slot();
	publish(RL_SLIDING, 1000, HOUR_NS);
	assert_int_equal(rl_rules_read(&t.seg.view, rule_of("r"), &rule), 0);
	t_upon_access(&t.seg.slot[slot], PROT_READ, forget_it, &slot);
	assert_false(rl_rebase_slot(&t.seg, slot, t.seg.slot[slot].head, &rule, rule.q));
	assert_int_equal(t.seg.live->journal.valid, 0);
	assert_true(rl_rebase_slot(&t.seg, slot, t.seg.slot[slot].head, &rule, rule.q));
	assert_int_equal(admitted("k", 2000), 1000);
}

/*
 * A check reads a head and is stopped; the agent makes the slot another algorithm's. What then is
 * in state is the count of the key, and no mark that says nothing.
 */
static void test_mark__the_count_of_another_algorithm_is_left_alone(void **state)
{
	uint64_t slot, head, word;

	(void)state;
	assert_int_equal(admitted("k", 60), 60);
	slot = open_slot();
	head = t.seg.slot[slot].head;
	publish(2, 100, HOUR_NS);
	sweep_all();
	assert_int_equal(rl_shape_algorithm(t.seg.slot[slot].shape), 2);
	word = t.seg.slot[slot].state;
	rl_mark_tidy(&t.seg.slot[slot], head, 100);
	assert_int_equal(t.seg.slot[slot].state, word);
	assert_true(rl_mark_block(&t.seg.slot[slot])); /* needs none there */
	assert_int_equal(t.seg.slot[slot].state, word);
	assert_in_range(admitted("k", 200), 38, 41);
	t.seg.slot[slot].shape = rl_shape(1, RL_SLIDING, 5); /* as it would be under that head */
	rl_mark_tidy(&t.seg.slot[slot], t.seg.slot[slot].head, 100);
	assert_int_equal(t.seg.slot[slot].state & ~RL_MARK_BLOCK, 0);
}

static void test_mark__of_a_word_left_of_sharing_is_a_block_and_nothing_else(void **state)
{
	struct rl_result result;
	uint64_t slot;

	(void)state;
	assert_int_equal(check("k", 1, NULL), RL_ALLOWED);
	slot = open_slot();
	t.seg.slot[slot].state = 12345;
	assert_int_equal(block("k", 60 * RL_SECOND_NS), 0);
	assert_int_equal(t.seg.slot[slot].state, RL_MARK_BLOCK);
	assert_int_equal(check("k", 1, &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_BLOCK);
}

/* A floor above the count is of another life of the slot, or damage. */
static void test_reset__floor_above_the_count_is_none(void **state)
{
	uint64_t slot;

	(void)state;
	assert_int_equal(admitted("k", 100), 100);
	slot = open_slot();
	t.seg.slot[slot].state = RL_MARK_FLOOR | (rl_head_n(t.seg.slot[slot].head) + 1);
	assert_int_equal(check("k", 1, NULL), RL_LIMITED);
	t.seg.slot[slot].state = RL_MARK_FLOOR | (rl_head_n(t.seg.slot[slot].head) - 100);
	assert_int_equal(check("k", 1, NULL), RL_LIMITED);
	t.seg.slot[slot].state = RL_MARK_FLOOR | (rl_head_n(t.seg.slot[slot].head) - 99);
	assert_int_equal(admitted("k", 10), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reset__gives_the_whole_limit_and_no_more),
		TEST(test_reset__of_a_key_half_used_with_costs_is_exact_too),
		TEST(test_reset__of_what_is_not_known_changes_nothing),
		TEST(test_reset__takes_older_refunds_with_it),
		TEST(test_reset__outlives_a_changed_limit),
		TEST(test_block__refuses_until_its_time_and_no_longer),
		TEST(test_block__of_a_new_key_makes_its_slot_and_unblock_does_not),
		TEST(test_block__outlives_the_agents_passes),
		TEST(test_block__is_over_when_hosts_come_to_share_the_rule),
		TEST(test_block__of_another_key_blocks_nobody),
		TEST(test_block__that_comes_while_the_slot_is_freed_is_seen),
		TEST(test_block__of_a_slot_seen_to_be_idle_is_seen_before_it_is_freed),
		TEST(test_reset__that_comes_while_the_slot_is_rebased_is_seen),
		TEST(test_mark__the_count_of_another_algorithm_is_left_alone),
		TEST(test_mark__of_a_word_left_of_sharing_is_a_block_and_nothing_else),
		TEST(test_reset__floor_above_the_count_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
