#include "shm/rl_window.h"

#include <stdbool.h>

#include "shm/rl_window_steps.h"

#define RAISE_TRIES 64 /* each failure is another process raising the same stamp */
#define PAUSE_PARTS 4  /* times what a group takes at the limit: it began after a pause */

/* Where an event lies: number = group * q + at. One division for a check, not five. */
struct place {
	uint64_t group;
	uint32_t at;
};

static inline struct place place_of(uint64_t event, uint32_t q)
{
	uint64_t group = event / q;

	return (struct place){group, (uint32_t)(event - group * q)};
}

static inline struct place back(struct place p, uint32_t events, uint32_t q)
{
	uint32_t groups = events / q, rest = events % q;

	if (p.at < rest)
		return (struct place){p.group - groups - 1, p.at + (q - rest)};
	return (struct place){p.group - groups, p.at - rest};
}

static inline struct place forward(struct place p, uint32_t events, uint32_t q)
{
	if (events < q - p.at)
		return (struct place){p.group, p.at + events};
	events -= q - p.at;
	return (struct place){p.group + 1 + events / q, events % q};
}

static inline uint64_t stamp_of(const struct rl_slot *slot, uint64_t group)
{
	return stamp_in(slot, (uint32_t)(group % RL_RING));
}

/* First group in low .. high - 1 that has not expired; high when all have. */
static uint64_t first_held(const struct rl_slot *slot, uint64_t low, uint64_t high,
			   uint64_t span_ns, uint64_t now_ns)
{
	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (expired(stamp_of(slot, middle), span_ns, now_ns))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The newest group that has an event. */
static inline uint64_t newest_of(struct place next)
{
	return next.at > 0 ? next.group : next.group - 1;
}

/*
 * Can the stamp be one that nobody counted? A check raises the stamps of all groups it will
 * count in; when it is killed there, or another is first, they stand in the cells of the oldest
 * groups, falling from one to the next. Else only groups of one moment have no older stamp first.
 */
static inline bool is_doubtful(const struct rl_slot *slot, uint64_t group, uint64_t stamp)
{
	return (int64_t)(stamp - stamp_of(slot, group + 1)) >= 0;
}

/*
 * The newest of the groups after first that has expired, last at most; 0: none has. Then all before
 * it have, whatever their stamps say: each check reads the clock after the head that it will
 * change, so what was counted later has no earlier reading, and a group's stamp is not before any
 * of its own.
 */
RL_COLD static uint64_t last_expired(const struct rl_slot *slot, uint64_t first, uint64_t last,
				     uint64_t span_ns, uint64_t now_ns)
{
	for (uint64_t g = last; g > first; g--)
		if (expired(stamp_of(slot, g), span_ns, now_ns))
			return g;
	return 0;
}

/* Events from oldest to the first group that is held; of its own group next keeps all. */
static inline uint32_t units_before(uint64_t held, struct place oldest, struct place next,
				    const struct rl_window_terms *terms)
{
	if (held == next.group)
		return terms->limit - next.at;
	return (uint32_t)(held - oldest.group) * terms->q - oldest.at;
}

/*
 * How many events could follow at once: of the last L before next, from oldest on, how many
 * have expired one after the other. The group that next joins does not count: its older
 * events are held again the moment that one is. A binary search, after a look at both ends
 * (a key at its limit, a key nearly unused), because stamps grow from group to group but for
 * workers that were stopped, and this number is for the caller to show.
 */
static inline uint32_t room(const struct rl_slot *slot, struct place oldest, struct place next,
			    const struct rl_window_terms *terms, uint64_t now_ns)
{
	uint64_t stamp = stamp_of(slot, oldest.group), held;

	if (!expired(stamp, terms->span_ns, now_ns)) {
		if (!is_doubtful(slot, oldest.group, stamp))
			return 0;
		held = last_expired(slot, oldest.group, next.group - 1, terms->span_ns, now_ns) + 1;
		return held == 1 ? 0 : units_before(held, oldest, next, terms);
	}
	if (oldest.group == next.group) /* a lowered limit; that event will hold the others */
		return 1;
	if (expired(stamp_of(slot, next.group - 1), terms->span_ns, now_ns))
		return units_before(next.group, oldest, next, terms);
	held = first_held(slot, oldest.group + 1, next.group - 1, terms->span_ns, now_ns);
	return units_before(held, oldest, next, terms);
}

RL_COLD bool rl_window_has_ended(const struct rl_slot *slot, struct rl_window_one one,
				 uint64_t span_ns, uint64_t now_ns)
{
	return last_expired(slot, one.oldest_group, newest_of((struct place){one.group, one.at}),
			    span_ns, now_ns) != 0;
}

uint32_t rl_window_room_after(const struct rl_slot *slot, struct rl_window_terms terms,
			      struct rl_window_one one, uint64_t now_ns)
{
	struct place next = {one.group, one.at}, oldest = {one.oldest_group, one.oldest_at};

	return room(slot, forward(oldest, 1, terms.q), forward(next, 1, terms.q), &terms, now_ns);
}

/* The youngest stamp of the groups first .. last, and which one has it. */
static inline uint64_t youngest(const struct rl_slot *slot, uint64_t first, uint64_t last,
				uint64_t *ret_group)
{
	uint64_t best = stamp_of(slot, first);

	*ret_group = first;
	for (uint64_t g = first + 1; g <= last; g++) {
		uint64_t stamp = stamp_of(slot, g);

		if ((int64_t)(stamp - best) > 0) {
			*ret_group = g;
			best = stamp;
		}
	}
	return best;
}

RL_COLD bool rl_window_raise(_Atomic uint64_t *cell, uint64_t seen, uint64_t now_ns)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		if ((int64_t)(now_ns - seen) <= 0)
			return true;
		/* pairs[ring_stamp.rel]: as in raise_stamp(). */
		if (atomic_compare_exchange_weak_explicit(cell, &seen, now_ns, memory_order_release,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

static inline bool raise_stamps(struct rl_slot *slot, uint64_t first, uint64_t last,
				uint64_t first_seen, uint64_t now_ns)
{
	if (!raise_stamp(&slot->ring[first % RL_RING], first_seen, now_ns))
		return false;
	for (uint64_t g = first + 1; g <= last; g++)
		if (!raise_stamp(&slot->ring[g % RL_RING], stamp_of(slot, g), now_ns))
			return false;
	return true;
}

/*
 * When the event at last was, if those of its group were evenly spread over the time since the
 * group before it, or over the last PAUSE_PARTS groups' time when that was longer ago. Not before
 * the older stamp, so at most the q - 1 other events of one group leave early.
 */
static uint64_t spread_stamp(const struct rl_slot *slot, struct place last,
			     const struct rl_window_terms *terms)
{
	uint64_t from = stamp_of(slot, last.group - 1), to = stamp_of(slot, last.group);
	int64_t most_ns = (int64_t)(terms->span_ns / (RL_RING - 1) * PAUSE_PARTS);
	int64_t took_ns = (int64_t)(to - from);

	if (took_ns <= 0)
		return to;
	if (took_ns > most_ns)
		took_ns = most_ns;
	return to - (uint64_t)((double)took_ns * (terms->q - 1 - last.at) / terms->q);
}

/* As blocked(), which the group's own stamp says it is. */
RL_COLD static bool blocked_when_spread(const struct rl_slot *slot, struct place oldest,
					const struct rl_window_terms *terms, uint32_t cost,
					uint64_t now_ns, struct rl_window_answer *ret)
{
	struct place last = forward(oldest, cost - 1, terms->q);
	uint64_t stamp = spread_stamp(slot, last, terms), group;

	if (last.group > oldest.group) {
		uint64_t older = youngest(slot, oldest.group, last.group - 1, &group);

		stamp = (int64_t)(older - stamp) > 0 ? older : stamp;
	}
	if (expired(stamp, terms->span_ns, now_ns))
		return false;
	ret->wait_ns = stamp + terms->span_ns - now_ns;
	return true;
}

/*
 * May cost events not yet pass, the oldest still remembered being oldest? Then ret says which
 * stamp is in the way and for how long: that of the last group that must have ended.
 */
static inline bool blocked(const struct rl_slot *slot, struct place oldest, struct place next,
			   const struct rl_window_terms *terms, uint32_t cost, uint64_t now_ns,
			   struct rl_window_answer *ret)
{
	uint64_t last = cost == 1 ? oldest.group : forward(oldest, cost - 1, terms->q).group;
	uint64_t stamp = stamp_of(slot, last);

	if (expired(stamp, terms->span_ns, now_ns))
		return false;
	if (is_doubtful(slot, last, stamp) &&
	    last_expired(slot, last, newest_of(next), terms->span_ns, now_ns) != 0)
		return false;
	ret->cell = (uint32_t)(last % RL_RING);
	ret->wait_ns = stamp + terms->span_ns - now_ns;
	return !terms->interpolate || blocked_when_spread(slot, oldest, terms, cost, now_ns, ret);
}

/* Where the next event would lie, and the oldest that it must be W after. False: damaged. */
static bool look_ahead(const struct rl_slot *slot, uint64_t head,
		       const struct rl_window_terms *terms, uint64_t now_ns, struct place *ret_next,
		       struct place *ret_oldest)
{
	struct place next = place_of(rl_head_n(head), terms->q);

	if (rl_head_n(head) < terms->limit) /* no slot ever counts below RL_N_FIRST */
		return false;
	if (worth_skipping(head, next.at, stamp_of(slot, next.group), terms, terms->counted,
			   now_ns))
		next = (struct place){next.group + 1, 0};
	*ret_next = next;
	*ret_oldest = back(next, terms->limit, terms->q);
	return true;
}

int rl_window_look(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		   uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret)
{
	struct place next, oldest;

	*ret = (struct rl_window_answer){0};
	if (!look_ahead(slot, head, terms, now_ns, &next, &oldest))
		return RL_TRY_AGAIN;
	ret->remaining = room(slot, oldest, next, terms, now_ns);
	return blocked(slot, oldest, next, terms, cost, now_ns, ret) ? RL_TRY_LIMITED
								     : RL_TRY_ALLOWED;
}

bool rl_window_fits(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		    uint32_t cost, uint64_t now_ns)
{
	struct place next, oldest;
	struct rl_window_answer unused;

	return look_ahead(slot, head, terms, now_ns, &next, &oldest) &&
	       !blocked(slot, oldest, next, terms, cost, now_ns, &unused);
}

/* Inlined twice: whether the slot is counted is known then. */
static inline __attribute__((always_inline)) int try(struct rl_slot *slot, uint64_t head,
						     const struct rl_window_terms *terms,
						     uint32_t cost, bool counted, uint64_t now_ns,
						     struct rl_window_answer *ret)
{
	struct place next = place_of(rl_head_n(head), terms->q), oldest, after;
	uint64_t newest_stamp = stamp_of(slot, next.group), n = rl_head_n(head), next_head;

	if (worth_skipping(head, next.at, newest_stamp, terms, counted, now_ns)) {
		next = (struct place){next.group + 1, 0};
		n = next.group * terms->q;
		newest_stamp = stamp_of(slot, next.group);
	}
	oldest = back(next, terms->limit, terms->q);
	after = forward(next, cost, terms->q);
	next_head = head + ((n + cost - rl_head_n(head)) << RL_HEAD_N_SHIFT);
	if (n + cost > RL_N_MAX || rl_head_n(head) < terms->limit)
		return RL_TRY_AGAIN; /* the agent is long overdue, or the word is damaged */
	if (blocked(slot, oldest, next, terms, cost, now_ns, ret)) {
		ret->remaining = cost == 1 ? 0 : room(slot, oldest, next, terms, now_ns);
		return refuse(slot, head, terms, ret->wait_ns);
	}
	if (!raise_stamps(slot, next.group, after.group - (after.at == 0), newest_stamp, now_ns))
		return RL_TRY_AGAIN;
	/* Killed here: the groups live up to W longer, nothing was admitted.
	 * pairs[slot_head.rel]: the stamps are raised before the count says so. */
	if (!atomic_compare_exchange_strong_explicit(&slot->head, &head, next_head,
						     memory_order_release, memory_order_relaxed))
		return RL_TRY_AGAIN;
	ret->remaining = 0;
	if (!counted) /* the own window is not what a shared limit leaves */
		ret->remaining = room(slot, forward(oldest, cost, terms->q), after, terms, now_ns);
	ret->wait_ns = 0;
	ret->event = n;
	return RL_TRY_ALLOWED;
}

int rl_window_try(struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		  uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret)
{
	struct rl_window_one one;
	int got;

	if (terms->counted)
		return try(slot, head, terms, cost, true, now_ns, ret);
	if (cost > 1 || terms->interpolate)
		return try(slot, head, terms, cost, false, now_ns, ret);
	got = window_look_one(slot, head, terms, now_ns, &one, &ret->wait_ns);
	if (got == RL_TRY_ALLOWED)
		return window_spend_one(slot, terms, &one, now_ns, ret);
	ret->remaining = 0;
	if (got != RL_TRY_AGAIN)
		ret->cell = one.oldest_cell;
	return got;
}

int rl_window_add(struct rl_slot *slot, uint64_t head, uint32_t q, uint32_t cost, uint32_t credit,
		  uint64_t now_ns)
{
	uint64_t n = rl_head_n(head);
	uint64_t first = n / q, last = (n + cost - 1) / q;
	uint64_t counted = head + ((uint64_t)cost << RL_HEAD_N_SHIFT) - credit;

	if (n + cost > RL_N_MAX)
		return RL_TRY_AGAIN; /* the agent is long overdue, or the word is damaged */
	if (!raise_stamps(slot, first, last, stamp_of(slot, first), now_ns))
		return RL_TRY_AGAIN;
	/* Killed here: the groups live up to W longer, nothing was admitted.
	 * pairs[slot_head.rel]: the stamps are raised before the count says so. */
	if (!atomic_compare_exchange_strong_explicit(&slot->head, &head, counted,
						     memory_order_release, memory_order_relaxed))
		return RL_TRY_AGAIN;
	return RL_TRY_ALLOWED;
}

bool rl_window_refund(struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		      uint32_t cost, uint64_t event, uint64_t now_ns)
{
	uint64_t n = rl_head_n(head), newest = (n - 1) / terms->q;
	uint64_t stamp = stamp_of(slot, newest);

	if (terms->counted || n - cost < newest * terms->q || event / terms->q != newest ||
	    expired(stamp, terms->span_ns, now_ns))
		return false;
	/* The next group was begun and given back: its stamp stands where the oldest one's was. */
	if ((int64_t)(stamp_of(slot, newest + 1) - stamp) >= 0)
		return false;
	/* pairs[slot_head.rel]: fails if anything was admitted since head was read. */
	return atomic_compare_exchange_strong_explicit(&slot->head, &head,
						       head - ((uint64_t)cost << RL_HEAD_N_SHIFT),
						       memory_order_release, memory_order_relaxed);
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
