/*
 * rl_window_steps.h - the steps of one try in a slot's sliding window: rl_window.h has the proof.
 *
 * Rooms:  rl_window.c, and rl_check_usual.h for who includes that. Inline: they are the hot path.
 */
#ifndef RL_WINDOW_STEPS_H
#define RL_WINDOW_STEPS_H

#include <stdbool.h>

#include "shm/rl_clock.h"
#include "shm/rl_cold.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

static inline uint64_t stamp_in(const struct rl_slot *slot, uint32_t cell)
{
	/* pairs[ring_stamp.acq]: a stamp of a newer event shows the newer head on the re-read. */
	return atomic_load_explicit(&slot->ring[cell], memory_order_acquire);
}

static inline bool expired(uint64_t stamp, uint64_t span_ns, uint64_t now_ns)
{
	return (int64_t)(now_ns - stamp) >= (int64_t)span_ns;
}

/*
 * Shall the next event begin a group of its own? Skipping the q - at numbers left withholds
 * them until their group ends; joining holds the group's older events for the gap since its
 * stamp. A quarter of the break-even: below it a burst that is spread out loses by skipping.
 */
static inline bool worth_skipping(uint64_t head, uint32_t at, uint64_t newest_stamp,
				  const struct rl_window_terms *terms, bool counted,
				  uint64_t now_ns)
{
	uint32_t left = terms->q - at;

	if (at == 0 || (int64_t)(now_ns - newest_stamp) <= 0)
		return false;
	if (!expired(newest_stamp, terms->span_ns, now_ns) &&
	    (left >= terms->q / 4 ||
	     (double)(now_ns - newest_stamp) * terms->q <= 4.0 * (double)terms->span_ns * left))
		return false;
	return !counted && rl_head_n(head) < RL_N_REBASE;
}

/* raise_stamp() when somebody else has just raised it: false after RAISE_TRIES of them. */
bool rl_window_raise(_Atomic uint64_t *cell, uint64_t seen, uint64_t now_ns);

/* Raise one stamp, seen as seen, to now_ns; never lower it. False: give up and start over. */
static inline bool raise_stamp(_Atomic uint64_t *cell, uint64_t seen, uint64_t now_ns)
{
	if ((int64_t)(now_ns - seen) <= 0)
		return true;
	/* pairs[ring_stamp.rel]: the head read before this comes first. */
	return atomic_compare_exchange_strong_explicit(cell, &seen, now_ns, memory_order_release,
						       memory_order_relaxed) ||
	       rl_window_raise(cell, seen, now_ns);
}

/* The head is unchanged since the stamps were read: the refusal stands, or a stamp is damaged. */
static inline int refuse(const struct rl_slot *slot, uint64_t head,
			 const struct rl_window_terms *terms, uint64_t wait_ns)
{
	/* pairs[slot_head.acq]: at q (K - 1) = L a newer event shares the cell that was read. */
	if (atomic_load_explicit(&slot->head, memory_order_acquire) != head)
		return RL_TRY_AGAIN;
	return wait_ns > terms->span_ns + 2 * RL_TICK_MAX_NS ? RL_TRY_AHEAD : RL_TRY_LIMITED;
}

/*
 * What window_look_one() found, for window_spend_one() to go on from. An event's number is
 * group * q + at, and cell = group % RL_RING, where the group's stamp is.
 */
struct rl_window_one {
	uint64_t head;         /* as it was given */
	uint64_t newest_stamp; /* of the group that the unit would be in */
	uint64_t group;        /* that one */
	uint32_t at, cell;
	uint32_t oldest_at, oldest_cell; /* of the event that it must be a window after */
	uint64_t oldest_group;
	uint32_t skipped; /* numbers that are left out before it */
};

/* last_expired() of rl_window.c, from oldest on: has a later group that has events? */
bool rl_window_has_ended(const struct rl_slot *slot, struct rl_window_one one, uint64_t span_ns,
			 uint64_t now_ns);

/* is_doubtful() of rl_window.c, where there is a later group that has events. */
static inline bool is_one_doubtful(const struct rl_slot *slot, const struct rl_window_one *one,
				   uint64_t stamp)
{
	uint32_t after = one->oldest_cell + 1 < RL_RING ? one->oldest_cell + 1 : 0;

	return one->group - (one->at == 0) > one->oldest_group &&
	       (int64_t)(stamp - stamp_in(slot, after)) >= 0;
}

