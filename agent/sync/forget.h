/*
 * forget.h - reset of a key that hosts share: what it has spent is forgotten, here and in Redis.
 *
 * Rooms:  agent/sync/ and agent/orders/. On the loop's thread, under the segment's lock.
 *
 * The slot forgets what it admitted before a moment, reported or not; its credit is given back, as
 * the lease of what is forgotten would else be taken for spent. One host of a fleet tells Redis:
 * the next call of the key has SYNC_FORGET.
 *
 * Before the moment a window holds L at most, and after it, too: whatever is killed or late, no
 * window holds more than 2 L.
 */
#ifndef SYNC_FORGET_H
#define SYNC_FORGET_H

#include <stdbool.h>
#include <stdint.h>

struct sync;

/*
 * The slot at index, of a rule that hosts share, forgets what it admitted before before_ns (its own
 * clock). Redis is told to forget what came before since_ns (precise clock); 0: it is not. False
 * while a call with this key is under way, or the slot is busy: again later.
 */
bool sync_forget(struct sync *sync, uint64_t index, uint64_t before_ns, uint64_t since_ns);

/* Is Redis still to be told of this slot? */
bool sync_forget_waits(struct sync *sync, uint64_t index);

/*
 * The key's limit has changed: credit that was lent under the old one is given up. What was counted
 * stays; its groups follow with the sweep, or the next answer.
 */
void sync_limit_changed(struct sync *sync, uint64_t index);

#endif
