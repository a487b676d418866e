#include "shm/rl_rebase.h"

#include <string.h>

#include "shm/rl_clock.h"
#include "shm/rl_count.h"
#include "shm/rl_mark.h"
#include "shm/rl_now.h"
#include "shm/rl_rebase_image.h"
#include "shm/rl_side.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

static uint64_t later_of(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) > 0 ? a : b;
}

/* Youngest stamp of the old groups first .. last, of those the ring still remembers. */
static uint64_t youngest(const struct rl_groups *old, uint64_t first, uint64_t last)
{
	uint64_t newest = (old->n - 1) / old->q, stamp = 0;

	if (newest >= RL_RING && first < newest - (RL_RING - 1))
		first = newest - (RL_RING - 1);
	if (last > newest)
		last = newest;
	for (uint64_t g = first, left = RL_RING; left > 0 && g <= last; g++, left--)
		stamp = later_of(stamp, old->ring[g % RL_RING]);
	return stamp;
}

uint64_t rl_rebase_next_n(uint64_t n, uint32_t q)
{
	uint64_t next = (n / q + 2) * q;

	return next < RL_N_REBASE ? next : (RL_N_FIRST / q + 1 + RL_RING) * q;
}

void rl_rebase_plan(const struct rl_groups *old, uint32_t new_q, uint64_t later_ns,
		    struct rl_groups *ret)
{
	uint64_t newest_event = old->n - 1;
	uint64_t covered = (uint64_t)new_q * RL_RING; /* events the new ring tells apart */
	uint64_t n = rl_rebase_next_n(old->n + old->q, new_q), stamp; /* refunds: rl_word.h */

	ret->n = n;
	ret->q = new_q;
	stamp = youngest(old, 0, (newest_event - covered) / old->q);
	for (uint32_t back = RL_RING; back-- > 0;) { /* oldest new group first */
		uint64_t oldest = newest_event - ((uint64_t)back + 1) * new_q + 1;
		uint64_t youngest_event = newest_event - (uint64_t)back * new_q;

		stamp = later_of(stamp, youngest(old, oldest / old->q, youngest_event / old->q));
		ret->ring[(n / new_q - 1 - back) % RL_RING] = stamp == 0 ? 0 : stamp + later_ns;
	}
}

bool rl_rebase_sound(uint64_t n, uint64_t shape, uint64_t window_ns)
{
	uint32_t q = rl_pair_low(shape);

	return n >= RL_N_FIRST && n <= RL_N_MAX && q >= 1 && q <= RL_Q_MAX &&
	       window_ns >= RL_WINDOW_MIN_NS && window_ns <= RL_WINDOW_MAX_NS;
}

/* What was said to be forgotten: as old as can be. The floor begins a group. */
static void forget_below(struct rl_groups *groups, uint64_t floor)
{
	uint64_t newest = (groups->n - 1) / groups->q;

	for (uint32_t back = 0; floor != 0 && back < RL_RING; back++)
		if (newest - back < floor / groups->q)
			groups->ring[(newest - back) % RL_RING] = 0;
}

/*
 * Stamps that nobody counted (rl_window.h) would be carried as all that the ring can hold: no group
 * ended later than the one after it.
 */
static void drop_uncounted(struct rl_groups *groups)
{
	uint64_t newest = (groups->n - 1) / groups->q;

	for (uint32_t back = 1; back < RL_RING; back++) {
		uint64_t after = groups->ring[(newest - back + 1) % RL_RING];
		uint64_t *at = &groups->ring[(newest - back) % RL_RING];

		if ((int64_t)(*at - after) > 0)
			*at = after;
	}
}

/* False when the words are damaged: nothing may be divided by them or looped up to them. */
static bool read_groups(const struct rl_slot *slot, uint64_t head, uint64_t mark,
			struct rl_groups *ret)
{
	uint64_t shape = take(&slot->shape);

