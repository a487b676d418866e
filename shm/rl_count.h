/*
 * rl_count.h - a slot that counts in one word, by a row of rl_algorithm.h.
 *
 * Rooms:  shm/, and agent/ for the sweep.
 *
 * The slot's state word is [ 1 | life:9 | word:54 ], changed by one CAS: that is the admit. life
 * is that of the slot, the low bits of its head's n, which every claim and every re-base moves
 * on; so a worker that was stopped on an old key fails its CAS, for 500 lives, even if the word
 * has come back. It is 0 in a free slot, and while the agent takes it (to re-base the slot, or to
 * free it). The hint has the scale: [ units:31 | base:25 | partition + 1:8 ], the units a window
 * that the word counts by, and since when it counts, in steps of 17 s. Not the ring: a worker that
 * was stopped when the slot was one of the sliding window may raise a stamp there.
 *
 * The head does not change when such a slot admits: who closes it takes the word as well.
 */
#ifndef RL_COUNT_H
#define RL_COUNT_H

#include "shm/rl_algorithm.h"
#include "shm/rl_rules.h"
#include "shm/rl_word.h"

#define RL_BASE_SHIFT 34 /* ns: 17 s; 25 bits last for 18 years */
#define RL_BASE_MASK  UINT64_C(0x1ffffff)

#define RL_LIFE_MASK UINT64_C(0x1ff)

/* The state word of a slot with this n. */
static inline uint64_t rl_count_state(uint64_t n, uint64_t word)
{
	return UINT64_C(1) << 63 | (n & RL_LIFE_MASK) << RL_COUNT_BITS | word;
}

/* The hint of a slot that counts by this many units a window since now, or a little before. */
static inline uint64_t rl_count_hint(uint32_t scale, uint64_t now_ns, uint32_t part)
{
	return (uint64_t)scale << 33 | (now_ns >> RL_BASE_SHIFT & RL_BASE_MASK) << 8 | (part + 1);
}

static inline uint32_t rl_count_scale(uint64_t hint)
{
	return (uint32_t)(hint >> 33);
}

static inline uint64_t rl_count_base_ns(uint64_t hint)
{
	return (hint >> 8 & RL_BASE_MASK) << RL_BASE_SHIFT;
}

static inline bool rl_count_is(uint64_t state, uint64_t n)
{
	return state >> RL_COUNT_BITS == rl_count_state(n, 0) >> RL_COUNT_BITS;
}

/* How one slot counts. */
struct rl_count {
	const struct rl_algorithm *algorithm;
	struct rl_count_terms terms;
	const struct rl_view *view; /* whose clocks it goes by; read again for each try */
};

/*
 * How the slot counts, under a rule (NULL: as it was made). False when it is one of the sliding
 * window, or damaged. Its head has been read (acquire), and is open or closed for a re-base.
 */
bool rl_count_of(const struct rl_view *view, const struct rl_slot *slot, const struct rl_rule *rule,
		 struct rl_count *ret);

/*
 * The word of a slot that counts since now_ns by scale units a window and holds so many; and its
 * hint, whose partition is kept. algorithm is a row's number.
 */
uint64_t rl_count_begin(const struct rl_view *view, uint32_t algorithm, uint32_t scale,
			uint64_t window_ns, uint32_t units, uint64_t now_ns, uint64_t *hint);

/* Forget what the slot holds. False when it has another life, or lost every try. */
bool rl_count_reset(struct rl_slot *slot, uint64_t head, const struct rl_count *count);

/*
 * One try to spend cost in an open slot whose head was read as head: RL_TRY_ALLOWED,
 * RL_TRY_LIMITED (nothing was spent) or RL_TRY_AGAIN; *ret_now_ns: the reading it went by. The
 * clocks are read after the word, each time: nobody whose admit is seen had a later reading, so a
 * word ahead of them means that the wall clock was set back. Lock-free, async-signal-safe. Killed
 * anywhere: it was admitted or not, nothing else is left.
 */
int rl_count_try(struct rl_slot *slot, uint64_t head, const struct rl_count *count, uint32_t cost,
		 struct rl_count_answer *ret, uint64_t *ret_now_ns);

/*
 * Give back what is still held of cost units whose admit left the word at then. False when that is
 * nothing, or the slot has another life. Lock-free, async-signal-safe.
 */
bool rl_count_refund(struct rl_slot *slot, uint64_t head, const struct rl_count *count,
		     uint32_t cost, uint64_t then);

/* The answer a try would give, without writing. */
int rl_count_look(const struct rl_slot *slot, uint64_t head, const struct rl_count *count,
		  uint32_t cost, struct rl_count_answer *ret, uint64_t *ret_now_ns);

/*
 * Units that a state word, and that the slot holds at now_ns, rounded up. RL_COUNT_NONE: the slot's
 * word is not one of its own.
 */
#define RL_COUNT_NONE UINT32_MAX
uint32_t rl_count_units(const struct rl_count *count, uint64_t state, uint64_t now_ns);
uint32_t rl_count_held(const struct rl_slot *slot, uint64_t head, const struct rl_count *count,
		       uint64_t now_ns);

/*
 * The agent, before it frees the slot: take its word, if it holds nothing now; *ret_taken: the
 * word, 0 if it was gone before, for when the slot is not freed after all. Killed after this: the
 * slot answers busy until the next agent's sweep, which finds a word of 0, frees it.
 */
bool rl_count_take_idle(struct rl_slot *slot, uint64_t head, const struct rl_count *count,
			uint64_t now_ns, uint64_t *ret_taken);

#endif
