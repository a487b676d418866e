/*
 * Goal:   what a segment holds goes on in the one that takes its place: counts of every algorithm,
 *         blocks, and of rules that hosts share what they were not told yet; and no unit of credit
 *         is spent in both.
 * Method: two segments in one process, the test in the place of the agent; one thread that spends
 * in the old one while it is carried ($SEED).
 */
#include "tests/shared_key.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_carry.h"
#include "shm/rl_check.h"
#include "shm/rl_error.h"
#include "shm/rl_member.h"

#define HOUR_NS (3600 * RL_SECOND_NS)

static struct t_seg old, fresh;
static char old_name[128];
static struct rl_client *before, *after;

static const struct rl_list_item vip = {
	.verdict = RL_VERDICT_OTHER, .key = "vip", .key_len = 3, .terms = {40, HOUR_NS}};
static const struct rl_rule_spec rules[] = {
	{.name = "few", .terms = {5, HOUR_NS}, .list = &vip, .list_count = 1},
	{.name = "many", .terms = {1000, HOUR_NS}},
	{.name = "fixed", .terms = {100, 24 * HOUR_NS}, .algorithm = 1},
	{.name = "tokens", .terms = {100, HOUR_NS}, .algorithm = 2, .burst = 50},
	{.name = "leaky", .terms = {100, HOUR_NS}, .algorithm = 3, .burst = 50},
	{.name = "held", .terms = {5, 0}, .algorithm = RL_CONCURRENCY},
	{.name = "shared", .terms = {100000, HOUR_NS}, .fleet = {.consistency = RL_STRICT}},
};
enum { RULES = sizeof(rules) / sizeof(rules[0]) };

static int setup(void **state)
{
	struct rl_segment_spec spec = {.keys = 1000, .mode = 0600};
	size_t other;

	(void)state;
	t_seg_make(&old, 1000);
	snprintf(old_name, sizeof(old_name), "%s.before", old.path); /* the other has the same */
	assert_int_equal(link(old.path, old_name), 0);
	assert_int_equal(rl_rules_publish(&old.seg, rules, RULES, &other), 0);
	before = t_attach(&old);
	spec.hash_key = old.seg.view.hash_key;
	t_seg_make_as(&fresh, &spec);
	assert_int_equal(rl_rules_publish(&fresh.seg, rules, RULES, &other), 0);
	after = t_attach(&fresh);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(before);
	rl_detach(after);
	unlink(old_name);
	t_seg_drop(&old);
	t_seg_drop(&fresh);
	return 0;
}

static int check(struct rl_client *client, const char *rule, const char *key)
{
	return rl_check(client, t_client_rule(client, rule), key, strlen(key), 1, 0, NULL);
}

static uint32_t admitted(struct rl_client *client, const char *rule, const char *key, uint32_t most)
{
	uint32_t units = 0;

	while (units < most && check(client, rule, key) == RL_ALLOWED)
		units++;
	return units;
}

/* All of it; how many keys. */
static unsigned carry(void)
{
	unsigned carried = 0;

	rl_carry_fleet(&old.seg, &fresh.seg);
	rl_carry_rules(&old.seg.view, &fresh.seg);
	for (int kind = RL_CARRY_POOL; kind <= RL_CARRY_KEY; kind++)
		for (uint64_t i = 0; i < old.seg.view.slot_count; i++)
			if (rl_carry_kind(&old.seg.view, i) == (enum rl_carried)kind)
				carried += rl_carry_slot(&old.seg, i, &fresh.seg) == 1;
	return carried;
}

/* A slot of a shared rule, fresh, with so much credit, in the old segment. */
static void share(struct shared_key *k, uint32_t credit)
{
	memset(k, 0, sizeof(*k));
	k->t = old;
	assert_int_equal(rl_rules_find(&old.seg.view, "shared", &k->handle), 0);
	assert_int_equal(rl_rules_read(&old.seg.view, k->handle, &k->rule), 0);
	shared_open(k, "k", 1);
	shared_fresh(k, 1, rl_clock_precise_ns());
	shared_give(k, credit);
}

