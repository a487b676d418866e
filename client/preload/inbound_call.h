/*
 * inbound_call.h - one receive of the application: what it may still have, and how it ends.
 *
 * Rooms:  inbound*.c only.
 */
#ifndef PRELOAD_INBOUND_CALL_H
#define PRELOAD_INBOUND_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include "client/preload/conn.h"

#define CALL_HEAD_MAX  65536 /* bytes of a head that is looked at: nginx takes 33 KiB */
#define CALL_STACK_MAX 2048  /* of them on the stack, which may be a signal handler's */

/* One call of the application, and what it may still have. */
struct call {
	int fd;
	int flags;
	struct conn *conn;
	struct msghdr *message;
	size_t room;      /* bytes the application asked for */
	uint64_t dropped; /* bytes of refused bodies */
	int refusals;
	struct timespec wait_start;   /* for more of a head; zero = has not waited */
	struct timespec linger_start; /* for more of a refused body; likewise */
};

/* What a step decided. */
enum next {
	NEXT_AGAIN,  /* look at the connection's new state */
	NEXT_RETURN, /* *ret is what the application gets */
	NEXT_YOURS,  /* the application's own call decides, unchanged */
};

bool call_never_blocks(const struct call *call);

/* The application gets this; or -1 with this errno. */
enum next call_give(ssize_t got, ssize_t *ret);
enum next call_fail(int error, ssize_t *ret);

/* End of file for the application, now and for ever: it will close the connection. */
enum next call_end(struct call *call, ssize_t *ret);

/* No longer HTTP, or never was: this call and all later ones are the application's own. */
enum next call_leave_alone(struct call *call);

/* The descriptor is something else by now. */
enum next call_forget(struct call *call);

/* What a receive said that brought nothing: mostly it is the answer (EAGAIN, ECONNRESET...). */
enum next call_nothing(struct call *call, ssize_t got, ssize_t *ret);

#endif
