/*
 * greet.h - what the steps of a connection's beginning have in common. For greet.c and login.c.
 */
#ifndef AGENT_REDIS_GREET_H
#define AGENT_REDIS_GREET_H

#include <string.h>

#include "agent/redis/inner.h"

enum greet_outcome {
	GREET_FAILED, /* the reason is written down */
	GREET_DONE,
	GREET_AGAIN, /* the same step once more */
};

static inline bool greet_begins(const char *text, const char *word)
{
	return strncmp(text, word, strlen(word)) == 0;
}

/* login.c: it is us that the server does not want: the reason, as redis_blame(); always false. */
bool greet_deny(struct redis *redis, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* login.c: as whom we come, for messages. */
const char *greet_user(const struct redis *redis);

/* login.c: the step AUTH. */
bool greet_wants_login(const struct redis *redis);
struct redis_request *greet_log_in(struct redis *redis);
enum greet_outcome greet_logged_in(struct redis *redis, const redisReply *reply);

#endif
