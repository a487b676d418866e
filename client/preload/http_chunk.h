/*
 * http_chunk.h - walk over a chunked body without keeping any of it.
 *
 * Rooms:  client/preload only. Pure. RFC 9112 section 7.1.
 */
#ifndef PRELOAD_HTTP_CHUNK_H
#define PRELOAD_HTTP_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chunk_phase {
	CHUNK_SIZE,    /* in the hex digits of a size */
	CHUNK_EXT,     /* after them, to the end of the line */
	CHUNK_DATA,    /* in the data */
	CHUNK_AFTER,   /* at the CR LF that ends the data */
	CHUNK_TRAILER, /* at the start of a trailer line */
	CHUNK_FIELD,   /* in a trailer line */
};

struct chunk {
	uint8_t phase; /* enum chunk_phase; all zero is the start of a body */
	uint8_t digits;
	uint64_t left; /* bytes of data left in this chunk, or the size so far */
};

/*
 * Walk over at most len bytes. Returns how many belong to the body; *ret_done is set when
 * its last byte was among them. *ret_bad: not a chunked body (the walk stops there).
 */
size_t chunk_walk(struct chunk *chunk, const char *bytes, size_t len, bool *ret_done,
		  bool *ret_bad);

#endif
