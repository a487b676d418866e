/*
 * Goal:   what a slot holds, taken from one segment and put into another, goes on there as if
 *         nothing had happened, whatever the algorithm; what is not this host's own is left out.
 * Method: two segments in one process; what rl_peek() says of a key in both, and how much it then
 *         admits. Random keys, rules and moments ($SEED).
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_rules.h"
#include "shm/rl_saved.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define HOUR_NS  (3600 * RL_SECOND_NS)
#define SLACK_NS (RL_SECOND_NS / 10) /* between two looks */

static struct t_seg from, to;
static struct rl_client *before, *after;

static const struct rl_rule_spec rules[] = {
	{.name = "few", .terms = {5, HOUR_NS}},
	{.name = "many", .terms = {1000, HOUR_NS}},
	{.name = "brief", .terms = {5, RL_SECOND_NS}},
	{.name = "fine", .terms = {5, 9 * RL_SECOND_NS}}, /* each admit has a stamp of its own */
	{.name = "fixed", .terms = {100, 24 * HOUR_NS}, .algorithm = 1},
	{.name = "tokens", .terms = {100, HOUR_NS}, .algorithm = 2, .burst = 50},
	{.name = "leaky", .terms = {100, HOUR_NS}, .algorithm = 3, .burst = 50},
	{.name = "shared",
	 .terms = {5, HOUR_NS},
	 .fleet = {.consistency = RL_BOUNDED, .no_credit = RL_NO_CREDIT_ALLOW, .beta_ppm = 100000}},
};
enum { RULES = sizeof(rules) / sizeof(rules[0]), LOCAL = 7 };

static void publish(struct t_seg *t, size_t count)
{
	size_t other;

	assert_int_equal(rl_rules_publish(&t->seg, rules, count, &other), 0);
}

static int setup(void **state)
{
	(void)state;
	t_seg_make(&from, 1000);
	publish(&from, RULES);
	before = t_attach(&from);
	t_seg_make(&to, 1000); /* takes the other's file away, and leaves its memory */
	publish(&to, RULES);
	after = t_attach(&to);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(before);
	rl_detach(after);
	t_seg_drop(&from);
	t_seg_drop(&to);
	return 0;
}

static int check(struct rl_client *client, const char *rule, const char *key, uint32_t cost,
		 struct rl_result *result)
{
	return rl_check(client, t_client_rule(client, rule), key, strlen(key), cost, 0, result);
}

static void peek(struct rl_client *client, const char *rule, const char *key, struct rl_result *ret)
{
	assert_true(rl_peek(client, t_client_rule(client, rule), key, strlen(key), 1, ret) >= 0);
}

static struct rl_saved_terms now_terms(void)
{
	return (struct rl_saved_terms){.now_ns = rl_clock_precise_ns()};
}

/* All keys of the one segment into the other, stamped so much later; how many. */
static unsigned move_stamped(const struct rl_saved_terms *terms, int64_t later_ns)
{
	struct rl_saved saved;
	unsigned put = 0;

	for (uint64_t i = 0; i < from.seg.view.slot_count; i++) {
		if (rl_saved_take(&from.seg.view, i, &saved) != 1)
			continue;
		for (uint32_t c = 0; c < RL_RING; c++)
			saved.ring[c] += saved.ring[c] != 0 ? (uint64_t)later_ns : 0;
		put += rl_saved_put(&to.seg, &saved, terms) == 1;
	}
	return put;
}

static unsigned move(const struct rl_saved_terms *terms)
{
	return move_stamped(terms, 0);
}

static unsigned move_now(void)
{
	const struct rl_saved_terms terms = now_terms();

	return move(&terms);
}

static uint32_t admitted(struct rl_client *client, const char *rule, const char *key, uint32_t most)
{
	uint32_t units = 0;

	while (units <= most && check(client, rule, key, 1, NULL) == RL_ALLOWED)
		units++;
	return units;
}

