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
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		free(active->part[p].entry);
		free(active->part[p].soonest_ns);
	}
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
	uint64_t *soonest_ns = realloc(list->soonest_ns, room / SYNC_BLOCK * sizeof(*soonest_ns));
	struct sync_entry *more;

	if (soonest_ns == NULL)
		return false;
	list->soonest_ns = soonest_ns;
	more = room > PLACE_MAX ? NULL : realloc(list->entry, room * sizeof(*more));
	if (more == NULL)
		return false;
	list->entry = more;
	list->room = room;
	return true;
}

static void lower(struct sync_list *list, uint32_t place, uint64_t due_ns)
{
	uint64_t *soonest_ns = &list->soonest_ns[place / SYNC_BLOCK];

	if (*soonest_ns > due_ns)
		*soonest_ns = due_ns;
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
	list->soonest_ns[(list->count - 1) / SYNC_BLOCK] = 0; /* the caller says when it is due */
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
	lower(list, (uint32_t)(entry - list->entry), entry->due_ns);
}

void sync_active_sooner(struct sync_active *active, struct sync_entry *entry, uint64_t due_ns)
{
	struct sync_list *list = &active->part[sync_active_part(active, entry->index)];

	entry->due_ns = due_ns;
	lower(list, (uint32_t)(entry - list->entry), due_ns);
}

uint32_t sync_list_due(const struct sync_list *list, uint32_t at, uint64_t now_ns)
{
	while (at < list->count && list->soonest_ns[at / SYNC_BLOCK] > now_ns)
		at = (at / SYNC_BLOCK + 1) * SYNC_BLOCK;
	return at < list->count ? at : list->count;
}

void sync_list_looked(struct sync_list *list, uint32_t at)
{
	uint32_t first = (at - 1) / SYNC_BLOCK * SYNC_BLOCK;
	uint64_t soonest_ns = UINT64_MAX;

	for (uint32_t i = first; i < first + SYNC_BLOCK && i < list->count; i++)
		if (list->entry[i].due_ns < soonest_ns)
			soonest_ns = list->entry[i].due_ns;
	list->soonest_ns[first / SYNC_BLOCK] = soonest_ns;
}
