/*
 * judge_units.c - the judge of what judge() does not know: costs, refunds, limits that change.
 */
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/judge.h"

/* When so many units begin to count, or cease to. */
struct step {
	uint64_t at_ns;
	const struct unit *unit;
};

static int by_time(const void *a, const void *b)
{
	uint64_t x = ((const struct step *)a)->at_ns, y = ((const struct step *)b)->at_ns;

	return (x > y) - (x < y);
}

static int by_reading(const void *a, const void *b)
{
	uint64_t x = ((const struct unit *)a)->now_ns, y = ((const struct unit *)b)->now_ns;

	return (x > y) - (x < y);
}

/* The largest limit of the admits whose calls overlap this one's. Rarely asked. */
static uint32_t limit_about(const struct unit *unit, size_t count, const struct unit *e)
{
	uint32_t most = e->limit;

	for (size_t i = 0; i < count; i++)
		if (unit[i].begin_ns <= e->end_ns && unit[i].end_ns >= e->begin_ns &&
		    unit[i].limit > most)
			most = unit[i].limit;
	return most;
}

/* sum units are held at e. Returns how many are too many. */
static uint64_t over(const struct unit *unit, size_t count, const struct unit *e, uint64_t sum,
		     struct units_verdict *ret)
{
	uint32_t limit;

	if (sum <= e->limit)
		return 0;
	limit = limit_about(unit, count, e);
	if (sum <= limit)
		return 0;
	if (100.0 * (double)(sum - limit) / limit > ret->over_percent)
		ret->over_percent = 100.0 * (double)(sum - limit) / limit;
	return sum - limit;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t units_kept(const struct unit *unit)
{
	return unit->refund_ns == UINT64_MAX ? unit->units : 0;
}

static void by_readings(const struct unit *unit, size_t count, uint64_t window_ns,
			struct units_verdict *ret)
{
	const struct unit *by = unit;
	uint64_t sum = 0;

	for (size_t first = 0, last = 0; last < count; last++) {
		sum += units_kept(&unit[last]);
		/* Of equal readings (the coarse clock) any may have counted last. */
		if (by->now_ns != unit[last].now_ns || by->limit < unit[last].limit)
			by = &unit[last];
		for (; unit[last].now_ns - unit[first].now_ns >= window_ns; first++)
			sum -= units_kept(&unit[first]);
		if (last + 1 == count || unit[last + 1].now_ns != unit[last].now_ns)
			ret->over_by_reading =
				larger(ret->over_by_reading, over(unit, count, by, sum, ret));
	}
}

/* Whole in (t - W, t] and not given back: t from the call's end to the earlier of these. */
static uint64_t until(const struct unit *unit, uint64_t window_ns)
{
	uint64_t left_ns = unit->begin_ns + window_ns;

	return unit->refund_ns < left_ns ? unit->refund_ns : left_ns;
}

static void by_spans(const struct unit *unit, size_t count, uint64_t window_ns, struct step *from,
		     struct step *to, struct units_verdict *ret)
{
	size_t steps = 0, gone = 0;
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		if (unit[i].end_ns < until(&unit[i], window_ns)) {
			from[steps] = (struct step){unit[i].end_ns, &unit[i]};
			to[steps++] = (struct step){until(&unit[i], window_ns), &unit[i]};
		}
	qsort(from, steps, sizeof(*from), by_time);
	qsort(to, steps, sizeof(*to), by_time);
	for (size_t i = 0; i < steps; i++) {
		for (; to[gone].at_ns <= from[i].at_ns; gone++)
			sum -= to[gone].unit->units;
		sum += from[i].unit->units;
		ret->over_by_span =
			larger(ret->over_by_span, over(unit, count, from[i].unit, sum, ret));
	}
}

void judge_units(struct unit *unit, size_t count, uint64_t window_ns, struct units_verdict *ret)
{
	struct step *from = calloc(count + 1, sizeof(*from));
	struct step *to = calloc(count + 1, sizeof(*to));

	if (from == NULL || to == NULL)
		bench_die("no memory to judge");
	*ret = (struct units_verdict){0};
	for (size_t i = 0; i < count; i++) {
		ret->admitted += unit[i].units;
		ret->given_back += unit[i].units - units_kept(&unit[i]);
		ret->late += unit[i].end_ns - unit[i].begin_ns >= window_ns;
	}
	qsort(unit, count, sizeof(*unit), by_reading);
	by_readings(unit, count, window_ns, ret);
	by_spans(unit, count, window_ns, from, to, ret);
	free(from);
	free(to);
}