/* Where the same key lies in the new one. */
static uint64_t carried_to(const struct shared_key *k)
{
	struct shared_key there = *k;

	there.t = fresh;
	return shared_find(&there, "k", 1);
}

static void test_carry__keys_of_every_algorithm_go_on(void **state)
{
	static const char *const names[] = {"few", "many", "fixed", "tokens", "leaky"};
	char longest[1024];

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t r = 0; r < sizeof(names) / sizeof(names[0]); r++) {
		assert_int_equal(admitted(before, names[r], "k", 3), 3);
		assert_int_equal(admitted(before, names[r], longest, 4), 4);
	}
	assert_int_equal(carry(), 10);
	assert_int_equal(admitted(after, "few", "k", 9), 2);
	assert_int_equal(admitted(after, "few", longest, 9), 1);
	assert_int_equal(admitted(after, "many", "k", 2000), 997);
	assert_int_equal(admitted(after, "fixed", "k", 200), 97);
	assert_int_equal(admitted(after, "tokens", longest, 200), 46);
	assert_int_equal(admitted(after, "leaky", "k", 200), 48);
}

static void test_carry__block_switch_and_numbers_stay(void **state)
{
	struct rl_rule_totals totals;
	uint64_t handle = t_client_rule(before, "few");

	(void)state;
	assert_int_equal(admitted(before, "few", "k", 9), 5);
	assert_int_equal(rl_block(before, handle, "eve", 3, 60 * RL_SECOND_NS), 0);
	assert_int_equal(
		rl_rules_switch(&old.seg, rl_pair_high(t_rule(&old.seg.view, "many")), false), 0);
	carry();
	assert_int_equal(check(after, "few", "eve"), RL_LIMITED);
	assert_int_equal(admitted(after, "many", "k", 3000), 3000);
	rl_member_rule_totals(&fresh.seg.view, rl_pair_low(t_rule(&fresh.seg.view, "few")),
			      rl_pair_high(handle), &totals);
	assert_int_equal(totals.allowed, 5);
	assert_int_equal(totals.limited, 2);
}

static void test_carry__all_rules_off_stay_off(void **state)
{
	(void)state;
	assert_int_equal(rl_rules_switch(&old.seg, 0, false), 0);
	carry();
	assert_int_equal(admitted(after, "few", "k", 100), 100);
}

static void test_carry__rule_that_left_and_requests_in_flight_are_left_out(void **state)
{
	struct shared_key k;
	size_t other;

	(void)state;
	assert_int_equal(check(before, "few", "k"), RL_ALLOWED);
	share(&k, 0);
	assert_int_equal(rl_rules_publish(&fresh.seg, rules + 1, 1, &other), 0);
	assert_int_equal(carry(), 0);
}

/* The call under way, what was not told, the group's stamps; not the credit. */
static void test_carry__shared_key_is_in_the_same_call_and_owes_the_same(void **state)
{
	struct shared_key k;
	struct rl_slot *slot;
	struct rl_side *side;
	uint64_t to;

	(void)state;
	share(&k, 9);
	assert_int_equal(admitted(before, "shared", "k", 4), 4);
	shared_side(&k)->acked |= RL_TRACKED;
	shared_side(&k)->infl = shared_slot(&k)->head | RL_INFL_VALID;
	shared_side(&k)->total = 77;
	shared_side(&k)->debt = 3;
	shared_part(&k)->seq = 41;
	shared_part(&k)->nonce = 42;
	old.seg.fleet->epoch = 43;
	carry();
	to = carried_to(&k);
	assert_int_not_equal(to, RL_NO_SLOT);
	slot = &fresh.seg.slot[to];
	side = &fresh.seg.side[to];
	assert_int_equal(rl_head_n(slot->head), shared_n(&k));
	assert_int_equal(rl_head_credit(slot->head), 0);
	assert_int_equal(side->infl, shared_side(&k)->infl);
	assert_int_equal(side->acked, shared_side(&k)->acked);
	assert_int_equal(side->total, 77);
	assert_int_equal(side->debt, 3);
	assert_memory_equal(slot->ring, shared_slot(&k)->ring, sizeof(slot->ring));
	assert_int_equal(fresh.seg.fleet->epoch, 43);
	assert_int_equal(fresh.seg.fleet->part[rl_hint_part(slot->hint)].seq, 41);
	assert_int_equal(fresh.seg.fleet->part[rl_hint_part(slot->hint)].nonce, 42);
	assert_int_equal(fresh.seg.fleet->part[rl_hint_part(slot->hint)].lease_until_ns, 0);
	assert_int_equal(shared_credit(&k), 0);
	assert_int_equal(check(before, "shared", "k"), RL_LIMITED);
}

