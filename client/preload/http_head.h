/*
 * http_head.h - find the end of an HTTP/1 request head, and how its body is framed.
 *
 * Rooms:  client/preload only. Pure; reads the given bytes and nothing else.
 *
 * Follows RFC 9112. Not a validator: what it does not fully understand is HEAD_FOREIGN, and
 * the connection is then left alone. It never guesses a body's length: two different
 * Content-Lengths, Content-Length with Transfer-Encoding, any coding but "chunked", folded
 * lines and NUL bytes are all HEAD_FOREIGN, because a server may read them another way.
 */
#ifndef PRELOAD_HTTP_HEAD_H
#define PRELOAD_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum head_kind {
	HEAD_PARTIAL, /* so far it may become a request: more bytes are needed */
	HEAD_FOREIGN, /* not HTTP/1, or not safe to frame */
	HEAD_WHOLE,   /* *ret is filled */
};

struct head {
	size_t size;        /* bytes of the head with its empty line, and blank lines before it */
	uint64_t body_size; /* Content-Length; 0 when chunked */
	bool chunked;
	bool is_head;     /* method HEAD: the response has no body */
	bool is_connect;  /* what follows is a tunnel */
	bool wants_close; /* HTTP/1.0 without keep-alive, or Connection: close */
	bool expects;     /* Expect: 100-continue */
};

#define HEAD_BODY_MAX (UINT64_C(1) << 53) /* a larger Content-Length is HEAD_FOREIGN */

enum head_kind head_scan(const char *bytes, size_t len, struct head *ret);

#endif
