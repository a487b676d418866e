/*
 * identity.h - who this host is to Redis: fleet, host id, and the epoch of its segment.
 *
 * Rooms:  agent/sync/, under the segment's lock.
 *
 * All three are kept in the segment, so that an agent that starts again is the same host with
 * the same sequence numbers, and answers of calls under way still fit. A row of Redis is
 * HOST:EPOCH; an epoch is one life of one segment under one identity.
 */
#ifndef SYNC_IDENTITY_H
#define SYNC_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"
#include "shm/rl_terms.h"

struct identity {
	char fleet[RL_NAME_MAX + 1];
	char host[RL_NAME_MAX + 1];
	char row[RL_NAME_MAX + 24]; /* host:epoch */
	char about[200];            /* for people: host name, pid, segment */
};

/*
 * Take on the identity that the segment has, or make one: host "" lets one be made, once. A
 * fleet or host that differs from the segment's begins a new epoch. Returns true when that
 * happened: calls under way must be forgotten. False in *ret_good: no random numbers.
 */
bool identity_open(struct rl_seg *seg, const char *fleet, const char *host, const char *path,
		   struct identity *ret, bool *ret_good);

/* Another host has used this identity: begin a new epoch. False: no random numbers. */
bool identity_renew(struct rl_seg *seg, struct identity *identity);

/* 64 random bits; 0 when the kernel has none. */
uint64_t identity_random(void);

#endif
