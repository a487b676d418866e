/*
 * takeover.c - a new agent takes up what the last one left, which may have been killed anywhere.
 */
#include <string.h>

#include "agent/sync/due.h"
#include "agent/sync/part.h"
#include "agent/sync/slot.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

/* What an agent before us left: calls under way, credit, units not reported. */
struct leftovers {
	uint32_t count[RL_PARTS];
	uint64_t slot[RL_PARTS][SYNC_BATCH_MAX];
};

static void take_up(struct sync *sync, uint64_t index, bool forget, struct leftovers *left)
{
	struct rl_side *side = &sync->seg->side[index];
	uint32_t part = sync_part_of(sync, index);
	struct sync_entry *entry;

	/* Relaxed: who waited for the last agent has given up by now. */
	atomic_store_explicit(&side->waiters, 0, memory_order_relaxed);
	if (forget)
		sync_slot_forget(sync->seg, index);
	entry = sync_active_add(&sync->active, part, index);
	if (entry == NULL)
		return;
	entry->recorded = rl_head_credit(word_of(&sync->seg->slot[index].head)) > 0;
	entry->busy_ns = entry->due_ns = entry->told_ns = rl_clock_precise_ns();
	/* pairs[side.acq]: with the record comes all that was done before it. */
	if (atomic_load_explicit(&side->infl, memory_order_acquire) == 0)
		return;
	if (left->count[part] < SYNC_BATCH_MAX && due_recover(&sync->part[part], entry))
		left->slot[part][left->count[part]++] = index;
	else
		sync_slot_forget(sync->seg, index); /* no longer shared, or damaged */
}

void takeover(struct sync *sync, bool forget)
{
	static struct leftovers left;
	const struct rl_view *view = &sync->seg->view;

	memset(&left, 0, sizeof(left));
	for (uint64_t i = 0; i < view->slot_count; i++) {
		uint64_t head = word_of(&view->slot[i].head);

		if (!rl_head_is_open(head))
			continue;
		if (rl_head_credit(head) > 0 || word_of(&view->side[i].infl) != 0 ||
		    ((word_of(&view->side[i].acked) & RL_TRACKED) != 0 &&
		     sync_slot_unsent(view, i) > 0))
			take_up(sync, i, forget, &left);
	}
	/* Also with nothing under way: whether the last number was used up only Redis knows. */
	for (uint32_t p = 0; p < RL_PARTS; p++)
		part_recover(&sync->part[p], left.slot[p], left.count[p]);
}
