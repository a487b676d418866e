/*
 * read.c - the arguments of a call: looked through whole before anything is changed.
 *
 * What is found wrong is said in the script's words, as the agent knows them (answer.c).
 */
#include <stdarg.h>
#include <stdio.h>

#include "agent/memory/inner.h"

static const unsigned char *bytes_of(struct memory_text text)
{
	return (const unsigned char *)text.at;
}

static const char *wrong(struct memory *memory, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static const char *wrong(struct memory *memory, const char *format, ...)
{
	int len = snprintf(memory->error, sizeof(memory->error), "ERR rl_sync: ");
	va_list args;

	va_start(args, format);
	vsnprintf(memory->error + len, sizeof(memory->error) - (size_t)len, format, args);
	va_end(args);
	return memory->error;
}

static bool is_named_before(const struct memory_batch *batch, uint32_t i)
{
	for (uint32_t j = 0; j < i; j++)
		if (batch->id[j] == batch->id[i])
			return true;
	return false;
}

/* The last piece may be none: it says since when units count. */
static void read_forgetting(struct memory_batch *batch, uint32_t i)
{
	struct sync_piece since;

	batch->forget_ms[i] = UINT64_MAX;
	if (batch->item[i].flags < SYNC_FORGET || batch->piece_count[i] == 0)
		return;
	batch->item[i].flags -= SYNC_FORGET;
	batch->piece_count[i]--;
	sync_piece_read(batch->pieces[i] + batch->piece_count[i] * SYNC_PIECE_SIZE, &since);
	batch->forget_ms[i] = since.age_ms;
}

static const char *read_item(struct memory *memory, uint64_t part, uint32_t i,
			     struct memory_batch *batch)
{
	const struct memory_entry *entry = &batch->call->item[i];
	size_t rest = entry->bytes.len - SYNC_ITEM_SIZE;

	if (entry->bytes.len < SYNC_ITEM_SIZE || rest % SYNC_PIECE_SIZE != 0)
		return wrong(memory, "item %u has a wrong length", i + 1);
	if (entry->bytes.len > SYNC_ITEM_MOST)
		return wrong(memory, "item %u has too many pieces", i + 1);
	if (entry->name.len > MEMORY_NAME_MAX)
		return wrong(memory, "the name of item %u is too long", i + 1);
	batch->id[i] = memory_id(memory, part, entry->name);
	if (is_named_before(batch, i))
		return wrong(memory, "item %u has the key of another", i + 1);
	sync_item_read(bytes_of(entry->bytes), &batch->item[i]);
	batch->pieces[i] = bytes_of(entry->bytes) + SYNC_ITEM_SIZE;
	batch->piece_count[i] = (uint32_t)(rest / SYNC_PIECE_SIZE);
	read_forgetting(batch, i);
	return NULL;
}

/* "HOST:EPOCH" */
static bool is_row_of(struct memory_text row, struct memory_text host)
{
	return row.len > host.len && row.at[host.len] == ':' && memory_same(host, row.at, host.len);
}

static const char *read_words(struct memory *memory, const struct memory_call *call,
			      struct memory_batch *batch)
{
	if (call->header.len != SYNC_HEADER_SIZE)
		return wrong(memory, "the header has a wrong length");
	if (!is_row_of(call->row, call->host))
		return wrong(memory, "the row is not one of this host");
	if (call->part.len > MEMORY_NAME_MAX || call->host.len > MEMORY_HOST_MAX ||
	    call->row.len > MEMORY_ROW_MAX || call->words.len > MEMORY_WORDS_MAX)
		return wrong(memory, "a name is too long");
	if (call->count > SYNC_BATCH_MAX)
		return wrong(memory, "more than %u items", SYNC_BATCH_MAX);
	sync_header_read(bytes_of(call->header), &batch->header, &batch->now_ms);
	if ((double)batch->now_ms >= MEMORY_CLOCK_MAX)
		return wrong(memory, "a time beyond all");
	return NULL;
}

const char *memory_read(struct memory *memory, const struct memory_call *call,
			struct memory_batch *ret)
{
	const char *error = read_words(memory, call, ret);
	uint64_t part = memory_id(memory, 0, call->part);

	ret->call = call;
	ret->items = call->count;
	for (uint32_t i = 0; i < call->count && error == NULL; i++)
		error = read_item(memory, part, i, ret);
	return error;
}
