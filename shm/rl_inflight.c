#include "shm/rl_inflight.h"

#include "shm/rl_algorithm.h"
#include "shm/rl_check_steps.h"
#include "shm/rl_count.h"
#include "shm/rl_error.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

#define ID_MARK   UINT64_C(0x9d39247e33776d41) /* parts its slots from those of other algorithms */
#define AGAIN_MAX 4096                         /* as CHECK_TRIES */
#define YIELD_MAX 64                           /* to others that ask for the same units */
#define LOOKS_MAX 256                          /* of the first, until the others have withdrawn */
#define TRY_YIELD 4                            /* beside RL_TRY_*: others were first */
#define NO_LINE   (UINT64_MAX << 31)           /* place of a ticket that holds nothing */

/* What one acquire goes by. */
struct attempt {
	struct rl_seg *seg;
	struct rl_rule rule;
	uint64_t index, head;
	uint32_t who, cost;
	struct rl_hold_place place;
	bool first; /* of its process in its cell */
	struct rl_hold_sum seen;
};

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

static void pause_for(int times)
{
	for (int i = 0; i < times; i++)
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#else
		atomic_signal_fence(memory_order_seq_cst);
#endif
}

struct rl_id rl_inflight_id(const struct rl_view *view, uint64_t handle, const void *key,
			    size_t key_len)
{
	struct rl_id id = rl_hash_key(view->hash_key, rl_pair_high(handle), key, key_len);

	id.word[0] ^= ID_MARK;
	if (id.word[0] == 0)
		id.word[0] = 1;
	return id;
}

/* Does this state word belong to the slot's life, which nobody is about to end? */
static bool is_open(uint64_t state, uint64_t n)
{
	return rl_count_is(state, n) && (state & RL_HOLD_CLOSING) == 0;
}

static int read_rule(const struct rl_view *view, uint64_t handle, const struct rl_check_key *key,
		     uint32_t cost, struct rl_rule *ret)
{
	struct rl_check_key plain = *key; /* lists know it by the identity it has elsewhere */
	int error;

	plain.id.word[0] ^= ID_MARK;
	error = read_rule_of(view, handle, &plain, ret);
	if (error != 0)
		return error;
	if (!rl_rule_in_flight(ret))
		return RL_E_ALGORITHM;
	if (ret->limit > RL_CONCURRENCY_MAX)
		ret->limit = RL_CONCURRENCY_MAX;
	return cost > ret->limit ? RL_E_COST : 0;
}

static int claim(struct rl_seg *seg, struct rl_member *member, const struct rl_check_key *key,
		 const struct rl_rule *rule)
{
	struct rl_claim terms = {
		.rule_id = rule->id, .window_ns = RL_WINDOW_MIN_NS, .algorithm = RL_CONCURRENCY};
	int opened;

	rl_check_text(key, &terms.text);
	terms.hint = rl_hint(0, 0, rl_key_part(rule->id, &terms.text));
	opened = rl_table_claim(seg, &key->id, &terms);
	if (opened == 1)
		rl_member_count(&member->claims, 1);
	return opened;
}

static void answer(const struct rl_view *view, const struct rl_rule *rule, uint64_t held,
		   struct rl_answer *ret)
{
	const struct rl_window_answer window = {
		.remaining = held < rule->limit ? rule->limit - (uint32_t)held : 0};

	fill_answer(view, rule, &window, rl_clock_coarse_ns(), ret);
	ret->window_ns = 0;
}

/*
 * Which cell, how much, and whose: the era says that its line has not been freed since. The cost
 * bits of another algorithm's ticket are 0.
 */
static struct rl_ticket make_ticket(const struct attempt *a, uint64_t id)
{
	const struct rl_hold *line = &a->seg->hold[a->place.line];

	return (struct rl_ticket){
		.place = (uint64_t)(a->place.line + 1) << 34 | (uint64_t)a->place.cell << 31,
		.mark = (uint64_t)rl_hold_era(load(&line->next)) << 44 | (uint64_t)a->who << 20 |
			a->cost,
		.id = id,
	};
}

/* One look at all cells, after one has asked. The state is read first: is it still our slot? */
static int look_again(struct attempt *a)
{
	const struct rl_slot *slot = &a->seg->slot[a->index];
	uint64_t state = load(&slot->state);

	if (!is_open(state, rl_head_n(a->head)) || load(&slot->head) != a->head)
		return RL_TRY_AGAIN;
	if (!rl_holder_is(&a->seg->view, a->who))
		return RL_E_HOLDER;
	rl_hold_sum(&a->seg->view, state, a->who, &a->place, &a->seen);
	if (a->seen.held + a->seen.asked <= a->rule.limit)
		return RL_TRY_ALLOWED;
	if (a->seen.held + a->cost > a->rule.limit)
		return RL_TRY_LIMITED;
	return TRY_YIELD;
}

