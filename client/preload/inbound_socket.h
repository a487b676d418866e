/*
 * inbound_socket.h - bytes that are still in the kernel: seen, counted, dropped, reported.
 *
 * Rooms:  inbound*.c only. Nothing here blocks, but for a count without MSG_DONTWAIT.
 */
#ifndef PRELOAD_INBOUND_SOCKET_H
#define PRELOAD_INBOUND_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/preload/conn.h"

/* What a receive would bring, left where it is. Of flags only MSG_DONTWAIT is heeded. */
ssize_t socket_peek(int fd, char *bytes, size_t size, int flags);

/* How many bytes a peek would show, at most one more than seen. Copies nothing. */
ssize_t socket_count_ahead(int fd, size_t seen, int flags);

/* Take what is there, at most len bytes, to nowhere: on TCP MSG_TRUNC copies nothing. */
ssize_t socket_drop(int fd, uint64_t len);

/*
 * Is anything to be reported beyond the bytes a connection is parked on: the next byte, the
 * peer's end, an urgent mark that no peek goes past, a window too full for more?
 */
bool socket_stirs(int fd);

/*
 * Let poll, epoll and a blocking receive wait for the byte after the first seen. A receive
 * buffer too small for so much caps it silently: then it stirs at once, see socket_stirs().
 */
bool socket_park(int fd, struct conn *conn, size_t seen);

/* Poll and epoll were told to wait for more of a head: let them speak of every byte again. */
void socket_reset_low_water(int fd, struct conn *conn);

/* Bytes may be left in the kernel that an edge-triggered reader will not come back for. */
void socket_raise_edge(int fd, struct conn *conn);

#endif
