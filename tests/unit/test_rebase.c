/*
 * Goal:   a changed limit is counted by without forgetting and without admitting too much.
 * Method: random traffic on one slot, re-based to random limits on the way; an exact log
 *         judges every admit by the limit that held when it was asked. Then each step of a
 *         re-base is interrupted and recovered.
 */
#include "tests/t.h"

#include <string.h>
#include <sys/mman.h>

#include "shm/rl_clock.h"
#include "shm/rl_rebase.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define START (RL_CLOCK_BIAS_NS + 1000 * RL_SECOND_NS)
#define W     RL_SECOND_NS

static uint64_t admit_at[1000000];
static size_t admits;

/* Admits within (now - W, now]. */
static uint64_t in_window(uint64_t now)
{
	uint64_t count = 0;

	for (size_t i = admits; i-- > 0 && now - admit_at[i] < W;)
		count++;
	return count;
}

/* As the agent does it: to the wished groups, or not yet when they would forget something. */
static void replan(struct rl_slot *slot, uint32_t *q, uint32_t new_q, uint64_t now)
{
	const struct rl_view view = {.tick_ns = 4000000};
	const struct rl_rule rule = {.id = 1, .limit = 1, .q = new_q, .window_ns = W};
	struct rl_groups old = {.n = rl_head_n(slot->head), .q = *q}, new;

	slot->shape = rl_pair(1, *q);
	slot->window_ns = W;
	if (!rl_rebase_wanted(&view, slot, slot->head, &rule, now, &new_q))
		return;
	for (uint32_t i = 0; i < RL_RING; i++)
		old.ring[i] = slot->ring[i];
	rl_rebase_plan(&old, new_q, 0, &new);
	assert_int_equal(new.q, new_q);
	assert_true(new.n > old.n || old.n + 2 * (uint64_t)new_q >= RL_N_REBASE);
	assert_true(new.n >= RL_N_FIRST);
	for (uint32_t i = 0; i < RL_RING; i++)
		slot->ring[i] = new.ring[i];
	slot->head = rl_head_open(new.n);
	*q = new_q;
}

static void traffic(struct rl_slot *slot, uint32_t q, uint32_t limit, uint64_t *now, uint64_t *seed,
		    int steps)
{
	struct rl_window_terms terms = {
		.limit = rl_window_limit(limit, q), .q = q, .span_ns = W + 1};
	struct rl_window_answer answer;

	for (int i = 0; i < steps; i++) {
		*now += t_below(seed, W * 2 / limit + 1);
		if (rl_window_try(slot, slot->head, &terms, 1, *now, &answer) != RL_TRY_ALLOWED)
			continue;
		assert_true(in_window(*now) < limit); /* with this one at most limit */
		admit_at[admits++] = *now;
	}
}

static void test_rebase__random_limit_changes_never_admit_too_much(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct rl_slot slot = {.head = rl_head_open(RL_N_FIRST + 1)};
		uint64_t now = START;
		uint32_t q = 1;

		admits = 0;
		for (int change = 0; change < 25; change++) {
			uint32_t limit = 1 + (uint32_t)t_below(&seed, change % 3 == 0 ? 2000 : 60);

			if (t_below(&seed, 4) != 0) /* sometimes the agent is slow */
				replan(&slot, &q, rl_window_q(limit), now);
			traffic(&slot, q, limit, &now, &seed, (int)t_below(&seed, 2 * limit) + 10);
		}
	}
}

static void test_rebase__raised_limit_is_usable_at_once(void **state)
{
	struct rl_slot slot = {.head = rl_head_open(RL_N_FIRST + 1)};
	uint64_t now = START, seed = t_seed();
	struct rl_window_terms terms = {.limit = 1000, .q = rl_window_q(1000), .span_ns = W + 1};
	struct rl_window_answer answer;
	uint32_t q = rl_window_q(100), got = 0;

	(void)state;
	admits = 0;
	traffic(&slot, q, 100, &now, &seed, 3000);
	replan(&slot, &q, terms.q, now);
	while (rl_window_try(&slot, slot.head, &terms, 1, now, &answer) == RL_TRY_ALLOWED)
		got++;
	assert_true(in_window(now) + got <= 1000);
	assert_true(got >= 1000 - 100 - terms.q - rl_window_q(100));
}

