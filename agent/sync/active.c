#include "agent/sync/active.h"

#include <stdlib.h>

#define PLACE_BITS 28 /* the upper four bits say the partition */
#define PLACE_MAX  ((UINT32_C(1) << PLACE_BITS) - 1)

static_assert(RL_PARTS <= 1u << (32 - PLACE_BITS), "a partition fits above a place");

bool sync_active_init(struct sync_active *active, uint64_t slot_count)
{
	*active = (struct sync_active){.slot_count = slot_count};
	active->where = calloc(slot_count, sizeof(active->where[0])); /* pages come when touched */
	return active->where != NULL;
}

void sync_active_free(struct sync_active *active)
{
	for (uint32_t p = 0; p < RL_PARTS; p++)
		free(active->part[p].entry);
	free(active->where);
	*active = (struct sync_active){0};
}

struct sync_entry *sync_active_find(struct sync_active *active, uint64_t index)
{
	uint32_t where = index < active->slot_count ? active->where[index] : 0;

	if (where == 0)
		return NULL;
	return &active->part[where >> PLACE_BITS].entry[(where & PLACE_MAX) - 1];
}

static bool grow(struct sync_list *list)
{
	uint32_t room = list->room == 0 ? 64 : list->room * 2;
	struct sync_entry *more = realloc(list->entry, room * sizeof(*more));

	if (room > PLACE_MAX || more == NULL)
		return false;
	list->entry = more;
	list->room = room;
	return true;
}

struct sync_entry *sync_active_add(struct sync_active *active, uint32_t part, uint64_t index)
{
	struct sync_entry *entry = sync_active_find(active, index);
	struct sync_list *list = &active->part[part];

	if (entry != NULL || index >= active->slot_count)
		return entry;
	if (list->count == list->room && !grow(list))
		return NULL;
	entry = &list->entry[list->count++];
	*entry = (struct sync_entry){.index = index};
	active->where[index] = part << PLACE_BITS | list->count;
	return entry;
}

uint32_t sync_active_part(const struct sync_active *active, uint64_t index)
{
	return active->where[index] >> PLACE_BITS;
}

void sync_active_remove(struct sync_active *active, struct sync_entry *entry)
{
	uint32_t part = sync_active_part(active, entry->index);
	struct sync_list *list = &active->part[part];
	struct sync_entry *last = &list->entry[--list->count];

	active->where[entry->index] = 0;
	if (entry == last)
		return;
	*entry = *last;
	active->where[entry->index] = part << PLACE_BITS | (uint32_t)(entry - list->entry + 1);
}
