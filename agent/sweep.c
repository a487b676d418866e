#include "agent/sweep.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/sync/slot.h"
#include "shm/rl_audit.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_count.h"
#include "shm/rl_inflight.h"
#include "shm/rl_mark.h"
#include "shm/rl_member.h"
#include "shm/rl_now.h"
#include "shm/rl_rebase.h"
#include "shm/rl_table.h"
#include "shm/rl_watch.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define AHEAD_NS      (2 * RL_TICK_MAX_NS)
#define UNFINISHED_NS RL_SECOND_NS /* a claim takes a microsecond; its maker is dead or stopped */

void sweep_init(struct sweep *sweep, struct rl_seg *seg)
{
	memset(sweep, 0, sizeof(*sweep));
	sweep->seg = seg;
	sweep_rules_changed(sweep);
}

static void start_pass(struct sweep *sweep)
{
	sweep->next = 0;
	sweep->used = 0;
	sweep->damaged = 0;
	sweep->hurry = false;
	memset(sweep->keys, 0, sizeof(sweep->keys));
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct rl_rule *)a)->id, y = ((const struct rl_rule *)b)->id;

	return x < y ? -1 : x > y;
}

void sweep_lists_changed(struct sweep *sweep)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	uint64_t generation;
	int count = rl_rules_list(&sweep->seg->view, list, &generation);

	sweep->rule_count = count > 0 ? (uint32_t)count : 0;
	for (uint32_t i = 0; i < sweep->rule_count; i++)
		sweep->rule[i] = list[i].rule;
	qsort(sweep->rule, sweep->rule_count, sizeof(sweep->rule[0]), by_id);
}

void sweep_rules_changed(struct sweep *sweep)
{
	sweep_lists_changed(sweep);
	start_pass(sweep);
	sweep->pass_ms = SWEEP_BUSY_MS;
	sweep->settles = true;
}

static const struct rl_rule *rule_of(const struct sweep *sweep, uint32_t id)
{
	const struct rl_rule key = {.id = id};

	return bsearch(&key, sweep->rule, sweep->rule_count, sizeof(sweep->rule[0]), by_id);
}

/* Relaxed: counters for people. */
static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/*
 * Not blocked, none of its rule's pool, and its window has passed, by the longer of the slot's and
 * the rule's, whichever clock; or its word holds nothing any more, or was taken by an agent that
 * was killed.
 */
static bool is_idle(const struct sweep *sweep, uint64_t index, uint64_t head,
		    const struct rl_rule *rule, uint64_t now_ns)
{
	const struct rl_slot *slot = &sweep->seg->slot[index];
	struct rl_count count;
	/* Relaxed: under a head that was acquired. */
	uint64_t window_ns = atomic_load_explicit(&slot->window_ns, memory_order_relaxed);
	uint64_t hold_ns = rl_hold_ns(&sweep->seg->view, true);

	if (rl_block_holds(slot, &sweep->seg->side[index], now_ns))
		return false;
	if (rule != NULL && rl_pool_is(&sweep->seg->view, index) &&
	    rl_rules_on_full(&sweep->seg->view, rule->id) == RL_FULL_POOL)
		return false;
	if (rl_count_of(&sweep->seg->view, slot, rule, &count))
		return atomic_load_explicit(&slot->state, memory_order_relaxed) == 0 ||
		       rl_count_held(slot, head, &count, now_ns) == 0;
	if (rule != NULL && rule->window_ns > window_ns)
		window_ns = rule->window_ns;
	return (int64_t)(now_ns - rl_window_newest(slot)) >= (int64_t)(window_ns + hold_ns);
}

/*
 * Words that no worker and no agent writes. Nothing can be told from them about the key's
 * window, and they would answer its checks wrongly or never, so the slot is emptied and the
 * key starts anew.
 */
static void visit_damaged(struct sweep *sweep, uint64_t index, uint64_t head)
{
	sweep->damaged++;
	if (rl_table_wipe(sweep->seg, index, head) && !rl_head_is(head, RL_KIND_FREE))
		count(&sweep->seg->live->slots_evicted);
}

static bool is_in_flight(const struct rl_slot *slot)
{
	/* Relaxed: under a head that was acquired. */
	return rl_shape_algorithm(atomic_load_explicit(&slot->shape, memory_order_relaxed)) ==
	       RL_CONCURRENCY;
}

