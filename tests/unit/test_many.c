/*
 * Goal:   hashed keys, looks, several rules at once, batches and refunds answer as rl_check()
 *         does, and several rules are spent all or none.
 * Method: the public functions on a segment made by the test, with the real clock; another
 *         process's step between a look and a spend is made by the test.
 */
#include "tests/t.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

static struct t_seg t;
static struct rl_client *client;
static uint64_t five, two, many, tokens, brief;

static int setup(void **state)
{
	static const struct rl_rule_spec spec[] = {
		{.name = "five", .terms = {5, 3600 * RL_SECOND_NS}},
		{.name = "two", .terms = {2, 3600 * RL_SECOND_NS}},
		{.name = "many", .terms = {1000, 3600 * RL_SECOND_NS}},
		{.name = "tokens", .terms = {4, 3600 * RL_SECOND_NS}, .algorithm = 2},
		{.name = "brief", .terms = {5, 20000000}},
		{.name = "shared",
		 .terms = {5, 3600 * RL_SECOND_NS},
		 .fleet = {.consistency = RL_STRICT,
			   .no_credit = RL_NO_CREDIT_DENY,
			   .on_unreachable = RL_OPEN}},
	};
	size_t other;

	(void)state;
	t_seg_make(&t, 4000);
	assert_int_equal(rl_rules_publish(&t.seg, spec, sizeof(spec) / sizeof(spec[0]), &other), 0);
	client = t_attach(&t);
	five = t_client_rule(client, "five");
	two = t_client_rule(client, "two");
	many = t_client_rule(client, "many");
	tokens = t_client_rule(client, "tokens");
	brief = t_client_rule(client, "brief");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

static uint32_t left(uint64_t rule, const char *key)
{
	struct rl_result result;

	assert_true(rl_peek(client, rule, key, strlen(key), 1, &result) >= 0);
	return result.remaining;
}

static struct rl_ask ask_of(uint64_t rule, const char *key, uint32_t cost)
{
	return (struct rl_ask){.rule = rule, .key = key, .key_len = strlen(key), .cost = cost};
}

static void test_many__look_answers_as_a_check_and_writes_nothing(void **state)
{
	static unsigned char before[1 << 16], after[1 << 16];
	struct rl_result result;

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(rl_peek(client, five, "k", 1, 1, &result), RL_ALLOWED);
		assert_int_equal(result.remaining, 5 - i);
		assert_int_equal(result.ticket[0], 0);
		assert_int_equal(rl_check(client, five, "k", 1, 1, 0, NULL), RL_ALLOWED);
	}
	memcpy(before, t.seg.slot, sizeof(before));
	assert_int_equal(rl_peek(client, five, "k", 1, 1, &result), RL_LIMITED);
	assert_true(result.retry_after_ns > 3590 * RL_SECOND_NS);
	assert_int_equal(rl_peek(client, five, "unknown", 7, 1, NULL), RL_ALLOWED);
	memcpy(after, t.seg.slot, sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(rl_table_used(&t.seg.view), 1);
	assert_int_equal(rl_peek(client, five, "k", 1, 6, &result), RL_ERR_COST);
	assert_int_equal(rl_peek(client, five, "k", 0, 1, &result), -EINVAL);
	assert_int_equal(rl_peek(NULL, five, "k", 1, 1, &result), -EINVAL);
}

static void test_many__hashed_key_is_the_same_key(void **state)
{
	struct rl_result result;
	struct rl_key key, other;
	struct rl_client *second;
	struct t_seg another;
	char text[] = "bob", long_text[1024];

	(void)state;
	assert_int_equal(rl_key_make(client, five, text, 3, &key), 0);
	text[0] = 'x'; /* the bytes need not stay */
	assert_int_equal(rl_check_key(client, &key, 3, 0, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 2);
	assert_int_equal(rl_check(client, five, "bob", 3, 2, 0, &result), RL_ALLOWED);
	assert_int_equal(rl_check_key(client, &key, 1, 0, &result), RL_LIMITED);
	/* The text a new slot is claimed with is the key's, also of a long one. */
	memset(long_text, 'l', sizeof(long_text));
	assert_int_equal(rl_key_make(client, five, long_text, sizeof(long_text), &other), 0);
	assert_int_equal(rl_check_key(client, &other, 1, 0, &result), RL_ALLOWED);
	for (uint64_t i = 0, found = 0; i < t.seg.view.slot_count; i++) {
		char name[RL_NAME_BYTES];
		size_t len = rl_side_name(&t.seg.view, i, name);

		if (len == 0)
			continue;
		assert_true((len == 4 && memcmp(name, ":bob", 4) == 0) ||
			    (len > 33 && memcmp(name, "#llll", 5) == 0));
		assert_true(++found <= 2);
	}
	assert_int_equal(rl_check_key(client, &key, 0, 0, &result), -EINVAL);
	assert_int_equal(rl_check_key(client, NULL, 1, 0, &result), -EINVAL);
	assert_int_equal(rl_key_make(client, five, "bob", 0, &key), -EINVAL);
	assert_int_equal(rl_key_make(client, five, "bob", 3, NULL), -EINVAL);

	t_seg_make(&another, 100);
	assert_int_equal(rl_attach(another.path, &second, NULL), 0);
	assert_int_equal(rl_check_key(second, &other, 1, 0, &result), RL_ERR_KEY);
	rl_detach(second);
	t_seg_drop(&another);
}

/* Where a key's slot may be is remembered in the rl_key, as its fifth word: a guess, never
 * believed. */
static void test_many__hashed_key_is_the_same_key_wherever_it_is_looked_for_first(void **state)
{
	struct rl_result result;
	struct rl_key bob, eve;

	(void)state;
	assert_int_equal(rl_key_make(client, five, "bob", 3, &bob), 0); /* before it has a slot */
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(rl_check_key(client, &bob, 1, 0, &result), RL_ALLOWED);
		assert_int_equal(result.remaining, 4 - i);
	}
	assert_int_equal(rl_check(client, five, "eve", 3, 1, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_key_make(client, five, "bob", 3, &bob), 0);
	assert_int_equal(rl_key_make(client, five, "eve", 3, &eve), 0);
	assert_int_not_equal(bob.word[4], eve.word[4]);
	bob.word[4] = eve.word[4]; /* the slot is another key's now */
	assert_int_equal(rl_check_key(client, &bob, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(left(five, "bob"), 0);
	assert_int_equal(left(five, "eve"), 4);
	eve.word[4] = t.seg.view.slot_count; /* beyond the table */
	assert_int_equal(rl_check_key(client, &eve, 1, 0, &result), RL_ALLOWED);
	eve.word[4] = UINT64_C(1) << 50; /* no address at all */
	assert_int_equal(rl_check_key(client, &eve, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(left(five, "eve"), 2);
}

static void test_many__all_rules_are_spent_or_none(void **state)
{
	struct rl_ask ask[3] = {ask_of(five, "a", 2), ask_of(two, "a", 1), ask_of(many, "a", 10)};
	unsigned char *before;
	size_t size;

	(void)state;
	assert_int_equal(rl_check_all(client, ask, 3), RL_ALLOWED);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ask[i].answer, RL_ALLOWED);
		assert_true(ask[i].result.ticket[0] != 0);
	}
	assert_int_equal(left(five, "a"), 3);
	assert_int_equal(ask[2].result.remaining, 990);
	assert_int_equal(rl_check_all(client, ask, 2), RL_ALLOWED);
	/* The second refuses: the others keep what they have. */
	assert_int_equal(left(two, "a"), 0);
	ask[0].cost = 1;
	size = t.seg.view.slot_count * sizeof(struct rl_slot);
	before = malloc(size);
	assert_non_null(before);
	memcpy(before, t.seg.slot, size);
	assert_int_equal(rl_check_all(client, ask, 3), RL_LIMITED);
	assert_memory_equal(before, t.seg.slot, size); /* not even spent and given back */
	free(before);
	assert_int_equal(ask[1].answer, RL_LIMITED);
	assert_true(ask[1].result.retry_after_ns > 0);
	assert_int_equal(ask[0].result.ticket[0], 0);
	assert_int_equal(left(five, "a"), 1);
	assert_int_equal(left(many, "a"), 990);
	/* So does an error, also in the last. */
	ask[1] = ask_of(two, "b", 1);
	ask[2].cost = 1001;
	assert_int_equal(rl_check_all(client, ask, 3), RL_ERR_COST);
	ask[2].rule = 12345;
	assert_int_equal(rl_check_all(client, ask, 3), RL_ERR_RULE);
	assert_int_equal(left(five, "a"), 1);
	assert_int_equal(left(two, "b"), 2);
	assert_int_equal(rl_check_all(client, ask, 0), -EINVAL);
	assert_int_equal(rl_check_all(client, ask, RL_ALL_MAX + 1), -EINVAL);
	ask[1].key_len = 0;
	assert_int_equal(rl_check_all(client, ask, 2), -EINVAL);
	assert_int_equal(left(five, "a"), 1);
}

/* Each looks good, and the second has no room once the first has spent: as a race would. */
static void test_many__what_a_race_left_without_room_is_given_back(void **state)
{
	struct rl_ask ask[3] = {ask_of(many, "c", 7), ask_of(tokens, "c", 3),
				ask_of(tokens, "c", 3)};

	(void)state;
	assert_int_equal(rl_check_all(client, ask, 3), RL_LIMITED);
	assert_int_equal(ask[2].answer, RL_LIMITED);
	assert_int_equal(left(many, "c"), 1000);
	assert_int_equal(left(tokens, "c"), 4);
	assert_int_equal(rl_check_all(client, ask, 2), RL_ALLOWED);
	assert_int_equal(left(many, "c"), 993);
}

/* The same with what is kept from the look: one slot twice, so the second's head is an old one. */
static void test_many__what_was_looked_at_is_spent_only_once(void **state)
{
	struct rl_ask ask[3] = {ask_of(many, "d", 1), ask_of(two, "d", 1), ask_of(two, "d", 1)};

	(void)state;
	assert_int_equal(rl_check(client, many, "d", 1, 1, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check(client, two, "d", 1, 1, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check_all(client, ask, 3), RL_LIMITED);
	assert_int_equal(ask[2].answer, RL_LIMITED);
	assert_int_equal(ask[1].result.ticket[0], 0);
	assert_int_equal(left(many, "d"), 999);
	assert_int_equal(left(two, "d"), 1);
	assert_int_equal(rl_check_all(client, ask, 2), RL_ALLOWED);
	assert_int_equal(ask[0].result.remaining, 998);
	assert_int_equal(left(two, "d"), 0);
	assert_int_equal(rl_check_all(client, ask, 2), RL_LIMITED);
	assert_int_equal(ask[0].answer, RL_ALLOWED);
	assert_int_equal(left(many, "d"), 998);
}

static void test_many__batch_answers_each_for_itself(void **state)
{
	enum { COUNT = 100 };
	static struct rl_ask ask[COUNT];
	static char key[COUNT][16];

	(void)state;
	for (int i = 0; i < COUNT; i++) {
		snprintf(key[i], sizeof(key[i]), "key%d", i % 10);
		ask[i] = ask_of(five, key[i], 1);
	}
	ask[99].cost = 0;
	assert_int_equal(rl_check_batch(client, ask, COUNT), 50);
	for (int i = 0; i < COUNT - 1; i++)
		assert_int_equal(ask[i].answer, i < 50 ? RL_ALLOWED : RL_LIMITED);
	assert_int_equal(ask[99].answer, -EINVAL);
	assert_int_equal(rl_check_batch(client, ask, 0), 0);
	assert_int_equal(rl_check_batch(client, NULL, 1), -EINVAL);
	assert_int_equal(rl_check_batch(NULL, ask, 1), -EINVAL);
}

static void test_many__refund_is_of_use_once(void **state)
{
	struct rl_result result, copy;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(rl_check(client, five, "r", 1, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(rl_check(client, five, "r", 1, 1, 0, NULL), RL_LIMITED);
	copy = result;
	assert_int_equal(rl_refund(client, five, &result), RL_REFUNDED);
	assert_int_equal(rl_refund(client, five, &result), RL_KEPT);
	assert_int_equal(rl_refund(client, five, &copy), RL_KEPT);
	assert_int_equal(left(five, "r"), 1);
	assert_int_equal(rl_check(client, five, "r", 1, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(rl_check(client, five, "r", 1, 1, 0, &copy), RL_LIMITED);
	assert_int_equal(rl_refund(client, five, &copy), RL_KEPT); /* a refusal spent nothing */
	assert_int_equal(rl_refund(client, two, &result), RL_KEPT);
	assert_int_equal(rl_refund(NULL, five, &result), -EINVAL);
	assert_int_equal(rl_refund(client, five, NULL), -EINVAL);
}

static void test_many__refund_of_a_bucket_gives_back_its_last_admit(void **state)
{
	struct rl_result first, second;

	(void)state;
	assert_int_equal(rl_check(client, tokens, "t", 1, 1, 0, &first), RL_ALLOWED);
	assert_int_equal(rl_check(client, tokens, "t", 1, 3, 0, &second), RL_ALLOWED);
	assert_int_equal(rl_refund(client, tokens, &first), RL_KEPT);
	assert_int_equal(rl_refund(client, tokens, &second), RL_REFUNDED);
	assert_int_equal(left(tokens, "t"), 3);
}

static void test_many__refund_never_reaches_another_window_or_key(void **state)
{
	const struct timespec window = {.tv_nsec = 25000000};
	struct rl_result result, forged;
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(rl_check(client, brief, "w", 1, 1, 0, &result), RL_ALLOWED);
	nanosleep(&window, NULL); /* its window has passed */
	assert_int_equal(rl_check(client, brief, "w", 1, 1, 0, &forged), RL_ALLOWED);
	assert_int_equal(rl_refund(client, brief, &result), RL_KEPT);
	/* A ticket of any bytes gives nothing back that is not held, and writes nowhere else. */
	assert_int_equal(rl_check(client, five, "f", 1, 2, 0, NULL), RL_ALLOWED);
	for (int i = 0; i < 100000; i++) {
		for (int w = 0; w < 3; w++)
			result.ticket[w] = t_random(&seed) >> t_below(&seed, 64);
		assert_int_equal(rl_refund(client, t_below(&seed, 2) ? five : tokens, &result),
				 RL_KEPT);
	}
	assert_int_equal(left(five, "f"), 3);
}

static void test_many__shared_units_are_kept(void **state)
{
	struct rl_result result;
	uint64_t shared;

	(void)state;
	shared = t_client_rule(client, "shared");
	t.seg.live->beat_ns -= 10 * RL_SECOND_NS; /* alone: its policy lets it pass */
	assert_int_equal(rl_check(client, shared, "s", 1, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(result.state, RL_STATE_ALONE);
	assert_int_equal(rl_refund(client, shared, &result), RL_KEPT);
}

static _Atomic uint64_t allowed_all;

static void *ask_all(void *arg)
{
	bool swapped = arg != NULL;

	for (int i = 0; i < 2000; i++) {
		struct rl_ask ask[2] = {ask_of(swapped ? tokens : many, "race", 1),
					ask_of(swapped ? many : tokens, "race", 1)};

		if (rl_check_all(client, ask, 2) == RL_ALLOWED)
			atomic_fetch_add(&allowed_all, 1);
	}
	return NULL;
}

/* Four units in all of one rule: what races spent of the other is nearly always given back. */
static void test_many__threads_that_race_for_the_last_units_spend_them_once(void **state)
{
	pthread_t thread[4];
	uint32_t spent;

	(void)state;
	atomic_store(&allowed_all, 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, ask_all, i % 2 == 0 ? NULL : &t);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(atomic_load(&allowed_all), 4);
	spent = 1000 - left(many, "race");
	assert_true(spent >= 4 && spent <= 4 + 4 * 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_many__look_answers_as_a_check_and_writes_nothing),
		TEST(test_many__hashed_key_is_the_same_key),
		TEST(test_many__hashed_key_is_the_same_key_wherever_it_is_looked_for_first),
		TEST(test_many__all_rules_are_spent_or_none),
		TEST(test_many__what_a_race_left_without_room_is_given_back),
		TEST(test_many__what_was_looked_at_is_spent_only_once),
		TEST(test_many__batch_answers_each_for_itself),
		TEST(test_many__refund_is_of_use_once),
		TEST(test_many__refund_of_a_bucket_gives_back_its_last_admit),
		TEST(test_many__refund_never_reaches_another_window_or_key),
		TEST(test_many__shared_units_are_kept),
		TEST(test_many__threads_that_race_for_the_last_units_spend_them_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
