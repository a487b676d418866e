/*
 * login.c - how a connection says who we are, and what a server that does not let us in is
 * answered with in the log.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/redis/greet.h"

#define LOGINS_MAX 3 /* of one connection, while the file changes under our hands */

bool greet_deny(struct redis *redis, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(redis->why, sizeof(redis->why), format, args);
	va_end(args);
	redis->denied = true;
	return false;
}

const char *greet_user(const struct redis *redis)
{
	return redis->login.user[0] != '\0' ? redis->login.user : "default";
}

bool redis_refused(struct redis *redis, const char *error)
{
	redis->known_ns = 0;
	if (greet_begins(error, "NOAUTH") || strstr(error, "unauthenticated") != NULL)
		return greet_deny(redis,
				  "the server wants a password (NOAUTH): set %spassword_file, and "
				  "%suser if it is a user's",
				  redis->option, redis->option);
	if (strstr(error, "READONLY You can't write") != NULL)
		return redis_blame(redis, "the server is a read-only replica: the agent needs the "
					  "primary (READONLY)");
	if (greet_begins(error, "NOPERM") ||
	    strstr(error, "The user executing the script") != NULL ||
	    strstr(error, "ACL failure in script") != NULL)
		return greet_deny(redis,
				  "user '%s' may not do all that the agent needs: %.160s: see "
				  "'ACL' in rl-agent(8)",
				  greet_user(redis), error);
	return redis_blame(redis, "refused: %s", error);
}

bool greet_wants_login(const struct redis *redis)
{
	return redis->password.size != 0;
}

struct redis_request *greet_log_in(struct redis *redis)
{
	bool named = redis->login.user[0] != '\0';
	const char *argv[] = {"AUTH", redis->login.user, redis->password.bytes};
	const size_t length[] = {4, strlen(redis->login.user), redis->password.size};
	const char *short_argv[] = {argv[0], argv[2]};
	const size_t short_length[] = {length[0], length[2]};
	struct redis_request *request =
		named ? redis_request_new(REDIS_PLAIN, 0, 3, argv, length)
		      : redis_request_new(REDIS_PLAIN, 0, 2, short_argv, short_length);

	redis->logins++;
	if (request != NULL)
		request->secret = true;
	return request;
}

static bool read_password(struct redis *redis, struct redis_password *ret)
{
	const char *path = redis->login.password_file;

	redis_stamp_take(path, &redis->password_is); /* before: what comes later is a change */
	return redis_password_read(path, redis->option, ret, redis->why, sizeof(redis->why));
}

bool redis_login_ready(struct redis *redis)
{
	return redis->login.password_file[0] == '\0' || read_password(redis, &redis->password);
}

/* The password was changed since we read it: in the file as well? */
static bool read_another(struct redis *redis)
{
	struct redis_password fresh = {0};
	bool another;

	another = read_password(redis, &fresh) &&
		  (fresh.size != redis->password.size ||
		   memcmp(fresh.bytes, redis->password.bytes, fresh.size) != 0);
	if (another)
		redis->password = fresh;
	redis_password_wipe(&fresh);
	return another;
}

/* The error's code, if it is one that servers have. */
static const char *code_of(const char *error)
{
	static const char *const codes[] = {"ERR",     "NOPERM",      "LOADING", "BUSY",
					    "MISCONF", "CLUSTERDOWN", "DENIED"};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (greet_begins(error, codes[i]))
			return codes[i];
	return "with another error";
}

/* A server that does not know AUTH repeats its arguments: nothing of its words goes to a log. */
static bool blame_login(struct redis *redis, const char *error)
{
	const char *file = redis->login.password_file, *option = redis->option;

	if (greet_begins(error, "WRONGPASS") || greet_begins(error, "ERR invalid password"))
		return greet_deny(redis,
				  "the server does not take the password in %s for user '%s': "
				  "put the right one there, it is read again when it has changed",
				  file, greet_user(redis));
	if (strstr(error, "without any password configured") != NULL ||
	    strstr(error, "no password is set") != NULL)
		return greet_deny(redis,
				  "the server has no password for its default user: set %suser, or "
				  "leave %spassword_file out",
				  option, option);
	if (greet_begins(error, "ERR wrong number of arguments"))
		return greet_deny(redis,
				  "the server knows no users (before Redis 6): leave %suser out",
				  option);
	return greet_deny(redis, "the server does not let user '%s' in: AUTH is answered %s",
			  greet_user(redis), code_of(error));
}

enum greet_outcome greet_logged_in(struct redis *redis, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR && redis->logins < LOGINS_MAX && read_another(redis))
		return GREET_AGAIN;
	redis_password_wipe(&redis->password);
	if (reply->type == REDIS_REPLY_ERROR) {
		blame_login(redis, reply->str);
		return GREET_FAILED;
	}
	return GREET_DONE;
}
