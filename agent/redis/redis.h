/*
 * redis.h - one connection to one Redis or Valkey, which keeps itself up.
 *
 * It connects by itself and again after every loss: 3 ms later when that connection had answered
 * something while it was up, else 20 ms, then each time twice as long up to 500 ms, all +-20 %.
 * An attempt may take 1 s to resolve a host name and to connect, with TLS 1 s more for the
 * handshake; every answer has the time
 * redis_set_timeout() gives. Names are resolved beside the loop (redis_resolve.h); one that
 * takes longer fails the attempt, and its late answer is the next one's. A name with several
 * addresses gives them one after the other, each to the attempt that comes to dial.
 *
 * With TLS nothing is sent before the server has proved who it is (access.h).
 *
 * Commands are pipelined and answered in their order. When the connection is lost, each
 * command that has no answer gets NULL, once and in order: it may or may not have been
 * applied, and nothing sends it a second time. It says nothing to a log: down() has the reason.
 *
 * The kernel's SIGPIPE cannot be switched off for a write of libevent's (it has no
 * MSG_NOSIGNAL): the program has to ignore that signal.
 *
 * Who is refused for who they are (a wrong password, a missing right) tries again after up to 10 s;
 * at once when the password's file has changed, and after redis_ask_again().
 *
 * With Sentinels (redis_set_sentinels()) each attempt goes where one of them says that the primary
 * is, and a connection is left as soon as one of them says that it is elsewhere.
 *
 * All of it belongs to the thread of the event loop. Nothing is connected and nobody called
 * before the loop runs. Every callback may call redis_script(), redis_command() and
 * redis_free().
 */
#ifndef AGENT_REDIS_H
#define AGENT_REDIS_H

#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/redis/access.h"
#include "agent/redis/server.h"
#include "agent/redis/url.h"

#define REDIS_TIMEOUT_MS   2000u
#define REDIS_SCRIPTS_MAX  4u
#define REDIS_ANSWER_BYTES (16u << 20) /* an answer that is longer ends the connection */

struct redis;

struct redis_events {
	/* What it is, before each up(); NULL: it is not asked, and not refused for what it is. */
	void (*server)(void *arg, const struct redis_server *server);
	void (*up)(void *arg);                    /* commands are taken from now on */
	void (*down)(void *arg, const char *why); /* lost, or an attempt that failed */
};

/* NULL when there is no memory. events and address are copied. */
struct redis *redis_new(struct event_base *base, const struct redis_address *address,
			const struct redis_events *events, void *arg);

/* Commands without an answer get NULL before this returns; down() is not called. NULL is fine. */
void redis_free(struct redis *redis);

/*
 * A script for redis_script(), copied; before the loop runs. Its number, 0 for the first one, or
 * -ENOMEM. Each connection loads the first one before it is up, and sends any other whole when that
 * is called for the first time: it costs a connection nothing that is made again often.
 */
int redis_add_script(struct redis *redis, const char *body, size_t size);

/*
 * Another script, copied: it is run on each connection before that is up, with one key, and
 * answers with what the user may not do: names of commands, "~" for the key. 0 or -ENOMEM.
 */
int redis_set_probe(struct redis *redis, const char *body, size_t size, const char *key);

/* The probe's key from the next connection on, as a key of a cluster may leave its node. */
void redis_set_probe_key(struct redis *redis, const char *key);

/* What it is to be, else REDIS_ALONE; before the loop runs. */
void redis_set_use(struct redis *redis, enum redis_use use);

/*
 * Who we are, copied; before the loop runs. The password is read from its file for each attempt,
 * so the one that is there now is used, and never kept.
 */
void redis_set_login(struct redis *redis, const struct redis_login *login);

/* Whom to believe at a rediss:// address, copied; else the system's CAs. Before the loop runs. */
int redis_set_trust(struct redis *redis, const struct redis_trust *trust);

/*
 * Where it is, Sentinels say, who are believed by trust if they are spoken to in TLS; before the
 * loop runs. The host and port of redis_new()'s address are of no meaning then. 0 or -ENOMEM.
 */
int redis_set_sentinels(struct redis *redis, const struct redis_sentinels *sentinels,
			const struct redis_trust *trust);

/* What the names of its options begin with in messages, else "redis."; not copied. */
void redis_set_option(struct redis *redis, const char *prefix);

/* How long an answer may take from when its command was written; before the loop runs. */
void redis_set_timeout(struct redis *redis, unsigned timeout_ms);

bool redis_is_up(const struct redis *redis);

/* It has owed an answer for so long that it may be gone. */
bool redis_is_slow(const struct redis *redis);

/*
 * The next connection settles everything anew, whatever was known of the server; an attempt that
 * waits for its time is made now.
 */
void redis_ask_again(struct redis *redis);

/* Where it is, or was last sought, as an address; else whom Sentinel is asked for. Returns text. */
const char *redis_name(const struct redis *redis, char text[REDIS_URL_MAX]);

/* Why it was last down; "" if it never was. */
const char *redis_why(const struct redis *redis);

/* reply is NULL when the connection was lost; it is freed when this returns. */
typedef void redis_reply_fn(struct redis *redis, redisReply *reply, void *arg);

/*
 * Run a script by its number: the first key_count of the arguments are KEYS, the others ARGV. The
 * server may have forgotten it (SCRIPT FLUSH, a restart behind a proxy): then the command was not
 * applied, and it is sent again with the script's text. What was issued meanwhile waits for
 * it, so that commands are applied in the order of these calls. (One exception: another client
 * loads the script amid ours, or those behind it are of another script that is not forgotten; then
 * those behind the refused one are applied before it.)
 *
 * Other errors of the server are handed to fn as they are. But when it has become a replica, or
 * does not let us in any more (READONLY, NOAUTH, NOPERM, also within the script), the connection is
 * given up, and the next attempt says what is missing. fn is called exactly once, and
 * never before this returns. 0, -ENOTCONN when not up, or -ENOMEM; then fn is not called.
 */
int redis_script(struct redis *redis, unsigned script, size_t key_count, size_t argc,
		 const char **argv, const size_t *argv_len, redis_reply_fn *fn, void *arg);

/* Any other command, its name first. As above; it does not overtake a script that waits. */
int redis_command(struct redis *redis, size_t argc, const char **argv, const size_t *argv_len,
		  redis_reply_fn *fn, void *arg);

#endif
