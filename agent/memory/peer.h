/*
 * peer.h - who is at the other end of a unix socket, and the frames it sends.
 *
 * Rooms:  agent/memory/.
 */
#ifndef MEMORY_PEER_H
#define MEMORY_PEER_H

#include <event2/bufferevent.h>
#include <stdbool.h>
#include <sys/types.h>

#include "agent/memory/frame.h"

/* Is it our user's process, or root's? The kernel says so. */
bool peer_is_ours(int fd, pid_t *ret_pid);

enum peer_frame {
	PEER_NONE,  /* not whole yet */
	PEER_FRAME, /* drained when it is done with: peer_done() */
	PEER_BAD,   /* longer than any */
};

/* The first frame that has come in. */
enum peer_frame peer_next(struct bufferevent *stream, struct frame_in *ret);
void peer_done(struct bufferevent *stream);

/* False: no memory, or the frame is too long. */
bool peer_send(struct bufferevent *stream, struct frame_out *out);

#endif
