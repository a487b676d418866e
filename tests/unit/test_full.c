/*
 * Goal:   when the table is full, keys that have a slot are answered as ever; a new key by its
 *         rule's on_full; and a pool gives nobody more than a slot of its own would.
 * Method: the public functions on a small segment that the test fills; the agent's steps are made
 * by the test.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/sweep.h"
#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_hash.h"
#include "shm/rl_holder.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define HOUR_NS (3600 * RL_SECOND_NS)

static struct t_seg t;
static struct rl_client *client;

static void publish(uint32_t algorithm, uint32_t limit, enum rl_on_full on_full, uint64_t window_ns)
{
	const struct rl_rule_spec spec[] = {
		{.name = "r",
		 .terms = {limit, window_ns},
		 .algorithm = (uint8_t)algorithm,
		 .burst = (rl_algorithm_options(algorithm) & RL_OPTION_BURST) != 0 ? limit : 0,
		 .on_full = (uint8_t)on_full},
		{.name = "filler", .terms = {limit, HOUR_NS}, .on_full = RL_FULL_DENY},
	};
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, spec, 2, &other), 0);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 100);
	publish(RL_SLIDING, 5, RL_FULL_POOL, HOUR_NS);
	assert_int_equal(rl_pool_ensure(&t.seg), 0);
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

static int check(const char *name, const char *key, struct rl_result *result)
{
	uint64_t rule;

	assert_int_equal(rl_rule(client, name, &rule), 0);
	return rl_check(client, rule, key, strlen(key), 1, 0, result);
}

/* Fill every slot that can be, with keys of another rule. */
static void fill(void)
{
	for (int i = 0; rl_table_used(&t.seg.view) < t.seg.view.slot_count; i++) {
		char key[16];

		snprintf(key, sizeof(key), "fill%d", i);
		check("filler", key, NULL);
		assert_true(i < 1000000);
	}
}

static void empty(void)
{
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		if (rl_head_is_open(t.seg.slot[i].head) && !rl_pool_is(&t.seg.view, i))
			rl_table_wipe(&t.seg, i, t.seg.slot[i].head);
}

static uint32_t of_new_keys(uint32_t keys, uint32_t each, uint32_t *ret_by)
{
	struct rl_result result = {0};
	uint32_t n = 0;

	for (uint32_t k = 0; k < keys; k++) {
		char key[16];

		snprintf(key, sizeof(key), "new%u", k);
		for (uint32_t i = 0; i < each; i++)
			n += check("r", key, &result) == RL_ALLOWED;
	}
	*ret_by = result.decided_by;
	return n;
}

static void test_full__keys_with_a_slot_are_answered_as_ever(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(check("r", "old", &result), RL_ALLOWED);
	fill();
	for (uint32_t i = 1; i < 5; i++) {
		assert_int_equal(check("r", "old", &result), RL_ALLOWED);
		assert_int_equal(result.decided_by, RL_BY_WINDOW);
		assert_int_equal(result.remaining, 4 - i);
	}
	assert_int_equal(check("r", "old", &result), RL_LIMITED);
}

static void test_full__new_keys_share_their_pools(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	fill();
	assert_int_equal(of_new_keys(1000, 3, &by), RL_POOL_KEYS * 5);
	assert_int_equal(by, RL_BY_POOL);
	assert_int_equal(check("r", "new1", &result), RL_LIMITED);
	assert_int_equal(result.limit, 5);
	assert_true(result.retry_after_ns > HOUR_NS / 2);
}

static void test_full__allow_and_deny_do_as_they_say(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	fill();
	publish(RL_SLIDING, 5, RL_FULL_ALLOW, HOUR_NS);
	assert_int_equal(of_new_keys(100, 10, &by), 1000);
	assert_int_equal(by, RL_BY_FULL);
	publish(RL_SLIDING, 5, RL_FULL_DENY, HOUR_NS);
	assert_int_equal(of_new_keys(100, 10, &by), 0);
	assert_int_equal(by, RL_BY_FULL);
	assert_int_equal(check("r", "new1", &result), RL_LIMITED);
	assert_int_equal(result.retry_after_ns, HOUR_NS);
}

