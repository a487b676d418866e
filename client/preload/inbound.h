/*
 * inbound.h - what a tracked connection's reads return: allowed requests, byte for byte.
 *
 * Rooms:  client/preload only.
 *
 * The bytes stay in the kernel until they are approved: at a request boundary the head is
 * read with MSG_PEEK, the limiter is asked, and then either the application's own read takes
 * the bytes, or the shim takes exactly the refused request's bytes and answers 429. There is
 * no private buffer, so poll, epoll and FIONREAD stay right.
 *
 * What makes that work (each was found by leaving it out):
 *   - A read is cut at a request's end; an edge-triggered reader takes a short read for "the
 *     queue is empty", so the shim then sets SO_RCVLOWAT, which raises the edge once more.
 *   - While only part of a head is there, SO_RCVLOWAT is one more than that, so that poll and
 *     epoll stay silent until there is more; otherwise servers spin.
 *   - On a blocking descriptor a call that has swallowed something never blocks again: it
 *     returns end of file (the caller may have been told that there are bytes).
 *   - A 429 goes out only when no response is owed; otherwise the refusal is end of file.
 */
#ifndef PRELOAD_INBOUND_H
#define PRELOAD_INBOUND_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "client/preload/conn.h"

/* As recv(2) of a tracked connection into count pieces. Returns and errno as recv. */
ssize_t inbound_receive(int fd, struct conn *conn, const struct iovec *piece, size_t count,
			int flags);

#endif