/*
 * The usual try, in two steps: one unit, of a slot that is neither counted nor interpolated. The
 * first writes nothing. RL_TRY_LIMITED, with *ret_wait_ns, is final; RL_TRY_AHEAD is of the stamp
 * in oldest_cell; after RL_TRY_ALLOWED the second step spends the unit, unless the head changed
 * in between. All cells are below RL_RING: limit <= (RL_RING - 1) * q.
 */
static inline __attribute__((always_inline)) int
window_look_one(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		uint64_t now_ns, struct rl_window_one *ret, uint64_t *ret_wait_ns)
{
	uint64_t event = rl_head_n(head), group = event / terms->q, oldest, stamp;
	uint32_t at = (uint32_t)(event - group * terms->q), cell = (uint32_t)(group % RL_RING);

	if (RL_RARELY(event < terms->limit))
		return RL_TRY_AGAIN; /* no slot ever counts below RL_N_FIRST: damaged */
	ret->head = head;
	ret->newest_stamp = stamp_in(slot, cell);
	ret->skipped = 0;
	if (RL_RARELY(worth_skipping(head, at, ret->newest_stamp, terms, false, now_ns))) {
		ret->skipped = terms->q - at;
		at = 0;
		group++;
		cell = cell + 1 < RL_RING ? cell + 1 : 0;
		ret->newest_stamp = stamp_in(slot, cell);
	}
	ret->group = group;
	ret->at = at;
	ret->cell = cell;
	oldest = event + ret->skipped - terms->limit;
	ret->oldest_group = oldest / terms->q;
	ret->oldest_at = (uint32_t)(oldest - ret->oldest_group * terms->q);
	cell -= (uint32_t)(group - ret->oldest_group);
	ret->oldest_cell = cell < RL_RING ? cell : cell + RL_RING;
	stamp = stamp_in(slot, ret->oldest_cell);
	if (expired(stamp, terms->span_ns, now_ns))
		return RL_TRY_ALLOWED;
	if (is_one_doubtful(slot, ret, stamp) &&
	    rl_window_has_ended(slot, *ret, terms->span_ns, now_ns))
		return RL_TRY_ALLOWED;
	*ret_wait_ns = stamp + terms->span_ns - now_ns;
	return refuse(slot, head, terms, *ret_wait_ns);
}

/* room() of rl_window.c after the unit; by value: what is inlined then needs no place in memory. */
uint32_t rl_window_room_after(const struct rl_slot *slot, struct rl_window_terms terms,
			      struct rl_window_one one, uint64_t now_ns);

/*
 * What is left after the unit. Here only of a key that is nearly unused, when it and the oldest
 * event do not leave their groups: the group before the unit's has expired, and so have all.
 */
static inline uint32_t room_after_one(const struct rl_slot *slot,
				      const struct rl_window_terms *terms,
				      const struct rl_window_one *one, uint64_t now_ns)
{
	if (one->at + 1 < terms->q && one->oldest_at + 1 < terms->q &&
	    one->oldest_cell != one->cell && one->cell != 0 &&
	    expired(stamp_in(slot, one->cell - 1), terms->span_ns, now_ns))
		return terms->limit - one->at - 1;
	return rl_window_room_after(slot, *terms, *one, now_ns);
}

static inline __attribute__((always_inline)) int
window_spend_one(struct rl_slot *slot, const struct rl_window_terms *terms,
		 const struct rl_window_one *one, uint64_t now_ns, struct rl_window_answer *ret)
{
	uint64_t head = one->head, next_head;
	uint64_t counted = ((uint64_t)one->skipped + 1) << RL_HEAD_N_SHIFT;

	if (RL_RARELY(__builtin_add_overflow(head, counted, &next_head)))
		return RL_TRY_AGAIN; /* past RL_N_MAX: the agent is long overdue */
	if (!raise_stamp(&slot->ring[one->cell], one->newest_stamp, now_ns))
		return RL_TRY_AGAIN;
	/* Killed here: the group lives up to W longer, nothing was admitted.
	 * pairs[slot_head.rel]: the stamp is raised before the count says so. */
	if (!atomic_compare_exchange_strong_explicit(&slot->head, &head, next_head,
						     memory_order_release, memory_order_relaxed))
		return RL_TRY_AGAIN;
	ret->remaining = room_after_one(slot, terms, one, now_ns);
	ret->wait_ns = 0;
	ret->event = rl_head_n(one->head) + one->skipped;
	return RL_TRY_ALLOWED;
}

#endif