/* A key that spent from a pool has in its own slot what is left of that, not the limit anew. */
static void test_full__own_slot_begins_with_what_the_pool_holds(void **state)
{
	(void)state;
	for (uint32_t a = 0; a < rl_algorithm_count(); a++)
		for (uint32_t spent = 1; spent <= 50; spent += 7) {
			uint32_t most = rl_algorithm_most(a, 50, 50), got = 0, peeked;
			struct rl_result result;
			uint64_t rule;

			empty();
			for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
				if (rl_head_is_open(t.seg.slot[i].head))
					rl_table_wipe(&t.seg, i, t.seg.slot[i].head);
			publish(a, 50, RL_FULL_POOL, HOUR_NS);
			assert_int_equal(rl_pool_ensure(&t.seg), 0);
			fill();
			for (uint32_t i = 0; i < spent; i++)
				got += check("r", "k", &result) == RL_ALLOWED;
			assert_int_equal(result.decided_by, RL_BY_POOL);
			empty();
			rule = t_client_rule(client, "r");
			assert_true(rl_peek(client, rule, "k", 1, 1, &result) >= 0);
			peeked = result.remaining;
			assert_int_equal(peeked, most - got);
			for (uint32_t i = 0; i < 200; i++)
				got += check("r", "k", &result) == RL_ALLOWED;
			assert_int_equal(result.decided_by, RL_BY_WINDOW);
			assert_in_range(got, most - 3, most); /* a sliding window's group */
		}
}

static void test_full__pool_that_is_idle_takes_nothing_from_anybody(void **state)
{
	uint32_t by;

	(void)state;
	publish(RL_SLIDING, 5, RL_FULL_POOL, RL_WINDOW_MIN_NS);
	fill();
	assert_true(of_new_keys(100, 1, &by) > 5);
	for (uint64_t end = t_now_ns() + 60000000; t_now_ns() < end;)
		; /* the window has passed */
	empty();
	assert_int_equal(of_new_keys(3, 5, &by), 15);
	assert_int_equal(by, RL_BY_WINDOW);
}

static void test_full__sweep_keeps_the_pools_of_rules_that_have_one(void **state)
{
	static struct sweep sweep;
	uint64_t used;

	(void)state;
	assert_int_equal(rl_table_used(&t.seg.view), RL_POOL_KEYS);
	sweep_init(&sweep, &t.seg);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_clock_precise_ns());
	assert_int_equal(rl_table_used(&t.seg.view), RL_POOL_KEYS);
	publish(RL_SLIDING, 50, RL_FULL_DENY, HOUR_NS);
	sweep_init(&sweep, &t.seg);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_clock_precise_ns());
	used = rl_table_used(&t.seg.view);
	assert_int_equal(used, 0);
}

static void test_full__rule_without_its_pool_says_so(void **state)
{
	struct rl_result result;

	(void)state;
	publish(RL_SLIDING, 5, RL_FULL_DENY, HOUR_NS);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		if (rl_head_is_open(t.seg.slot[i].head))
			rl_table_wipe(&t.seg, i, t.seg.slot[i].head);
	fill();
	publish(RL_SLIDING, 5, RL_FULL_POOL, HOUR_NS);
	assert_int_equal(rl_pool_ensure(&t.seg), RL_POOL_KEYS);
	assert_int_equal(check("r", "new", &result), RL_ERR_FULL);
	empty();
	assert_int_equal(rl_pool_ensure(&t.seg), 0);
}

