/*
 * Goal:   the agent's sweep frees what is idle, nothing else, and tidies what the dead left.
 * Method: visit slots made by hand at times given by the test.
 */
#include "tests/t.h"

#include <string.h>

#include "agent/sweep.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_hash.h"
#include "shm/rl_member.h"
#include "shm/rl_table.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

struct fixture {
	struct t_seg t;
	struct sweep sweep;
	uint64_t rule;
	uint64_t index; /* of the slot of key "bob", with one unit spent */
};

static int spend(struct fixture *f, const char *key, uint32_t cost)
{
	struct rl_answer answer;

	return rl_check_spend(&f->t.seg, &f->t.seg.member[0], f->rule, key, strlen(key), cost, 0,
			      &answer);
}

static uint64_t slot_of(struct fixture *f, const char *key)
{
	struct rl_id id =
		rl_hash_key(f->t.seg.view.hash_key, rl_pair_high(f->rule), key, strlen(key));
	uint64_t head;

	return rl_table_find(&f->t.seg.view, &id, &head);
}

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	t_seg_make(&f.t, 100);
	t_rules(&f.t.seg, 1, "login 10/s");
	f.rule = t_rule(&f.t.seg.view, "login");
	sweep_init(&f.sweep, &f.t.seg);
	assert_int_equal(spend(&f, "bob", 1), 1);
	f.index = slot_of(&f, "bob");
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	t_seg_drop(&((struct fixture *)*state)->t);
	return 0;
}

static uint64_t newest(const struct fixture *f)
{
	return rl_window_newest(&f->t.seg.slot[f->index]);
}

/* The window and the largest hold after the last event of "bob". */
static uint64_t idle_from(const struct fixture *f)
{
	return newest(f) + RL_SECOND_NS + rl_clock_hold_ns(true, f->t.seg.view.tick_ns);
}

static void test_sweep__slot_in_its_window_stays(void **state)
{
	struct fixture *f = *state;

	sweep_slot(&f->sweep, f->index, idle_from(f) - 1);
	assert_int_equal(slot_of(f, "bob"), f->index);
}

static void test_sweep__slot_whose_window_has_passed_is_freed(void **state)
{
	struct fixture *f = *state;

	sweep_slot(&f->sweep, f->index, idle_from(f));
	assert_int_equal(slot_of(f, "bob"), RL_NO_SLOT);
	assert_int_equal(f->t.seg.live->slots_freed, 1);
	assert_int_equal(rl_table_used(&f->t.seg.view), 0);
}

static void test_sweep__slot_stays_for_the_longer_of_old_and_new_window(void **state)
{
	struct fixture *f = *state;

	t_rules(&f->t.seg, 1, "login 10/h");
	sweep_rules_changed(&f->sweep);
	sweep_slot(&f->sweep, f->index, idle_from(f) + RL_SECOND_NS);
	assert_int_equal(slot_of(f, "bob"), f->index);
	assert_int_equal(f->t.seg.live->slots_rebased, 1); /* and it now knows the new window */
	t_rules(&f->t.seg, 1, "login 10/s");
	sweep_rules_changed(&f->sweep);
	sweep_slot(&f->sweep, f->index, newest(f) + 10 * RL_SECOND_NS);
	assert_int_equal(slot_of(f, "bob"), f->index); /* made for an hour: not idle yet */
}

static void test_sweep__slot_of_a_removed_rule_stays_until_its_window_has_passed(void **state)
{
	struct fixture *f = *state;
	struct rl_id id = rl_hash_key(f->t.seg.view.hash_key, rl_pair_high(f->rule), "bob", 3);
	uint64_t head;

	t_rules(&f->t.seg, 0);
	sweep_rules_changed(&f->sweep);
	sweep_slot(&f->sweep, f->index, idle_from(f) - 1);
	assert_int_equal(rl_table_find(&f->t.seg.view, &id, &head), f->index);
	sweep_slot(&f->sweep, f->index, idle_from(f));
	assert_int_equal(rl_table_find(&f->t.seg.view, &id, &head), RL_NO_SLOT);
}