static void test_saved__key_goes_on_with_what_it_has_spent(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(check(before, "few", "k", 1, NULL), RL_ALLOWED);
	assert_int_equal(move_now(), 1);
	assert_int_equal(admitted(after, "few", "k", 5), 2);
	assert_int_equal(admitted(after, "few", "other", 5), 5);
}

static void test_saved__unused_and_expired_keys_are_not_taken(void **state)
{
	struct rl_result result;

	(void)state;
	peek(before, "few", "k", &result);
	assert_int_equal(move_now(), 0);
	assert_int_equal(check(before, "brief", "k", 1, NULL), RL_ALLOWED);
	assert_int_equal(move_now(), 1);
	while (t_now_ns() < result.now_ns + 2 * RL_SECOND_NS)
		usleep(10000);
	assert_int_equal(move_now(), 0);
}

/* All of it spent a third of an hour before it was taken, and that another third before now. */
static void test_saved__time_between_two_boots_has_passed(void **state)
{
	struct rl_saved_terms terms = now_terms();
	struct rl_result result;

	(void)state;
	assert_int_equal(admitted(before, "few", "k", 4), 5);
	terms.shift_ns = -(int64_t)(HOUR_NS / 3);
	assert_int_equal(move_stamped(&terms, -(int64_t)(HOUR_NS / 3)), 1);
	assert_int_equal(check(after, "few", "k", 1, &result), RL_LIMITED);
	assert_in_range(result.retry_after_ns, HOUR_NS / 3 - SLACK_NS, HOUR_NS / 3 + SLACK_NS);
}

static void test_saved__what_expired_between_two_boots_is_free(void **state)
{
	struct rl_saved_terms terms = now_terms();

	(void)state;
	assert_int_equal(admitted(before, "few", "k", 4), 5);
	assert_int_equal(admitted(before, "tokens", "k", 49), 50);
	terms.shift_ns = -(int64_t)(HOUR_NS + RL_SECOND_NS);
	move(&terms);
	assert_int_equal(admitted(after, "few", "k", 4), 5);
	assert_int_equal(admitted(after, "tokens", "k", 49), 50);
}

/* A machine that has just booted: its clock is far behind that of the boot before. */
static void test_saved__clock_of_a_younger_boot_holds_no_longer_and_no_shorter(void **state)
{
	struct rl_saved_terms terms = now_terms();
	struct rl_result result;

	(void)state;
	assert_int_equal(admitted(before, "few", "k", 4), 5);
	/* As a boot of 100 days would have stamped. */
	terms.shift_ns = -(int64_t)(100 * RL_DAY_NS);
	assert_int_equal(move_stamped(&terms, (int64_t)(100 * RL_DAY_NS)), 1);
	assert_int_equal(check(after, "few", "k", 1, &result), RL_LIMITED);
	assert_in_range(result.retry_after_ns, HOUR_NS - SLACK_NS, HOUR_NS + SLACK_NS);
}

