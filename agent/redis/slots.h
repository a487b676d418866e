/*
 * slots.h - which node of a cluster has a key: slots, the map of them, and redirections.
 *
 * Rooms:  agent/redis/, agent/store/. Answers of servers to structs; no I/O. Whatever a server
 *         says is checked: what makes no sense is refused as a whole, with the reason.
 */
#ifndef AGENT_REDIS_SLOTS_H
#define AGENT_REDIS_SLOTS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/redis/url.h"

#define REDIS_SLOTS 16384u

/* CRC16 of the XMODEM kind. */
uint16_t redis_crc16(const char *bytes, size_t size);

/* By what stands between the first '{' and the next '}', if anything does. */
uint16_t redis_slot_of(const char *key, size_t size);

/*
 * The owners of some slots by an answer to CLUSTER SLOTS; ret[i].port 0: slot[i] has none. from:
 * who answered, and how it was reached: a node that does not say its host is there, and all are
 * reached alike. NULL, or why the answer is refused, one line; then ret is not to be used.
 */
const char *redis_slots_read(const redisReply *reply, const struct redis_address *from,
			     const uint16_t *slot, size_t count, struct redis_address *ret);

struct redis_redirect {
	bool ask; /* this once, after ASKING; else for good */
	uint16_t slot;
	struct redis_address to;
};

/* "MOVED 3999 10.0.0.1:6381" or "ASK ..."; false: it is another error, or makes no sense. */
bool redis_redirect_read(const char *error, const struct redis_address *from,
			 struct redis_redirect *ret);

#endif
