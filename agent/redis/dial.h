/*
 * redis_dial.h - what happens once a connection: a socket that is on its way, and a reader.
 */
#ifndef AGENT_REDIS_DIAL_H
#define AGENT_REDIS_DIAL_H

#include <hiredis/hiredis.h>

#include "agent/redis/url.h"

/*
 * Begin to connect: a non-blocking socket, connected or about to be, or -1 and *ret_why. A
 * numeric address asks nobody; a host name blocks in the resolver. A name with several
 * addresses gives one after the other to attempts 0, 1, 2 ...
 */
int redis_dial(const struct redis_address *address, unsigned attempt, const char **ret_why);

/* hiredis's reader, but an array that claims to be huge is refused, not allocated. Or NULL. */
redisReader *redis_reader_new(void);

#endif
