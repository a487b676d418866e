#include "agent/sync/waiters.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/listen.h"
#include "agent/log.h"
#include "agent/sync/word.h"
#include "shm/rl_bell.h"
#include "shm/rl_side.h"
#include "shm/rl_wait.h"

#define CALLERS_MAX 256 /* processes, or their loops: each holds a descriptor */
#define NOTES_MOST  64  /* read of one caller before the others are looked after */
#define REST_US     500 /* and before it is read again: a call to Redis comes no sooner either */

static_assert(RL_PARTS <= 16, "a bit for each in caller.noted");

struct caller {
	struct waiters *waiters;
	struct event *event; /* NULL: nobody */
	uint16_t noted;      /* partitions it waits for */
	bool rests;          /* is read again when the timer says */
};

struct waiters {
	struct event_base *base;
	struct rl_seg *seg;
	struct listen listen;
	struct event *rest;
	uint16_t noted; /* by anybody; at least those */
	struct caller caller[CALLERS_MAX];
};

static void hang_up(struct caller *caller)
{
	close(event_get_fd(caller->event));
	event_free(caller->event);
	caller->event = NULL;
}

/* One that has more bytes to read than the socket holds need not be told once more. */
static void tell(struct caller *caller)
{
	const ssize_t sent = send(event_get_fd(caller->event), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)sent; /* a caller that is gone shows when it is read */
}

/* False: no caller of ours says that. */
static bool take_note(struct caller *caller, const struct rl_wait_note *note)
{
	struct rl_seg *seg = caller->waiters->seg;
	uint16_t bit;

	if (note->index >= seg->view.slot_count)
		return false;
	/* It had its turn while the note was on its way. */
	if (rl_turn_seen(&seg->slot[note->index]) != note->turn) {
		tell(caller);
		return true;
	}
	bit = (uint16_t)(1u << rl_hint_part(word_of(&seg->slot[note->index].hint)));
	caller->noted |= bit;
	caller->waiters->noted |= bit;
	return true;
}

static void rest(struct caller *caller)
{
	const struct timeval pause = {.tv_usec = REST_US};

	event_del(caller->event);
	caller->rests = true;
	if (!evtimer_pending(caller->waiters->rest, NULL))
		evtimer_add(caller->waiters->rest, &pause);
}

static void on_rested(evutil_socket_t unused, short events, void *arg)
{
	struct waiters *waiters = arg;

	(void)unused, (void)events;
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (waiters->caller[i].event != NULL && waiters->caller[i].rests) {
			waiters->caller[i].rests = false;
			event_add(waiters->caller[i].event, NULL);
		}
}

static void on_note(evutil_socket_t fd, short events, void *arg)
{
	struct caller *caller = arg;

	(void)events;
	for (int i = 0; i < NOTES_MOST; i++) {
		struct rl_wait_note note;
		ssize_t len = recv(fd, &note, sizeof(note), MSG_DONTWAIT | MSG_TRUNC);

		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (len != sizeof(note) || !take_note(caller, &note)) {
			hang_up(caller); /* it ended, or is no librl */
			return;
		}
	}
	rest(caller);
}

static void on_caller(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		      int len, void *arg)
{
	struct waiters *waiters = arg;
	struct caller *caller = NULL;

	(void)listener, (void)address, (void)len;
	for (size_t i = 0; i < CALLERS_MAX && caller == NULL; i++)
		if (waiters->caller[i].event == NULL)
			caller = &waiters->caller[i];
	if (caller != NULL) {
		*caller = (struct caller){.waiters = waiters};
		caller->event = event_new(waiters->base, fd, EV_READ | EV_PERSIST, on_note, caller);
	}
	if (caller == NULL || caller->event == NULL)
		close(fd);
	else if (event_add(caller->event, NULL) != 0)
		hang_up(caller);
}

void waiters_tell(struct waiters *waiters, uint32_t part)
{
	uint16_t bit = (uint16_t)(1u << part);

	if (waiters == NULL || (waiters->noted & bit) == 0)
		return;
	waiters->noted &= (uint16_t)~bit;
	for (size_t i = 0; i < CALLERS_MAX; i++) {
		struct caller *caller = &waiters->caller[i];

		if (caller->event == NULL || (caller->noted & bit) == 0)
			continue;
		caller->noted &= (uint16_t)~bit;
		tell(caller);
	}
}

struct waiters *waiters_new(struct event_base *base, struct rl_seg *seg, const char *path)
{
	struct waiters *waiters = calloc(1, sizeof(*waiters));
	const char *why = "out of memory";

	if (waiters != NULL) {
		waiters->base = base;
		waiters->seg = seg;
		waiters->rest = evtimer_new(base, on_rested, waiters);
		if (waiters->rest != NULL)
			why = listen_open(&waiters->listen, base, path, RL_WAIT_SUFFIX,
					  SOCK_SEQPACKET, on_caller, waiters);
	}
	if (why == NULL)
		return waiters;
	log_event(LOG_WARNING, "no_waiters",
		  "socket=%s" RL_WAIT_SUFFIX
		  " msg=\"%s: checks that event loops wait for are answered at once\"",
		  path, why);
	waiters_free(waiters);
	return NULL;
}

void waiters_free(struct waiters *waiters)
{
	if (waiters == NULL)
		return;
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (waiters->caller[i].event != NULL)
			hang_up(&waiters->caller[i]);
	listen_close(&waiters->listen);
	if (waiters->rest != NULL)
		event_free(waiters->rest);
	free(waiters);
}
