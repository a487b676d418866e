/*
 * call.h - a partition's call as the store takes it.
 *
 * Rooms:  agent/sync/part.c.
 */
#ifndef SYNC_CALL_H
#define SYNC_CALL_H

#include "agent/store/store.h"
#include "agent/sync/part.h"
#include "shm/rl_side.h"

/* The pointers of store are into this struct, or to the identity. */
struct call {
	struct store_call store;
	char name[SYNC_BATCH_MAX][RL_NAME_MAX + RL_NAME_BYTES]; /* a rule's, and the slot's */
	unsigned char header[SYNC_HEADER_SIZE];
	unsigned char item[SYNC_BATCH_MAX][SYNC_ITEM_MOST];
};

/*
 * Write the call that the partition has put together, as it is now. Slots that were emptied
 * since they were taken are left out, also of the partition's batch.
 */
void call_write(struct call *call, struct sync_part *part);

#endif