/* After one has asked: until it is clear whether one gets it. */
static int settle(struct attempt *a)
{
	int got = TRY_YIELD;

	for (int i = 0; i < LOOKS_MAX && got == TRY_YIELD; i++) {
		got = look_again(a);
		if (got == TRY_YIELD && (!a->first || a->seen.before > 0))
			break;
		if (got == TRY_YIELD)
			pause_for(4);
	}
	if (got == RL_TRY_ALLOWED && rl_hold_grant(a->seg, a->place, a->who, a->cost))
		return RL_TRY_ALLOWED;
	rl_hold_withdraw(a->seg, a->place, a->who, a->cost);
	return got == RL_TRY_ALLOWED ? RL_TRY_AGAIN : got;
}

/* One try on the open slot: RL_TRY_*, TRY_YIELD or an error. */
static int try_slot(struct attempt *a)
{
	uint64_t state = load(&a->seg->slot[a->index].state);

	if (!is_open(state, rl_head_n(a->head)))
		return RL_TRY_AGAIN;
	rl_hold_sum(&a->seg->view, state, a->who, NULL, &a->seen);
	if (a->seen.held + a->cost > a->rule.limit)
		return RL_TRY_LIMITED;
	if (a->seen.own.line == RL_HOLD_NONE && a->seen.empty.line == RL_HOLD_NONE) {
		int error = rl_hold_extend(a->seg, a->index, state, &a->seen, a->who);

		return error != 0 ? error : RL_TRY_AGAIN;
	}
	if (!rl_hold_ask(a->seg, &a->seen, a->who, a->cost, &a->place, &a->first))
		return RL_TRY_AGAIN;
	return settle(a);
}

/* Find the key's slot, or make one. 0, RL_TRY_AGAIN when one was made, or an error. */
static int find(struct attempt *a, struct rl_member *member, uint64_t handle,
		const struct rl_check_key *key)
{
	int got;

	a->index = rl_table_find(&a->seg->view, &key->id, &a->head);
	got = read_rule(&a->seg->view, handle, key, a->cost, &a->rule);
	if (got == 0 && a->index == RL_NO_SLOT) {
		got = claim(a->seg, member, key, &a->rule);
		return got < 0 ? got : RL_TRY_AGAIN;
	}
	return got;
}

/* Tries until one gives an answer: 1, 0 or an error. */
static int try_all(struct attempt *a, struct rl_member *member, uint64_t handle,
		   const struct rl_check_key *key)
{
	int yields = 0;

	for (int i = 0; i < AGAIN_MAX; i++) {
		int got = find(a, member, handle, key);

		if (got == 0)
			got = try_slot(a);
		if (got == TRY_YIELD && ++yields >= YIELD_MAX)
			got = RL_TRY_LIMITED; /* whoever asked is asking still */
		if (got == TRY_YIELD)
			pause_for(8 * yields);
		else if (got < 0)
			return got;
		else if (got != RL_TRY_AGAIN)
			return got == RL_TRY_ALLOWED;
	}
	return RL_E_BUSY;
}

static void note_answer(const struct attempt *a, struct rl_member *member, int got, int told,
			const struct rl_answer *ret)
{
	struct rl_counts *counts = &member->rule[a->rule.index];

	if (got == 1)
		rl_member_allowed(a->seg, counts, a->cost, ret->remaining, a->rule.limit);
	else
		rl_member_limited(a->seg, counts);
	if (told != got)
		rl_member_count(&counts->shadowed, 1);
}

int rl_inflight_acquire(struct rl_seg *seg, struct rl_member *member, uint32_t who, uint64_t handle,
			const void *key, size_t key_len, uint32_t cost, struct rl_answer *ret)
{
	struct rl_check_key asked = {.id = rl_inflight_id(&seg->view, handle, key, key_len),
				     .bytes = key,
				     .len = key_len};
	struct attempt a = {.seg = seg, .who = who, .cost = cost};
	int got = read_rule(&seg->view, handle, &asked, cost, &a.rule), verdict = RL_CHECK_COUNTS,
	    told;

	if (got == 0)
		verdict = rl_check_verdict(&seg->view, &a.rule, ret);
	if (got == 0)
		got = verdict != RL_CHECK_COUNTS ? verdict : try_all(&a, member, handle, &asked);
	if (got < 0)
		return got == RL_E_HOLDER ? got : rl_check_failed(seg, member, handle, got, ret);
	if (verdict == RL_CHECK_COUNTS)
		answer(&seg->view, &a.rule, a.seen.held + (got == 1 ? a.seen.asked : 0), ret);
	if (verdict == RL_CHECK_COUNTS && got == 1)
		ret->ticket = make_ticket(&a, asked.id.word[0]);
	told = rl_check_shadow(&a.rule, &asked, got, ret);
	note_answer(&a, member, got, told, ret);
	ret->window_ns = ret->wait_ns = 0;
	if (told == 1 && ret->ticket.place == 0)
		ret->ticket.place = NO_LINE; /* let pass, whatever is in flight */
	return told;
}

