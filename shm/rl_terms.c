#include "shm/rl_terms.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_algorithm.h"

#define MS_NS     UINT64_C(1000000)
#define SECOND_NS (1000 * MS_NS)
#define MINUTE_NS (60 * SECOND_NS)
#define HOUR_NS   (60 * MINUTE_NS)
#define DAY_NS    (24 * HOUR_NS)

static const struct {
	const char *name;
	uint64_t ns;
} unit[] = {
	{"ms", MS_NS},     {"s", SECOND_NS},      {"second", SECOND_NS},
	{"m", MINUTE_NS},  {"minute", MINUTE_NS}, {"h", HOUR_NS},
	{"hour", HOUR_NS}, {"d", DAY_NS},         {"day", DAY_NS},
};

/* Digits of a number up to max; false when there are none or it is larger. */
static bool take_number(const char **text, uint64_t max, uint64_t *ret)
{
	const char *c = *text;
	uint64_t value = 0;

	if (*c < '0' || *c > '9')
		return false;
	for (; *c >= '0' && *c <= '9'; c++) {
		value = value * 10 + (uint64_t)(*c - '0');
		if (value > max)
			return false;
	}
	*text = c;
	*ret = value;
	return true;
}

static uint64_t unit_ns(const char *name)
{
	for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++)
		if (strcmp(unit[i].name, name) == 0)
			return unit[i].ns;
	return 0;
}

const char *rl_terms_parse(const char *text, struct rl_terms *ret)
{
	uint64_t count, units = 1, each;

	if (*text < '0' || *text > '9')
		return "expected COUNT/WINDOW, e.g. 100/minute, 5/10s";
	if (!take_number(&text, RL_LIMIT_MAX, &count) || count == 0)
		return "the count must be 1 .. 2147483647";
	if (*text++ != '/')
		return "expected a '/' after the count, e.g. 100/minute";
	if (*text >= '0' && *text <= '9' &&
	    (!take_number(&text, RL_WINDOW_MAX_NS / MS_NS, &units) || units == 0))
		return "the window must be 10ms .. 365d";
	each = unit_ns(text);
	if (each == 0)
		return "the window's unit must be ms, s, second, m, minute, h, hour, d or day";
	if (units > RL_WINDOW_MAX_NS / each || units * each < RL_WINDOW_MIN_NS)
		return "the window must be 10ms .. 365d";
	ret->limit = (uint32_t)count;
	ret->window_ns = units * each;
	return NULL;
}

const char *rl_terms_parse_count(const char *text, struct rl_terms *ret)
{
	uint64_t count;

	if (!take_number(&text, RL_CONCURRENCY_MAX, &count) || count == 0 || *text != '\0')
		return "a concurrency rule limits requests in flight, it has no window: a plain "
		       "count "
		       "1 .. 1048575, e.g. 20";
	*ret = (struct rl_terms){(uint32_t)count, RL_WINDOW_MIN_NS};
	return NULL;
}

const char *rl_span_parse(const char *text, uint64_t *ret_ns)
{
	uint64_t units, each;

	if (*text < '0' || *text > '9')
		return "expected a time, e.g. 250ms, 2s";
	if (!take_number(&text, RL_WINDOW_MAX_NS / MS_NS, &units))
		return "a time must be 0 .. 365d";
	each = units == 0 && *text == '\0' ? MS_NS : unit_ns(text);
	if (each == 0)
		return "a time's unit must be ms, s, second, m, minute, h, hour, d or day";
	if (units > RL_WINDOW_MAX_NS / each)
		return "a time must be 0 .. 365d";
	*ret_ns = units * each;
	return NULL;
}

char *rl_terms_format(const struct rl_terms *terms, char text[RL_TERMS_TEXT])
{
	static const char *const name[] = {"d", "h", "m", "s", "ms"};
	static const uint64_t ns[] = {DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, MS_NS};
	size_t i = 0;

	while (i < 4 && terms->window_ns % ns[i] != 0)
		i++;
	if (terms->window_ns == ns[i])
		snprintf(text, RL_TERMS_TEXT, "%" PRIu32 "/%s", terms->limit, name[i]);
	else
		snprintf(text, RL_TERMS_TEXT, "%" PRIu32 "/%" PRIu64 "%s", terms->limit,
			 terms->window_ns / ns[i], name[i]);
	return text;
}

static void two_parts(char *text, uint64_t span, uint64_t big, const char *big_name, uint64_t small,
		      const char *small_name)
{
	uint64_t rest = span % big / small;

	if (rest == 0)
		snprintf(text, RL_TERMS_TEXT, "%" PRIu64 " %s", span / big, big_name);
	else
		snprintf(text, RL_TERMS_TEXT, "%" PRIu64 " %s %" PRIu64 " %s", span / big, big_name,
			 rest, small_name);
}

char *rl_span_format(uint64_t span_ns, char text[RL_TERMS_TEXT])
{
	if (span_ns < 10 * MS_NS)
		snprintf(text, RL_TERMS_TEXT, "%.3g ms", (double)span_ns / (double)MS_NS);
	else if (span_ns < SECOND_NS)
		snprintf(text, RL_TERMS_TEXT, "%" PRIu64 " ms", span_ns / MS_NS);
	else if (span_ns < MINUTE_NS)
		snprintf(text, RL_TERMS_TEXT, "%.3g s", (double)span_ns / (double)SECOND_NS);
	else if (span_ns < HOUR_NS)
		two_parts(text, span_ns, MINUTE_NS, "m", SECOND_NS, "s");
	else if (span_ns < DAY_NS)
		two_parts(text, span_ns, HOUR_NS, "h", MINUTE_NS, "m");
	else
		two_parts(text, span_ns, DAY_NS, "d", HOUR_NS, "h");
	return text;
}

static bool name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

const char *rl_name_fault(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > RL_NAME_MAX)
		return "a rule's name must be 1 .. 63 characters long";
	for (; *name != '\0'; name++)
		if (!name_byte(*name))
			return "a rule's name may hold only letters, digits, '.', '_' and '-'";
	return NULL;
}
