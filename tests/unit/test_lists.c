/*
 * Goal:   a key that a rule's lists name, or a network it is in, is let pass, refused or counted by
 *         its own limit; the most specific entry decides; shadow, enforce and the switches let pass
 *         what they say and nothing else.
 * Method: the public functions on a segment made by the test; random networks against a model
 *         that compares bits.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>

#include "agent/sweep.h"
#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_lists.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define HOUR_NS      (3600 * RL_SECOND_NS)
#define MOST         64
#define TOKEN_BUCKET 2 /* its row */

static struct t_seg t;
static struct rl_client *client;
static struct rl_list_item item[MOST];
static size_t items;
static struct rl_rule_spec spec;

static void begin(uint32_t algorithm, uint32_t limit)
{
	items = 0;
	spec = (struct rl_rule_spec){.name = "r",
				     .terms = {limit, HOUR_NS},
				     .algorithm = (uint8_t)algorithm,
				     .list = item};
}

static void list(const char *text, enum rl_verdict verdict, uint32_t limit)
{
	struct rl_list_item *new = &item[items++];

	*new = (struct rl_list_item){.verdict = verdict, .terms = {limit, HOUR_NS}, .burst = limit};
	if (!rl_ip_parse(text, strlen(text), &new->net)) {
		new->key = text;
		new->key_len = strlen(text);
	}
}

static void publish(void)
{
	size_t other;

	spec.list_count = items;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
}

