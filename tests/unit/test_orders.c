/*
 * Goal:   orders and documents are read as they were written, and whatever else is given is refused
 *         or left out, with a reason; the rules of a file are cut out of it whole and alone.
 * Method: both ways; damaged texts from a seed.
 */
#include "tests/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config/config.h"
#include "agent/orders/doc.h"

static struct order order_of(enum order_kind kind, const char *key)
{
	struct order order = {.kind = kind, .number = 3, .at_ms = 1000, .uid = 7, .host = "a"};

	memcpy(order.rule, "login", 6);
	if (kind == ORDER_OFF)
		return order;
	order.until_ms = 5000;
	order.key_len = strlen(key);
	memcpy(order.key, key, order.key_len);
	if (kind == ORDER_OVERRIDE)
		order.terms.limit = 9;
	return order;
}

static void test_orders__document_is_read_as_it_was_written(void **state)
{
	struct order_doc doc = {.life = 0xabcdef, .version = 12}, got;
	const char *why;
	char *text;

	(void)state;
	for (int kind = 0; kind < ORDER_KINDS; kind++) {
		struct order order = order_of((enum order_kind)kind, "b\xc3\xa4\x01\xff");

		assert_true(order_put(&doc.set, &order));
		assert_true(order_put(&doc.set, &order)); /* the same: in its place */
	}
	assert_int_equal(doc.set.count, ORDER_KINDS);
	text = order_doc_write(&doc);
	assert_true(order_doc_read(text, strlen(text), &got, &why));
	assert_int_equal(got.life, 0xabcdef);
	assert_int_equal(got.version, 12);
	assert_int_equal(got.unknown, 0);
	assert_int_equal(got.set.count, ORDER_KINDS);
	for (size_t i = 0; i < got.set.count; i++) {
		const struct order *a = &doc.set.order[i], *b = &got.set.order[i];

		assert_int_equal(a->kind, b->kind);
		assert_string_equal(a->rule, b->rule);
		assert_int_equal(a->key_len, b->key_len);
		assert_memory_equal(a->key, b->key, a->key_len);
		assert_int_equal(a->terms.limit, b->terms.limit);
		assert_int_equal(a->until_ms, b->until_ms);
		assert_int_equal(b->uid, 7);
		assert_string_equal(b->host, "a");
	}
	free(text);
	order_doc_free(&doc);
	order_doc_free(&got);
}

static void test_orders__ended_ones_and_the_oldest_resets_are_dropped(void **state)
{
	struct order_set set = {0};
	char key[16];

	(void)state;
	for (uint32_t i = 0; i < ORDERS_RESETS + 20; i++) {
		struct order order;

		snprintf(key, sizeof(key), "k%u", i);
		order = order_of(ORDER_RESET, key);
		order.at_ms = i;
		assert_true(order_put(&set, &order));
	}
	assert_true(order_put(&set, &(struct order){.kind = ORDER_OFF}));
	assert_int_equal(order_prune(&set, 4999), 20);
	assert_int_equal(set.order[0].at_ms, 20);
	assert_int_equal(order_prune(&set, 5000), ORDERS_RESETS);
	assert_int_equal(set.count, 1); /* what is off has no end */
	order_free(&set);
}

static void test_orders__a_thousand_and_no_more(void **state)
{
	struct order_set set = {0};
	struct order order;
	char key[16];

	(void)state;
	for (uint32_t i = 0; i < ORDERS_MAX; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		order = order_of(ORDER_BLOCK, key);
		assert_true(order_put(&set, &order));
	}
	assert_true(order_put(&set, &order));
	order = order_of(ORDER_BLOCK, "one more");
	assert_false(order_put(&set, &order));
	order_free(&set);
}

static void test_orders__wrong_ones_are_left_out_and_counted(void **state)
{
	static const char *const wrong[] = {
		"7",
		"{}",
		"{\"do\": \"dance\"}",
		"{\"do\": \"off\", \"rule\": \"a b\"}",
		"{\"do\": \"off\", \"key\": \"61\"}",
		"{\"do\": \"off\", \"until\": 5}",
		"{\"do\": \"block\", \"rule\": \"r\", \"key\": \"6\", \"until\": 5}",
		"{\"do\": \"block\", \"rule\": \"r\", \"key\": \"61\"}",
		"{\"do\": \"block\", \"rule\": \"r\", \"key\": \"61\", \"until\": -5}",
		"{\"do\": \"block\", \"rule\": \"r\", \"key\": \"61\", \"until\": 5e3}",
		"{\"do\": \"block\", \"rule\": \"r\", \"key\": \"61\", \"until\": 5, \"limit\": "
		"\"1/s\"}",
		"{\"do\": \"block\", \"key\": \"61\", \"until\": 5}",
		"{\"do\": \"override\", \"rule\": \"r\", \"key\": \"61\", \"until\": 5}",
		"{\"do\": \"override\", \"rule\": \"r\", \"key\": \"61\", \"until\": 5, \"limit\": "
		"\"0\"}",
		"{\"do\": \"reset\", \"rule\": \"r\", \"key\": \"61\", \"until\": "
		"9007199254740993}",
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct order_doc doc;
		const char *why;

		snprintf(text, sizeof(text),
			 "{\"format\": 1, \"life\": \"00000000000000ab\", \"version\": 2, "
			 "\"orders\": "
			 "[%s, {\"do\": \"off\"}]}",
			 wrong[i]);
		assert_true(order_doc_read(text, strlen(text), &doc, &why));
		assert_int_equal(doc.unknown, 1);
		assert_non_null(doc.why);
		assert_int_equal(doc.set.count, 1);
		order_doc_free(&doc);
	}
}

