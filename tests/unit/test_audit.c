/*
 * Goal:   each admit of an audited key is noted once, none of another; the agent takes what was
 * noted and counts what is lost; and what it finds above a limit was above it. Method: checks by
 * librl's own code, and notes by hand where a bug is to be played.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>

#include "agent/sweep.h"
#include "agent/watch/audit.h"
#include "shm/rl_audit.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_shared.h"
#include "shm/rl_table.h"
#include "shm/rl_watch.h"
#include "shm/rl_word.h"

struct fixture {
	struct t_seg t;
	struct audit *audit;
	struct sweep sweep;
	uint64_t rule;
};

static void publish(struct fixture *f, const char *limit, uint32_t one_in, uint8_t consistency)
{
	struct rl_rule_spec spec = {.name = "r", .audit = (uint8_t)rl_audit_code(one_in)};
	size_t other;

	spec.fleet = (struct rl_fleet_terms){.consistency = consistency,
					     .no_credit = RL_NO_CREDIT_DENY,
					     .on_unreachable = RL_CLOSED};
	assert_null(rl_terms_parse(limit, &spec.terms));
	assert_int_equal(rl_rules_publish(&f->t.seg, &spec, 1, &other), 0);
	f->rule = t_rule(&f->t.seg.view, "r");
	sweep_rules_changed(&f->sweep);
}

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	t_seg_make(&f.t, 2000);
	f.sweep.seg = &f.t.seg;
	publish(&f, "10/1s", 1, RL_LOCAL);
	f.audit = audit_new(&f.t.seg);
	assert_non_null(f.audit);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	audit_free(f->audit);
	t_seg_drop(&f->t);
	return 0;
}

static int spend(struct fixture *f, const char *key, uint32_t cost, struct rl_answer *answer)
{
	struct rl_answer own;

	return rl_check_spend(&f->t.seg, &f->t.seg.member[0], f->rule, key, strlen(key), cost, 0,
			      answer != NULL ? answer : &own);
}

static uint64_t slot_of(struct fixture *f, const char *key)
{
	struct rl_id id =
		rl_hash_key(f->t.seg.view.hash_key, rl_pair_high(f->rule), key, strlen(key));
	uint64_t head;

	return rl_table_find(&f->t.seg.view, &id, &head);
}

static uint64_t noted(const struct fixture *f)
{
	return f->t.seg.watch->put;
}

static const struct rl_watch_rule *published(const struct fixture *f)
{
	return &f->t.seg.watch->rule[rl_pair_low(f->rule)];
}

/* Until everything that was noted is taken, judged and published. */
static void tick(struct fixture *f)
{
	for (uint32_t i = 0; i < f->audit->key_count; i++)
		f->audit->key[i].judged_ns = 0;
	f->audit->lately_ns = 0;
	audit_tick(f->audit);
	for (uint32_t i = 0; i < f->audit->key_count; i++)
		f->audit->key[i].judged_ns = 0;
	f->audit->lately_ns = 0;
	audit_tick(f->audit);
}

static void test_audit__admits_are_noted_and_refusals_are_not(void **state)
{
	struct rl_audit_reader reader = {0};
	struct fixture *f = *state;
	struct rl_audit_entry entry;
	uint64_t before_ns = rl_clock_precise_ns(), total = 0;

	for (int i = 0; i < 20; i++)
		spend(f, "bob", 1, NULL);
	for (int i = 0; i < 5; i++)
		spend(f, "eve", 3, NULL);
	assert_int_equal(noted(f), 10 + 3);
	while (rl_audit_take(&f->t.seg, &reader, &entry)) {
		assert_int_equal(entry.kind, RL_AUDIT_ADMIT);
		assert_int_equal(entry.index, slot_of(f, entry.units == 1 ? "bob" : "eve"));
		assert_int_equal(entry.id, rl_audit_id(&f->t.seg.view, entry.index));
		assert_true(entry.begun_ns >= before_ns && entry.ended_ns >= entry.begun_ns);
		assert_true(entry.ended_ns <= rl_clock_precise_ns());
		total += entry.units;
	}
	assert_int_equal(total, 10 + 9);
	assert_int_equal(f->t.seg.watch->missed, 0);
}

