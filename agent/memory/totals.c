/*
 * totals.c - units ever reported of a key, in calls that ask for it: for tests, which are to see
 * that nothing is lost and nothing counted twice. They never end.
 */
#include "agent/memory/inner.h"

static struct memory_total *find(const struct memory *memory, uint64_t id)
{
	struct memory_total *total = memory->total_list[id % MEMORY_PART_LISTS];

	while (total != NULL && total->id != id)
		total = total->next;
	return total;
}

bool memory_total_reserve(struct memory *memory, uint64_t id)
{
	struct memory_total **list = &memory->total_list[id % MEMORY_PART_LISTS], *total;

	if (find(memory, id) != NULL)
		return true;
	total = memory_take(memory, sizeof(*total));
	if (total == NULL)
		return false;
	total->id = id;
	total->next = *list;
	*list = total;
	return true;
}

void memory_total_add(struct memory *memory, uint64_t id, uint64_t units)
{
	struct memory_total *total = find(memory, id);

	if (total != NULL)
		total->units += units;
}

uint64_t memory_total(const struct memory *memory, struct memory_text part, struct memory_text name)
{
	const struct memory_total *total =
		find(memory, memory_id(memory, memory_id(memory, 0, part), name));

	return total == NULL ? 0 : total->units;
}

void memory_totals_free(struct memory *memory)
{
	for (uint32_t i = 0; i < MEMORY_PART_LISTS; i++) {
		struct memory_total *total = memory->total_list[i], *next;

		for (; total != NULL; total = next) {
			next = total->next;
			memory_give(memory, total, sizeof(*total));
		}
		memory->total_list[i] = NULL;
	}
}