static void test_sweep__raised_limit_is_complete_after_one_visit(void **state)
{
	struct fixture *f = *state;
	int admitted = 0;

	t_rules(&f->t.seg, 1, "login 1000/s");
	sweep_rules_changed(&f->sweep);
	sweep_slot(&f->sweep, f->index, newest(f));
	while (admitted < 2000 && spend(f, "bob", 1) == 1)
		admitted++;
	assert_true(admitted >= 999 - (int)rl_window_q(1000) && admitted <= 999);
}

static void test_sweep__unfinished_claims_are_taken_back_after_a_second(void **state)
{
	static const uint64_t kinds[] = {RL_KIND_CLAIM, RL_KIND_TENT};
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];
	uint64_t now = newest(f) + RL_DAY_NS;

	for (int i = 0; i < 2; i++) {
		slot->head = rl_head_closed(rl_head_n(slot->head), kinds[i]);
		sweep_slot(&f->sweep, f->index, now);
		sweep_slot(&f->sweep, f->index, now + RL_SECOND_NS - 1);
		assert_true(rl_head_is(slot->head, kinds[i]));
		sweep_slot(&f->sweep, f->index, now + RL_SECOND_NS);
		assert_true(rl_head_is(slot->head, RL_KIND_FREE));
		assert_int_equal(f->t.seg.live->slots_reaped, (uint64_t)i + 1);
		now += RL_DAY_NS;
	}
	assert_int_equal(rl_table_used(&f->t.seg.view), 0);
}

static void test_sweep__claim_that_moved_on_is_not_taken_back(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];
	uint64_t now = newest(f) + RL_DAY_NS;

	slot->head = rl_head_closed(rl_head_n(slot->head), RL_KIND_CLAIM);
	sweep_slot(&f->sweep, f->index, now);
	slot->head = rl_head_closed(rl_head_n(slot->head) + 9, RL_KIND_CLAIM); /* another's */
	sweep_slot(&f->sweep, f->index, now + 2 * RL_SECOND_NS);
	assert_true(rl_head_is(slot->head, RL_KIND_CLAIM));
}

static void test_sweep__spoiled_and_half_wiped_slots_become_free(void **state)
{
	static const uint64_t kinds[] = {RL_KIND_SPOILED, RL_KIND_WIPE};
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];

	for (int i = 0; i < 2; i++) {
		slot->id[0] = 4711;
		slot->head = rl_head_closed(rl_head_n(slot->head), kinds[i]);
		sweep_slot(&f->sweep, f->index, newest(f));
		assert_true(rl_head_is(slot->head, RL_KIND_FREE));
		assert_int_equal(slot->id[0], 0);
	}
}

static void test_sweep__word_or_tag_of_a_late_claimant_in_a_free_slot_is_wiped(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];

	sweep_slot(&f->sweep, f->index, idle_from(f));
	slot->id[1] = 4711;
	sweep_slot(&f->sweep, f->index, idle_from(f));
	assert_int_equal(slot->id[1], 0);
	f->t.seg.tags[f->index / RL_LANES].word[f->index % RL_LANES / 4] = UINT64_MAX;
	sweep_slot(&f->sweep, f->index, idle_from(f));
	assert_int_equal(rl_table_used(&f->t.seg.view), 3);
	assert_int_equal(f->t.seg.tags[f->index / RL_LANES].word[f->index % RL_LANES / 4] >>
					 (f->index % 4 * 16) &
				 0xffff,
			 0);
}