	if (!rl_rebase_sound(rl_head_n(head), shape, take(&slot->window_ns)))
		return false;
	ret->n = rl_head_n(head);
	ret->q = rl_pair_low(shape);
	for (uint32_t i = 0; i < RL_RING; i++)
		/* pairs[ring_stamp.acq]: stamps of all counted events; a later one fails our CAS.
		 */
		ret->ring[i] = atomic_load_explicit(&slot->ring[i], memory_order_acquire);
	forget_below(ret, rl_mark_floor(mark, ret->n));
	drop_uncounted(ret);
	return true;
}

/* Events from the oldest group that is still held to the newest: what must not be forgotten. */
static uint64_t events_held(const struct rl_groups *groups, uint64_t span_ns, uint64_t now_ns)
{
	uint64_t newest = (groups->n - 1) / groups->q;
	uint32_t back = newest < RL_RING - 1 ? (uint32_t)newest : RL_RING - 1;

	while (back > 0 &&
	       (int64_t)(now_ns - groups->ring[(newest - back) % RL_RING]) >= (int64_t)span_ns)
		back--;
	if ((int64_t)(now_ns - groups->ring[(newest - back) % RL_RING]) >= (int64_t)span_ns)
		return 0;
	return groups->n - (newest - back) * groups->q;
}

bool rl_rebase_wanted(const struct rl_view *view, const struct rl_slot *slot, uint64_t head,
		      const struct rl_rule *rule, uint64_t now_ns, uint32_t *ret_q)
{
	uint64_t window_ns = take(&slot->window_ns), span_ns;
	struct rl_groups groups;

	*ret_q = rule->q;
	if (rl_shape_algorithm(take(&slot->shape)) != RL_SLIDING)
		return rl_rebase_count_wanted(view, slot, rule);
	if (!read_groups(slot, head, rl_mark_of(slot), &groups))
		return false;
	if (rl_rule_algorithm(rule) != RL_SLIDING)
		return true;
	span_ns = (window_ns > rule->window_ns ? window_ns : rule->window_ns) +
		  rl_hold_ns(view, true);
	if (rule->q < groups.q &&
	    events_held(&groups, span_ns, now_ns) > (uint64_t)rule->q * (RL_RING - 1))
		*ret_q = groups.q;
	return *ret_q != groups.q || window_ns != rule->window_ns || groups.n > RL_N_REBASE;
}

uint64_t rl_rebase_acked(uint64_t acked, uint64_t old_n, uint64_t new_n)
{
	uint64_t behind = old_n > rl_acked_n(acked) ? old_n - rl_acked_n(acked) : 0;

	return rl_acked(behind < new_n ? new_n - behind : new_n, (acked & RL_TRACKED) != 0,
			rl_acked_kept(acked));
}

void rl_rebase_write(struct rl_journal *journal, uint64_t index, uint64_t head,
		     const struct rl_image *image, uint64_t valid)
{
	put(&journal->slot, index);
	put(&journal->closed_head, rl_head_closed(rl_head_n(head), RL_KIND_REBASE));
	put(&journal->open_head, rl_head_open(image->n));
	put(&journal->shape, image->shape);
	put(&journal->window_ns, image->window_ns);
	put(&journal->acked, image->acked);
	put(&journal->state, image->state);
	put(&journal->hint, image->hint);
	for (uint32_t i = 0; i < RL_RING; i++)
		put(&journal->ring[i], image->ring[i]);
	/* pairs[journal.rel]: the entry is whole before it counts. */
	atomic_store_explicit(&journal->valid, valid, memory_order_release);
}

void rl_rebase_apply(struct rl_seg *seg, uint64_t index)
{
	struct rl_journal *journal = &seg->live->journal;
	struct rl_slot *slot = &seg->slot[index];

	put(&seg->side[index].acked, take(&journal->acked));
	/* pairs[slot_shape.rel]: not seen before the close, by a check that read head earlier. */
	atomic_store_explicit(&slot->shape, take(&journal->shape), memory_order_release);
	put(&slot->window_ns, take(&journal->window_ns));
	/* pairs[slot_state.rel]: nor this one, by who tidies or blocks (rl_mark.c). */
	atomic_store_explicit(&slot->state, take(&journal->state), memory_order_release);
	put(&slot->hint, take(&journal->hint));
	for (uint32_t i = 0; i < RL_RING; i++)
		/* pairs[ring_stamp.rel]: likewise. */
		atomic_store_explicit(&slot->ring[i], take(&journal->ring[i]),
				      memory_order_release);
	/* pairs[slot_head.rel]: the new words are complete before the slot opens. */
	atomic_store_explicit(&slot->head, take(&journal->open_head), memory_order_release);
}

