#include "agent/sync/due.h"

#include <math.h>

#include "agent/sync/eventual.h"
#include "agent/sync/slot.h"
#include "agent/sync/untold.h"
#include "agent/sync/word.h"
#include "shm/rl_bell.h"
#include "shm/rl_clock.h"
#include "shm/rl_rebase.h"
#include "shm/rl_shared.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

#define RATE_OVER     3.0               /* intervals over which the rate of demand is smoothed */
#define HEADROOM      1.5               /* credit for this many times the rate: demand is bursty */
#define HEAR_NS       100000            /* from a worker's ring to our call */
#define HASTE_NS      UINT64_C(5000000) /* before it asks again that an answer gave nothing */
#define BLIND_MOST_NS UINT64_C(1000000000)
#define DEBT_TRIES    64  /* each failure is a worker going into debt */
#define REBASE_TRIES  64  /* each failure is a worker admitting */
#define WAKE_MOST     64u /* waiters woken at once for a refusal; the others time out */

uint64_t due_interval_ns(const struct sync *sync, const struct rl_rule *rule)
{
	return rl_shared_interval_ns(&sync->seg->view, rule->window_ns);
}

/* And as it is now: load.h. */
static uint64_t slowed_ns(const struct sync *sync, const struct rl_rule *rule,
			  const struct sync_entry *entry)
{
	bool far = !entry->near && atomic_load_explicit(&sync->seg->slot[entry->index].asked,
							memory_order_relaxed) == 0;

	return load_interval_ns(&sync->load, due_interval_ns(sync, rule), rule->window_ns, far);
}

static uint32_t blind_of(const struct rl_rule *rule, uint32_t hosts)
{
	struct rl_fleet_terms fleet;

	rl_fleet_unpack(rule->fleet, rule->wait_ns, &fleet);
	return rl_fleet_blind(rule->limit, &fleet, hosts);
}

uint32_t due_blind(const struct sync *sync, const struct rl_rule *rule)
{
	return blind_of(rule, rl_shared_hosts(&sync->seg->view));
}

/*
 * A key that lives on its blind share is told less often: what Redis does not know of it is at
 * most that share, at whatever age, and who runs short of it rings. So a flood of addresses that
 * come a few times each is told in full calls.
 */
uint64_t due_wait_ns(const struct sync *sync, const struct rl_rule *rule,
		     const struct sync_entry *entry)
{
	uint64_t interval_ns = slowed_ns(sync, rule, entry),
		 slow_ns = rule->window_ns / DUE_BLIND_PARTS;

	if (entry->close || entry->recorded || word_of(&sync->seg->fleet->interval_ns) != 0 ||
	    due_blind(sync, rule) == 0)
		return interval_ns;
	if (slow_ns > BLIND_MOST_NS)
		slow_ns = BLIND_MOST_NS;
	return slow_ns > interval_ns ? slow_ns : interval_ns;
}

uint64_t due_next_ns(const struct sync *sync, const struct rl_rule *rule,
		     const struct sync_entry *entry, uint32_t part, uint64_t now_ns)
{
	uint64_t wait_ns = due_wait_ns(sync, rule, entry), beat_ns = wait_ns / 2;

	if (wait_ns == slowed_ns(sync, rule, entry))
		return now_ns + wait_ns;
	now_ns += wait_ns;
	return now_ns - (now_ns + part * (beat_ns / RL_PARTS)) % beat_ns;
}

bool due_is_quiet(const struct sync *sync, const struct rl_rule *rule, uint64_t index)
{
	const struct rl_view *view = &sync->seg->view;

	return !sync->totals &&
	       sync_slot_unsent(view, index) <=
		       blind_of(rule, untold_hosts(sync)) / DUE_QUIET_PARTS &&
	       atomic_load_explicit(&view->side[index].refused, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&view->slot[index].asked, memory_order_relaxed) == 0;
}

/* Demand of a key since its last call. */
struct demand {
	uint64_t units;   /* admitted or not */
	uint32_t waiting; /* asked for by callers without credit */
	bool left;        /* by callers that did not wait for it */
};

