/*
 * share.h - shows the other hosts what this one admitted of audited keys, and has all of it judged.
 *
 * Rooms:  agent/sync/ only.
 */
#ifndef SYNC_SHARE_H
#define SYNC_SHARE_H

#include "agent/sync/part.h"

#define SHARE_MOST 4u /* keys in a tick */

/* Show some that are due. Every tick. */
void share_some(struct sync *sync, uint64_t now_ns);

#endif