void rl_rebase_drop(struct rl_journal *journal)
{
	/* pairs[journal.rel]: the slot is open again before its entry is gone. */
	atomic_store_explicit(&journal->valid, 0, memory_order_release);
}

bool rl_rebase_close(struct rl_seg *seg, uint64_t index, uint64_t head)
{
	return atomic_compare_exchange_strong_explicit(
		&seg->slot[index].head, &head, take(&seg->live->journal.closed_head),
		/* pairs[slot_head.acq]: nothing of the new words is written before the close.
		 * seq_cst: for close_unmarked(). */
		memory_order_seq_cst, memory_order_relaxed);
}

/* The slot's groups in groups of q. */
static void regroup(const struct rl_seg *seg, uint64_t index, const struct rl_groups *old,
		    const struct rl_rule *rule, uint32_t q, uint64_t mark, struct rl_image *ret)
{
	bool was_coarse = rl_clock_is_coarse(take(&seg->slot[index].window_ns));
	uint64_t stays = mark & (RL_MARK_BLOCK | RL_MARK_AUDIT);
	bool to_precise = was_coarse && !rl_clock_is_coarse(rule->window_ns) && !seg->view.given;
	struct rl_groups new;

	/* Coarse stamps may be two ticks old already; the precise clock holds them no longer. */
	rl_rebase_plan(old, q, to_precise ? 2 * seg->view.tick_ns : 0, &new);
	*ret = (struct rl_image){.n = new.n,
				 .shape = rl_shape(rule->id, RL_SLIDING, q),
				 .window_ns = rule->window_ns,
				 .state = rl_rule_is_local(rule) ? stays : 0,
				 .hint = take(&seg->slot[index].hint)};
	memcpy(ret->ring, new.ring, sizeof(ret->ring));
}

/* What the slot's groups hold, as the word of another algorithm. */
static void recount(const struct rl_seg *seg, uint64_t index, const struct rl_groups *old,
		    const struct rl_rule *rule, struct rl_image *ret)
{
	uint64_t now_ns = rl_now_ns(&seg->view, false);
	uint64_t span_ns = take(&seg->slot[index].window_ns) + rl_hold_ns(&seg->view, true);
	uint64_t held = events_held(old, span_ns, now_ns);

	*ret = (struct rl_image){.n = rl_rebase_next_n(old->n + old->q, 1),
				 .shape = rl_shape(rule->id, rl_rule_algorithm(rule), 0),
				 .window_ns = rule->window_ns,
				 .hint = take(&seg->slot[index].hint)};
	rl_rebase_count_image(&seg->view, rule->limit,
			      held < UINT32_MAX ? (uint32_t)held : UINT32_MAX, ret);
}

/*
 * Close the slot for the journal's entry, unless it was marked since the mark was read: who marks a
 * slot looks at its head afterwards, and whoever closes one at its mark; so one sees the other.
 * Killed in between: the next agent writes the entry, and who marked it was told RL_E_BUSY or
 * tries again.
 */
static bool close_unmarked(struct rl_seg *seg, uint64_t index, uint64_t head, uint64_t mark)
{
	if (!rl_rebase_close(seg, index, head))
		return false;
	/* seq_cst: after the close, in the one order that who marks goes by. */
	if (atomic_load_explicit(&seg->slot[index].state, memory_order_seq_cst) == mark)
		return true;
	/* pairs[slot_head.rel]: nothing of it has changed. */
	atomic_store_explicit(&seg->slot[index].head, head, memory_order_release);
	return false;
}

static bool replace(struct rl_seg *seg, uint64_t index, uint64_t head, uint64_t mark,
		    const struct rl_image *new)
{
	struct rl_journal *journal = &seg->live->journal;
	bool closed;

	rl_rebase_write(journal, index, head, new, RL_JOURNAL_WHOLE);
	closed = close_unmarked(seg, index, head, mark);
	if (closed)
		rl_rebase_apply(seg, index);
	rl_rebase_drop(journal);
	return closed;
}

