/*
 * redis_request.h - a command from its call to its answer: its bytes, and who waits for it.
 *
 * The arguments are kept in the form they have on the wire, so that a script the server has
 * forgotten can be sent again with another head.
 */
#ifndef AGENT_REDIS_REQUEST_H
#define AGENT_REDIS_REQUEST_H

#include <event2/buffer.h>
#include <sys/queue.h>

#include "agent/redis/redis.h"

struct redis_lua {
	char sha[41]; /* in hex */
	char *body;   /* NULL: there is no script */
	size_t size;
	bool sent; /* on this connection: from now on its SHA will do */
};

enum redis_how { REDIS_PLAIN, REDIS_EVALSHA, REDIS_EVAL };

struct redis_request {
	STAILQ_ENTRY(redis_request) next;
	redis_reply_fn *fn;
	void *arg;
	enum redis_how how;
	unsigned script;     /* which, unless it is plain */
	bool secret;         /* wiped when it is freed */
	uint64_t written_ns; /* CLOCK_MONOTONIC; 0 while it waits */
	size_t argc;         /* arguments in wire[] */
	size_t size;         /* bytes in wire[] */
	char wire[];         /* "$3\r\nkey\r\n" for each */
};

STAILQ_HEAD(redis_queue, redis_request);

/* NULL when there is no memory. EVALSHA: the number of keys goes before argv. */
struct redis_request *redis_request_new(enum redis_how how, size_t key_count, size_t argc,
					const char **argv, const size_t *argv_len);

/* NULL is fine. */
void redis_request_free(struct redis_request *request);

/* All of it or, when there is no memory, nothing and false. */
bool redis_request_write(const struct redis_request *request, const struct redis_lua *lua,
			 struct evbuffer *out);

#endif
