/*
 * proxy.h - what the proxy does to the connections at the moment, and what it has done.
 */
#ifndef TESTS_PROXY_PROXY_H
#define TESTS_PROXY_PROXY_H

#include <event2/event.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/socket.h>

struct pair;
LIST_HEAD(pairs, pair);

struct place { /* where to listen or to connect to */
	struct sockaddr_storage at;
	socklen_t size;
};

struct every { /* each nth reply since the command was given; 0: none */
	unsigned nth, seen;
};

struct proxy {
	struct event_base *base;
	struct place listen, target;
	struct evconnlistener *listener; /* NULL: refused */
	struct pairs pairs;

	unsigned delay_ms, jitter_ms;
	struct every drop, half, garbage;
	struct event *cut_timer;
	bool stalled;
	bool frames; /* replies are not Redis's: 4 bytes of size, and so many */

	struct {
		unsigned long connections, replies, dropped, halved, garbage, cut;
	} did;
};

/* Listen there; an old socket file is replaced. Exits when that cannot be. */
struct evconnlistener *proxy_listen(struct proxy *proxy, const struct place *place,
				    evconnlistener_cb callback);

/* pair.c: a client has come; make the connection behind it. */
void pair_begin(struct proxy *proxy, evutil_socket_t client);
void pair_cut_all(struct proxy *proxy);
void pair_stall_all(struct proxy *proxy, bool stalled);

/* control.c: take commands from now on. */
void control_begin(struct proxy *proxy, const struct place *place);

/* fault_proxy.c: open and close the door. */
void proxy_accept(struct proxy *proxy);
void proxy_refuse(struct proxy *proxy);

#endif
