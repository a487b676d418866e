/*
 * rl_verify_slot.c - one slot: do its words, its tag, its side and its text belong together?
 */
#include <string.h>

#include "shm/rl_count.h"
#include "shm/rl_inflight.h"
#include "shm/rl_now.h"
#include "shm/rl_rebase.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_tags.h"
#include "shm/rl_verify_steps.h"

#define LOOKS 1000 /* each failed one is an admit in this slot */

/* A slot at one moment: its head was the same before and after. */
struct picture {
	uint64_t index, head, shape, window_ns, hint, state, infl, acked;
	struct rl_id id;
	struct rl_key_text text;
};

static uint64_t head_of(const struct rl_view *view, uint64_t index)
{
	/* pairs[slot_head.acq]: as any reader of a slot. */
	return atomic_load_explicit(&view->slot[index].head, memory_order_acquire);
}

/* In this order, so that the head that is read next is no older than the word. */
static uint64_t take(const _Atomic uint64_t *word)
{
	/* pairs[slot_head.acq]: the head is read again after it. */
	return atomic_load_explicit(word, memory_order_acquire);
}

static void take_words(const struct rl_view *view, uint64_t index, struct picture *ret)
{
	const struct rl_slot *slot = &view->slot[index];
	const struct rl_side *side = &view->side[index];

	ret->id.word[0] = take(&slot->id[0]);
	ret->id.word[1] = take(&slot->id[1]);
	ret->shape = take(&slot->shape);
	ret->window_ns = take(&slot->window_ns);
	ret->hint = take(&slot->hint);
	ret->state = take(&slot->state);
	ret->infl = take(&side->infl);
	ret->acked = take(&side->acked);
	for (size_t i = 0; i < RL_TEXT_BYTES / 8; i++)
		ret->text.word[i] = take(&view->text[index].word[i]);
	ret->text.code = rl_acked_text(ret->acked);
}

/* False when the slot was too busy for it. */
static bool take_picture(const struct rl_view *view, uint64_t index, struct picture *ret)
{
	ret->index = index;
	for (int i = 0; i < LOOKS; i++) {
		ret->head = head_of(view, index);
		take_words(view, index, ret);
		if (head_of(view, index) == ret->head)
			return true;
	}
	return false;
}

static uint64_t tag_at(const struct rl_view *view, uint64_t index)
{
	uint64_t word = take(&view->tags[index / RL_LANES].word[index % RL_LANES / 4]);

	return word >> (index % 4 * 16) & 0xffff;
}

static const void *tag_place(const struct rl_view *view, uint64_t index)
{
	return (const char *)&view->tags[index / RL_LANES] + index % RL_LANES * 2;
}

/* Another open slot of this identity behind this one, or RL_NO_SLOT. */
static uint64_t twin_in(const struct rl_view *view, uint64_t bucket, const struct picture *p)
{
	for (uint64_t lane = 0; lane < RL_LANES; lane++) {
		uint64_t other = bucket * RL_LANES + lane, head;

		if (other <= p->index || tag_at(view, other) != rl_tag_of(&p->id))
			continue;
		head = head_of(view, other);
		/* Each was open while the other was looked at, the first one on both sides. */
		if (rl_head_is_open(head) && take(&view->slot[other].id[0]) == p->id.word[0] &&
		    take(&view->slot[other].id[1]) == p->id.word[1] &&
		    head_of(view, p->index) == p->head && head_of(view, other) == head)
			return other;
	}
	return RL_NO_SLOT;
}

static void check_place(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_view *view = verify->view;
	uint64_t bucket[RL_CANDIDATES], tag = tag_at(view, p->index), twin;
	bool mine = false;
	uint32_t count;

	if (head_of(view, p->index) == p->head && tag != rl_tag_of(&p->id))
		rl_verify_say(verify, RL_FAULT_SLOT_TAG, p->index, tag_place(view, p->index), tag,
			      rl_tag_of(&p->id));
	count = rl_tag_candidates(view, &p->id, bucket);
	for (uint32_t i = 0; i < count; i++) {
		mine = mine || bucket[i] == p->index / RL_LANES;
		twin = twin_in(view, bucket[i], p);
		if (twin != RL_NO_SLOT)
			rl_verify_say(verify, RL_FAULT_SLOT_TWICE, p->index,
				      &view->slot[p->index].id, twin, 0);
	}
	if (!mine)
		rl_verify_say(verify, RL_FAULT_SLOT_BUCKET, p->index, &view->slot[p->index].id,
			      p->index / RL_LANES, bucket[0]);
}

static bool is_in_flight(const struct picture *p)
{
	return rl_shape_algorithm(p->shape) == RL_CONCURRENCY;
}

