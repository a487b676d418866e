#include "bench/fleet/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "shm/rl_shared.h"

#define STILL_NS    UINT64_C(700000000)   /* unchanged for so long: quiet. T is at most 100 ms */
#define PATIENCE_NS UINT64_C(15000000000) /* a lost connection is given up after seconds */
#define LOOK_NS     UINT64_C(20000000)

static int by_reading(const void *a, const void *b)
{
	const struct fleet_request *x = a, *y = b;

	if (x->now_ns != y->now_ns)
		return x->now_ns < y->now_ns ? -1 : 1;
	return (int)y->allowed - (int)x->allowed;
}

void fleet_log_add(struct fleet_log *log, struct fleet_log *more)
{
	size_t count = log->count + more->count;

	log->request = realloc(log->request, (count + 1) * sizeof(*log->request));
	if (log->request == NULL)
		bench_die("no memory for the records");
	if (more->count > 0)
		memcpy(log->request + log->count, more->request,
		       more->count * sizeof(*more->request));
	log->count = count;
	log->busy += more->busy;
	qsort(log->request, count, sizeof(*log->request), by_reading);
	fleet_log_free(more);
}

void fleet_log_free(struct fleet_log *log)
{
	free(log->request);
	memset(log, 0, sizeof(*log));
}

static bool is_in(const struct fleet_request *r, const struct fleet_part *part)
{
	return r->now_ns >= part->from_ns && r->now_ns < part->to_ns &&
	       (part->host == FLEET_ALL || part->host == r->host) &&
	       (part->key == FLEET_ALL || part->key == r->key);
}

uint64_t fleet_requests(const struct fleet_log *log, const struct fleet_part *part)
{
	uint64_t count = 0;

	for (size_t i = 0; i < log->count; i++)
		count += is_in(&log->request[i], part);
	return count;
}

uint64_t fleet_admitted(const struct fleet_log *log, const struct fleet_part *part)
{
	uint64_t count = 0;

	for (size_t i = 0; i < log->count; i++)
		count += log->request[i].allowed != 0 && is_in(&log->request[i], part);
	return count;
}

void fleet_judge(const struct fleet_log *log, const struct fleet_part *part, uint32_t limit,
		 uint64_t window_ns, struct verdict *ret)
{
	struct log one = {.request = calloc(log->count + 1, sizeof(*one.request))};

	if (one.request == NULL)
		bench_die("no memory to judge");
	for (size_t i = 0; i < log->count; i++) {
		const struct fleet_request *r = &log->request[i];

		if (is_in(r, part))
			one.request[one.count++] = (struct request){
				.begin_ns = r->begin_ns,
				.now_ns = r->now_ns,
				.span_ns = r->span_ns,
				.allowed = r->allowed,
			};
	}
	judge(&one, limit, window_ns, ret);
	free(one.request);
}

uint64_t fleet_most(const struct verdict *verdict)
{
	return verdict->most_by_reading > verdict->most_by_span ? verdict->most_by_reading
								: verdict->most_by_span;
}

uint64_t fleet_first_admit(const struct fleet_log *log, const struct fleet_part *part)
{
	for (size_t i = 0; i < log->count; i++)
		if (log->request[i].allowed != 0 && is_in(&log->request[i], part))
			return log->request[i].now_ns;
	return 0;
}

uint64_t fleet_last_admit(const struct fleet_log *log, const struct fleet_part *part)
{
	for (size_t i = log->count; i > 0; i--)
		if (log->request[i - 1].allowed != 0 && is_in(&log->request[i - 1], part))
			return log->request[i - 1].now_ns;
	return 0;
}

uint64_t fleet_recovered_ns(const struct fleet_log *log, int host, uint64_t from_ns)
{
	uint64_t at = UINT64_MAX;

	for (size_t i = 0; i < log->count; i++) {
		const struct fleet_request *r = &log->request[i];

		if (r->host != host || r->now_ns < from_ns)
			continue;
		if (r->state != RL_FRESH)
			at = UINT64_MAX;
		else if (r->allowed != 0 && r->by == RL_DECIDED_CREDIT && at == UINT64_MAX)
			at = r->now_ns;
	}
	return at;
}

uint32_t fleet_span(const struct fleet_log *log, const struct fleet_part *part, int allowed,
		    double percentile)
{
	uint32_t *span = calloc(log->count + 1, sizeof(*span)), at;
	size_t count = 0;

	if (span == NULL)
		bench_die("no memory to judge");
	for (size_t i = 0; i < log->count; i++) {
		const struct fleet_request *r = &log->request[i];

		if (is_in(r, part) && (allowed == FLEET_ALL || allowed == r->allowed))
			span[count++] = r->span_ns;
	}
	bench_sort(span, count);
	at = bench_percentile(span, count, percentile);
	free(span);
	return at;
}

/* One look at all keys. */
static void compare(struct fleet *fleet, const struct fleet_log *log, const char *key_prefix,
		    uint32_t keys, struct fleet_balance *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint32_t k = 0; k < keys; k++) {
		struct fleet_part part = FLEET_WHOLE;
		uint64_t admitted, total;
		char key[64];

		part.key = (int)k;
		snprintf(key, sizeof(key), "%s%u", key_prefix, k);
		admitted = fleet_admitted(log, &part);
		total = fleet_total(fleet, key);
		ret->admitted += admitted;
		ret->in_redis += total;
		ret->lost += admitted > total ? admitted - total : 0;
		ret->doubled += total > admitted ? total - admitted : 0;
	}
}

void fleet_balance(struct fleet *fleet, const struct fleet_log *log, const char *key_prefix,
		   uint32_t keys, struct fleet_balance *ret)
{
	uint64_t start = fleet_now_ns(fleet), changed = start;
	struct fleet_balance now, before = {0};

	for (;;) {
		uint64_t at;

		compare(fleet, log, key_prefix, keys, &now);
		at = fleet_now_ns(fleet);
		if (now.in_redis != before.in_redis)
			changed = at;
		before = now;
		if (at - start > PATIENCE_NS || (now.lost == 0 && at - changed > STILL_NS))
			break;
		fleet_sleep_until(fleet, at + LOOK_NS);
	}
	*ret = now;
}
