/*
 * Goal:   every key gets exactly one slot; free ones are found; what a dead or late claimant
 *         left behind can hurt nobody.
 * Method: one process, states made by hand at each step of the life of a slot; where a step
 *         of another claimant must come at an exact moment, upon an access to memory.
 */
#include "tests/t.h"

#include <string.h>
#include <sys/mman.h>

#include "shm/rl_table.h"
#include "shm/rl_tags.h"
#include "shm/rl_word.h"

static const struct rl_claim made_for = {.rule_id = 7, .q = 1, .window_ns = 1000000000};

static struct rl_id random_id(uint64_t *seed)
{
	return (struct rl_id){{t_random(seed) | 1, t_random(seed) | 1}};
}

static int setup(void **state)
{
	return t_seg_setup(state, 1000);
}

static uint64_t claimed(struct rl_seg *seg, const struct rl_id *id)
{
	uint64_t head, index;

	assert_int_equal(rl_table_claim(seg, id, &made_for), 1);
	index = rl_table_find(&seg->view, id, &head);
	assert_int_not_equal(index, RL_NO_SLOT);
	assert_true(rl_head_is_open(head));
	return index;
}

static uint32_t open_slots(const struct rl_seg *seg, const struct rl_id *id)
{
	uint32_t count = 0;

	for (uint64_t i = 0; i < seg->view.slot_count; i++)
		count += rl_head_is_open(seg->slot[i].head) && seg->slot[i].id[0] == id->word[0] &&
			 seg->slot[i].id[1] == id->word[1];
	return count;
}

static void test_table__unknown_key_is_not_found(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head;
	struct rl_id id = random_id(&seed);

	assert_int_equal(rl_table_find(&t->seg.view, &id, &head), RL_NO_SLOT);
}

static void test_table__claimed_key_is_found_again_with_its_terms(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed();
	struct rl_id id = random_id(&seed);
	uint64_t index = claimed(&t->seg, &id);

	assert_int_equal(rl_table_claim(&t->seg, &id, &made_for), 0); /* it is there already */
	assert_int_equal(open_slots(&t->seg, &id), 1);
	assert_int_equal(t->seg.slot[index].shape, rl_pair(7, 1));
	assert_int_equal(t->seg.slot[index].window_ns, 1000000000);
	assert_int_equal(rl_table_used(&t->seg.view), 1);
}

/* A pool's word in a damaged segment held 2^32 units, and the claim went through them one by one.
 */
static void test_table__claim_that_begins_with_any_number_of_units_ends_at_once(void **state)
{
	struct rl_claim claim = made_for;
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), before_ns, head;
	struct rl_id id = random_id(&seed);
	const struct rl_slot *slot;

	claim.held = UINT32_MAX;
	claim.now_ns = 4711;
	before_ns = t_now_ns();
	assert_int_equal(rl_table_claim(&t->seg, &id, &claim), 1);
	assert_true(t_now_ns() - before_ns < 1000000000);
	slot = &t->seg.slot[rl_table_find(&t->seg.view, &id, &head)];
	for (int i = 0; i < (int)RL_RING; i++)
		assert_int_equal(slot->ring[i], 4711);
}

static void test_table__few_units_stamp_the_youngest_groups_alone(void **state)
{
	struct rl_claim claim = made_for;
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head, group;
	struct rl_id id = random_id(&seed);
	const struct rl_slot *slot;

	claim.q = 5;
	claim.held = 7;
	claim.now_ns = 4711;
	assert_int_equal(rl_table_claim(&t->seg, &id, &claim), 1);
	slot = &t->seg.slot[rl_table_find(&t->seg.view, &id, &head)];
	for (uint64_t back = 1; back <= RL_RING; back++) {
		bool held = (rl_head_n(head) - back) / 5 >= (rl_head_n(head) - 7) / 5;

		group = (rl_head_n(head) - back) / 5;
		assert_int_equal(slot->ring[group % RL_RING], held ? 4711 : 0);
	}
}

static void test_table__fills_to_93_percent_before_the_first_refusal(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), placed = 0;
	int got;

	for (;;) {
		struct rl_id id = random_id(&seed);

		got = rl_table_claim(&t->seg, &id, &made_for);
		if (got != 1)
			break;
		placed++;
	}
	assert_int_equal(got, RL_E_FULL);
	assert_true(placed * 100 >= t->seg.view.slot_count * 93);
	assert_int_equal(rl_table_used(&t->seg.view), placed);
}

