#include "shm/rl_shared.h"

#include "shm/rl_bell.h"
#include "shm/rl_cold.h"
#include "shm/rl_eventual.h"
#include "shm/rl_side.h"
#include "shm/rl_unreachable.h"
#include "shm/rl_word.h"

#define DEBT_TRIES 64 /* each failure is another worker going into debt */

/* Relaxed: each word stands for itself. */
static inline uint64_t word_of(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static inline const struct rl_part *part_of(const struct rl_view *view, const struct rl_slot *slot)
{
	return &view->fleet->part[rl_hint_part(word_of(&slot->hint))];
}

static inline uint64_t age(uint64_t since_ns, uint64_t now_ns)
{
	return now_ns > since_ns ? now_ns - since_ns : 0;
}

enum rl_state rl_shared_state(const struct rl_view *view, uint32_t part, uint64_t now_ns)
{
	uint64_t silent_ns = word_of(&view->fleet->part[part].silent_ns);
	uint64_t beat_ns = word_of(&view->live->beat_ns);

	if (age(beat_ns, now_ns) > RL_ALONE_NS)
		return RL_ALONE;
	/* As of the last heartbeat: an agent that is killed amid a call and started again within
	 * a second is not an outage of Redis. */
	if (silent_ns != 0 && age(silent_ns, beat_ns) > word_of(&view->fleet->stale_after_ns))
		return RL_STALE;
	return RL_FRESH;
}

uint64_t rl_shared_interval_ns(const struct rl_view *view, uint64_t window_ns)
{
	uint64_t interval_ns = word_of(&view->fleet->interval_ns);

	/* One that no configuration has would stop every sync, or ask Redis all the time. */
	if (interval_ns < RL_INTERVAL_MIN_NS || interval_ns > RL_INTERVAL_MAX_NS)
		return rl_fleet_interval_ns(window_ns);
	return interval_ns;
}

bool rl_shared_waits(const struct rl_view *view, const struct rl_slot *slot, uint64_t window_ns,
		     uint64_t now_ns)
{
	uint64_t most_ns = 2 * rl_shared_interval_ns(view, window_ns);
	uint64_t silent_ns = word_of(&part_of(view, slot)->silent_ns);

	return age(word_of(&view->live->beat_ns), now_ns) <= most_ns &&
	       (silent_ns == 0 || age(silent_ns, now_ns) <= most_ns);
}

uint32_t rl_shared_hosts(const struct rl_view *view)
{
	uint64_t hosts = word_of(&view->fleet->hosts);

	return hosts > UINT32_MAX ? UINT32_MAX : (uint32_t)hosts;
}

uint64_t rl_shared_share(uint32_t limit, const struct rl_fleet_terms *fleet, uint64_t hosts)
{
	uint64_t share = limit / (hosts == 0 ? 1 : hosts);

	return share == 0 && fleet->consistency != RL_STRICT ? 1 : share;
}

/* Credit may be spent only while the lease that Redis has recorded for it is alive. */
static inline bool has_credit(const struct rl_view *view, const struct rl_shared_ask *ask)
{
	return rl_head_credit(ask->head) >= ask->cost &&
	       word_of(&part_of(view, &view->slot[ask->index])->lease_until_ns) > ask->now_ns;
}

/* Units of demand that were not admitted; taken back by a caller that waited and then was. */
static void add_demand(struct rl_side *side, uint32_t cost)
{
	atomic_fetch_add_explicit(&side->refused, cost, memory_order_relaxed);
}

static int spend_credit(struct rl_seg *seg, const struct rl_shared_ask *ask,
			struct rl_shared_answer *ret)
{
	struct rl_slot *slot = &seg->slot[ask->index];
	uint64_t hint = word_of(&slot->hint);
	uint32_t left = rl_head_credit(ask->head) - ask->cost;
	int got = rl_window_add(slot, ask->head, ask->terms->q, ask->cost, ask->cost, ask->now_ns);

	if (got != RL_TRY_ALLOWED)
		return got;
	ret->by = RL_DECIDED_CREDIT;
	ret->window.remaining = left;
	if (ask->asked)
		add_demand(&seg->side[ask->index], -ask->cost);
	rl_dirty_mark(seg, ask->index);
	/* Crossed the low water: a top-up before it runs dry. */
	if (left <= rl_hint_low(hint) && left + ask->cost > rl_hint_low(hint) &&
	    rl_hint_again_ns(hint) <= ask->now_ns)
		rl_bell_ring(seg);
	return RL_TRY_ALLOWED;
}

static int refuse(struct rl_seg *seg, const struct rl_shared_ask *ask, enum rl_decided by,
		  uint64_t wait_ns, struct rl_shared_answer *ret)
{
	if (!ask->asked && !ret->asked)
		add_demand(&seg->side[ask->index], ask->cost);
	rl_dirty_mark(seg, ask->index);
	ret->by = by;
	ret->window.wait_ns = wait_ns;
	return RL_TRY_LIMITED;
}

/* Change the debt by cost, to 0 .. most; false when it would leave that range. */
static bool move_debt(struct rl_side *side, int64_t cost, uint32_t most)
{
	/* Relaxed: a budget; the head's CAS is what admits. The agent may set it to 0 at any time.
	 */
	uint16_t seen = atomic_load_explicit(&side->debt, memory_order_relaxed);

	for (int i = 0; i < DEBT_TRIES; i++) {
		int64_t next = (int64_t)seen + cost;

		if (next < 0 || next > most || next > UINT16_MAX)
			return false;
		if (atomic_compare_exchange_weak_explicit(&side->debt, &seen, (uint16_t)next,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

/* no_credit: allow. Killed after the debt is taken: it is used up until the next answer. */
static int go_into_debt(struct rl_seg *seg, const struct rl_shared_ask *ask,
			const struct rl_fleet_terms *fleet, struct rl_shared_answer *ret)
{
	struct rl_side *side = &seg->side[ask->index];
	uint32_t most = rl_fleet_blind(ask->rule->limit, fleet, rl_shared_hosts(&seg->view));
	int got;

	if (!move_debt(side, ask->cost, most > 0 ? most : 1))
		return RL_TRY_LIMITED;
	got = rl_window_add(&seg->slot[ask->index], ask->head, ask->terms->q, ask->cost, 0,
			    ask->now_ns);
	if (got != RL_TRY_ALLOWED)
		move_debt(side, -(int64_t)ask->cost, UINT16_MAX);
	ret->by = RL_DECIDED_NO_CREDIT;
	return got;
}

/*
 * Those who wait will all take what they ask for. Who does not wait is gone when it comes: the
 * next one finds it, so the largest of what they asked for is enough. Relaxed: a number.
 */
static void note_asking(struct rl_slot *slot, const struct rl_shared_ask *ask)
{
	uint32_t seen;

	if (ask->wait_ns > 0) {
		atomic_fetch_add_explicit(&slot->asked, ask->cost, memory_order_relaxed);
		return;
	}
	seen = atomic_load_explicit(&slot->asked, memory_order_relaxed);
	for (int i = 0; i < DEBT_TRIES && seen < ask->cost; i++)
		if (atomic_compare_exchange_weak_explicit(&slot->asked, &seen, ask->cost,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return;
}

static bool may_sleep(const struct rl_seg *seg, const struct rl_shared_ask *ask)
{
	return ask->wait_ns > 0 && rl_shared_waits(&seg->view, &seg->slot[ask->index],
						   ask->rule->window_ns, ask->now_ns);
}

/* Fresh, and not enough credit. */
RL_COLD static int ask_for_credit(struct rl_seg *seg, const struct rl_shared_ask *ask,
				  const struct rl_fleet_terms *fleet, struct rl_shared_answer *ret)
{
	struct rl_slot *slot = &seg->slot[ask->index];
	uint64_t again_ns = rl_hint_again_ns(word_of(&slot->hint));
	bool sleeps;

	if (again_ns > ask->now_ns) {
		ret->window.wait_ns = again_ns - ask->now_ns;
		/* Others' credit comes back soon: who may wait that long does. */
		if (ret->window.wait_ns <= ask->wait_ns && may_sleep(seg, ask))
			return RL_TRY_SHORT;
		return refuse(seg, ask, RL_DECIDED_CREDIT, ret->window.wait_ns, ret);
	}
	if (!ask->asked) {
		add_demand(&seg->side[ask->index], ask->cost);
		ret->asked = true;
	}
	if (ask->ring) {
		note_asking(slot, ask);
		rl_dirty_mark(seg, ask->index);
	}
	sleeps = may_sleep(seg, ask);
	if (!sleeps && fleet->no_credit == RL_NO_CREDIT_ALLOW) {
		int got = go_into_debt(seg, ask, fleet, ret);

		if (got == RL_TRY_ALLOWED) /* it is in the count now */
			add_demand(&seg->side[ask->index], -ask->cost);
		if (got != RL_TRY_LIMITED)
			return got; /* in no hurry: the agent looks every 10 ms */
	}
	if (ask->ring)
		rl_bell_ring(seg);
	if (sleeps)
		return RL_TRY_SHORT;
	return refuse(seg, ask, RL_DECIDED_NO_CREDIT,
		      rl_shared_interval_ns(&seg->view, ask->rule->window_ns), ret);
}

RL_COLD static int without_credit(struct rl_seg *seg, const struct rl_shared_ask *ask,
				  struct rl_shared_answer *ret)
{
	struct rl_fleet_terms fleet;
	int got;

	rl_fleet_unpack(ask->rule->fleet, ask->rule->wait_ns, &fleet);
	if (ret->state == RL_FRESH)
		return ask_for_credit(seg, ask, &fleet, ret);
	ret->by = RL_DECIDED_POLICY;
	got = rl_unreachable_try(seg, ask, &fleet, &ret->window);
	if (got == RL_TRY_LIMITED)
		return refuse(seg, ask, RL_DECIDED_POLICY, ret->window.wait_ns, ret);
	if (got == RL_TRY_ALLOWED) {
		if (ask->asked)
			add_demand(&seg->side[ask->index], -ask->cost);
		rl_dirty_mark(seg, ask->index);
	}
	return got;
}

int rl_shared_try(struct rl_seg *seg, const struct rl_shared_ask *ask, struct rl_shared_answer *ret)
{
	uint32_t part = rl_hint_part(word_of(&seg->slot[ask->index].hint));

	*ret = (struct rl_shared_answer){0};
	ret->state = rl_shared_state(&seg->view, part, ask->now_ns);
	if (has_credit(&seg->view, ask))
		return spend_credit(seg, ask, ret);
	if (rl_rule_is_eventual(ask->rule) && ret->state == RL_FRESH)
		return rl_eventual_try(seg, ask, ret);
	return without_credit(seg, ask, ret);
}

int rl_shared_look(const struct rl_view *view, const struct rl_shared_ask *ask,
		   struct rl_shared_answer *ret)
{
	uint64_t hint = word_of(&view->slot[ask->index].hint);
	struct rl_fleet_terms fleet;

	*ret = (struct rl_shared_answer){0};
	ret->state = rl_shared_state(view, rl_hint_part(hint), ask->now_ns);
	rl_fleet_unpack(ask->rule->fleet, ask->rule->wait_ns, &fleet);
	ret->by = RL_DECIDED_CREDIT;
	if (has_credit(view, ask)) {
		ret->window.remaining = rl_head_credit(ask->head);
		return RL_TRY_ALLOWED;
	}
	if (ret->state != RL_FRESH) {
		ret->by = RL_DECIDED_POLICY;
		return rl_unreachable_look(view, ask, &fleet, &ret->window);
	}
	if (rl_rule_is_eventual(ask->rule))
		return rl_eventual_look(view, ask, ret);
	if (rl_hint_again_ns(hint) <= ask->now_ns)
		return RL_TRY_ALLOWED; /* it would ask */
	ret->window.wait_ns = rl_hint_again_ns(hint) - ask->now_ns;
	return RL_TRY_LIMITED;
}
