/*
 * rl_window.h - the sliding window of one slot: a count-quantised log that never exceeds L.
 *
 * Rooms:  shm/ only. Arithmetic and CAS on one slot; no clock, no I/O, no allocation.
 *
 * A slot holds n, the count of all cost ever admitted, and a ring of K = RL_RING stamps.
 * Event e (counted from 0) belongs to group e / q, q = ceil(L / (K - 1)); the ring cell of
 * group g, ring[g % K], holds the time of the group's last event. Event n may be admitted at
 * time now iff the group of event n - L ended at least W ago:  now - stamp >= W + hold.
 *
 * Why it never exceeds L. A stamp is raised to now before the CAS that counts the event; who
 * sees the count (acquire) sees the stamp; stamps only grow; and K groups are more than the L
 * events that must be remembered. So each admitted event satisfies
 * now_e >= now_(e-L) + W. The events e, e + L,
 * e + 2L... are therefore at least W apart, and L such chains put at most L events into any
 * interval (t - W, t]. An event happens at the instant of its own clock reading, which lies
 * inside its own call.
 *
 * At any moment at most q - 1 expired events are still held by a younger member of their
 * group, so at least L - q + 1 (>= 95.6 % for K = 24) are usable; L <= K - 1 is exact.
 *
 * Numbers may be skipped, up to the start of the next group. A skipped number counts as an
 * event at its group's stamp, which no counted event is younger than: so an event e whose
 * e - L was skipped is still W after e - 2L, and the proof holds. It is done where it holds
 * back less than joining the group would: always after W of idleness, so that a key then has
 * its whole limit at once, and when a group that lacks few events is rather old. Not while
 * the credit bits are in use: a sync between hosts would count in n.
 *
 * With terms.interpolate a group's events leave one by one, taken for evenly spread between the
 * stamp before theirs and their own. So nothing is held
 * without need, and up to q - 1 events more than L (4.6 % of it, for K = 24) can be in a window:
 * those that were later than they were taken for, of the one group that is leaving.
 *
 * Cost c takes part as c events: all groups from that of n - L to that of n + c - 1 - L must
 * have ended, and all groups of n .. n + c - 1 are stamped.
 *
 * Killed between stamp and count, or second to another, a check leaves stamps that nobody counted,
 * in the cells of groups to come. When it was to count in several, these are cells of the oldest
 * groups that still matter, which had ended; they would hold the whole limit for W. So a group
 * has also ended when a later one that has events has: who counts an event read the clock after
 * the head that counted those before it, so counted events are in the order of their readings,
 * and a group's stamp is not before any of its own. (This alone asks for that order. With it, the
 * last of several groups says it for all.) What stays held is then at most the stamp of the one
 * group that the check would have joined, for W.
 */
#ifndef RL_WINDOW_H
#define RL_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_layout.h"

#define RL_TRY_ALLOWED 0 /* counted */
#define RL_TRY_LIMITED 1 /* refused; nothing was written */
#define RL_TRY_AGAIN   2 /* the slot changed: read head, identity, rule and clock afresh */
#define RL_TRY_AHEAD   3 /* a stamp lies ahead of now: mend it, then as AGAIN */

/* The terms one try goes by. */
struct rl_window_terms {
	uint32_t limit;   /* effective: at most (RL_RING - 1) * q; 1 .. RL_LIMIT_MAX */
	uint32_t q;       /* the slot's own, >= 1 */
	uint64_t span_ns; /* window plus hold */
	bool counted;     /* n is reported: never skip a number */
	bool interpolate; /* take the events of a group for evenly spread over its time */
};

struct rl_window_answer {
	uint32_t remaining; /* units that could be admitted right now, after this answer; of a
			     * counted slot that rl_window_try() admitted in: 0 */
	uint32_t cell;      /* RL_TRY_AHEAD: which stamp */
	uint64_t wait_ns;   /* RL_TRY_LIMITED: until this cost could pass; > 0 */
	uint64_t event;     /* RL_TRY_ALLOWED by rl_window_try(): number of its first unit */
};

#define RL_Q_MAX ((UINT32_C(0x7fffffff) + RL_RING - 3) / (RL_RING - 2)) /* of any slot */

/* Units in a group for this limit. */
static inline uint32_t rl_window_q(uint32_t limit)
{
	return (limit + RL_RING - 2) / (RL_RING - 1);
}

/*
 * The same for interpolation: a ring then remembers one group more, the one before the group that
 * is leaving.
 */
static inline uint32_t rl_window_q_spread(uint32_t limit)
{
	return limit < RL_RING ? 1 : (limit + RL_RING - 3) / (RL_RING - 2);
}

/* The most that a ring with this group size can remember: (RL_RING - 1) * q, capped. */
static inline uint32_t rl_window_limit(uint32_t limit, uint32_t q)
{
	uint64_t most = (uint64_t)q * (RL_RING - 1);

	return limit < most ? limit : (uint32_t)most;
}

/*
 * One try to spend cost at now_ns in a slot whose head was read (acquire) as head, before
 * the slot's identity, q and the clock were read. head is open; 1 <= cost <= terms->limit.
 * The linearisation point of an admit is the CAS of head. Wait-free, async-signal-safe.
 */
int rl_window_try(struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		  uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret);

/*
 * Count cost events at now_ns without asking whether the window has room (somebody else has
 * said so), and take credit units from head in the same CAS. RL_TRY_ALLOWED or RL_TRY_AGAIN;
 * 1 <= cost <= rl_window_limit() of q, credit <= that of head. Otherwise as rl_window_try().
 */
int rl_window_add(struct rl_slot *slot, uint64_t head, uint32_t q, uint32_t cost, uint32_t credit,
		  uint64_t now_ns);

/* The answer a try would give, without writing: RL_TRY_ALLOWED or RL_TRY_LIMITED. */
int rl_window_look(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		   uint32_t cost, uint64_t now_ns, struct rl_window_answer *ret);

/* Would rl_window_look() say RL_TRY_ALLOWED? Without what is left. */
bool rl_window_fits(const struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		    uint32_t cost, uint64_t now_ns);

/*
 * Give back cost units, the first of which was admitted as event. By n alone, so only while all
 * of n's newest group came since: then whoever was admitted later keeps its group and stamp, only
 * its number is lower, and the proof above holds for all that is left. Else, or when the group's
 * window has passed, they stay counted until it has: false. Nothing is written then. Never of a
 * counted slot: what a sync has told is not untold.
 */
bool rl_window_refund(struct rl_slot *slot, uint64_t head, const struct rl_window_terms *terms,
		      uint32_t cost, uint64_t event, uint64_t now_ns);

/*
 * A stamp ahead of a freshly read precise clock is damage (a hostile writer, a clock that
 * was moved). Bring it back to now_ns, unless it changed meanwhile. Costs at most W of
 * denial, never an admit. Returns 1 when it did, else 0.
 */
int rl_window_mend(struct rl_slot *slot, uint32_t cell, uint64_t now_ns);

/* Newest stamp of the slot: it is idle once this lies a window (and hold) back. */
uint64_t rl_window_newest(const struct rl_slot *slot);

#endif