static bool has_demand(const struct sync *sync, const struct rl_rule *rule,
		       const struct sync_entry *entry)
{
	const struct rl_view *view = &sync->seg->view;
	uint64_t index = entry->index;

	if (rl_rule_is_eventual(rule))
		return eventual_wants(sync, index);
	if (!entry->close && !entry->recorded && due_is_quiet(sync, rule, index))
		return false;
	return sync_slot_unsent(view, index) != 0 ||
	       atomic_load_explicit(&view->side[index].refused, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&view->slot[index].asked, memory_order_relaxed) != 0;
}

bool due_early(const struct sync *sync, struct sync_entry *entry, uint64_t now_ns)
{
	const struct rl_named_rule *named;

	if (entry->in_flight || now_ns >= entry->due_ns ||
	    entry->due_ns - now_ns > BLIND_MOST_NS / 2)
		return false;
	named = sync_rule_of(sync, entry->index);
	if (named == NULL || rl_rule_is_local(&named->rule) ||
	    entry->due_ns - now_ns > due_wait_ns(sync, &named->rule, entry) / 2 ||
	    !has_demand(sync, &named->rule, entry))
		return false;
	entry->due_ns = now_ns;
	return true;
}

static struct demand take_demand(struct sync *sync, uint64_t index)
{
	struct rl_side *side = &sync->seg->side[index];
	struct demand demand;
	/* Relaxed: numbers. Killed after this: a little demand is not known to Redis. */
	int32_t refused =
		(int32_t)atomic_exchange_explicit(&side->refused, 0, memory_order_relaxed);
	int64_t units = (int64_t)sync_slot_unsent(&sync->seg->view, index) + refused;

	demand.waiting =
		atomic_exchange_explicit(&sync->seg->slot[index].asked, 0, memory_order_relaxed);
	demand.left = demand.waiting > 0 &&
		      atomic_load_explicit(&side->waiters, memory_order_relaxed) == 0;
	demand.units = units > 0 ? (uint64_t)units : 0;
	return demand;
}

/*
 * Callers that do not wait are refused when there is no credit, so a slow client of such a
 * server would never pass: its credit would come and be given back between its requests. While
 * the key is far from its limit the host keeps in stock what the last of them asked for.
 */
static void keep_stock(const struct sync *sync, struct sync_entry *entry, struct demand *demand)
{
	if (demand->left)
		entry->stock = demand->waiting;
	if (!entry->pressed && demand->waiting < entry->stock &&
	    rl_head_credit(word_of(&sync->seg->slot[entry->index].head)) < entry->stock)
		demand->waiting = entry->stock;
}

static void smooth(struct sync_entry *entry, uint64_t units, uint64_t interval_ns, uint64_t now_ns)
{
	uint64_t since_ns = entry->taken_ns == 0 ? interval_ns : now_ns - entry->taken_ns;
	double part = 1.0 - exp(-(double)since_ns / (RATE_OVER * (double)interval_ns));

	if (since_ns == 0)
		return;
	entry->rate += part * ((double)units / (double)since_ns - entry->rate);
	entry->taken_ns = now_ns;
}

/* Credit to keep until the next call comes back; the rest is of use to others. */
static uint32_t to_keep(const struct sync *sync, const struct sync_entry *entry,
			const struct rl_rule *rule, const struct demand *demand,
			uint64_t interval_ns)
{
	double need = entry->rate * (double)(interval_ns + 2 * sync->round_trip_ns) * HEADROOM + 1;

	if (rl_rule_is_eventual(rule)) /* what it has is of before it was */
		return 0;
	if (!entry->recorded)
		return SYNC_KEEP_ALL;
	if (demand->units == 0)
		need = 0;
	if (need < demand->waiting)
		need = demand->waiting;
	return need < RL_CREDIT_MAX ? (uint32_t)need : RL_CREDIT_MAX;
}

