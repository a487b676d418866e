/*
 * call.h - a partition's call as the arguments of the sync script.
 *
 * Rooms:  agent/sync/part.c.
 */
#ifndef SYNC_CALL_H
#define SYNC_CALL_H

#include "agent/sync/item.h"
#include "agent/sync/part.h"

#define CALL_KEY_SIZE \
	256 /* of a Redis name: three names of 63 bytes, a key, and the marks between */

/* The arguments of one call; every pointer is into this struct. */
struct call {
	const char *argv[2 + 2 * SYNC_BATCH_MAX + 4 + SYNC_BATCH_MAX];
	size_t len[2 + 2 * SYNC_BATCH_MAX + 4 + SYNC_BATCH_MAX];
	size_t count, keys;
	char name[2 + 2 * SYNC_BATCH_MAX][CALL_KEY_SIZE];
	unsigned char header[SYNC_HEADER_SIZE];
	unsigned char item[SYNC_BATCH_MAX][SYNC_ITEM_MOST];
};

/*
 * Write the call that the partition has put together, as it is now. Slots that were emptied
 * since they were taken are left out, also of the partition's batch.
 */
void call_write(struct call *call, struct sync_part *part);

#endif