static void test_rebase__lowered_limit_refuses_until_enough_has_passed(void **state)
{
	struct rl_slot slot = {.head = rl_head_open(RL_N_FIRST + 1)};
	struct rl_window_terms terms = {.limit = 1000, .q = rl_window_q(1000), .span_ns = W + 1};
	struct rl_window_answer answer;
	uint32_t q = terms.q, got = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		rl_window_try(&slot, slot.head, &terms, 1, START + (uint64_t)i * W / 1000, &answer);
	replan(&slot, &q, rl_window_q(10), START + W);
	assert_int_equal(q, rl_window_q(1000)); /* 1000 do not fit into 23 yet */
	terms = (struct rl_window_terms){.limit = 10, .q = q, .span_ns = W + 1};
	/* The newest 10 of the 1000 lie at 0.990 .. 0.999 W. */
	assert_int_equal(
		rl_window_try(&slot, slot.head, &terms, 1, START + W + W * 9 / 10, &answer),
		RL_TRY_LIMITED);
	replan(&slot, &q, 1, START + 2 * W + W / 10);
	assert_int_equal(q, 1);
	terms = (struct rl_window_terms){.limit = 10, .q = q, .span_ns = W + 1};
	while (rl_window_try(&slot, slot.head, &terms, 1, START + 2 * W + W / 10, &answer) ==
	       RL_TRY_ALLOWED)
		got++;
	assert_int_equal(got, 10);
}

static void test_rebase__newest_group_alone_is_not_forgotten(void **state)
{
	struct rl_window_terms terms = {.limit = 1000, .q = rl_window_q(1000), .span_ns = W + 1};
	struct rl_slot slot = {.head = rl_head_open((RL_N_FIRST / terms.q + 1) * terms.q)};
	struct rl_window_answer answer;
	uint32_t q = terms.q;

	(void)state;
	assert_int_equal(rl_window_try(&slot, slot.head, &terms, q, START, &answer),
			 RL_TRY_ALLOWED);
	replan(&slot, &q, 1, START + W);
	assert_int_equal(q, terms.q); /* 44 do not fit into 23 */
	replan(&slot, &q, 1, START + 2 * W);
	assert_int_equal(q, 1);
}

static void test_rebase__count_near_its_end_starts_anew_and_keeps_the_window(void **state)
{
	struct rl_slot slot = {.head = rl_head_open((RL_N_REBASE / 5 + 12345) * 5)};
	struct rl_window_terms terms = {.limit = 100, .q = rl_window_q(100), .span_ns = W + 1};
	struct rl_window_answer answer;
	uint32_t q = terms.q;

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(rl_window_try(&slot, slot.head, &terms, 1, START, &answer),
				 RL_TRY_ALLOWED);
	replan(&slot, &q, q, START);
	assert_true(rl_head_n(slot.head) < RL_N_REBASE);
	assert_int_equal(rl_window_try(&slot, slot.head, &terms, 1, START + W, &answer),
			 RL_TRY_LIMITED);
	assert_int_equal(rl_window_try(&slot, slot.head, &terms, 100, START + W + 1, &answer),
			 RL_TRY_ALLOWED);
}

/* One open slot in a real segment, with 5 units of 10 used. */
static uint64_t make_slot(struct rl_seg *seg, struct rl_rule *rule)
{
	struct rl_id id = {{UINT64_C(0x123456789), UINT64_C(0x987654321)}};
	struct rl_window_terms terms = {.limit = 10, .q = 1, .span_ns = rule->window_ns + 1};
	struct rl_window_answer answer;
	uint64_t head, index;

	rule->q = rl_window_q(10);
	assert_int_equal(rl_table_claim(seg, &id,
					&(struct rl_claim){.rule_id = rule->id,
							   .q = 1,
							   .window_ns = rule->window_ns}),
			 1);
	index = rl_table_find(&seg->view, &id, &head);
	assert_int_equal(rl_window_try(&seg->slot[index], head, &terms, 5, START, &answer),
			 RL_TRY_ALLOWED);
	return index;
}

