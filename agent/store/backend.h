/*
 * backend.h - what a backend of the store is: five functions, and a line in store.c's table.
 *
 * Rooms:  agent/store/. DESIGN.md, "Storage backends", has the recipe: what each function owes.
 */
#ifndef AGENT_STORE_BACKEND_H
#define AGENT_STORE_BACKEND_H

#include "agent/store/store.h"

struct store_backend {
	bool local; /* of this machine and its own kind: nobody logs in, and there is no TLS */

	/* NULL, or why this is no address of this backend; *ret_tls is false before. */
	const char *(*fault)(const char *url, bool *ret_tls);

	/*
	 * Its own state, which the other functions are given; NULL with *ret_why. It keeps store
	 * to report to, and writes store->where; reports nothing yet.
	 */
	void *(*open)(struct store *store, const struct store_setup *setup, const char **ret_why);

	/* Every call without an answer gets STORE_LOST. Nothing is reported from here on. */
	void (*close)(void *self);

	/* As in store.h; the partition is up. */
	int (*sync)(void *self, uint32_t part, const struct store_call *call, store_fn *fn,
		    void *arg);
	int (*control)(void *self, const struct store_call *call, const void *bytes, size_t size,
		       store_fn *fn, void *arg);

	/* NULL: it has no room for logs, and what is measured is measured host by host. */
	int (*share)(void *self, uint32_t part, const struct store_log *log, store_fn *fn,
		     void *arg);

	/* As in store.h. NULL: there is one, at store->where. */
	uint32_t (*nodes)(const void *self, struct store_node ret[RL_PARTS]);

	/* What is known of servers may be wrong by now. NULL: nothing is remembered. */
	void (*ask_again)(void *self);
};

struct store {
	const struct store_backend *backend;
	void *self;
	struct store_events events;
	void *arg;
	uint32_t up; /* partitions */
	char where[STORE_WHERE];
};

/* For backends: the state of partitions, and whoever asked is told. The listener may call any
 * function of store.h but store_free(). */
void store_report_server(struct store *store, const char *where, const struct store_server *server);
void store_report_up(struct store *store, uint32_t parts);
void store_report_down(struct store *store, uint32_t parts, const char *where, const char *why);

/* An answer without one: what became of the call. */
void store_give(store_fn *fn, void *arg, enum store_outcome outcome, const char *why);

extern const struct store_backend store_redis;  /* redis.c */
extern const struct store_backend store_memory; /* memory.c */

#endif
