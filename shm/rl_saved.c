#include "shm/rl_saved.h"

#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_count.h"
#include "shm/rl_error.h"
#include "shm/rl_mark.h"
#include "shm/rl_now.h"
#include "shm/rl_rebase.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define TAKE_TRIES 64 /* each failed one is a refund, or a slot that was freed or re-based */

static uint64_t relaxed(const _Atomic uint64_t *word)
{
	/* Relaxed: under head, which is read before and after. */
	return atomic_load_explicit(word, memory_order_relaxed);
}

static bool is_local(const struct rl_view *view, uint32_t rule_id)
{
	struct rl_rule rule;

	return rl_rules_read(view, rl_pair(rule_id, 0), &rule) == 0 && rl_rule_is_local(&rule);
}

static void take_text(const struct rl_view *view, uint64_t index, struct rl_key_text *ret)
{
	ret->code = rl_acked_text(relaxed(&view->side[index].acked));
	for (size_t i = 0; i < RL_TEXT_BYTES / 8; i++)
		ret->word[i] = relaxed(&view->text[index].word[i]);
}

/* True when any event is still in the window. */
static bool take_window(const struct rl_view *view, const struct rl_slot *slot,
			struct rl_saved *ret)
{
	uint64_t now_ns = rl_clock_precise_ns();
	bool coarse = rl_clock_is_coarse(ret->window_ns);
	uint64_t span_ns = ret->window_ns + rl_hold_ns(view, coarse);
	bool holds = false;

	ret->mark = rl_mark_of(slot) & ~(RL_MARK_BLOCK | RL_MARK_AUDIT);
	for (uint32_t i = 0; i < RL_RING; i++) {
		/* pairs[ring_stamp.acq]: no older than those of the events that head counts. */
		uint64_t stamp = atomic_load_explicit(&slot->ring[i], memory_order_acquire);
		bool expired = (int64_t)(now_ns - stamp) >= (int64_t)span_ns;

		ret->ring[i] = expired ? 0 : stamp;
		holds |= !expired;
	}
	return holds;
}

/*
 * Units of its word; RL_COUNT_NONE when that is not the slot's own. The clock is read after the
 * word, as by a check: a word of a later window than taken_ns would be put into an older one.
 */
static uint32_t take_word(const struct rl_view *view, const struct rl_slot *slot, uint64_t n,
			  struct rl_saved *ret)
{
	/* pairs[slot_state.acq]: as any reader of it. */
	uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
	struct rl_count count;

	ret->taken_ns = rl_clock_precise_ns();
	if (!rl_count_is(state, n) || !rl_count_of(view, slot, NULL, &count))
		return RL_COUNT_NONE;
	ret->scale = count.terms.scale;
	return rl_count_units(&count, state, ret->taken_ns);
}

static uint64_t take_block(const struct rl_view *view, uint64_t index, uint64_t id)
{
	uint64_t until_ns = rl_block_until(&view->side[index], id);

	return until_ns > rl_clock_precise_ns() ? until_ns : 0;
}

/* The agent has closed it for a moment: what it holds is not gone. */
static bool will_open(uint64_t head)
{
	return rl_head_is(head, RL_KIND_REBASE) || rl_head_is(head, RL_KIND_WIPE);
}

/*
 * Is it another life or shape than was begun with? A new window alone is one, too: with it go
 * new numbers. Also of one that gave units back: nothing tells it from a new life.
 */
static bool has_moved(const struct rl_slot *slot, uint64_t shape, const struct rl_saved *saved)
{
	/* pairs[slot_head.acq]: what was read belongs to one life of the slot. */
	uint64_t head = atomic_load_explicit(&slot->head, memory_order_acquire);

	return !rl_head_is_open(head) || rl_head_n(head) < saved->n ||
	       relaxed(&slot->shape) != shape || relaxed(&slot->window_ns) != saved->window_ns ||
	       relaxed(&slot->id[0]) != saved->id.word[0];
}

/* Once: RL_E_BUSY when the slot became another's, or is the agent's for the moment. */
static int take_once(const struct rl_view *view, uint64_t index, struct rl_saved *ret)
{
	const struct rl_slot *slot = &view->slot[index];
	/* pairs[slot_head.acq]: as any reader of a slot. */
	uint64_t head = atomic_load_explicit(&slot->head, memory_order_acquire), shape;
	bool holds;

	if (!rl_head_is_open(head))
		return will_open(head) ? RL_E_BUSY : 0;
	shape = relaxed(&slot->shape);
	*ret = (struct rl_saved){.n = rl_head_n(head),
				 .window_ns = relaxed(&slot->window_ns),
				 .rule_id = rl_pair_high(shape),
				 .algorithm = rl_shape_algorithm(shape),
				 .scale = rl_shape_q(shape)};
	for (int i = 0; i < 2; i++)
		ret->id.word[i] = relaxed(&slot->id[i]);
	take_text(view, index, &ret->text);
	if (ret->algorithm == RL_CONCURRENCY || !is_local(view, ret->rule_id))
		return 0;
	if (ret->algorithm == RL_SLIDING)
		holds = take_window(view, slot, ret);
	else
		holds = (ret->units = take_word(view, slot, ret->n, ret)) != 0;
	ret->blocked_ns = take_block(view, index, ret->id.word[0]);
	if (has_moved(slot, shape, ret) || (holds && ret->units == RL_COUNT_NONE))
		return RL_E_BUSY;
	return (holds || ret->blocked_ns != 0) && rl_saved_sound(ret) ? 1 : 0;
}

