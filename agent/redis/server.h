/*
 * server.h - what a server says of itself in INFO, and what that means for us.
 *
 * Rooms:  agent/redis/, agent/sync/. Text to a struct and to words; no I/O.
 *
 * Only INFO is asked: managed servers forbid CONFIG. What it does not say is not known, which is
 * never a reason to refuse.
 */
#ifndef AGENT_REDIS_SERVER_H
#define AGENT_REDIS_SERVER_H

#include <stdbool.h>
#include <stddef.h>

/* What a server is to be to us. */
enum redis_use {
	REDIS_ALONE, /* it has all keys */
	REDIS_NODE,  /* a primary of a cluster */
	REDIS_GUIDE, /* any node of a cluster, that is asked for the map of it and nothing else */
};

struct redis_server {
	bool known;       /* INFO was answered */
	char why[160];    /* else: with this error */
	char name[16];    /* "redis", "valkey" */
	char version[24]; /* its own, "8.0.1" */
	unsigned level;   /* the version of Redis it claims to be, major; 0: it does not say */
	char mode[16];    /* "standalone", "cluster", "sentinel"; empty: it does not say */
	char policy[32];  /* maxmemory-policy */
	bool is_replica;
	bool is_clustered;
	bool says_of_cluster;  /* it says whether it is */
	bool has_memory_limit; /* without one nothing is evicted */
	bool logs_writes;      /* the append-only file */
	bool says_of_writes;   /* it says whether it has one */
};

/* What should be known, but ends nothing. */
enum redis_notice {
	NOTICE_UNKNOWN, /* INFO is not allowed: it could not be looked at */
	NOTICE_EVICTS,
	NOTICE_FORGETS, /* the append-only file is off */
	NOTICES
};

/* size bytes of INFO's answer. */
void redis_server_read(const char *info, size_t size, struct redis_server *ret);

/* INFO was answered with this error. */
void redis_server_unknown(const char *error, struct redis_server *ret);

/* Why this server cannot be used so, one line in why; false: it can. */
bool redis_server_refusal(const struct redis_server *server, enum redis_use use, char *why,
			  size_t why_size);

/* Is it the case, and then what it means and what to do, one line in text. */
bool redis_server_notice(const struct redis_server *server, enum redis_notice notice, char *text,
			 size_t text_size);

#endif