static void fill_item(struct sync_part *part, struct sync_entry *entry, const struct rl_rule *rule,
		      const struct demand *demand, uint32_t flags)
{
	struct sync *sync = part->sync;
	uint64_t interval_ns = due_interval_ns(sync, rule);

	/* After an outage hosts first tell what they admitted, or the first to ask takes all. */
	if (part_in_grace(part))
		flags |= SYNC_PUSH_ONLY;
	entry->item.limit = rule->limit;
	entry->item.window_ms = rule->window_ns / 1000000;
	entry->item.interval_ms = (uint32_t)(interval_ns / 1000000);
	entry->item.demand = demand->units;
	entry->item.waiting = demand->waiting;
	entry->item.blind = due_blind(sync, rule);
	entry->item.flags = flags;
	if (rl_rule_is_eventual(rule)) {
		entry->item.demand = entry->item.waiting = 0;
		entry->item.flags = SYNC_PUSH_ONLY | SYNC_REPORT;
	}
	if (entry->forget_ns != 0)
		entry->item.flags |= SYNC_FORGET;
	entry->asked_ns = rl_clock_precise_ns();
	entry->in_flight = true;
	entry->urgent = false;
}

static bool begin(struct sync_part *part, struct sync_entry *entry,
		  const struct rl_named_rule *named, uint32_t keep, const struct demand *demand,
		  uint32_t flags)
{
	struct rl_seg *seg = part->sync->seg;
	uint32_t before;

	/* No call has it, whatever its side says: else it would never be in one again. */
	if (word_of(&seg->side[entry->index].infl) != 0)
		sync_slot_forget(seg, entry->index);
	/* Read before the count is: what comes in between is settled by the next answer. */
	entry->debt = atomic_load_explicit(&seg->side[entry->index].debt, memory_order_relaxed);
	if (!sync_slot_take(seg, entry->index, &named->rule, keep, &before) ||
	    !sync_slot_infl(&seg->view, entry->index, &entry->item))
		return false;
	if (before > entry->item.credit)
		atomic_fetch_add_explicit(&seg->fleet->returned, before - entry->item.credit,
					  memory_order_relaxed);
	fill_item(part, entry, &named->rule, demand, flags);
	return true;
}

bool due_recover(struct sync_part *part, struct sync_entry *entry)
{
	const struct rl_named_rule *named = sync_rule_of(part->sync, entry->index);
	struct demand demand = {0};

	if (named == NULL || rl_rule_is_local(&named->rule) ||
	    !sync_slot_infl(&part->sync->seg->view, entry->index, &entry->item))
		return false;
	demand.units = entry->item.used;
	fill_item(part, entry, &named->rule, &demand, 0);
	entry->recorded = entry->close = true;
	return true;
}

/*
 * Nothing has happened since the last call: soon its credit is given back, but for the stock,
 * and after W that too; then it rests.
 */
static bool take_idle(struct sync_part *part, struct sync_entry *entry,
		      const struct rl_named_rule *named, uint64_t now_ns, bool *ret_gone)
{
	uint64_t interval_ns = slowed_ns(part->sync, &named->rule, entry);
	uint64_t idle_ns = now_ns - entry->busy_ns, window_ns = named->rule.window_ns;
	uint32_t credit = rl_head_credit(word_of(&part->sync->seg->slot[entry->index].head));
	const struct demand none = {0};

	entry->due_ns = now_ns + interval_ns;
	if (idle_ns < 2 * interval_ns)
		return false;
	if (!entry->recorded) {
		*ret_gone = true;
		return false;
	}
	if (entry->pressed || idle_ns >= window_ns)
		entry->stock = 0;
	if (entry->stock >= credit && credit > 0) {
		entry->due_ns =
			now_ns + (interval_ns > window_ns / 16 ? interval_ns : window_ns / 16);
		return false;
	}
	return begin(part, entry, named, entry->stock, &none, SYNC_PUSH_ONLY);
}

