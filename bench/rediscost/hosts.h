/*
 * hosts.h - calls of the sync script as the agents of a few hosts make them, without the agents.
 *
 * Three hosts in turn, each once in T, calls of 64 keys; time is the model's own, so that as
 * many rounds as one likes fit into a second. Each host spends what it was granted and says so
 * in its next call, as an agent does.
 *
 * Rooms:  bench/figure_rediscost.c.
 */
#ifndef BENCH_REDISCOST_HOSTS_H
#define BENCH_REDISCOST_HOSTS_H

#include <stddef.h>
#include <stdint.h>

struct redisContext;

enum { HOSTS = 3, CALL_KEYS = 64, HOSTS_KEYS_MAX = 32 * CALL_KEYS };

struct hosts_traffic {
	const char *fleet; /* in the names in Redis: up to 20 bytes, one of its own */
	const char *rule;
	uint32_t keys; /* a multiple of CALL_KEYS */
	uint32_t limit, window_ms, interval_ms, blind;
	uint32_t lease_ms;   /* in Redis all lives on for 2 W, this and 5 s */
	double per_interval; /* requests for a key in T, of one host; 0: 1 to 3, once and for all */
	uint32_t waiting;    /* callers that wait when there is no credit, at most */
	uint64_t seed;
};

struct hosts;

/* A script to be called for such traffic. Exits if Redis does not take it. */
struct hosts *hosts_new(struct redisContext *redis, const char *script, size_t len,
			const struct hosts_traffic *traffic);
void hosts_free(struct hosts *hosts);

/*
 * Every host calls for every key once. Where a key is asked for once and for all, for keys that
 * nobody has asked for before.
 */
void hosts_round(struct hosts *hosts);

/* What they did so far: calls, keys in them, requests, and those of them that were admitted. */
struct hosts_sum {
	uint64_t calls, keys, requests, admitted;
};
struct hosts_sum hosts_sum(const struct hosts *hosts);

#endif