static void test_saved__blocked_key_stays_blocked_and_reset_one_reset(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(check(before, "few", "bad", 1, NULL), RL_ALLOWED);
	assert_int_equal(
		rl_block(before, t_client_rule(before, "few"), "bad", 3, 60 * RL_SECOND_NS), 0);
	assert_int_equal(admitted(before, "fine", "good", 4), 5);
	assert_int_equal(rl_reset(before, t_client_rule(before, "fine"), "good", 4), 0);
	assert_int_equal(check(before, "tokens", "bad", 1, NULL), RL_ALLOWED);
	assert_int_equal(
		rl_block(before, t_client_rule(before, "tokens"), "bad", 3, 60 * RL_SECOND_NS), 0);
	assert_int_equal(move_now(), 3);
	assert_int_equal(check(after, "few", "bad", 1, &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_BLOCK);
	assert_in_range(result.retry_after_ns, 59 * RL_SECOND_NS, 62 * RL_SECOND_NS);
	assert_int_equal(check(after, "tokens", "bad", 1, &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_BLOCK);
	assert_int_equal(admitted(after, "fine", "good", 5), 5);
}

static void test_saved__rules_that_are_shared_or_gone_are_left_out(void **state)
{
	(void)state;
	check(before, "shared", "k", 1, NULL);
	assert_int_equal(move_now(), 0);
	assert_int_equal(check(before, "few", "k", 1, NULL), RL_ALLOWED);
	publish(&to, 0);
	assert_int_equal(move_now(), 0);
	publish(&to, 1);
	assert_int_equal(move_now(), 1);
}

/* A wall clock behind the snapshot's: then no time has passed, and nothing is of a time to come. */
static void test_saved__what_lies_ahead_is_of_now(void **state)
{
	struct rl_saved_terms terms = now_terms();
	struct rl_result result;

	(void)state;
	assert_int_equal(admitted(before, "few", "k", 4), 5);
	assert_int_equal(admitted(before, "fixed", "k", 99), 100);
	terms.shift_ns = (int64_t)(48 * HOUR_NS);
	assert_int_equal(move(&terms), 2);
	assert_int_equal(check(after, "few", "k", 1, &result), RL_LIMITED);
	assert_in_range(result.retry_after_ns, HOUR_NS - SLACK_NS, HOUR_NS + SLACK_NS);
	assert_int_equal(check(after, "fixed", "k", 1, &result), RL_LIMITED);
}

static uint64_t slot_of(const struct rl_view *view, const char *key)
{
	struct rl_key_text text;
	struct rl_saved saved;

	rl_key_text(key, strlen(key), &text);
	for (uint64_t i = 0; i < view->slot_count; i++)
		if (rl_saved_take(view, i, &saved) == 1 &&
		    memcmp(saved.text.word, text.word, sizeof(text.word)) == 0)
			return i;
	fail_msg("no slot of %s", key);
	return 0;
}

/* Closed for a re-base, as the agent's loop may be stopped there: not "nothing". */
static void test_saved__slot_that_is_being_rebased_is_asked_for_later(void **state)
{
	struct rl_saved saved;
	struct rl_slot *slot;
	uint64_t index, head;

	(void)state;
	assert_int_equal(check(before, "few", "k", 1, NULL), RL_ALLOWED);
	index = slot_of(&from.seg.view, "k");
	slot = &from.seg.slot[index];
	head = atomic_load(&slot->head);
	atomic_store(&slot->head, rl_head_closed(rl_head_n(head), RL_KIND_REBASE));
	assert_int_equal(rl_saved_take(&from.seg.view, index, &saved), RL_E_BUSY);
	atomic_store(&slot->head, rl_head_closed(rl_head_n(head), RL_KIND_FREE));
	assert_int_equal(rl_saved_take(&from.seg.view, index, &saved), 0);
	atomic_store(&slot->head, head);
	assert_int_equal(rl_saved_take(&from.seg.view, index, &saved), 1);
}

/* Its word is the agent's for the moment; its head is not closed yet, or was read before. */
static void test_saved__slot_whose_word_is_taken_is_asked_for_later(void **state)
{
	struct rl_saved saved;
	struct rl_slot *slot;
	uint64_t index, word;

	(void)state;
	assert_int_equal(check(before, "tokens", "k", 1, NULL), RL_ALLOWED);
	index = slot_of(&from.seg.view, "k");
	slot = &from.seg.slot[index];
	word = atomic_exchange(&slot->state, 0);
	assert_int_equal(rl_saved_take(&from.seg.view, index, &saved), RL_E_BUSY);
	atomic_store(&slot->state, word);
	assert_int_equal(rl_saved_take(&from.seg.view, index, &saved), 1);
}

static void test_saved__words_that_no_slot_has_are_not_sound(void **state)
{
	struct rl_saved saved, other = {0};

	(void)state;
	assert_false(rl_saved_sound(&other));
	assert_int_equal(check(before, "tokens", "k", 1, NULL), RL_ALLOWED);
	for (uint64_t i = 0; i < from.seg.view.slot_count; i++)
		if (rl_saved_take(&from.seg.view, i, &saved) == 1)
			break;
	assert_true(rl_saved_sound(&saved));
	other = saved;
	other.algorithm = RL_CONCURRENCY; /* held by processes that are gone */
	assert_false(rl_saved_sound(&other));
	other = saved;
	other.units = UINT32_MAX;
	assert_false(rl_saved_sound(&other));
	other = saved;
	other.scale = 0;
	assert_false(rl_saved_sound(&other));
}

static void test_saved__long_key_is_known_again_under_the_same_hash_key_only(void **state)
{
	const struct rl_segment_spec spec = {
		.keys = 1000, .mode = 0660, .hash_key = from.seg.view.hash_key};
	struct rl_saved_terms terms = now_terms();
	char key[200];

	(void)state;
	memset(key, 'x', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	assert_int_equal(admitted(before, "few", key, 4), 5);
	assert_int_equal(move(&terms), 0);
	rl_detach(after);
	t_seg_drop(&to);
	t_seg_make_as(&to, &spec);
	publish(&to, RULES);
	after = t_attach(&to);
	terms.same_hash = true;
	assert_int_equal(move(&terms), 1);
	assert_int_equal(admitted(after, "few", key, 4), 0);
}

static void same_in_both(const char *rule, const char *key)
{
	struct rl_result a, b;

	peek(before, rule, key, &a);
	peek(after, rule, key, &b);
	if (a.remaining != b.remaining)
		fail_msg("%s %s: %u left, then %u", rule, key, a.remaining, b.remaining);
	if (a.retry_after_ns > b.retry_after_ns + SLACK_NS ||
	    b.retry_after_ns > a.retry_after_ns + SLACK_NS)
		fail_msg("%s %s: %llu ns to wait, then %llu", rule, key,
			 (unsigned long long)a.retry_after_ns,
			 (unsigned long long)b.retry_after_ns);
}

static void test_saved__any_keys_of_any_rules_are_answered_as_before(void **state)
{
	uint64_t seed = t_seed();
	char key[32];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "k%u", (unsigned)t_below(&seed, 100));
		check(before, rules[t_below(&seed, LOCAL)].name, key,
		      1 + (uint32_t)t_below(&seed, 3), NULL);
	}
	assert_true(move_now() > 100);
	for (int r = 0; r < LOCAL; r++)
		for (unsigned k = 0; k < 100; k++) {
			if (rules[r].terms.window_ns < HOUR_NS) /* runs out while we look */
				continue;
			snprintf(key, sizeof(key), "k%u", k);
			same_in_both(rules[r].name, key);
		}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_saved__key_goes_on_with_what_it_has_spent),
		TEST(test_saved__unused_and_expired_keys_are_not_taken),
		TEST(test_saved__time_between_two_boots_has_passed),
		TEST(test_saved__what_expired_between_two_boots_is_free),
		TEST(test_saved__clock_of_a_younger_boot_holds_no_longer_and_no_shorter),
		TEST(test_saved__blocked_key_stays_blocked_and_reset_one_reset),
		TEST(test_saved__rules_that_are_shared_or_gone_are_left_out),
		TEST(test_saved__what_lies_ahead_is_of_now),
		TEST(test_saved__slot_that_is_being_rebased_is_asked_for_later),
		TEST(test_saved__slot_whose_word_is_taken_is_asked_for_later),
		TEST(test_saved__words_that_no_slot_has_are_not_sound),
		TEST(test_saved__long_key_is_known_again_under_the_same_hash_key_only),
		TEST(test_saved__any_keys_of_any_rules_are_answered_as_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
