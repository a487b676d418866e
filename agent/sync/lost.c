#include "agent/sync/lost.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/sync/part.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

#define NOTES 32768u /* some 10 s of a busy host */

/* Rows that are not called for a day are forgotten by the store: that is no loss. */
#define KEPT_NS (12 * 3600 * RL_SECOND_NS)

/* What one call told of one slot. */
struct note {
	uint64_t seq, index, id;
	uint32_t units;
	uint32_t part;
};

struct lost_log {
	uint64_t count;           /* of all notes ever; the last NOTES are there */
	uint64_t since[RL_PARTS]; /* calls from this number on are noted whole */
	struct note note[NOTES];
};

bool lost_init(struct sync *sync)
{
	sync->log = calloc(1, sizeof(*sync->log));
	if (sync->log == NULL)
		return false;
	for (uint32_t p = 0; p < RL_PARTS; p++)
		sync->log->since[p] = word_of(&sync->seg->fleet->part[p].seq);
	return true;
}

void lost_free(struct sync *sync)
{
	free(sync->log);
	sync->log = NULL;
}

static uint64_t id_of(const struct sync *sync, uint64_t index)
{
	/* Relaxed: the slot of a key that is being synced goes to no other. */
	return atomic_load_explicit(&sync->seg->slot[index].id[0], memory_order_relaxed);
}

void lost_note(struct sync_part *part, const struct sync_entry *entry)
{
	struct lost_log *log = part->sync->log;
	struct note *note;

	if (log == NULL)
		return;
	note = &log->note[log->count % NOTES];
	if (log->count++ >= NOTES)
		log->since[note->part] = note->seq + 1;
	*note = (struct note){
		.seq = word_of(&sync_words(part)->seq),
		.index = entry->index,
		.id = id_of(part->sync, entry->index),
		.units = entry->item.used < UINT32_MAX ? (uint32_t)entry->item.used : UINT32_MAX,
		.part = part->number,
	};
}

/* So many units of a slot are to be told again, and what is lent to it stated. */
static uint64_t untell(struct sync_part *part, uint64_t index, uint64_t units)
{
	struct sync *sync = part->sync;
	const struct rl_named_rule *named = sync_rule_of(sync, index);
	struct sync_entry *entry = sync_active_find(&sync->active, index);

	if (named == NULL || rl_rule_is_local(&named->rule) ||
	    (entry != NULL &&
	     (entry->in_flight || sync_active_part(&sync->active, index) != part->number)))
		return 0;
	sync_slot_take_credit(sync->seg, index);
	units = sync_slot_untell(sync->seg, index, &named->rule, units);
	if (entry == NULL)
		entry = sync_active_add(&sync->active, part->number, index);
	if (entry == NULL)
		return units; /* no memory: its next mark, or the next agent, tells it */
	entry->recorded = entry->close = true;
	sync_active_sooner(&sync->active, entry, 0);
	return units;
}

/* All that the window holds, of every slot of the partition. */
static uint64_t untell_all(struct sync_part *part)
{
	struct rl_seg *seg = part->sync->seg;
	uint64_t units = 0;

	for (uint64_t i = 0; i < seg->view.slot_count; i++)
		if (rl_head_is_open(word_of(&seg->slot[i].head)) &&
		    (word_of(&seg->side[i].acked) & RL_TRACKED) != 0 &&
		    sync_part_of(part->sync, i) == part->number)
			units += untell(part, i, UINT64_MAX);
	return units;
}

/* What the log has of later calls. */
static uint64_t untell_since(struct sync_part *part, uint64_t known)
{
	const struct lost_log *log = part->sync->log;
	uint64_t first = log->count > NOTES ? log->count - NOTES : 0, units = 0;

	for (uint64_t i = first; i < log->count; i++) {
		const struct note *note = &log->note[i % NOTES];

		if (note->part == part->number && note->seq > known &&
		    note->id == id_of(part->sync, note->index))
			units += untell(part, note->index, note->units);
	}
	return units;
}

bool lost_is_elsewhere(struct sync *sync)
{
	const char *where = store_where(sync->store);
	bool moved = sync->at[0] != '\0' && strcmp(sync->at, where) != 0;

	snprintf(sync->at, sizeof(sync->at), "%s", where);
	return moved;
}

/*
 * Hosts find it out one after the other, by when they look for the failover: who comes first must
 * not be lent what the others are about to tell. Until then rules go by on_unreachable.
 */
void lost_wait(struct sync_part *part)
{
	uint64_t now_ns = rl_clock_precise_ns();
	uint64_t stale_ns = word_of(&part->sync->seg->fleet->stale_after_ns) + 1000000;
	_Atomic uint64_t *silent = &sync_words(part)->silent_ns;

	part->back_ns = now_ns;
	part->grace_ns = LOST_GRACE_NS;
	part->sent_ns = 0; /* it says something at the next tick, idle or not */
	if (word_of(silent) == 0 || now_ns - word_of(silent) < stale_ns)
		put(silent, now_ns - stale_ns);
}

void lost_say(struct sync *sync)
{
	if (sync->lost.since_ns == 0 || rl_clock_precise_ns() - sync->lost.since_ns < LOST_GRACE_NS)
		return;
	log_event(LOG_WARNING, "redis_lost",
		  "partitions=%" PRIu64 " calls=%" PRIu64 " units=%" PRIu64
		  " msg=\"Redis had an older state than it had answered by (a failover, or a "
		  "restart): what this host has told since was told again%s\"",
		  sync->lost.parts, sync->lost.calls, sync->lost.units,
		  sync->lost.in_part ? ", as far as it is known: the rest may be admitted once more"
				     : "");
	memset(&sync->lost, 0, sizeof(sync->lost));
}

static void note_loss(struct sync_part *part, uint64_t known, uint64_t units, bool whole)
{
	struct sync *sync = part->sync;

	if (sync->lost.since_ns == 0) {
		sync->lost.since_ns = rl_clock_precise_ns();
		for (uint32_t p = 0; p < RL_PARTS; p++)
			sync->part[p].sent_ns = 0; /* each asks at the next tick, idle or not */
	}
	sync->lost.parts++;
	sync->lost.calls += word_of(&sync_words(part)->seq) - 1 - known;
	sync->lost.units += units;
	sync->lost.in_part = sync->lost.in_part || !whole;
}

void lost_take(struct sync_part *part, uint64_t known)
{
	uint64_t heard_ns = word_of(&sync_words(part)->lease_until_ns) - SYNC_LEASE_NS;
	bool gone = known == 0 && rl_clock_precise_ns() - heard_ns < KEPT_NS;
	bool whole = known == 0 || known + 1 >= part->sync->log->since[part->number];

	note_loss(part, known, gone ? untell_all(part) : untell_since(part, known), whole);
	part->unchained = true;
	lost_wait(part);
	part->backlog = true; /* all that is due, if not now, then in a moment */
	part_pump(part, true);
}