static void test_table__holds_the_keys_it_was_made_for_while_they_come_and_go(void **state)
{
	struct t_seg *t = *state;
	uint64_t keys = rl_segment_keys(t->seg.view.bucket_count);
	uint64_t seed = t_seed(), head;
	static struct rl_id live[2000];

	assert_true(keys >= 1000 && keys <= 2000);
	for (uint64_t i = 0; i < 100 * keys; i++) {
		struct rl_id *id = &live[i < keys ? i : t_below(&seed, keys)];

		if (i >= keys) {
			uint64_t index = rl_table_find(&t->seg.view, id, &head);

			assert_int_not_equal(index, RL_NO_SLOT);
			assert_true(rl_table_free(&t->seg, index, head));
		}
		*id = random_id(&seed);
		assert_int_equal(rl_table_claim(&t->seg, id, &made_for), 1);
	}
	assert_int_equal(rl_table_used(&t->seg.view), keys);
}

static void test_table__full_buckets_refuse_new_keys_and_keep_old_ones(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head;
	struct rl_id first = random_id(&seed);

	claimed(&t->seg, &first);
	for (uint64_t i = 0; i < 10 * t->seg.view.slot_count; i++) {
		struct rl_id id = random_id(&seed);

		rl_table_claim(&t->seg, &id, &made_for);
	}
	assert_int_not_equal(rl_table_find(&t->seg.view, &first, &head), RL_NO_SLOT);
	assert_int_equal(rl_table_used(&t->seg.view), t->seg.view.slot_count);
}

static void test_table__every_key_of_a_full_table_is_found(void **state)
{
	static struct rl_id placed[2000];
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head, count = 0;

	do
		placed[count] = random_id(&seed);
	while (rl_table_claim(&t->seg, &placed[count], &made_for) == 1 && ++count < 2000);
	for (uint64_t i = 0; i < count; i++)
		assert_int_not_equal(rl_table_find(&t->seg.view, &placed[i], &head), RL_NO_SLOT);
}

static void test_table__freed_slot_is_empty_and_counts_on(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head, n;
	struct rl_id id = random_id(&seed);
	uint64_t index = claimed(&t->seg, &id);
	struct rl_slot *slot = &t->seg.slot[index];

	slot->ring[3] = 12345;
	n = rl_head_n(slot->head);
	assert_true(rl_table_free(&t->seg, index, slot->head));
	assert_int_equal(rl_table_find(&t->seg.view, &id, &head), RL_NO_SLOT);
	assert_int_equal(rl_table_used(&t->seg.view), 0);
	/* Two groups on: above every head of this life, whatever was refunded. */
	assert_int_equal(slot->head, rl_head_closed(n + 2, RL_KIND_FREE));
	assert_int_equal(slot->id[0] | slot->id[1] | slot->shape | slot->window_ns | slot->ring[3],
			 0);
	assert_int_equal(claimed(&t->seg, &id), index);
	assert_true(rl_head_n(slot->head) > n); /* an old head can never match again */
}

static void test_table__slot_used_since_it_was_seen_idle_is_not_freed(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), seen;
	struct rl_id id = random_id(&seed);
	uint64_t index = claimed(&t->seg, &id);

	seen = t->seg.slot[index].head;
	t->seg.slot[index].head = rl_head_open(rl_head_n(seen) + 1); /* an admit in between */
	assert_false(rl_table_free(&t->seg, index, seen));
	assert_int_equal(open_slots(&t->seg, &id), 1);
}

static void test_table__wipe_left_by_a_killed_agent_is_done_again(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), wipe;
	struct rl_id id = random_id(&seed);
	uint64_t index = claimed(&t->seg, &id);

	wipe = rl_head_closed(rl_head_n(t->seg.slot[index].head), RL_KIND_WIPE);
	t->seg.slot[index].head = wipe;
	t->seg.slot[index].id[0] = 0; /* half done */
	assert_true(rl_table_wipe(&t->seg, index, wipe));
	assert_int_equal(rl_table_used(&t->seg.view), 0);
	assert_int_equal(claimed(&t->seg, &id), index);
}

