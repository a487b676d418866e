/*
 * reply.h - write "429 Too Many Requests" to a client.
 *
 * Rooms:  client/preload only. No allocation, no stdio: async-signal-safe.
 */
#ifndef PRELOAD_REPLY_H
#define PRELOAD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_MAX 512

struct reply {
	uint64_t retry_after_s; /* >= 1; RFC 9110 10.2.3: whole seconds */
	bool to_head;           /* no body */
	bool close;             /* announce Connection: close */
};

/* Format the response into text (REPLY_MAX bytes, not NUL-terminated). Returns its length. */
size_t reply_format(const struct reply *reply, char *text);

/* Send it without blocking. False: it did not go out whole, so the connection must end. */
bool reply_send(int fd, const struct reply *reply);

#endif
