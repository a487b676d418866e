#include "shm/rl_eventual.h"

#include "shm/rl_side.h"
#include "shm/rl_word.h"

#define LOW_SHIFT 16
#define LOW_MAX   UINT32_C(0xffff)
#define BEHIND    1024u /* units of total's when: a coarse clock, or another's, lags by less */

/* What the fleet is known to hold. Times are since the answer that said so. */
struct known {
	uint64_t units;
	uint64_t since_ns; /* now; never more than it is */
	uint64_t from_ns;  /* all of it counts up to then */
	uint64_t end_ns;   /* and nothing from then on */
};

uint32_t rl_eventual_low(uint64_t window_ns, uint64_t ends_ns)
{
	uint64_t early = ends_ns < window_ns ? (window_ns - ends_ns) / (window_ns >> LOW_SHIFT) : 0;

	return early < LOW_MAX ? (uint32_t)early : LOW_MAX;
}

/* The clock and the answer's date are cut to units: one less, so never too long. */
static uint64_t age_of(uint64_t total, uint64_t now_ns)
{
	uint32_t units = (uint32_t)(now_ns >> RL_TOTAL_SHIFT) - (uint32_t)(total >> 32);

	return units == 0 || units > UINT32_MAX - BEHIND ? 0
							 : (uint64_t)(units - 1) << RL_TOTAL_SHIFT;
}

static struct known known_of(const struct rl_view *view, const struct rl_shared_ask *ask,
			     uint64_t total)
{
	/* Relaxed: ordered by acked, as total is. */
	uint64_t hint = atomic_load_explicit(&view->slot[ask->index].hint, memory_order_relaxed);
	uint64_t window_ns = ask->rule->window_ns, again_ns = rl_hint_again_ns(hint);
	uint64_t hold_ns = 2 * rl_shared_interval_ns(view, window_ns);
	struct known known = {
		.units = total & UINT32_MAX,
		.since_ns = age_of(total, ask->now_ns),
		.end_ns = window_ns - (window_ns >> LOW_SHIFT) * rl_hint_low(hint),
	};

	if (known.since_ns + again_ns > ask->now_ns)
		known.from_ns = known.since_ns + again_ns - ask->now_ns;
	if (known.from_ns < hold_ns)
		known.from_ns = hold_ns;
	if (known.from_ns > known.end_ns)
		known.from_ns = known.end_ns;
	return known;
}

static uint64_t held(const struct known *known)
{
	if (known->units == 0 || known->since_ns >= known->end_ns)
		return 0;
	if (known->since_ns <= known->from_ns)
		return known->units;
	return (uint64_t)((double)known->units * (double)(known->end_ns - known->since_ns) /
			  (double)(known->end_ns - known->from_ns)) +
	       1;
}

/* Until no more than room of it is held; > 0. */
static uint64_t until_room(const struct known *known, uint64_t room)
{
	double part = room == 0 ? 0 : (double)(room - 1) / (double)(known->units + 1);
	uint64_t early_ns = (uint64_t)(part * (double)(known->end_ns - known->from_ns));
	uint64_t at_ns = known->end_ns - early_ns;

	return at_ns > known->since_ns ? at_ns - known->since_ns : 1;
}

/* Is there room for the cost? ret->window.remaining: before it; wait_ns: if not. */
static bool has_room(const struct rl_view *view, const struct rl_shared_ask *ask,
		     struct rl_shared_answer *ret)
{
	const struct rl_side *side = &view->side[ask->index];
	/* pairs[side.acq]: total and hint are at least as new as what has been acknowledged. */
	uint64_t acked = rl_acked_n(atomic_load_explicit(&side->acked, memory_order_acquire));
	uint64_t n = rl_head_n(ask->head), own = n > acked ? n - acked : 0;
	uint64_t limit = ask->rule->limit;
	/* Relaxed: ordered by acked. */
	struct known known =
		known_of(view, ask, atomic_load_explicit(&side->total, memory_order_relaxed));
	uint64_t all = held(&known) + own;

	ret->by = RL_DECIDED_CREDIT;
	ret->window.remaining = all < limit ? (uint32_t)(limit - all) : 0;
	if (all + ask->cost <= limit)
		return true;
	/* What the host itself has to tell is in the next answer, with its time. */
	ret->window.wait_ns = own + ask->cost > limit
				      ? rl_shared_interval_ns(view, ask->rule->window_ns)
				      : until_room(&known, limit - own - ask->cost);
	return false;
}

/*
 * Somebody would like to know how full the fleet is. Not while nothing can have left: so a refused
 * flood writes nothing, and is not synced.
 */
static void note_refusal(struct rl_seg *seg, const struct rl_shared_ask *ask)
{
	uint64_t hint = atomic_load_explicit(&seg->slot[ask->index].hint, memory_order_relaxed);

	if (rl_hint_again_ns(hint) > ask->now_ns)
		return;
	atomic_fetch_add_explicit(&seg->side[ask->index].refused, ask->cost, memory_order_relaxed);
	rl_dirty_mark(seg, ask->index);
}

int rl_eventual_try(struct rl_seg *seg, const struct rl_shared_ask *ask,
		    struct rl_shared_answer *ret)
{
	uint32_t left;
	int got;

	if (!has_room(&seg->view, ask, ret)) {
		note_refusal(seg, ask);
		return RL_TRY_LIMITED;
	}
	left = ret->window.remaining - ask->cost;
	got = rl_window_try(&seg->slot[ask->index], ask->head, ask->terms, ask->cost, ask->now_ns,
			    &ret->window);
	if (got == RL_TRY_ALLOWED) {
		ret->window.remaining = left;
		rl_dirty_mark(seg, ask->index);
	}
	if (got == RL_TRY_LIMITED)
		note_refusal(seg, ask);
	return got;
}

int rl_eventual_look(const struct rl_view *view, const struct rl_shared_ask *ask,
		     struct rl_shared_answer *ret)
{
	uint32_t left;
	int got;

	if (!has_room(view, ask, ret))
		return RL_TRY_LIMITED;
	left = ret->window.remaining;
	got = rl_window_look(&view->slot[ask->index], ask->head, ask->terms, ask->cost, ask->now_ns,
			     &ret->window);
	if (left < ret->window.remaining)
		ret->window.remaining = left;
	return got;
}
