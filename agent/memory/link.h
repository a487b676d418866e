/*
 * link.h - a connection to the agent of this machine that keeps the counts, which may be this one.
 *
 * Rooms:  agent/store/, tests/. On the loop's thread, of a program that ignores SIGPIPE.
 *
 * Whoever gets the lock beside the socket keeps the counts (hub.h), and talks to itself through
 * its socket as all others do. When that agent ends, the others try for the lock again: 3 ms
 * later when it had answered, else 20 ms, and at each loss twice as long up to 250 ms, all +-20 %.
 */
#ifndef MEMORY_LINK_H
#define MEMORY_LINK_H

#include <event2/event.h>
#include <stdbool.h>
#include <sys/types.h>

#include "agent/memory/frame.h"

struct link;

struct link_events {
	/* Asked from now on; keeper: who has the counts, and is that this process? */
	void (*up)(void *arg, pid_t keeper, bool is_us);
	void (*down)(void *arg, const char *why); /* lost, or an attempt that failed */
};

/* NULL: it was lost. What it points to is gone when the function returns. */
struct link_answer {
	bool refused;
	struct memory_text why; /* of what is refused */
	int64_t status;
	uint64_t now_ms, live;
	struct memory_text other, answers;
};

typedef void link_fn(const struct link_answer *answer, void *arg);

/* Why this is no path of a socket, or NULL. */
const char *link_path_fault(const char *path);

/* NULL: no memory. */
struct link *link_new(struct event_base *base, const char *path, unsigned timeout_ms,
		      const struct link_events *events, void *arg);

/* What has no answer gets NULL before this returns; down() is not called. NULL is fine. */
void link_free(struct link *link);

/*
 * Send this frame, which was begun and not ended. fn is called once, and never before this
 * returns. 0, -ENOTCONN, or -ENOMEM: then it is not called.
 */
int link_ask(struct link *link, struct frame_out *out, link_fn *fn, void *arg);

#endif