/* Does the line still belong to the key and the rule the ticket is of? 0 or an error. */
static int check_ticket(const struct rl_view *view, uint32_t line, uint64_t handle,
			const struct rl_ticket *ticket)
{
	uint64_t index;
	uint32_t life;

	if (rl_hold_era(load(&view->hold[line].next)) != (uint32_t)(ticket->mark >> 44) ||
	    !rl_hold_owner(view, line, &index, &life) ||
	    (rl_head_n(load(&view->slot[index].head)) & RL_LIFE_MASK) != life ||
	    load(&view->slot[index].id[0]) != ticket->id)
		return RL_E_TICKET;
	return rl_pair_high(load(&view->slot[index].shape)) == rl_pair_high(handle) ? 0 : RL_E_RULE;
}

int rl_inflight_release(struct rl_seg *seg, uint32_t who, uint64_t handle,
			const struct rl_ticket *ticket)
{
	struct rl_hold_place place = {.line = (uint32_t)(ticket->place >> 34) - 1,
				      .cell = (uint32_t)(ticket->place >> 31) & 7};
	uint32_t cost = (uint32_t)(ticket->mark & RL_HOLD_UNITS);
	int error;

	if (ticket->place == NO_LINE)
		return 0;
	if (!rl_inflight_is_ticket(ticket->place) || place.line >= seg->view.hold_count ||
	    place.cell >= RL_HOLD_CELLS || (ticket->mark >> 20 & 0xffffff) != who || who == 0 ||
	    cost == 0)
		return RL_E_TICKET;
	error = check_ticket(&seg->view, place.line, handle, ticket);
	if (error != 0)
		return error;
	return rl_hold_release(seg, place, who, cost) ? 0 : RL_E_TICKET;
}

int rl_inflight_look(const struct rl_view *view, uint64_t handle, const void *key, size_t key_len,
		     uint32_t cost, struct rl_answer *ret, uint32_t *ret_used)
{
	const struct rl_check_key asked = {
		.id = rl_inflight_id(view, handle, key, key_len), .bytes = key, .len = key_len};
	struct rl_hold_sum sum = {0};
	struct rl_rule rule;
	uint64_t head, index = rl_table_find(view, &asked.id, &head);
	int error = read_rule(view, handle, &asked, cost, &rule);

	*ret = (struct rl_answer){0};
	*ret_used = 0;
	if (error != 0)
		return error;
	if (index == RL_NO_SLOT && rl_segment_has_grown(view))
		return RL_E_GROWN;
	if (index != RL_NO_SLOT) {
		uint64_t state = load(&view->slot[index].state);

		if (!rl_count_is(state, rl_head_n(head)))
			return RL_E_BUSY;
		rl_hold_sum(view, state, 0, NULL, &sum);
	}
	*ret_used = (uint32_t)(sum.held < UINT32_MAX ? sum.held : UINT32_MAX);
	answer(view, &rule, sum.held, ret);
	return rl_check_shadow(&rule, &asked, sum.held + cost <= rule.limit, ret);
}

bool rl_inflight_sound(uint64_t n, uint64_t shape, uint64_t window_ns)
{
	return n >= RL_N_FIRST && n <= RL_N_MAX &&
	       shape == rl_shape(rl_pair_high(shape), RL_CONCURRENCY, 0) &&
	       window_ns == RL_WINDOW_MIN_NS;
}

bool rl_inflight_free_idle(struct rl_seg *seg, uint64_t index, uint64_t head)
{
	_Atomic uint64_t *word = &seg->slot[index].state;
	uint64_t state = load(word), closing;
	struct rl_hold_sum sum;

	rl_hold_sum(&seg->view, state, 0, NULL, &sum);
	closing = state | RL_HOLD_CLOSING;
	if (sum.held + sum.asked > 0 && state != closing)
		return false;
	/* Closing already: an agent was killed here. */
	if (!atomic_compare_exchange_strong_explicit(word, &state, closing, memory_order_seq_cst,
						     memory_order_seq_cst))
		return false;
	rl_hold_sum(&seg->view, closing, 0, NULL, &sum);
	if (sum.held + sum.asked > 0) {
		atomic_store_explicit(word, closing & ~RL_HOLD_CLOSING, memory_order_seq_cst);
		return false;
	}
	return rl_table_free(seg, index, head);
}
