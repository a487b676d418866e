/*
 * inbound_pieces.h - the application's own receive, cut at a byte of the shim's choice.
 *
 * Rooms:  inbound*.c only.
 *
 * The pieces of its struct msghdr are received into as they are: nothing is copied on the way.
 */
#ifndef PRELOAD_INBOUND_PIECES_H
#define PRELOAD_INBOUND_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "client/preload/http_chunk.h"
#include "client/preload/inbound_call.h"

/* The bytes the application has room for; 0 also when only libc can say what is wrong. */
size_t pieces_room(const struct msghdr *message);

/* The application's own receive, of at most limit bytes. */
ssize_t pieces_receive(const struct call *call, uint64_t limit);

/* A look at the next bytes in the application's own pieces, which are at least that large. */
ssize_t pieces_peek(const struct call *call);

/* As chunk_walk(), over the first len bytes of the application's pieces. */
size_t pieces_walk(struct chunk *chunk, const struct msghdr *message, size_t len, bool *done,
		   bool *bad);

#endif