static bool is_sound(const struct rl_view *view, const struct rl_slot *slot, uint64_t head)
{
	/* Relaxed: under a head that was acquired. */
	uint64_t shape = atomic_load_explicit(&slot->shape, memory_order_relaxed);
	uint64_t window_ns = atomic_load_explicit(&slot->window_ns, memory_order_relaxed);
	uint64_t state = atomic_load_explicit(&slot->state, memory_order_relaxed);
	struct rl_count count;

	if (!rl_table_in_place(view, (uint64_t)(slot - view->slot)))
		return false;
	if (rl_shape_algorithm(shape) == RL_CONCURRENCY)
		return rl_inflight_sound(rl_head_n(head), shape, window_ns) &&
		       rl_count_is(state, rl_head_n(head));
	if (rl_shape_algorithm(shape) == RL_SLIDING)
		return rl_rebase_sound(rl_head_n(head), shape, window_ns);
	return rl_rebase_sound_count(rl_head_n(head), shape, window_ns) &&
	       rl_count_of(view, slot, NULL, &count) &&
	       (state == 0 || rl_count_is(state, rl_head_n(head)));
}

/*
 * False, too, when it has admitted or been blocked since it was seen to be idle, which was after
 * total was read. Killed in between: its word is gone, and a later pass frees it.
 */
static bool free_slot(struct sweep *sweep, uint64_t index, uint64_t head,
		      const struct rl_rule *rule, uint64_t total, uint64_t now_ns)
{
	struct rl_slot *slot = &sweep->seg->slot[index];
	uint64_t taken = 0, gone = 0;
	struct rl_count count;

	if (sweep->may_free != NULL && !sweep->may_free(sweep->may_free_arg, index))
		return false;
	if (rl_count_of(&sweep->seg->view, slot, rule, &count) &&
	    !rl_count_take_idle(slot, head, &count, now_ns, &taken))
		return false;
	if (rl_table_free_idle(sweep->seg, index, head, total))
		return true;
	/* pairs[slot_state.rel]: as it was; without its word it would answer busy. */
	if (taken != 0)
		atomic_compare_exchange_strong_explicit(&slot->state, &gone, taken,
							memory_order_acq_rel, memory_order_relaxed);
	return false;
}

/* Of a rule that has become the fleet's: what was said of the key on this host is over. */
static void unmark(struct rl_seg *seg, uint64_t index, uint64_t shape)
{
	struct rl_slot *slot = &seg->slot[index];
	struct rl_side *side = &seg->side[index];
	uint64_t mark = rl_mark_of(slot);
	/* Relaxed, all: numbers; what a shared rule keeps there has neither form. */
	uint64_t total = atomic_load_explicit(&side->total, memory_order_relaxed);

	if (rl_shape_algorithm(shape) == RL_SLIDING &&
	    (mark & (RL_MARK_BLOCK | RL_MARK_FLOOR)) != 0)
		atomic_compare_exchange_strong_explicit(&slot->state, &mark, 0,
							memory_order_relaxed, memory_order_relaxed);
	if (rl_block_until(side, atomic_load_explicit(&slot->id[0], memory_order_relaxed)) != 0)
		atomic_compare_exchange_strong_explicit(&side->total, &total, 0,
							memory_order_relaxed, memory_order_relaxed);
}

/*
 * A stamp ahead of the clock would keep the slot for as long. The clock is read after the stamp, or
 * one that is newer than the slice would seem ahead; two ticks may be from a re-base.
 * A given clock is only as good as a word of the segment.
 */
static void mend_stamps(struct rl_seg *seg, struct rl_slot *slot, uint64_t now_ns)
{
	for (size_t i = 0; i < RL_RING && !seg->view.given; i++) {
		/* Relaxed, both: a stamp set back publishes no other memory. */
		uint64_t seen = atomic_load_explicit(&slot->ring[i], memory_order_relaxed),
			 fresh_ns;

		if ((int64_t)(seen - now_ns) <= (int64_t)AHEAD_NS)
			continue;
		fresh_ns = rl_clock_precise_ns();
		if ((int64_t)(seen - fresh_ns) > (int64_t)AHEAD_NS &&
		    atomic_compare_exchange_strong_explicit(&slot->ring[i], &seen, fresh_ns,
							    memory_order_relaxed,
							    memory_order_relaxed))
			rl_member_count(&seg->member[0].mended, 1);
	}
}

