/*
 * Goal:   COUNT/WINDOW is read and written exactly; what is wrong gets its own message.
 * Method: a table of texts on both sides of every border.
 */
#include "tests/t.h"

#include <string.h>

#include "shm/rl_terms.h"

static const struct {
	const char *text;
	uint32_t limit;
	uint64_t window_ns;
	const char *back; /* how it is written again */
} good[] = {
	{"1/10ms", 1, 10000000, "1/10ms"},
	{"100/minute", 100, UINT64_C(60000000000), "100/m"},
	{"5/10s", 5, UINT64_C(10000000000), "5/10s"},
	{"5/s", 5, 1000000000, "5/s"},
	{"5/1second", 5, 1000000000, "5/s"},
	{"20/250ms", 20, 250000000, "20/250ms"},
	{"7/90s", 7, UINT64_C(90000000000), "7/90s"},
	{"7/120s", 7, UINT64_C(120000000000), "7/2m"},
	{"9/2h", 9, UINT64_C(7200000000000), "9/2h"},
	{"9/hour", 9, UINT64_C(3600000000000), "9/h"},
	{"2147483647/365d", 2147483647, RL_WINDOW_MAX_NS, "2147483647/365d"},
	{"3/day", 3, UINT64_C(86400000000000), "3/d"},
};

static const struct {
	const char *text, *wrong;
} bad[] = {
	{"", "expected COUNT/WINDOW, e.g. 100/minute, 5/10s"},
	{"lots", "expected COUNT/WINDOW, e.g. 100/minute, 5/10s"},
	{"-5/s", "expected COUNT/WINDOW, e.g. 100/minute, 5/10s"},
	{" 5/s", "expected COUNT/WINDOW, e.g. 100/minute, 5/10s"},
	{"0/s", "the count must be 1 .. 2147483647"},
	{"2147483648/s", "the count must be 1 .. 2147483647"},
	{"99999999999999999999999/s", "the count must be 1 .. 2147483647"},
	{"5", "expected a '/' after the count, e.g. 100/minute"},
	{"5 /s", "expected a '/' after the count, e.g. 100/minute"},
	{"5/", "the window's unit must be ms, s, second, m, minute, h, hour, d or day"},
	{"5/10", "the window's unit must be ms, s, second, m, minute, h, hour, d or day"},
	{"5/fortnight", "the window's unit must be ms, s, second, m, minute, h, hour, d or day"},
	{"5/10s ", "the window's unit must be ms, s, second, m, minute, h, hour, d or day"},
	{"5/9ms", "the window must be 10ms .. 365d"},
	{"5/0s", "the window must be 10ms .. 365d"},
	{"5/366d", "the window must be 10ms .. 365d"},
	{"5/99999999999999999999s", "the window must be 10ms .. 365d"},
	{"5/18446744073709551615d", "the window must be 10ms .. 365d"},
	{"5/213504d", "the window must be 10ms .. 365d"}, /* 1527 s, if 64 bits wrap round */
};

static void test_terms__good_texts_are_read_and_written(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char text[RL_TERMS_TEXT];
		struct rl_terms terms;

		assert_null(rl_terms_parse(good[i].text, &terms));
		assert_int_equal(terms.limit, good[i].limit);
		assert_int_equal(terms.window_ns, good[i].window_ns);
		assert_string_equal(rl_terms_format(&terms, text), good[i].back);
	}
}

static void test_terms__bad_texts_say_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rl_terms terms = {77, 77};
		const char *wrong = rl_terms_parse(bad[i].text, &terms);

		assert_non_null(wrong);
		assert_string_equal(wrong, bad[i].wrong);
		assert_int_equal(terms.limit, 77); /* untouched */
	}
}

static void test_terms__spans_are_for_people(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} span[] = {
		{1500000, "1.5 ms"},
		{42000000, "42 ms"},
		{UINT64_C(1500000000), "1.5 s"},
		{UINT64_C(150000000000), "2 m 30 s"},
		{UINT64_C(7200000000000), "2 h"},
		{UINT64_C(90000000000000), "1 d 1 h"},
	};
	char text[RL_TERMS_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(span) / sizeof(span[0]); i++)
		assert_string_equal(rl_span_format(span[i].ns, text), span[i].text);
}

static void test_terms__spans_are_read_exactly_or_refused(void **state)
{
	static const char range[] = "a time must be 0 .. 365d";
	static const char format[] = "expected a time, e.g. 250ms, 2s";
	static const char units[] =
		"a time's unit must be ms, s, second, m, minute, h, hour, d or day";
	static const struct {
		const char *text;
		uint64_t ns; /* 77 = refused */
		const char *wrong;
	} span[] = {
		{"0", 0, NULL},
		{"0ms", 0, NULL},
		{"000", 0, NULL},
		{"1ms", 1000000, NULL},
		{"250ms", 250000000, NULL},
		{"2s", 2000000000, NULL},
		{"2second", 2000000000, NULL},
		{"3m", UINT64_C(180000000000), NULL},
		{"3minute", UINT64_C(180000000000), NULL},
		{"1h", UINT64_C(3600000000000), NULL},
		{"1hour", UINT64_C(3600000000000), NULL},
		{"365d", RL_WINDOW_MAX_NS, NULL},
		{"365day", RL_WINDOW_MAX_NS, NULL},
		{"31536000000ms", RL_WINDOW_MAX_NS, NULL},
		{"31536000001ms", 77, range},
		{"366d", 77, range},
		{"213504d", 77, range}, /* 1527 s, if 64 bits wrap round */
		{"18446744073709551617ms", 77, range},
		{"", 77, format},
		{"ms", 77, format},
		{"-1ms", 77, format},
		{" 1ms", 77, format},
		{"1", 77, units},
		{"00x", 77, units},
		{"1.5s", 77, units},
		{"2 s", 77, units},
		{"2s ", 77, units},
		{"5us", 77, units},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(span) / sizeof(span[0]); i++) {
		uint64_t ns = 77;
		const char *wrong = rl_span_parse(span[i].text, &ns);

		assert_int_equal(ns, span[i].ns);
		if (span[i].wrong == NULL)
			assert_null(wrong);
		else
			assert_string_equal(wrong, span[i].wrong);
	}
}

static void test_terms__names_are_plain_and_bounded(void **state)
{
	char longest[RL_NAME_MAX + 2];

	(void)state;
	memset(longest, 'a', sizeof(longest));
	longest[RL_NAME_MAX] = '\0';
	assert_null(rl_name_fault(longest));
	longest[RL_NAME_MAX] = 'a';
	longest[RL_NAME_MAX + 1] = '\0';
	assert_non_null(rl_name_fault(longest));
	assert_null(rl_name_fault("per-ip_v2.login"));
	assert_non_null(rl_name_fault(""));
	assert_non_null(rl_name_fault("two words"));
	assert_non_null(rl_name_fault("caf\xc3\xa9"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_terms__good_texts_are_read_and_written),
		cmocka_unit_test(test_terms__bad_texts_say_what_is_wrong),
		cmocka_unit_test(test_terms__spans_are_for_people),
		cmocka_unit_test(test_terms__spans_are_read_exactly_or_refused),
		cmocka_unit_test(test_terms__names_are_plain_and_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
