/*
 * Goal:   requests and answers of store_control() are read as they were written, and whatever else
 *         is given is refused.
 * Method: both ways; every length; random bytes.
 */
#include "tests/t.h"

#include <stdlib.h>
#include <string.h>

#include "agent/store/control.h"

static void test_control_bytes__request_is_read_as_it_was_written(void **state)
{
	struct control_ask ask = {.silence_ms = 10000,
				  .flags = CONTROL_COUNT | CONTROL_SWAP << CONTROL_RULES,
				  .known = {"1234567890123456", "abcdefghijklmnop"},
				  .has = {"1111111111111111", "2222222222222222"},
				  .expected = "3333333333333333",
				  .tip = "4444444444444444",
				  .text = "te\0xt",
				  .text_size = 5};
	struct control_ask got;
	unsigned char *bytes;
	size_t size;

	(void)state;
	bytes = control_ask_write(&ask, &size);
	assert_int_equal(size, CONTROL_ASK_SIZE + CONTROL_SWAP_SIZE + 5);
	assert_true(control_ask_read(bytes, size, &got));
	assert_int_equal(got.silence_ms, 10000);
	assert_int_equal(got.flags, ask.flags);
	assert_memory_equal(got.known, ask.known, sizeof(ask.known));
	assert_memory_equal(got.has, ask.has, sizeof(ask.has));
	assert_memory_equal(got.expected, ask.expected, CONTROL_TIP);
	assert_memory_equal(got.tip, ask.tip, CONTROL_TIP);
	assert_int_equal(got.text_size, 5);
	assert_memory_equal(got.text, ask.text, 5);
	for (size_t less = 0; less < CONTROL_ASK_SIZE + CONTROL_SWAP_SIZE; less++)
		assert_false(control_ask_read(bytes, less, &got));
	free(bytes);
	ask.flags = CONTROL_REPORT;
	bytes = control_ask_write(&ask, &size);
	assert_int_equal(size, CONTROL_ASK_SIZE);
	assert_true(control_ask_read(bytes, size, &got));
	assert_null(got.text);
	free(bytes);
}

static void test_control_bytes__answer_is_read_as_it_was_written(void **state)
{
	const struct control_answer answer = {.now_ms = UINT64_C(1790000000123),
					      .swapped = CONTROL_UNSWAPPED,
					      .live = 3,
					      .with = {2, 1},
					      .tip = {"1234567890123456", "abcdefghijklmnop"},
					      .text = {"orders", "ru"},
					      .text_size = {6, 2}};
	struct control_answer got;
	unsigned char *bytes;
	size_t size;

	(void)state;
	bytes = control_answer_write(&answer, &size);
	assert_true(control_answer_read(bytes, size, &got));
	assert_int_equal(got.now_ms, answer.now_ms);
	assert_int_equal(got.swapped, CONTROL_UNSWAPPED);
	assert_int_equal(got.live, 3);
	assert_int_equal(got.with[CONTROL_ORDERS], 2);
	assert_int_equal(got.with[CONTROL_RULES], 1);
	assert_memory_equal(got.tip, answer.tip, sizeof(answer.tip));
	assert_int_equal(got.text_size[CONTROL_RULES], 2);
	assert_memory_equal(got.text[CONTROL_ORDERS], "orders", 6);
	assert_memory_equal(got.text[CONTROL_RULES], "ru", 2);
	for (size_t less = 0; less < size; less++)
		assert_false(control_answer_read(bytes, less, &got));
	free(bytes);
}

static void test_control_bytes__random_bytes_are_never_read_past_their_end(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 100000; i++) {
		size_t size = t_below(&seed, 120);
		unsigned char *bytes = malloc(size + 1);
		struct control_answer answer;
		struct control_ask ask;

		for (size_t b = 0; b < size; b++)
			bytes[b] = (unsigned char)(t_below(&seed, 3) == 0 ? t_random(&seed) : 0);
		if (control_answer_read(bytes, size, &answer))
			assert_int_equal(answer.text_size[0] + answer.text_size[1], size - 64);
		if (control_ask_read(bytes, size, &ask) && ask.text != NULL)
			assert_true(ask.text + ask.text_size == (const char *)bytes + size);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_bytes__request_is_read_as_it_was_written),
		cmocka_unit_test(test_control_bytes__answer_is_read_as_it_was_written),
		cmocka_unit_test(test_control_bytes__random_bytes_are_never_read_past_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
