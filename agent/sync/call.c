#include "agent/sync/call.h"

#include <string.h>

#include "agent/sync/due.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"
#include "shm/rl_side.h"

#define PIECES_OVER 4 /* intervals: an item of less is said by its last age well enough */

size_t call_name(const struct sync *sync, uint64_t index, char out[CALL_NAME_SIZE])
{
	const struct rl_named_rule *named = sync_rule_of(sync, index);
	const char *rule = named == NULL ? "?" : named->name;
	size_t rule_len = strnlen(rule, RL_NAME_MAX);

	memcpy(out, rule, rule_len);
	return rule_len + rl_side_name(&sync->seg->view, index, out + rule_len);
}

static void write_header(struct call *call, const struct sync_part *part, uint32_t flags)
{
	const struct identity *identity = &part->sync->identity;
	/* 1 is the first of an epoch. */
	bool chained = word_of(&sync_words(part)->seq) > 1 && !part->unchained;
	const struct sync_header header = {
		.seq = word_of(&sync_words(part)->seq),
		.nonce = word_of(&sync_words(part)->nonce),
		.lease_ms = SYNC_RECLAIM_MS,
		.flags = flags | (part->sync->totals ? SYNC_TOTALS : 0) |
			 (chained ? SYNC_CHAINED : 0),
	};

	sync_header_write(&header, call->header);
	call->store.host = identity->host;
	call->store.row = identity->row;
	call->store.words = identity->about;
	call->store.header = call->header;
}

/* Behind the item: since when its key's units count. */
static size_t write_forget(const struct sync_entry *entry, unsigned char *out)
{
	/* Signed: it may be of before this host's clock began, or by a little still to come. */
	int64_t age_ns = (int64_t)(rl_clock_precise_ns() - entry->forget_ns);
	const struct sync_piece since = {.age_ms = age_ns > 0 ? (uint64_t)age_ns / 1000000 : 0};

	if ((entry->item.flags & SYNC_FORGET) == 0)
		return 0;
	sync_piece_write(&since, out);
	return SYNC_PIECE_SIZE;
}

/*
 * An item as it is now: its age grows while it waits to be sent again. After an outage, when it
 * is of many intervals, the times within it go along.
 */
static size_t write_item(const struct sync_part *part, struct sync_entry *entry,
			 unsigned char out[SYNC_ITEM_MOST])
{
	const struct rl_view *view = &part->sync->seg->view;
	struct sync_piece piece[SYNC_PIECES_MAX];
	struct sync_item *item = &entry->item;
	uint64_t span_ms = PIECES_OVER * item->interval_ms;
	struct sync_item said;
	uint32_t count;
	size_t size;

	if (!entry->close && span_ms < item->window_ms / DUE_BLIND_PARTS)
		span_ms = item->window_ms / DUE_BLIND_PARTS; /* it is told so seldom */
	sync_slot_infl(view, entry->index, item);
	count = sync_slot_pieces(view, entry->index, item->window_ms, piece);
	if (count < 2 || piece[0].age_ms - piece[count - 1].age_ms <= span_ms)
		count = 0;
	for (uint32_t i = 0; i < count; i++)
		sync_piece_write(&piece[i], out + SYNC_ITEM_SIZE + i * SYNC_PIECE_SIZE);
	size = SYNC_ITEM_SIZE + count * SYNC_PIECE_SIZE;
	size += write_forget(entry, out + size);
	said = *item;
	said.flags |= (uint32_t)((size - SYNC_ITEM_SIZE) / SYNC_PIECE_SIZE) << SYNC_PIECES_AT;
	sync_item_write(&said, out);
	return size;
}

/*
 * A slot may have been emptied (damaged words) since it was taken, or its rule removed: what it
 * had to say is gone, and its name may be nobody's or another's.
 */
static void drop_emptied(struct sync_part *part)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < part->count; i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->batch[i]);
		char name[RL_NAME_BYTES];

		if (entry == NULL)
			continue;
		if (sync_slot_infl(&part->sync->seg->view, entry->index, &entry->item) &&
		    sync_rule_of(part->sync, entry->index) != NULL &&
		    rl_side_name(&part->sync->seg->view, entry->index, name) > 0)
			part->batch[kept++] = entry->index;
		else
			entry->in_flight = false;
	}
	part->count = kept;
}

void call_write(struct call *call, struct sync_part *part)
{
	uint32_t flags = 0;

	drop_emptied(part);
	call->store.count = part->count;
	for (uint32_t i = 0; i < part->count; i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->batch[i]);

		call->store.item[i] = (struct store_item){
			.name = call->name[i],
			.name_size = call_name(part->sync, part->batch[i], call->name[i]),
			.bytes = call->item[i],
			.size = write_item(part, entry, call->item[i]),
		};
		if (call->store.item[i].size > SYNC_ITEM_SIZE)
			flags |= SYNC_PIECES;
	}
	write_header(call, part, flags);
}