static void test_audit__keys_that_are_not_audited_note_nothing(void **state)
{
	struct fixture *f = *state;

	publish(f, "10/1s", 0, RL_LOCAL);
	for (int i = 0; i < 20; i++)
		spend(f, "bob", 1, NULL);
	assert_int_equal(noted(f), 0);
	assert_int_equal(f->t.seg.slot[slot_of(f, "bob")].state, 0); /* the usual path */
}

static void test_audit__hosts_agree_on_one_key_in_n(void **state)
{
	struct fixture *f = *state;
	struct t_seg other;
	struct rl_rule rule;
	uint32_t picked = 0;

	publish(f, "10/1s", 16, RL_LOCAL);
	t_seg_make(&other, 10);
	t_rules(&other.seg, 1, "r 10/1s");
	other.seg.bank[other.seg.live->generation & 1].rule[0].rest =
		f->t.seg.bank[f->t.seg.live->generation & 1].rule[0].rest;
	assert_int_equal(rl_rules_read(&f->t.seg.view, f->rule, &rule), 0);
	for (int i = 0; i < 16000; i++) {
		struct rl_key_text text;
		char key[32];

		rl_key_text(key, (size_t)snprintf(key, sizeof(key), "key-%d", i), &text);
		picked += rl_audit_picks(&f->t.seg.view, &rule, &text);
		assert_int_equal(rl_audit_picks(&other.seg.view, &rule, &text),
				 rl_audit_picks(&f->t.seg.view, &rule, &text));
	}
	assert_in_range(picked, 880, 1120);
	t_seg_drop(&other);
}

static void test_audit__notes_that_were_overwritten_are_counted(void **state)
{
	struct rl_audit_reader reader = {0};
	struct fixture *f = *state;
	struct rl_audit_entry entry;
	uint32_t taken = 0;

	spend(f, "bob", 1, NULL);
	for (uint32_t i = 1; i < RL_AUDIT_CELLS + 100; i++)
		rl_audit_note(&f->t.seg, slot_of(f, "bob"), rl_clock_precise_ns(), i,
			      RL_AUDIT_ADMIT);
	for (; rl_audit_take(&f->t.seg, &reader, &entry); taken++)
		assert_int_equal(entry.units, taken + 100);
	assert_int_equal(taken, RL_AUDIT_CELLS);
	assert_int_equal(f->t.seg.watch->missed, 100);
}

/* The next cell is taken, and whoever took it writes only some of its words. */
static uint64_t killed_writer(struct fixture *f, uint32_t words)
{
	uint64_t number = f->t.seg.watch->put++;
	struct rl_audit_cell *cell = &f->t.seg.watch->cell[number % RL_AUDIT_CELLS];

	for (uint32_t i = 0; i < words; i++)
		cell->word[i] = (number / RL_AUDIT_CELLS + 1) << 48;
	return number;
}

static void test_audit__killed_writer_costs_its_note_and_stops_nobody(void **state)
{
	struct rl_audit_reader reader = {0};
	struct fixture *f = *state;
	struct rl_audit_entry entry;

	for (uint32_t words = 0; words < 4; words++) {
		uint64_t missed = f->t.seg.watch->missed;

		killed_writer(f, words);
		spend(f, "bob", 1, NULL);
		assert_false(rl_audit_take(&f->t.seg, &reader, &entry)); /* it may be slow */
		reader.since_ns -= RL_AUDIT_PATIENCE_NS;
		assert_true(rl_audit_take(&f->t.seg, &reader, &entry));
		assert_int_equal(entry.units, 1);
		assert_int_equal(f->t.seg.watch->missed, missed + 1);
		assert_false(rl_audit_take(&f->t.seg, &reader, &entry));
	}
}

