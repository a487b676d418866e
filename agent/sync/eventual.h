/*
 * eventual.h - the sync of a key that hosts share without credit: it tells what was admitted, and
 * notes for workers what the fleet holds.
 *
 * Rooms:  agent/sync/ only. shm/rl_eventual.h has the workers' side.
 */
#ifndef SYNC_EVENTUAL_H
#define SYNC_EVENTUAL_H

#include "agent/sync/part.h"

/* Is there something to tell, or does somebody want to know what may have changed? */
bool eventual_wants(const struct sync *sync, uint64_t index);

/* The answer to an item with SYNC_REPORT, for workers; before its units are acknowledged. */
void eventual_note(const struct sync_part *part, const struct sync_entry *entry,
		   const struct rl_rule *rule, const struct sync_answer *answer);

#endif
