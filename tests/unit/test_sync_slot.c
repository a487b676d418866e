/*
 * Goal:   what the sync takes from a slot is what was admitted, never dated too early or told
 *         twice; a grant is added once however often its answer is applied; damaged and closed
 *         slots are left alone.
 * Method: slots with admits of known times on both clocks. An agent that is killed between two
 *         steps is made by putting back the words it had not written yet: it is their only
 *         writer. The bytes of a call by hand, as the script reads them.
 */
#include "tests/shared_key.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sync/slot.h"
#include "bench/fleet/load.h"
#include "shm/rl_clock.h"
#include "shm/rl_rebase.h"

#define MS     UINT64_C(1000000)
#define STRIDE 7 /* instructions between two moments at which a word is spoilt */

static const struct rl_fleet_terms strict = {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 0};

static struct shared_key k;
static struct sync_item item;

static int setup(void **state)
{
	(void)state;
	shared_key_make(&k, "100/s", strict, rl_clock_precise_ns());
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	shared_key_drop(&k);
	return 0;
}

static void make(const char *terms)
{
	shared_key_drop(&k);
	shared_key_make(&k, terms, strict, rl_clock_precise_ns());
}

static uint64_t now_ns(void)
{
	return rl_clock_now_ns(rl_clock_is_coarse(k.rule.window_ns));
}

static void admit(uint32_t units, uint32_t from_credit, uint64_t at_ns)
{
	assert_int_equal(rl_window_add(shared_slot(&k), shared_slot(&k)->head,
				       rl_pair_low(shared_slot(&k)->shape), units, from_credit,
				       at_ns),
			 RL_TRY_ALLOWED);
}

static bool take(uint32_t keep, uint32_t *ret_before)
{
	return sync_slot_take(&k.t.seg, k.index, &k.rule, keep, ret_before);
}

static bool infl(void)
{
	memset(&item, 0xee, sizeof(item));
	return sync_slot_infl(&k.t.seg.view, k.index, &item);
}

static void apply(uint32_t grant)
{
	sync_slot_apply(&k.t.seg, k.index, grant);
}

/* One whole call; what it reports. */
static uint64_t call(uint32_t grant)
{
	uint32_t before;

	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	apply(grant);
	return item.used;
}

static void test_sync_slot__call_reports_what_was_admitted_and_what_is_left(void **state)
{
	uint32_t before = 77;

	(void)state;
	assert_int_equal(call(20), 0);
	assert_int_equal(shared_credit(&k), 20);
	admit(7, 7, now_ns());
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 7);
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_int_equal(before, 13);
	admit(2, 2, now_ns()); /* a worker, while the call is under way: the next one's */
	assert_true(infl());
	assert_int_equal(item.tag, k.index);
	assert_int_equal(item.used, 7);
	assert_int_equal(item.credit, 13);
	apply(5);
	assert_int_equal(shared_credit(&k), 16);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 2);
	assert_false(infl());
	assert_int_equal(call(0), 2);
	assert_int_equal(call(0), 0);
}

static void test_sync_slot__credit_is_lowered_to_what_is_kept(void **state)
{
	uint32_t before;

	(void)state;
	call(20);
	assert_true(take(8, &before));
	assert_int_equal(before, 20);
	assert_int_equal(shared_credit(&k), 8);
	assert_true(infl());
	assert_int_equal(item.credit, 8); /* what was given back cannot have been spent */
	apply(0);
	assert_true(take(8, &before));
	assert_int_equal(before, 8);
	assert_int_equal(shared_credit(&k), 8);
}

static void test_sync_slot__one_call_at_a_time(void **state)
{
	uint32_t before;
	uint64_t seen;

	(void)state;
	call(9);
	assert_true(take(SYNC_KEEP_ALL, &before));
	seen = shared_side(&k)->infl;
	assert_false(take(0, &before));
	assert_true(shared_side(&k)->infl == seen);
	assert_int_equal(shared_credit(&k), 9);
}

