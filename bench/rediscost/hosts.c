#include "bench/rediscost/hosts.h"

#include <hiredis/hiredis.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/store/item.h"
#include "bench/bench.h"

#define BEGIN_MS UINT64_C(1700000000000)

enum { ARGS = 3 + 2 + CALL_KEYS + 5, NAME_SIZE = 64, PARTS = 16 };

struct host {
	char name[16], row[40], about[64];
	uint64_t seq[PARTS];
	uint32_t credit[HOSTS_KEYS_MAX];
	uint64_t retry_ms[HOSTS_KEYS_MAX]; /* refused until then */
};

struct hosts {
	redisContext *redis;
	struct hosts_traffic traffic;
	struct hosts_sum sum;
	char sha[41], fleet[24];
	uint64_t now_ms, seed, generation;
	struct host host[HOSTS];
	/* The call that is put together. */
	const char *argv[ARGS];
	size_t len[ARGS];
	int argc;
	char text[2 + CALL_KEYS][NAME_SIZE];
	char count[8];
	unsigned char header[SYNC_HEADER_SIZE], item[CALL_KEYS][SYNC_ITEM_SIZE];
};

static void push(struct hosts *hosts, const void *bytes, size_t len)
{
	hosts->argv[hosts->argc] = bytes;
	hosts->len[hosts->argc++] = len;
}

static void push_text(struct hosts *hosts, const char *text)
{
	push(hosts, text, strlen(text));
}

struct hosts *hosts_new(redisContext *redis, const char *script, size_t len,
			const struct hosts_traffic *traffic)
{
	struct hosts *hosts = calloc(1, sizeof(*hosts));
	redisReply *reply = redisCommand(redis, "SCRIPT LOAD %b", script, len);

	if (hosts == NULL || reply == NULL || reply->type != REDIS_REPLY_STRING)
		bench_die(reply != NULL ? reply->str : "no memory, or no Redis");
	snprintf(hosts->sha, sizeof(hosts->sha), "%s", reply->str);
	freeReplyObject(reply);
	hosts->redis = redis;
	hosts->traffic = *traffic;
	snprintf(hosts->fleet, sizeof(hosts->fleet), "%s", traffic->fleet);
	hosts->seed = traffic->seed | 1;
	hosts->now_ms = BEGIN_MS;
	for (uint32_t h = 0; h < HOSTS; h++) {
		struct host *host = &hosts->host[h];

		snprintf(host->name, sizeof(host->name), "web-%u", h);
		snprintf(host->row, sizeof(host->row), "web-%u:%llu", h, 7000000000000000ULL + h);
		snprintf(host->about, sizeof(host->about), "web-%u pid 1%u segment /dev/shm/ratel",
			 h, h);
	}
	return hosts;
}

void hosts_free(struct hosts *hosts)
{
	free(hosts);
}

/* Memoryless arrivals: how many of so many on average. */
static uint32_t poisson(struct hosts *hosts, double mean)
{
	double left = exp(-mean);
	uint32_t count = 0;

	for (double p = 1;; count++) {
		p *= (double)(bench_random(&hosts->seed) >> 11) / 9007199254740992.0;
		if (p <= left)
			return count;
	}
}

static void push_names(struct hosts *hosts, uint32_t first)
{
	const struct hosts_traffic *t = &hosts->traffic;
	unsigned part = first / CALL_KEYS % PARTS;
	int at = 0;

	snprintf(hosts->text[at], NAME_SIZE, "{rl:%s:%u}:s", hosts->fleet, part);
	push_text(hosts, hosts->text[at++]);
	snprintf(hosts->text[at], NAME_SIZE, "{rl:%s:%u}:h", hosts->fleet, part);
	push_text(hosts, hosts->text[at++]);
	for (uint32_t k = first; k < first + CALL_KEYS; k++) {
		snprintf(hosts->text[at], NAME_SIZE, "{rl:%s:%u}:k:%s:10.%llu.%u.%u", hosts->fleet,
			 part, t->rule, (unsigned long long)hosts->generation, k / 256, k % 256);
		push_text(hosts, hosts->text[at++]);
	}
}