/* Leave a slot of id as a claimant that was stopped or killed would: at the given kind. */
static uint64_t leave(struct rl_seg *seg, const struct rl_id *id, uint64_t kind)
{
	uint64_t index = claimed(seg, id);

	seg->slot[index].head = rl_head_closed(rl_head_n(seg->slot[index].head), kind);
	return index;
}

static void test_table__tentative_of_a_killed_claimant_is_finished_by_another(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head;
	struct rl_id id = random_id(&seed);
	uint64_t index = leave(&t->seg, &id, RL_KIND_TENT);

	assert_int_equal(rl_table_find(&t->seg.view, &id, &head),
			 RL_NO_SLOT); /* nobody admits on it */
	assert_int_equal(claimed(&t->seg, &id), index);
	assert_int_equal(open_slots(&t->seg, &id), 1);
}

static void test_table__claim_of_a_killed_claimant_blocks_nobody(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed();
	struct rl_id id = random_id(&seed);
	uint64_t index = leave(&t->seg, &id, RL_KIND_CLAIM);

	assert_int_not_equal(claimed(&t->seg, &id), index);
	assert_int_equal(open_slots(&t->seg, &id), 1);
	assert_true(rl_table_wipe(&t->seg, index, t->seg.slot[index].head));
	assert_int_equal(rl_table_used(&t->seg.view), 1);
}

static void test_table__tentative_beside_an_open_slot_is_withdrawn(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed();
	struct rl_id id = random_id(&seed);
	uint64_t index = leave(&t->seg, &id, RL_KIND_CLAIM), open;

	open = claimed(&t->seg, &id);
	t->seg.slot[index].head =
		rl_head_closed(rl_head_n(t->seg.slot[index].head), RL_KIND_TENT); /* it wakes up */
	assert_int_equal(rl_table_claim(&t->seg, &id, &made_for), 0);
	assert_true(rl_head_is(t->seg.slot[index].head, RL_KIND_SPOILED));
	assert_true(rl_head_is_open(t->seg.slot[open].head));
}

static void test_table__of_two_tentatives_the_lowest_is_opened(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), low, high, swap;
	struct rl_id id = random_id(&seed);

	low = leave(&t->seg, &id, RL_KIND_CLAIM);
	high = leave(&t->seg, &id, RL_KIND_CLAIM);
	if (low > high) {
		swap = low;
		low = high;
		high = swap;
	}
	t->seg.slot[low].head = rl_head_closed(rl_head_n(t->seg.slot[low].head), RL_KIND_TENT);
	t->seg.slot[high].head = rl_head_closed(rl_head_n(t->seg.slot[high].head), RL_KIND_TENT);
	assert_int_equal(claimed(&t->seg, &id), low);
	assert_true(rl_head_is(t->seg.slot[high].head, RL_KIND_SPOILED));
}

/* An identity whose first bucket lies below its second, so that it is read first. */
static struct rl_id upward_id(const struct rl_seg *seg, uint64_t *seed, uint64_t bucket[RL_CHOICES])
{
	struct rl_id id;

	do {
		id = random_id(seed);
		rl_tag_buckets(&id, &seg->view.newest, bucket);
	} while (bucket[0] > bucket[1]);
	return id;
}

/* A slot of id at this kind in the first lane of a bucket, by hand. */
static uint64_t place(struct rl_seg *seg, const struct rl_id *id, uint64_t bucket, uint64_t kind)
{
	uint64_t index = bucket * RL_LANES;
	struct rl_slot *slot = &seg->slot[index];

	slot->id[0] = id->word[0];
	slot->id[1] = id->word[1];
	slot->shape = rl_pair(made_for.rule_id, made_for.q);
	slot->window_ns = made_for.window_ns;
	seg->tags[bucket].word[0] = rl_tag_of(id);
	slot->head = rl_head_closed(rl_head_n(slot->head) + 1, kind);
	return index;
}

/* Leave so many lanes of a bucket free, by tags that are nobody's. */
static void leave_free(struct rl_seg *seg, uint64_t bucket, uint32_t lanes)
{
	for (uint32_t i = 0; i < RL_LANES; i++)
		seg->tags[bucket].word[i / 4] = 0;
	for (uint32_t i = lanes; i < RL_LANES; i++)
		seg->tags[bucket].word[i / 4] |= UINT64_C(0xfade) << (i % 4 * 16);
}