/* Each state that a kill within apply leaves, and the same answer once more. */
static void test_sync_slot__killed_within_apply_the_same_answer_changes_nothing_more(void **state)
{
	(void)state;
	call(50);
	for (int round = 0; round < 40; round++) {
		uint64_t taken, acked, credit;
		uint32_t before;

		admit(2, 2, now_ns());
		assert_true(take(SYNC_KEEP_ALL, &before));
		taken = shared_side(&k)->infl;
		acked = shared_side(&k)->acked;
		admit(1, 1, now_ns());
		credit = shared_credit(&k);
		apply(4);
		assert_int_equal(shared_credit(&k), credit + 4);
		shared_side(&k)->infl = taken; /* killed after step 2 */
		assert_true(infl());
		assert_int_equal(item.used, 0);
		apply(4);
		assert_int_equal(shared_credit(&k), credit + 4);
		shared_side(&k)->infl = taken; /* killed after step 1 */
		shared_side(&k)->acked = acked;
		assert_true(infl());
		assert_int_equal(item.used, 2 + (round > 0));
		apply(4);
		assert_int_equal(shared_credit(&k), credit + 4);
		assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 1);
	}
}

static uint64_t acked_at_the_grant, infl_at_the_grant;

static void look_at_the_side(void *unused)
{
	(void)unused;
	acked_at_the_grant = shared_side(&k)->acked;
	infl_at_the_grant = shared_side(&k)->infl;
}

/* The other way round a kill between the two loses the grant. */
static void test_sync_slot__grant_is_added_before_the_call_is_acknowledged(void **state)
{
	uint64_t acked, taken;
	uint32_t before;

	(void)state;
	if (t_under_tsan())
		return;
	call(0);
	admit(3, 0, now_ns());
	assert_true(take(SYNC_KEEP_ALL, &before));
	acked = shared_side(&k)->acked;
	taken = shared_side(&k)->infl;
	t_upon_access(&shared_slot(&k)->head, PROT_READ, look_at_the_side, NULL);
	apply(4);
	assert_int_equal(shared_credit(&k), 4);
	assert_true(acked_at_the_grant == acked);
	assert_true(infl_at_the_grant == taken);
}

/* A call without a grant leaves the grant bit as it is: that of the next one is still new. */
static void test_sync_slot__calls_with_and_without_grants_follow_in_any_order(void **state)
{
	uint64_t seed = t_seed(), credit = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint32_t grant = (uint32_t)t_below(&seed, 3);

		call(grant);
		credit += grant;
		assert_int_equal(shared_credit(&k), credit);
	}
}

static void test_sync_slot__answer_without_a_call_is_nothing(void **state)
{
	uint64_t head = shared_slot(&k)->head, acked = shared_side(&k)->acked;

	(void)state;
	apply(9);
	shared_side(&k)->infl = rl_head_open(RL_N_FIRST + 5) | 3; /* damaged: not valid */
	assert_false(infl());
	apply(9);
	assert_true(shared_slot(&k)->head == head);
	assert_true(shared_side(&k)->acked == acked);
}

static void test_sync_slot__credit_ends_at_its_bits(void **state)
{
	uint64_t n = shared_n(&k);

	(void)state;
	call(RL_CREDIT_MAX);
	assert_int_equal(shared_credit(&k), RL_CREDIT_MAX);
	call(1);
	assert_int_equal(shared_credit(&k), RL_CREDIT_MAX);
	call(UINT32_MAX);
	assert_int_equal(shared_credit(&k), RL_CREDIT_MAX);
	assert_int_equal(shared_n(&k), n);
	assert_true(rl_head_is_open(shared_slot(&k)->head));
}

static void test_sync_slot__closed_slot_is_left_alone(void **state)
{
	uint32_t before;
	uint64_t head;

	(void)state;
	call(9);
	assert_true(take(SYNC_KEEP_ALL, &before));
	head = rl_head_closed(shared_n(&k), RL_KIND_REBASE);
	shared_slot(&k)->head = head;
	apply(9);
	assert_true(shared_slot(&k)->head == head);
	assert_false(infl());
	assert_false(take(0, &before));
	assert_true(shared_slot(&k)->head == head);
	assert_int_equal(sync_slot_take_credit(&k.t.seg, k.index), 0);
	assert_true(shared_side(&k)->infl == 0);
}

