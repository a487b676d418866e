/*
 * outbound.h - follow what the server writes to a tracked connection.
 *
 * Rooms:  client/preload only. Called after the real write, with what it took; changes no
 * byte and no errno.
 */
#ifndef PRELOAD_OUTBOUND_H
#define PRELOAD_OUTBOUND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/preload/conn.h"

/* The first written bytes of these pieces went out. */
void outbound_wrote(struct conn *conn, const struct iovec *piece, size_t count, size_t written);

/* This many bytes of a file went out. */
void outbound_sent_file(struct conn *conn, uint64_t sent);

#endif
