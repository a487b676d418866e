/*
 * call.h - a partition's call as the store takes it.
 *
 * Rooms:  agent/sync/ only.
 */
#ifndef SYNC_CALL_H
#define SYNC_CALL_H

#include "agent/store/store.h"
#include "agent/sync/part.h"
#include "shm/rl_side.h"

#define CALL_NAME_SIZE (RL_NAME_MAX + RL_NAME_BYTES)

/* The pointers of store are into this struct, or to the identity. */
struct call {
	struct store_call store;
	char name[SYNC_BATCH_MAX][CALL_NAME_SIZE];
	unsigned char header[SYNC_HEADER_SIZE];
	unsigned char item[SYNC_BATCH_MAX][SYNC_ITEM_MOST];
};

/* A key's name in the store: its rule's, and the slot's, which may hold any bytes. Its size. */
size_t call_name(const struct sync *sync, uint64_t index, char out[CALL_NAME_SIZE]);

/*
 * Write the call that the partition has put together, as it is now. Slots that were emptied
 * since they were taken are left out, also of the partition's batch.
 */
void call_write(struct call *call, struct sync_part *part);

#endif
