/*
 * Goal:   each answer moves the counter of its kind under its rule, by what it should, and no
 * other; nothing is lost or double when processes die, rules go and come, or all members are taken;
 *         one check in 1,024 is timed.
 * Method: the public functions on a segment made by the test, all sums held against what was asked.
 */
#include "tests/shared_key.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_member.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define HOUR_NS (3600 * RL_SECOND_NS)

static struct t_seg t;
static struct rl_client *client;
static struct rl_rule_spec spec;
static struct rl_list_item item[2];

static void publish(void)
{
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
}

static int setup_as(bool given)
{
	const struct rl_segment_spec segment = {
		.keys = 200, .mode = 0660, .list_entries = 16, .clock_given = given};

	t_seg_make_as(&t, &segment);
	client = t_attach(&t);
	spec = (struct rl_rule_spec){.name = "r", .terms = {20, HOUR_NS}};
	publish();
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_as(false);
}

static int setup_given(void **state)
{
	(void)state;
	return setup_as(true);
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

static int check(const char *rule, const char *key, uint32_t cost, struct rl_result *result)
{
	return rl_check(client, t_rule(&t.seg.view, rule), key, strlen(key), cost, 0, result);
}

static int ask(const char *key, uint32_t cost)
{
	return check("r", key, cost, NULL);
}

static struct rl_rule_totals totals_of(const char *name)
{
	struct rl_rule_totals totals;
	struct rl_rule rule;

	assert_int_equal(rl_rules_read(&t.seg.view, t_rule(&t.seg.view, name), &rule), 0);
	rl_member_rule_totals(&t.seg.view, rule.index, rule.id, &totals);
	return totals;
}

static struct rl_totals totals(void)
{
	struct rl_totals sums;

	rl_member_totals(&t.seg.view, &sums);
	return sums;
}

/* Counted under the rule, and, as there is no other, in all. */
static void counted(struct rl_rule_totals want)
{
	struct rl_rule_totals got = totals_of("r");
	struct rl_totals all = totals();

	assert_memory_equal(&got, &want, sizeof(want));
	assert_memory_equal(&all.rule, &want, sizeof(want));
	assert_int_equal(all.allowed, want.allowed);
	assert_int_equal(all.limited, want.limited);
	assert_int_equal(all.errors, want.errors);
}

static void test_member__admits_count_units_and_refusals_checks(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(ask("bob", 3), RL_ALLOWED);
	assert_int_equal(check("r", "bob", 1, &result), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 4});
	assert_int_equal(ask("bob", 17), RL_LIMITED);
	assert_int_equal(rl_peek(client, t_rule(&t.seg.view, "r"), "bob", 3, 17, &result),
			 RL_LIMITED);
	assert_int_equal(rl_peek(client, t_rule(&t.seg.view, "r"), "bob", 3, 1, &result),
			 RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 4, .limited = 1});
}

static void test_member__near_is_less_than_a_tenth_left(void **state)
{
	struct rl_result result;

	(void)state;
	assert_int_equal(ask("bob", 17), RL_ALLOWED);
	assert_int_equal(check("r", "bob", 1, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 2); /* a tenth */
	counted((struct rl_rule_totals){.allowed = 18});
	assert_int_equal(check("r", "bob", 1, &result), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 19, .near = 1});
	assert_int_equal(check("r", "bob", 1, &result), RL_ALLOWED);
	assert_int_equal(check("r", "bob", 1, &result), RL_LIMITED);
	counted((struct rl_rule_totals){.allowed = 20, .limited = 1, .near = 2});
	assert_int_equal(ask("eve", 19), RL_ALLOWED);
	assert_int_equal(ask("joe", 18), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 57, .limited = 1, .near = 3});
}

static void test_member__errors_count_under_their_rule_and_without_one(void **state)
{
	uint64_t nobody = rl_pair(4711, 0);

	(void)state;
	assert_int_equal(ask("bob", 21), RL_ERR_COST);
	counted((struct rl_rule_totals){.errors = 1});
	assert_int_equal(rl_check(client, nobody, "bob", 3, 1, 0, NULL), RL_ERR_RULE);
	assert_int_equal(totals_of("r").errors, 1);
	assert_int_equal(totals().errors, 2);
	assert_int_equal(rl_check(client, nobody, "", 0, 1, 0, NULL), -22); /* was not asked */
	assert_int_equal(totals().errors, 2);
}

