/*
 * Goal:   what stands beside a slot is read as it was written: the key's name, the same on
 *         every host and of no other key; packed words up to their last bit; and a bit for each
 *         slot that has something to report, which no kill can hide for good.
 * Method: borders of lengths and fields by hand; two segments with secrets of their own for two
 *         hosts; the state that a kill between the two bits leaves, made by hand.
 */
#include "tests/shared_key.h"

#include "shm/rl_sha256.h"

static void key_of(char *key, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		key[i] = (char)t_random(&seed);
}

/* A claimed slot's Redis name; its text in the segment is all that this knows of the key. */
static size_t name_in(struct shared_key *k, const void *key, size_t len, char ret[RL_NAME_BYTES])
{
	shared_open(k, key, len);
	return rl_side_name(&k->t.seg.view, k->index, ret);
}

static int setup(void **state)
{
	static struct shared_key k;

	shared_key_make(&k, "100/s", (struct rl_fleet_terms){RL_BOUNDED, 0, 0, 100000, 0}, 1);
	*state = &k;
	return 0;
}

static int teardown(void **state)
{
	shared_key_drop(*state);
	return 0;
}

static void test_side__key_up_to_64_bytes_is_kept_as_it_is(void **state)
{
	static const size_t lengths[] = {1, 2, 31, 32, 33, 63, 64};
	char key[64], name[RL_NAME_BYTES];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		key_of(key, lengths[i], 77 + i);
		assert_int_equal(name_in(*state, key, lengths[i], name), 1 + lengths[i]);
		assert_int_equal(name[0], ':');
		assert_memory_equal(name + 1, key, lengths[i]);
	}
}

static void test_side__key_above_64_bytes_has_its_digest_in_its_name(void **state)
{
	static const size_t lengths[] = {65, 128, 1023, 1024};
	char key[1024], name[RL_NAME_BYTES];
	uint8_t digest[RL_SHA256_BYTES];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		key_of(key, lengths[i], 99 + i);
		rl_sha256(key, lengths[i], digest);
		assert_int_equal(name_in(*state, key, lengths[i], name), RL_NAME_BYTES);
		assert_int_equal(name[0], '#');
		assert_memory_equal(name + 1, key, 32);
		assert_memory_equal(name + 33, digest, 32);
	}
}

static void test_side__long_keys_with_the_same_start_have_different_names(void **state)
{
	char key[1024], other[1024], name[RL_NAME_BYTES], other_name[RL_NAME_BYTES];

	key_of(key, sizeof(key), 5);
	memcpy(other, key, sizeof(key));
	other[1023] ^= 1;
	name_in(*state, key, sizeof(key), name);
	name_in(*state, other, sizeof(key), other_name);
	assert_memory_equal(name, other_name, 33);
	assert_memory_not_equal(name, other_name, RL_NAME_BYTES);
	name_in(*state, key, sizeof(key) - 1, other_name);
	assert_memory_not_equal(name, other_name, RL_NAME_BYTES);
}

/* Somebody chooses as a key of 64 bytes what a long key's text is. */
static void test_side__verbatim_key_that_looks_like_a_digest_stays_apart(void **state)
{
	char key[1024], name[RL_NAME_BYTES], twin[RL_NAME_BYTES];

	key_of(key, sizeof(key), 6);
	assert_int_equal(name_in(*state, key, sizeof(key), name), RL_NAME_BYTES);
	assert_int_equal(name_in(*state, name + 1, 64, twin), RL_NAME_BYTES);
	assert_memory_equal(name + 1, twin + 1, 64);
	assert_memory_not_equal(name, twin, RL_NAME_BYTES);
}

static void test_side__zero_bytes_in_a_key_count(void **state)
{
	char zeros[64] = {0}, name[RL_NAME_BYTES];

	for (size_t len = 1; len <= 64; len++) {
		assert_int_equal(name_in(*state, zeros, len, name), 1 + len);
		assert_memory_equal(name + 1, zeros, len);
	}
	assert_int_equal(name_in(*state, "a\0b", 3, name), 4);
	assert_memory_equal(name, ":a\0b", 4);
}

static void test_side__unwritten_or_damaged_text_has_no_name(void **state)
{
	struct shared_key *k = *state;
	char name[RL_NAME_BYTES];

	shared_side(k)->acked = rl_acked(RL_N_FIRST, true, 0);
	assert_int_equal(rl_side_name(&k->t.seg.view, k->index, name), 0);
	for (uint32_t code = RL_TEXT_LONG + 1; code <= RL_TEXT_MASK; code += code) {
		shared_side(k)->acked = rl_acked(RL_N_FIRST, true, code);
		assert_int_equal(rl_side_name(&k->t.seg.view, k->index, name), 0);
	}
}

