/*
 * rl_check_shared.c - a check under a rule that hosts share: as rl_check_spend(), but by credit,
 * and the only one that may wait.
 */
#include "shm/rl_audit.h"
#include "shm/rl_bell.h"
#include "shm/rl_check_steps.h"
#include "shm/rl_cold.h"
#include "shm/rl_count.h"
#include "shm/rl_table.h"

/* One check, while it goes on. */
struct spending {
	struct rl_seg *seg;
	struct rl_member *member;
	const struct rl_check_key *key;
	struct rl_rule rule;
	uint64_t head;
	uint32_t cost;
	uint32_t left; /* of the limit, for statistics */
	bool may_wait, asked;
	uint64_t deadline_ns; /* of waiting; 0: not begun */
	uint64_t waits_at;    /* the slot whose turn was seen; RL_NO_SLOT: none */
	uint32_t turn;
	struct rl_check_wait *pending; /* instead of sleeping; NULL: it sleeps */
	uint64_t left_ns;              /* it leaves now, for so long; 0: it does not */
};

/*
 * Go on with a check that was left. Its slot has had no turn since: what it asked for is still on
 * its way, and asked for again it would come twice.
 */
static void resume(struct spending *s, struct rl_check_wait *pending)
{
	s->pending = pending;
	s->may_wait = !pending->over;
	s->asked = pending->asked;
	s->deadline_ns = pending->deadline_ns;
	if (pending->deadline_ns != 0 && pending->index < s->seg->view.slot_count)
		rl_turn_leave(s->seg, pending->index);
	if (pending->deadline_ns == 0 || pending->index >= s->seg->view.slot_count ||
	    rl_turn_seen(&s->seg->slot[pending->index]) != pending->turn)
		return;
	s->waits_at = pending->index;
	s->turn = pending->turn;
}

/* What its next try needs; its demand, the cost, is known to the agent. */
static int leave(struct spending *s, uint64_t within_ns)
{
	s->pending->asked = s->asked;
	s->pending->deadline_ns = s->deadline_ns;
	s->pending->index = s->waits_at;
	s->pending->turn = s->turn;
	s->pending->within_ns = within_ns;
	/* Died before it comes again: it is counted there until the agent sets that back. */
	rl_turn_enter(s->seg, s->waits_at);
	return RL_CHECK_WAITS;
}

static uint64_t rule_wait(const struct spending *s)
{
	return s->rule.wait_ns < RL_WAIT_MAX_NS ? s->rule.wait_ns : RL_WAIT_MAX_NS;
}

static uint64_t wait_left(const struct spending *s)
{
	uint64_t now_ns;

	if (!s->may_wait)
		return 0;
	if (s->deadline_ns == 0)
		return rule_wait(s);
	now_ns = rl_clock_precise_ns();
	return s->deadline_ns > now_ns ? s->deadline_ns - now_ns : 0;
}

/*
 * Admitted. Units that the fleet had left at the last answer, less what this host admitted since;
 * all of them while Redis is away, as nobody knows then. Relaxed, all: for statistics.
 */
static uint32_t left_of(const struct spending *s, uint64_t index, uint64_t now_ns, uint32_t by)
{
	const struct rl_side *side = &s->seg->side[index];
	uint64_t total = atomic_load_explicit(&side->total, memory_order_relaxed);
	uint64_t kept = atomic_load_explicit(&side->acked, memory_order_relaxed);
	uint64_t acked = rl_acked_n(kept), n = rl_head_n(s->head) + s->cost;
	uint64_t used = rl_total_now(total, s->rule.window_ns, now_ns);

	if (RL_RARELY((kept & RL_TEXT_AUDIT) != 0))
		rl_audit_note(s->seg, index, now_ns, s->cost, RL_AUDIT_ADMIT);
	if (by == RL_DECIDED_POLICY)
		return s->rule.limit;
	used += n > acked ? n - acked : 0;
	return used < s->rule.limit ? s->rule.limit - (uint32_t)used : 0;
}

