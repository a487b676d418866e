#include "agent/sync/forget.h"

#include "agent/sync/part.h"
#include "agent/sync/slot.h"
#include "agent/sync/untold.h"
#include "agent/sync/word.h"
#include "shm/rl_audit.h"
#include "shm/rl_bell.h"
#include "shm/rl_clock.h"
#include "shm/rl_rebase.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

#define FORGET_TRIES 64  /* each failure is a worker admitting */
#define FORGET_WAKES 64u /* as due.c wakes for a refusal */

/* Without its credit, in a slot that no call has. */
static bool forget_slot(struct sync *sync, uint64_t index, const struct rl_rule *rule,
			uint64_t before_ns)
{
	struct rl_seg *seg = sync->seg;

	for (int i = 0; i < FORGET_TRIES; i++) {
		/* pairs[slot_head.acq]: as any reader of a slot. */
		uint64_t head = atomic_load_explicit(&seg->slot[index].head, memory_order_acquire);

		if (!rl_head_is_open(head))
			return false;
		if (rl_head_credit(head) > 0)
			sync_slot_take_credit(seg, index);
		else if (rl_rebase_forget(seg, index, head, rule, before_ns))
			return true;
	}
	return false;
}

/* What was known of the fleet, and when to ask again, is of before. Killed in the middle: likewise
 * for a window at most, and it is done again. */
static void forget_fleet(struct sync *sync, uint64_t index)
{
	struct rl_side *side = &sync->seg->side[index];

	put(&side->total, 0);
	/* Relaxed: a budget. */
	atomic_store_explicit(&side->debt, 0, memory_order_relaxed);
	put(&sync->seg->slot[index].hint, rl_hint(0, 0, sync_part_of(sync, index)));
}

static void tell_redis(struct sync *sync, struct sync_entry *entry, uint64_t since_ns)
{
	struct sync_part *part = &sync->part[sync_active_part(&sync->active, entry->index)];

	entry->forget_ns = since_ns;
	sync_active_sooner(&sync->active, entry, 0);
	part_want(part, entry->index);
	part_pump(part, false);
}

bool sync_forget(struct sync *sync, uint64_t index, uint64_t before_ns, uint64_t since_ns)
{
	const struct rl_named_rule *named = sync_rule_of(sync, index);
	struct sync_entry *entry = sync_active_find(&sync->active, index);

	if (named == NULL || rl_rule_is_local(&named->rule) || (entry != NULL && entry->in_flight))
		return false;
	if (word_of(&sync->seg->side[index].infl) != 0) /* no call has it: as due.c's begin() */
		sync_slot_forget(sync->seg, index);
	if (!forget_slot(sync, index, &named->rule, before_ns))
		return false;
	forget_fleet(sync, index);
	if ((word_of(&sync->seg->side[index].acked) & RL_TEXT_AUDIT) != 0)
		rl_audit_note(sync->seg, index, before_ns, 0, RL_AUDIT_RESET);
	rl_turn_next(sync->seg, index, FORGET_WAKES);
	if (entry == NULL && since_ns != 0)
		entry = sync_active_add(&sync->active, sync_part_of(sync, index), index);
	if (since_ns != 0 && entry != NULL)
		tell_redis(sync, entry, since_ns);
	return since_ns == 0 || entry != NULL;
}

bool sync_forget_waits(struct sync *sync, uint64_t index)
{
	const struct sync_entry *entry = sync_active_find(&sync->active, index);

	return entry != NULL && entry->forget_ns != 0;
}

void sync_limit_changed(struct sync *sync, uint64_t index)
{
	const struct rl_named_rule *named = sync_rule_of(sync, index);

	if (named == NULL || rl_rule_is_local(&named->rule))
		return;
	sync_slot_take_credit(sync->seg, index);
	put(&sync->seg->slot[index].hint, rl_hint(0, 0, sync_part_of(sync, index)));
	untold_tell(sync, index);
	untold_send(sync);
}