int rl_saved_take(const struct rl_view *view, uint64_t index, struct rl_saved *ret)
{
	int got = RL_E_BUSY;

	for (int i = 0; i < TAKE_TRIES && got == RL_E_BUSY; i++)
		got = take_once(view, index, ret);
	return got;
}

bool rl_saved_sound(const struct rl_saved *saved)
{
	if (saved->text.code < 1 || saved->text.code > RL_TEXT_LONG || saved->rule_id == 0 ||
	    saved->id.word[0] == 0 || saved->id.word[1] == 0)
		return false;
	if (saved->algorithm == RL_SLIDING)
		return rl_rebase_sound(saved->n, rl_shape(saved->rule_id, RL_SLIDING, saved->scale),
				       saved->window_ns);
	return rl_algorithm(saved->algorithm) != NULL && saved->algorithm != RL_CONCURRENCY &&
	       saved->scale >= 1 && saved->scale <= RL_LIMIT_MAX && saved->units <= RL_LIMIT_MAX &&
	       saved->window_ns >= RL_WINDOW_MIN_NS && saved->window_ns <= RL_WINDOW_MAX_NS;
}

/* A moment on this boot's clock. 0 of one that is older than the longest window. */
static uint64_t shifted(uint64_t stamp, int64_t shift_ns, uint64_t most_ns)
{
	int64_t on_this = (int64_t)(stamp + (uint64_t)shift_ns);

	if (stamp == 0 || on_this <= 0)
		return 0;
	return (uint64_t)on_this < most_ns ? (uint64_t)on_this : most_ns;
}

/*
 * The slot was opened a moment ago by the claim, for this very q and window. Relaxed, all: nobody
 * else has the segment; killed here, its file is a leftover that the next agent removes.
 */
static void put_window(struct rl_seg *seg, uint64_t index, const struct rl_saved *saved,
		       const struct rl_saved_terms *terms)
{
	struct rl_slot *slot = &seg->slot[index];

	for (uint32_t i = 0; i < RL_RING; i++)
		atomic_store_explicit(&slot->ring[i],
				      shifted(saved->ring[i], terms->shift_ns, terms->now_ns),
				      memory_order_relaxed);
	atomic_store_explicit(&slot->state, saved->mark, memory_order_relaxed);
	atomic_store_explicit(&seg->side[index].acked, rl_acked(saved->n, false, saved->text.code),
			      memory_order_relaxed);
	atomic_store_explicit(&slot->head, rl_head_open(saved->n), memory_order_relaxed);
}

static void put_block(struct rl_seg *seg, uint64_t index, const struct rl_id *id,
		      const struct rl_saved *saved, const struct rl_saved_terms *terms)
{
	uint64_t until_ns = shifted(saved->blocked_ns, terms->shift_ns, UINT64_MAX >> 1);

	if (until_ns == 0)
		return;
	if (saved->algorithm == RL_SLIDING)
		rl_mark_block(&seg->slot[index]);
	/* Relaxed: as above. */
	atomic_store_explicit(&seg->side[index].total, rl_block_word(id->word[0], until_ns),
			      memory_order_relaxed);
}

static void claim_terms(const struct rl_view *view, const struct rl_saved *saved,
			const struct rl_saved_terms *terms, struct rl_claim *ret)
{
	*ret = (struct rl_claim){
		.rule_id = saved->rule_id,
		.q = saved->algorithm == RL_SLIDING ? saved->scale : 0,
		.window_ns = saved->window_ns,
		.algorithm = saved->algorithm,
		.hint = rl_hint(0, 0, rl_key_part(saved->rule_id, &saved->text)),
		.text = saved->text,
	};
	if (saved->algorithm != RL_SLIDING)
		ret->word = rl_count_begin(
			view, saved->algorithm, saved->scale, saved->window_ns, saved->units,
			shifted(saved->taken_ns, terms->shift_ns, terms->now_ns), &ret->hint);
}

int rl_saved_put(struct rl_seg *seg, const struct rl_saved *saved,
		 const struct rl_saved_terms *terms)
{
	struct rl_id id = saved->id;
	struct rl_claim claim;
	uint64_t index, head;
	int got;

	if (!is_local(&seg->view, saved->rule_id))
		return 0;
	if (!terms->same_hash) {
		if (saved->text.code == RL_TEXT_LONG)
			return 0;
		id = rl_hash_key(seg->view.hash_key, saved->rule_id, saved->text.word,
				 rl_key_text_len(&saved->text));
	}
	claim_terms(&seg->view, saved, terms, &claim);
	got = rl_table_claim(seg, &id, &claim);
	if (got != 1)
		return got; /* 0: the key is there already */
	index = rl_table_find(&seg->view, &id, &head);
	if (index == RL_NO_SLOT)
		return 0;
	if (saved->algorithm == RL_SLIDING)
		put_window(seg, index, saved, terms);
	put_block(seg, index, &id, saved, terms);
	return 1;
}