static void test_side__name_and_partition_are_the_same_on_every_host(void **state)
{
	struct shared_key *k = *state, host = {0};
	char key[100], name[RL_NAME_BYTES], twin[RL_NAME_BYTES];
	uint32_t parts = 0;

	t_seg_drop(&k->t); /* t_seg_make() keeps one at a time */
	shared_key_make(k, "100/s", (struct rl_fleet_terms){RL_STRICT, 1, 0, 0, 0}, 1);
	host = *k;
	memset(&k->t, 0, sizeof(k->t));
	shared_key_make(k, "5/h", (struct rl_fleet_terms){RL_BOUNDED, 0, 0, 0, 0}, 1);
	assert_memory_not_equal(k->t.seg.view.hash_key, host.t.seg.view.hash_key, 16);
	for (size_t len = 1; len <= sizeof(key); len++) {
		struct rl_key_text text;

		key_of(key, len, 1000 + len);
		rl_key_text(key, len, &text);
		assert_int_equal(name_in(k, key, len, name), name_in(&host, key, len, twin));
		assert_memory_equal(name, twin, len < 64 ? 1 + len : RL_NAME_BYTES);
		assert_int_equal(rl_hint_part(shared_slot(k)->hint),
				 rl_hint_part(shared_slot(&host)->hint));
		assert_int_equal(
			rl_hint_part(shared_slot(k)->hint),
			rl_side_part(k->rule.id, name, len <= 64 ? 1 + len : RL_NAME_BYTES));
		assert_int_equal(rl_key_part(k->rule.id, &text),
				 rl_hint_part(shared_slot(k)->hint));
		parts |= 1u << rl_hint_part(shared_slot(k)->hint);
	}
	assert_int_equal(parts, 0xffff); /* 100 keys are spread over all sixteen */
	rl_segment_detach(&host.t.seg);
}

/* Other builds read these bits, and a fleet whose hosts differ in the partition breaks L. */
static void test_side__partition_of_a_name_never_changes(void **state)
{
	(void)state;
	assert_int_equal(rl_side_part(1, ":a", 2), 14);
	assert_int_equal(rl_side_part(1, ":b", 2), 14);
	assert_int_equal(rl_side_part(2, ":a", 2), 1);
	assert_int_equal(rl_side_part(UINT32_MAX, ":api/users", 10), 0);
}

static void test_side__packed_words_hold_their_largest_values(void **state)
{
	uint64_t word;

	(void)state;
	word = rl_acked(RL_N_MAX, false, RL_TEXT_LONG);
	assert_true(rl_acked_n(word) == RL_N_MAX);
	assert_int_equal(rl_acked_text(word), RL_TEXT_LONG);
	assert_true((word & RL_TRACKED) == 0);
	word = rl_acked(RL_N_FIRST, true, 0);
	assert_true(rl_acked_n(word) == RL_N_FIRST && (word & RL_TRACKED) != 0);
	assert_int_equal(rl_acked_text(word), 0);
	assert_int_equal(rl_pair_low(rl_total(0, UINT64_MAX)), UINT32_MAX);
	assert_int_equal(rl_pair_low(rl_total(0, UINT32_MAX)), UINT32_MAX);
	assert_int_equal(rl_pair_high(rl_total((UINT64_C(1) << 54) - 1, 0)), UINT32_MAX);
	assert_int_equal(rl_pair_high(rl_total(UINT64_C(1) << 54, 0)), 0); /* wraps */
	assert_true(rl_acked(1, false, 0) >> 22 == 1 && RL_INFL_VALID == RL_HEAD_CLOSED);
}

static void test_side__hint_holds_its_largest_values(void **state)
{
	static const uint64_t agains[] = {0, 1, (UINT64_C(1) << 40) - 1};
	static const uint32_t lows[] = {0, 1, 0xffff};

	(void)state;
	for (size_t a = 0; a < 3; a++)
		for (size_t l = 0; l < 3; l++)
			for (uint32_t part = 0; part < RL_PARTS; part++) {
				uint64_t hint = rl_hint(agains[a], lows[l], part);

				assert_true(rl_hint_again_ns(hint) == agains[a] * 1000000);
				assert_int_equal(rl_hint_low(hint), lows[l]);
				assert_int_equal(rl_hint_part(hint), part);
			}
	assert_int_equal(rl_hint_low(rl_hint(0, 0x10000, 0)), 0xffff);
	assert_int_equal(rl_hint_low(rl_hint(0, UINT32_MAX, 0)), 0xffff);
	for (uint64_t damaged = 0; damaged < 600; damaged++)
		assert_true(rl_hint_part(damaged) < RL_PARTS);
	assert_true(rl_hint_part(UINT64_MAX) < RL_PARTS);
}

