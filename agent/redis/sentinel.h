/*
 * sentinel.h - where a primary is, as its Sentinels say.
 *
 * Rooms:  agent/redis/link.c, redis.c. redis.h has what users see.
 *
 * A connection is kept to each Sentinel, those of the configuration and those that they name, and
 * each is asked twice a second where the primary is; ten times while our connection is in trouble.
 * So a failover is followed as soon as any of them knows, and one that is dead or hangs delays
 * nothing. What a Sentinel says is of a configuration epoch that each failover raises: one that has
 * been cut off from the others is known by the lower one.
 *
 * That nobody answers changes nothing: the primary is where it was.
 */
#ifndef AGENT_REDIS_SENTINEL_H
#define AGENT_REDIS_SENTINEL_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/redis/access.h"

struct redis;
struct redis_sentinel;

/*
 * Begins from the loop; owner is the connection that wants to know, told by redis_link_moved().
 * NULL when there is no memory. What is given is copied.
 */
struct redis_sentinel *redis_sentinel_new(struct event_base *base,
					  const struct redis_sentinels *sentinels,
					  const struct redis_trust *trust, struct redis *owner);
void redis_sentinel_free(struct redis_sentinel *sentinel);

/* Ask now. */
void redis_sentinel_hurry(struct redis_sentinel *sentinel);

/*
 * Where it is, by an answer to a question of since_ns or later: host and port of *ret. False: there
 * is none yet.
 */
bool redis_sentinel_where(const struct redis_sentinel *sentinel, uint64_t since_ns,
			  struct redis_address *ret);

/* Where it was last, if nobody has answered a question of since_ns or later. Else false. */
bool redis_sentinel_was(const struct redis_sentinel *sentinel, uint64_t since_ns,
			struct redis_address *ret);

/* Why nobody says where it is; always false. */
bool redis_sentinel_blame(const struct redis_sentinel *sentinel, char *why, size_t why_size);

/* "sentinel://HOST:PORT,.../NAME", as much as there is room for. Returns text. */
const char *redis_sentinel_name(const struct redis_sentinel *sentinel, char text[REDIS_URL_MAX]);

#endif
