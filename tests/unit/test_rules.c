/*
 * Goal:   rules are found by name, keep their handles over reloads, and are refused whole.
 * Method: publish sets of rules one after the other and read them as a worker does.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/rl_hash.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

static int setup(void **state)
{
	return t_seg_setup(state, 10);
}

static void test_rules__before_the_first_publish_there_are_none(void **state)
{
	struct t_seg *t = *state;
	struct rl_named_rule list[RL_RULES_MAX];
	uint64_t handle, generation;

	assert_int_equal(rl_rules_find(&t->seg.view, "login", &handle), RL_E_RULE);
	assert_int_equal(rl_rules_list(&t->seg.view, list, &generation), 0);
}

static void test_rules__published_rule_is_read_by_its_handle(void **state)
{
	struct t_seg *t = *state;
	struct rl_rule rule;

	t_rules(&t->seg, 2, "login 100/minute", "api 5/10s");
	assert_int_equal(rl_rules_read(&t->seg.view, t_rule(&t->seg.view, "api"), &rule), 0);
	assert_int_equal(rule.limit, 5);
	assert_int_equal(rule.q, 1);
	assert_int_equal(rule.window_ns, UINT64_C(10000000000));
	assert_int_equal(rule.id, rl_hash_rule("api"));
	assert_int_equal(rl_rules_read(&t->seg.view, t_rule(&t->seg.view, "login"), &rule), 0);
	assert_int_equal(rule.limit, 100);
	assert_int_equal(rule.q, rl_window_q(100));
}

static void test_rules__change_is_seen_by_the_next_read(void **state)
{
	struct t_seg *t = *state;
	struct rl_rule rule;
	uint64_t handle;

	t_rules(&t->seg, 1, "login 100/minute");
	handle = t_rule(&t->seg.view, "login");
	t_rules(&t->seg, 1, "login 7/s");
	assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), 0);
	assert_int_equal(rule.limit, 7);
	assert_int_equal(rule.window_ns, 1000000000);
}

/* A reload, and the beginning of the next one, which writes the bank of the generation before. */
static void reload_and_a_half(void *arg)
{
	struct rl_seg *seg = arg;
	struct rl_bank *old = &seg->bank[seg->live->generation & 1];

	t_rules(seg, 1, "login 9/s");
	for (uint32_t i = 0; i < RL_RULES_MAX; i++)
		old->rule[i].id_flags = 0;
}

static void test_rules__reader_stopped_over_a_reload_reads_again(void **state)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	struct t_seg *t = *state;
	struct rl_rule rule = {0};
	uint64_t handle, generation;

	if (t_under_tsan())
		return;
	t_rules(&t->seg, 1, "login 7/s");
	handle = t_rule(&t->seg.view, "login");
	t_upon_access(&t->seg.bank[1], PROT_NONE, reload_and_a_half, &t->seg);
	assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), 0);
	assert_int_equal(rule.limit, 9);
	t_upon_access(&t->seg.bank[0], PROT_NONE, reload_and_a_half, &t->seg);
	assert_int_equal(rl_rules_list(&t->seg.view, list, &generation), 1);
	assert_int_equal(generation, 3);
}

static void test_rules__handle_survives_other_rules_coming_and_going(void **state)
{
	struct t_seg *t = *state;
	struct rl_rule rule;
	uint64_t handle;

	t_rules(&t->seg, 3, "a 1/s", "b 2/s", "c 3/s");
	handle = t_rule(&t->seg.view, "b");
	t_rules(&t->seg, 1, "b 4/s");
	assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), 0);
	assert_int_equal(t_rule(&t->seg.view, "b"), handle);
	t_rules(&t->seg, 4, "x 1/s", "y 1/s", "b 5/s", "a 1/s");
	assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), 0);
	assert_int_equal(rule.limit, 5);
	assert_int_equal(t_rule(&t->seg.view, "b"), handle);
}

static void test_rules__removed_rule_is_gone_and_finds_back_when_it_returns(void **state)
{
	struct t_seg *t = *state;
	struct rl_rule rule;
	uint64_t handle;

	t_rules(&t->seg, 2, "a 1/s", "b 2/s");
	handle = t_rule(&t->seg.view, "b");
	for (int reload = 0; reload < 3; reload++) { /* neither bank keeps it */
		t_rules(&t->seg, 1, "a 1/s");
		assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), RL_E_RULE);
	}
	t_rules(&t->seg, 4, "p 1/s", "q 1/s", "r 1/s", "b 9/s"); /* now at another index */
	assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), 0);
	assert_int_equal(rule.limit, 9);
}

