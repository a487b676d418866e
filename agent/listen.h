/*
 * listen.h - a socket beside the segment, for whoever may write to the segment.
 *
 * Rooms:  agent/.
 */
#ifndef AGENT_LISTEN_H
#define AGENT_LISTEN_H

#include <event2/event.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

struct listen {
	struct evconnlistener *listener;
	dev_t dev; /* of the socket's file: another agent's may take its place */
	ino_t ino;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/*
 * Listen at "<segment><suffix>" with the segment's group and mode; type is SOCK_STREAM or
 * SOCK_SEQPACKET. The caller holds the segment's lock: what lies there is a killed agent's.
 * NULL, or why not, in words.
 */
const char *listen_open(struct listen *listen, struct event_base *base, const char *segment,
			const char *suffix, int type, evconnlistener_cb on_caller, void *arg);

/*
 * Stop, and remove the file if it is still ours: whoever removed the segment with its lock, and
 * started another agent, is not to find that one deaf.
 */
void listen_close(struct listen *listen);

#endif