static int setup(void **state)
{
	const struct rl_segment_spec segment = {.keys = 4000, .mode = 0660, .list_entries = MOST};

	(void)state;
	t_seg_make_as(&t, &segment);
	client = t_attach(&t);
	begin(RL_SLIDING, 5);
	publish();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

static uint64_t rule(void)
{
	return t_client_rule(client, "r");
}

static int check(const char *key, struct rl_result *result)
{
	return rl_check(client, rule(), key, strlen(key), 1, 0, result);
}

/* Checks that pass, of so many; who decided the last. */
static uint32_t passed(const char *key, uint32_t of, uint32_t *ret_by)
{
	struct rl_result result = {0};
	uint32_t n = 0;

	for (uint32_t i = 0; i < of; i++)
		n += check(key, &result) == RL_ALLOWED;
	*ret_by = result.decided_by;
	return n;
}

static void test_lists__allowed_pass_denied_do_not_and_neither_is_counted(void **state)
{
	struct rl_result result;
	struct rl_key key;
	uint32_t by;

	(void)state;
	list("monitor", RL_VERDICT_ALLOW, 0);
	list("203.0.113.0/24", RL_VERDICT_DENY, 0);
	publish();
	assert_int_equal(passed("monitor", 20, &by), 20);
	assert_int_equal(by, RL_BY_LIST);
	assert_int_equal(check("203.0.113.9", &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_LIST);
	assert_int_equal(result.remaining, 0);
	assert_int_equal(result.retry_after_ns, HOUR_NS);
	assert_int_equal(check("::ffff:203.0.113.9", &result), RL_LIMITED);
	assert_int_equal(rl_peek(client, rule(), "203.0.113.9", 11, 1, &result), RL_LIMITED);
	assert_int_equal(rl_peek(client, rule(), "monitor", 7, 1, &result), RL_ALLOWED);
	assert_int_equal(rl_refund(client, rule(), &result), RL_KEPT);
	assert_int_equal(rl_key_make(client, rule(), "203.0.113.9", 11, &key), 0);
	assert_int_equal(rl_check_key(client, &key, 1, 0, &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_LIST);
	assert_int_equal(rl_table_used(&t.seg.view), 0);
	assert_int_equal(passed("203.0.114.9", 20, &by), 5);
	assert_int_equal(by, RL_BY_WINDOW);
}

static void test_lists__most_specific_entry_decides(void **state)
{
	uint32_t by;

	(void)state;
	list("10.0.0.0/8", RL_VERDICT_DENY, 0);
	list("10.1.0.0/16", RL_VERDICT_OTHER, 7);
	list("10.1.2.0/24", RL_VERDICT_ALLOW, 0);
	list("10.1.2.3", RL_VERDICT_OTHER, 2);
	list("2001:db8::/32", RL_VERDICT_DENY, 0);
	list("2001:db8:1::/48", RL_VERDICT_OTHER, 9);
	list("::/0", RL_VERDICT_OTHER, 3);
	publish();
	assert_int_equal(passed("10.200.0.1", 20, &by), 0);
	assert_int_equal(passed("10.1.77.1", 20, &by), 7);
	assert_int_equal(passed("10.1.2.200", 20, &by), 20);
	assert_int_equal(passed("10.1.2.3", 20, &by), 2);
	assert_int_equal(passed("11.0.0.1", 20, &by), 5);
	assert_int_equal(passed("2001:db8:ffff::1", 20, &by), 0);
	assert_int_equal(passed("2001:db8:1:2::/64", 20, &by), 9);
	assert_int_equal(passed("fe80::1", 20, &by), 3);
	assert_int_equal(passed("no address", 20, &by), 5);
}

static void test_lists__override_counts_by_its_own_limit_under_every_algorithm(void **state)
{
	static struct sweep sweep;
	uint32_t by;

	(void)state;
	for (uint32_t a = 0; a < rl_algorithm_count(); a++) {
		uint32_t most = rl_algorithm_most(a, 50, 50);
		char key[24];

		begin(a, 5);
		snprintf(key, sizeof(key), "partner-%u", a);
		list(key, RL_VERDICT_OTHER, 50);
		publish();
		assert_int_equal(passed(key, most / 2, &by), most / 2);
		/* The agent's pass goes by the same terms: nothing is re-based, nothing forgotten.
		 */
		sweep_init(&sweep, &t.seg);
		for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
			sweep_slot(&sweep, i, rl_clock_precise_ns());
		assert_int_equal(t.seg.live->slots_rebased, 0);
		assert_int_equal(passed(key, 200, &by), most - most / 2);
		/* At the next check, counts kept. */
		item[0].terms.limit = item[0].burst = 60;
		publish();
		assert_true(passed(key, 200, &by) > 0);
		for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
			if (rl_head_is_open(t.seg.slot[i].head))
				rl_table_wipe(&t.seg, i, t.seg.slot[i].head);
	}
}

static void test_lists__a_refund_goes_by_the_override(void **state)
{
	struct rl_result result;

	(void)state;
	list("partner", RL_VERDICT_OTHER, 2);
	item[0].terms.window_ns = 20 * HOUR_NS;
	publish();
	assert_int_equal(check("partner", &result), RL_ALLOWED);
	assert_int_equal(result.limit, 2);
	assert_int_equal(result.window_ns, 20 * HOUR_NS);
	assert_int_equal(rl_refund(client, rule(), &result), RL_REFUNDED);
	assert_int_equal(check("partner", &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 1);
}

static bool inside(const struct rl_ip *ip, const struct rl_ip *net)
{
	struct rl_ip masked = *ip;

	if (ip->bits != net->bits || ip->prefix < net->prefix)
		return false;
	rl_ip_mask(&masked, net->prefix);
	return memcmp(masked.bytes, net->bytes, sizeof(masked.bytes)) == 0;
}

/* Few bits vary, so that networks lie in each other. */
static struct rl_ip random_ip(uint64_t *seed)
{
	struct rl_ip ip = {.bits = t_below(seed, 2) ? RL_IP4_BITS : RL_IP6_BITS};

	for (uint32_t b = 0; b < ip.bits / 8u; b++)
		ip.bytes[b] = (uint8_t)(t_below(seed, 3) == 0);
	ip.prefix = ip.bits;
	return ip;
}

static void test_lists__any_networks_are_found_as_a_comparison_of_bits_finds_them(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int round = 0; round < 200; round++) {
		begin(RL_SLIDING, 5);
		for (uint32_t i = 0; i < 40; i++) {
			bool again = false;

			item[i] = (struct rl_list_item){.verdict = RL_VERDICT_OTHER,
							.net = random_ip(&seed),
							.terms = {100 + i, HOUR_NS}};
			rl_ip_mask(&item[i].net, (uint32_t)t_below(&seed, item[i].net.bits + 1u));
			for (uint32_t k = 0; k < i; k++)
				again |= memcmp(&item[k].net, &item[i].net, sizeof(item[k].net)) ==
					 0;
			if (again)
				i--;
		}
		items = 40;
		publish();
		for (int k = 0; k < 50; k++) {
			struct rl_ip ip = random_ip(&seed);
			uint32_t want = 5, longest = 0;
			struct rl_result result;
			char text[RL_IP_TEXT];

			for (size_t i = 0; i < items; i++)
				if (inside(&ip, &item[i].net) &&
				    item[i].net.prefix + 1u > longest) {
					longest = item[i].net.prefix + 1u;
					want = item[i].terms.limit;
				}
			rl_ip_format(&ip, text);
			assert_true(rl_peek(client, rule(), text, strlen(text), 1, &result) >= 0);
			assert_int_equal(result.limit, want);
		}
	}
}

static void test_lists__more_than_there_is_room_for_are_refused_and_the_old_rules_stay(void **state)
{
	static struct rl_list_item many[MOST + 1];
	static char name[MOST + 1][8];
	uint32_t by;
	size_t other;

	(void)state;
	list("k", RL_VERDICT_DENY, 0);
	publish();
	for (size_t i = 0; i <= MOST; i++) {
		snprintf(name[i], sizeof(name[i]), "k%zu", i);
		many[i] = (struct rl_list_item){
			.verdict = RL_VERDICT_ALLOW, .key = name[i], .key_len = strlen(name[i])};
	}
	spec.list = many;
	spec.list_count = MOST + 1;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), RL_E_LISTS);
	assert_int_equal(passed("k", 3, &by), 0);
	assert_int_equal(passed("k1", 9, &by), 5);
	spec.list_count = MOST;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	for (size_t i = 0; i < MOST; i++)
		assert_int_equal(passed(name[i], 9, &by), 9);
}

static void test_lists__damaged_entries_are_none(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	list("k", RL_VERDICT_OTHER, 50);
	publish();
	for (int i = 0; i < 20000; i++) {
		struct rl_result result;
		uint64_t at = 0;

		while (t.seg.lists[at].id[0] == 0)
			at = (at + 1) % (2 * t.seg.view.list_slots);
		t.seg.lists[at].terms = t_random(&seed) >> t_below(&seed, 64);
		t.seg.lists[at].window = t_random(&seed) >> t_below(&seed, 64);
		assert_true(rl_peek(client, rule(), "k", 1, 1, &result) >= 0);
		assert_true(result.limit >= 1 && result.window_ns >= RL_WINDOW_MIN_NS);
	}
}

/* An entry that ends so many seconds from now, counted as the segment does. */
static void list_until(const char *text, enum rl_verdict verdict, uint32_t limit, int64_t in_s)
{
	list(text, verdict, limit);
	item[items - 1].burst = 0;
	item[items - 1].until_s =
		(uint32_t)((int64_t)(rl_clock_precise_ns() / RL_SECOND_NS) + in_s);
}

static void test_lists__block_refuses_until_its_end_and_says_when_that_is(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	list_until("bad", RL_VERDICT_BLOCK, 0, 1000);
	publish();
	assert_int_equal(passed("bad", 3, &by), 0);
	assert_int_equal(by, RL_BY_BLOCK);
	assert_int_equal(check("bad", &result), RL_LIMITED);
	assert_in_range(result.retry_after_ns, 990 * RL_SECOND_NS, 1000 * RL_SECOND_NS);
	assert_int_equal(rl_peek(client, rule(), "bad", 3, 1, &result), RL_LIMITED);
	assert_int_equal(result.decided_by, RL_BY_BLOCK);
	assert_int_equal(passed("other", 9, &by), 5);
	begin(RL_SLIDING, 5);
	list_until("bad", RL_VERDICT_BLOCK, 0, 0); /* over, and no agent has taken it out */
	publish();
	assert_int_equal(passed("bad", 9, &by), 5);
	assert_int_equal(by, RL_BY_WINDOW);
}

static void test_lists__last_second_of_a_block_is_a_whole_one(void **state)
{
	struct rl_result result;
	uint64_t end_ns;

	(void)state;
	list_until("bad", RL_VERDICT_BLOCK, 0, 2);
	end_ns = item[0].until_s * RL_SECOND_NS;
	publish();
	do
		assert_int_equal(check("bad", &result), RL_LIMITED);
	while (rl_clock_precise_ns() + 100000000 < end_ns);
	while (rl_clock_precise_ns() < end_ns)
		;
	assert_int_equal(check("bad", &result), RL_ALLOWED);
}

static void test_lists__of_one_key_the_first_entry_that_has_not_ended_decides(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	list_until("k", RL_VERDICT_BLOCK, 0, 0);
	list_until("k", RL_VERDICT_UNTIL, 9, 0);
	list_until("k", RL_VERDICT_UNTIL, 7, 1000);
	list("k", RL_VERDICT_OTHER, 2);
	publish();
	assert_int_equal(passed("k", 20, &by), 7);
	assert_int_equal(by, RL_BY_WINDOW);
	assert_int_equal(check("k", &result), RL_LIMITED);
	assert_int_equal(result.limit, 7);
	item[2].until_s = 1;
	publish();
	assert_int_equal(check("k", &result), RL_LIMITED);
	assert_int_equal(result.limit, 2); /* the file's again */
}

static void test_lists__temporary_limit_leaves_the_rules_burst(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	begin(TOKEN_BUCKET, 5);
	spec.burst = 3;
	list_until("k", RL_VERDICT_UNTIL, 20, 1000);
	publish();
	assert_int_equal(passed("other", 9, &by), 3);
	assert_int_equal(check("k", &result), RL_ALLOWED);
	assert_int_equal(result.limit, 20);
}

static void test_lists__shadow_counts_and_lets_pass(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	begin(RL_SLIDING, 5);
	list("bad", RL_VERDICT_DENY, 0);
	spec.shadow_ppm = 1000000;
	publish();
	assert_int_equal(passed("k", 5, &by), 5);
	assert_int_equal(by, RL_BY_WINDOW);
	assert_int_equal(passed("k", 20, &by), 20);
	assert_int_equal(by, RL_BY_SHADOW);
	assert_int_equal(check("k", &result), RL_ALLOWED);
	assert_true(result.retry_after_ns > HOUR_NS - 60 * RL_SECOND_NS);
	assert_int_equal(result.ticket[0], 0);
	assert_int_equal(check("bad", &result), RL_ALLOWED);
	assert_int_equal(result.decided_by, RL_BY_SHADOW);
	assert_int_equal(rl_peek(client, rule(), "k", 1, 1, &result), RL_ALLOWED);
	assert_int_equal(result.decided_by, RL_BY_SHADOW);
	spec.shadow_ppm = 0;
	publish();
	assert_int_equal(passed("k", 20, &by), 0); /* what was counted counts */
}

static void test_lists__part_of_the_keys_is_enforced_and_always_the_same_part(void **state)
{
	static const uint32_t percent[] = {1, 10, 50, 99};
	static bool was[4][4000];

	(void)state;
	for (int p = 0; p < 4; p++) {
		uint32_t enforced = 0;

		begin(RL_SLIDING, 1);
		spec.shadow_ppm = 1000000 - percent[p] * 10000;
		publish();
		for (int i = 0; i < 4000; i++) {
			struct rl_result result;
			char key[16];

			snprintf(key, sizeof(key), "%d", i);
			if (p == 0)
				assert_int_equal(check(key, NULL), RL_ALLOWED);
			was[p][i] = check(key, &result) == RL_LIMITED;
			enforced += was[p][i];
			if (p > 0 && was[p - 1][i])
				assert_true(was[p][i]);
		}
		assert_in_range(enforced, 40 * percent[p] * 7 / 10, 40 * percent[p] * 13 / 10);
	}
}

static void test_lists__switched_off_passes_and_counts_nothing_until_switched_on(void **state)
{
	struct rl_result result;
	uint32_t by;

	(void)state;
	list("bad", RL_VERDICT_DENY, 0);
	publish();
	assert_int_equal(passed("k", 3, &by), 3);
	assert_int_equal(rl_rules_switch(&t.seg, rl_hash_rule("r"), false), 0);
	assert_int_equal(passed("k", 20, &by), 20);
	assert_int_equal(by, RL_BY_OFF);
	assert_int_equal(passed("bad", 2, &by), 2);
	assert_int_equal(rl_peek(client, rule(), "k", 1, 1, &result), RL_ALLOWED);
	assert_int_equal(result.decided_by, RL_BY_OFF);
	publish(); /* a reload does not switch it on, nor does the other switch */
	assert_int_equal(rl_rules_switch(&t.seg, 0, false), 0);
	assert_int_equal(rl_rules_switch(&t.seg, 0, true), 0);
	assert_int_equal(passed("k", 20, &by), 20);
	assert_int_equal(rl_rules_switch(&t.seg, rl_hash_rule("r"), true), 0);
	assert_int_equal(passed("k", 20, &by), 2);
	assert_int_equal(passed("bad", 2, &by), 0);
	assert_int_equal(rl_rules_switch(&t.seg, rl_hash_rule("none"), false), RL_E_RULE);
	assert_int_equal(rl_rules_switch(&t.seg, 0, false), 0);
	begin(RL_SLIDING, 1); /* also of rules that come later */
	publish();
	assert_int_equal(passed("new", 20, &by), 20);
	assert_int_equal(rl_rules_switch(&t.seg, 0, true), 0);
	assert_int_equal(passed("new", 20, &by), 1);
}

static void test_lists__several_rules_go_by_them_too(void **state)
{
	struct rl_ask ask[2];

	(void)state;
	list("bad", RL_VERDICT_DENY, 0);
	list("good", RL_VERDICT_ALLOW, 0);
	publish();
	ask[0] = (struct rl_ask){.rule = rule(), .key = "k", .key_len = 1, .cost = 1};
	ask[1] = (struct rl_ask){.rule = rule(), .key = "bad", .key_len = 3, .cost = 1};
	assert_int_equal(rl_check_all(client, ask, 2), RL_LIMITED);
	assert_int_equal(rl_table_used(&t.seg.view), 0);
	ask[1].key = "good";
	ask[1].key_len = 4;
	assert_int_equal(rl_check_all(client, ask, 2), RL_ALLOWED);
	assert_int_equal(ask[1].result.decided_by, RL_BY_LIST);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lists__allowed_pass_denied_do_not_and_neither_is_counted),
		TEST(test_lists__most_specific_entry_decides),
		TEST(test_lists__override_counts_by_its_own_limit_under_every_algorithm),
		TEST(test_lists__a_refund_goes_by_the_override),
		TEST(test_lists__any_networks_are_found_as_a_comparison_of_bits_finds_them),
		TEST(test_lists__more_than_there_is_room_for_are_refused_and_the_old_rules_stay),
		TEST(test_lists__damaged_entries_are_none),
		TEST(test_lists__block_refuses_until_its_end_and_says_when_that_is),
		TEST(test_lists__last_second_of_a_block_is_a_whole_one),
		TEST(test_lists__of_one_key_the_first_entry_that_has_not_ended_decides),
		TEST(test_lists__temporary_limit_leaves_the_rules_burst),
		TEST(test_lists__shadow_counts_and_lets_pass),
		TEST(test_lists__part_of_the_keys_is_enforced_and_always_the_same_part),
		TEST(test_lists__switched_off_passes_and_counts_nothing_until_switched_on),
		TEST(test_lists__several_rules_go_by_them_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
