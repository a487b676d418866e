#include "agent/sync/slot.h"

#include "agent/sync/word.h"
#include "shm/rl_clock.h"
#include "shm/rl_rebase.h"
#include "shm/rl_side.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define HEAD_TRIES  1024    /* each failure is a worker's admit on this one slot */
#define GRANT_TRIES 1000000 /* likewise */

/* In program order for whoever maps the segment after a kill. */
static void record(_Atomic uint64_t *word, uint64_t value)
{
	/* pairs[side.rel]: the steps before this one are done when it is seen. */
	atomic_store_explicit(word, value, memory_order_release);
}

static uint64_t head_of(const struct rl_view *view, uint64_t index)
{
	/* pairs[slot_head.acq]: as any reader of a slot. */
	return atomic_load_explicit(&view->slot[index].head, memory_order_acquire);
}

static bool swap_head(struct rl_seg *seg, uint64_t index, uint64_t *head, uint64_t next)
{
	/* pairs[slot_head.rel]: a worker that finds the credit finds what was written before. */
	return atomic_compare_exchange_weak_explicit(&seg->slot[index].head, head, next,
						     memory_order_acq_rel, memory_order_acquire);
}

/* Lower the credit; returns the head that says so, or 0 when the slot is closed or too busy. */
static uint64_t lower_credit(struct rl_seg *seg, uint64_t index, uint32_t keep,
			     uint32_t *ret_before)
{
	uint64_t head = head_of(&seg->view, index);

	for (int i = 0; i < HEAD_TRIES && rl_head_is_open(head); i++) {
		*ret_before = rl_head_credit(head);
		if (*ret_before <= keep)
			return head;
		if (swap_head(seg, index, &head, rl_head_with_credit(head, keep)))
			return rl_head_with_credit(head, keep);
	}
	return 0;
}

/*
 * Its group size, or 0 when q does not divide, or n and the window are not what a worker would
 * accept. Read once: what is checked and what is divided by must be the same.
 */
static uint32_t sound_q(const struct rl_view *view, uint64_t index, uint64_t head)
{
	uint64_t shape = word_of(&view->slot[index].shape);

	if (!rl_rebase_sound(rl_head_n(head), shape, word_of(&view->slot[index].window_ns)))
		return 0;
	return rl_pair_low(shape);
}

static uint64_t used_in_window(const struct rl_view *view, uint64_t index, uint64_t head,
			       uint32_t q, const struct rl_rule *rule)
{
	const struct rl_slot *slot = &view->slot[index];
	bool coarse = rl_clock_is_coarse(word_of(&slot->window_ns));
	struct rl_window_terms terms = {
		.limit = rl_window_limit(RL_LIMIT_MAX, q),
		.q = q,
		.span_ns = rule->window_ns + rl_clock_hold_ns(coarse, view->tick_ns),
		.counted = true,
	};
	struct rl_window_answer answer;

	rl_window_look(slot, head, &terms, 1, rl_clock_now_ns(coarse), &answer);
	return terms.limit - answer.remaining;
}

static void track(struct rl_seg *seg, uint64_t index, uint64_t head, uint32_t q,
		  const struct rl_rule *rule)
{
	uint64_t acked = word_of(&seg->side[index].acked), n = rl_head_n(head);
	uint64_t held = used_in_window(&seg->view, index, head, q, rule);
	uint64_t from = rl_acked_n(acked);

	if (from < n - held || from > n)
		from = n - held;
	record(&seg->side[index].acked, rl_acked(from, true, rl_acked_kept(acked)));
}

bool sync_slot_take(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule, uint32_t keep,
		    uint32_t *ret_credit_before)
{
	struct rl_side *side = &seg->side[index];
	uint64_t head;
	uint32_t q;

	if (word_of(&side->infl) != 0)
		return false;
	head = lower_credit(seg, index, keep, ret_credit_before);
	q = head == 0 ? 0 : sound_q(&seg->view, index, head);
	if (q == 0)
		return false;
	/* More acknowledged than was ever admitted is damage: it would not be reported again. */
	if ((word_of(&side->acked) & RL_TRACKED) == 0 ||
	    rl_acked_n(word_of(&side->acked)) > rl_head_n(head))
		track(seg, index, head, q, rule);
	record(&side->infl, (head ^ RL_HEAD_GRANT) | RL_INFL_VALID);
	return true;
}