static void test_sync_slot__damaged_words_do_no_harm(void **state)
{
	struct rl_slot good;
	struct sync_piece piece[SYNC_PIECES_MAX];
	uint64_t seed = t_seed();
	uint32_t before;

	(void)state;
	memcpy(&good, shared_slot(&k), sizeof(good));
	shared_slot(&k)->shape = rl_pair(k.rule.id, 0);
	assert_false(take(SYNC_KEEP_ALL, &before));
	shared_side(&k)->infl = shared_slot(&k)->head | RL_INFL_VALID;
	shared_side(&k)->acked = 0;
	assert_true(infl());
	assert_int_equal(item.age_ms, 0);
	assert_int_equal(sync_slot_pieces(&k.t.seg.view, k.index, UINT64_MAX, piece), 0);
	shared_side(&k)->infl = RL_INFL_VALID; /* n = 0 */
	shared_slot(&k)->shape = good.shape;
	assert_true(infl());
	assert_int_equal(item.used, 0);
	assert_int_equal(item.age_ms, 0);
	apply(1);
	shared_slot(&k)->head = rl_head_open(0);
	assert_false(take(SYNC_KEEP_ALL, &before));
	for (int i = 0; i < 20000; i++) {
		for (size_t w = 0; w < sizeof(struct rl_slot) / 8; w++)
			((_Atomic uint64_t *)shared_slot(&k))[w] =
				t_random(&seed) >> t_below(&seed, 64);
		shared_side(&k)->infl = t_random(&seed) >> t_below(&seed, 64);
		shared_side(&k)->acked = t_random(&seed) >> t_below(&seed, 64);
		infl();
		assert_true(sync_slot_pieces(&k.t.seg.view, k.index, UINT64_MAX, piece) <=
			    SYNC_PIECES_MAX);
		apply((uint32_t)t_random(&seed));
		take((uint32_t)t_below(&seed, 100), &before);
		sync_slot_take_credit(&k.t.seg, k.index);
	}
}

/* Redis lets go of a unit W after its date: it must not lie before the unit's own. */
static void assert_age_is_never_too_old(uint64_t ago_ms)
{
	uint64_t stamp, after;
	uint32_t before;

	stamp = now_ns() - ago_ms * MS;
	admit(1, 0, stamp);
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	after = now_ns();
	assert_true(item.age_ms + 1 >= ago_ms);
	assert_true(item.age_ms == 0 || item.age_ms <= (after - stamp) / MS - 1);
	apply(0);
}

static void test_sync_slot__age_is_never_too_old_by_the_precise_clock(void **state)
{
	static const uint64_t ago[] = {0, 1, 2, 50, 51, 500, 999};

	(void)state;
	for (size_t i = 0; i < sizeof(ago) / sizeof(ago[0]); i++) {
		make("20/s"); /* q = 1: a stamp is never raised by another event */
		assert_false(rl_clock_is_coarse(k.rule.window_ns));
		assert_age_is_never_too_old(ago[i]);
	}
}

static void test_sync_slot__age_is_never_too_old_by_the_coarse_clock(void **state)
{
	static const uint64_t ago[] = {0, 1, 2, 50, 51, 5000, 59000};

	(void)state;
	for (size_t i = 0; i < sizeof(ago) / sizeof(ago[0]); i++) {
		make("20/m");
		assert_true(rl_clock_is_coarse(k.rule.window_ns));
		assert_age_is_never_too_old(ago[i]);
	}
}

static void test_sync_slot__stamp_ahead_of_the_clock_has_no_age(void **state)
{
	uint32_t before;

	(void)state;
	admit(1, 0, now_ns() + RL_SECOND_NS);
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	assert_int_equal(item.age_ms, 0);
}

static uint64_t sum(const struct sync_piece *piece, uint32_t count)
{
	uint64_t units = 0;

	for (uint32_t i = 0; i < count; i++)
		units += piece[i].units;
	return units;
}

