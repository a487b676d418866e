/*
 * redis_dial.h - what happens once a connection: a socket that is on its way, and a reader.
 */
#ifndef AGENT_REDIS_DIAL_H
#define AGENT_REDIS_DIAL_H

#include <hiredis/hiredis.h>
#include <netdb.h>

/* Begin to connect: a non-blocking socket, connected or about to be, or -1 and *ret_why. */
int redis_dial_unix(const char *path, const char **ret_why);

/*
 * The same to one address of a list, which is not empty: turns 0, 1, 2 ... go through it, and
 * begin again after the last.
 */
int redis_dial_tcp(const struct addrinfo *list, unsigned turn, const char **ret_why);

/* hiredis's reader, but an array that claims to be huge is refused, not allocated. Or NULL. */
redisReader *redis_reader_new(void);

#endif
