#include "agent/watch/fleet.h"

#include <stdlib.h>
#include <string.h>

#define TELL_LEAST_NS UINT64_C(250000000)
#define TELL_MOST_NS  UINT64_C(10000000000)
#define LAST_MS       10000u /* beyond two windows: no longer than the key's counts */
#define PARTS         64u    /* of a window: spans that are nearer are shown as one */
#define LEAST_SPANS   16u
#define SPANS_MOST    16384u /* of all hosts */

uint64_t fleet_tell_ns(uint64_t window_ns)
{
	uint64_t half_ns = window_ns / 2;

	if (half_ns < TELL_LEAST_NS)
		return TELL_LEAST_NS;
	return half_ns < TELL_MOST_NS ? half_ns : TELL_MOST_NS;
}

uint64_t fleet_keep_ms(uint64_t window_ns)
{
	return 2 * (window_ns / 1000000) + LAST_MS;
}

bool fleet_is_due(const struct audit_key *key, uint32_t hosts, uint64_t now_ns)
{
	return hosts > 1 && !rl_rule_is_local(&key->rule) && !key->asked &&
	       key->seen_ns > key->told_ns &&
	       now_ns - key->told_ns >= fleet_tell_ns(key->rule.window_ns);
}

/* Little-endian, as all bytes in a store. */
static unsigned char *put(unsigned char *at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*at++ = (unsigned char)(value >> (8 * i));
	return at;
}

static uint64_t get(const unsigned char *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

/* A moment of ours in the store's time, never later than it was, and never earlier. */
static uint64_t not_after(struct fleet_time time, uint64_t ns)
{
	return (ns + (uint64_t)time.add_ns - time.by_ns) / 1000;
}

static uint64_t not_before(struct fleet_time time, uint64_t ns)
{
	return (ns + (uint64_t)time.add_ns + time.by_ns + 999) / 1000;
}

static uint32_t spans_for(uint32_t hosts)
{
	uint32_t spans = FLEET_SPANS_ALL / (hosts > 0 ? hosts : 1);

	if (spans > FLEET_SPANS)
		return FLEET_SPANS;
	return spans < LEAST_SPANS ? LEAST_SPANS : spans;
}

/* The youngest, as many as may be shown; *ret_from_ns: all since then are among them. */
static uint32_t choose(const struct audit_key *key, uint32_t most, uint64_t now_ns,
		       struct log_span spans[LOG_MOST], const struct log_span **ret,
		       uint64_t *ret_from_ns)
{
	uint64_t window_ns = key->rule.window_ns, part_ns = 3 * window_ns / most;
	uint64_t old_ns = window_ns + 3 * fleet_tell_ns(window_ns);
	uint32_t count, first = 0;

	if (part_ns < window_ns / PARTS)
		part_ns = window_ns / PARTS;
	count = log_coarsen(key->log.span, key->log.count, part_ns, spans);
	*ret_from_ns = key->log.from_ns > key->since_ns ? key->log.from_ns : key->since_ns;
	while (first < count && (count - first > most || now_ns - spans[first].ended_ns > old_ns))
		first++;
	if (first > 0 && spans[first - 1].ended_ns >= *ret_from_ns)
		*ret_from_ns = spans[first - 1].ended_ns + 1;
	*ret = spans + first;
	return count - first;
}

size_t fleet_write(const struct audit_key *key, struct fleet_time time, uint64_t now_ns,
		   uint32_t hosts, unsigned char out[FLEET_LOG_MOST])
{
	static struct log_span spans[LOG_MOST];
	const struct log_span *span;
	unsigned char *at = out;
	uint64_t from_ns;
	uint32_t count = choose(key, spans_for(hosts), now_ns, spans, &span, &from_ns);

	at = put(at, not_after(time, now_ns), 8);
	at = put(at, not_before(time, from_ns), 8);
	at = put(at, not_after(time, now_ns), 8);
	at = put(at, key->rule.window_ns / 1000, 8);
	at = put(at, key->rule.limit, 8);
	at = put(at, count, 4);
	for (uint32_t i = 0; i < count; i++) {
		at = put(at, not_after(time, span[i].begun_ns), 8);
		at = put(at, not_before(time, span[i].ended_ns), 8);
		at = put(at, span[i].units, 4);
	}
	return (size_t)(at - out);
}

/* All logs that have been read. */
struct reading {
	uint64_t newest_us;         /* when the last of them was made */
	uint64_t from_us, until_us; /* all of what is young is in these */
	uint32_t count;
	struct log_span span[SPANS_MOST], scratch[SPANS_MOST];
};

/* False: it was admitted under other terms, or is damaged. */
static bool read_log(struct reading *r, const struct audit_key *key, const unsigned char *log,
		     size_t size)
{
	uint64_t window_us = key->rule.window_ns / 1000, count;

	if (size < FLEET_HEAD)
		return false;
	count = get(log + 40, 4);
	if (get(log + 24, 8) != window_us || get(log + 32, 8) != key->rule.limit ||
	    size != FLEET_HEAD + count * 20 || count > SPANS_MOST - r->count)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		const unsigned char *at = log + FLEET_HEAD + i * 20;
		struct log_span one = {get(at, 8), get(at + 8, 8), get(at + 16, 4)};

		if (one.ended_ns < one.begun_ns)
			return false;
		if (one.ended_ns - one.begun_ns < window_us && one.begun_ns >= key->fleet_since_us)
			r->span[r->count++] = one;
	}
	return true;
}