struct taken {
	uint64_t slot[8];
	uint32_t count;
	struct rl_seg *mark_again; /* in each(): as a worker at that moment */
};

static void note(uint64_t index, void *arg)
{
	struct taken *taken = arg;

	assert_true(taken->count < 8);
	taken->slot[taken->count++] = index;
	if (taken->mark_again != NULL) {
		rl_dirty_mark(taken->mark_again, index);
		taken->mark_again = NULL;
	}
}

static uint32_t take(struct rl_seg *seg, bool whole, struct taken *taken)
{
	taken->count = 0;
	rl_dirty_take(seg, whole, note, taken);
	return taken->count;
}

static void test_side__marked_slot_is_taken_once(void **state)
{
	struct rl_seg *seg = &((struct shared_key *)*state)->t.seg;
	uint64_t last = seg->view.slot_count - 1;
	struct taken taken = {0};

	assert_int_equal(take(seg, false, &taken), 0);
	rl_dirty_mark(seg, 0);
	rl_dirty_mark(seg, 63);
	rl_dirty_mark(seg, 64);
	rl_dirty_mark(seg, last);
	rl_dirty_mark(seg, last);
	assert_int_equal(take(seg, false, &taken), 4);
	assert_int_equal(taken.slot[0], 0);
	assert_int_equal(taken.slot[1], 63);
	assert_int_equal(taken.slot[2], 64);
	assert_int_equal(taken.slot[3], last);
	assert_int_equal(take(seg, false, &taken), 0);
	assert_int_equal(take(seg, true, &taken), 0);
}

static void test_side__mark_while_being_taken_is_taken_the_next_time(void **state)
{
	struct rl_seg *seg = &((struct shared_key *)*state)->t.seg;
	struct taken taken = {.mark_again = seg};

	rl_dirty_mark(seg, 70);
	assert_int_equal(take(seg, false, &taken), 1);
	assert_int_equal(take(seg, false, &taken), 1);
	assert_int_equal(taken.slot[0], 70);
	assert_int_equal(take(seg, false, &taken), 0);
}

/* Killed between the two bits: the word's is set, the summary's is not. */
static void test_side__half_a_mark_is_mended_by_the_next_mark(void **state)
{
	struct rl_seg *seg = &((struct shared_key *)*state)->t.seg;
	struct taken taken = {0};

	seg->dirty[0].word[1] = 1;
	assert_int_equal(take(seg, false, &taken), 0);
	rl_dirty_mark(seg, 64);
	assert_int_equal(take(seg, false, &taken), 1);
	assert_int_equal(taken.slot[0], 64);
}

static void test_side__half_a_mark_is_found_by_a_look_at_the_whole(void **state)
{
	struct rl_seg *seg = &((struct shared_key *)*state)->t.seg;
	struct taken taken = {0};

	seg->dirty[0].word[1] = 1;
	assert_int_equal(take(seg, true, &taken), 1);
	assert_int_equal(taken.slot[0], 64);
	assert_int_equal(take(seg, true, &taken), 0);
}

static void test_side__bits_of_no_slot_are_not_passed_on(void **state)
{
	struct rl_seg *seg = &((struct shared_key *)*state)->t.seg;
	uint64_t beyond = seg->view.slot_count % 64;
	struct taken taken = {0};

	if (beyond != 0)
		seg->dirty[0].word[seg->dirty[0].words - 1] = ~((UINT64_C(1) << beyond) - 1);
	seg->dirty[0].sum[0] = UINT64_MAX; /* words that are not there, too */
	assert_int_equal(take(seg, false, &taken), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_side__key_up_to_64_bytes_is_kept_as_it_is),
		TEST(test_side__key_above_64_bytes_has_its_digest_in_its_name),
		TEST(test_side__long_keys_with_the_same_start_have_different_names),
		TEST(test_side__verbatim_key_that_looks_like_a_digest_stays_apart),
		TEST(test_side__zero_bytes_in_a_key_count),
		TEST(test_side__unwritten_or_damaged_text_has_no_name),
		TEST(test_side__name_and_partition_are_the_same_on_every_host),
		TEST(test_side__partition_of_a_name_never_changes),
		TEST(test_side__packed_words_hold_their_largest_values),
		TEST(test_side__hint_holds_its_largest_values),
		TEST(test_side__marked_slot_is_taken_once),
		TEST(test_side__mark_while_being_taken_is_taken_the_next_time),
		TEST(test_side__half_a_mark_is_mended_by_the_next_mark),
		TEST(test_side__half_a_mark_is_found_by_a_look_at_the_whole),
		TEST(test_side__bits_of_no_slot_are_not_passed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