/* Groups of 5, the first begun in its middle or not. */
static void test_sync_slot__pieces_are_oldest_first_and_sum_up(void **state)
{
	struct sync_piece piece[SYNC_PIECES_MAX];
	uint64_t now = now_ns(), q = rl_window_q(100);
	uint32_t before, count;

	(void)state;
	call(0);
	admit((uint32_t)(2 * q - shared_n(&k) % q), 0, now - 900 * MS); /* fills its group */
	call(0);
	admit(5, 0, now - 700 * MS);
	admit(7, 0, now - 300 * MS);
	admit(3, 0, now - 100 * MS);
	assert_true(take(SYNC_KEEP_ALL, &before));
	count = sync_slot_pieces(&k.t.seg.view, k.index, 1000000, piece);
	assert_int_equal(count, 3); /* 5; 5 of the 7; the other 2 and 3 */
	assert_int_equal(piece[0].units, 5);
	assert_int_equal(piece[1].units, 5);
	assert_int_equal(piece[2].units, 5);
	assert_in_range(piece[0].age_ms, 699, 1000000);
	assert_in_range(piece[1].age_ms, 299, piece[0].age_ms - 399);
	assert_in_range(piece[2].age_ms, 99, piece[1].age_ms - 199);
}

static void test_sync_slot__pieces_older_than_the_window_are_left_out(void **state)
{
	struct sync_piece piece[SYNC_PIECES_MAX];
	uint64_t now;
	uint32_t before, age;

	(void)state;
	make("10/m");
	call(0);
	now = now_ns();
	admit(4, 0, now - 50000 * MS);
	admit(3, 0, now - 30000 * MS);
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_int_equal(sync_slot_pieces(&k.t.seg.view, k.index, 60000, piece), 7);
	assert_int_equal(sum(piece, 7), 7);
	assert_int_equal(sync_slot_pieces(&k.t.seg.view, k.index, 40000, piece), 3);
	age = (uint32_t)piece[2].age_ms;
	assert_in_range(age, 29999, 40000);
	assert_int_equal(sync_slot_pieces(&k.t.seg.view, k.index, 29999, piece), 0);
}

/* Above the ring's 24 groups: what is older counts with the oldest that is known. */
static void test_sync_slot__pieces_of_more_than_the_ring_lose_no_unit(void **state)
{
	struct sync_piece piece[SYNC_PIECES_MAX];
	uint32_t before, count;

	(void)state;
	make("10/m");
	call(0);
	for (uint64_t i = 0; i < 100; i++)
		admit(1, 0, now_ns() - (10000 - 100 * i) * MS);
	assert_true(take(SYNC_KEEP_ALL, &before));
	count = sync_slot_pieces(&k.t.seg.view, k.index, 60000, piece);
	assert_int_equal(count, SYNC_PIECES_MAX);
	assert_int_equal(sum(piece, count), 100);
	assert_int_equal(piece[0].units, 100 - 23);
	assert_in_range(piece[0].age_ms, 2399, 9000); /* that of the 77th: none is too old */
	assert_true(infl());
	assert_int_equal(item.used, 100);
}

/* One group more than the ring holds. */
static void test_sync_slot__pieces_are_never_more_than_the_ring(void **state)
{
	(void)state;
	for (uint32_t units = 23; units <= 26; units++) {
		struct sync_piece piece[SYNC_PIECES_MAX + 2];
		uint32_t before, count;

		make("10/m");
		call(0);
		admit(units, 0, now_ns());
		assert_true(take(SYNC_KEEP_ALL, &before));
		count = sync_slot_pieces(&k.t.seg.view, k.index, 60000, piece);
		assert_int_equal(count, units < SYNC_PIECES_MAX ? units : SYNC_PIECES_MAX);
		assert_int_equal(sum(piece, count), units);
	}
}

