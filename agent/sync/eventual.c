#include "agent/sync/eventual.h"

#include "agent/sync/slot.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"
#include "shm/rl_eventual.h"
#include "shm/rl_side.h"

#define MS_NS UINT64_C(1000000)

static uint64_t slot_now_ns(const struct rl_slot *slot)
{
	return rl_clock_now_ns(rl_clock_is_coarse(word_of(&slot->window_ns)));
}

bool eventual_wants(const struct sync *sync, uint64_t index)
{
	const struct rl_view *view = &sync->seg->view;
	const struct rl_slot *slot = &view->slot[index];

	if (sync_slot_unsent(view, index) != 0)
		return true;
	return atomic_load_explicit(&view->side[index].refused, memory_order_relaxed) != 0 &&
	       rl_hint_again_ns(word_of(&slot->hint)) <= slot_now_ns(slot);
}

/*
 * Killed between any two of these and the acknowledgement: units of the call count twice here until
 * it is answered again.
 */
void eventual_note(const struct sync_part *part, const struct sync_entry *entry,
		   const struct rl_rule *rule, const struct sync_answer *answer)
{
	struct rl_seg *seg = part->sync->seg;
	struct rl_slot *slot = &seg->slot[entry->index];
	uint64_t now_ns = slot_now_ns(slot);
	uint64_t all = (uint64_t)answer->count + answer->others_out;
	/* A time that is cut to whole milliseconds is the moment before. */
	uint64_t again_ms = answer->retry_ms > 0 ? now_ns / MS_NS + answer->retry_ms : 0;
	/* Leases count as well, while another host still has the rule as it was: for all of W. */
	uint64_t ends_ns = answer->others_out > 0 ? rule->window_ns : answer->ends_ms * MS_NS;

	put(&seg->side[entry->index].total, rl_total(now_ns, all));
	put(&slot->hint,
	    rl_hint(again_ms, rl_eventual_low(rule->window_ns, ends_ns), part->number));
}