bool due_take(struct sync_part *part, struct sync_entry *entry, bool all, uint64_t now_ns,
	      bool *ret_gone)
{
	struct sync *sync = part->sync;
	const struct rl_named_rule *named;
	struct demand demand;
	uint64_t interval_ns;

	*ret_gone = false;
	/* Who has just been given nothing does not ask again at once. */
	if (now_ns < entry->due_ns &&
	    (!entry->urgent || (entry->nothing_ns != 0 && now_ns - entry->nothing_ns < HASTE_NS)))
		return false;
	named = sync_rule_of(sync, entry->index);
	if (named == NULL || rl_rule_is_local(&named->rule)) {
		sync_slot_retire(sync->seg, entry->index);
		*ret_gone = true;
		return false;
	}
	if (entry->forget_ns == 0 && !has_demand(sync, &named->rule, entry)) {
		entry->urgent = false;
		return all && take_idle(part, entry, named, now_ns, ret_gone);
	}
	interval_ns = slowed_ns(sync, &named->rule, entry);
	demand = take_demand(sync, entry->index);
	keep_stock(sync, entry, &demand);
	smooth(entry, demand.units, interval_ns, now_ns);
	entry->busy_ns = now_ns;
	entry->due_ns = due_next_ns(sync, &named->rule, entry, part->number, now_ns);
	return begin(part, entry, named, to_keep(sync, entry, &named->rule, &demand, interval_ns),
		     &demand, 0);
}

/*
 * A changed limit wants other groups. A hot key is part of one call after the other and never
 * without credit, so it is done here, where no call has it: its credit is given up, and stated
 * in the next call.
 */
static void rebase(struct sync *sync, uint64_t index, const struct rl_rule *rule)
{
	struct rl_seg *seg = sync->seg;

	for (int i = 0; i < REBASE_TRIES; i++) {
		/* pairs[slot_head.acq]: as any reader of a slot. */
		uint64_t head = atomic_load_explicit(&seg->slot[index].head, memory_order_acquire);
		uint32_t q;

		if (!rl_head_is_open(head) || !rl_rebase_wanted(&seg->view, &seg->slot[index], head,
								rule, rl_clock_precise_ns(), &q))
			return;
		if (rl_head_credit(head) > 0)
			sync_slot_take_credit(seg, index);
		else if (rl_rebase_slot(seg, index, head, rule, q))
			return;
	}
}

/* Units without credit that this answer has settled; what finds no way in the next one does. */
static void settle_debt(struct rl_side *side, uint16_t debt)
{
	/* Relaxed: a budget. */
	uint16_t seen = atomic_load_explicit(&side->debt, memory_order_relaxed);

	for (int i = 0; i < DEBT_TRIES; i++)
		if (atomic_compare_exchange_weak_explicit(
			    &side->debt, &seen, seen > debt ? (uint16_t)(seen - debt) : 0,
			    memory_order_relaxed, memory_order_relaxed))
			return;
}

/* What workers are told: when to ask again, and from what credit on to ring. */
static void hint(struct sync_part *part, struct sync_entry *entry, const struct sync_answer *answer)
{
	struct rl_slot *slot = &part->sync->seg->slot[entry->index];
	bool coarse = rl_clock_is_coarse(word_of(&slot->window_ns));
	double low = entry->rate * (double)(part->sync->round_trip_ns + HEAR_NS) * 2;
	uint64_t again_ms = 0;

	if ((answer->flags & SYNC_BLIND) != 0)
		low = entry->item.blind / RL_BLIND_LOW_PARTS;
	if ((answer->flags & SYNC_EXHAUSTED) != 0)
		again_ms = rl_clock_now_ns(coarse) / 1000000 + answer->retry_ms;
	else if (answer->grant == 0 && (answer->flags & SYNC_BLIND) == 0)
		again_ms = word_of(&slot->hint) >> 24; /* sticks: this host may not have asked */
	atomic_store_explicit(
		&slot->hint, rl_hint(again_ms, low < 0xffff ? (uint32_t)low : 0xffff, part->number),
		memory_order_relaxed);
}