static void test_audit__late_writer_spoils_a_note_and_never_makes_one_up(void **state)
{
	struct rl_audit_reader reader = {0};
	struct fixture *f = *state;
	struct rl_audit_entry entry;
	uint64_t number = f->t.seg.watch->put;
	struct rl_audit_cell old = {0};

	spend(f, "bob", 1, NULL);
	for (size_t i = 0; i < 4; i++)
		old.word[i] = f->t.seg.watch->cell[number % RL_AUDIT_CELLS].word[i];
	f->t.seg.watch->put += RL_AUDIT_CELLS - 1; /* the others of the round */
	rl_audit_note(&f->t.seg, slot_of(f, "bob"), rl_clock_precise_ns(), 7, RL_AUDIT_ADMIT);
	f->t.seg.watch->taken = f->t.seg.watch->put - 1;
	f->t.seg.watch->cell[number % RL_AUDIT_CELLS].word[2] = old.word[2];
	assert_false(rl_audit_take(&f->t.seg, &reader, &entry));
	reader.since_ns -= RL_AUDIT_PATIENCE_NS;
	assert_false(rl_audit_take(&f->t.seg, &reader, &entry));
	assert_int_equal(f->t.seg.watch->missed, 1);
}

static void test_audit__random_words_are_taken_in_bounded_time(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = t_seed();

	spend(f, "bob", 1, NULL);
	for (int run = 0; run < 200; run++) {
		uint64_t *word = (uint64_t *)(void *)f->t.seg.watch;

		for (size_t i = 0; i < sizeof(*f->t.seg.watch) / 8; i++)
			word[i] = t_random(&seed) >> t_below(&seed, 64);
		if (run % 2 == 0)
			f->t.seg.watch->taken = f->t.seg.watch->put - t_below(&seed, 4000);
		for (uint32_t i = 0; i < RL_AUDIT_CELLS && run % 3 == 0; i++)
			for (size_t w = 0; w < 4; w++)
				f->t.seg.watch->cell[i].word[w] =
					(f->t.seg.watch->put / RL_AUDIT_CELLS + 1) << 48 |
					t_random(&seed) >> 16;
		tick(f);
	}
}

static void test_audit__marks_follow_the_rule(void **state)
{
	struct fixture *f = *state;
	uint64_t bob;

	publish(f, "10/1s", 0, RL_LOCAL);
	spend(f, "bob", 1, NULL);
	bob = slot_of(f, "bob");
	publish(f, "10/1s", 1, RL_LOCAL);
	spend(f, "bob", 1, NULL);
	assert_int_equal(noted(f), 0); /* not yet */
	sweep_slot(&f->sweep, bob, rl_clock_precise_ns());
	spend(f, "bob", 1, NULL);
	assert_int_equal(noted(f), 1);
	publish(f, "10/1s", 0, RL_LOCAL);
	sweep_slot(&f->sweep, bob, rl_clock_precise_ns());
	spend(f, "bob", 1, NULL);
	assert_int_equal(noted(f), 1);
	publish(f, "10/1s", 1, RL_STRICT);
	sweep_slot(&f->sweep, bob, rl_clock_precise_ns());
	/* A rate's moment must not have the mark: it would be one in the far future. */
	assert_int_equal(f->t.seg.slot[bob].state, 0);
	assert_true((f->t.seg.side[bob].acked & RL_TEXT_AUDIT) != 0);
}