/* A host that has shown nothing for long has admitted nothing, or is gone. */
static void note_times(struct reading *r, const struct audit_key *key, const unsigned char *log)
{
	uint64_t lately_us = 3 * fleet_tell_ns(key->rule.window_ns) / 1000;

	if (get(log, 8) + lately_us < r->newest_us)
		return;
	if (get(log + 8, 8) > r->from_us)
		r->from_us = get(log + 8, 8);
	if (get(log + 16, 8) < r->until_us)
		r->until_us = get(log + 16, 8);
}

/* Each log in turn; false when one of them is not good. */
static bool each(struct reading *r, const struct audit_key *key, const unsigned char *logs,
		 size_t size, bool times)
{
	for (size_t at = 0; at < size;) {
		size_t left = size - at, len = left >= 4 ? get(logs + at, 4) : 0;

		if (len < FLEET_HEAD || len > left - 4)
			return false;
		if (times)
			note_times(r, key, logs + at + 4);
		else if (!read_log(r, key, logs + at + 4, len))
			return false;
		else if (get(logs + at + 4, 8) > r->newest_us)
			r->newest_us = get(logs + at + 4, 8);
		at += 4 + len;
	}
	return true;
}

uint64_t fleet_judge(struct audit_key *key, const unsigned char *logs, size_t size,
		     uint64_t *ret_most)
{
	static struct reading r; /* too large for a stack; the loop has one thread */
	uint64_t window_us = key->rule.window_ns / 1000, judged = 0;

	r.newest_us = r.from_us = 0;
	r.until_us = UINT64_MAX;
	r.count = 0;
	if (!each(&r, key, logs, size, false) || !each(&r, key, logs, size, true) || r.count == 0)
		return 0;
	qsort(r.span, r.count, sizeof(r.span[0]), log_by_end);
	*ret_most = log_most(r.span, r.count, window_us, key->fleet_until_us, r.scratch);
	for (uint32_t i = 0; i < r.count; i++)
		judged += r.span[i].ended_ns >= key->fleet_until_us &&
			  r.span[i].ended_ns <= r.until_us &&
			  r.span[i].ended_ns - window_us >= r.from_us &&
			  r.span[i].ended_ns - window_us >= key->fleet_since_us;
	if (r.until_us + 1 > key->fleet_until_us)
		key->fleet_until_us = r.until_us + 1;
	return judged;
}

void fleet_begin_anew(struct audit_key *key, struct fleet_time time, uint64_t now_ns)
{
	key->fleet_since_us = not_before(time, now_ns) + FLEET_SETTLE_US;
	key->fleet_until_us = 0;
}
