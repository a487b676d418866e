#include "agent/sync/untold.h"

#include "agent/sync/due.h"
#include "agent/sync/slot.h"
#include "agent/sync/word.h"
#include "shm/rl_bell.h"
#include "shm/rl_clock.h"
#include "shm/rl_shared.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

/* Partitions tell one after the other that a host is gone, or that it is back. */
#define FEWER_NS (10 * RL_SECOND_NS)

static struct sync_entry *active(struct sync *sync, uint64_t index, uint64_t now_ns)
{
	struct sync_entry *entry = sync_active_find(&sync->active, index);
	uint32_t part = sync_part_of(sync, index);

	if (entry != NULL && sync_active_part(&sync->active, index) == part)
		return entry;
	/* Also with an entry that is of the key before: who finds the mark looks at that. */
	rl_dirty_mark(sync->seg, index);
	if (entry != NULL)
		return NULL;
	entry = sync_active_add(&sync->active, part, index);
	if (entry != NULL)
		entry->busy_ns = entry->told_ns = now_ns;
	return entry;
}

void untold_tell(struct sync *sync, uint64_t index)
{
	const struct rl_named_rule *named = sync_rule_of(sync, index);
	uint64_t now_ns = rl_clock_precise_ns();
	struct sync_entry *entry;

	if (named == NULL || rl_rule_is_local(&named->rule) ||
	    !sync_slot_owes(&sync->seg->view, index, named->rule.window_ns) ||
	    due_is_quiet(sync, &named->rule, index))
		return;
	entry = active(sync, index, now_ns);
	if (entry == NULL)
		return; /* no memory: its mark tries again */
	/* Of one that is in a call: for the next. */
	sync_active_sooner(&sync->active, entry, 0);
	sync->part[sync_active_part(&sync->active, index)].backlog = true;
}

void untold_send(struct sync *sync)
{
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (sync->part[p].backlog)
			part_pump(&sync->part[p], true);
}

/* Without a lease it was opened with a share that is too large by now. */
static void lower_blind(struct sync *sync, uint64_t index)
{
	const struct rl_named_rule *named = sync_rule_of(sync, index);
	const struct sync_entry *entry = sync_active_find(&sync->active, index);

	if (named != NULL && !rl_rule_is_local(&named->rule) &&
	    (entry == NULL || (!entry->recorded && !entry->close)))
		sync_slot_lower_credit(sync->seg, index, due_blind(sync, &named->rule));
}

static void look_at_all(struct sync *sync)
{
	const struct rl_view *view = &sync->seg->view;

	for (uint64_t i = 0; i < view->slot_count; i++) {
		if (!rl_head_is_open(word_of(&view->slot[i].head)))
			continue;
		lower_blind(sync, i);
		untold_tell(sync, i);
	}
	untold_send(sync);
}

void untold_tick(struct sync *sync, uint64_t now_ns)
{
	uint32_t hosts = rl_shared_hosts(&sync->seg->view), before = sync->shared_by.hosts;
	bool first = sync->shared_by.seen_ns == 0;

	if (hosts < before && now_ns - sync->shared_by.seen_ns < FEWER_NS)
		return;
	sync->shared_by.hosts = hosts;
	sync->shared_by.seen_ns = now_ns;
	if (hosts > before || first)
		look_at_all(sync);
}

uint32_t untold_hosts(const struct sync *sync)
{
	uint32_t hosts = rl_shared_hosts(&sync->seg->view);

	return hosts > sync->shared_by.hosts ? hosts : sync->shared_by.hosts;
}