static void test_member__switched_off_rule_counts_what_passes(void **state)
{
	(void)state;
	for (uint32_t all = 0; all < 2; all++) {
		uint64_t id = t_rule(&t.seg.view, "r") >> 32;

		rl_rules_switch(&t.seg, all ? 0 : (uint32_t)id, false);
		assert_int_equal(ask("bob", 21), RL_ALLOWED);
		rl_rules_switch(&t.seg, all ? 0 : (uint32_t)id, true);
		counted((struct rl_rule_totals){.allowed = 21 * (all + 1)});
	}
}

static void test_member__lists_count_as_they_answer(void **state)
{
	(void)state;
	item[0] = (struct rl_list_item){.verdict = RL_VERDICT_ALLOW, .key = "friend", .key_len = 6};
	item[1] = (struct rl_list_item){.verdict = RL_VERDICT_DENY, .key = "foe", .key_len = 3};
	spec.list = item;
	spec.list_count = 2;
	publish();
	assert_int_equal(ask("friend", 2), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 2});
	assert_int_equal(ask("foe", 2), RL_LIMITED);
	counted((struct rl_rule_totals){.allowed = 2, .limited = 1});
	assert_int_equal(ask("bob", 19), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 21, .limited = 1, .near = 1});
	item[1].verdict = RL_VERDICT_OTHER;
	item[1].terms = (struct rl_terms){40, HOUR_NS};
	publish();
	assert_int_equal(ask("foe", 36), RL_ALLOWED); /* a tenth of its own limit is left */
	counted((struct rl_rule_totals){.allowed = 57, .limited = 1, .near = 1});
	assert_int_equal(ask("foe", 1), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 58, .limited = 1, .near = 2});
}

static void test_member__shadow_counts_what_it_lets_pass_apart(void **state)
{
	(void)state;
	spec.shadow_ppm = 1000000;
	publish();
	assert_int_equal(ask("bob", 19), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 19, .near = 1});
	assert_int_equal(ask("bob", 2), RL_ALLOWED);
	counted((struct rl_rule_totals){.allowed = 19, .near = 1, .limited = 1, .shadowed = 1});
	assert_int_equal(ask("bob", 21), RL_ERR_COST);
	counted((struct rl_rule_totals){
		.allowed = 19, .near = 1, .limited = 1, .shadowed = 1, .errors = 1});
}

static void test_member__every_algorithm_counts(void **state)
{
	(void)state;
	for (uint32_t a = 1; a < rl_algorithm_count(); a++) {
		char name[16];
		struct rl_rule_totals got;
		uint32_t most;

		snprintf(name, sizeof(name), "a%u", a);
		spec = (struct rl_rule_spec){.terms = {10, HOUR_NS}, .algorithm = (uint8_t)a};
		if ((rl_algorithm_options(a) & RL_OPTION_BURST) != 0)
			spec.burst = 40;
		memcpy(spec.name, name, strlen(name));
		publish();
		most = rl_algorithm_most(a, 10, spec.burst);
		assert_int_equal(check(name, "bob", most - most / 10 - 1, NULL), RL_ALLOWED);
		assert_int_equal(totals_of(name).near, 0);
		assert_int_equal(check(name, "bob", 2, NULL), RL_ALLOWED);
		assert_int_equal(check(name, "bob", most, NULL), RL_LIMITED);
		assert_int_equal(check(name, "bob", most + 1, NULL), RL_ERR_COST);
		got = totals_of(name);
		assert_int_equal(got.allowed, most - most / 10 + 1);
		assert_int_equal(got.near, 1);
		assert_int_equal(got.limited, 1);
		assert_int_equal(got.errors, 1);
	}
}

static void test_member__blocked_key_is_limited_and_a_refund_is_counted(void **state)
{
	uint64_t rule = t_rule(&t.seg.view, "r");
	struct rl_result result;

	(void)state;
	assert_int_equal(check("r", "bob", 1, &result), RL_ALLOWED);
	assert_int_equal(rl_refund(client, rule, &result), RL_REFUNDED);
	assert_int_equal(rl_refund(client, rule, &result), RL_KEPT);
	counted((struct rl_rule_totals){.allowed = 1, .refunded = 1});
	assert_int_equal(rl_block(client, rule, "bob", 3, HOUR_NS), 0);
	assert_int_equal(ask("bob", 1), RL_LIMITED);
	counted((struct rl_rule_totals){.allowed = 1, .refunded = 1, .limited = 1});
}

