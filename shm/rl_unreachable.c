#include "shm/rl_unreachable.h"

#include "shm/rl_gcra.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

#define BURST_PART 50 /* 2 % of the share: 5 % measured 30 % excess at 10 times the load */

static uint64_t word_of(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed); /* each stands for itself */
}

static uint64_t hosts_of(const struct rl_view *view)
{
	uint32_t hosts = rl_shared_hosts(view);

	return hosts == 0 ? 1 : hosts;
}

uint64_t rl_unreachable_burst(uint64_t share)
{
	return share >= BURST_PART ? share / BURST_PART : 1;
}

/*
 * Would the fleet still be within L, if the others have admitted as much as this host since
 * the last answer? More than its share it has not in any window, by its rate. Where shares
 * round to 0 (bounded) and each host may have one, that is more than L: then when all has faded.
 */
static bool fits(const struct rl_view *view, const struct rl_shared_ask *ask, uint64_t share)
{
	const struct rl_side *side = &view->side[ask->index];
	uint64_t n = rl_head_n(ask->head), acked = rl_acked_n(word_of(&side->acked));
	uint64_t since = ask->cost + (n > acked ? n - acked : 0), all;

	if (since > share)
		since = share;
	all = since * hosts_of(view);
	if (all > ask->rule->limit)
		all = ask->rule->limit;
	return rl_total_now(word_of(&side->total), ask->rule->window_ns, ask->now_ns) + all <=
	       ask->rule->limit;
}

struct rate {
	uint64_t cost_ns, burst_ns; /* for rl_gcra_take() */
};

static inline struct rate rate_of(const struct rl_view *view, const struct rl_shared_ask *ask,
				  uint64_t share)
{
	uint64_t hosts = hosts_of(view), limit = ask->rule->limit;
	uint64_t burst = rl_unreachable_burst(share);
	struct rate rate;

	if (limit < hosts) /* bounded, and a share that rounds to 0: one in a window */
		limit = hosts;
	rate.cost_ns = rl_gcra_span(ask->cost * hosts, limit, ask->rule->window_ns);
	rate.burst_ns = ask->cost == 1 ? rate.cost_ns * burst
				       : rl_gcra_span(burst * hosts, limit, ask->rule->window_ns);
	return rate;
}

static int limited(struct rl_window_answer *ret, uint64_t wait_ns)
{
	ret->remaining = 0;
	ret->wait_ns = wait_ns > 0 ? wait_ns : 1;
	return RL_TRY_LIMITED;
}

static int try_share(struct rl_seg *seg, const struct rl_shared_ask *ask,
		     const struct rl_fleet_terms *fleet, struct rl_window_answer *ret)
{
	struct rl_slot *slot = &seg->slot[ask->index];
	uint64_t share = rl_shared_share(ask->rule->limit, fleet, hosts_of(&seg->view)), wait_ns;
	struct rate rate = rate_of(&seg->view, ask, share);
	uint64_t taken;
	int got;

	if (share == 0 || !fits(&seg->view, ask, share))
		return limited(ret, ask->rule->window_ns / 8);
	wait_ns = rl_gcra_take(&slot->state, rate.cost_ns, rate.burst_ns, ask->now_ns, &taken);
	if (wait_ns > 0)
		return limited(ret, wait_ns);
	/* Killed here: the rate's share of this cost is spent and not used. */
	got = rl_window_try(slot, ask->head, ask->terms, ask->cost, ask->now_ns, ret);
	if (got != RL_TRY_ALLOWED)
		rl_gcra_return(&slot->state, taken, rate.cost_ns);
	return got;
}

int rl_unreachable_try(struct rl_seg *seg, const struct rl_shared_ask *ask,
		       const struct rl_fleet_terms *fleet, struct rl_window_answer *ret)
{
	struct rl_slot *slot = &seg->slot[ask->index];

	switch (fleet->on_unreachable) {
	case RL_SHARE:
		return try_share(seg, ask, fleet, ret);
	case RL_OWN:
		return rl_window_try(slot, ask->head, ask->terms, ask->cost, ask->now_ns, ret);
	case RL_OPEN:
		return rl_window_add(slot, ask->head, ask->terms->q, ask->cost, 0, ask->now_ns);
	default:
		return limited(ret, RL_ALONE_NS);
	}
}

int rl_unreachable_look(const struct rl_view *view, const struct rl_shared_ask *ask,
			const struct rl_fleet_terms *fleet, struct rl_window_answer *ret)
{
	const struct rl_slot *slot = &view->slot[ask->index];
	uint64_t share = rl_shared_share(ask->rule->limit, fleet, hosts_of(view));
	uint64_t tat = word_of(&slot->state);
	struct rate rate = rate_of(view, ask, share);
	int got = rl_window_look(slot, ask->head, ask->terms, ask->cost, ask->now_ns, ret);

	if (fleet->on_unreachable == RL_OPEN)
		return RL_TRY_ALLOWED;
	if (fleet->on_unreachable == RL_CLOSED)
		return limited(ret, RL_ALONE_NS);
	if (got != RL_TRY_ALLOWED || fleet->on_unreachable == RL_OWN)
		return got;
	if (share == 0 || !fits(view, ask, share))
		return limited(ret, ask->rule->window_ns / 8);
	if ((int64_t)(tat - ask->now_ns) > 0 && tat + rate.cost_ns - ask->now_ns > rate.burst_ns)
		return limited(ret, tat + rate.cost_ns - ask->now_ns - rate.burst_ns);
	return RL_TRY_ALLOWED;
}
