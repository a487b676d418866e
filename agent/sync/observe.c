#include "agent/sync/observe.h"

#include <string.h>

#include "agent/sync/part.h"
#include "shm/rl_word.h"

static uint64_t age(uint64_t since_ns, uint64_t now_ns)
{
	return now_ns > since_ns ? now_ns - since_ns : 0;
}

/* A key that is only kept, for the credit it has in stock, is not waiting for an answer. */
static bool waits(const struct rl_view *view, const struct sync_entry *entry, bool untold)
{
	/* Relaxed, both: numbers. */
	return untold || entry->in_flight ||
	       atomic_load_explicit(&view->side[entry->index].refused, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&view->slot[entry->index].asked, memory_order_relaxed) != 0;
}

static void look(struct sync *sync, const struct sync_entry *entry, uint64_t now_ns)
{
	const struct rl_view *view = &sync->seg->view;
	const struct rl_named_rule *named = sync_rule_of(sync, entry->index);
	/* pairs[slot_head.acq]: as any reader of a slot. */
	uint64_t head = atomic_load_explicit(&view->slot[entry->index].head, memory_order_acquire);
	struct rl_watch_sum *sum;
	uint64_t before;

	if (named == NULL || rl_rule_is_local(&named->rule) || !rl_head_is_open(head))
		return;
	sum = &sync->observe.sum[named->index % RL_RULES_MAX];
	before = sum->untold;
	rl_watch_add(view, entry->index, head, &named->rule, now_ns, sum);
	sum->active++;
	if (sum->untold > before && age(entry->told_ns, now_ns) > sum->untold_ns)
		sum->untold_ns = age(entry->told_ns, now_ns);
	if (waits(view, entry, sum->untold > before) && age(entry->told_ns, now_ns) > sum->stale_ns)
		sum->stale_ns = age(entry->told_ns, now_ns);
}

static void publish(struct sync *sync, uint64_t now_ns)
{
	struct rl_watch_host host;

	rl_watch_read_host(&sync->seg->view, &host);
	for (uint32_t i = 0; i < sync->rule_count; i++)
		rl_watch_publish(sync->seg, &host, &sync->rule[i].rule,
				 &sync->observe.sum[sync->rule[i].index % RL_RULES_MAX]);
	rl_watch_made(sync->seg, now_ns);
}

/* A key that changes its place in a list meanwhile may be left out, or come twice: once. */
void observe_some(struct sync *sync, uint64_t now_ns)
{
	struct observe *at = &sync->observe;
	uint32_t left = OBSERVE_LOOKS;

	if (at->part == 0 && at->next == 0 && age(at->begun_ns, now_ns) < OBSERVE_PASS_NS)
		return;
	if (at->part == 0 && at->next == 0) {
		at->begun_ns = now_ns;
		memset(at->sum, 0, sizeof(at->sum));
	}
	for (; at->part < RL_PARTS; at->part++, at->next = 0) {
		const struct sync_list *list = &sync->active.part[at->part];

		for (; at->next < list->count; at->next++, left--) {
			if (left == 0)
				return;
			look(sync, &list->entry[at->next], now_ns);
		}
	}
	at->part = at->next = 0;
	publish(sync, now_ns);
}
