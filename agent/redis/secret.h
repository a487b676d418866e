/*
 * secret.h - files that only the agent may read: the password, the private key.
 *
 * Rooms:  agent/redis/.
 */
#ifndef AGENT_REDIS_SECRET_H
#define AGENT_REDIS_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Open it for reading: a regular file that others than its owner and group cannot read. -1 with
 * the reason in why, which says what to do; what: "the password", option: "redis.password_file".
 */
int redis_secret_open(const char *path, const char *what, const char *option, char *why,
		      size_t why_size);

#define REDIS_PASSWORD_MAX 4096 /* tokens of clouds have up to 2 KiB */

struct redis_password {
	size_t size;
	char bytes[REDIS_PASSWORD_MAX];
};

/*
 * The only line of a file, without its end; false with the reason in why. *ret is overwritten.
 * option: what the name "password_file" is preceded by, "redis.".
 */
bool redis_password_read(const char *path, const char *option, struct redis_password *ret,
			 char *why, size_t why_size);

/* Leave nothing of it in memory. */
void redis_password_wipe(struct redis_password *password);

#endif