static bool wanted(const struct rl_seg *seg, uint64_t index, const struct rl_rule *rule)
{
	const struct rl_slot *slot = &seg->slot[index];
	uint32_t q;

	return rl_rebase_wanted(&seg->view, slot, slot->head, rule, START, &q);
}

static void test_rebase__slot_takes_the_rules_new_groups_and_window(void **state)
{
	struct rl_rule rule = {.id = 7, .limit = 10, .window_ns = W};
	struct rl_window_terms terms = {.limit = 100, .q = 5, .span_ns = W + 1};
	struct rl_window_answer answer;
	struct t_seg t;
	uint64_t index, head;

	(void)state;
	t_seg_make(&t, 100);
	index = make_slot(&t.seg, &rule);
	head = t.seg.slot[index].head;
	assert_false(wanted(&t.seg, index, &rule));
	rule.limit = 100;
	rule.q = rl_window_q(100);
	assert_true(wanted(&t.seg, index, &rule));
	/* The head moved on. */
	assert_false(rl_rebase_slot(&t.seg, index, rl_head_open(RL_N_FIRST + 77), &rule, 5));
	assert_true(rl_rebase_slot(&t.seg, index, head, &rule, 5));
	assert_false(wanted(&t.seg, index, &rule));
	assert_true(rl_head_is_open(t.seg.slot[index].head));
	rl_window_look(&t.seg.slot[index], t.seg.slot[index].head, &terms, 1, START, &answer);
	assert_int_equal(answer.remaining, 95);
	assert_false(rl_rebase_recover(&t.seg));
	t_seg_drop(&t);
}

static void test_rebase__killed_after_the_close_is_finished_by_the_next_agent(void **state)
{
	struct rl_rule rule = {.id = 7, .limit = 10, .window_ns = W};
	struct rl_window_terms terms = {.limit = 100, .q = 5, .span_ns = W + 1};
	struct rl_window_answer answer;
	struct t_seg t;
	uint64_t index, closed;

	(void)state;
	t_seg_make(&t, 100);
	index = make_slot(&t.seg, &rule);
	rule.limit = 100;
	rule.q = rl_window_q(100);
	closed = rl_head_closed(rl_head_n(t.seg.slot[index].head), RL_KIND_REBASE);
	assert_true(rl_rebase_slot(&t.seg, index, t.seg.slot[index].head, &rule, 5));
	/* As if killed between the close and the open: words half written, entry still valid. */
	t.seg.slot[index].head = closed;
	t.seg.slot[index].shape = 0;
	for (uint32_t i = 0; i < RL_RING; i += 2)
		t.seg.slot[index].ring[i] = 0;
	t.seg.live->journal.valid = 1;
	assert_true(rl_rebase_recover(&t.seg));
	assert_true(rl_head_is_open(t.seg.slot[index].head));
	rl_window_look(&t.seg.slot[index], t.seg.slot[index].head, &terms, 1, START, &answer);
	assert_int_equal(answer.remaining, 95);
	assert_int_equal(t.seg.live->journal.valid, 0);
	t_seg_drop(&t);
}

/* What a kill at this moment would leave of the slot and of the journal. */
struct remains {
	struct rl_seg seg;
	struct rl_slot slot;
	struct rl_journal journal;
};

static void note_remains(void *arg)
{
	struct remains *r = arg;

	memcpy(&r->slot, r->seg.slot, sizeof(r->slot));
	memcpy(&r->journal, &r->seg.live->journal, sizeof(r->journal));
}