static void test_member__given_clock_counts(void **state)
{
	uint64_t rule = t_rule(&t.seg.view, "r");
	struct rl_result result;

	(void)state;
	assert_int_equal(rl_check_at(client, rule, "bob", 3, 19, RL_DAY_NS, &result), RL_ALLOWED);
	assert_int_equal(rl_check_at(client, rule, "bob", 3, 2, RL_DAY_NS, &result), RL_LIMITED);
	counted((struct rl_rule_totals){.allowed = 19, .near = 1, .limited = 1});
	assert_int_equal(ask("bob", 1), RL_ERR_CLOCK);
	counted((struct rl_rule_totals){.allowed = 19, .near = 1, .limited = 1, .errors = 1});
}

static struct rl_ask part_of(const char *rule, const char *key, uint32_t cost)
{
	return (struct rl_ask){.rule = t_rule(&t.seg.view, rule),
			       .key = key,
			       .key_len = strlen(key),
			       .cost = cost};
}

static void test_member__of_several_rules_the_one_that_refuses_counts(void **state)
{
	struct rl_ask both[2];

	(void)state;
	t_rules(&t.seg, 2, "r 20/h", "narrow 1/h");
	for (int i = 0; i < 3; i++) {
		both[0] = part_of("r", "bob", 1);
		both[1] = part_of("narrow", "bob", 1);
		assert_int_equal(rl_check_all(client, both, 2), i == 0 ? RL_ALLOWED : RL_LIMITED);
	}
	assert_int_equal(totals_of("r").allowed, 1);
	assert_int_equal(totals_of("r").limited, 0);
	assert_int_equal(totals_of("narrow").allowed, 1);
	assert_int_equal(totals_of("narrow").limited, 2);
	both[1] = part_of("narrow", "bob", 2);
	assert_int_equal(rl_check_all(client, both, 2), RL_ERR_COST);
	assert_int_equal(totals_of("narrow").errors, 1);
	assert_int_equal(totals_of("r").errors, 0);
	both[0] = part_of("r", "eve", 1);
	both[1] = part_of("narrow", "bob", 1);
	assert_int_equal(rl_check_batch(client, both, 2), 1);
	assert_int_equal(totals_of("r").allowed, 2);
	assert_int_equal(totals_of("narrow").limited, 3);
}

static uint64_t shared_near(const struct shared_key *k)
{
	struct rl_rule_totals got;

	rl_member_rule_totals(&k->t.seg.view, k->rule.index, k->rule.id, &got);
	return got.near;
}

static void shared_checks(struct shared_key *k, int count)
{
	struct rl_answer answer;

	for (int i = 0; i < count; i++)
		assert_int_equal(rl_check_spend(&k->t.seg, &k->t.seg.member[0], k->handle, "k", 1,
						1, 0, &answer),
				 1);
}

static void test_member__shared_rule_is_near_by_what_the_fleet_has_left(void **state)
{
	static const struct rl_fleet_terms strict = {RL_STRICT, RL_NO_CREDIT_DENY, RL_OWN, 0, 0};
	static struct shared_key k;
	uint64_t now_ns = rl_clock_coarse_ns();

	(void)state;
	shared_key_make(&k, "100/h", strict, now_ns);
	shared_give(&k, 50);
	shared_side(&k)->total = rl_total(now_ns, 80); /* to a unit: it fades */
	shared_checks(&k, 8);
	assert_int_equal(shared_near(&k), 0); /* of its credit little is left, of the limit 11 */
	shared_checks(&k, 5);
	assert_in_range(shared_near(&k), 2, 4);
	/* Redis does not answer, and no credit is left. */
	shared_give(&k, 0);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		k.t.seg.fleet->part[p].silent_ns = now_ns - RL_SECOND_NS;
	now_ns = shared_near(&k);
	shared_checks(&k, 10);
	assert_int_equal(shared_near(&k), now_ns);
	shared_key_drop(&k);
}

static void fill_table(void)
{
	char key[16];

	for (int i = 0; rl_table_used(&t.seg.view) < t.seg.view.slot_count; i++) {
		snprintf(key, sizeof(key), "fill%d", i);
		check("filler", key, 1, NULL);
		assert_true(i < 1000000);
	}
}

