/*
 * waiters.h - the agent's side of checks that wait in an event loop: tell their processes when
 * credit may have come.
 *
 * Rooms:  agent/sync/ only. On the loop's thread.
 *
 * Of each process that is connected it keeps a descriptor and a bit for each partition: set by a
 * note, cleared by the byte that answers it. So a process is told at most once for each note, and
 * whatever it notes, it costs no memory.
 */
#ifndef SYNC_WAITERS_H
#define SYNC_WAITERS_H

#include <event2/event.h>

#include "shm/rl_segment.h"

struct waiters;

/*
 * Listen at "<path>.wait". NULL after logging why: checks of event loops are then answered at once,
 * and everything else goes on.
 */
struct waiters *waiters_new(struct event_base *base, struct rl_seg *seg, const char *path);

/* Slots of this partition have had a turn, or nobody is to wait any longer. NULL is fine. */
void waiters_tell(struct waiters *waiters, uint32_t part);

/* Hang up on everybody and remove the socket. NULL is fine. */
void waiters_free(struct waiters *waiters);

#endif