/* What came since the last call, spent or refused. */
static void fill(struct hosts *hosts, struct host *host, uint32_t key, struct sync_item *item)
{
	const struct hosts_traffic *t = &hosts->traffic;
	uint32_t demand = t->per_interval > 0 ? poisson(hosts, t->per_interval)
					      : 1 + (uint32_t)(bench_random(&hosts->seed) % 3);
	uint32_t used, missed;

	used = demand < host->credit[key] ? demand : host->credit[key];
	missed = demand - used;
	host->credit[key] -= used;
	hosts->sum.requests += demand;
	hosts->sum.admitted += used;
	*item = (struct sync_item){
		.tag = key,
		.limit = t->limit,
		.window_ms = t->window_ms,
		.interval_ms = t->interval_ms,
		.used = used,
		.age_ms = used > 0 ? bench_random(&hosts->seed) % 3 : 0,
		.credit = host->credit[key],
		.demand = demand,
		.waiting = hosts->now_ms < host->retry_ms[key] ? 0
			   : missed < t->waiting               ? missed
							       : t->waiting,
		.blind = t->blind,
	};
}

static void take_answer(struct hosts *hosts, struct host *host, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 5 ||
	    reply->element[0]->integer != SYNC_APPLIED ||
	    reply->element[4]->len != (size_t)CALL_KEYS * SYNC_ANSWER_SIZE)
		bench_die(reply->type == REDIS_REPLY_ERROR ? reply->str
							   : "the script answers otherwise");
	for (uint32_t i = 0; i < CALL_KEYS; i++) {
		struct sync_answer answer;

		sync_answer_read((const unsigned char *)reply->element[4]->str +
					 (size_t)i * SYNC_ANSWER_SIZE,
				 &answer);
		host->credit[answer.tag] += answer.grant;
		host->retry_ms[answer.tag] =
			(answer.flags & SYNC_EXHAUSTED) != 0 ? hosts->now_ms + answer.retry_ms : 0;
	}
}

static void call(struct hosts *hosts, struct host *host, uint32_t first)
{
	struct sync_header header = {.seq = ++host->seq[first / CALL_KEYS % PARTS],
				     .nonce = bench_random(&hosts->seed),
				     .lease_ms = hosts->traffic.lease_ms};
	redisReply *reply;

	hosts->argc = 0;
	push_text(hosts, "EVALSHA");
	push_text(hosts, hosts->sha);
	snprintf(hosts->count, sizeof(hosts->count), "%d", 2 + CALL_KEYS);
	push_text(hosts, hosts->count);
	push_names(hosts, first);
	push_text(hosts, host->name);
	push_text(hosts, host->row);
	push_text(hosts, host->about);
	sync_header_write(&header, hosts->header);
	memcpy(hosts->header + SYNC_HEADER_SIZE - 8, &hosts->now_ms, 8);
	push(hosts, hosts->header, SYNC_HEADER_SIZE);
	for (uint32_t i = 0; i < CALL_KEYS; i++) {
		struct sync_item item;

		fill(hosts, host, first + i, &item);
		sync_item_write(&item, hosts->item[i]);
	}
	push(hosts, hosts->item, sizeof(hosts->item));
	reply = redisCommandArgv(hosts->redis, hosts->argc, hosts->argv, hosts->len);
	if (reply == NULL)
		bench_die("Redis has gone");
	take_answer(hosts, host, reply);
	freeReplyObject(reply);
	hosts->sum.calls++;
	hosts->sum.keys += CALL_KEYS;
}

/* From now on this host's keys are others. */
static void renew_keys(struct hosts *hosts, struct host *host)
{
	hosts->generation++;
	for (uint32_t k = 0; k < hosts->traffic.keys; k++) {
		host->credit[k] = hosts->traffic.blind;
		host->retry_ms[k] = 0;
	}
}

void hosts_round(struct hosts *hosts)
{
	for (uint32_t h = 0; h < HOSTS; h++) {
		hosts->now_ms += hosts->traffic.interval_ms / HOSTS;
		if (hosts->traffic.per_interval <= 0)
			renew_keys(hosts, &hosts->host[h]);
		for (uint32_t first = 0; first < hosts->traffic.keys; first += CALL_KEYS)
			call(hosts, &hosts->host[h], first);
	}
}

struct hosts_sum hosts_sum(const struct hosts *hosts)
{
	return hosts->sum;
}
