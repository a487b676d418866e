/*
 * hub.h - one agent of a machine keeps the counts of all: it who has the lock beside the socket.
 *
 * Rooms:  agent/memory/link.c, tests/. On the loop's thread, and never in its way: a call of 64
 *         keys takes some 20 us, and of each peer few are answered before others have their turn.
 *
 * The lock is the kernel's and ends with the process. Whoever gets it removes the socket of the
 * one before, and begins with no counts: what that one had is lost with it, as after a FLUSHALL.
 */
#ifndef MEMORY_HUB_H
#define MEMORY_HUB_H

#include <event2/event.h>
#include <stdbool.h>

#define HUB_MAX_BYTES (256u << 20) /* of counts: some 800,000 keys */
#define HUB_PATH_MAX  100u         /* bytes: with ".lock" behind it */

struct hub;
struct memory;

/*
 * Keep the counts of path, if nobody does. NULL: another one does, or it cannot be done; then
 * *ret_why has the reason, else NULL.
 */
struct hub *hub_new(struct event_base *base, const char *path, const char **ret_why);

/*
 * Still the one that new agents find? Looked at once in a second or so: a socket that was removed
 * is made anew; when the lock's file was, another one may have counts by now, and ours are worth
 * nothing.
 */
bool hub_is_in_place(struct hub *hub);

/* The counts themselves: for tests. */
struct memory *hub_memory(struct hub *hub);

/* Hang up on all, remove the socket, then give the lock up. NULL is fine. */
void hub_free(struct hub *hub);

#endif