/* Is what it counts by sound? */
static bool check_shape(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_slot *slot = &verify->view->slot[p->index];
	bool counts = rl_shape_algorithm(p->shape) != RL_SLIDING;

	if (is_in_flight(p) && rl_inflight_sound(RL_N_FIRST, p->shape, p->window_ns))
		return true;
	if (!counts && rl_rebase_sound(RL_N_FIRST, p->shape, p->window_ns))
		return true;
	if (counts && rl_rebase_sound_count(RL_N_FIRST, p->shape, p->window_ns) &&
	    rl_count_scale(p->hint) != 0)
		return true;
	if (p->window_ns < RL_WINDOW_MIN_NS || p->window_ns > RL_WINDOW_MAX_NS ||
	    (is_in_flight(p) && p->window_ns != RL_WINDOW_MIN_NS))
		rl_verify_say(verify, RL_FAULT_SLOT_SHAPE, p->index, &slot->window_ns, p->window_ns,
			      RL_WINDOW_MAX_NS);
	else if (counts && !is_in_flight(p) && rl_count_scale(p->hint) == 0)
		rl_verify_say(verify, RL_FAULT_SLOT_SHAPE, p->index, &slot->hint, p->hint, 0);
	else
		rl_verify_say(verify, RL_FAULT_SLOT_SHAPE, p->index, &slot->shape, p->shape, 0);
	return false;
}

static void check_state(struct rl_verify *verify, const struct picture *p)
{
	const void *at = &verify->view->slot[p->index].state;
	uint64_t n = rl_head_n(p->head);

	if (rl_shape_algorithm(p->shape) == RL_SLIDING)
		return; /* a rate's moment, or a mark of any life: a floor ahead of n is none */
	if (is_in_flight(p) ? rl_inflight_is_closing(p->state) : p->state == 0)
		rl_verify_say(verify, RL_FAULT_SLOT_TAKEN, p->index, at, p->head,
			      rl_count_state(n, 0));
	else if (!rl_count_is(p->state, n))
		rl_verify_say(verify, RL_FAULT_SLOT_STATE, p->index, at, p->state,
			      rl_count_state(n, 0));
}

/* The first of the lines that say who holds how many of it; those behind it: rl_verify_hold(). */
static void check_chain(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_slot *slot = &verify->view->slot[p->index];
	uint32_t life, line = rl_hold_first(verify->view, p->state);
	uint64_t owner;

	if (line == RL_HOLD_NONE ||
	    (rl_hold_owner(verify->view, line, &owner, &life) && owner == p->index &&
	     life == (rl_head_n(p->head) & RL_LIFE_MASK)))
		return;
	/* Freed since, with its slot or without it: the link leads nowhere now. */
	if (take(&slot->state) == p->state && rl_hold_first(verify->view, p->state) == line &&
	    head_of(verify->view, p->index) == p->head)
		rl_verify_say(verify, RL_FAULT_SLOT_STATE, p->index, &slot->state, p->state, line);
}

/* Not under head: no stamp of any life of the slot was ahead of the clock when it was written. */
static void check_stamps(struct rl_verify *verify, uint64_t index)
{
	const struct rl_slot *slot = &verify->view->slot[index];

	for (size_t i = 0; i < RL_RING; i++) {
		uint64_t stamp = take(&slot->ring[i]), now_ns = rl_now_ns(verify->view, false);

		if (stamp > now_ns + RL_VERIFY_AHEAD_NS)
			rl_verify_say(verify, RL_FAULT_SLOT_STAMP, index, &slot->ring[i], stamp,
				      now_ns);
	}
}

static void check_side(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_side *side = &verify->view->side[p->index];
	uint64_t n = rl_head_n(p->head);

	if (rl_acked_n(p->acked) > n)
		rl_verify_say(verify, RL_FAULT_SIDE_ACKED, p->index, &side->acked,
			      rl_acked_n(p->acked), n);
	if (p->infl != 0 && ((p->infl & RL_INFL_VALID) == 0 || rl_head_n(p->infl) > n ||
			     (p->acked & RL_TRACKED) == 0))
		rl_verify_say(verify, RL_FAULT_SIDE_INFL, p->index, &side->infl, p->infl, 0);
}

static bool is_zero(const char *bytes, size_t count)
{
	while (count > 0)
		if (bytes[--count] != 0)
			return false;
	return true;
}

/* Of a verbatim key: is it the one whose slot this is? Of a long one only its digest is here. */
static bool is_the_key(const struct rl_view *view, const struct picture *p)
{
	char bytes[RL_TEXT_BYTES];
	size_t len = p->text.code - 1;
	struct rl_id id;

	if (p->text.code == RL_TEXT_LONG)
		return true;
	memcpy(bytes, p->text.word, sizeof(bytes));
	id = is_in_flight(p) ? rl_inflight_id(view, rl_pair(rl_pair_high(p->shape), 0), bytes, len)
			     : rl_hash_key(view->hash_key, rl_pair_high(p->shape), bytes, len);
	return memcmp(&id, &p->id, sizeof(id)) == 0 && is_zero(bytes + len, sizeof(bytes) - len);
}