static void test_rules__nonsense_handles_are_refused(void **state)
{
	struct t_seg *t = *state;
	struct rl_rule rule;

	t_rules(&t->seg, 1, "a 1/s");
	assert_int_equal(rl_rules_read(&t->seg.view, 0, &rule), RL_E_RULE);
	assert_int_equal(rl_rules_read(&t->seg.view, UINT64_MAX, &rule), RL_E_RULE);
	assert_int_equal(rl_rules_read(&t->seg.view, rl_pair(0, 0), &rule), RL_E_RULE);
	assert_int_equal(rl_rules_read(&t->seg.view, rl_pair(77, RL_RULES_MAX), &rule), RL_E_RULE);
}

static void test_rules__damaged_record_is_no_rule(void **state)
{
	static const uint64_t shapes[] = {0, 1, UINT64_MAX, UINT64_C(5) << 32,
					  UINT64_C(0x80000000) << 32 | 1};
	struct t_seg *t = *state;
	struct rl_rule rule;
	uint64_t handle;
	struct rl_rule_rec *rec;

	t_rules(&t->seg, 1, "a 5/s");
	handle = t_rule(&t->seg.view, "a");
	rec = &t->seg.bank[t->seg.live->generation & 1].rule[(uint32_t)handle];
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		rec->shape = shapes[i];
		assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), RL_E_RULE);
	}
	rec->shape = rl_pair(5, 1);
	rec->window_ns = 1;
	assert_int_equal(rl_rules_read(&t->seg.view, handle, &rule), RL_E_RULE);
}

static void fill(struct rl_rule_spec *spec, size_t count)
{
	memset(spec, 0, count * sizeof(*spec));
	for (size_t i = 0; i < count; i++) {
		snprintf(spec[i].name, sizeof(spec[i].name), "rule-%zu", i);
		spec[i].terms = (struct rl_terms){(uint32_t)i + 1, 1000000000};
	}
}

static void test_rules__as_many_as_fit_and_not_one_more(void **state)
{
	static struct rl_rule_spec spec[RL_RULES_MAX + 1];
	static struct rl_named_rule list[RL_RULES_MAX];
	struct t_seg *t = *state;
	uint64_t generation;
	size_t other;

	fill(spec, RL_RULES_MAX + 1);
	assert_int_equal(rl_rules_publish(&t->seg, spec, RL_RULES_MAX, &other), 0);
	assert_int_equal(rl_rules_list(&t->seg.view, list, &generation), RL_RULES_MAX);
	assert_int_equal(generation, 1);
	assert_string_equal(list[255].name, "rule-255");
	assert_int_equal(rl_rules_publish(&t->seg, spec, RL_RULES_MAX + 1, &other), RL_E_RULES);
	rl_rules_list(&t->seg.view, list, &generation);
	assert_int_equal(generation, 1); /* the old ones stay */
	/* All of them replaced by others at once. */
	fill(spec, 1);
	assert_int_equal(rl_rules_publish(&t->seg, spec + 1, RL_RULES_MAX, &other), 0);
	assert_int_equal(rl_rules_list(&t->seg.view, list, &generation), RL_RULES_MAX);
}

static void test_rules__two_of_one_name_are_refused(void **state)
{
	struct rl_rule_spec spec[2];
	struct t_seg *t = *state;
	size_t other;

	fill(spec, 2);
	memcpy(spec[1].name, spec[0].name, sizeof(spec[0].name));
	assert_int_equal(rl_rules_publish(&t->seg, spec, 2, &other), RL_E_RULES);
	assert_int_equal(other, 1);
}

static void test_rules__longest_name_comes_back_whole(void **state)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	struct rl_rule_spec spec;
	struct t_seg *t = *state;
	uint64_t generation;
	size_t other;

	fill(&spec, 1);
	memset(spec.name, 'n', RL_NAME_MAX);
	spec.name[RL_NAME_MAX] = '\0';
	assert_int_equal(rl_rules_publish(&t->seg, &spec, 1, &other), 0);
	assert_int_equal(rl_rules_list(&t->seg.view, list, &generation), 1);
	assert_string_equal(list[0].name, spec.name);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, t_seg_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rules__before_the_first_publish_there_are_none),
		TEST(test_rules__published_rule_is_read_by_its_handle),
		TEST(test_rules__change_is_seen_by_the_next_read),
		TEST(test_rules__reader_stopped_over_a_reload_reads_again),
		TEST(test_rules__handle_survives_other_rules_coming_and_going),
		TEST(test_rules__removed_rule_is_gone_and_finds_back_when_it_returns),
		TEST(test_rules__nonsense_handles_are_refused),
		TEST(test_rules__damaged_record_is_no_rule),
		TEST(test_rules__as_many_as_fit_and_not_one_more),
		TEST(test_rules__two_of_one_name_are_refused),
		TEST(test_rules__longest_name_comes_back_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