/* The slot's own clock, and its group size; 0 in a damaged one. */
struct slot_clock {
	uint64_t now_ns;
	uint32_t q;
};

static struct slot_clock clock_of(const struct rl_slot *slot)
{
	return (struct slot_clock){
		.now_ns = rl_clock_now_ns(rl_clock_is_coarse(word_of(&slot->window_ns))),
		.q = rl_pair_low(word_of(&slot->shape)),
	};
}

/*
 * How long ago the last event of this group was admitted. Never too long: a millisecond less,
 * both ends on the slot's own clock; a cell that has been used again is younger.
 */
static uint64_t group_age_ms(const struct rl_slot *slot, uint64_t group, uint64_t now_ns)
{
	/* pairs[ring_stamp.acq]: at least the stamp of each counted event of the group. */
	uint64_t stamp = atomic_load_explicit(&slot->ring[group % RL_RING], memory_order_acquire);
	uint64_t age = (int64_t)(now_ns - stamp) > 0 ? (now_ns - stamp) / 1000000 : 0;

	return age > 0 ? age - 1 : 0;
}

static uint64_t age_ms(const struct rl_view *view, uint64_t index, uint64_t n)
{
	const struct rl_slot *slot = &view->slot[index];
	struct slot_clock clock = clock_of(slot);

	return clock.q == 0 || n == 0 ? 0 : group_age_ms(slot, (n - 1) / clock.q, clock.now_ns);
}

uint32_t sync_slot_pieces(const struct rl_view *view, uint64_t index, uint64_t window_ms,
			  struct sync_piece ret[SYNC_PIECES_MAX])
{
	const struct rl_slot *slot = &view->slot[index];
	uint64_t end = rl_head_n(word_of(&view->side[index].infl));
	uint64_t begin = rl_acked_n(word_of(&view->side[index].acked)), last, first;
	struct slot_clock clock = clock_of(slot);
	uint32_t count = 0;

	if (clock.q == 0 || begin >= end)
		return 0;
	last = (end - 1) / clock.q;
	first = begin / clock.q;
	if (last - first >= RL_RING)
		first = last - (RL_RING - 1);
	for (uint64_t g = first; g <= last; g++) {
		uint64_t to = (g + 1) * clock.q < end ? (g + 1) * clock.q : end;
		struct sync_piece piece = {to - begin, group_age_ms(slot, g, clock.now_ns)};

		begin = to;
		if (piece.age_ms < window_ms)
			ret[count++] = piece;
	}
	return count;
}

/* Where the oldest group of the ring begins that is still in the window. */
static uint64_t window_begins(const struct rl_slot *slot, uint64_t n, uint32_t q,
			      uint64_t window_ms)
{
	struct slot_clock clock = clock_of(slot);
	uint64_t group = (n - 1) / q + 1;

	for (unsigned i = 0; i < RL_RING && group > 0; i++, group--)
		if (group_age_ms(slot, group - 1, clock.now_ns) >= window_ms)
			break;
	return group * q;
}

uint64_t sync_slot_untell(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule,
			  uint64_t units)
{
	uint64_t head = head_of(&seg->view, index), acked = word_of(&seg->side[index].acked);
	uint64_t n = rl_head_n(head), told = rl_acked_n(acked), from;
	uint32_t q = rl_head_is_open(head) ? sound_q(&seg->view, index, head) : 0;

	if (q == 0 || n == 0 || word_of(&seg->side[index].infl) != 0 || (acked & RL_TRACKED) == 0 ||
	    told > n)
		return 0;
	from = window_begins(&seg->slot[index], n, q, rule->window_ns / 1000000);
	if (told > units && told - units > from)
		from = told - units;
	if (from >= told)
		return 0;
	/* One word: a kill leaves it told or untold. */
	record(&seg->side[index].acked, rl_acked(from, true, rl_acked_text(acked)));
	return told - from;
}

