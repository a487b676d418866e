/*
 * untold.h - what ends that units of a blind share are kept back (due.h: due_is_quiet).
 *
 * Rooms:  agent/sync/ only.
 *
 * Few units of a key need not be told while its rule lets a host admit that many blind. When the
 * rule becomes another one, or a share smaller as the fleet grows, they count with nobody: all
 * that is in its window is then told at once, with what waits for its time.
 */
#ifndef SYNC_UNTOLD_H
#define SYNC_UNTOLD_H

#include "agent/sync/part.h"

/* This slot's rule may have become another one: what of it must be known is due now. */
void untold_tell(struct sync *sync, uint64_t index);

/* Calls for what is due, as far as none is under way: behind the answer of that one. */
void untold_send(struct sync *sync);

/*
 * On each tick: all slots are looked at when there are more hosts than any share went by, and by
 * a new agent, as the last one may have had other rules. 20 ms for a million.
 */
void untold_tick(struct sync *sync, uint64_t now_ns);

/* The hosts that what is kept back goes by: the most that were seen lately. */
uint32_t untold_hosts(const struct sync *sync);

#endif