static void test_sweep__damaged_slot_is_emptied_and_its_key_starts_anew(void **state)
{
	static const uint64_t heads[] = {
		0,                                                  /* counts nothing, ever */
		UINT64_C(4711) << RL_HEAD_N_SHIFT,                  /* below the first count */
		UINT64_C(4711) << RL_HEAD_N_SHIFT | RL_HEAD_CLOSED, /* free, but not from here */
		RL_N_MAX << RL_HEAD_N_SHIFT | RL_HEAD_CLOSED, /* free, and none can claim it */
		RL_N_FIRST << RL_HEAD_N_SHIFT | RL_HEAD_CLOSED | RL_KIND_REBASE,
		RL_N_FIRST << RL_HEAD_N_SHIFT | RL_HEAD_CLOSED | 0xfffff,
	};
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];

	t_rules(&f->t.seg, 1, "login 1000/s"); /* a rule of other groups than the slot */
	sweep_rules_changed(&f->sweep);
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		slot->head = heads[i];
		sweep_slot(&f->sweep, f->index, newest(f));
		assert_true(rl_head_is(slot->head, RL_KIND_FREE));
		assert_true(rl_head_n(slot->head) >= RL_N_FIRST);
		assert_true(rl_head_n(slot->head) <= RL_N_REBASE);
		assert_int_equal(spend(f, "bob", 1), 1);
		assert_int_equal(slot_of(f, "bob"), f->index);
	}
	assert_int_equal(f->sweep.damaged, sizeof(heads) / sizeof(heads[0]));
	assert_int_equal(f->t.seg.live->slots_evicted, 4); /* two were free */
}

static void test_sweep__damaged_shape_or_window_empties_the_slot(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];

	slot->shape = slot->shape >> 32 << 32; /* groups of no unit */
	sweep_slot(&f->sweep, f->index, newest(f));
	assert_true(rl_head_is(slot->head, RL_KIND_FREE));
	assert_int_equal(spend(f, "bob", 1), 1);
	slot->window_ns = UINT64_C(1) << 62; /* never idle */
	sweep_slot(&f->sweep, f->index, newest(f));
	assert_true(rl_head_is(slot->head, RL_KIND_FREE));
}

/* It would be idle in 100 years. One that was written while the slice went on is left as it is. */
static void test_sweep__stamp_ahead_of_the_clock_is_set_back(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];
	uint64_t ahead_ns = rl_clock_precise_ns() + 36500 * RL_DAY_NS, mended;

	slot->ring[7] = ahead_ns;
	sweep_slot(&f->sweep, f->index, rl_clock_precise_ns());
	assert_true(slot->ring[7] <= rl_clock_precise_ns());
	mended = f->t.seg.member[0].mended;
	assert_int_equal(mended, 1);
	slot->ring[7] = rl_clock_precise_ns();
	ahead_ns = slot->ring[7];
	sweep_slot(&f->sweep, f->index,
		   ahead_ns - RL_SECOND_NS / 2); /* a slice that began before */
	assert_int_equal(slot->ring[7], ahead_ns);
	assert_int_equal(f->t.seg.member[0].mended, mended);
}

static void test_sweep__slot_out_of_its_place_is_emptied(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *slot = &f->t.seg.slot[f->index];
	_Atomic uint64_t *tags = &f->t.seg.tags[f->index / RL_LANES].word[f->index % RL_LANES / 4];

	*tags ^= UINT64_C(1) << f->index % 4 * 16;
	sweep_slot(&f->sweep, f->index, newest(f));
	assert_true(rl_head_is(slot->head, RL_KIND_FREE));
	assert_int_equal(spend(f, "bob", 1), 1);
	slot->id[1] = 0;
	sweep_slot(&f->sweep, f->index, newest(f));
	assert_true(rl_head_is(slot->head, RL_KIND_FREE));
	assert_int_equal(spend(f, "bob", 1), 1);
	assert_int_equal(f->sweep.damaged, 2);
	sweep_slot(&f->sweep, f->index, newest(f));
	assert_int_equal(slot_of(f, "bob"), f->index);
}

/* Else it is never re-based. */
static void test_sweep__call_of_a_local_slot_is_forgotten(void **state)
{
	struct fixture *f = *state;

	f->t.seg.side[f->index].infl = 4711;
	sweep_slot(&f->sweep, f->index, newest(f));
	assert_int_equal(f->t.seg.side[f->index].infl, 0);
}

