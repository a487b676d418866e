/*
 * rl_check_all.c - several rules for one request, all or nothing; and giving back.
 */
#include "shm/rl_audit.h"
#include "shm/rl_check_steps.h"
#include "shm/rl_check_usual.h"
#include "shm/rl_count.h"
#include "shm/rl_table.h"
#include "shm/rl_tags.h"

#define REFUND_TRIES 64 /* each failed try is an admit in the same slot */
#define USUAL_MAX    16 /* parts; more are looked at and then spent from the start */
#define WHEN_WINDOW  63 /* steps of ticket_when() that are surely within a window */

/* Is this open slot the one of the ticket's key, under this rule? */
static bool is_of(const struct rl_seg *seg, uint64_t index, uint64_t head, uint32_t rule_id,
		  const struct rl_ticket *ticket)
{
	const struct rl_slot *slot = &seg->slot[index];
	const struct rl_side *side = &seg->side[index];
	/* Relaxed, all: under head. What a sync knows of is not untold. */
	bool told = (atomic_load_explicit(&side->acked, memory_order_relaxed) & RL_TRACKED) != 0 ||
		    atomic_load_explicit(&side->infl, memory_order_relaxed) != 0;
	uint64_t shape = atomic_load_explicit(&slot->shape, memory_order_relaxed);

	return rl_head_is_open(head) && !told && rl_pair_high(shape) == rule_id &&
	       atomic_load_explicit(&slot->id[0], memory_order_relaxed) == ticket->id;
}

static bool refund_count(struct rl_seg *seg, uint64_t index, uint64_t head,
			 const struct rl_rule *rule, uint32_t cost, uint64_t mark)
{
	struct rl_slot *slot = &seg->slot[index];
	struct rl_count count;

	return rl_count_is(mark, rl_head_n(head)) && rl_count_of(&seg->view, slot, rule, &count) &&
	       rl_count_refund(slot, head, &count, cost, mark & RL_COUNT_MAX);
}

static bool refund_once(struct rl_seg *seg, uint64_t index, uint64_t head,
			const struct rl_rule *rule, uint32_t cost, uint64_t mark)
{
	struct rl_slot *slot = &seg->slot[index];
	uint64_t event = mark & ((UINT64_C(1) << EVENT_BITS) - 1), now_ns, ago;
	struct rl_window_terms terms;
	bool coarse;

	if (mark >> 63 != 0)
		return refund_count(seg, index, head, rule, cost, mark);
	if (!slot_terms(&seg->view, slot, rule, &terms, &coarse))
		return false;
	terms.span_ns = rule->window_ns + rl_hold_ns(&seg->view, coarse);
	now_ns = rl_now_ns(&seg->view, coarse);
	ago = (ticket_when(rule->window_ns, now_ns) - (mark >> EVENT_BITS)) & WHEN_MASK;
	return ago <= WHEN_WINDOW && rl_window_refund(slot, head, &terms, cost, event, now_ns);
}

int rl_check_refund(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		    const struct rl_ticket *ticket)
{
	uint64_t index = ticket->place >> TICKET_COST_BITS;
	uint32_t cost = (uint32_t)(ticket->place & RL_LIMIT_MAX);
	struct rl_rule rule;

	if (cost == 0)
		return 0;
	if (index >= seg->view.slot_count)
		return rl_segment_has_grown(&seg->view) ? RL_E_GROWN : 0;
	for (int i = 0; i < REFUND_TRIES; i++) {
		/* pairs[slot_head.acq]: as any reader of a slot. */
		uint64_t head = atomic_load_explicit(&seg->slot[index].head, memory_order_acquire);

		if (!is_of(seg, index, head, rl_pair_high(handle), ticket) ||
		    rl_rules_read(&seg->view, handle, &rule) != 0 || !rl_rule_is_local(&rule))
			return 0;
		rl_lists_apply_slot(&seg->view, index, &rule);
		if (refund_once(seg, index, head, &rule, cost, ticket->mark)) {
			if (ticket->mark >> 63 == 0 && rl_audit_marked(&seg->slot[index]))
				rl_audit_note(seg, index, rl_clock_precise_ns(), cost,
					      RL_AUDIT_REFUND);
			rl_member_count(&member->rule[rule.index].refunded, cost);
			return 1;
		}
		if (atomic_load_explicit(&seg->slot[index].head, memory_order_relaxed) == head)
			return 0; /* not for somebody's admit in between */
	}
	return 0;
}

