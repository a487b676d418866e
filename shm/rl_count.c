#include "shm/rl_count.h"

#include "shm/rl_now.h"
#include "shm/rl_side.h"

#define TRIES 64 /* each failed try is another's admit */

static uint64_t word_of(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed); /* under head */
}

static uint64_t state_of(const struct rl_slot *slot)
{
	/* pairs[slot_state.acq]: whose admit is seen, whose scale is seen as well. */
	return atomic_load_explicit(&slot->state, memory_order_acquire);
}

/* CLOCK_REALTIME less the clock of now; a given clock is taken for CLOCK_REALTIME. */
static uint64_t wall_of(const struct rl_view *view)
{
	return view->given ? -RL_CLOCK_BIAS_NS : word_of(&view->live->wall_ns);
}

/* A given clock may be decades ahead: the base is the last moment with its bits before now. */
static void adjust_base(const struct rl_view *view, struct rl_count_terms *terms, uint64_t now_ns)
{
	uint64_t mask = RL_BASE_MASK << RL_BASE_SHIFT | ((UINT64_C(1) << RL_BASE_SHIFT) - 1);
	uint64_t since_ns = (now_ns - terms->base_ns) & mask;

	if (view->given)
		terms->base_ns = since_ns <= mask / 2 ? now_ns - since_ns : now_ns;
}

bool rl_count_of(const struct rl_view *view, const struct rl_slot *slot, const struct rl_rule *rule,
		 struct rl_count *ret)
{
	uint64_t shape = word_of(&slot->shape), hint = word_of(&slot->hint);
	uint64_t window_ns = word_of(&slot->window_ns);
	uint32_t scale = rl_count_scale(hint);

	ret->algorithm = rl_algorithm(rl_shape_algorithm(shape));
	if (ret->algorithm == NULL || scale < 1 || window_ns < RL_WINDOW_MIN_NS ||
	    window_ns > RL_WINDOW_MAX_NS)
		return false;
	ret->terms = (struct rl_count_terms){
		.limit = rule != NULL ? rule->limit : scale,
		.burst = rule != NULL ? rule->burst : 0,
		.delay = rule != NULL ? rule->delay : 0,
		.scale = scale,
		.window_ns = window_ns,
		.base_ns = rl_count_base_ns(hint),
		.wall_ns = wall_of(view),
	};
	ret->view = view;
	return true;
}

uint64_t rl_count_begin(const struct rl_view *view, uint32_t algorithm, uint32_t scale,
			uint64_t window_ns, uint32_t units, uint64_t now_ns, uint64_t *hint)
{
	struct rl_count_terms terms = {
		.limit = scale,
		.scale = scale,
		.window_ns = window_ns,
		.wall_ns = wall_of(view),
	};

	*hint = rl_count_hint(scale, now_ns, rl_hint_part(*hint));
	terms.base_ns = rl_count_base_ns(*hint);
	adjust_base(view, &terms, now_ns);
	return rl_algorithm(algorithm)->start(&terms, units, now_ns);
}

/* The clocks, after the word that is to be judged by them. */
static uint64_t read_clocks(const struct rl_count *count, struct rl_count_terms *terms)
{
	uint64_t now_ns = rl_now_ns(count->view, false);

	terms->wall_ns = wall_of(count->view); /* after the acquire of the word */
	terms->base_ns = count->terms.base_ns;
	adjust_base(count->view, terms, now_ns);
	return now_ns;
}

int rl_count_try(struct rl_slot *slot, uint64_t head, const struct rl_count *count, uint32_t cost,
		 struct rl_count_answer *ret, uint64_t *ret_now_ns)
{
	struct rl_count_terms terms = count->terms;
	uint64_t state = state_of(slot);

