/*
 * lane.h - bytes on their way in one direction, each held for its delay, none overtaking: the
 * first in the queue holds up all behind it.
 */
#ifndef TESTS_PROXY_LANE_H
#define TESTS_PROXY_LANE_H

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct chunk;
STAILQ_HEAD(chunks, chunk);

struct lane {
	struct bufferevent *to;
	struct event *timer;
	struct chunks chunks;
	bool ends; /* ended(arg) is to be called once everything is passed on and written */
	void (*ended)(void *arg);
	void *arg;
};

void lane_init(struct lane *lane, struct event_base *base, struct bufferevent *to,
	       void (*ended)(void *arg), void *arg);
void lane_clear(struct lane *lane);

void lane_push(struct lane *lane, const void *data, size_t size, unsigned delay_ms);

/* Nothing comes after what is there. ended() comes from the loop, never from within. */
void lane_end(struct lane *lane);

/* To be called when the output of `to` has been written. */
void lane_written(struct lane *lane);

#endif