/* In which of its buckets a new key goes when they have so many free lanes; -1: in none. */
static int choice(struct t_seg *t, uint64_t *seed, uint32_t first, uint32_t second, uint32_t third)
{
	const uint32_t lanes[RL_CHOICES] = {first, second, third};
	struct rl_id id = random_id(seed);
	uint64_t bucket[RL_CHOICES], head, index;
	int at = -1;

	rl_tag_buckets(&id, &t->seg.view.newest, bucket);
	for (uint32_t b = 0; b < RL_CHOICES; b++)
		leave_free(&t->seg, bucket[b], lanes[b]);
	if (rl_table_claim(&t->seg, &id, &made_for) == RL_E_FULL)
		return -1;
	index = rl_table_find(&t->seg.view, &id, &head);
	for (int b = 0; b < (int)RL_CHOICES; b++)
		if (index != RL_NO_SLOT && index / RL_LANES == bucket[b])
			at = b;
	assert_int_not_equal(at, -1);
	assert_true(rl_table_free(&t->seg, index, head));
	return at;
}

static void test_table__new_key_takes_the_first_bucket_that_has_room_to_spare(void **state)
{
	uint64_t seed = t_seed();

	assert_int_equal(choice(*state, &seed, 16, 32, 32), 0);
	assert_int_equal(choice(*state, &seed, 15, 32, 32), 1);
	assert_int_equal(choice(*state, &seed, 15, 15, 32), 0);
	assert_int_equal(choice(*state, &seed, 15, 16, 32), 1);
	/* A third line is read only for those who find hardly any room in two. */
	assert_int_equal(choice(*state, &seed, 2, 4, 32), 1);
	assert_int_equal(choice(*state, &seed, 4, 2, 32), 0);
	assert_int_equal(choice(*state, &seed, 3, 3, 32), 2);
	assert_int_equal(choice(*state, &seed, 3, 3, 3), 0);
	assert_int_equal(choice(*state, &seed, 0, 0, 1), 2);
	assert_int_equal(choice(*state, &seed, 0, 1, 0), 1);
	assert_int_equal(choice(*state, &seed, 1, 0, 0), 0);
	assert_int_equal(choice(*state, &seed, 0, 0, 0), -1);
}

static void test_table__key_in_its_third_bucket_is_not_claimed_when_there_is_room(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), bucket[RL_CHOICES], head, third;

	for (int i = 0; i < 20; i++) { /* whichever of the three comes first in the table */
		struct rl_id id = random_id(&seed);

		rl_tag_buckets(&id, &t->seg.view.newest, bucket);
		leave_free(&t->seg, bucket[0], 0);
		leave_free(&t->seg, bucket[1], 0);
		leave_free(&t->seg, bucket[2], RL_LANES);
		third = claimed(&t->seg, &id);
		leave_free(&t->seg, bucket[0], RL_LANES);
		leave_free(&t->seg, bucket[1], RL_LANES);
		assert_int_equal(rl_table_claim(&t->seg, &id, &made_for), 0);
		assert_int_equal(open_slots(&t->seg, &id), 1);
		assert_int_equal(rl_table_find(&t->seg.view, &id, &head), third);
	}
}

/* What another claimant does meanwhile. */
struct meanwhile {
	struct rl_seg *seg;
	struct rl_id id;
	uint64_t index;
};

static void claim_it_then_wake_the_late_claimant(void *arg)
{
	const struct meanwhile *m = arg;
	struct rl_slot *late = &m->seg->slot[m->index];

	rl_table_claim(m->seg, &m->id, &made_for);
	late->head = rl_head_closed(rl_head_n(late->head), RL_KIND_TENT);
}

static void test_table__slot_opened_behind_the_first_look_is_seen_by_the_second(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), bucket[RL_CHOICES];
	struct rl_id id = upward_id(&t->seg, &seed, bucket);
	uint64_t late = place(&t->seg, &id, bucket[1], RL_KIND_CLAIM);
	struct meanwhile m = {&t->seg, id, late};

	if (t_under_tsan())
		return;
	/* The first look has passed the lower bucket and is about to read the late slot. */
	t_upon_access(&t->seg.slot[late], PROT_NONE, claim_it_then_wake_the_late_claimant, &m);
	assert_int_equal(rl_table_claim(&t->seg, &id, &made_for), 0);
	assert_int_equal(open_slots(&t->seg, &id), 1);
	assert_true(rl_head_is(t->seg.slot[late].head, RL_KIND_SPOILED));
}

