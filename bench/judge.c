#include "bench/judge.h"

#include <stdlib.h>

#include "bench/bench.h"

static void *room_for(size_t count, size_t size)
{
	void *room = calloc(count + 1, size);

	if (room == NULL)
		bench_die("no memory to judge");
	return room;
}

static int by_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Most of the sorted instants in any (t - W, t]. */
static uint64_t most_within(const uint64_t *at, size_t count, uint64_t window_ns)
{
	uint64_t most = 0;

	for (size_t first = 0, last = 0; last < count; last++) {
		while (at[last] - at[first] >= window_ns)
			first++;
		if (last - first + 1 > most)
			most = last - first + 1;
	}
	return most;
}

/*
 * Most spans that fit whole into any (t - W, t]: those that begin at or after some begin b
 * and end before b + W. Spans of W and more never fit and are left out; every other span
 * that began before b also ends before b + W, so two sorted lists are enough to count.
 */
static uint64_t most_fitting(const struct log *log, uint64_t window_ns)
{
	uint64_t *begin = room_for(log->count, sizeof(*begin));
	uint64_t *end = room_for(log->count, sizeof(*end));
	uint64_t most = 0;
	size_t count = 0, ended = 0;

	for (size_t i = 0; i < log->count; i++) {
		const struct request *r = &log->request[i];

		if (r->allowed == 0 || r->span_ns >= window_ns)
			continue;
		begin[count] = r->begin_ns;
		end[count++] = r->begin_ns + r->span_ns;
	}
	qsort(begin, count, sizeof(*begin), by_u64);
	qsort(end, count, sizeof(*end), by_u64);
	for (size_t i = 0; i < count; i++) {
		while (ended < count && end[ended] < begin[i] + window_ns)
			ended++;
		if (ended - i > most)
			most = ended - i;
	}
	free(begin);
	free(end);
	return most;
}

/* What a log of every single event, fed with the same requests, admits. */
static void compare_with_exact_log(const struct log *log, uint32_t limit, uint64_t window_ns,
				   struct verdict *ret)
{
	uint64_t *admit = room_for(limit, sizeof(*admit));

	for (size_t i = 0; i < log->count; i++) {
		const struct request *r = &log->request[i];
		uint64_t *oldest = &admit[ret->exact % limit];

		if (ret->exact >= limit && r->now_ns - *oldest < window_ns)
			continue;
		*oldest = r->now_ns;
		ret->exact++;
		ret->false_rejects += r->allowed == 0;
	}
	free(admit);
}

static uint64_t refused_below_limit(const struct log *log, const uint64_t *admit, uint32_t limit,
				    uint64_t window_ns)
{
	uint64_t count = 0;
	size_t admits = 0, first = 0;

	for (size_t i = 0; i < log->count; i++) {
		if (log->request[i].allowed != 0) {
			admits++;
			continue;
		}
		while (first < admits && log->request[i].now_ns - admit[first] >= window_ns)
			first++;
		count += admits - first < limit;
	}
	return count;
}

static uint32_t span_percentile(const struct log *log, double part)
{
	uint32_t *span = room_for(log->count, sizeof(*span));
	uint32_t at;

	for (size_t i = 0; i < log->count; i++)
		span[i] = log->request[i].span_ns;
	bench_sort(span, log->count);
	at = bench_percentile(span, log->count, part);
	free(span);
	return at;
}

void judge(const struct log *log, uint32_t limit, uint64_t window_ns, struct verdict *ret)
{
	uint64_t *admit = room_for(log->count, sizeof(*admit));

	*ret = (struct verdict){.requests = log->count};
	for (size_t i = 0; i < log->count; i++)
		if (log->request[i].allowed != 0)
			admit[ret->allowed++] = log->request[i].now_ns;
	ret->most_by_reading = most_within(admit, ret->allowed, window_ns);
	ret->most_by_span = most_fitting(log, window_ns);
	compare_with_exact_log(log, limit, window_ns, ret);
	ret->below_limit = refused_below_limit(log, admit, limit, window_ns);
	ret->span_p999_ns = span_percentile(log, 0.999);
	free(admit);
}