/* A grant bit that is turned over says that a grant was added: it must not be added again. */
static void test_carry__grant_that_was_added_is_known_to_be(void **state)
{
	struct shared_key k;

	(void)state;
	share(&k, 5);
	shared_slot(&k)->head ^= RL_HEAD_GRANT;
	carry();
	assert_true((fresh.seg.slot[carried_to(&k)].head & RL_HEAD_GRANT) != 0);
}

/* The file of the old segment as layout 5 had it: without what layout 6 has before the lists. */
static void make_layout_5(void)
{
	struct rl_hdr *hdr = (struct rl_hdr *)((char *)old.seg.live - sizeof(struct rl_hdr));
	struct rl_hdr was = *hdr;
	size_t rest = was.total_size - was.lists_off;
	char *base = (char *)hdr;

	hdr->abi_major = 5;
	rl_segment_lay_out(hdr, was.bucket_count, was.list_slots);
	assert_true(hdr->lists_off < was.lists_off);
	memmove(base + hdr->lists_off, base + was.lists_off, rest);
}

static void test_carry__segment_of_layout_5_is_read_where_it_has_its_parts(void **state)
{
	struct t_seg mapped = old;
	char why[RL_WHY_MAX] = "";
	struct rl_seg seg;

	(void)state;
	assert_int_equal(admitted(before, "few", "k", 3), 3);
	assert_int_equal(admitted(before, "few", "vip", 9), 9);
	assert_int_equal(admitted(before, "fixed", "k", 4), 4);
	make_layout_5();
	assert_int_equal(rl_segment_abi(old_name), 5);
	assert_int_equal(rl_segment_attach(old_name, &seg, why), RL_E_ABI);
	assert_int_equal(rl_segment_attach_older(old_name, &old.seg, why), 0);
	assert_int_equal(carry(), 3);
	assert_int_equal(admitted(after, "few", "k", 9), 2);
	assert_int_equal(admitted(after, "few", "vip", 99), 31);
	assert_int_equal(admitted(after, "fixed", "k", 200), 96);
	rl_segment_detach(&old.seg);
	old.seg = mapped.seg;
}

static void test_carry__only_earlier_layouts_are_read_so(void **state)
{
	struct rl_hdr *hdr = (struct rl_hdr *)((char *)old.seg.live - sizeof(struct rl_hdr));
	char why[RL_WHY_MAX] = "";
	struct rl_seg seg;

	(void)state;
	assert_int_equal(rl_segment_attach_older(old_name, &seg, why), RL_E_ABI);
	hdr->abi_major = RL_ABI_OLDEST - 1;
	assert_int_equal(rl_segment_attach_older(old_name, &seg, why), RL_E_ABI);
	hdr->abi_major = RL_ABI_MAJOR + 1;
	assert_int_equal(rl_segment_attach_older(old_name, &seg, why), RL_E_ABI);
	hdr->abi_major = RL_ABI_MAJOR - 1; /* of whose layout it is not */
	assert_int_equal(rl_segment_attach_older(old_name, &seg, why), RL_E_SIZES);
	hdr->abi_major = RL_ABI_MAJOR;
}

struct spender {
	struct rl_client *client;
	uint64_t handle;
	_Atomic bool ending;
};

static void *spend(void *arg)
{
	struct spender *spender = arg;

	while (!spender->ending)
		rl_check(spender->client, spender->handle, "k", 1, 1, 0, NULL);
	return NULL;
}

