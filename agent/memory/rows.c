/*
 * rows.c - partitions, and in each who calls: rows, by when they were seen, and who has which
 * host id.
 *
 * Lists by hash: a partition has a row for each life of a segment in a day, and so many lists that
 * each is short.
 */
#include <math.h>
#include <string.h>

#include "agent/memory/inner.h"

#define LIST(id) ((id) % MEMORY_PART_LISTS)

static struct memory_part *make_part(struct memory *memory, struct memory_text name, uint64_t id)
{
	struct memory_part *part = memory_take(memory, sizeof(*part) + name.len);

	if (part == NULL)
		return NULL;
	TAILQ_INIT(&part->rows);
	part->id = id;
	part->name_len = (uint16_t)name.len;
	memcpy(part->name, name.at, name.len);
	part->next = memory->part_list[LIST(id)];
	memory->part_list[LIST(id)] = part;
	return part;
}

struct memory_part *memory_part_of(struct memory *memory, struct memory_text name, bool make)
{
	uint64_t id = memory_id(memory, 0, name);

	for (struct memory_part *part = memory->part_list[LIST(id)]; part; part = part->next)
		if (part->id == id && memory_same(name, part->name, part->name_len))
			return part;
	return make ? make_part(memory, name, id) : NULL;
}

/* Never seen: the last of all, so that it is the first to be forgotten. */
static struct memory_row *make_row(struct memory *memory, struct memory_part *part,
				   struct memory_text name, uint64_t id)
{
	struct memory_row *row = memory_take(memory, sizeof(*row));

	if (row == NULL)
		return NULL;
	row->id = id;
	row->seen_ms = -MEMORY_CLOCK_MAX;
	row->name_len = (uint16_t)name.len;
	memcpy(row->name, name.at, name.len);
	row->next = part->row_list[LIST(id)];
	part->row_list[LIST(id)] = row;
	TAILQ_INSERT_HEAD(&part->rows, row, by_seen);
	memory->rows++;
	return row;
}

struct memory_row *memory_row_of(struct memory *memory, struct memory_part *part,
				 struct memory_text name, bool make)
{
	uint64_t id = memory_id(memory, 0, name);

	for (struct memory_row *row = part->row_list[LIST(id)]; row; row = row->next)
		if (row->id == id && memory_same(name, row->name, row->name_len))
			return row;
	return make ? make_row(memory, part, name, id) : NULL;
}

struct memory_host *memory_host_of(struct memory *memory, struct memory_part *part,
				   struct memory_text name, bool make)
{
	uint64_t id = memory_id(memory, 0, name);
	struct memory_host *host;

	for (host = part->host_list[LIST(id)]; host; host = host->next)
		if (host->id == id && memory_same(name, host->name, host->name_len))
			return host;
	host = make ? memory_take(memory, sizeof(*host)) : NULL;
	if (host == NULL)
		return NULL;
	host->id = id;
	host->name_len = (uint16_t)name.len;
	memcpy(host->name, name.at, name.len);
	host->next = part->host_list[LIST(id)];
	part->host_list[LIST(id)] = host;
	return host;
}

bool memory_row_reserve(struct memory *memory, struct memory_row *row, uint32_t answers_len)
{
	unsigned char *larger;

	if (answers_len <= row->answers_room)
		return true;
	larger = memory_regrow(memory, row->answers, row->answers_room, answers_len);
	if (larger == NULL)
		return false;
	row->answers = larger;
	row->answers_room = answers_len;
	return true;
}

/* Nearly always the last: time goes on. A clock that was set back puts it further in front. */
void memory_row_seen(struct memory_part *part, struct memory_row *row, double now_ms)
{
	struct memory_row *before;

	TAILQ_REMOVE(&part->rows, row, by_seen);
	row->seen_ms = now_ms;
	before = TAILQ_LAST(&part->rows, memory_rows);
	while (before != NULL && before->seen_ms > now_ms)
		before = TAILQ_PREV(before, memory_rows, by_seen);
	if (before != NULL)
		TAILQ_INSERT_AFTER(&part->rows, before, row, by_seen);
	else
		TAILQ_INSERT_HEAD(&part->rows, row, by_seen);
}

long long memory_rows_since(const struct memory_part *part, double since_ms)
{
	const struct memory_row *row;
	long long count = 0;

	TAILQ_FOREACH_REVERSE(row, &part->rows, memory_rows, by_seen)
	{
		if (row->seen_ms < since_ms)
			break;
		count++;
	}
	return count;
}

bool memory_row_is_awake(const struct memory_part *part, uint64_t id, double since_ms)
{
	for (const struct memory_row *row = part->row_list[LIST(id)]; row; row = row->next)
		if (row->id == id)
			return row->seen_ms >= since_ms;
	return false;
}

static void free_row(struct memory *memory, struct memory_row *row)
{
	memory_give(memory, row->answers, row->answers_room);
	memory_give(memory, row, sizeof(*row));
	memory->rows--;
}

/* The host id goes with the row that used it last. */
static void forget_host(struct memory *memory, struct memory_part *part,
			const struct memory_row *row)
{
	const char *colon = memrchr(row->name, ':', row->name_len);
	struct memory_text name = {row->name, colon ? (size_t)(colon - row->name) : 0};
	struct memory_host *host = memory_host_of(memory, part, name, false);
	struct memory_host **link;

	if (host == NULL || host->row_len != row->name_len ||
	    memcmp(host->row, row->name, row->name_len) != 0)
		return;
	for (link = &part->host_list[LIST(host->id)]; *link != host; link = &(*link)->next)
		;
	*link = host->next;
	memory_give(memory, host, sizeof(*host));
}

static void forget_row(struct memory *memory, struct memory_part *part, struct memory_row *row)
{
	struct memory_row **link = &part->row_list[LIST(row->id)];

	forget_host(memory, part, row);
	while (*link != row)
		link = &(*link)->next;
	*link = row->next;
	TAILQ_REMOVE(&part->rows, row, by_seen);
	free_row(memory, row);
}

void memory_rows_forget(struct memory *memory, struct memory_part *part, double now_ms)
{
	for (int i = 0; i < 2; i++) {
		struct memory_row *row = TAILQ_FIRST(&part->rows);

		if (row == NULL || row->seen_ms >= now_ms - MEMORY_FORGET_MS)
			return;
		forget_row(memory, part, row);
	}
}

static void free_part(struct memory *memory, struct memory_part *part)
{
	struct memory_row *row;

	while ((row = TAILQ_FIRST(&part->rows)) != NULL) {
		TAILQ_REMOVE(&part->rows, row, by_seen);
		free_row(memory, row);
	}
	for (uint32_t i = 0; i < MEMORY_PART_LISTS; i++) {
		struct memory_host *host = part->host_list[i], *next;

		for (; host != NULL; host = next) {
			next = host->next;
			memory_give(memory, host, sizeof(*host));
		}
	}
	memory_documents_free(memory, part);
	memory_give(memory, part, sizeof(*part) + part->name_len);
}

void memory_parts_sweep(struct memory *memory, double clock_ms)
{
	for (uint32_t i = 0; i < MEMORY_PART_LISTS; i++) {
		struct memory_part **link = &memory->part_list[i];

		while (*link != NULL) {
			struct memory_part *part = *link;

			if (part->ends_ms > clock_ms ||
			    (memory_has_documents(part) && clock_ms < HUGE_VAL)) {
				link = &part->next;
				continue;
			}
			*link = part->next;
			free_part(memory, part);
		}
	}
}