static void test_audit__mark_outlives_resets_blocks_and_rebases(void **state)
{
	struct fixture *f = *state;
	struct rl_check_key key;
	uint64_t bob;

	spend(f, "bob", 1, NULL);
	bob = slot_of(f, "bob");
	rl_check_hash(&f->t.seg.view, f->rule, "bob", 3, &key);
	assert_int_equal(rl_check_reset(&f->t.seg, f->rule, &key), 0);
	assert_true(rl_audit_marked(&f->t.seg.slot[bob]));
	for (int i = 0; i < 12; i++) /* and again when the reset's mark is tidied up */
		spend(f, "bob", 1, NULL);
	assert_true(rl_audit_marked(&f->t.seg.slot[bob]));
	assert_int_equal(
		rl_check_block(&f->t.seg, &f->t.seg.member[0], f->rule, &key, RL_SECOND_NS), 0);
	assert_true(rl_audit_marked(&f->t.seg.slot[bob]));
	publish(f, "1000/1s", 1, RL_LOCAL);
	sweep_slot(&f->sweep, bob, rl_clock_precise_ns());
	assert_true(rl_audit_marked(&f->t.seg.slot[bob]));
	assert_int_equal(rl_acked_text(f->t.seg.side[bob].acked), 4);
}

static void test_audit__admits_by_credit_are_noted(void **state)
{
	struct fixture *f = *state;
	struct rl_answer answer;
	uint64_t bob;

	publish(f, "10/1s", 1, RL_STRICT);
	f->t.seg.live->beat_ns = rl_clock_precise_ns();
	f->t.seg.fleet->hosts = 1;
	spend(f, "bob", 1, &answer);
	bob = slot_of(f, "bob");
	for (uint32_t p = 0; p < RL_PARTS; p++)
		f->t.seg.fleet->part[p].lease_until_ns = rl_clock_precise_ns() + RL_SECOND_NS;
	assert_int_equal(noted(f), 0);
	f->t.seg.slot[bob].head = rl_head_with_credit(f->t.seg.slot[bob].head, 4);
	for (int i = 0; i < 6; i++)
		spend(f, "bob", 1, &answer);
	assert_int_equal(noted(f), 4);
}

static void test_audit__limit_that_is_kept_has_no_excess(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 100; i++)
		spend(f, "bob", 1, NULL);
	tick(f);
	assert_int_equal(published(f)->admits, 10);
	assert_int_equal(published(f)->windows, 10);
	assert_int_equal(published(f)->audited, 1);
	assert_int_equal(published(f)->excess, 0);
}

/* As a worker would that admits and counts nothing. */
static void admit_uncounted(struct fixture *f, const char *key, uint32_t times)
{
	while (times-- > 0)
		rl_audit_note(&f->t.seg, slot_of(f, key), rl_clock_precise_ns(), 1, RL_AUDIT_ADMIT);
}

static void test_audit__excess_is_found_and_stays(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 10; i++)
		spend(f, "bob", 1, NULL);
	admit_uncounted(f, "bob", 3);
	tick(f);
	assert_int_equal(published(f)->excess, 3);
	assert_int_equal(published(f)->excess_ppm, 300000);
	assert_int_equal(published(f)->lately, 3);
	tally_lately(&f->audit->tally, &f->audit->rule[0].rule,
		     rl_clock_precise_ns() + TALLY_PARTS * TALLY_PART_NS);
	assert_int_equal(published(f)->lately, 0);
	assert_int_equal(published(f)->excess, 3);
	/* The next agent knows it still. */
	audit_free(f->audit);
	f->audit = audit_new(&f->t.seg);
	tick(f);
	assert_int_equal(published(f)->excess, 3);
}

static void test_audit__units_given_back_are_no_excess(void **state)
{
	struct fixture *f = *state;

	publish(f, "100/1s", 1, RL_LOCAL);
	for (int i = 0; i < 50; i++) {
		struct rl_answer answer;

		assert_int_equal(spend(f, "bob", 3, &answer), 1);
		assert_int_equal(
			rl_check_refund(&f->t.seg, &f->t.seg.member[0], f->rule, &answer.ticket),
			1);
		if (i % 10 == 9)
			tick(f);
	}
	assert_int_equal(published(f)->admits, 150);
	assert_int_equal(published(f)->excess, 0);
}

