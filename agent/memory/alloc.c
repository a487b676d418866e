#include <stdlib.h>
#include <string.h>

#include "agent/memory/inner.h"
#include "shm/rl_hash.h"

#define OVERHEAD 16u /* of malloc, for each block */

void *memory_take(struct memory *memory, size_t size)
{
	void *block;

	if (memory->bytes + size + OVERHEAD > memory->max_bytes)
		return NULL;
	block = calloc(1, size);
	if (block != NULL)
		memory->bytes += size + OVERHEAD;
	return block;
}

void memory_give(struct memory *memory, void *block, size_t size)
{
	if (block == NULL)
		return;
	memory->bytes -= size + OVERHEAD;
	free(block);
}

uint32_t memory_room(uint32_t have, uint32_t want)
{
	uint32_t room = have == 0 ? 2 : have;

	while (room < want)
		room *= 2;
	return room;
}

void *memory_regrow(struct memory *memory, void *block, size_t old_size, size_t size)
{
	void *larger = memory_take(memory, size);

	if (larger == NULL)
		return NULL;
	if (block != NULL)
		memcpy(larger, block, old_size);
	memory_give(memory, block, old_size);
	return larger;
}

uint64_t memory_id(const struct memory *memory, uint64_t within, struct memory_text text)
{
	const uint64_t key[2] = {memory->hash_key[0] ^ within, memory->hash_key[1]};
	uint64_t id[2];

	rl_hash128(key, text.at, text.len, id);
	return id[0];
}