static void test_rebase__killed_at_the_first_new_stamp_is_finished_from_the_journal(void **state)
{
	/* Only the page of the ring traps; what is there at that moment is what recovers. */
	struct rl_slot *split = t_split_slot();
	struct rl_rule rule = {.id = 7, .limit = 10, .window_ns = W};
	struct rl_window_terms terms = {.limit = 100, .q = 5, .span_ns = W + 1};
	struct rl_window_answer answer;
	struct remains left;
	struct t_seg t;
	uint64_t index;

	(void)state;
	if (t_under_tsan())
		return;
	t_seg_make(&t, 100);
	index = make_slot(&t.seg, &rule);
	memcpy(split, &t.seg.slot[index], sizeof(*split));
	left.seg = t.seg;
	left.seg.slot = split;
	rule.limit = 100;
	rule.q = rl_window_q(100);
	t_upon_access(split->ring, PROT_READ, note_remains, &left);
	assert_true(rl_rebase_slot(&left.seg, 0, split->head, &rule, 5));
	assert_true(rl_head_is(left.slot.head, RL_KIND_REBASE));
	memcpy(split, &left.slot, sizeof(*split));
	memcpy(&t.seg.live->journal, &left.journal, sizeof(left.journal));
	assert_true(rl_rebase_recover(&left.seg));
	rl_window_look(split, split->head, &terms, 1, START, &answer);
	assert_int_equal(answer.remaining, 95);
	t_seg_drop(&t);
}

static void test_rebase__killed_before_the_close_is_forgotten(void **state)
{
	struct rl_rule rule = {.id = 7, .limit = 10, .window_ns = W};
	struct rl_slot before;
	struct t_seg t;
	uint64_t index;

	(void)state;
	t_seg_make(&t, 100);
	index = make_slot(&t.seg, &rule);
	rule.limit = 100;
	rule.q = rl_window_q(100);
	memcpy(&before, &t.seg.slot[index], sizeof(before));
	assert_false(rl_rebase_slot(&t.seg, index, rl_head_open(RL_N_FIRST + 77), &rule, 5));
	t.seg.live->journal.valid = 1; /* the entry was written, the close never came */
	assert_false(rl_rebase_recover(&t.seg));
	assert_memory_equal(&before, &t.seg.slot[index], sizeof(before));
	t.seg.live->journal.valid = 1;
	t.seg.live->journal.slot = UINT64_MAX; /* damaged */
	assert_false(rl_rebase_recover(&t.seg));
	t_seg_drop(&t);
}

static void test_rebase__coarse_stamps_under_the_precise_clock_count_two_ticks_later(void **state)
{
	struct rl_rule rule = {.id = 7, .limit = 10, .window_ns = 20 * RL_SECOND_NS};
	struct t_seg t;
	uint64_t index;

	(void)state;
	t_seg_make(&t, 100);
	index = make_slot(&t.seg, &rule);
	rule.window_ns = W;
	assert_true(rl_rebase_slot(&t.seg, index, t.seg.slot[index].head, &rule, 1));
	assert_int_equal(rl_window_newest(&t.seg.slot[index]), START + 2 * t.seg.view.tick_ns);
	t_seg_drop(&t);
}

/* What no worker writes: each must be left alone at once, not divided by or counted up to. */
static const struct {
	uint64_t head, shape, window_ns;
} damaged[] = {
	{0, UINT64_C(7) << 32 | 1, W},
	{(RL_N_FIRST - 1) << RL_HEAD_N_SHIFT, UINT64_C(7) << 32 | 1, W},
	{RL_N_FIRST << RL_HEAD_N_SHIFT, UINT64_C(7) << 32, W},
	{RL_N_FIRST << RL_HEAD_N_SHIFT, UINT64_MAX, W},
	{RL_N_FIRST << RL_HEAD_N_SHIFT, UINT64_C(7) << 32 | 1, 0},
	{RL_N_FIRST << RL_HEAD_N_SHIFT, UINT64_C(7) << 32 | 1, UINT64_MAX},
};

static void test_rebase__damaged_slot_is_left_alone(void **state)
{
	const struct rl_rule rule = {.id = 7, .limit = 1000, .q = 44, .window_ns = W};
	struct t_seg t;
	uint32_t q;

	(void)state;
	t_seg_make(&t, 100);
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		struct rl_slot *slot = &t.seg.slot[0];

		slot->head = damaged[i].head;
		slot->shape = damaged[i].shape;
		slot->window_ns = damaged[i].window_ns;
		assert_false(rl_rebase_wanted(&t.seg.view, slot, slot->head, &rule, START, &q));
		assert_false(rl_rebase_slot(&t.seg, 0, slot->head, &rule, rule.q));
		assert_int_equal(slot->head, damaged[i].head);
	}
	t_seg_drop(&t);
}

