#include "tests/proxy/lane.h"

#include <assert.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS UINT64_C(1000000)

struct chunk {
	STAILQ_ENTRY(chunk) next;
	uint64_t due_ns;
	size_t size;
	char data[];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void wake_in(struct lane *lane, uint64_t ns)
{
	const struct timeval delay = {.tv_sec = (time_t)(ns / 1000000000),
				      .tv_usec = (suseconds_t)(ns % 1000000000 / 1000)};

	evtimer_add(lane->timer, &delay);
}

static void pass_on(struct lane *lane)
{
	uint64_t now = now_ns();
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(&lane->chunks)) != NULL) {
		if (chunk->due_ns > now) {
			wake_in(lane, chunk->due_ns - now);
			return;
		}
		STAILQ_REMOVE_HEAD(&lane->chunks, next);
		bufferevent_write(lane->to, chunk->data, chunk->size);
		free(chunk);
	}
}

static void on_timer(evutil_socket_t unused, short events, void *arg)
{
	struct lane *lane = arg;

	(void)unused, (void)events;
	pass_on(lane);
	if (lane->ends && STAILQ_EMPTY(&lane->chunks) &&
	    evbuffer_get_length(bufferevent_get_output(lane->to)) == 0)
		lane->ended(lane->arg);
}

void lane_init(struct lane *lane, struct event_base *base, struct bufferevent *to,
	       void (*ended)(void *arg), void *arg)
{
	*lane = (struct lane){.to = to, .ended = ended, .arg = arg};
	STAILQ_INIT(&lane->chunks);
	lane->timer = evtimer_new(base, on_timer, lane);
	assert(lane->timer != NULL);
}

void lane_clear(struct lane *lane)
{
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(&lane->chunks)) != NULL) {
		STAILQ_REMOVE_HEAD(&lane->chunks, next);
		free(chunk);
	}
	event_free(lane->timer);
}

void lane_push(struct lane *lane, const void *data, size_t size, unsigned delay_ms)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + size);

	assert(chunk != NULL);
	chunk->due_ns = now_ns() + delay_ms * NS_PER_MS;
	chunk->size = size;
	memcpy(chunk->data, data, size);
	STAILQ_INSERT_TAIL(&lane->chunks, chunk, next);
	pass_on(lane);
}

void lane_end(struct lane *lane)
{
	lane->ends = true;
	wake_in(lane, 0);
}

void lane_written(struct lane *lane)
{
	if (lane->ends)
		wake_in(lane, 0);
}
