/*
 * conn.h - what the shim knows of each accepted connection, by descriptor.
 *
 * Rooms:  client/preload only.
 *
 * Static memory, no allocation ever: accept and read may run in a signal handler or while
 * the program's allocator is being set up. Descriptors of CONN_MAX and above are not
 * tracked. At most one thread at a time reads a connection and one writes it, as in every
 * server known; the two may differ, so what both touch is atomic (relaxed, where no pair is
 * named: each word stands for itself). The duplicates of a descriptor share one struct conn.
 */
#ifndef PRELOAD_CONN_H
#define PRELOAD_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/preload/http_chunk.h"
#include "client/preload/http_response.h"

#define CONN_MAX     65536
#define CONN_KEY_MAX 64 /* the text of an address or of an IPv6 /64 */

enum conn_state {
	CONN_NONE,     /* not tracked: never accepted here, or closed */
	CONN_BOUNDARY, /* the next byte begins a request */
	CONN_INSIDE,   /* `left` bytes of a head or body follow, then `chunked` ones */
	CONN_CHUNKED,  /* in a chunked body */
	CONN_RAW,      /* not understood, or no longer HTTP: left alone until it is closed */
	CONN_ENDED,    /* refused for good: reads return end of file */
};

struct conn {
	_Atomic uint8_t state; /* enum conn_state */
	_Atomic bool edge;     /* registered edge-triggered in an epoll */
	_Atomic pid_t speaker; /* the process that last wrote to it; 0 = none so far */
	uint64_t cookie;       /* the kernel's name of this very socket; 0 = it gives none */
	/* The reader's: */
	bool then_chunked; /* CONN_INSIDE: a chunked body follows */
	bool discard;      /* CONN_INSIDE, CONN_CHUNKED: of a refused request, the app sees none */
	bool then_end;     /* discard: the connection ends after this body */
	uint8_t key_len;
	uint32_t low_water; /* SO_RCVLOWAT as we set it; 0 = never touched */
	uint64_t left;
	uint64_t dropped; /* discard: bytes of this body so far */
	struct chunk chunk;
	char key[CONN_KEY_MAX];
	/* The writer's: */
	struct response response;
	/* Both: requests passed on and not yet answered, see conn_asked(). */
	_Atomic uint64_t unanswered;
};

/* The connection of a descriptor, or NULL when it is not tracked. */
struct conn *conn_of(int fd);

/* Begin to track fd (any old state is forgotten). False: too large a descriptor. */
bool conn_open(int fd, const char *key, uint8_t key_len);

/* Forget fd. Not done in a vfork child, which shares its parent's memory. */
void conn_close(int fd);

/* to is now a duplicate of from; whatever was known of to is forgotten. */
void conn_share(int from, int to);

/* Is fd the only descriptor of its connection? */
bool conn_is_alone(int fd);

/*
 * Is fd still the socket that was accepted? A number can be closed where the shim does not
 * see it (fclose, system calls of its own) and be anything by now. Costs a system call.
 */
bool conn_holds(int fd, const struct conn *conn);

enum conn_state conn_state_of(const struct conn *conn);
void conn_set_state(struct conn *conn, enum conn_state state);

/* By the reader, after the last byte of a head or body. */
void conn_enter_boundary(struct conn *conn);

/* Leave the connection alone from now on (it speaks something else). */
void conn_leave(struct conn *conn);

/* This process writes to it; and did it, not one it was forked from or that runs in vfork? */
void conn_spoke(struct conn *conn);
bool conn_is_ours(const struct conn *conn);

/* Queue of unanswered requests; each remembers whether it was a HEAD. */
void conn_asked(struct conn *conn, bool is_head);             /* by the reader */
void conn_answered(struct conn *conn);                        /* by the writer */
bool conn_oldest(const struct conn *conn, bool *ret_is_head); /* false: none */

/* Call once in the constructor. */
void conn_init(void);

#endif