/* For what is published of the rule; a slot that is freed now, too. */
static void count_key(struct sweep *sweep, const struct rl_rule *rule)
{
	if (rule != NULL)
		sweep->keys[rule->index]++;
}

/* The rules have changed: which keys are audited may have, too. */
static void settle_audit(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule)
{
	/* pairs[slot_head.acq]: as any reader of a slot; it may have been freed just now. */
	uint64_t head = atomic_load_explicit(&seg->slot[index].head, memory_order_acquire);

	if (rl_head_is_open(head))
		rl_audit_settle(seg, index, rule);
}

static void visit_open(struct sweep *sweep, uint64_t index, uint64_t head, uint64_t now_ns)
{
	struct rl_seg *seg = sweep->seg;
	struct rl_slot *slot = &seg->slot[index];
	uint64_t shape = atomic_load_explicit(&slot->shape, memory_order_relaxed); /* as above */
	const struct rl_rule *rule = rule_of(sweep, rl_pair_high(shape));
	struct rl_rule own;
	uint64_t total;
	uint32_t q;

	mend_stamps(seg, slot, now_ns);
	count_key(sweep, rule);
	if (rule != NULL && rl_rule_in_flight(rule))
		rule = NULL; /* it has slots of its own: this one is kept until it is idle */
	if (rule != NULL) {
		own = *rule;
		rl_lists_apply_slot(&seg->view, index, &own);
		rule = &own;
	}
	if (rule == NULL || rl_rule_is_local(rule))
		sync_slot_retire(seg, index);
	else
		unmark(seg, index, shape);
	/* Relaxed: who blocks the key after this is seen when the slot is closed. */
	total = atomic_load_explicit(&seg->side[index].total, memory_order_relaxed);
	if (is_idle(sweep, index, head, rule, now_ns)) {
		if (free_slot(sweep, index, head, rule, total, now_ns))
			count(&seg->live->slots_freed);
	} else if (rule != NULL && rl_rebase_wanted(&seg->view, slot, head, rule, now_ns, &q)) {
		/* One that holds credit is re-based between two calls of the sync, or when idle. */
		if (rl_rebase_slot(seg, index, head, rule, q))
			count(&seg->live->slots_rebased);
	}
	if (sweep->settles) /* in what is a slot still, and may have been re-based */
		settle_audit(seg, index, rule);
	if (rule != NULL && rl_shape_algorithm(shape) == RL_SLIDING &&
	    rl_shape_q(shape) != rule->q && !rl_clock_is_coarse(rule->window_ns))
		sweep->hurry = true;
}

/* What the dead held is given back by inflight_pass(). */
static void visit_in_flight(struct sweep *sweep, uint64_t index, uint64_t head, uint64_t now_ns)
{
	/* Relaxed: under a head that was acquired. */
	uint64_t shape = atomic_load_explicit(&sweep->seg->slot[index].shape, memory_order_relaxed);

	count_key(sweep, rule_of(sweep, rl_pair_high(shape)));
	mend_stamps(sweep->seg, &sweep->seg->slot[index], now_ns); /* nobody counts by them */
	if (rl_inflight_free_idle(sweep->seg, index, head))
		count(&sweep->seg->live->slots_freed);
}

static void visit_sound(struct sweep *sweep, uint64_t index, uint64_t head, uint64_t now_ns)
{
	if (is_in_flight(&sweep->seg->slot[index]))
		visit_in_flight(sweep, index, head, now_ns);
	else
		visit_open(sweep, index, head, now_ns);
}

/* A claim that has stood still for a second is taken back; its key then simply asks again. */
static void visit_unfinished(struct sweep *sweep, uint64_t index, uint64_t head, uint64_t now_ns)
{
	uint32_t at = (uint32_t)(index % SWEEP_SUSPECTS);

	if (sweep->seg->view.given)
		now_ns =
			rl_clock_precise_ns(); /* how long its maker takes is no matter of theirs */
	if (sweep->suspect[at].index != index || sweep->suspect[at].head != head) {
		sweep->suspect[at].index = index;
		sweep->suspect[at].head = head;
		sweep->suspect[at].since_ns = now_ns;
	} else if (now_ns - sweep->suspect[at].since_ns >= UNFINISHED_NS) {
		if (rl_table_wipe(sweep->seg, index, head))
			count(&sweep->seg->live->slots_reaped);
	}
}