static int try_credit(struct spending *s, uint64_t index, const struct rl_window_terms *terms,
		      uint64_t now_ns, struct rl_answer *ret, uint32_t *ret_cell)
{
	const struct rl_shared_ask ask = {
		.index = index,
		.head = s->head,
		.rule = &s->rule,
		.terms = terms,
		.cost = s->cost,
		.now_ns = now_ns,
		.wait_ns = wait_left(s),
		.ring = s->waits_at != index,
		.asked = s->asked,
	};
	struct rl_shared_answer answer;
	int got = rl_shared_try(s->seg, &ask, &answer);

	s->asked = s->asked || answer.asked;
	*ret_cell = answer.window.cell;
	if (got == RL_TRY_ALLOWED)
		s->left = left_of(s, index, now_ns, answer.by);
	fill_answer(&s->seg->view, &s->rule, &answer.window, now_ns, ret);
	ret->state = answer.state;
	ret->by = answer.by;
	return got;
}

/*
 * The slot counts in a word: its rule was another one, and the agent has not come by yet. It has no
 * credit, and what it admitted nobody would be told: refused until then, half a second at most.
 */
RL_COLD static int refuse_other(struct spending *s, uint64_t index, struct rl_answer *ret)
{
	const struct rl_window_answer refusal = {.wait_ns = RL_SECOND_NS};
	uint64_t now_ns = rl_clock_precise_ns();
	struct rl_count count;

	if (!rl_count_of(&s->seg->view, &s->seg->slot[index], &s->rule, &count))
		return RL_TRY_AGAIN; /* wiped, or damaged */
	fill_answer(&s->seg->view, &s->rule, &refusal, now_ns, ret);
	ret->by = RL_DECIDED_NO_CREDIT;
	return RL_TRY_LIMITED;
}

/* One try on the open slot at index, whose head was read before anything else. */
static int try_slot(struct spending *s, uint64_t index, struct rl_answer *ret, uint32_t *ret_cell)
{
	const struct rl_slot *slot = &s->seg->slot[index];
	struct rl_window_terms terms;
	uint64_t now_ns;
	bool coarse;

	if (!slot_terms(&s->seg->view, slot, &s->rule, &terms, &coarse))
		return refuse_other(s, index, ret);
	now_ns = rl_clock_now_ns(coarse);
	if (s->cost <= terms.limit)
		return try_credit(s, index, &terms, now_ns, ret, ret_cell);
	/* A raise that the agent has not re-based this slot for yet. */
	fill_answer(&s->seg->view, &s->rule, &(struct rl_window_answer){.wait_ns = RL_SECOND_NS},
		    now_ns, ret);
	return RL_TRY_LIMITED;
}

/*
 * Short of credit, and the caller may wait. First only note the slot's turn, so that the next
 * try reads a head that is newer; then sleep while the turn stays, or until it is time to ask
 * again (again_ns from now, 0: no such time). After the rule's time the caller may no longer
 * wait, and its last try says how it is answered.
 */
RL_COLD static void wait_for_credit(struct spending *s, uint64_t index, uint64_t again_ns)
{
	uint64_t now_ns = rl_clock_precise_ns(), left_ns;

	if (s->deadline_ns == 0)
		s->deadline_ns = now_ns + rule_wait(s);
	if (now_ns >= s->deadline_ns) {
		s->may_wait = false;
		return;
	}
	if (s->waits_at != index) {
		s->waits_at = index;
		s->turn = rl_turn_seen(&s->seg->slot[index]);
		return;
	}
	left_ns = s->deadline_ns - now_ns;
	if (again_ns > 0 && again_ns < left_ns)
		left_ns = again_ns;
	if (s->pending != NULL) {
		s->left_ns = left_ns;
		return;
	}
	rl_turn_wait(s->seg, index, s->turn, left_ns);
	s->waits_at = RL_NO_SLOT; /* and ask again */
}

