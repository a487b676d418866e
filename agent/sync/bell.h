/*
 * bell.h - the segment's bell as an event of the loop: workers that run short are heard at once.
 *
 * A thread sleeps on the bell's futex and passes each ring on through an eventfd, at most one in
 * BELL_GAP_US. It touches nothing else.
 */
#ifndef SYNC_BELL_H
#define SYNC_BELL_H

#include <event2/event.h>
#include <stdbool.h>

#include "shm/rl_segment.h"

#define BELL_GAP_US 500

struct bell;

/* heard(arg) is called in the loop. NULL when it cannot be set up. */
struct bell *bell_new(struct event_base *base, struct rl_seg *seg, void (*heard)(void *arg),
		      void *arg);

/* Ends the thread, before the segment is unmapped. NULL is fine. */
void bell_free(struct bell *bell);

#endif
