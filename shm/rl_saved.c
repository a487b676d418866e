#include "shm/rl_saved.h"

#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_count.h"
#include "shm/rl_mark.h"
#include "shm/rl_now.h"
#include "shm/rl_rebase.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define TAKE_TRIES 4 /* each failed one is a slot that was freed or re-based meanwhile */

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
static bool take_window(const struct rl_view *view, const struct rl_slot *slot, uint64_t now_ns,
			struct rl_saved *ret)
{
	bool coarse = rl_clock_is_coarse(ret->window_ns);
	uint64_t span_ns = ret->window_ns + rl_hold_ns(view, coarse);
	bool holds = false;

	ret->mark = rl_mark_of(slot) & ~RL_MARK_BLOCK;
	for (uint32_t i = 0; i < RL_RING; i++) {
		/* pairs[ring_stamp.acq]: no older than those of the events that head counts. */
		uint64_t stamp = atomic_load_explicit(&slot->ring[i], memory_order_acquire);
		bool expired = (int64_t)(now_ns - stamp) >= (int64_t)span_ns;

		ret->ring[i] = expired ? 0 : stamp;
		holds |= !expired;
	}
	return holds;
}

static bool take_word(const struct rl_view *view, const struct rl_slot *slot, uint64_t head,
		      uint64_t now_ns, struct rl_saved *ret)
{
	struct rl_count count;

	if (!rl_count_of(view, slot, NULL, &count))
		return false;
	ret->scale = rl_count_scale(relaxed(&slot->hint));
	ret->units = rl_count_held(slot, head, &count, now_ns);
	return ret->units != 0 && ret->units != RL_COUNT_NONE;
}

/* Once: false and *ret_moved when the slot became another's or was closed meanwhile. */
static bool take_once(const struct rl_view *view, uint64_t index, uint64_t now_ns,
		      struct rl_saved *ret, bool *ret_moved)
{
	const struct rl_slot *slot = &view->slot[index];
	/* pairs[slot_head.acq]: as any reader of a slot. */
	uint64_t head = atomic_load_explicit(&slot->head, memory_order_acquire), shape, after;
	bool holds;

	*ret_moved = false;
	if (!rl_head_is_open(head))
		return false;
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
		return false;
	holds = ret->algorithm == RL_SLIDING ? take_window(view, slot, now_ns, ret)
					     : take_word(view, slot, head, now_ns, ret);
	ret->blocked_ns = rl_block_until(&view->side[index], ret->id.word[0]);
	if (ret->blocked_ns <= now_ns)
		ret->blocked_ns = 0;
	/* pairs[slot_head.acq]: what was read belongs to one life of the slot. */
	after = atomic_load_explicit(&slot->head, memory_order_acquire);
	*ret_moved = !rl_head_is_open(after) || rl_head_n(after) < ret->n ||
		     relaxed(&slot->shape) != shape || relaxed(&slot->id[0]) != ret->id.word[0];
	return (holds || ret->blocked_ns != 0) && !*ret_moved && rl_saved_sound(ret);
}

bool rl_saved_take(const struct rl_view *view, uint64_t index, uint64_t now_ns,
		   struct rl_saved *ret)
{
	bool taken = false, moved = true;

	for (int i = 0; i < TAKE_TRIES && moved; i++)
		taken = take_once(view, index, now_ns, ret, &moved);
	return taken;
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

/* A stamp on this boot's clock. 0 of one that is older than the longest window. */
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
				      shifted(saved->ring[i], terms->shift_ns, terms->then_ns),
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
		ret->word = rl_count_begin(view, saved->algorithm, saved->scale, saved->window_ns,
					   saved->units, terms->then_ns, &ret->hint);
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
		return got; /* 0: the key is there already, a rule's pool for one */
	index = rl_table_find(&seg->view, &id, &head);
	if (index == RL_NO_SLOT)
		return 0;
	if (saved->algorithm == RL_SLIDING)
		put_window(seg, index, saved, terms);
	put_block(seg, index, &id, saved, terms);
	return 1;
}
