/*
 * http_response.h - follow the responses a server writes, to know when none is unfinished.
 *
 * Rooms:  client/preload only. Pure; fed with whatever pieces the server writes.
 *
 * A 429 of ours may go out only when every earlier request has been answered whole. What
 * cannot be framed (close-delimited bodies, writes the shim does not see) makes RESPONSE_LOST,
 * which only ever means "not finished": the shim then ends a connection instead of speaking.
 */
#ifndef PRELOAD_HTTP_RESPONSE_H
#define PRELOAD_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/preload/http_chunk.h"

enum response_phase {
	RESPONSE_HEAD, /* before or in a head; all zero is the start */
	RESPONSE_BODY,
	RESPONSE_CHUNKS,
	RESPONSE_LOST,
};

struct response {
	uint8_t phase;    /* enum response_phase */
	uint8_t line_len; /* bytes kept of the current head line, at most sizeof(line) */
	bool long_line;   /* the line is longer than that */
	bool has_status;  /* the status line has been read */
	bool has_length;
	bool chunked;
	uint16_t status;
	uint64_t left; /* body bytes left */
	struct chunk chunk;
	char line[40];
};

enum response_event {
	RESPONSE_MORE,     /* all bytes taken, the response goes on */
	RESPONSE_DONE,     /* a response ended at the byte after *ret_used */
	RESPONSE_SWITCHED, /* 101: no longer HTTP */
};

/*
 * Take bytes of the response to the oldest unanswered request; to_head: that was a HEAD.
 * Stops at the end of a response, with *ret_used bytes taken.
 */
enum response_event response_feed(struct response *response, bool to_head, const char *bytes,
				  size_t len, size_t *ret_used);

/* Bytes that were sent without passing through memory (sendfile). As above, all at once. */
enum response_event response_skip(struct response *response, uint64_t len);

#endif