/* Those that ended before it are as old as can be. Returns how many events are in the others. */
static uint64_t forget_before(struct rl_groups *groups, uint64_t before_ns)
{
	uint64_t newest = (groups->n - 1) / groups->q, kept = 0;

	for (uint32_t back = 0; back < RL_RING && back <= newest; back++) {
		uint64_t *stamp = &groups->ring[(newest - back) % RL_RING];

		if ((int64_t)(*stamp - before_ns) >= 0)
			kept = groups->n - (newest - back) * groups->q;
		else
			*stamp = 0;
	}
	return kept;
}

bool rl_rebase_forget(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		      uint64_t before_ns)
{
	uint64_t mark = rl_mark_of(&seg->slot[index]), acked = take(&seg->side[index].acked), kept;
	struct rl_groups old;
	struct rl_image new;

	if (take(&seg->side[index].infl) != 0 || rl_head_credit(head) != 0 ||
	    rl_shape_algorithm(take(&seg->slot[index].shape)) != RL_SLIDING ||
	    !read_groups(&seg->slot[index], head, mark, &old))
		return false;
	kept = forget_before(&old, before_ns);
	regroup(seg, index, &old, rule, old.q, mark, &new);
	if (old.n - rl_acked_n(acked) > kept) /* also when more was acknowledged than ever was */
		acked = rl_acked(old.n - kept, (acked & RL_TRACKED) != 0, rl_acked_text(acked));
	new.acked = rl_rebase_acked(acked, old.n, new.n);
	return replace(seg, index, head, mark, &new);
}

bool rl_rebase_slot(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		    uint32_t q)
{
	struct rl_groups old;
	struct rl_image new;
	uint64_t mark = rl_mark_of(&seg->slot[index]);

	/* A call under way has this slot's count in it; credit is taken back before. */
	if (take(&seg->side[index].infl) != 0 || rl_head_credit(head) != 0)
		return false;
	if (rl_shape_algorithm(take(&seg->slot[index].shape)) != RL_SLIDING)
		return rl_rebase_count_slot(seg, index, head, rule);
	if (!read_groups(&seg->slot[index], head, mark, &old))
		return false;
	if (rl_rule_algorithm(rule) == RL_SLIDING)
		regroup(seg, index, &old, rule, q, mark, &new);
	else
		recount(seg, index, &old, rule, &new);
	new.acked = rl_rebase_acked(take(&seg->side[index].acked), old.n, new.n);
	return replace(seg, index, head, mark, &new);
}

/* Is the slot closed for this entry, and would the entry open it as a sound one? */
static bool entry_fits(const struct rl_journal *journal, uint64_t head)
{
	uint64_t open_head = take(&journal->open_head);

	return head == take(&journal->closed_head) && rl_head_is(head, RL_KIND_REBASE) &&
	       rl_head_is_open(open_head) &&
	       (rl_rebase_sound(rl_head_n(open_head), take(&journal->shape),
				take(&journal->window_ns)) ||
		rl_rebase_sound_count(rl_head_n(open_head), take(&journal->shape),
				      take(&journal->window_ns)));
}

bool rl_rebase_recover(struct rl_seg *seg)
{
	struct rl_journal *journal = &seg->live->journal;
	/* pairs[journal.acq]: an entry that counts is whole. */
	uint64_t valid = atomic_load_explicit(&journal->valid, memory_order_acquire);
	uint64_t index = take(&journal->slot);
	bool found;

	if (valid != RL_JOURNAL_WHOLE && valid != RL_JOURNAL_TAKE)
		return false;
	found = index < seg->view.slot_count &&
		/* pairs[slot_head.acq]: as any reader of head. */
		entry_fits(journal,
			   atomic_load_explicit(&seg->slot[index].head, memory_order_acquire));
	if (found && valid == RL_JOURNAL_TAKE)
		found = rl_rebase_count_take(seg, index);
	if (found)
		rl_rebase_apply(seg, index);
	rl_rebase_drop(journal);
	return found;
}