/* Random groups and times: each unit is in one piece, and no piece is older than its units. */
static void test_sync_slot__random_pieces_are_never_older_than_their_units(void **state)
{
	static const char *const terms[] = {"10/m", "100/m", "1000/9s", "77/9s"};
	uint64_t seed = t_seed();

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct sync_piece piece[SYNC_PIECES_MAX];
		uint64_t at[400], now, used = 0, unit = 0;
		uint32_t before, count;

		make(terms[t_below(&seed, 4)]);
		call(0);
		now = now_ns() - 8000 * MS;
		for (int i = 0; i < 40; i++) {
			uint32_t units = 1 + (uint32_t)t_below(&seed, 10);

			now += t_below(&seed, 190 * MS);
			admit(units, 0, now);
			while (units-- > 0)
				at[used++] = now;
		}
		assert_true(take(SYNC_KEEP_ALL, &before));
		count = sync_slot_pieces(&k.t.seg.view, k.index, 60000, piece);
		assert_int_equal(sum(piece, count), used);
		now = now_ns();
		for (uint32_t i = 0; i < count; i++) {
			assert_true(i == 0 || piece[i].age_ms <= piece[i - 1].age_ms);
			unit += piece[i].units; /* the last of them is the youngest */
			assert_true(piece[i].age_ms <= (now - at[unit - 1]) / MS);
		}
	}
}

static void test_sync_slot__first_report_is_what_is_still_in_the_window(void **state)
{
	uint32_t before;

	(void)state;
	make("20/s");
	shared_slot(&k)->head = rl_head_open(shared_n(&k) + 7); /* so far it was local */
	admit(12, 0, now_ns() - 30 * RL_SECOND_NS);
	admit(5, 0, now_ns() - RL_SECOND_NS / 10);
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	assert_int_equal(item.used, 5);
	assert_true((shared_side(&k)->acked & RL_TRACKED) != 0);
	assert_int_equal(rl_acked_text(shared_side(&k)->acked), 2);
}

/* A slot made under the shared rule, and first taken when its units are over: still reported. */
static void test_sync_slot__first_report_of_an_untouched_slot_is_nothing(void **state)
{
	uint32_t before;

	(void)state;
	assert_int_equal(rl_acked_n(shared_side(&k)->acked), shared_n(&k));
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	assert_int_equal(item.used, 0);
}

/* acked above the count, or far below: neither may report what never was. */
static void test_sync_slot__first_report_never_exceeds_the_window(void **state)
{
	uint32_t before;

	(void)state;
	make("20/s");
	shared_side(&k)->acked = rl_acked(shared_n(&k) + 1000, false, 2);
	admit(3, 0, now_ns());
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	assert_int_equal(item.used, 3);
	sync_slot_retire(&k.t.seg, k.index);
	shared_side(&k)->acked = rl_acked(1, false, 2);
	assert_true(take(SYNC_KEEP_ALL, &before));
	assert_true(infl());
	assert_int_equal(item.used, 3);
}

static void test_sync_slot__retired_slot_is_out_of_any_call_and_has_no_credit(void **state)
{
	uint32_t before;

	(void)state;
	call(6);
	admit(3, 3, now_ns());
	assert_true(take(SYNC_KEEP_ALL, &before));
	sync_slot_retire(&k.t.seg, k.index);
	assert_true((shared_side(&k)->acked & RL_TRACKED) == 0);
	assert_int_equal(rl_acked_text(shared_side(&k)->acked), 2);
	assert_false(infl());
	assert_int_equal(shared_credit(&k), 0);
}

static void test_sync_slot__forgotten_call_is_reported_by_the_next(void **state)
{
	uint32_t before;

	(void)state;
	call(10);
	admit(3, 3, now_ns());
	assert_true(take(SYNC_KEEP_ALL, &before));
	sync_slot_forget(&k.t.seg, k.index);
	apply(100); /* its answer comes late */
	assert_int_equal(shared_credit(&k), 7);
	assert_int_equal(sync_slot_take_credit(&k.t.seg, k.index), 7);
	assert_int_equal(shared_credit(&k), 0);
	assert_int_equal(sync_slot_take_credit(&k.t.seg, k.index), 0);
	assert_int_equal(call(0), 3);
}

