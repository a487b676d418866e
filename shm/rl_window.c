#include "shm/rl_window.h"

#include <stdbool.h>

#include "shm/rl_clock.h"
#include "shm/rl_word.h"

#define RAISE_TRIES 64 /* each failure is another process raising the same stamp */

uint32_t rl_window_q(uint32_t limit)
{
	return (limit + RL_RING - 2) / (RL_RING - 1);
}

uint32_t rl_window_limit(uint32_t limit, uint32_t q)
{
	uint64_t most = (uint64_t)q * (RL_RING - 1);

	return limit < most ? limit : (uint32_t)most;
}

static uint64_t stamp_of(const struct rl_slot *slot, uint64_t group)
{
	/* pairs[ring_stamp.acq]: a stamp of a newer event shows the newer head on the re-read. */
	return atomic_load_explicit(&slot->ring[group % RL_RING], memory_order_acquire);
}

static bool expired(uint64_t stamp, uint64_t span_ns, uint64_t now_ns)
{
	return (int64_t)(now_ns - stamp) >= (int64_t)span_ns;
}

/*
 * How many of the oldest of the last L events before n have expired one after the other:
 * what could be admitted at once. The group that event n joins does not count: its older
 * events are held again the moment n is. A binary search, because stamps grow from group to
 * group but for workers that were stopped, and this number is for the caller to show.
 */
static uint32_t room(const struct rl_slot *slot, uint64_t n, const struct rl_window_terms *terms,
		     uint64_t now_ns)
{
	uint64_t oldest = n - terms->limit;
	uint64_t low = oldest / terms->q, high = n / terms->q;

	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (expired(stamp_of(slot, middle), terms->span_ns, now_ns))
			low = middle + 1;
		else
			high = middle;
	}
	return low * terms->q > oldest ? (uint32_t)(low * terms->q - oldest) : 0;
}

/* The group among those that must have ended for cost to pass whose stamp is the youngest. */
static uint64_t youngest_needed(const struct rl_slot *slot, uint64_t n,
				const struct rl_window_terms *terms, uint32_t cost)
{
	uint64_t first = (n - terms->limit) / terms->q;
	uint64_t last = cost == 1 ? first : (n + cost - 1 - terms->limit) / terms->q;
	uint64_t best = first, best_stamp = stamp_of(slot, first);

	for (uint64_t g = first + 1; g <= last; g++) {
		uint64_t stamp = stamp_of(slot, g);

		if ((int64_t)(stamp - best_stamp) > 0) {
			best = g;
			best_stamp = stamp;
		}
	}
	return best;
}

/* Raise one stamp to now_ns, never lower it. False: give up and start over. */
static bool raise_stamp(_Atomic uint64_t *cell, uint64_t now_ns)
{
	/* Relaxed: the count's CAS (slot_head.rel) publishes whatever this read. */
	uint64_t seen = atomic_load_explicit(cell, memory_order_relaxed);

	for (int i = 0; i < RAISE_TRIES; i++) {
		if ((int64_t)(now_ns - seen) <= 0)
			return true;
		/* pairs[ring_stamp.rel]: the head read before this try comes first. */
		if (atomic_compare_exchange_weak_explicit(cell, &seen, now_ns, memory_order_release,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

static bool raise_stamps(struct rl_slot *slot, uint64_t n, uint32_t q, uint32_t cost,
			 uint64_t now_ns)
{
	uint64_t first = n / q, last = cost == 1 ? first : (n + cost - 1) / q;

	for (uint64_t g = first; g <= last; g++)
		if (!raise_stamp(&slot->ring[g % RL_RING], now_ns))
			return false;
	return true;
}

/* May cost not pass yet? Then ret says which stamp is in the way and for how long. */
static bool blocked(const struct rl_slot *slot, uint64_t n, const struct rl_window_terms *terms,
		    uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret)
{
	uint64_t group = youngest_needed(slot, n, terms, cost);
	uint64_t stamp = stamp_of(slot, group);

	if (expired(stamp, terms->span_ns, now_ns))
		return false;
	ret->cell = (uint32_t)(group % RL_RING);
	ret->wait_ns = stamp + terms->span_ns - now_ns;
	return true;
}

int rl_window_look(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		   uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret)
{
	uint64_t n = rl_head_n(head);

	*ret = (struct rl_window_answer){0};
	if (n < terms->limit)
		return RL_TRY_AGAIN; /* damaged: no slot ever counts below RL_N_FIRST */
	ret->remaining = room(slot, n, terms, now_ns);
	return blocked(slot, n, terms, cost, now_ns, ret) ? RL_TRY_LIMITED : RL_TRY_ALLOWED;
}

static int refuse(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		  uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret)
{
	/* pairs[slot_head.acq]: at q (K - 1) = L a newer event shares the cell that was read. */
	if (atomic_load_explicit(&slot->head, memory_order_acquire) != head)
		return RL_TRY_AGAIN;
	if (ret->wait_ns > terms->span_ns + 2 * RL_TICK_MAX_NS)
		return RL_TRY_AHEAD;
	ret->remaining = cost == 1 ? 0 : room(slot, rl_head_n(head), terms, now_ns);
	return RL_TRY_LIMITED;
}

int rl_window_try(struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		  uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret)
{
	uint64_t n = rl_head_n(head);
	uint64_t seen = head;

	if (n + cost > RL_N_MAX || n < terms->limit)
		return RL_TRY_AGAIN; /* the agent is long overdue, or the word is damaged */
	if (blocked(slot, n, terms, cost, now_ns, ret))
		return refuse(slot, head, terms, cost, now_ns, ret);
	if (!raise_stamps(slot, n, terms->q, cost, now_ns))
		return RL_TRY_AGAIN;
	/* Killed here: the groups live up to W longer, nothing was admitted.
	 * pairs[slot_head.rel]: the stamps are raised before the count says so. */
	if (!atomic_compare_exchange_strong_explicit(&slot->head, &seen,
						     head + ((uint64_t)cost << RL_HEAD_N_SHIFT),
						     memory_order_release, memory_order_relaxed))
		return RL_TRY_AGAIN;
	ret->remaining = room(slot, n + cost, terms, now_ns);
	ret->wait_ns = 0;
	return RL_TRY_ALLOWED;
}

int rl_window_mend(struct rl_slot *slot, uint32_t cell, uint64_t now_ns)
{
	_Atomic uint64_t *at = &slot->ring[cell % RL_RING];
	/* Relaxed, both: a stamp set back publishes no other memory. */
	uint64_t seen = atomic_load_explicit(at, memory_order_relaxed);

	if ((int64_t)(seen - now_ns) <= (int64_t)RL_TICK_MAX_NS)
		return 0;
	return atomic_compare_exchange_strong_explicit(at, &seen, now_ns, memory_order_relaxed,
						       memory_order_relaxed);
}

uint64_t rl_window_newest(const struct rl_slot *slot)
{
	uint64_t newest = stamp_of(slot, 0);

	for (uint64_t g = 1; g < RL_RING; g++) {
		uint64_t stamp = stamp_of(slot, g);

		if ((int64_t)(stamp - newest) > 0)
			newest = stamp;
	}
	return newest;
}