/* Whatever a hostile process writes into every slot: a pass ends, and so does the next. */
static void test_sweep__passes_end_over_a_table_of_random_words(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = t_seed(), words = sizeof(struct rl_slot) / 8;

	t_rules(&f->t.seg, 2, "login 1000/s", "api 3/m");
	sweep_rules_changed(&f->sweep);
	for (int round = 0; round < 50; round++) {
		for (uint64_t i = 0; i < f->t.seg.view.slot_count; i++) {
			uint64_t *word = (uint64_t *)(void *)&f->t.seg.slot[i];

			for (uint64_t w = 0; w < words; w++)
				word[w] = t_random(&seed) >> t_below(&seed, 64);
			f->t.seg.slot[i].shape = rl_pair(rl_pair_high(f->rule), (uint32_t)word[7]);
			sweep_slot(&f->sweep, i, RL_CLOCK_BIAS_NS + RL_SECOND_NS);
			sweep_slot(&f->sweep, i, RL_CLOCK_BIAS_NS + 9 * RL_SECOND_NS);
		}
	}
}

static void test_sweep__pass_visits_every_slot_and_quickens_when_full(void **state)
{
	struct fixture *f = *state;
	int slices = 0;
	char key[32];

	while (f->t.seg.live->sweep_passes == 0 && slices < 10000) {
		sweep_slice(&f->sweep);
		slices++;
	}
	assert_true(slices <= (int)(SWEEP_BUSY_MS / SWEEP_SLICE_MS)); /* the first pass is quick */
	assert_int_equal(f->sweep.pass_ms, SWEEP_CALM_MS);
	for (int i = 0; i < 1000; i++) {
		memset(key, 0, sizeof(key));
		key[0] = (char)('a' + i % 26);
		key[1] = (char)('a' + i / 26 % 26);
		key[2] = (char)('a' + i / 676);
		spend(f, key, 1);
	}
	while (f->t.seg.live->sweep_passes == 1)
		sweep_slice(&f->sweep);
	assert_int_equal(f->sweep.pass_ms, SWEEP_BUSY_MS);
}

/* Until what is in the window fits the smaller ring, the next pass comes soon. */
static void test_sweep__pass_is_quick_while_a_short_window_waits_for_smaller_groups(void **state)
{
	struct fixture *f = *state;
	uint64_t passes;

	t_rules(&f->t.seg, 1, "login 1000/9s");
	spend(f, "eve", 500);
	t_rules(&f->t.seg, 1, "login 10/9s");
	sweep_rules_changed(&f->sweep);
	passes = f->t.seg.live->sweep_passes;
	while (f->t.seg.live->sweep_passes == passes)
		sweep_slice(&f->sweep);
	assert_int_equal(f->sweep.pass_ms, SWEEP_BUSY_MS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sweep__slot_in_its_window_stays),
		TEST(test_sweep__slot_whose_window_has_passed_is_freed),
		TEST(test_sweep__slot_stays_for_the_longer_of_old_and_new_window),
		TEST(test_sweep__slot_of_a_removed_rule_stays_until_its_window_has_passed),
		TEST(test_sweep__raised_limit_is_complete_after_one_visit),
		TEST(test_sweep__unfinished_claims_are_taken_back_after_a_second),
		TEST(test_sweep__claim_that_moved_on_is_not_taken_back),
		TEST(test_sweep__spoiled_and_half_wiped_slots_become_free),
		TEST(test_sweep__word_or_tag_of_a_late_claimant_in_a_free_slot_is_wiped),
		TEST(test_sweep__damaged_slot_is_emptied_and_its_key_starts_anew),
		TEST(test_sweep__damaged_shape_or_window_empties_the_slot),
		TEST(test_sweep__stamp_ahead_of_the_clock_is_set_back),
		TEST(test_sweep__slot_out_of_its_place_is_emptied),
		TEST(test_sweep__call_of_a_local_slot_is_forgotten),
		TEST(test_sweep__passes_end_over_a_table_of_random_words),
		TEST(test_sweep__pass_visits_every_slot_and_quickens_when_full),
		TEST(test_sweep__pass_is_quick_while_a_short_window_waits_for_smaller_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