/* For the time when no answers come. */
static void note_total(struct sync *sync, uint64_t index, const struct sync_answer *answer)
{
	/* Relaxed: one word, an estimate. */
	atomic_store_explicit(
		&sync->seg->side[index].total,
		rl_total(rl_clock_precise_ns(), (uint64_t)answer->count + answer->others_out),
		memory_order_relaxed);
}

/*
 * Who waits has asked: without any asking, those counted were killed while they waited, and
 * are counted no longer.
 */
static void wake_waiters(struct sync *sync, const struct sync_entry *entry,
			 const struct sync_answer *answer)
{
	_Atomic uint16_t *counted = &sync->seg->side[entry->index].waiters;
	uint32_t waiters = atomic_load_explicit(counted, memory_order_relaxed);
	uint32_t wake = answer->grant;

	if ((answer->flags & SYNC_EXHAUSTED) != 0)
		wake = WAKE_MOST;
	rl_turn_next(sync->seg, entry->index, waiters < wake ? waiters : wake);
	if (waiters > 0 && entry->item.waiting == 0 &&
	    atomic_load_explicit(&sync->seg->slot[entry->index].asked, memory_order_relaxed) == 0)
		atomic_store_explicit(counted, 0, memory_order_relaxed);
}

/*
 * What of a grant may be taken by the rule as it is now, which may not be the one of the call. A
 * blind share is in nobody's account: never more than one of today. Of another limit or window,
 * nothing: Redis lends it until it is told.
 */
static uint32_t allowed(const struct sync *sync, const struct sync_entry *entry,
			const struct rl_rule *rule, const struct sync_answer *answer)
{
	uint32_t most = entry->item.limit;

	if (rl_rule_is_local(rule) || rl_rule_is_eventual(rule) ||
	    entry->item.limit > rule->limit || entry->item.window_ms != rule->window_ns / 1000000)
		return 0;
	if ((answer->flags & SYNC_BLIND) != 0)
		most = due_blind(sync, rule);
	most = most > entry->item.credit ? most - entry->item.credit : 0; /* whatever Redis says */
	return answer->grant < most ? answer->grant : most;
}

void due_apply(struct sync_part *part, struct sync_entry *entry, const struct sync_answer *answer,
	       bool lapsed)
{
	struct sync *sync = part->sync;
	const struct rl_named_rule *named = sync_rule_of(sync, entry->index);
	bool report = named != NULL && rl_rule_is_eventual(&named->rule) &&
		      (entry->item.flags & SYNC_REPORT) != 0;
	uint32_t grant = lapsed || named == NULL ? 0 : allowed(sync, entry, &named->rule, answer);

	entry->in_flight = false;
	if ((entry->item.flags & SYNC_FORGET) != 0)
		entry->forget_ns = 0;
	entry->told_ns = entry->asked_ns;
	if (report)
		eventual_note(part, entry, &named->rule, answer);
	sync_slot_apply(sync->seg, entry->index, grant);
	settle_debt(&sync->seg->side[entry->index], entry->debt);
	if (grant > 0)
		atomic_fetch_add_explicit(&sync->seg->fleet->granted, grant, memory_order_relaxed);
	entry->close = (answer->flags & SYNC_BLIND) == 0;
	/* Also what came too late to be taken: Redis lends it until it is told. */
	entry->recorded = entry->close && entry->item.credit + answer->grant > 0;
	entry->near = (uint64_t)answer->count + answer->others_out > entry->item.limit / 2;
	entry->pressed = rl_shared_hosts(&sync->seg->view) > 1 && entry->near;
	if (named != NULL)
		rebase(sync, entry->index, &named->rule);
	if (named != NULL && !report) {
		hint(part, entry, answer);
		note_total(sync, entry->index, answer);
	}
	wake_waiters(sync, entry, answer);
	entry->nothing_ns = grant == 0 ? rl_clock_precise_ns() : 0;
	entry->urgent = (answer->flags & SYNC_EXHAUSTED) == 0 && grant > 0 &&
			atomic_load_explicit(&sync->seg->slot[entry->index].asked,
					     memory_order_relaxed) != 0;
}