/* Three checks of a new key in a full table, by each on_full. */
static void test_member__keys_without_a_slot_are_counted_apart(void **state)
{
	static const struct rl_rule_totals want[RL_FULLS] = {
		{.allowed = 2, .near = 1, .limited = 1, .pooled = 3},
		{.allowed = 3, .pooled = 3},
		{.limited = 3, .pooled = 3},
	};

	(void)state;
	for (uint32_t on_full = 0; on_full < RL_FULLS; on_full++) {
		struct rl_rule_spec two[] = {
			{.name = "filler", .terms = {1, HOUR_NS}, .on_full = RL_FULL_DENY},
			{.name = "r", .terms = {2, HOUR_NS}, .on_full = (uint8_t)on_full}};
		struct rl_rule_totals got;
		size_t other;

		snprintf(two[1].name, sizeof(two[1].name), "r%u", on_full);
		assert_int_equal(rl_rules_publish(&t.seg, two, 2, &other), 0);
		assert_int_equal(rl_pool_ensure(&t.seg), 0);
		fill_table();
		for (int i = 0; i < 3; i++)
			check(two[1].name, "new", 1, NULL);
		got = totals_of(two[1].name);
		assert_memory_equal(&got, &want[on_full], sizeof(got));
	}
}

static void test_member__rule_at_a_used_index_begins_at_zero(void **state)
{
	static struct rl_rule_spec many[RL_RULES_MAX];
	uint64_t first, stale;
	size_t other;

	(void)state;
	for (uint32_t i = 0; i < RL_RULES_MAX; i++) {
		many[i].terms = (struct rl_terms){20, HOUR_NS};
		snprintf(many[i].name, sizeof(many[i].name), "rule%u", i);
	}
	assert_int_equal(rl_rules_publish(&t.seg, many, RL_RULES_MAX, &other), 0);
	stale = t_rule(&t.seg.view, "rule7");
	assert_int_equal(check("rule7", "bob", 19, NULL), RL_ALLOWED);
	memcpy(many[7].name, "other", 6);
	assert_int_equal(rl_rules_publish(&t.seg, many, RL_RULES_MAX, &other), 0);
	first = t_rule(&t.seg.view, "other");
	assert_int_equal(rl_pair_low(first), rl_pair_low(stale)); /* else nothing is shown */
	assert_int_equal(totals_of("other").allowed, 0);
	assert_int_equal(check("other", "bob", 2, NULL), RL_ALLOWED);
	assert_int_equal(totals_of("other").allowed, 2);
	assert_int_equal(totals_of("other").near, 0);
	assert_int_equal(totals().allowed, 21);

	/* Back at another index, and asked by the handle that a worker has kept. */
	memcpy(many[9].name, "rule7", 6);
	assert_int_equal(rl_rules_publish(&t.seg, many, RL_RULES_MAX, &other), 0);
	assert_int_equal(rl_check(client, stale, "eve", 3, 1, 0, NULL), RL_ALLOWED);
	assert_int_not_equal(rl_pair_low(t_rule(&t.seg.view, "rule7")), rl_pair_low(stale));
	assert_int_equal(totals_of("rule7").allowed, 1);
	assert_int_equal(totals_of("other").allowed, 2);
	assert_int_equal(totals().allowed, 22);
}

static void test_member__rule_that_comes_back_finds_its_numbers(void **state)
{
	uint64_t handle;

	(void)state;
	t_rules(&t.seg, 2, "r 20/h", "second 20/h");
	check("second", "bob", 5, NULL);
	check("r", "bob", 3, NULL);
	handle = t_rule(&t.seg.view, "r");
	t_rules(&t.seg, 1, "second 20/h");
	t_rules(&t.seg, 2, "second 20/h", "third 20/h"); /* not to the index of r */
	check("third", "bob", 7, NULL);
	assert_int_equal(totals_of("third").allowed, 7);
	t_rules(&t.seg, 3, "third 20/h", "second 20/h", "r 20/h");
	assert_int_equal(t_rule(&t.seg.view, "r"), handle);
	assert_int_equal(totals_of("r").allowed, 3);
	assert_int_equal(totals_of("second").allowed, 5);
	assert_int_equal(totals_of("third").allowed, 7);
}

static void test_member__agent_killed_between_two_rules_numbers_is_put_right(void **state)
{
	struct rl_rule rule;
	uint64_t handle;

	(void)state;
	check("r", "bob", 3, NULL);
	handle = t_rule(&t.seg.view, "r");
	rl_rules_read(&t.seg.view, handle, &rule);
	t.seg.before[rule.index].id = 0; /* and nothing written yet */
	assert_int_equal(totals_of("r").allowed, 0);
	assert_int_equal(totals().allowed, 3);
	publish();
	check("r", "bob", 2, NULL);
	assert_int_equal(totals_of("r").allowed, 2);
	assert_int_equal(totals().allowed, 5);
	t.seg.before[rule.index].allowed = UINT64_MAX; /* damaged */
	assert_int_equal(totals_of("r").allowed, 0);
}

