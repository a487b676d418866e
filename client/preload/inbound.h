/*
 * inbound.h - what a tracked connection's reads return: allowed requests, byte for byte.
 *
 * Rooms:  client/preload only.
 *
 * Parts:  inbound.c         the state machine: at a boundary, inside a request, in chunks
 *         inbound_call.h    one receive of the application, and how it ends
 *         inbound_socket.h  bytes that are still in the kernel
 *         inbound_pieces.h  the application's own receive, cut
 *         inbound_wait.h    the rest of a head or body is not there yet
 *         inbound_refuse.h  a request over the limit
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
 *     epoll stay silent until there is more; otherwise servers spin. When the kernel reports
 *     more than a peek can see (the end, an urgent mark, a full window), or cannot wait for
 *     more, no whole head will ever be seen: the connection is left alone.
 *   - On a blocking descriptor a call that has swallowed something soon returns end of file
 *     (the caller may have been told that there are bytes, and have others to serve).
 *   - A 429 goes out only when no response is owed; otherwise the refusal is end of file.
 *   - A refused body is dropped as it comes, also after a 429 that closes: a client that is
 *     still sending when it is reset never reads its answer. So are the bytes unread at close.
 */
#ifndef PRELOAD_INBOUND_H
#define PRELOAD_INBOUND_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "client/preload/conn.h"

#define INBOUND_YOURS ((ssize_t)-2) /* not for the shim: make the call as it was made */

/*
 * As recvmsg(2) of a tracked connection; read, recv and readv put their arguments into a
 * message. Returns and errno as recvmsg, or INBOUND_YOURS with errno as before.
 */
ssize_t inbound_receive(int fd, struct conn *conn, struct msghdr *message, int flags);

/*
 * Before fd is closed. Without the shim the server's last read would have taken what the
 * client sent behind its request; unread, it would reset the connection and cut off the end
 * of the response.
 */
void inbound_drain(int fd);

#endif
