/*
 * rl_rebase_count.c - rl_rebase.h of a slot that counts in one word (rl_count.h).
 *
 * Such a slot admits by a CAS of its word alone, also a worker that read the head before it was
 * closed. So the word is taken after the close: noted in the journal, then set to 0 by CAS, which
 * no word ever is. A kill between the two leaves the word in the slot, a kill after them leaves
 * it in the journal; the next agent goes on from there.
 */
#include "shm/rl_count.h"
#include "shm/rl_mark.h"
#include "shm/rl_now.h"
#include "shm/rl_rebase_image.h"
#include "shm/rl_side.h"
#include "shm/rl_window.h"

#define TAKE_TRIES 1024 /* each failed try is a worker that read the head before the close */

bool rl_rebase_sound_count(uint64_t n, uint64_t shape, uint64_t window_ns)
{
	return n >= RL_N_FIRST && n <= RL_N_MAX &&
	       rl_algorithm(rl_shape_algorithm(shape)) != NULL &&
	       (rl_pair_low(shape) & ((UINT32_C(1) << RL_SHAPE_Q_BITS) - 1)) == 0 &&
	       window_ns >= RL_WINDOW_MIN_NS && window_ns <= RL_WINDOW_MAX_NS;
}

bool rl_rebase_count_wanted(const struct rl_view *view, const struct rl_slot *slot,
			    const struct rl_rule *rule)
{
	struct rl_count count;
	uint64_t word = take(&slot->state) & RL_COUNT_MAX;

	if (!rl_count_of(view, slot, rule, &count))
		return false;
	return rl_shape_algorithm(take(&slot->shape)) != rl_rule_algorithm(rule) ||
	       count.terms.scale != rule->limit || count.terms.window_ns != rule->window_ns ||
	       (count.algorithm->renew != 0 && word > count.algorithm->renew);
}

void rl_rebase_count_image(const struct rl_view *view, uint32_t scale, uint32_t units,
			   struct rl_image *image)
{
	image->state =
		rl_count_state(image->n, rl_count_begin(view, rl_shape_algorithm(image->shape),
							scale, image->window_ns, units,
							rl_now_ns(view, false), &image->hint));
}

/* The sliding window of an image, with units in it that are all of now. */
static void window_image(uint32_t units, uint64_t now_ns, struct rl_image *ret)
{
	uint32_t q = rl_shape_q(ret->shape);
	uint64_t first = ret->n;

	if (units > rl_window_limit(RL_LIMIT_MAX, q))
		units = rl_window_limit(RL_LIMIT_MAX, q);
	ret->n += units;
	for (uint64_t g = first / q; g * q < ret->n; g++)
		ret->ring[g % RL_RING] = now_ns;
}

/*
 * With groups for all that is held, if those of the rule's limit are too small: forgetting the
 * rest would give it back when the limit is raised again. The sweep makes them smaller later.
 */
static uint64_t shape_for(uint64_t shape, uint32_t held)
{
	uint32_t q = rl_window_q(held < RL_LIMIT_MAX ? held : RL_LIMIT_MAX);

	return q <= rl_shape_q(shape) ? shape : rl_shape(rl_pair_high(shape), RL_SLIDING, q);
}

/* The word, noted before it is gone from the slot. */
static uint64_t take_word(struct rl_slot *slot, struct rl_journal *journal)
{
	/* pairs[slot_state.acq]: as any reader of it. */
	uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);

	for (int i = 0; i < TAKE_TRIES; i++) {
		if (state == 0)
			return take(&journal->taken);
		/* pairs[slot_state.rel]: a kill between these two finds it in both places. */
		atomic_store_explicit(&journal->taken, state, memory_order_release);
		if (atomic_compare_exchange_strong_explicit(
			    &slot->state, &state, 0, memory_order_acq_rel, memory_order_acquire))
			return state;
	}
	/* pairs[slot_state.acq]: as above. Killed after this: what was admitted since the last note
	 * is forgotten; no number of workers that really admit gets us here. */
	return atomic_exchange_explicit(&slot->state, 0, memory_order_acq_rel);
}