static void test_rebase__damaged_journal_opens_nothing(void **state)
{
	const uint64_t closed = rl_head_closed(RL_N_FIRST + 9, RL_KIND_REBASE);
	struct t_seg t;

	(void)state;
	t_seg_make(&t, 100);
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		t.seg.slot[5].head = closed;
		t.seg.live->journal = (struct rl_journal){
			.valid = 1,
			.slot = 5,
			.closed_head = closed,
			.open_head = damaged[i].head,
			.shape = damaged[i].shape,
			.window_ns = damaged[i].window_ns,
		};
		assert_false(rl_rebase_recover(&t.seg));
		assert_int_equal(t.seg.slot[5].head, closed);
		assert_int_equal(t.seg.live->journal.valid, 0);
	}
	t_seg_drop(&t);
}

static void test_rebase__forgotten_events_are_held_no_longer_and_never_told(void **state)
{
	struct rl_rule rule = {.id = 7, .limit = 10, .window_ns = W, .q = 1};
	struct rl_window_terms terms = {.limit = 10, .q = 1, .span_ns = W + 1};
	struct rl_window_answer answer;
	struct t_seg t;
	uint64_t index, head, n;

	(void)state;
	t_seg_make(&t, 100);
	index = make_slot(&t.seg, &rule);
	for (int i = 0; i < 5; i++)
		rl_window_try(&t.seg.slot[index], t.seg.slot[index].head, &terms, 1,
			      START + (uint64_t)(100 + i), &answer);
	head = t.seg.slot[index].head;
	n = rl_head_n(head);
	t.seg.side[index].acked = rl_acked(n - 10, true, 3);
	rule.fleet = RL_STRICT;
	t.seg.side[index].infl = 1;
	assert_false(rl_rebase_forget(&t.seg, index, head, &rule, START + 103));
	t.seg.side[index].infl = 0;
	assert_false(rl_rebase_forget(&t.seg, index, head + (1 << 22), &rule, START + 103));
	assert_true(rl_rebase_forget(&t.seg, index, head, &rule, START + 103));
	head = t.seg.slot[index].head;
	rl_window_look(&t.seg.slot[index], head, &terms, 1, START + 200, &answer);
	assert_int_equal(answer.remaining, 8);
	assert_int_equal(rl_head_n(head) - rl_acked_n(t.seg.side[index].acked), 2);
	assert_true((t.seg.side[index].acked & RL_TRACKED) != 0);
	assert_int_equal(rl_acked_text(t.seg.side[index].acked), 3);
	/* Again: nothing more. */
	assert_true(rl_rebase_forget(&t.seg, index, head, &rule, START + 103));
	head = t.seg.slot[index].head;
	rl_window_look(&t.seg.slot[index], head, &terms, 1, START + 200, &answer);
	assert_int_equal(answer.remaining, 8);
	assert_int_equal(rl_head_n(head) - rl_acked_n(t.seg.side[index].acked), 2);
	t_seg_drop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rebase__random_limit_changes_never_admit_too_much),
		cmocka_unit_test(test_rebase__raised_limit_is_usable_at_once),
		cmocka_unit_test(test_rebase__lowered_limit_refuses_until_enough_has_passed),
		cmocka_unit_test(test_rebase__newest_group_alone_is_not_forgotten),
		cmocka_unit_test(test_rebase__count_near_its_end_starts_anew_and_keeps_the_window),
		cmocka_unit_test(test_rebase__slot_takes_the_rules_new_groups_and_window),
		cmocka_unit_test(test_rebase__killed_after_the_close_is_finished_by_the_next_agent),
		cmocka_unit_test(
			test_rebase__killed_at_the_first_new_stamp_is_finished_from_the_journal),
		cmocka_unit_test(test_rebase__killed_before_the_close_is_forgotten),
		cmocka_unit_test(
			test_rebase__coarse_stamps_under_the_precise_clock_count_two_ticks_later),
		cmocka_unit_test(test_rebase__damaged_slot_is_left_alone),
		cmocka_unit_test(test_rebase__damaged_journal_opens_nothing),
		cmocka_unit_test(test_rebase__forgotten_events_are_held_no_longer_and_never_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