/* The new count is another, what is unreported of it is not. */
static void test_sync_slot__rebase_keeps_what_is_not_reported(void **state)
{
	uint64_t n;

	(void)state;
	call(0);
	admit(9, 0, now_ns());
	n = shared_n(&k);
	shared_rule(&k, "1000/s", strict);
	assert_true(rl_rebase_slot(&k.t.seg, k.index, shared_slot(&k)->head, &k.rule, k.rule.q));
	assert_true(shared_n(&k) > n);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 9);
	assert_true((shared_side(&k)->acked & RL_TRACKED) != 0);
	assert_int_equal(rl_acked_text(shared_side(&k)->acked), 2);
	assert_int_equal(call(0), 9);
}

static void test_sync_slot__rebase_waits_for_the_call_and_for_the_credit(void **state)
{
	uint32_t before;

	(void)state;
	call(3);
	shared_rule(&k, "1000/s", strict);
	assert_false(rl_rebase_slot(&k.t.seg, k.index, shared_slot(&k)->head, &k.rule, k.rule.q));
	assert_int_equal(shared_credit(&k), 3);
	assert_true(take(0, &before));
	assert_false(rl_rebase_slot(&k.t.seg, k.index, shared_slot(&k)->head, &k.rule, k.rule.q));
	apply(0);
	assert_true(rl_rebase_slot(&k.t.seg, k.index, shared_slot(&k)->head, &k.rule, k.rule.q));
	assert_int_equal(k.t.seg.live->journal.valid, 0);
}

static void put(unsigned char **at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		*(*at)++ = (unsigned char)(value >> (8 * i));
}

/* rl_sync.lua: BATCH, ITEM and PIECE. */
static void test_sync_slot__bytes_of_a_call_are_those_the_script_reads(void **state)
{
	const struct sync_header header = {UINT64_C(1) << 52, UINT64_C(0x8877665544332211), 10000,
					   1};
	const struct sync_item full = {
		1, UINT64_C(2) << 32, 3,  4, UINT64_C(5) << 32, UINT64_C(6) << 32, 7,
		8, UINT64_C(9) << 32, 10, 11};
	const struct sync_piece piece = {UINT64_C(12) << 32, 13};
	unsigned char want[64], got[64], *at = want;

	(void)state;
	put(&at, header.seq, 8), put(&at, header.nonce, 8), put(&at, 10000, 4), put(&at, 1, 4);
	put(&at, 0, 8);
	sync_header_write(&header, got);
	assert_memory_equal(got, want, SYNC_HEADER_SIZE);
	at = want;
	put(&at, 1, 4), put(&at, UINT64_C(2) << 32, 8), put(&at, 3, 4), put(&at, 4, 4);
	put(&at, UINT64_C(5) << 32, 8), put(&at, UINT64_C(6) << 32, 8), put(&at, 7, 8);
	put(&at, 8, 4), put(&at, UINT64_C(9) << 32, 8), put(&at, 10, 4), put(&at, 11, 4);
	assert_int_equal(at - want, SYNC_ITEM_SIZE);
	sync_item_write(&full, got);
	assert_memory_equal(got, want, SYNC_ITEM_SIZE);
	at = want;
	put(&at, UINT64_C(12) << 32, 8), put(&at, 13, 8);
	sync_piece_write(&piece, got);
	assert_memory_equal(got, want, SYNC_PIECE_SIZE);
}

static void test_sync_slot__bytes_of_an_answer_are_those_the_script_writes(void **state)
{
	unsigned char bytes[SYNC_ANSWER_SIZE], *at = bytes;
	struct sync_answer answer;

	(void)state;
	put(&at, UINT64_C(0xfedcba9876543210), 8);
	for (uint64_t value = 1; value <= 6; value++)
		put(&at, value << 24 | value, 4);
	sync_answer_read(bytes, &answer);
	assert_true(answer.tag == UINT64_C(0xfedcba9876543210));
	assert_int_equal(answer.grant, 1 << 24 | 1);
	assert_int_equal(answer.flags, 2 << 24 | 2);
	assert_int_equal(answer.retry_ms, 3 << 24 | 3);
	assert_int_equal(answer.count, 4 << 24 | 4);
	assert_int_equal(answer.others_out, 5 << 24 | 5);
}

