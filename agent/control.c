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

struct control {
	struct event_base *base;
	struct rl_seg *seg;
	struct listen listen;
	struct bufferevent *caller[CALLERS_MAX];
};

static struct bufferevent **place_of(struct control *control, const struct bufferevent *caller)
{
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (control->caller[i] == caller)
			return &control->caller[i];
	return NULL;
}

static void hang_up(struct control *control, struct bufferevent *caller)
{
	*place_of(control, caller) = NULL;
	bufferevent_free(caller);
}

/* "uid=1000 pid=4711" of the process that connected, as the kernel says. */
static void name_caller(struct bufferevent *caller, char *ret, size_t size)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(bufferevent_getfd(caller), SOL_SOCKET, SO_PEERCRED, &who, &len) == 0)
		snprintf(ret, size, "uid=%ld pid=%ld", (long)who.uid, (long)who.pid);
	else
		snprintf(ret, size, "uid=? pid=?");
}

static void on_line(struct bufferevent *caller, void *arg)
{
	struct evbuffer *input = bufferevent_get_input(caller),
			*output = bufferevent_get_output(caller);
	struct control *control = arg;
	char by[64], *line, *text;
	size_t len;

	name_caller(caller, by, sizeof(by));
	while ((line = evbuffer_readln(input, &len, EVBUFFER_EOL_LF)) != NULL) {
		text = command_run(control->seg, line, len, by);
		if (text != NULL)
			evbuffer_add_printf(output, "%s\n", text);
		free(text);
		free(line);
	}
	if (evbuffer_get_length(input) > COMMAND_MAX || evbuffer_get_length(output) > UNREAD_MAX)
		hang_up(control, caller);
}

static void on_end(struct bufferevent *caller, short events, void *control)
{
	(void)events; /* it closed, or was idle, or failed: all the same to us */
	hang_up(control, caller);
}

static void on_caller(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		      int len, void *arg)
{
	const struct timeval idle = {.tv_sec = IDLE_S};
	struct control *control = arg;
	struct bufferevent **place = place_of(control, NULL);

	(void)listener, (void)address, (void)len;
	if (place == NULL) {
		close(fd);
		return;
	}
	*place = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (*place == NULL) {
		close(fd);
		return;
	}
	bufferevent_setcb(*place, on_line, NULL, on_end, control);
	bufferevent_set_timeouts(*place, &idle, &idle);
	bufferevent_setwatermark(*place, EV_READ, 0, COMMAND_MAX + 1);
	bufferevent_enable(*place, EV_READ | EV_WRITE);
}

static void log_deaf(const char *path, const char *why)
{
	log_event(LOG_WARNING, "no_control",
		  "socket=%s.ctl msg=\"%s: rlctl off, on, reset, block and unblock will not reach "
		  "this "
		  "agent\"",
		  path, why);
}

struct control *control_new(struct event_base *base, struct rl_seg *seg, const char *path)
{
	struct control *control = calloc(1, sizeof(*control));
	const char *why;

	if (control == NULL)
		return NULL;
	control->base = base;
	control->seg = seg;
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
		if (control->caller[i] != NULL)
			bufferevent_free(control->caller[i]);
	listen_close(&control->listen);
	free(control);
}