static void open_it(void *arg)
{
	const struct meanwhile *m = arg;
	struct rl_slot *slot = &m->seg->slot[m->index];

	slot->head = rl_head_open(rl_head_n(slot->head));
}

static void test_table__higher_tentative_opened_meanwhile_stays_the_only_one(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), bucket[RL_CHOICES];
	struct rl_id id = upward_id(&t->seg, &seed, bucket);
	uint64_t low = place(&t->seg, &id, bucket[0], RL_KIND_TENT);
	uint64_t high = place(&t->seg, &id, bucket[1], RL_KIND_TENT);
	struct meanwhile m = {&t->seg, id, high};

	if (t_under_tsan())
		return;
	/* A claimant that looked before the lower one was there opens the higher one, just when
	 * it is to be withdrawn. */
	t_upon_access(&t->seg.slot[high], PROT_READ, open_it, &m);
	assert_int_equal(rl_table_claim(&t->seg, &id, &made_for), 0);
	assert_int_equal(open_slots(&t->seg, &id), 1);
	assert_true(rl_head_is_open(t->seg.slot[high].head));
	assert_true(rl_head_is(t->seg.slot[low].head, RL_KIND_SPOILED));
}

static void test_table__slot_being_rebased_is_not_claimed_a_second_time(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), head;
	struct rl_id id = random_id(&seed);

	leave(&t->seg, &id, RL_KIND_REBASE);
	assert_int_equal(rl_table_claim(&t->seg, &id, &made_for), 0);
	assert_int_equal(rl_table_find(&t->seg.view, &id, &head), RL_NO_SLOT);
	assert_int_equal(rl_table_used(&t->seg.view), 1);
}

/* A claimant that woke late wrote one word into a slot that is free again. */
static void spoil_and_claim(struct t_seg *t, uint64_t *seed,
			    _Atomic uint64_t *(*word)(struct rl_slot *))
{
	struct rl_id id = random_id(seed);
	uint64_t index = claimed(&t->seg, &id), other;
	struct rl_slot *slot = &t->seg.slot[index];

	assert_true(rl_table_free(&t->seg, index, slot->head));
	*word(slot) = 4711;
	other = claimed(&t->seg, &id);
	assert_int_not_equal(other, index);
	assert_true(rl_head_is(slot->head, RL_KIND_SPOILED));
	assert_true(rl_table_wipe(&t->seg, index, slot->head));
	assert_int_equal(*word(slot), 0);
}

static _Atomic uint64_t *first_half(struct rl_slot *slot)
{
	return &slot->id[0];
}
static _Atomic uint64_t *second_half(struct rl_slot *slot)
{
	return &slot->id[1];
}
static _Atomic uint64_t *shape(struct rl_slot *slot)
{
	return &slot->shape;
}
static _Atomic uint64_t *window(struct rl_slot *slot)
{
	return &slot->window_ns;
}

static void test_table__words_of_a_late_claimant_spoil_the_slot_not_the_key(void **state)
{
	uint64_t seed = t_seed();

	spoil_and_claim(*state, &seed, first_half);
	spoil_and_claim(*state, &seed, second_half);
	spoil_and_claim(*state, &seed, shape);
	spoil_and_claim(*state, &seed, window);
}

static void test_table__late_claimant_cannot_publish_a_slot_it_lost(void **state)
{
	struct t_seg *t = *state;
	uint64_t seed = t_seed(), claim;
	struct rl_id id = random_id(&seed);
	uint64_t index = leave(&t->seg, &id, RL_KIND_CLAIM);

	claim = t->seg.slot[index].head;
	t->seg.slot[index].shape = 0;                      /* stopped before it wrote its terms */
	assert_true(rl_table_wipe(&t->seg, index, claim)); /* the agent took it back */
	claimed(&t->seg, &id);
	/* The claimant's next step is a CAS of the head it left: it must not match, ever again. */
	assert_int_not_equal(t->seg.slot[index].head, claim);
	assert_true(rl_head_n(t->seg.slot[index].head) > rl_head_n(claim));
}

