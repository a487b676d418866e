/*
 * told.h - what a Sentinel's answers say. No I/O.
 *
 * Rooms:  agent/redis/sentinel.c.
 */
#ifndef AGENT_REDIS_TOLD_H
#define AGENT_REDIS_TOLD_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/redis/access.h"

#define SENTINEL_WHY 320

struct told_primary {
	char host[256];
	uint16_t port;
};

/* SENTINEL MASTER: the epoch of its configuration; 0: it does not say. */
uint64_t told_epoch(const redisReply *reply);

/* SENTINEL GET-MASTER-ADDR-BY-NAME; false: why it does not say where name is. */
bool told_where(const redisReply *reply, const char *name, struct told_primary *ret,
		char why[SENTINEL_WHY]);

/* One element of SENTINEL SENTINELS: host and port of *ret. False: it is none to be asked. */
bool told_other(const redisReply *element, struct redis_address *ret);

#endif
