#include "bench/cases/case.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

void case_begin(struct fleet_case *c, const char *name, const char *input, ...)
{
	va_list args;

	memset(c, 0, sizeof(*c));
	snprintf(c->name, sizeof(c->name), "%s", name);
	va_start(args, input);
	vsnprintf(c->input, sizeof(c->input), input, args);
	va_end(args);
	c->holds = true;
}

static void append(char text[CASE_TEXT], const char *more, ...)
	__attribute__((format(printf, 2, 3)));
static void append(char text[CASE_TEXT], const char *more, ...)
{
	size_t len = strlen(text);
	va_list args;

	va_start(args, more);
	vsnprintf(text + len, CASE_TEXT - len, more, args);
	va_end(args);
}

static bool is_met(double value, enum case_must must, double bar)
{
	switch (must) {
	case CASE_AT_MOST:
		return value <= bar;
	case CASE_AT_LEAST:
		return value >= bar;
	case CASE_EXACTLY:
		return fabs(value - bar) < 1e-9;
	default:
		return true;
	}
}

static void note(struct fleet_case *c, const char *what, double value, const char *unit,
		 enum case_must must, double bar)
{
	static const char *const relation[] = {"", "<=", ">=", "="};

	if (c->numbers == CASE_NUMBERS)
		bench_die("a case has more numbers than there is room for");
	c->number[c->numbers].what = what;
	c->number[c->numbers++].value = value;
	if (must != CASE_SHOWN)
		append(c->expected, "%s%s %s %.6g%s", *c->expected != '\0' ? ", " : "", what,
		       relation[must], bar, unit);
	append(c->measured, "%s%s %.5g%s%s", *c->measured != '\0' ? ", " : "", what, value, unit,
	       is_met(value, must, bar) ? "" : " (!)");
}

void case_note(struct fleet_case *c, const char *what, double value, const char *unit,
	       enum case_must must, double bar)
{
	note(c, what, value, unit, must, bar);
	c->holds = c->holds && is_met(value, must, bar);
}

void case_rate(struct fleet_case *c, const char *what, double value, const char *unit,
	       enum case_must must, double bar)
{
	note(c, what, value, unit, must, bar);
	c->holds = c->holds && (fleet_is_slow_build() || is_met(value, must, bar));
}

double case_number(const struct fleet_case *c, const char *what)
{
	for (int i = 0; i < c->numbers; i++)
		if (strcmp(c->number[i].what, what) == 0)
			return c->number[i].value;
	bench_die(what);
}

void case_print(const struct fleet_case *c, const char *before)
{
	printf("%s%s | %s | expected: %s | measured: %s | %s\n", before, c->name, c->input,
	       c->expected, c->measured, c->holds ? "holds" : "DOES NOT HOLD");
	fflush(stdout);
}

struct verdict case_judge(const char *name, const struct fleet_log *log,
			  const struct fleet_part *part, uint32_t limit, uint64_t window_ns)
{
	struct verdict v;

	fleet_judge(log, part, limit, window_ns, &v);
	printf("# %s: %llu requests, %llu admitted, %.1f %% of an exact log; most in a window "
	       "%llu by reading, %llu by span, of %u; span p99.9 %.0f us, %llu busy\n",
	       name, (unsigned long long)v.requests, (unsigned long long)v.allowed,
	       case_percent(v.allowed, v.exact), (unsigned long long)v.most_by_reading,
	       (unsigned long long)v.most_by_span, limit, v.span_p999_ns / 1000.0,
	       (unsigned long long)log->busy);
	fflush(stdout);
	return v;
}

struct verdict case_judge_whole(struct fleet_case *c, const struct fleet_log *log, uint32_t limit,
				uint64_t window_ns, uint32_t most)
{
	const struct fleet_part whole = FLEET_WHOLE;
	struct verdict v = case_judge(c->name, log, &whole, limit, window_ns);

	case_note(c, "maxW", (double)fleet_most(&v), "", CASE_AT_MOST, most);
	return v;
}

void case_balance(struct fleet_case *c, struct fleet *fleet, const struct fleet_log *log,
		  const char *key_prefix, uint32_t keys)
{
	struct fleet_balance balance;

	fleet_balance(fleet, log, key_prefix, keys, &balance);
	case_note(c, "admitted", (double)balance.admitted, "", CASE_AT_LEAST, 1);
	case_note(c, "lost", (double)balance.lost, "", CASE_EXACTLY, 0);
	case_note(c, "doubled", (double)balance.doubled, "", CASE_EXACTLY, 0);
}

double case_percent(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

double case_excess_percent(uint64_t most, uint32_t limit)
{
	return most > limit ? case_percent(most - limit, limit) : 0;
}

uint64_t case_seed(void)
{
	static uint64_t seed;
	const char *given = getenv("SEED");

	if (seed == 0) {
		seed = (given != NULL ? strtoull(given, NULL, 10) : bench_now_ns()) | 1;
		printf("# SEED=%llu\n", (unsigned long long)seed);
		fflush(stdout);
	}
	return seed;
}