static void test_table__tags_match_exactly(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint64_t word = t_random(&seed), tag = t_random(&seed) & 0xffff, want = 0;

		if (i % 2 == 0) /* make hits and near misses likely */
			word = (word & ~UINT64_C(0xffff0000)) | (tag ^ (t_random(&seed) & 1)) << 16;
		for (unsigned lane = 0; lane < 4; lane++)
			if ((word >> (16 * lane) & 0xffff) == tag)
				want |= UINT64_C(0x8000) << (16 * lane);
		assert_int_equal(rl_tag_match(word, tag), want);
	}
}

static void test_table__three_buckets_always_differ(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (uint64_t buckets = RL_CHOICES; buckets < 9; buckets++)
		for (int i = 0; i < 1000; i++) {
			struct rl_id id = random_id(&seed);
			uint64_t bucket[RL_CHOICES];

			for (uint64_t first = 0; first < 20; first += 7) {
				const struct rl_extent extent = {first, buckets};

				rl_tag_buckets(&id, &extent, bucket);
				for (uint32_t b = 0; b < RL_CHOICES; b++)
					assert_in_range(bucket[b], first, first + buckets - 1);
				assert_int_not_equal(bucket[0], bucket[1]);
				assert_int_not_equal(bucket[0], bucket[2]);
				assert_int_not_equal(bucket[1], bucket[2]);
			}
		}
}

/* Else keys that share one would share the others, and fill them together. */
static void test_table__one_bucket_says_nothing_about_the_others(void **state)
{
	enum { BUCKETS = 1000, IDS = 100000 };
	const struct rl_extent extent = {0, BUCKETS};
	uint64_t seed = t_seed(), near[RL_CHOICES] = {0};

	(void)state;
	for (int i = 0; i < IDS; i++) {
		struct rl_id id = random_id(&seed);
		uint64_t bucket[RL_CHOICES];

		rl_tag_buckets(&id, &extent, bucket);
		for (uint32_t b = 0; b < RL_CHOICES; b++) {
			uint64_t other = bucket[(b + 1) % RL_CHOICES];

			near[b] += (bucket[b] - other + 5 + BUCKETS) % BUCKETS < 10;
		}
	}
	for (uint32_t b = 0; b < RL_CHOICES; b++) /* 1 % of them by chance */
		assert_true(near[b] > IDS / 200 && near[b] < IDS / 50);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, t_seg_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_table__unknown_key_is_not_found),
		TEST(test_table__claimed_key_is_found_again_with_its_terms),
		TEST(test_table__claim_that_begins_with_any_number_of_units_ends_at_once),
		TEST(test_table__few_units_stamp_the_youngest_groups_alone),
		TEST(test_table__fills_to_93_percent_before_the_first_refusal),
		TEST(test_table__holds_the_keys_it_was_made_for_while_they_come_and_go),
		TEST(test_table__full_buckets_refuse_new_keys_and_keep_old_ones),
		TEST(test_table__every_key_of_a_full_table_is_found),
		TEST(test_table__freed_slot_is_empty_and_counts_on),
		TEST(test_table__slot_used_since_it_was_seen_idle_is_not_freed),
		TEST(test_table__wipe_left_by_a_killed_agent_is_done_again),
		TEST(test_table__tentative_of_a_killed_claimant_is_finished_by_another),
		TEST(test_table__claim_of_a_killed_claimant_blocks_nobody),
		TEST(test_table__tentative_beside_an_open_slot_is_withdrawn),
		TEST(test_table__of_two_tentatives_the_lowest_is_opened),
		TEST(test_table__new_key_takes_the_first_bucket_that_has_room_to_spare),
		TEST(test_table__key_in_its_third_bucket_is_not_claimed_when_there_is_room),
		TEST(test_table__slot_opened_behind_the_first_look_is_seen_by_the_second),
		TEST(test_table__higher_tentative_opened_meanwhile_stays_the_only_one),
		TEST(test_table__slot_being_rebased_is_not_claimed_a_second_time),
		TEST(test_table__words_of_a_late_claimant_spoil_the_slot_not_the_key),
		TEST(test_table__late_claimant_cannot_publish_a_slot_it_lost),
		TEST(test_table__tags_match_exactly),
		TEST(test_table__three_buckets_always_differ),
		TEST(test_table__one_bucket_says_nothing_about_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
