/*
 * rl_now.h - the time that a segment counts by: this machine's clock, or what its callers say.
 *
 * Rooms:  shm/ and above.
 *
 * A segment made with `clock: given` has no clock of its own: each check brings its moment, and
 * everything goes by the latest that was given, read after the head as a clock would be: the
 * window's proof asks for that order. Its rules are never plain
 * (RL_RULE_GIVEN), so a check of a live segment asks nothing of all this.
 */
#ifndef RL_NOW_H
#define RL_NOW_H

#include "shm/rl_clock.h"
#include "shm/rl_segment.h"

/* Moments that can be given: 0 .. this, ns; above are a window's length and the clock's bias. */
#define RL_GIVEN_MAX_NS (UINT64_C(1) << 61)

static inline uint64_t rl_now_ns(const struct rl_view *view, bool coarse)
{
	/* Relaxed: a number that only grows. */
	return view->given ? atomic_load_explicit(&view->live->given_ns, memory_order_relaxed)
			   : rl_clock_now_ns(coarse);
}

/* Raise the latest moment to now_ns, on the biased clock. */
static inline void rl_now_given(struct rl_live *live, uint64_t now_ns)
{
	uint64_t seen = atomic_load_explicit(&live->given_ns, memory_order_relaxed);

	/* Relaxed: as above. Each failed try is another's larger or smaller moment. */
	for (int i = 0; i < 64 && seen < now_ns; i++)
		if (atomic_compare_exchange_weak_explicit(&live->given_ns, &seen, now_ns,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return;
}

/* How much longer than its window a stamp is held: as rl_clock_hold_ns(); given ones are exact. */
static inline uint64_t rl_hold_ns(const struct rl_view *view, bool coarse)
{
	return view->given ? 0 : rl_clock_hold_ns(coarse, view->tick_ns);
}

#endif
