/*
 * secret.h - files that only the agent may read: the password, the private key.
 *
 * Rooms:  agent/redis/.
 */
#ifndef AGENT_REDIS_SECRET_H
#define AGENT_REDIS_SECRET_H

#include <stddef.h>

/*
 * Open it for reading: a regular file that others than its owner and group cannot read. -1 with
 * the reason in why, which says what to do; what: "the password", option: "redis.password_file".
 */
int redis_secret_open(const char *path, const char *what, const char *option, char *why,
		      size_t why_size);

#endif