static void check_text(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_view *view = verify->view;
	uint64_t part = p->hint & 0xff, wanted;

	if (p->text.code < 1 || p->text.code > RL_TEXT_LONG) {
		rl_verify_say(verify, RL_FAULT_TEXT, p->index, &view->side[p->index].acked,
			      p->text.code, RL_TEXT_LONG);
		return;
	}
	if (!is_the_key(view, p)) {
		rl_verify_say(verify, RL_FAULT_TEXT_KEY, p->index, &view->text[p->index],
			      p->id.word[0], 0);
		return;
	}
	wanted = 1 + rl_key_part(rl_pair_high(p->shape), &p->text);
	if (part != wanted)
		rl_verify_say(verify, RL_FAULT_SLOT_PART, p->index, &view->slot[p->index].hint,
			      part, wanted);
}

static void check_open(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_slot *slot = &verify->view->slot[p->index];

	if (p->id.word[0] == 0 || p->id.word[1] == 0)
		rl_verify_say(verify, RL_FAULT_SLOT_ID, p->index, &slot->id, 0, 1);
	else
		check_place(verify, p);
	if (!check_shape(verify, p))
		return;
	check_state(verify, p);
	if (is_in_flight(p))
		check_chain(verify, p);
	check_side(verify, p);
	check_text(verify, p);
}

static uint64_t words_left(const struct picture *p)
{
	uint64_t all = p->id.word[0] | p->id.word[1] | p->shape | p->window_ns | p->hint |
		       p->state | p->infl | p->acked;

	for (size_t i = 0; i < RL_TEXT_BYTES / 8; i++)
		all |= p->text.word[i];
	return all;
}

static void check_free(struct rl_verify *verify, const struct picture *p)
{
	const struct rl_view *view = verify->view;
	uint64_t tag = tag_at(view, p->index), left = words_left(p);

	if (head_of(view, p->index) != p->head)
		return; /* claimed: what was seen is the claimant's */
	if (tag != 0)
		rl_verify_say(verify, RL_FAULT_SLOT_LEFT, p->index, tag_place(view, p->index), tag,
			      0);
	else if (left != 0)
		rl_verify_say(verify, RL_FAULT_SLOT_LEFT, p->index, &view->slot[p->index].id, left,
			      0);
}

/* Does the journal know of this slot, which is closed for a re-base? */
static bool in_journal(const struct rl_view *view, const struct picture *p)
{
	const struct rl_journal *journal = &view->live->journal;
	/* pairs[journal.acq]: an entry that counts is whole. */
	uint64_t valid = atomic_load_explicit(&journal->valid, memory_order_acquire);

	return (valid == 1 || valid == 2) && rl_verify_word(&journal->slot) == p->index &&
	       rl_verify_word(&journal->closed_head) == p->head;
}

static void check_closed(struct rl_verify *verify, const struct picture *p)
{
	const void *at = &verify->view->slot[p->index].head;

	if (rl_head_is(p->head, RL_KIND_FREE))
		check_free(verify, p);
	else if (rl_head_is(p->head, RL_KIND_CLAIM) || rl_head_is(p->head, RL_KIND_TENT) ||
		 rl_head_is(p->head, RL_KIND_SPOILED) || rl_head_is(p->head, RL_KIND_WIPE))
		rl_verify_say(verify, RL_FAULT_SLOT_CLAIM, p->index, at, p->head, 0);
	else if (rl_head_is(p->head, RL_KIND_REBASE) && in_journal(verify->view, p))
		rl_verify_say(verify, RL_FAULT_SLOT_REBASE, p->index, at, p->head, 0);
	else if (head_of(verify->view, p->index) != p->head)
		return; /* it was re-based: the journal has forgotten it */
	else if (rl_head_is(p->head, RL_KIND_REBASE))
		rl_verify_say(verify, RL_FAULT_SLOT_CLOSED, p->index, at, p->head, 0);
	else
		rl_verify_say(verify, RL_FAULT_SLOT_KIND, p->index, at, p->head & RL_HEAD_LOW, 0);
}

void rl_verify_slot(struct rl_verify *verify, uint64_t index)
{
	const struct rl_view *view = verify->view;
	bool is_free;
	struct picture p;

	verify->slots += (verify->asked == NULL);
	if (!take_picture(view, index, &p)) {
		verify->busy += (verify->asked == NULL);
		return;
	}
	is_free = rl_head_is(p.head, RL_KIND_FREE);
	verify->used += verify->asked == NULL && !is_free;
	if (rl_head_n(p.head) < RL_N_FIRST || (is_free && rl_head_n(p.head) > RL_N_REBASE)) {
		rl_verify_say(verify, RL_FAULT_SLOT_COUNT, index, &view->slot[index].head,
			      rl_head_n(p.head), is_free ? RL_N_REBASE : RL_N_FIRST);
		return;
	}
	if (!rl_head_is_open(p.head)) {
		check_closed(verify, &p);
		return;
	}
	check_stamps(verify, index);
	check_open(verify, &p);
}
