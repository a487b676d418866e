/*
 * redis_inner.h - what redis.c (commands and their answers), redis_link.c (the connection
 * that carries them) and redis_greet.c (how it begins) know of each other. For these files only.
 */
#ifndef AGENT_REDIS_INNER_H
#define AGENT_REDIS_INNER_H

#include <event2/bufferevent.h>

#include "agent/redis/request.h"
#include "agent/redis/resolve.h"
#include "agent/redis/secret.h"
#include "agent/redis/sentinel.h"
#include "agent/redis/stamp.h"
#include "agent/redis/tls.h"

#define REDIS_BACKOFF_SOON_MS 3u /* the first attempt after a connection that was of use */
#define REDIS_BACKOFF_MIN_MS  20u
#define REDIS_BACKOFF_MAX_MS  500u
#define REDIS_DENIED_MAX_MS \
	10000u /* who refuses us by name is not asked twice a second for ever \
		*/

enum redis_state {
	STATE_WAITING,    /* for the next attempt */
	STATE_ASKING,     /* a Sentinel is to say where it is */
	STATE_RESOLVING,  /* the host name's addresses are awaited */
	STATE_CONNECTING, /* the socket is on its way */
	STATE_SECURING,   /* the TLS handshake is on its way */
	STATE_GREETING,   /* greet.c: is it a Redis, and ready? */
	STATE_UP,
};

struct redis {
	struct event_base *base;
	struct redis_address address;
	struct redis_events events;
	void *arg;
	struct redis_lua lua[REDIS_SCRIPTS_MAX];
	unsigned scripts;
	unsigned timeout_ms;
	struct redis_tls *tls; /* NULL: the address has none */
	struct redis_login login;
	struct redis_password password; /* while it is needed for a greeting */
	struct redis_stamp password_is; /* the file of it, at the last attempt */
	unsigned logins;                /* tried on this connection */
	bool denied;                    /* the last attempt was refused for who we are */
	enum redis_use use;
	const char *option; /* what the names of our options begin with, for messages */
	struct redis_lua probe;
	char probe_key[128];

	enum redis_state state;
	struct bufferevent *stream; /* with reader: NULL while waiting or resolving */
	redisReader *reader;
	size_t fed;        /* bytes since the last whole answer */
	size_t step;       /* of the greeting */
	bool brief;        /* it leaves out what is known of the server */
	uint64_t known_ns; /* when a whole greeting ended well; 0: that is not to be relied on */
	bool heard;        /* it has answered something */

	/* Oldest first, and all of one are older than those of the next. */
	struct redis_queue refused; /* the server had forgotten the script: not applied */
	struct redis_queue sent;
	struct redis_queue waiting; /* issued while refused is not empty; never written */

	struct event *timer; /* the next attempt, or the end of what is awaited */
	uint64_t timer_due_ns;
	struct redis_resolver *resolver;
	struct redis_sentinel *sentinel; /* NULL: the address is where it is */
	uint64_t lost_ns;                /* when the last connection or attempt ended */
	uint64_t retry_ns;               /* when the next one is due */
	unsigned turn;                   /* addresses tried so far */
	unsigned backoff_ms;

	unsigned busy; /* our callbacks on the stack */
	bool gone;     /* freed by one of them: the last one to return releases the memory */
	char why[512]; /* a host name of 255 bytes and what is wrong with it */
};

/* Around every call of a user's function: it may free redis, which then stays till leave(). */
void redis_enter(struct redis *redis);
void redis_leave(struct redis *redis);

/* Write down why the connection is of no more use; always false. */
bool redis_blame(struct redis *redis, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* redis_greet.c: the first command of a connection; false with a reason. */
bool redis_greet(struct redis *redis);

/* redis_greet.c: its answer, and the next; after the last one it is up. False with a reason. */
bool redis_greeted(struct redis *redis, const redisReply *reply);

/* login.c: why a command was answered with this error, in our words; always false. */
bool redis_refused(struct redis *redis, const char *error);

/* redis.c: the oldest command has its answer. False, with a reason: drop the connection. */
bool redis_answered(struct redis *redis, redisReply *reply);

/* redis.c: NULL for all that have no answer, in order. */
void redis_give_up_all(struct redis *redis);

/* redis_link.c: put it on its way; false, with a reason, when there is no memory. */
bool redis_link_write(struct redis *redis, struct redis_request *request);

/* redis_link.c: begin with the first attempt, from the loop; false: no memory. */
bool redis_link_init(struct redis *redis, struct event_base *base);

/* redis_link.c: any number. */
uint32_t redis_random(void);

/* redis_link.c: do not wait for the next attempt any longer, if that is what it does. */
void redis_link_hurry(struct redis *redis);

/* redis_link.c: a Sentinel has answered: is it where we are, or on our way to? */
void redis_link_moved(struct redis *redis);

/* redis_link.c: is it up, and no answer overdue? */
bool redis_link_is_well(const struct redis *redis);

/* login.c: read the password, if there is one to be read; false with a reason. */
bool redis_login_ready(struct redis *redis);

/* redis_link.c: the end of the connection and of the timer; nobody is called. */
void redis_link_end(struct redis *redis);

#endif
