/*
 * say.h - what the log says of the connection to Redis: each thing once, not at each attempt.
 *
 * Rooms:  agent/sync/ only.
 */
#ifndef SYNC_SAY_H
#define SYNC_SAY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/store/store.h"

#define SAY_REASONS 4   /* that take turns, as the addresses of one name may have */
#define SAY_BYTES   512 /* of a reason */

struct sync_said {
	struct {
		char text[SAY_BYTES];
		uint64_t at_ns;
	} reason[SAY_REASONS];
	unsigned next;               /* of reason[] to be overwritten */
	bool down;                   /* the last word was that it is down */
	bool noticed[STORE_NOTICES]; /* is the case, and was said */
	uint64_t any_ns;             /* when the last word was; 0: there was none */
	char at[STORE_WHERE];        /* where it was up, when that was last said */
};

struct sync;

/* It is lost, or an attempt failed. */
void say_down(struct sync *sync, const char *where, const char *why);

/* It is up; to be repeated while it is, as it may have come too soon after the last word. */
void say_up(struct sync *sync);

/* A connection begins with this server: what is worth to be known of it. */
void say_server(struct sync *sync, const char *where, const struct store_server *server);

/* For tools: which servers there are, and what they have. */
void say_nodes(struct sync *sync);

/* A call was answered: from now on what has been said of troubles is new again. */
void say_works(struct sync *sync);

#endif
