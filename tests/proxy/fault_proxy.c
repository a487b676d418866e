/*
 * fault_proxy LISTEN TARGET CONTROL [frames] - a network that goes wrong on command.
 *
 * Stands between clients and one Redis, or with "frames" one keeper of counts in memory, whose
 * replies are 4 bytes of size and so many that follow. LISTEN and TARGET are the path of a unix
 * socket or 127.0.0.1:PORT, CONTROL is a path; it takes connections last, so that whoever can
 * connect there finds the proxy ready. Each line written to CONTROL is answered "ok" or "error:
 * ...", once it is in force:
 *
 *   delay MS [J]    bytes are held for MS to MS+J ms in each direction; none overtakes another
 *   drop-reply N    each Nth reply is lost: when it comes, so that the command was applied, the
 *                   connection is cut behind the replies before it
 *   half-reply N    of each Nth reply half of the bytes are passed on, then the cut
 *   garbage N       instead of each Nth reply come bytes that are none, then the cut
 *   cut-ms N        all connections are cut every N ms
 *   stall, go       connections stay, and are taken, but no byte passes; go: all that waited
 *   refuse, accept  cut all connections and close the door; open it again
 *   clear           all of the above off
 *   stats           one line: connections=, replies=, dropped=, halved=, garbage=, cut=
 *
 * Replies are counted over all connections from the moment the command was given; N = 0 is off.
 * cut counts all connections that were ended here on purpose.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/proxy/proxy.h"

static struct place place_of(const char *text)
{
	struct place place = {.size = sizeof(struct sockaddr_un)};
	struct sockaddr_un *local = (struct sockaddr_un *)&place.at;
	struct sockaddr_in *inet = (struct sockaddr_in *)&place.at;

	if (text[0] == '/') {
		local->sun_family = AF_UNIX;
		snprintf(local->sun_path, sizeof(local->sun_path), "%s", text);
		return place;
	}
	if (strncmp(text, "127.0.0.1:", 10) != 0) {
		fprintf(stderr, "fault_proxy: '%s' is neither /PATH nor 127.0.0.1:PORT\n", text);
		exit(2);
	}
	inet->sin_family = AF_INET;
	inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	inet->sin_port = htons((uint16_t)atoi(text + 10));
	place.size = sizeof(*inet);
	return place;
}

struct evconnlistener *proxy_listen(struct proxy *proxy, const struct place *place,
				    evconnlistener_cb callback)
{
	struct evconnlistener *listener;

	if (place->at.ss_family == AF_UNIX)
		unlink(((const struct sockaddr_un *)&place->at)->sun_path);
	listener = evconnlistener_new_bind(
		proxy->base, callback, proxy,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, -1,
		(const struct sockaddr *)&place->at, (int)place->size);
	if (listener == NULL) {
		perror("fault_proxy: cannot listen");
		exit(2);
	}
	return listener;
}

static void on_client(struct evconnlistener *unused, evutil_socket_t fd, struct sockaddr *from,
		      int size, void *arg)
{
	(void)unused, (void)from, (void)size;
	pair_begin(arg, fd);
}

void proxy_accept(struct proxy *proxy)
{
	if (proxy->listener == NULL)
		proxy->listener = proxy_listen(proxy, &proxy->listen, on_client);
}

void proxy_refuse(struct proxy *proxy)
{
	if (proxy->listener != NULL)
		evconnlistener_free(proxy->listener);
	proxy->listener = NULL;
	pair_cut_all(proxy);
}

static void on_cut(evutil_socket_t unused, short events, void *arg)
{
	(void)unused, (void)events;
	pair_cut_all(arg);
}

int main(int argc, char **argv)
{
	static struct proxy proxy;
	struct place control;

	proxy.frames = argc == 5 && strcmp(argv[4], "frames") == 0;
	if (argc != 4 && !proxy.frames) {
		fputs("usage: fault_proxy LISTEN TARGET CONTROL [frames]\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	proxy.base = event_base_new();
	proxy.listen = place_of(argv[1]);
	proxy.target = place_of(argv[2]);
	control = place_of(argv[3]);
	proxy.cut_timer = event_new(proxy.base, -1, EV_PERSIST, on_cut, &proxy);
	proxy_accept(&proxy);
	control_begin(&proxy, &control);
	return event_base_dispatch(proxy.base) == 0 ? 0 : 2;
}
