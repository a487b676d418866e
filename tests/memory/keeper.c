/*
 * keeper - the counts in memory in a process of their own, which tests stop and never kill.
 *
 * Rooms:  bench/fleet/. usage: keeper SOCKET CONTROL [PROXY...]
 *
 * Agents that are sent to SOCKET find its lock taken, so none of them keeps the counts; and at the
 * sockets of fault proxies likewise, whose locks are held here as well. Each line "FLEET NAME" that
 * comes in at CONTROL is answered with the units ever reported of that key, in decimal and a line.
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/memory/hub.h"
#include "agent/memory/memory.h"
#include "shm/rl_layout.h"

static struct event_base *base;
static struct hub *hub;

_Noreturn static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "keeper: %s: %s\n", what, why);
	exit(2);
}

static void take_lock(const char *socket_path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s.lock", socket_path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) != 0)
		give_up(path, "cannot be locked");
}

static unsigned long long total_of(char *line)
{
	char part[96], *name = strchr(line, ' ');
	unsigned long long sum = 0;

	if (name == NULL)
		return 0;
	*name++ = '\0';
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		int len = snprintf(part, sizeof(part), "%u:%s", p, line);

		sum += memory_total(hub_memory(hub), (struct memory_text){part, (size_t)len},
				    (struct memory_text){name, strlen(name)});
	}
	return sum;
}

static void on_line(struct bufferevent *stream, void *arg)
{
	char *line;

	(void)arg;
	while ((line = evbuffer_readln(bufferevent_get_input(stream), NULL, EVBUFFER_EOL_LF))) {
		evbuffer_add_printf(bufferevent_get_output(stream), "%llu\n", total_of(line));
		free(line);
	}
}

static void on_end(struct bufferevent *stream, short what, void *arg)
{
	(void)what, (void)arg;
	bufferevent_free(stream);
}

static void on_caller(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
		      int len, void *arg)
{
	struct bufferevent *stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

	(void)listener, (void)from, (void)len, (void)arg;
	bufferevent_setcb(stream, on_line, NULL, on_end, NULL);
	bufferevent_enable(stream, EV_READ | EV_WRITE);
}

int main(int argc, char **argv)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const char *why = NULL;

	if (argc < 3)
		give_up("usage", "keeper SOCKET CONTROL [PROXY...]");
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	for (int i = 3; i < argc; i++)
		take_lock(argv[i]);
	hub = hub_new(base, argv[1], &why);
	if (hub == NULL)
		give_up(argv[1], why != NULL ? why : "another one keeps counts there");
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", argv[2]);
	if (evconnlistener_new_bind(base, on_caller, NULL, LEV_OPT_CLOSE_ON_FREE, -1,
				    (struct sockaddr *)&at, sizeof(at)) == NULL)
		give_up(argv[2], "cannot listen");
	return event_base_dispatch(base);
}