static uint64_t next_n(uint64_t n, uint32_t algorithm, uint32_t q)
{
	return rl_rebase_next_n(n, algorithm == RL_SLIDING && q > 0 ? q : 1);
}

static bool image_is_sound(const struct rl_image *image)
{
	if (rl_shape_algorithm(image->shape) == RL_SLIDING)
		return rl_rebase_sound(RL_N_FIRST, image->shape, image->window_ns);
	return rl_rebase_sound_count(RL_N_FIRST, image->shape, image->window_ns) &&
	       rl_count_scale(image->hint) != 0;
}

/* Of the slot that has been closed: does its key need the flag that checks of a window look for? */
static bool is_blocked(const struct rl_seg *seg, uint64_t index, uint64_t now_ns)
{
	/* seq_cst: after the close, in the one order that who blocks goes by (rl_check_reset.c). */
	uint64_t word = atomic_load_explicit(&seg->side[index].total, memory_order_seq_cst);

	return rl_block_until_by(word, take(&seg->slot[index].id[0])) > now_ns;
}

bool rl_rebase_count_take(struct rl_seg *seg, uint64_t index)
{
	struct rl_journal *journal = &seg->live->journal;
	struct rl_slot *slot = &seg->slot[index];
	uint64_t closed = take(&journal->closed_head), now_ns = rl_now_ns(&seg->view, false), word;
	struct rl_image image = {.shape = take(&journal->shape),
				 .window_ns = take(&journal->window_ns),
				 .hint = take(&journal->hint)};
	uint32_t algorithm = rl_shape_algorithm(image.shape), held = 0;
	struct rl_count old;

	/* Read from shared memory: what is divided by must be sound whoever writes there. */
	if (!rl_count_of(&seg->view, slot, NULL, &old) || !image_is_sound(&image))
		return false;
	word = take_word(slot, journal);
	if (rl_count_is(word, rl_head_n(closed)))
		held = rl_count_units(&old, word, now_ns);
	if (algorithm == RL_SLIDING)
		image.shape = shape_for(image.shape, held);
	image.n = next_n(rl_head_n(closed), algorithm, rl_shape_q(image.shape));
	if (algorithm == RL_SLIDING && is_blocked(seg, index, now_ns))
		image.state = RL_MARK_BLOCK;
	if (algorithm == RL_SLIDING)
		window_image(held, now_ns, &image);
	else
		rl_rebase_count_image(&seg->view, rl_count_scale(image.hint), held, &image);
	image.acked = rl_rebase_acked(take(&seg->side[index].acked), rl_head_n(closed), image.n);
	/* Killed here or within: once more from the word in the journal. */
	rl_rebase_write(journal, index, closed, &image, RL_JOURNAL_WHOLE);
	return true;
}

bool rl_rebase_count_slot(struct rl_seg *seg, uint64_t index, uint64_t head,
			  const struct rl_rule *rule)
{
	uint32_t algorithm = rl_rule_algorithm(rule), q = algorithm == RL_SLIDING ? rule->q : 0;
	uint32_t part = rl_hint_part(take(&seg->slot[index].hint));
	struct rl_journal *journal = &seg->live->journal;
	struct rl_image image = {.n = next_n(rl_head_n(head), algorithm, q),
				 .shape = rl_shape(rule->id, algorithm, q),
				 .window_ns = rule->window_ns,
				 .hint = algorithm == RL_SLIDING
						 ? rl_hint(0, 0, part)
						 : rl_count_hint(rule->limit, 0, part)};
	struct rl_count old;
	bool closed;

	if (!rl_count_of(&seg->view, &seg->slot[index], NULL, &old))
		return false;
	put(&journal->taken, 0);
	rl_rebase_write(journal, index, head, &image, RL_JOURNAL_TAKE);
	closed = rl_rebase_close(seg, index, head);
	if (closed && rl_rebase_count_take(seg, index))
		rl_rebase_apply(seg, index);
	rl_rebase_drop(journal);
	return closed;
}
