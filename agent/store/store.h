/*
 * store.h - wherever the fleet's counts are: what is asked of it, and what it tells.
 *
 * Rooms:  agent/sync/, agent/main.c, agent/config/. No protocol shows here, and no library: a
 *         backend has its own side in backend.h, the bytes of a call stand in item.h.
 *
 * A fleet's keys are divided into RL_PARTS partitions. Each is up or down by itself: they may lie
 * on different machines. A partition's call is one atomic step there (item.h says of what); it may
 * be sent again, as the same or with younger ages, until it is answered: the store knows its row,
 * number and nonce, and applies it once.
 *
 * All of it belongs to the thread of the event loop. Nothing is connected and nobody told before
 * the loop runs. It says nothing to a log: its events have the words.
 */
#ifndef AGENT_STORE_H
#define AGENT_STORE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/redis/access.h"
#include "agent/store/item.h"
#include "shm/rl_layout.h"

#define STORE_ALL     ((UINT32_C(1) << RL_PARTS) - 1) /* partitions as bits */
#define STORE_NOTICES 8u
#define STORE_WHERE   320u

struct store;

/* What the configuration says. All is copied. */
struct store_setup {
	struct event_base *base;
	const char *url;   /* its scheme chooses the backend */
	const char *fleet; /* counts of two fleets never meet */
	unsigned timeout_ms;
	const struct redis_trust *trust; /* of an address with TLS */
	const struct redis_login *login;
	const struct redis_sentinels *sentinels; /* count not 0: they say where it is, not url */
	const struct redis_seeds *seeds;         /* likewise: it is a cluster */
};

/* What the store is; notice[i] always is of the same kind, so it can be said when it changes. */
struct store_server {
	char name[16];    /* "redis", "valkey"; "unknown" */
	char version[24]; /* empty: it does not say */
	struct {
		bool is;      /* the case */
		bool warning; /* or just worth to be known */
		char text[256];
	} notice[STORE_NOTICES];
};

/* parts: bits, bit p for partition p. where: of which server it is said. */
struct store_events {
	/* A connection begins: before up(). */
	void (*server)(void *arg, const char *where, const struct store_server *server);
	/*
	 * Their calls are taken from now on. Also of partitions that were up: they are elsewhere
	 * now, and a call without an answer is to be sent again.
	 */
	void (*up)(void *arg, uint32_t parts);
	/*
	 * They are lost; or an attempt failed for partitions that were down. why NULL: nothing that
	 * anybody need be told of, it will be up in a moment or down() tells more.
	 */
	void (*down)(void *arg, uint32_t parts, const char *where, const char *why);
};

/* A server that has partitions. */
struct store_node {
	const char *where; /* good until the loop goes on */
	bool up;
	uint32_t parts; /* as bits */
};

struct store_item {
	const char
		*name; /* of the key: its rule and what it is; any bytes, no two alike in a call */
	size_t name_size;
	const unsigned char *bytes; /* SYNC_ITEM_SIZE, and pieces */
	size_t size;
};

struct store_call {
	const char *host, *row, *words; /* who calls: host id, host:epoch, and for people */
	const unsigned char *header;    /* SYNC_HEADER_SIZE */
	uint32_t count;
	struct store_item item[SYNC_BATCH_MAX];
};

/* What one host shows of a key to the others. */
struct store_log {
	const char *row;
	const char *name; /* as of an item */
	size_t name_size;
	const void *bytes; /* the first eight: when it was made, us of the store's clock */
	size_t size;
	uint64_t keep_ms; /* how long it is of use */
};

enum store_outcome {
	STORE_ANSWERED,
	STORE_LOST,    /* no answer will come: it may have been applied, or not */
	STORE_REFUSED, /* or the answer was spoilt: why has the words; again in a while */
	STORE_WRONG,   /* this call will always be refused, and was not applied */
	STORE_AGAIN,   /* not applied, as it belongs elsewhere by now: again at once */
	STORE_LATER,   /* not applied, as its partition is just being moved: again in a while */
};

/* Good until the function that is given it returns. */
struct store_answer {
	enum store_outcome outcome;
	const char *why; /* of what is not STORE_ANSWERED, one line */
	int64_t status;  /* SYNC_APPLIED ..., as all below of a call */
	uint64_t now_ms, live_rows;
	const char *other; /* who else goes by our host id; or empty */
	size_t other_size;
	const unsigned char
		*answers; /* whole ones, SYNC_ANSWER_SIZE each; of control: its answer */
	size_t answers_size;
};

typedef void store_fn(const struct store_answer *answer, void *arg);

/* NULL, with the reason in *ret_why; why is good for ever. */
struct store *store_new(const struct store_setup *setup, const struct store_events *events,
			void *arg, const char **ret_why);

/* Calls without an answer get STORE_LOST before this returns; no event comes. NULL is fine. */
void store_free(struct store *store);

/* As it is configured, for people: no secrets. With Sentinels where it is, once that is known. */
const char *store_where(const struct store *store);

bool store_is_up(const struct store *store, uint32_t part);

/* The servers that there are, RL_PARTS at most. Returns how many. */
uint32_t store_nodes(const struct store *store, struct store_node ret[RL_PARTS]);

/* The partitions that are. */
uint32_t store_up(const struct store *store);

/*
 * A partition's call. The call's bytes are not needed when this returns. fn is called once and
 * never before this returns. 0, -ENOTCONN when the partition is down, or -ENOMEM; then fn is not
 * called.
 */
int store_sync(struct store *store, uint32_t part, const struct store_call *call, store_fn *fn,
	       void *arg);

/*
 * What the whole fleet is told, in partition 0: the bytes of a request (control.h, at most
 * CONTROL_TEXT_MAX and a little) to those of an answer. Atomic as a call; sent twice it is done
 * once. call has the caller alone, and no items. As store_sync() for the rest.
 */
int store_control(struct store *store, const struct store_call *call, const void *bytes,
		  size_t size, store_fn *fn, void *arg);

/*
 * Put a row's log of a key beside those of the other rows, in place of its last one, and have them
 * all: answers holds each behind its length, four bytes, little-endian. Nothing that is counted
 * depends on it. -ENOTSUP: this store keeps none. As store_sync() for the rest.
 */
int store_share(struct store *store, uint32_t part, const struct store_log *log, store_fn *fn,
		void *arg);

/* The next connection settles everything anew, whatever was known of the server. */
void store_ask_again(struct store *store);

/*
 * Why this is no address of any store, one line that repeats nothing of it; or NULL, and whether
 * it has TLS.
 */
const char *store_url_fault(const char *url, bool *ret_tls);

/* Is it of this machine and its own kind, so that nobody logs in there? */
bool store_url_is_local(const char *url);

#endif
