#include "agent/control.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/listen.h"
#include "agent/log.h"

#define CALLERS_MAX 16    /* more are turned away: each holds a descriptor */
#define IDLE_S      10    /* a caller that says nothing is hung up on */
#define UNREAD_MAX  65536 /* bytes of answers: and one that asks and asks, and reads none */

/* A caller has one command under way at a time; the lines behind it wait. */
struct caller {
	struct control *control;
	struct bufferevent *stream; /* NULL: this place is free */
	uint64_t life;              /* of the place: an answer may come for one that is gone */
	bool waits;                 /* for an answer */
	bool inside;                /* run_lines() is on the stack */
	struct command_caller who;
};

struct control {
	struct event_base *base;
	struct orders *orders;
	struct listen listen;
	struct caller caller[CALLERS_MAX];
};

/* Whose answer it is. */
struct ticket {
	struct caller *caller;
	uint64_t life;
};

static struct caller *free_place(struct control *control)
{
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (control->caller[i].stream == NULL)
			return &control->caller[i];
	return NULL;
}

static void hang_up(struct caller *caller)
{
	bufferevent_free(caller->stream);
	caller->stream = NULL;
	caller->life++;
	caller->waits = false;
}

/* The process that connected, as the kernel says. */
static void name_caller(struct caller *caller)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	caller->who.uid = -1;
	snprintf(caller->who.by, sizeof(caller->who.by), "uid=? pid=?");
	if (getsockopt(bufferevent_getfd(caller->stream), SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return;
	caller->who.uid = (int64_t)who.uid;
	snprintf(caller->who.by, sizeof(caller->who.by), "uid=%ld pid=%ld", (long)who.uid,
		 (long)who.pid);
}

static void run_lines(struct caller *caller);

static void on_answer(void *arg, char *text)
{
	struct ticket ticket = *(struct ticket *)arg;
	struct caller *caller = ticket.caller;

	free(arg);
	if (caller->stream != NULL && caller->life == ticket.life) {
		caller->waits = false;
		if (text != NULL)
			evbuffer_add_printf(bufferevent_get_output(caller->stream), "%s\n", text);
		if (!caller->inside)
			run_lines(caller);
	}
	free(text);
}

/* False: no memory. */
static bool run_line(struct caller *caller, const char *line, size_t len)
{
	struct ticket *ticket = malloc(sizeof(*ticket));

	if (ticket == NULL)
		return false;
	*ticket = (struct ticket){caller, caller->life};
	command_run(caller->control->orders, line, len, &caller->who, on_answer, ticket);
	return true;
}
/* All that are there, or up to one whose answer takes its time. */
static void run_lines(struct caller *caller)
{
	struct evbuffer *input = bufferevent_get_input(caller->stream),
			*output = bufferevent_get_output(caller->stream);
	bool good = true;
	char *line;
	size_t len;

	caller->inside = true;
	while (good && !caller->waits && evbuffer_get_length(output) <= UNREAD_MAX &&
	       (line = evbuffer_readln(input, &len, EVBUFFER_EOL_LF)) != NULL) {
		caller->waits = true;
		good = run_line(caller, line, len);
		free(line);
	}
	caller->inside = false;
	/* One answer may be longer than that, as a list of orders is; who asks on is to read it. */
	if (!good || (!caller->waits && (evbuffer_get_length(input) > COMMAND_MAX ||
					 (evbuffer_get_length(output) > UNREAD_MAX &&
					  evbuffer_get_length(input) > 0))))
		hang_up(caller);
}

static void on_line(struct bufferevent *stream, void *arg)
{
	(void)stream;
	run_lines(arg);
}

static void on_end(struct bufferevent *stream, short events, void *caller)
{
	(void)stream, (void)events; /* it closed, or was idle, or failed: all the same to us */
	hang_up(caller);
}

static void on_caller(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		      int len, void *arg)
{
	const struct timeval idle = {.tv_sec = IDLE_S};
	struct control *control = arg;
	struct caller *caller = free_place(control);

	(void)listener, (void)address, (void)len;
	if (caller != NULL)
		caller->stream = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (caller == NULL || caller->stream == NULL) {
		close(fd);
		return;
	}
	caller->control = control;
	name_caller(caller);
	bufferevent_setcb(caller->stream, on_line, NULL, on_end, caller);
	bufferevent_set_timeouts(caller->stream, &idle, &idle);
	bufferevent_setwatermark(caller->stream, EV_READ, 0, COMMAND_MAX + 1);
	bufferevent_enable(caller->stream, EV_READ | EV_WRITE);
}

static void log_deaf(const char *path, const char *why)
{
	log_event(LOG_WARNING, "no_control",
		  "socket=%s.ctl msg=\"%s: rlctl off, on, reset, block, unblock, override, orders "
		  "and "
		  "rules push will not reach this agent\"",
		  path, why);
}

struct control *control_new(struct event_base *base, struct orders *orders, const char *path)
{
	struct control *control = calloc(1, sizeof(*control));
	const char *why;

	if (control == NULL)
		return NULL;
	control->base = base;
	control->orders = orders;
	why = listen_open(&control->listen, base, path, ".ctl", SOCK_STREAM, on_caller, control);
	if (why == NULL)
		return control;
	log_deaf(path, why);
	free(control);
	return NULL;
}

void control_free(struct control *control)
{
	if (control == NULL)
		return;
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (control->caller[i].stream != NULL)
			bufferevent_free(control->caller[i].stream);
	listen_close(&control->listen);
	free(control);
}
