#include "agent/watch/log.h"

#include <stdlib.h>
#include <string.h>

#define SORT_STEPS 16u /* for each span */

void log_begin(struct key_log *log, uint64_t window_ns, uint64_t now_ns)
{
	log->count = 0;
	log->window_ns = window_ns;
	log->from_ns = now_ns;
}

void log_free(struct key_log *log)
{
	free(log->span);
	*log = (struct key_log){0};
}

static void drop_first(struct key_log *log, uint32_t some)
{
	if (some == 0)
		return;
	log->from_ns = log->span[some - 1].ended_ns + 1;
	log->count -= some;
	memmove(log->span, log->span + some, log->count * sizeof(log->span[0]));
}

static bool make_room(struct key_log *log)
{
	uint32_t room = log->room == 0 ? 16 : 2 * log->room;
	struct log_span *more;

	if (log->count < log->room)
		return true;
	if (log->room >= LOG_MOST) {
		drop_first(log, LOG_MOST / 8);
		return true;
	}
	more = realloc(log->span, room * sizeof(more[0]));
	if (more == NULL)
		return false;
	log->span = more;
	log->room = room;
	return true;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Into a span that is so near that both are as short as a part of the window. */
static bool join(struct log_span *span, uint64_t begun_ns, uint64_t ended_ns, uint64_t units,
		 uint64_t part_ns)
{
	uint64_t first_ns = earlier(span->begun_ns, begun_ns);
	uint64_t last_ns = ended_ns > span->ended_ns ? ended_ns : span->ended_ns;

	if (last_ns - first_ns > part_ns)
		return false;
	*span = (struct log_span){first_ns, last_ns, span->units + units};
	return true;
}

bool log_add(struct key_log *log, uint64_t begun_ns, uint64_t ended_ns, uint64_t units)
{
	uint64_t part_ns = log->window_ns / LOG_PARTS;
	uint32_t at = log->count;

	if (ended_ns - begun_ns >= log->window_ns || begun_ns < log->from_ns)
		return begun_ns < log->from_ns; /* what is not asked for is not missed */
	while (at > 0 && log->span[at - 1].ended_ns > ended_ns)
		at--;
	if (at > 0 && at == log->count &&
	    join(&log->span[at - 1], begun_ns, ended_ns, units, part_ns))
		return true;
	if (!make_room(log))
		return false;
	if (at > log->count)
		at = log->count;
	while (at > 0 && log->span[at - 1].ended_ns > ended_ns) /* some were dropped */
		at--;
	memmove(log->span + at + 1, log->span + at, (log->count - at) * sizeof(log->span[0]));
	log->span[at] = (struct log_span){begun_ns, ended_ns, units};
	log->count++;
	return true;
}

void log_give_back(struct key_log *log, uint64_t units)
{
	while (log->count > 0 && units > 0) {
		struct log_span *last = &log->span[log->count - 1];
		uint64_t some = earlier(units, last->units);

		last->units -= some;
		units -= some;
		if (last->units == 0)
			log->count--;
	}
}

void log_forget(struct key_log *log, uint64_t before_ns)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < log->count; i++)
		if (log->span[i].begun_ns >= before_ns)
			log->span[kept++] = log->span[i];
	log->count = kept;
	if (log->from_ns < before_ns)
		log->from_ns = before_ns;
}

void log_drop(struct key_log *log, uint64_t before_ns)
{
	uint32_t some = 0;

	while (some < log->count && log->span[some].ended_ns < before_ns)
		some++;
	drop_first(log, some);
}

static int by_begin(const void *a, const void *b)
{
	uint64_t x = ((const struct log_span *)a)->begun_ns;
	uint64_t y = ((const struct log_span *)b)->begun_ns;

	return x < y ? -1 : x > y;
}

/* Nearly in order already, but for workers that were stopped. Others' logs may say anything: what
 * takes more than a few steps a span is sorted in a way that takes no longer for that. */
static void sort_by_begin(struct log_span *span, uint32_t count)
{
	uint64_t left = SORT_STEPS * (uint64_t)count;

	for (uint32_t i = 1; i < count; i++) {
		struct log_span one = span[i];
		uint32_t at = i;

		for (; at > 0 && left > 0 && span[at - 1].begun_ns > one.begun_ns; at--, left--)
			span[at] = span[at - 1];
		span[at] = one;
	}
	if (left == 0)
		qsort(span, count, sizeof(span[0]), by_begin);
}

/*
 * By their ends in span, by their beginnings in scratch. A span that begins W or more before this
 * end has ended before it, as none is as long: it is out, and was in.
 */
uint64_t log_most(const struct log_span *span, uint32_t count, uint64_t window_ns,
		  uint64_t since_ns, struct log_span *scratch)
{
	uint64_t held = 0, most = 0;
	uint32_t out = 0;

	memcpy(scratch, span, count * sizeof(span[0]));
	sort_by_begin(scratch, count);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t end_ns = span[i].ended_ns;

		held += span[i].units;
		while (end_ns - scratch[out].begun_ns >= window_ns)
			held -= scratch[out++].units;
		if (end_ns >= since_ns && held > most)
			most = held;
	}
	return most;
}

uint32_t log_coarsen(const struct log_span *span, uint32_t count, uint64_t part_ns,
		     struct log_span *ret)
{
	uint32_t made = 0;

	for (uint32_t i = 0; i < count; i++)
		if (made == 0 || !join(&ret[made - 1], span[i].begun_ns, span[i].ended_ns,
				       span[i].units, part_ns))
			ret[made++] = span[i];
	return made;
}

int log_by_end(const void *a, const void *b)
{
	uint64_t x = ((const struct log_span *)a)->ended_ns;
	uint64_t y = ((const struct log_span *)b)->ended_ns;

	return x < y ? -1 : x > y;
}
