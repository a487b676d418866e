/*
 * lost.h - the store has an older state of us than it has answered by: a replica that was promoted
 * before it had all, a server that came back with what it had saved, or with nothing.
 *
 * Rooms:  agent/sync/. The log is the agent's own memory: what an agent before this one was told is
 *         not in it.
 *
 * Each call says whether the one before it was answered (SYNC_CHAINED). A store that does not know
 * that one applies nothing and says which it knows last. Then all that calls after that one told of
 * slots is taken for untold, and told again with the age it has by now, by the calls that come
 * anyway; a slot's ring knows the ages. Leases that were given meanwhile are given up. Until all
 * hosts have had time to tell, nobody is lent anything.
 *
 * Killed in the middle: what was not taken for untold by then stays lost.
 */
#ifndef SYNC_LOST_H
#define SYNC_LOST_H

#include <stdbool.h>
#include <stdint.h>

struct sync;
struct sync_part;
struct sync_entry;
struct lost_log;

/* False when there is no memory: 1 MiB. */
bool lost_init(struct sync *sync);
void lost_free(struct sync *sync);

/* The call under way is answered; this is what it has told of one slot. */
void lost_note(struct sync_part *part, const struct sync_entry *entry);

/*
 * The store knows our calls up to this number; 0: none. The call under way has been given up.
 */
void lost_take(struct sync_part *part, uint64_t known);

/* The store is up: at another server than before, by a failover? */
bool lost_is_elsewhere(struct sync *sync);

/* Be lent nothing, until all hosts have found the failover and told what they admitted. */
void lost_wait(struct sync_part *part);

/* In each tick: a loss is said when all partitions have found it. */
void lost_say(struct sync *sync);

#endif