bool sync_slot_infl(const struct rl_view *view, uint64_t index, struct sync_item *ret)
{
	uint64_t infl = word_of(&view->side[index].infl);
	uint64_t n = rl_head_n(infl), acked = rl_acked_n(word_of(&view->side[index].acked));

	if ((infl & RL_INFL_VALID) == 0)
		return false;
	ret->tag = index;
	ret->used = n > acked ? n - acked : 0;
	ret->age_ms = age_ms(view, index, n);
	ret->credit = rl_head_credit(infl);
	return true;
}

/* Step 1 of apply. A grant that finds no way in is not lost: the next call restates the credit. */
static void add_grant(struct rl_seg *seg, uint64_t index, uint64_t infl, uint32_t grant)
{
	uint64_t head = head_of(&seg->view, index);

	for (int i = 0; i < GRANT_TRIES; i++) {
		uint64_t credit = (uint64_t)rl_head_credit(head) + grant;

		if (!rl_head_is_open(head) || ((head ^ infl) & RL_HEAD_GRANT) == 0)
			return;
		if (credit > RL_CREDIT_MAX)
			credit = RL_CREDIT_MAX;
		if (swap_head(seg, index, &head,
			      rl_head_with_credit(head, (uint32_t)credit) ^ RL_HEAD_GRANT))
			return;
	}
}

void sync_slot_apply(struct rl_seg *seg, uint64_t index, uint32_t grant)
{
	struct rl_side *side = &seg->side[index];
	uint64_t infl = word_of(&side->infl), acked = word_of(&side->acked);

	if ((infl & RL_INFL_VALID) == 0)
		return;
	if (grant > 0)
		add_grant(seg, index, infl, grant);
	/* Killed here: the grant bit has been turned over, the grant is not added again. */
	record(&side->acked, rl_acked(rl_head_n(infl), true, rl_acked_kept(acked)));
	/* Killed here: the call is sent again with nothing used, and answered from the record. */
	record(&side->infl, 0);
}

void sync_slot_forget(struct rl_seg *seg, uint64_t index)
{
	record(&seg->side[index].infl, 0);
}

uint32_t sync_slot_take_credit(struct rl_seg *seg, uint64_t index)
{
	uint32_t before = 0;

	return lower_credit(seg, index, 0, &before) != 0 ? before : 0;
}

void sync_slot_lower_credit(struct rl_seg *seg, uint64_t index, uint32_t keep)
{
	uint32_t unused;

	lower_credit(seg, index, keep, &unused);
}

void sync_slot_retire(struct rl_seg *seg, uint64_t index)
{
	uint64_t acked = word_of(&seg->side[index].acked);

	if (rl_head_credit(head_of(&seg->view, index)) > 0)
		sync_slot_take_credit(seg, index);
	if (word_of(&seg->side[index].infl) != 0) /* of one that is not tracked: damage */
		record(&seg->side[index].infl, 0);
	if ((acked & RL_TRACKED) == 0)
		return;
	record(&seg->side[index].acked, acked & ~RL_TRACKED);
}

uint64_t sync_slot_unsent(const struct rl_view *view, uint64_t index)
{
	uint64_t n = rl_head_n(head_of(view, index));
	uint64_t acked = rl_acked_n(word_of(&view->side[index].acked));

	return n > acked ? n - acked : 0;
}

bool sync_slot_owes(const struct rl_view *view, uint64_t index, uint64_t window_ns)
{
	uint64_t head = head_of(view, index);

	return rl_head_is_open(head) && sync_slot_unsent(view, index) != 0 &&
	       rl_shape_algorithm(word_of(&view->slot[index].shape)) == RL_SLIDING &&
	       sound_q(view, index, head) != 0 &&
	       age_ms(view, index, rl_head_n(head)) < window_ns / 1000000;
}