/* A slot of a shared rule cannot begin with units: its key stays in the pool while that is used. */
static void test_full__key_of_a_shared_rule_stays_in_a_pool_that_is_used(void **state)
{
	const struct rl_rule_spec spec[] = {
		{.name = "r",
		 .terms = {5, HOUR_NS},
		 .fleet = {.consistency = RL_STRICT,
			   .no_credit = RL_NO_CREDIT_DENY,
			   .on_unreachable = RL_OWN}},
		{.name = "filler", .terms = {5, HOUR_NS}, .on_full = RL_FULL_DENY},
	};
	struct rl_result result;
	size_t other;

	(void)state;
	assert_int_equal(rl_rules_publish(&t.seg, spec, 2, &other), 0);
	t.seg.live->beat_ns = rl_clock_precise_ns() - 2 * RL_SECOND_NS; /* alone: its own window */
	fill();
	for (int i = 0; i < 3; i++)
		assert_int_equal(check("r", "k", &result), RL_ALLOWED);
	assert_int_equal(result.decided_by, RL_BY_POOL);
	empty();
	for (int i = 0; i < 2; i++)
		assert_int_equal(check("r", "k", &result), RL_ALLOWED);
	assert_int_equal(check("r", "k", &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_POOL);
}

/* Who is enforced is a matter of the key that asks, not of its pool. */
static void test_full__enforced_keys_are_the_same_as_ever(void **state)
{
	const struct rl_rule_spec spec[] = {
		{.name = "r", .terms = {1, HOUR_NS}, .shadow_ppm = 500000},
		{.name = "filler", .terms = {1, HOUR_NS}, .on_full = RL_FULL_DENY},
	};
	bool enforced[60];
	size_t other;

	(void)state;
	assert_int_equal(rl_rules_publish(&t.seg, spec, 2, &other), 0);
	for (int round = 0; round < 2; round++) {
		for (int k = 0; k < 60; k++) {
			char key[16];
			bool refused;

			snprintf(key, sizeof(key), "k%d", k);
			check("r", key, NULL);
			refused = check("r", key, NULL) == RL_LIMITED;
			assert_true(round == 0 || refused == enforced[k]);
			enforced[k] = refused;
		}
		empty();
		fill();
	}
}

/* The groups that an unused pool rounds up to are nobody's units. */
static void test_full__unused_pool_of_a_shared_rule_keeps_nobody(void **state)
{
	const struct rl_rule_spec spec = {.name = "r",
					  .terms = {100, HOUR_NS},
					  .fleet = {.consistency = RL_STRICT,
						    .no_credit = RL_NO_CREDIT_DENY,
						    .on_unreachable = RL_OWN}};
	struct rl_result result;
	size_t other;

	(void)state;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		if (rl_head_is_open(t.seg.slot[i].head))
			rl_table_wipe(&t.seg, i, t.seg.slot[i].head);
	assert_int_equal(rl_pool_ensure(&t.seg), 0);
	for (uint32_t i = 0; i < 20; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(check("r", key, &result), RL_LIMITED); /* no credit yet */
		assert_int_equal(result.decided_by, RL_BY_NO_CREDIT);
		assert_int_equal(rl_table_used(&t.seg.view), RL_POOL_KEYS + i + 1);
	}
}

static uint64_t pool_used(const struct t_seg *seg)
{
	char name[RL_NAME_BYTES];

	for (uint64_t i = 0; i < seg->seg.view.slot_count; i++)
		if (rl_head_is_open(seg->seg.slot[i].head) && rl_pool_is(&seg->seg.view, i) &&
		    rl_window_newest(&seg->seg.slot[i]) != 0 &&
		    rl_side_name(&seg->seg.view, i, name) > 0)
			return (uint64_t)name[6];
	return 0;
}

/* Every segment has a hash key of its own, and all hosts must mean the same pool. */
static void test_full__pool_of_a_key_is_the_same_on_every_host(void **state)
{
	uint64_t pool = 0;

	(void)state;
	for (int host = 0; host < 5; host++) {
		if (host > 0) {
			teardown(NULL);
			setup(NULL);
		}
		fill();
		assert_int_equal(check("r", "192.0.2.7", NULL), RL_ALLOWED);
		assert_true(pool == 0 || pool == pool_used(&t));
		pool = pool_used(&t);
		assert_true(pool != 0);
	}
}

static void test_full__requests_in_flight_have_no_pool(void **state)
{
	const struct rl_segment_spec spec = {.mode = 0660};
	struct rl_result result;
	uint64_t rule;
	int fd = rl_alive_make(&t.seg, t.path, &spec, NULL);

	(void)state;
	assert_true(fd >= 0);
	publish(RL_CONCURRENCY, 5, RL_FULL_POOL, RL_WINDOW_MIN_NS); /* what nobody can configure */
	assert_int_equal(rl_rules_on_full(&t.seg.view, rl_hash_rule("r")), RL_FULL_DENY);
	rule = t_client_rule(client, "r");
	assert_int_equal(rl_acquire(client, rule, "old", 3, 1, &result), RL_ALLOWED);
	fill();
	assert_int_equal(rl_pool_ensure(&t.seg), 0);
	assert_int_equal(rl_acquire(client, rule, "new", 3, 1, &result), RL_ERR_FULL);
	assert_int_equal(rl_acquire(client, rule, "old", 3, 1, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 3);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_full__keys_with_a_slot_are_answered_as_ever),
		TEST(test_full__new_keys_share_their_pools),
		TEST(test_full__requests_in_flight_have_no_pool),
		TEST(test_full__allow_and_deny_do_as_they_say),
		TEST(test_full__own_slot_begins_with_what_the_pool_holds),
		TEST(test_full__pool_that_is_idle_takes_nothing_from_anybody),
		TEST(test_full__sweep_keeps_the_pools_of_rules_that_have_one),
		TEST(test_full__rule_without_its_pool_says_so),
		TEST(test_full__enforced_keys_are_the_same_as_ever),
		TEST(test_full__unused_pool_of_a_shared_rule_keeps_nobody),
		TEST(test_full__pool_of_a_key_is_the_same_on_every_host),
		TEST(test_full__key_of_a_shared_rule_stays_in_a_pool_that_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