/*
 * Take the slot in a child, whose group size another process sets to 0 after so many of its
 * instructions. Returns false when the child was through before that.
 */
static bool taken_while_spoilt_after(uint32_t steps)
{
	uint64_t shape = shared_slot(&k)->shape;
	uint32_t before;
	int status = 0;
	pid_t child = fork();
	bool spoilt;

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		take(SYNC_KEEP_ALL, &before);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	for (uint32_t i = 0; i < steps && !WIFEXITED(status); i++) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	spoilt = !WIFEXITED(status);
	shared_slot(&k)->shape = rl_pair(rl_pair_high(shape), 0);
	if (spoilt) {
		ptrace(PTRACE_CONT, child, NULL, NULL);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	kill(child, SIGKILL); /* one that stopped of a division by 0 */
	assert_true(WIFEXITED(status));
	shared_slot(&k)->shape = shape;
	return spoilt;
}

/* It was read twice, checked and divided by: the agent died of it. */
static void test_sync_slot__group_size_that_is_gone_when_it_is_needed_does_no_harm(void **state)
{
	uint64_t seed = t_seed();
	uint32_t steps = (uint32_t)t_below(&seed, STRIDE);

	(void)state;
	if (fleet_is_slow_build()) {
		printf("# not in this build: most instructions are the sanitizer's\n");
		return;
	}
	do {
		shared_side(&k)->infl = 0;
		shared_side(&k)->acked &= ~RL_TRACKED;
		steps += STRIDE;
	} while (taken_while_spoilt_after(steps));
	printf("# %u instructions\n", steps);
	assert_true(steps > 50);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sync_slot__call_reports_what_was_admitted_and_what_is_left),
		TEST(test_sync_slot__credit_is_lowered_to_what_is_kept),
		TEST(test_sync_slot__one_call_at_a_time),
		TEST(test_sync_slot__killed_within_apply_the_same_answer_changes_nothing_more),
		TEST(test_sync_slot__grant_is_added_before_the_call_is_acknowledged),
		TEST(test_sync_slot__calls_with_and_without_grants_follow_in_any_order),
		TEST(test_sync_slot__answer_without_a_call_is_nothing),
		TEST(test_sync_slot__credit_ends_at_its_bits),
		TEST(test_sync_slot__closed_slot_is_left_alone),
		TEST(test_sync_slot__damaged_words_do_no_harm),
		TEST(test_sync_slot__group_size_that_is_gone_when_it_is_needed_does_no_harm),
		TEST(test_sync_slot__age_is_never_too_old_by_the_precise_clock),
		TEST(test_sync_slot__age_is_never_too_old_by_the_coarse_clock),
		TEST(test_sync_slot__stamp_ahead_of_the_clock_has_no_age),
		TEST(test_sync_slot__pieces_are_oldest_first_and_sum_up),
		TEST(test_sync_slot__pieces_older_than_the_window_are_left_out),
		TEST(test_sync_slot__pieces_of_more_than_the_ring_lose_no_unit),
		TEST(test_sync_slot__pieces_are_never_more_than_the_ring),
		TEST(test_sync_slot__random_pieces_are_never_older_than_their_units),
		TEST(test_sync_slot__first_report_is_what_is_still_in_the_window),
		TEST(test_sync_slot__first_report_of_an_untouched_slot_is_nothing),
		TEST(test_sync_slot__first_report_never_exceeds_the_window),
		TEST(test_sync_slot__retired_slot_is_out_of_any_call_and_has_no_credit),
		TEST(test_sync_slot__forgotten_call_is_reported_by_the_next),
		TEST(test_sync_slot__rebase_keeps_what_is_not_reported),
		TEST(test_sync_slot__rebase_waits_for_the_call_and_for_the_credit),
		TEST(test_sync_slot__bytes_of_a_call_are_those_the_script_reads),
		TEST(test_sync_slot__bytes_of_an_answer_are_those_the_script_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