	for (int i = 0; i < TRIES; i++) {
		uint64_t word = state & RL_COUNT_MAX;
		int got;

		if (!rl_count_is(state, rl_head_n(head)))
			return RL_TRY_AGAIN;
		*ret_now_ns = read_clocks(count, &terms);
		got = count->algorithm->step(word, &terms, cost, *ret_now_ns, ret);
		if (got == RL_TRY_AGAIN || (got == RL_TRY_LIMITED && ret->next == word))
			return got;
		/* pairs[slot_state.rel]: the words it was judged by were read before. */
		if (atomic_compare_exchange_weak_explicit(
			    &slot->state, &state, rl_count_state(rl_head_n(head), ret->next),
			    memory_order_acq_rel, memory_order_acquire))
			return got;
	}
	return RL_TRY_AGAIN;
}

int rl_count_look(const struct rl_slot *slot, uint64_t head, const struct rl_count *count,
		  uint32_t cost, struct rl_count_answer *ret, uint64_t *ret_now_ns)
{
	struct rl_count_terms terms = count->terms;
	uint64_t state = state_of(slot);

	*ret = (struct rl_count_answer){0};
	if (!rl_count_is(state, rl_head_n(head)))
		return RL_TRY_AGAIN;
	*ret_now_ns = read_clocks(count, &terms);
	return count->algorithm->step(state & RL_COUNT_MAX, &terms, cost, *ret_now_ns, ret);
}

bool rl_count_refund(struct rl_slot *slot, uint64_t head, const struct rl_count *count,
		     uint32_t cost, uint64_t then)
{
	struct rl_count_terms terms = count->terms;
	uint64_t state = state_of(slot);

	for (int i = 0; i < TRIES; i++) {
		uint64_t word = state & RL_COUNT_MAX, now_ns, next;

		if (!rl_count_is(state, rl_head_n(head)))
			return false;
		now_ns = read_clocks(count, &terms);
		next = count->algorithm->refund(word, then, &terms, cost, now_ns);
		if (next == word)
			return false;
		/* pairs[slot_state.rel]: as an admit. */
		if (atomic_compare_exchange_weak_explicit(
			    &slot->state, &state, rl_count_state(rl_head_n(head), next),
			    memory_order_acq_rel, memory_order_acquire))
			return true;
	}
	return false;
}

bool rl_count_reset(struct rl_slot *slot, uint64_t head, const struct rl_count *count)
{
	struct rl_count_terms terms = count->terms;
	uint64_t state = state_of(slot);

	for (int i = 0; i < TRIES && rl_count_is(state, rl_head_n(head)); i++) {
		uint64_t now_ns = read_clocks(count, &terms);
		uint64_t empty = count->algorithm->start(&terms, 0, now_ns);

		/* pairs[slot_state.rel]: as an admit. */
		if (atomic_compare_exchange_weak_explicit(
			    &slot->state, &state, rl_count_state(rl_head_n(head), empty),
			    memory_order_acq_rel, memory_order_acquire))
			return true;
	}
	return false;
}

uint32_t rl_count_units(const struct rl_count *count, uint64_t state, uint64_t now_ns)
{
	struct rl_count_terms terms = count->terms;
	uint32_t held;

	adjust_base(count->view, &terms, now_ns);
	held = count->algorithm->held(state & RL_COUNT_MAX, &terms, now_ns);
	return held < RL_COUNT_NONE ? held : RL_COUNT_NONE - 1;
}

uint32_t rl_count_held(const struct rl_slot *slot, uint64_t head, const struct rl_count *count,
		       uint64_t now_ns)
{
	uint64_t state = state_of(slot);

	return rl_count_is(state, rl_head_n(head)) ? rl_count_units(count, state, now_ns)
						   : RL_COUNT_NONE;
}

bool rl_count_take_idle(struct rl_slot *slot, uint64_t head, const struct rl_count *count,
			uint64_t now_ns, uint64_t *ret_taken)
{
	uint64_t state = state_of(slot);

	*ret_taken = state;
	if (state == 0)
		return true;
	if (!rl_count_is(state, rl_head_n(head)) || rl_count_units(count, state, now_ns) != 0)
		return false;
	/* pairs[slot_state.rel]: fails if it admitted since. */
	return atomic_compare_exchange_strong_explicit(&slot->state, &state, 0,
						       memory_order_acq_rel, memory_order_relaxed);
}