static bool tag_left(const struct rl_seg *seg, uint64_t index)
{
	uint64_t word =
		atomic_load_explicit(&seg->tags[index / RL_LANES].word[index % RL_LANES / 4],
				     memory_order_relaxed); /* re-read under WIPE */

	return (word >> (index % 4 * 16) & 0xffff) != 0;
}

static bool words_left(const struct rl_slot *slot)
{
	/* Relaxed: a non-zero word in a free slot is a late claimant's; wiped under WIPE. */
	return (atomic_load_explicit(&slot->id[0], memory_order_relaxed) |
		atomic_load_explicit(&slot->id[1], memory_order_relaxed) |
		atomic_load_explicit(&slot->shape, memory_order_relaxed) |
		atomic_load_explicit(&slot->window_ns, memory_order_relaxed) |
		atomic_load_explicit(&slot->hint, memory_order_relaxed) |
		atomic_load_explicit(&slot->state, memory_order_relaxed)) != 0;
}

void sweep_slot(struct sweep *sweep, uint64_t index, uint64_t now_ns)
{
	struct rl_seg *seg = sweep->seg;
	/* pairs[slot_head.acq]: as any reader of a slot. */
	uint64_t head = atomic_load_explicit(&seg->slot[index].head, memory_order_acquire);
	bool used = !rl_head_is(head, RL_KIND_FREE);

	if (rl_head_n(head) < RL_N_FIRST || (!used && rl_head_n(head) > RL_N_REBASE))
		visit_damaged(sweep, index, head);
	else if (rl_head_is_open(head) && is_sound(&seg->view, &seg->slot[index], head))
		visit_sound(sweep, index, head, now_ns);
	else if (rl_head_is(head, RL_KIND_CLAIM) || rl_head_is(head, RL_KIND_TENT))
		visit_unfinished(sweep, index, head, now_ns);
	else if (rl_head_is(head, RL_KIND_SPOILED) || rl_head_is(head, RL_KIND_WIPE))
		rl_table_wipe(seg, index, head);
	else if (used) /* also REBASE: no agent leaves one to the sweep, nor has a journal for it */
		visit_damaged(sweep, index, head);
	else if (tag_left(seg, index) || words_left(&seg->slot[index]))
		rl_table_wipe(seg, index, head);
	sweep->used += used;
}

/* Said once, until it has fallen below 80 % of what the table promises to hold. */
static void note_pressure(struct sweep *sweep)
{
	uint64_t keys = rl_segment_keys(sweep->seg->view.bucket_count);
	bool high = sweep->used * 10 > keys * 9;

	if (high && !sweep->pressed)
		log_event(LOG_WARNING, "table_pressure",
			  "used=%llu keys=%llu msg=\"soon new keys find no slot: configure more "
			  "keys and start rl-agent again, the table then grows and keeps its "
			  "counts\"",
			  (unsigned long long)sweep->used, (unsigned long long)keys);
	if (high || sweep->used * 10 < keys * 8)
		sweep->pressed = high;
}

static void publish_keys(const struct sweep *sweep)
{
	for (uint32_t i = 0; i < sweep->rule_count; i++)
		rl_watch_keys(sweep->seg, &sweep->rule[i], sweep->keys[sweep->rule[i].index]);
}

static void end_pass(struct sweep *sweep)
{
	note_pressure(sweep);
	publish_keys(sweep);
	sweep->settles = sweep->settles && sweep->hurry;
	count(&sweep->seg->live->sweep_passes);
	if (sweep->damaged > 0)
		log_event(LOG_WARNING, "damaged",
			  "slots=%llu msg=\"another process wrote over them: they were emptied, "
			  "their keys start anew\"",
			  (unsigned long long)sweep->damaged);
	sweep->pass_ms = sweep->hurry || sweep->holds_short ||
					 sweep->used * 4 > sweep->seg->view.slot_count * 3
				 ? SWEEP_BUSY_MS
				 : SWEEP_CALM_MS;
	start_pass(sweep);
}

void sweep_slice(struct sweep *sweep)
{
	uint64_t slots = sweep->seg->view.slot_count;
	uint64_t step = slots * SWEEP_SLICE_MS / sweep->pass_ms + 1;
	uint64_t end = sweep->next + step < slots ? sweep->next + step : slots;
	uint64_t now_ns = rl_now_ns(&sweep->seg->view, false);

	for (; sweep->next < end; sweep->next++)
		sweep_slot(sweep, sweep->next, now_ns);
	if (sweep->next == slots)
		end_pass(sweep);
}
