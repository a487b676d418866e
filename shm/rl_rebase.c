#include "shm/rl_rebase.h"

#include "shm/rl_clock.h"
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

/* A count above the old one, at the start of a group of q, that the ring can index back from. */
static uint64_t next_n(uint64_t n, uint32_t q)
{
	uint64_t next = (n / q + 2) * q;

	return next < RL_N_REBASE ? next : (RL_N_FIRST / q + 1 + RL_RING) * q;
}

void rl_rebase_plan(const struct rl_groups *old, uint32_t new_q, uint64_t later_ns,
		    struct rl_groups *ret)
{
	uint64_t newest_event = old->n - 1;
	uint64_t covered = (uint64_t)new_q * RL_RING; /* events the new ring tells apart */
	uint64_t n = next_n(old->n, new_q), stamp;

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

	return n >= RL_N_FIRST && n <= RL_N_MAX && q >= 1 && q <= rl_window_q(RL_LIMIT_MAX) &&
	       window_ns >= RL_WINDOW_MIN_NS && window_ns <= RL_WINDOW_MAX_NS;
}

/* Relaxed: each stands under head or under the journal's valid word. */
static void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t take(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* False when the words are damaged: nothing may be divided by them or looped up to them. */
static bool read_groups(const struct rl_slot *slot, uint64_t head, struct rl_groups *ret)
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

	if (!read_groups(slot, head, &groups))
		return false;
	span_ns = (window_ns > rule->window_ns ? window_ns : rule->window_ns) +
		  rl_clock_hold_ns(true, view->tick_ns);
	*ret_q = rule->q;
	if (rule->q < groups.q &&
	    events_held(&groups, span_ns, now_ns) > (uint64_t)rule->q * (RL_RING - 1))
		*ret_q = groups.q;
	return *ret_q != groups.q || window_ns != rule->window_ns || groups.n > RL_N_REBASE;
}

/* acked as far behind the new count as behind the old one: what is unreported stays so. */
static uint64_t moved_acked(uint64_t acked, uint64_t old_n, uint64_t new_n)
{
	uint64_t behind = old_n > rl_acked_n(acked) ? old_n - rl_acked_n(acked) : 0;

	return rl_acked(behind < new_n ? new_n - behind : new_n, (acked & RL_TRACKED) != 0,
			rl_acked_text(acked));
}

static void write_journal(struct rl_journal *journal, uint64_t index, uint64_t head,
			  const struct rl_groups *groups, const struct rl_rule *rule,
			  uint64_t acked)
{
	put(&journal->slot, index);
	put(&journal->closed_head, rl_head_closed(rl_head_n(head), RL_KIND_REBASE));
	put(&journal->open_head, rl_head_open(groups->n));
	put(&journal->shape, rl_pair(rule->id, groups->q));
	put(&journal->window_ns, rule->window_ns);
	put(&journal->acked, acked);
	for (uint32_t i = 0; i < RL_RING; i++)
		put(&journal->ring[i], groups->ring[i]);
	/* pairs[journal.rel]: the entry is whole before it counts. */
	atomic_store_explicit(&journal->valid, 1, memory_order_release);
}

/* Write the closed slot from the journal and open it. The same bytes however often. */
static void apply_journal(struct rl_seg *seg, uint64_t index)
{
	struct rl_journal *journal = &seg->live->journal;
	struct rl_slot *slot = &seg->slot[index];

	put(&seg->side[index].acked, take(&journal->acked));
	put(&slot->shape, take(&journal->shape));
	put(&slot->window_ns, take(&journal->window_ns));
	for (uint32_t i = 0; i < RL_RING; i++)
		put(&slot->ring[i], take(&journal->ring[i]));
	/* pairs[slot_head.rel]: the new groups are complete before the slot opens. */
	atomic_store_explicit(&slot->head, take(&journal->open_head), memory_order_release);
}

static void drop_journal(struct rl_journal *journal)
{
	/* pairs[journal.rel]: the slot is open again before its entry is gone. */
	atomic_store_explicit(&journal->valid, 0, memory_order_release);
}

bool rl_rebase_slot(struct rl_seg *seg, uint64_t index, uint64_t head, const struct rl_rule *rule,
		    uint32_t q)
{
	struct rl_journal *journal = &seg->live->journal;
	struct rl_slot *slot = &seg->slot[index];
	struct rl_groups old, new;
	bool closed, was_coarse = rl_clock_is_coarse(take(&slot->window_ns));
	bool to_precise = was_coarse && !rl_clock_is_coarse(rule->window_ns);

	/* A call under way has this slot's count in it; credit is taken back before. */
	if (take(&seg->side[index].infl) != 0 || rl_head_credit(head) != 0 ||
	    !read_groups(slot, head, &old))
		return false;
	/* Coarse stamps may be two ticks old already; the precise clock holds them no longer. */
	rl_rebase_plan(&old, q, to_precise ? 2 * seg->view.tick_ns : 0, &new);
	write_journal(journal, index, head, &new, rule,
		      moved_acked(take(&seg->side[index].acked), old.n, new.n));
	closed = atomic_compare_exchange_strong_explicit(
		&slot->head, &head, take(&journal->closed_head),
		/* pairs[slot_head.acq]: nothing of the new groups is written before the close. */
		memory_order_acq_rel, memory_order_relaxed);
	if (closed)
		apply_journal(seg, index);
	drop_journal(journal);
	return closed;
}

/* Is the slot closed for this entry, and would the entry open it as a sound one? */
static bool entry_fits(const struct rl_journal *journal, uint64_t head)
{
	uint64_t open_head = take(&journal->open_head);

	return head == take(&journal->closed_head) && rl_head_is(head, RL_KIND_REBASE) &&
	       rl_head_is_open(open_head) &&
	       rl_rebase_sound(rl_head_n(open_head), take(&journal->shape),
			       take(&journal->window_ns));
}

bool rl_rebase_recover(struct rl_seg *seg)
{
	struct rl_journal *journal = &seg->live->journal;
	uint64_t index = take(&journal->slot);
	bool found;

	/* pairs[journal.acq]: an entry that counts is whole. */
	if (atomic_load_explicit(&journal->valid, memory_order_acquire) != 1)
		return false;
	found = index < seg->view.slot_count &&
		/* pairs[slot_head.acq]: as any reader of head. */
		entry_fits(journal,
			   atomic_load_explicit(&seg->slot[index].head, memory_order_acquire));
	if (found)
		apply_journal(seg, index);
	drop_journal(journal);
	return found;
}
