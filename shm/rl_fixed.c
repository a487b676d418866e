/*
 * rl_fixed.c - at most limit units in each window of the wall clock: 100/day begins at midnight
 * UTC. Up to twice the limit passes around a window's end; a sliding window has no such edge.
 *
 * The word is [ window:23 | units:31 ], the window's number modulo 2^23. A wall clock that is set
 * back gives nobody a second budget while the key has its slot: over one window's end the key goes
 * on in the later window, over more of them what it holds goes along into the window that is now.
 * (A slot whose window is over may be freed; then it is not known any more.) A key that was idle
 * for 2^22 windows and whose slot nobody freed may look like that, for one window.
 */
#include "shm/rl_algorithm.h"
#include "shm/rl_terms.h"

#define UNITS_BITS  31
#define WINDOW_MASK ((UINT32_C(1) << (RL_COUNT_BITS - UNITS_BITS)) - 1)

/* Where now lies: the window, what is held in it, and how long it lasts yet. */
struct place {
	uint32_t window, units;
	uint64_t left_ns;
};

static struct place place_of(uint64_t word, const struct rl_count_terms *terms, uint64_t now_ns)
{
	uint64_t wall_ns = now_ns + terms->wall_ns;
	uint32_t held = (uint32_t)(word >> UNITS_BITS) & WINDOW_MASK, ahead;
	struct place place = {.window = (uint32_t)(wall_ns / terms->window_ns) & WINDOW_MASK,
			      .left_ns = terms->window_ns - wall_ns % terms->window_ns};

	ahead = (held - place.window) & WINDOW_MASK;
	if (ahead > WINDOW_MASK / 2) /* an older one, which is over */
		return place;
	place.units = (uint32_t)(word & RL_LIMIT_MAX);
	if (ahead != 1)
		return place;
	place.window = held;
	place.left_ns += terms->window_ns;
	return place;
}

static uint64_t word_of(const struct place *place)
{
	return (uint64_t)place->window << UNITS_BITS | place->units;
}

static uint32_t most(uint32_t limit, uint32_t burst)
{
	(void)burst;
	return limit;
}

static uint64_t start(const struct rl_count_terms *terms, uint32_t units, uint64_t now_ns)
{
	struct place place = place_of(0, terms, now_ns);

	place.units = units < RL_LIMIT_MAX ? units : RL_LIMIT_MAX;
	return word_of(&place);
}

static uint32_t held(uint64_t word, const struct rl_count_terms *terms, uint64_t now_ns)
{
	return place_of(word, terms, now_ns).units;
}

static int step(uint64_t word, const struct rl_count_terms *terms, uint32_t cost, uint64_t now_ns,
		struct rl_count_answer *ret)
{
	struct place place = place_of(word, terms, now_ns);
	uint32_t room = place.units < terms->limit ? terms->limit - place.units : 0;

	*ret = (struct rl_count_answer){
		.next = word_of(&place), .remaining = room, .wait_ns = place.left_ns};
	if (cost > room)
		return RL_TRY_LIMITED; /* what goes along with a clock set back is in this window */
	place.units += cost;
	*ret = (struct rl_count_answer){.next = word_of(&place), .remaining = room - cost};
	return RL_TRY_ALLOWED;
}

static uint64_t refund(uint64_t word, uint64_t then, const struct rl_count_terms *terms,
		       uint32_t cost, uint64_t now_ns)
{
	struct place place = place_of(word, terms, now_ns);

	if (word >> UNITS_BITS != then >> UNITS_BITS || place.units < cost)
		return word; /* another window's */
	place.units -= cost;
	return word_of(&place);
}

const struct rl_algorithm rl_fixed = {
	.name = "fixed",
	.most = most,
	.start = start,
	.held = held,
	.step = step,
	.refund = refund,
};
