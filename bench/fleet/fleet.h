/*
 * fleet.h - a fleet on one machine: a Redis, and hosts that each have an agent and a segment.
 *
 *	agent 0 --- (proxy 0) ---+
 *	agent 1 --- (proxy 1) ---+--- redis-server      all by unix sockets in a private folder
 *	...                      |
 *
 * With $FLEET_STORE=memory the agents' redis is memory:/PATH, and in the place of the redis-server
 * stands a process that keeps such counts: the same tests for the other backend.
 *
 * All programs are those of this build. Anything that goes wrong in the rig itself ends the
 * process with exit status 2 and the agents' last lines. For the main thread.
 */
#ifndef BENCH_FLEET_FLEET_H
#define BENCH_FLEET_FLEET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/fleet/child.h"
#include "client/rl.h"
#include "shm/rl_segment.h"

struct redisContext;

enum { FLEET_HOSTS_MAX = 24, FLEET_ALL = -1 };

struct fleet_spec {
	uint32_t hosts;
	const char *const *rules; /* e.g. "name: r, limit: 10/s"; ends in NULL */
	const char *redis;        /* more of the agents' redis options, or NULL */
	bool proxy;               /* a fault proxy between each agent and Redis */
	uint32_t keys;            /* of each host's table; 0: 1000 */
	bool without_totals;      /* fleet_total() knows nothing, and it costs Redis nothing */
	/*
	 * Hosts with clocks of their own: makes those of the calling thread a host's, offset
	 * ns ahead of the real ones, or with NULL real again. NULL: all clocks are real.
	 */
	void (*set_clock)(const _Atomic int64_t *offset_ns);
	const int64_t *offset_ns; /* with set_clock: of each host, at the start */
};

struct fleet_host {
	pid_t agent, proxy; /* 0 = not running */
	bool removed;
	struct rl_seg seg;
	_Atomic int64_t *offset_ns; /* with set_clock: shared with the agent; NULL without */
};

struct fleet {
	struct fleet_spec spec;
	char dir[CHILD_PATH_MAX]; /* sockets, configurations, logs */
	char shm[CHILD_PATH_MAX]; /* segments */
	const char *build;        /* folder of the programs */
	pid_t redis;              /* or who keeps the counts in memory */
	bool in_memory, redis_stopped;
	struct redisContext *connection;
	struct fleet_host host[FLEET_HOSTS_MAX];
};

/* Start all of it. Returns when every agent has Redis and knows of every host. */
void fleet_start(struct fleet *fleet, const struct fleet_spec *spec);

/* End all of it; an agent that does not stop cleanly ends the process. A second time: nothing. */
void fleet_stop(struct fleet *fleet);

/* SIGKILL a host's agent, whose death is confirmed; and start another. */
void fleet_kill_agent(struct fleet *fleet, uint32_t host);
void fleet_start_agent(struct fleet *fleet, uint32_t host);

/* Wait until every agent beats, has Redis, and counts as many hosts as are not removed. */
void fleet_wait_ready(struct fleet *fleet);

/*
 * The host is gone: its agent killed, its proxy too, its segment's file removed. What is
 * mapped stays so, but nobody may send there any more.
 */
void fleet_remove_host(struct fleet *fleet, uint32_t host);

/* SIGSTOP and SIGCONT. The first returns when the process is stopped. */
void fleet_stop_redis(struct fleet *fleet);
void fleet_continue_redis(struct fleet *fleet);

/* FLUSHALL: Redis has lost all it knew, and goes on. */
void fleet_flush_redis(struct fleet *fleet);

/* Command of a host's proxy, or of all: "clear", "drop-reply 10", ... */
void fleet_fault(struct fleet *fleet, int host, const char *command);

/* Units that Redis was ever told of, of the key with this text. The rule does not matter. */
uint64_t fleet_total(struct fleet *fleet, const char *key);

/* Syncs of all hosts together that Redis answered, since the segments were made. */
uint64_t fleet_syncs(const struct fleet *fleet);

/* Keys in the syncs of all hosts together. */
uint64_t fleet_keys_synced(const struct fleet *fleet);

/* Syncs that were sent again after a loss, likewise. */
uint64_t fleet_resends(const struct fleet *fleet);

/* The recorder's clock: real nanoseconds of CLOCK_MONOTONIC, whatever set_clock did. */
uint64_t fleet_now_ns(const struct fleet *fleet);

/* Sleep until then; to measure time, never to wait for something. */
void fleet_sleep_until(const struct fleet *fleet, uint64_t at_ns);

/* Built with a sanitizer: answers are right, rates are not those of the product. */
static inline bool fleet_is_slow_build(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
	return true;
#else
	return false;
#endif
#else
	return false;
#endif
}

#endif
