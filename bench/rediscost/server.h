/*
 * server.h - what a Redis says of itself: its own accounts of time, memory and keys.
 *
 * Rooms:  bench/figure_rediscost.c.
 */
#ifndef BENCH_REDISCOST_SERVER_H
#define BENCH_REDISCOST_SERVER_H

#include <stdint.h>

struct redisContext;

struct server_time {
	double process_us; /* of the processor, user and system, all threads */
	double script_us;  /* within EVALSHA, by Redis' clock: without reading and answering */
	uint64_t calls;    /* of EVALSHA */
};

struct server_time server_time(struct redisContext *redis);

/* What was spent since then. */
struct server_time server_since(struct redisContext *redis, const struct server_time *then);

uint64_t server_memory_bytes(struct redisContext *redis);

/* KEYS: for a server that nobody else uses. */
uint64_t server_keys(struct redisContext *redis, const char *pattern);

#endif
