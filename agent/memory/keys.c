/*
 * keys.c - the keys by name: found, made, given room before a call changes anything, swept.
 *
 * The list heads are as many as max_bytes can hold keys, and never more: a table that grew would
 * hold the loop up for as long as it moves. Those that nothing was put in are pages the kernel
 * has not given us yet.
 */
#include <string.h>

#include "agent/memory/inner.h"

#define KEY_SIZE(key)     (sizeof(struct memory_key) + (key)->name_len)
#define GROUP_BYTES(room) ((room) * sizeof(struct memory_group))
#define LEASE_BYTES(room) ((room) * sizeof(struct memory_lease))
#define LEASES_MAX        UINT16_MAX

static struct memory_key **list_of(struct memory *memory, uint64_t id)
{
	return &memory->bucket[id & (memory->bucket_count - 1)];
}

static struct memory_key *find(struct memory *memory, struct memory_text name, uint64_t id)
{
	struct memory_key *key = *list_of(memory, id);

	while (key != NULL && (key->id != id || !memory_same(name, key->name, key->name_len)))
		key = key->next;
	return key;
}

static struct memory_key *make(struct memory *memory, struct memory_text name, uint64_t id)
{
	struct memory_key *key = memory_take(memory, sizeof(*key) + name.len);

	if (key == NULL)
		return NULL;
	key->id = id;
	key->name_len = (uint16_t)name.len;
	memcpy(key->name, name.at, name.len);
	key->next = *list_of(memory, id);
	*list_of(memory, id) = key;
	memory->keys++;
	return key;
}

static void give(struct memory *memory, struct memory_key *key)
{
	memory_give(memory, key->group, GROUP_BYTES(key->group_room));
	memory_give(memory, key->lease, LEASE_BYTES(key->lease_room));
	memory_give(memory, key, KEY_SIZE(key));
	memory->keys--;
}

static bool room_for_groups(struct memory *memory, struct memory_key *key, uint32_t want)
{
	uint32_t room;
	void *larger;

	if (want > MEMORY_GROUPS)
		want = MEMORY_GROUPS;
	if (want <= key->group_room)
		return true;
	room = memory_room(key->group_room, want);
	larger = memory_regrow(memory, key->group, GROUP_BYTES(key->group_room), GROUP_BYTES(room));
	if (larger == NULL)
		return false;
	key->group = larger;
	key->group_room = (uint8_t)room;
	return true;
}

static bool room_for_leases(struct memory *memory, struct memory_key *key, uint32_t want)
{
	uint32_t room;
	void *larger;

	if (want <= key->lease_room)
		return true;
	room = memory_room(key->lease_room, want);
	if (room > LEASES_MAX)
		return false;
	larger = memory_regrow(memory, key->lease, LEASE_BYTES(key->lease_room), LEASE_BYTES(room));
	if (larger == NULL)
		return false;
	key->lease = larger;
	key->lease_room = (uint16_t)room;
	return true;
}

struct memory_key *memory_key_reserve(struct memory *memory, struct memory_text name, uint64_t id,
				      uint32_t more_groups, double clock_ms)
{
	struct memory_key *key = find(memory, name, id);

	if (key == NULL)
		key = make(memory, name, id);
	if (key == NULL)
		return NULL;
	if (key->ends_ms <= clock_ms)
		key->leases = key->groups = 0;
	if (room_for_groups(memory, key, key->groups + more_groups) &&
	    room_for_leases(memory, key, key->leases + 1u))
		return key;
	memory_key_drop_empty(memory, key);
	return NULL;
}

void memory_key_drop_empty(struct memory *memory, struct memory_key *key)
{
	struct memory_key **link = list_of(memory, key->id);

	if (!memory_key_is_empty(key))
		return;
	while (*link != key)
		link = &(*link)->next;
	*link = key->next;
	give(memory, key);
}

static void sweep_list(struct memory *memory, struct memory_key **link, double clock_ms)
{
	while (*link != NULL) {
		struct memory_key *key = *link;

		if (key->ends_ms > clock_ms) {
			link = &key->next;
			continue;
		}
		*link = key->next;
		give(memory, key);
	}
}

void memory_sweep(struct memory *memory, double clock_ms)
{
	for (uint32_t i = 0; i < MEMORY_SWEEP_MOST && i < memory->bucket_count; i++) {
		memory->swept = (memory->swept + 1) & (memory->bucket_count - 1);
		if (memory->keys > 0)
			sweep_list(memory, &memory->bucket[memory->swept], clock_ms);
	}
	memory_parts_sweep(memory, clock_ms);
}

void memory_keys_free(struct memory *memory)
{
	for (uint64_t i = 0; memory->keys > 0 && i < memory->bucket_count; i++)
		sweep_list(memory, &memory->bucket[i], __builtin_inf());
}