/* Find or make the slot, and try. An error, or RL_TRY_*. */
static int spend_once(struct spending *s, uint64_t handle, struct rl_answer *ret)
{
	uint64_t index;
	uint32_t cell = 0;
	int got = find_or_claim(s->seg, s->member, handle, s->key, s->cost, &s->rule, &index,
				&s->head);

	if (got < 0)
		return got;
	if (index == RL_NO_SLOT)
		return RL_TRY_AGAIN;
	got = try_slot(s, index, ret, &cell);
	if (got == RL_TRY_LIMITED && slot_is_gone(&s->seg->slot[index]))
		return RL_TRY_AGAIN;
	if (got == RL_TRY_AHEAD)
		rl_check_mend(s->member, &s->seg->slot[index], cell);
	if (got == RL_TRY_SHORT)
		wait_for_credit(s, index, ret->wait_ns);
	return got;
}

int rl_check_spend_shared(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			  const struct rl_check_key *key, uint32_t cost, uint32_t flags,
			  struct rl_answer *ret)
{
	struct spending s = {.seg = seg,
			     .member = member,
			     .key = key,
			     .cost = cost,
			     .may_wait = (flags & RL_CHECK_MAY_WAIT) != 0,
			     .waits_at = RL_NO_SLOT};

	if ((flags & RL_CHECK_PENDING) != 0)
		resume(&s, (struct rl_check_wait *)(uintptr_t)key);
	for (int i = 0; i < CHECK_TRIES; i++) {
		int got = spend_once(&s, handle, ret);

		if (s.left_ns != 0)
			return leave(&s, s.left_ns);
		if (got < 0)
			return rl_check_unfit(seg, member, handle, key, cost, flags, got, ret);
		if (got == RL_TRY_ALLOWED) {
			rl_member_allowed(seg, &member->rule[s.rule.index], cost, s.left,
					  s.rule.limit);
			return 1;
		}
		if (got == RL_TRY_LIMITED) {
			rl_member_limited(seg, &member->rule[s.rule.index]);
			return 0;
		}
	}
	return rl_check_failed(seg, member, handle, RL_E_BUSY, ret);
}

int rl_check_look_shared(const struct rl_view *view, uint64_t index, uint64_t head,
			 const struct rl_rule *rule, const struct rl_window_terms *terms,
			 uint32_t cost, uint64_t now_ns, struct rl_answer *ret)
{
	const struct rl_shared_ask ask = {.index = index,
					  .head = head,
					  .rule = rule,
					  .terms = terms,
					  .cost = cost,
					  .now_ns = now_ns};
	struct rl_shared_answer answer;
	int got = rl_shared_look(view, &ask, &answer);

	if (got == RL_TRY_LIMITED && slot_is_gone(&view->slot[index]))
		return RL_E_BUSY;
	ret->remaining = answer.window.remaining;
	ret->wait_ns = answer.window.wait_ns;
	ret->state = answer.state;
	ret->by = answer.by;
	return got == RL_TRY_ALLOWED;
}

int rl_check_look_unknown(const struct rl_view *view, const struct rl_rule *rule,
			  const struct rl_check_key *key, struct rl_answer *ret)
{
	uint64_t now_ns = ret->now_ns + RL_CLOCK_BIAS_NS;
	struct rl_fleet_terms fleet;
	struct rl_key_text text;
	bool none;

	rl_check_text(key, &text);
	rl_fleet_unpack(rule->fleet, rule->wait_ns, &fleet);
	ret->state = rl_shared_state(view, rl_key_part(rule->id, &text), now_ns);
	ret->by = ret->state == RL_FRESH ? RL_DECIDED_CREDIT : RL_DECIDED_POLICY;
	if (rl_rule_is_eventual(rule) && ret->state == RL_FRESH)
		ret->remaining = rule->limit;
	if (ret->state == RL_FRESH)
		return 1; /* it would ask */
	none = fleet.on_unreachable == RL_CLOSED ||
	       (fleet.on_unreachable == RL_SHARE &&
		rl_shared_share(rule->limit, &fleet, rl_shared_hosts(view)) == 0);
	ret->wait_ns = none ? RL_ALONE_NS : 0;
	return none ? 0 : 1;
}