static void test_audit__what_a_reset_allows_is_no_excess(void **state)
{
	struct fixture *f = *state;
	struct rl_check_key key;

	rl_check_hash(&f->t.seg.view, f->rule, "bob", 3, &key);
	for (int turn = 0; turn < 4; turn++) {
		for (int i = 0; i < 20; i++)
			spend(f, "bob", 1, NULL);
		if (turn % 2 == 0)
			tick(f);
		assert_int_equal(rl_check_reset(&f->t.seg, f->rule, &key), 0);
	}
	tick(f);
	assert_int_equal(published(f)->admits, 40);
	assert_int_equal(published(f)->excess, 0);
}

static void test_audit__admits_under_other_terms_are_no_excess(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 10; i++)
		spend(f, "bob", 1, NULL);
	tick(f);
	publish(f, "1000/1s", 1, RL_LOCAL);
	sweep_slot(&f->sweep, slot_of(f, "bob"), rl_clock_precise_ns());
	tick(f);
	for (int i = 0; i < 500; i++)
		spend(f, "bob", 1, NULL);
	publish(f, "5/1s", 1, RL_LOCAL);
	tick(f);
	assert_int_equal(published(f)->excess, 0);
	admit_uncounted(f, "bob", 6);
	tick(f);
	assert_int_equal(published(f)->excess, 1);
}

static void test_audit__keys_beyond_the_room_are_counted_as_not_kept(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < AUDIT_KEYS + 50; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%u", (unsigned)i);
		assert_int_equal(spend(f, key, 1, NULL), 1);
	}
	tick(f);
	assert_int_equal(f->audit->key_count, AUDIT_KEYS);
	assert_int_equal(published(f)->admits, AUDIT_KEYS);
	assert_int_equal(f->t.seg.watch->unkept, 50);
}

static void test_audit__numbers_of_another_rule_are_not_taken_over(void **state)
{
	struct rl_watch_rule_now now;
	struct rl_watch_host host;
	struct fixture *f = *state;
	struct rl_rule rule;

	spend(f, "bob", 1, NULL);
	tick(f);
	assert_int_equal(rl_rules_read(&f->t.seg.view, f->rule, &rule), 0);
	rl_watch_read_host(&f->t.seg.view, &host);
	rl_watch_read_rule(&f->t.seg.view, &host, &rule, &now);
	assert_int_equal(now.audit.admits, 1);
	rule.id++;
	rl_watch_read_rule(&f->t.seg.view, &host, &rule, &now);
	assert_int_equal(now.audit.admits, 0);
	rl_watch_keys(&f->t.seg, &rule, 3);
	rl_watch_read_rule(&f->t.seg.view, &host, &rule, &now);
	assert_int_equal(now.audit.admits, 0);
	assert_int_equal(now.slots, 3);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_audit__admits_are_noted_and_refusals_are_not),
		CASE(test_audit__keys_that_are_not_audited_note_nothing),
		CASE(test_audit__hosts_agree_on_one_key_in_n),
		CASE(test_audit__notes_that_were_overwritten_are_counted),
		CASE(test_audit__killed_writer_costs_its_note_and_stops_nobody),
		CASE(test_audit__late_writer_spoils_a_note_and_never_makes_one_up),
		CASE(test_audit__random_words_are_taken_in_bounded_time),
		CASE(test_audit__marks_follow_the_rule),
		CASE(test_audit__mark_outlives_resets_blocks_and_rebases),
		CASE(test_audit__admits_by_credit_are_noted),
		CASE(test_audit__limit_that_is_kept_has_no_excess),
		CASE(test_audit__excess_is_found_and_stays),
		CASE(test_audit__units_given_back_are_no_excess),
		CASE(test_audit__what_a_reset_allows_is_no_excess),
		CASE(test_audit__admits_under_other_terms_are_no_excess),
		CASE(test_audit__keys_beyond_the_room_are_counted_as_not_kept),
		CASE(test_audit__numbers_of_another_rule_are_not_taken_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