/* What each would say, for the answer: 1, or what the first said that would not allow it. */
static int look_at(const struct rl_view *view, struct rl_check_part *part, size_t count)
{
	int got = 1;
	uint32_t used;

	for (size_t i = 0; i < count; i++) {
		part[i].got = rl_check_look_key(view, part[i].handle, &part[i].key, part[i].cost,
						part[i].answer, &used);
		if (got == 1 && part[i].got != RL_E_BUSY) /* its own try will tell */
			got = part[i].got;
	}
	return got;
}

/* Nobody is asked to spend when one of them would refuse. */
static int look_first(const struct rl_view *view, struct rl_check_part *part, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!rl_check_fits(view, part[i].handle, &part[i].key, part[i].cost))
			return look_at(view, part, count);
	return 1;
}

/*
 * The first steps of all, when all are usual: nothing that a look has found is looked for again to
 * spend it. 1, or 0 when one refuses, or RL_NOT_USUAL. Each clock is read once, after all heads.
 */
static int look_usual(struct rl_seg *seg, const struct rl_check_part *part, size_t count,
		      struct rl_usual usual[USUAL_MAX])
{
	uint64_t now_ns[2] = {0, 0};

	if (count > USUAL_MAX)
		return RL_NOT_USUAL;
	for (size_t i = 0; i < count; i++)
		if (part[i].cost != 1 ||
		    !usual_find(seg, &part[i].key.id, usual_home(&seg->view, &part[i].key.id),
				&usual[i]) ||
		    !usual_terms(&seg->view, part[i].handle, &usual[i]))
			return RL_NOT_USUAL;
	for (size_t i = 0; i < count; i++) {
		uint64_t *now = &now_ns[usual[i].coarse];
		int got;

		if (*now == 0)
			*now = rl_clock_now_ns(usual[i].coarse);
		got = usual_look(*now, &usual[i]);
		if (got != RL_TRY_ALLOWED)
			return got == RL_TRY_LIMITED ? 0 : RL_NOT_USUAL;
	}
	return 1;
}

/* What was looked at is spent if nobody came in between; else from the start. */
static int spend_part(struct rl_seg *seg, struct rl_member *member,
		      const struct rl_check_part *part, const struct rl_usual *usual)
{
	if (usual != NULL && usual_spend(seg, member, usual, &part->key.id, part->answer))
		return 1;
	return rl_check_spend_key(seg, member, part->handle, &part->key, part->cost, part->flags,
				  part->answer);
}

/* By a look, which counts nothing: under the rule of the part that said so. */
static void count_refusal(struct rl_seg *seg, struct rl_member *member,
			  const struct rl_check_part *part, size_t count, int got)
{
	struct rl_answer none;
	struct rl_rule rule;
	size_t i = 0;

	while (i + 1 < count && part[i].got != got)
		i++;
	if (got < 0)
		rl_check_failed(seg, member, part[i].handle, got, &none);
	else if (rl_rules_read(&seg->view, part[i].handle, &rule) == 0)
		rl_member_limited(seg, &member->rule[rule.index]);
}

static void forget(struct rl_check_part *part, size_t count)
{
	for (size_t i = 0; i < count; i++)
		part[i].answer->ticket = (struct rl_ticket){0};
}

int rl_check_parts(struct rl_seg *seg, struct rl_member *member, struct rl_check_part *part,
		   size_t count)
{
	struct rl_usual usual[USUAL_MAX];
	int looked = look_usual(seg, part, count, usual);
	int got = looked == 1   ? 1
		  : looked == 0 ? look_at(&seg->view, part, count)
				: look_first(&seg->view, part, count);

	if (got != 1)
		count_refusal(seg, member, part, count, got);
	for (size_t i = 0; i < count && got == 1; i++) {
		got = part[i].got =
			spend_part(seg, member, &part[i], looked == 1 ? &usual[i] : NULL);
		if (got == 1)
			continue;
		look_at(&seg->view, part + i + 1, count - i - 1);
		/* Last first: then each is likely to be the newest of its slot. Killed here: what
		 * is not given back yet stays spent until its window has passed. */
		for (size_t spent = i; spent-- > 0;)
			rl_check_refund(seg, member, part[spent].handle,
					&part[spent].answer->ticket);
		forget(part, count);
	}
	return got;
}

void rl_check_prefetch(const struct rl_view *view, const struct rl_id *id)
{
	uint64_t bucket = rl_tag_bucket(id, &view->newest);
	uint64_t home = bucket * RL_LANES + rl_tag_home(id);

	/* A key lies in its home lane unless that was taken. */
	__builtin_prefetch(&view->tags[bucket]);
	__builtin_prefetch(&view->slot[home]);
	__builtin_prefetch(&view->slot[home].ring);
}