static void test_orders__rules_that_are_not_whole_are_refused(void **state)
{
	char set[] = "rules: [{name: r, limit: 1/s}]\n", before[] = "rules: []\n", *text, *at;
	struct rules_doc doc = {.life = 5,
				.now = {.version = 8, .host = "a", .text = set},
				.former = {.version = 7, .text = before}};
	struct rules_doc got;
	const char *why;

	(void)state;
	text = rules_doc_write(&doc);
	assert_true(rules_doc_read(text, strlen(text), &got, &why));
	assert_int_equal(got.now.version, 8);
	assert_string_equal(got.now.text, set);
	assert_string_equal(got.former.text, before);
	rules_doc_free(&got);
	at = strstr(text, "limit: 1");
	at[7] = '2';
	assert_false(rules_doc_read(text, strlen(text), &got, &why));
	assert_string_equal(why, "its rules are not whole: their SHA-256 is another");
	free(text);
}

static void test_orders__damaged_documents_never_break_the_reader(void **state)
{
	struct order_doc doc = {.life = 1, .version = 1}, got;
	struct order order = order_of(ORDER_OVERRIDE, "key");
	uint64_t seed = t_seed();
	char *text;
	size_t len;

	(void)state;
	order_put(&doc.set, &order);
	order = order_of(ORDER_BLOCK, "other");
	order_put(&doc.set, &order);
	text = order_doc_write(&doc);
	len = strlen(text);
	for (int i = 0; i < 50000; i++) {
		char *damaged = malloc(len);
		struct rules_doc rules;
		const char *why;

		memcpy(damaged, text, len);
		for (uint64_t k = t_below(&seed, 4) + 1; k > 0; k--)
			damaged[t_below(&seed, len)] = (char)t_random(&seed);
		if (order_doc_read(damaged, t_below(&seed, 8) == 0 ? t_below(&seed, len) : len,
				   &got, &why))
			order_doc_free(&got);
		else
			assert_non_null(why);
		if (rules_doc_read(damaged, len, &rules, &why))
			rules_doc_free(&rules);
		free(damaged);
	}
	free(text);
	order_doc_free(&doc);
}

static char *cut(const char *text, bool *ret_others)
{
	static const struct agent_config host = {.has_redis = true};
	FILE *out = fopen("/dev/null", "w");
	char *got = config_cut_rules("f", text, strlen(text), &host, out, ret_others);

	fclose(out);
	return got;
}

static void test_orders__rules_are_cut_out_of_a_file_whole_and_alone(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"rules: []\n", "rules: []\n"},
		{"redis: x\nrules:\n- {name: a, limit: 1/s}\n  # c\n- {name: b, limit: "
		 "2/s}\nfleet: y\n",
		 "rules:\n- {name: a, limit: 1/s}\n  # c\n- {name: b, limit: 2/s}\n"},
		{"rules: [{name: a, limit: 1/s}] # here\nfleet: y\n",
		 "rules: [{name: a, limit: 1/s}] # here\n"},
		{"fleet: y\nrules:\n  - name: a\n    limit: 1/s",
		 "rules:\n  - name: a\n    limit: 1/s"},
		{"{fleet: y, rules: []}\n", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool others = false;
		char *got = cut(cases[i].text, &others);

		if (cases[i].want == NULL) {
			assert_null(got);
			continue;
		}
		assert_non_null(got);
		assert_string_equal(got, cases[i].want);
		assert_int_equal(others, i > 0);
		free(got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders__document_is_read_as_it_was_written),
		cmocka_unit_test(test_orders__ended_ones_and_the_oldest_resets_are_dropped),
		cmocka_unit_test(test_orders__a_thousand_and_no_more),
		cmocka_unit_test(test_orders__wrong_ones_are_left_out_and_counted),
		cmocka_unit_test(test_orders__rules_that_are_not_whole_are_refused),
		cmocka_unit_test(test_orders__damaged_documents_never_break_the_reader),
		cmocka_unit_test(test_orders__rules_are_cut_out_of_a_file_whole_and_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
