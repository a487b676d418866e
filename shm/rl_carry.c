#include "shm/rl_carry.h"

#include <stddef.h>

#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_lists.h"
#include "shm/rl_member.h"
#include "shm/rl_rebase.h"
#include "shm/rl_rules.h"
#include "shm/rl_saved.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define CREDIT_TRIES 4096 /* each failed one is an admit, of a unit that the credit had */

/* Relaxed, both: what is written nobody else has yet; what is read, see who calls. */
static uint64_t get(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static void copy_words(const void *from, void *to, size_t bytes)
{
	const _Atomic uint64_t *read = from;
	_Atomic uint64_t *write = to;

	for (size_t i = 0; i < bytes / sizeof(*read); i++)
		set(&write[i], get(&read[i]));
}

void rl_carry_fleet(struct rl_seg *old, struct rl_seg *seg)
{
	const size_t first = offsetof(struct rl_fleet, host);

	/* A check that has read the time of its lease before may spend a unit, until its slot's
	 * credit is taken away. */
	for (uint32_t p = 0; p < RL_PARTS; p++)
		set(&old->fleet->part[p].lease_until_ns, 0);
	set(&seg->fleet->hosts, get(&old->fleet->hosts));
	copy_words((const char *)old->fleet + first, (char *)seg->fleet + first,
		   sizeof(struct rl_fleet) - first);
}

/* Into the first line, which is nobody's own. */
static void carry_counts(const struct rl_view *old, uint32_t id, struct rl_counts *counts)
{
	struct rl_rule_totals was;

	for (uint32_t r = 0; r < RL_RULES_MAX; r++) {
		if (rl_member_rule_at(old, r) != id)
			continue;
		rl_member_rule_totals(old, r, id, &was);
		rl_member_count(&counts->allowed, was.allowed);
		rl_member_count(&counts->limited, was.limited);
		rl_member_count(&counts->errors, was.errors);
		rl_member_count(&counts->shadowed, was.shadowed);
		rl_member_count(&counts->near, was.near);
		rl_member_count(&counts->pooled, was.pooled);
		rl_member_count(&counts->refunded, was.refunded);
		return;
	}
}

static void carry_totals(const struct rl_view *old, struct rl_member *line)
{
	struct rl_totals was;

	rl_member_totals(old, &was);
	rl_member_count(&line->errors, was.errors);
	rl_member_count(&line->full, was.full);
	rl_member_count(&line->mended, was.mended);
	rl_member_count(&line->claims, was.claims);
	for (uint32_t b = 0; b < RL_LATENCY_BUCKETS; b++)
		rl_member_count(&line->latency[b], was.latency[b]);
}

void rl_carry_rules(const struct rl_view *old, struct rl_seg *seg)
{
	static struct rl_named_rule now[RL_RULES_MAX];
	struct rl_rule was;
	uint64_t generation;
	int count = rl_rules_list(&seg->view, now, &generation);

	carry_totals(old, &seg->member[0]);
	for (int i = 0; i < count; i++) {
		uint32_t id = now[i].rule.id;

		carry_counts(old, id, &seg->member[0].rule[now[i].index]);
		if (rl_rules_read(old, rl_pair(id, 0), &was) == 0 && (was.fleet & RL_RULE_OFF) != 0)
			rl_rules_switch(seg, id, false);
	}
	if (get(&old->live->off_all) == 1)
		rl_rules_switch(seg, 0, false);
}

static void text_of(const struct rl_view *view, uint64_t index, struct rl_key_text *ret)
{
	/* Relaxed: under a head that was acquired. */
	ret->code = rl_acked_text(get(&view->side[index].acked));
	for (size_t i = 0; i < RL_TEXT_BYTES / 8; i++)
		ret->word[i] = get(&view->text[index].word[i]);
}

static uint64_t head_of(const struct rl_view *view, uint64_t index)
{
	/* pairs[slot_head.acq]: as any reader of a slot. */
	return atomic_load_explicit(&view->slot[index].head, memory_order_acquire);
}

enum rl_carried rl_carry_kind(const struct rl_view *old, uint64_t index)
{
	struct rl_key_text text;

	if (!rl_head_is_open(head_of(old, index)))
		return RL_CARRY_NONE;
	text_of(old, index, &text);
	return rl_pool_is_text(&text) ? RL_CARRY_POOL : RL_CARRY_KEY;
}

/* The head after which nothing is spent there by credit; 0: it is closed. */
static uint64_t take_credit(struct rl_seg *old, uint64_t index)
{
	uint64_t head = head_of(&old->view, index);

	for (int i = 0; i < CREDIT_TRIES && rl_head_is_open(head); i++) {
		if (rl_head_credit(head) == 0)
			return head;
		/* pairs[slot_head.rel]: as any CAS of head. */
		if (atomic_compare_exchange_weak_explicit(
			    &old->slot[index].head, &head, rl_head_with_credit(head, 0),
			    memory_order_acq_rel, memory_order_acquire))
			return rl_head_with_credit(head, 0);
	}
	return 0;
}

/* Killed or not: all in a segment that nobody has. The claim has opened the slot a moment ago. */
static void put_shared(const struct rl_seg *old, uint64_t from, uint64_t head, struct rl_seg *seg,
		       uint64_t to)
{
	const struct rl_slot *was = &old->slot[from];
	struct rl_slot *slot = &seg->slot[to];

	/* Stamps are read after the count: they are its events', or younger ones. */
	for (uint32_t i = 0; i < RL_RING; i++)
		set(&slot->ring[i],
		    /* pairs[ring_stamp.acq]: no older than those of the events that head counts. */
		    atomic_load_explicit(&was->ring[i], memory_order_acquire));
	set(&slot->hint, get(&was->hint));
	set(&slot->state, get(&was->state));
	set(&seg->side[to].infl, get(&old->side[from].infl));
	set(&seg->side[to].acked, get(&old->side[from].acked));
	set(&seg->side[to].total, get(&old->side[from].total));
	atomic_store_explicit(&seg->side[to].debt,
			      atomic_load_explicit(&old->side[from].debt, memory_order_relaxed),
			      memory_order_relaxed);
	set(&slot->head, head);
	rl_dirty_mark(seg, to);
}

/* Of a rule that hosts share, or did. All words of the slot, as they are. */
static int carry_shared(struct rl_seg *old, uint64_t index, struct rl_seg *seg)
{
	const struct rl_slot *slot = &old->slot[index];
	uint64_t head = take_credit(old, index), shape = get(&slot->shape), to, opened;
	struct rl_claim claim = {.rule_id = rl_pair_high(shape),
				 .q = rl_shape_q(shape),
				 .window_ns = get(&slot->window_ns),
				 .algorithm = RL_SLIDING,
				 .hint = get(&slot->hint)};
	struct rl_id id = {{get(&slot->id[0]), get(&slot->id[1])}};
	int got;

	text_of(&old->view, index, &claim.text);
	if (head == 0 || rl_shape_algorithm(shape) != RL_SLIDING || claim.text.code == 0 ||
	    id.word[0] == 0 || id.word[1] == 0 ||
	    !rl_rebase_sound(rl_head_n(head), shape, claim.window_ns))
		return 0;
	got = rl_table_claim(seg, &id, &claim);
	if (got != 1)
		return got;
	to = rl_table_find(&seg->view, &id, &opened);
	if (to == RL_NO_SLOT)
		return RL_E_BUSY;
	put_shared(old, index, head, seg, to);
	return 1;
}

/* A word fills by its own scale until it is re-based: so do what the last agent would have. */
static void follow_rule(struct rl_seg *old, uint64_t index, const struct rl_rule *was)
{
	uint64_t head = head_of(&old->view, index);
	struct rl_rule rule = *was;
	uint32_t q;

	if (rl_shape_algorithm(get(&old->slot[index].shape)) == RL_SLIDING)
		return;
	rl_lists_apply_slot(&old->view, index, &rule);
	if (rl_head_is_open(head) &&
	    rl_rebase_wanted(&old->view, &old->slot[index], head, &rule, rl_clock_precise_ns(), &q))
		rl_rebase_slot(old, index, head, &rule, q);
}

static int carry_local(struct rl_seg *old, uint64_t index, struct rl_seg *seg)
{
	const struct rl_saved_terms terms = {.now_ns = rl_clock_precise_ns(), .same_hash = true};
	struct rl_saved saved;
	int got = rl_saved_take(&old->view, index, &saved);

	return got == 1 ? rl_saved_put(seg, &saved, &terms) : got;
}

int rl_carry_slot(struct rl_seg *old, uint64_t index, struct rl_seg *seg)
{
	uint64_t head = head_of(&old->view, index);
	uint32_t id = rl_pair_high(get(&old->slot[index].shape));
	struct rl_rule was, now;

	if (!rl_head_is_open(head) || rl_rules_read(&seg->view, rl_pair(id, 0), &now) != 0 ||
	    rl_rules_read(&old->view, rl_pair(id, 0), &was) != 0)
		return 0;
	if (rl_rule_in_flight(&was) || rl_rule_in_flight(&now))
		return 0; /* who holds them has a lock in the old one */
	if (!rl_rule_is_local(&was) || !rl_rule_is_local(&now))
		return carry_shared(old, index, seg);
	follow_rule(old, index, &was);
	return carry_local(old, index, seg);
}