static void test_carry__no_unit_is_spent_in_the_old_segment_that_the_new_does_not_know(void **state)
{
	struct spender spender = {.client = before, .handle = t_client_rule(before, "shared")};
	struct shared_key k;
	pthread_t thread;
	uint64_t seed = t_seed(), n;

	(void)state;
	share(&k, 100000);
	assert_int_equal(pthread_create(&thread, NULL, spend, &spender), 0);
	for (uint64_t n_begun = shared_n(&k); shared_n(&k) == n_begun;)
		;
	for (uint64_t i = t_below(&seed, 100000); i > 0; i--)
		atomic_thread_fence(memory_order_seq_cst);
	carry();
	n = shared_n(&k);
	for (int i = 0; i < 100000; i++)
		atomic_thread_fence(memory_order_seq_cst);
	spender.ending = true;
	pthread_join(thread, NULL);
	assert_int_equal(shared_n(&k), n);
	assert_int_equal(rl_head_n(fresh.seg.slot[carried_to(&k)].head), n);
}

static void test_carry__lowered_rule_admits_less_at_the_next_check(void **state)
{
	const struct rl_bucket_terms most = {.limit = 40, .burst = 20, .delay = 0};
	static const char *const names[] = {"many", "fixed", "tokens", "leaky"};
	static const uint32_t left[] = {37, 37, 17, 18};

	(void)state;
	for (size_t r = 0; r < sizeof(names) / sizeof(names[0]); r++) {
		assert_int_equal(admitted(before, names[r], "k", 3), 3);
		assert_int_equal(rl_rules_lower(&old.seg,
						rl_pair_high(t_rule(&old.seg.view, names[r])),
						&most),
				 0);
		assert_int_equal(admitted(before, names[r], "k", 2000), left[r]);
	}
	/* Never raised by it. */
	assert_int_equal(
		rl_rules_lower(&old.seg, rl_pair_high(t_rule(&old.seg.view, "few")), &most), 0);
	assert_int_equal(admitted(before, "few", "k", 100), 5);
	assert_int_equal(rl_rules_lower(&old.seg, 12345, &most), RL_E_RULE);
	rl_rules_halve_overrides(&old.seg);
	assert_int_equal(admitted(before, "few", "vip", 100), 20);
}

/* It would fill by the old one's rate for ever, as there is no sweep any more. */
static void test_carry__bucket_of_a_lowered_rule_fills_by_the_lower_rate_in_both(void **state)
{
	const struct rl_bucket_terms most = {.limit = 50, .burst = 50, .delay = 0};
	struct rl_result result;

	(void)state;
	assert_int_equal(admitted(before, "tokens", "k", 9), 9);
	rl_rules_lower(&old.seg, rl_pair_high(t_rule(&old.seg.view, "tokens")), &most);
	assert_int_equal(carry(), 1);
	assert_int_equal(admitted(before, "tokens", "k", 100), 41);
	assert_int_equal(rl_check(before, t_client_rule(before, "tokens"), "k", 1, 1, 0, &result),
			 RL_LIMITED);
	assert_in_range(result.retry_after_ns, HOUR_NS / 60, HOUR_NS / 50);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_carry__keys_of_every_algorithm_go_on),
		TEST(test_carry__block_switch_and_numbers_stay),
		TEST(test_carry__all_rules_off_stay_off),
		TEST(test_carry__rule_that_left_and_requests_in_flight_are_left_out),
		TEST(test_carry__shared_key_is_in_the_same_call_and_owes_the_same),
		TEST(test_carry__grant_that_was_added_is_known_to_be),
		TEST(test_carry__segment_of_layout_5_is_read_where_it_has_its_parts),
		TEST(test_carry__only_earlier_layouts_are_read_so),
		TEST(test_carry__no_unit_is_spent_in_the_old_segment_that_the_new_does_not_know),
		TEST(test_carry__lowered_rule_admits_less_at_the_next_check),
		TEST(test_carry__bucket_of_a_lowered_rule_fills_by_the_lower_rate_in_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