/* A process that checks so often under "r", key by key, and then waits to be killed. */
static pid_t process(uint32_t checks)
{
	int told[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(told), 0);
	pid = fork();
	if (pid == 0) {
		for (uint32_t i = 0; i < checks; i++)
			ask("bob", 1);
		if (write(told[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(told[0], &byte, 1), 1);
	close(told[0]);
	close(told[1]);
	return pid;
}

static uint64_t owner(uint32_t member)
{
	return t.seg.member[member].owner;
}

static void test_member__numbers_of_a_killed_process_are_kept_and_go_on(void **state)
{
	pid_t first = process(5), second;

	(void)state;
	assert_int_equal(owner(1), first);
	kill(first, SIGKILL);
	waitpid(first, NULL, 0);
	counted((struct rl_rule_totals){.allowed = 5});
	assert_int_equal(rl_member_sweep(&t.seg), 1);
	counted((struct rl_rule_totals){.allowed = 5});
	second = process(20);
	assert_int_equal(owner(1), second);
	counted((struct rl_rule_totals){.allowed = 20, .near = 2, .limited = 5});
	kill(second, SIGKILL);
	waitpid(second, NULL, 0);
	counted((struct rl_rule_totals){.allowed = 20, .near = 2, .limited = 5});
	assert_int_equal(totals().members, 1);
}

static void test_member__processes_count_in_lines_of_their_own(void **state)
{
	struct rl_rule rule;
	pid_t pid = process(3);

	(void)state;
	ask("bob", 1);
	rl_rules_read(&t.seg.view, t_rule(&t.seg.view, "r"), &rule);
	assert_int_equal(t.seg.member[1].rule[rule.index].allowed, 3);
	assert_int_equal(t.seg.member[2].rule[rule.index].allowed, 1);
	assert_int_equal(owner(2), getpid());
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_member__small_table_has_fewer_and_a_large_one_all(void **state)
{
	struct rl_hdr hdr = {.chunk = RL_CHUNK_MIN};

	(void)state;
	assert_int_equal(t.seg.view.member_count, RL_MEMBERS_MIN);
	assert_int_equal(rl_segment_members(rl_segment_buckets(1000000)), RL_MEMBERS_MAX);
	assert_int_equal(rl_segment_members(RL_BUCKETS_MAX), RL_MEMBERS_MAX);
	assert_in_range(rl_segment_members(rl_segment_buckets(100000)), 100, 200);
	rl_segment_lay_out(&hdr, rl_segment_buckets(1000), 2);
	assert_true(hdr.tags_off + (hdr.total_size - hdr.dirty_off) < 3 << 18);
	rl_segment_lay_out(&hdr, rl_segment_buckets(1000000), 2);
	assert_true(hdr.tags_off - hdr.members_off < 4500000);
}

static uint64_t timed(void)
{
	struct rl_totals sums = totals();

	return rl_member_timings(&sums);
}

static void test_member__one_check_in_1024_is_timed_whatever_it_costs(void **state)
{
	static const uint32_t cost[] = {1, 2, 3, 7, 10, 64, 1000, 1024, 1500};

	(void)state;
	spec.terms.limit = RL_LIMIT_MAX;
	publish();
	for (size_t c = 0; c < sizeof(cost) / sizeof(cost[0]); c++) {
		uint64_t before = timed(), got;

		for (int i = 0; i < 50 * 1024; i++)
			assert_int_equal(ask("bob", cost[c]), RL_ALLOWED);
		got = timed() - before;
		printf("# cost %u: %u of %d\n", cost[c], (unsigned)got, 50 * 1024);
		assert_in_range(got, 40, 60);
	}
}

static void test_member__every_kind_of_check_is_timed(void **state)
{
	uint64_t before = timed();

	(void)state;
	/* Refused. */
	ask("bob", 20);
	for (int i = 0; i < 20 * 1024; i++)
		assert_int_equal(ask("bob", 1), RL_LIMITED);
	assert_in_range(timed() - before, 15, 25);
}

static void test_member__latency_is_the_end_of_its_bucket(void **state)
{
	struct rl_totals sums = {0};

	(void)state;
	assert_int_equal(rl_member_latency(&sums, 0.5), 0);
	sums.latency[5] = 1; /* 32 .. 63 ns */
	assert_int_equal(rl_member_latency(&sums, 0.5), 64);
	assert_int_equal(rl_member_latency(&sums, 1), 64);
	sums.latency[5] = 50;
	sums.latency[6] = 49;
	sums.latency[20] = 1;
	assert_int_equal(rl_member_latency(&sums, 0.5), 64);
	assert_int_equal(rl_member_latency(&sums, 0.51), 128);
	assert_int_equal(rl_member_latency(&sums, 0.99), 128);
	assert_int_equal(rl_member_latency(&sums, 1), 1 << 21);
	sums.latency[0] = 1000;
	assert_int_equal(rl_member_latency(&sums, 0.5), 2);
	sums = (struct rl_totals){0};
	sums.latency[RL_LATENCY_BUCKETS - 1] = 1;
	assert_true(rl_member_latency(&sums, 1) == UINT64_C(1) << RL_LATENCY_BUCKETS);
}

static void test_member__time_goes_to_its_bucket(void **state)
{
	struct rl_member *m = &t.seg.member[3];

	(void)state;
	rl_member_timed(m, rl_clock_precise_ns() - 3 * RL_SECOND_NS); /* above the last but one */
	assert_int_equal(m->latency[RL_LATENCY_BUCKETS - 1], 1);
	rl_member_timed(m, rl_clock_precise_ns() - 100 * RL_SECOND_NS);
	assert_int_equal(m->latency[RL_LATENCY_BUCKETS - 1], 2);
	rl_member_timed(m, rl_clock_precise_ns() - RL_SECOND_NS); /* 2^29.9, and a little */
	assert_int_equal(m->latency[29], 1);
	rl_member_timed(m, rl_clock_precise_ns() + RL_SECOND_NS); /* never, but no index of it */
	assert_int_equal(m->latency[RL_LATENCY_BUCKETS - 1], 3);
}

#define THREADS 4
#define EACH    20000

static void *check_often(void *unused)
{
	(void)unused;
	for (int i = 0; i < EACH; i++)
		ask("bob", 1);
	return NULL;
}

static void test_member__threads_lose_nothing(void **state)
{
	pthread_t thread[THREADS];
	struct rl_totals sums;

	(void)state;
	spec.terms.limit = THREADS * EACH / 2;
	publish();
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, check_often, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	sums = totals();
	assert_int_equal(sums.allowed + sums.limited + sums.errors, THREADS * EACH);
	assert_int_equal(sums.members, 1);
	assert_in_range(sums.allowed, 1, THREADS * EACH / 2);
	assert_in_range(rl_member_timings(&sums), 30, 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_member__admits_count_units_and_refusals_checks),
		TEST(test_member__near_is_less_than_a_tenth_left),
		TEST(test_member__errors_count_under_their_rule_and_without_one),
		TEST(test_member__switched_off_rule_counts_what_passes),
		TEST(test_member__lists_count_as_they_answer),
		TEST(test_member__shadow_counts_what_it_lets_pass_apart),
		TEST(test_member__every_algorithm_counts),
		TEST(test_member__blocked_key_is_limited_and_a_refund_is_counted),
		cmocka_unit_test_setup_teardown(test_member__given_clock_counts, setup_given,
						teardown),
		TEST(test_member__of_several_rules_the_one_that_refuses_counts),
		TEST(test_member__shared_rule_is_near_by_what_the_fleet_has_left),
		TEST(test_member__keys_without_a_slot_are_counted_apart),
		TEST(test_member__rule_at_a_used_index_begins_at_zero),
		TEST(test_member__rule_that_comes_back_finds_its_numbers),
		TEST(test_member__agent_killed_between_two_rules_numbers_is_put_right),
		TEST(test_member__numbers_of_a_killed_process_are_kept_and_go_on),
		TEST(test_member__processes_count_in_lines_of_their_own),
		TEST(test_member__small_table_has_fewer_and_a_large_one_all),
		TEST(test_member__one_check_in_1024_is_timed_whatever_it_costs),
		TEST(test_member__every_kind_of_check_is_timed),
		TEST(test_member__latency_is_the_end_of_its_bucket),
		TEST(test_member__time_goes_to_its_bucket),
		TEST(test_member__threads_lose_nothing),
	};

	return cmocka_run_group_tests_name("member", tests, NULL, NULL);
}
