/*
 * Goal:   rl_verify() names each word that nobody writes, and nothing else.
 * Method: a segment with keys of all kinds; one damage planted at a time, each at its boundary
 *         where it has one. For what an agent takes back: a thread in its place.
 */
#include "tests/t.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_count.h"
#include "shm/rl_hash.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_tags.h"
#include "shm/rl_verify.h"
#include "shm/rl_verify_steps.h"
#include "shm/rl_word.h"

enum { SLIDING, BUCKET, SHARED, RULES };

struct fixture {
	struct t_seg t;
	uint64_t rule[RULES], slot[RULES]; /* and the slot of key "bob" under each */
	uint64_t long_slot;                /* of a key of 100 bytes */
	uint64_t free_slot;
	uint32_t count;
	struct rl_finding first;
};

static uint64_t slot_of(const struct rl_view *view, uint64_t rule, const void *key, size_t len)
{
	struct rl_id id = rl_hash_key(view->hash_key, rl_pair_high(rule), key, len);
	uint64_t head, index = rl_table_find(view, &id, &head);

	assert_int_not_equal(index, RL_NO_SLOT);
	return index;
}

static void publish(struct rl_seg *seg)
{
	const struct rl_rule_spec spec[RULES] = {
		{.name = "login", .terms = {100, RL_SECOND_NS * 60}},
		{.name = "bucket", .terms = {10, RL_SECOND_NS}, .algorithm = 2, .burst = 5},
		{.name = "shared",
		 .terms = {1000, RL_SECOND_NS},
		 .fleet = {.consistency = RL_BOUNDED, .beta_ppm = 50000, .wait_ns = 2000000}},
	};
	size_t other;

	assert_int_equal(rl_rules_publish(seg, spec, RULES, &other), 0);
}

static uint64_t spend(struct fixture *f, int rule, const void *key, size_t len)
{
	struct rl_seg *seg = &f->t.seg;
	struct rl_answer answer;

	assert_true(rl_check_spend(seg, &seg->member[0], f->rule[rule], key, len, 1, 0, &answer) >=
		    0);
	return slot_of(&seg->view, f->rule[rule], key, len);
}

static int setup(void **state)
{
	static const char *const name[RULES] = {"login", "bucket", "shared"};
	static const char long_key[100] = "a key that is longer than sixty-four bytes";
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	t_seg_make(&f.t, 100);
	publish(&f.t.seg);
	publish(&f.t.seg);
	for (int r = 0; r < RULES; r++) {
		f.rule[r] = t_rule(&f.t.seg.view, name[r]);
		f.slot[r] = spend(&f, r, "bob", 3);
	}
	f.long_slot = spend(&f, SLIDING, long_key, sizeof(long_key));
	while (!rl_head_is(f.t.seg.slot[f.free_slot].head, RL_KIND_FREE))
		f.free_slot++;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	t_seg_drop(&((struct fixture *)*state)->t);
	return 0;
}

static void on_found(const struct rl_finding *finding, void *arg)
{
	struct fixture *f = arg;

	if (f->count++ == 0)
		f->first = *finding;
	print_message("# %s %llu at byte %llu: 0x%llx, not 0x%llx\n",
		      rl_fault_info(finding->fault)->name, (unsigned long long)finding->index,
		      (unsigned long long)finding->at, (unsigned long long)finding->found,
		      (unsigned long long)finding->wanted);
}

static struct rl_verify *verify(struct fixture *f)
{
	static struct rl_verify v;

	memset(&v, 0, sizeof(v));
	v.view = &f->t.seg.view;
	v.found = on_found;
	v.arg = f;
	v.times_faster = 10;
	f->count = 0;
	rl_verify(&v);
	assert_int_equal(v.unsettled, 0);
	return &v;
}

static void nothing(struct fixture *f)
{
	verify(f);
	assert_int_equal(f->count, 0);
}

/* Exactly this, there. */
static void found(struct fixture *f, enum rl_fault fault, uint64_t index, const void *at)
{
	verify(f);
	assert_int_equal(f->count, 1);
	assert_string_equal(rl_fault_info(f->first.fault)->name, rl_fault_info(fault)->name);
	assert_int_equal(f->first.index, index);
	assert_int_equal(f->first.at,
			 (uint64_t)((const char *)at - (const char *)f->t.seg.view.hdr));
}

/* A word is given a value and found; with its old one nothing is. */
static void found_with(struct fixture *f, _Atomic uint64_t *word, uint64_t value,
		       enum rl_fault fault, uint64_t index)
{
	uint64_t before = *word;

	*word = value;
	found(f, fault, index, word);
	*word = before;
	nothing(f);
}

static struct rl_slot *slot(struct fixture *f, int rule)
{
	return &f->t.seg.slot[f->slot[rule]];
}

static struct rl_side *side(struct fixture *f, int rule)
{
	return &f->t.seg.side[f->slot[rule]];
}

/* The word of a bank that a rule lies in; in force: of this generation. */
static struct rl_rule_rec *rec_of(struct fixture *f, bool in_force, uint64_t index)
{
	return &f->t.seg.bank[(f->t.seg.live->generation & 1) ^ !in_force].rule[index];
}

static void test_verify__sound_segment_is_fine_and_counted(void **state)
{
	struct fixture *f = *state;
	const struct rl_verify *v = verify(f);

	assert_int_equal(f->count, 0);
	assert_int_equal(v->slots, f->t.seg.view.slot_count);
	assert_int_equal(v->used, 4);
	assert_int_equal(v->rules, 3);
	assert_int_equal(v->members, 0);
	assert_int_equal(v->busy, 0);
	assert_false(v->agent_lives);
}

static void test_verify__each_fault_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int a = 0; a < RL_FAULT_COUNT; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(rl_fault_info((enum rl_fault)a)->name,
						rl_fault_info((enum rl_fault)b)->name);
}

static void test_verify__header_words_written_after_the_attach_are_found(void **state)
{
	struct fixture *f = *state;
	/* The header is mapped writable in a seg, and const only for its readers. */
	struct rl_hdr *hdr = (struct rl_hdr *)(void *)((char *)f->t.seg.live - sizeof(*hdr));
	struct rl_hdr before = *hdr;

	hdr->magic ^= 1;
	found(f, RL_FAULT_HEADER, 0, &hdr->magic);
	*hdr = before;
	hdr->slots_off += 4096;
	found(f, RL_FAULT_HEADER, 0, &hdr->magic);
	*hdr = before;
	hdr->hash_key[1] ^= 1;
	found(f, RL_FAULT_HEADER, 0, &hdr->hash_key);
	*hdr = before;
	hdr->tick_ns--;
	found(f, RL_FAULT_HEADER, 0, &hdr->tick_ns);
	*hdr = before;
	hdr->pad1[sizeof(hdr->pad1) - 1] = 1;
	found(f, RL_FAULT_HEADER, 0, &hdr->pad1[sizeof(hdr->pad1) - 1]);
	*hdr = before;
	nothing(f);
}

static void test_verify__moments_of_the_agent_ahead_of_the_clock_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_live *live = f->t.seg.live;
	uint64_t ahead_ns = rl_clock_precise_ns() + 3600 * RL_SECOND_NS;

	found_with(f, &live->agent_start_ns, ahead_ns, RL_FAULT_LIVE, 0);
	found_with(f, &live->beat_ns, ahead_ns, RL_FAULT_LIVE, 0);
}

static void test_verify__journal_that_names_nothing_is_found(void **state)
{
	struct fixture *f = *state;
	struct rl_journal *journal = &f->t.seg.live->journal;

	journal->slot = f->t.seg.view.slot_count - 1;
	journal->closed_head = rl_head_closed(RL_N_FIRST, RL_KIND_REBASE);
	journal->open_head = rl_head_open(RL_N_FIRST + 5);
	journal->shape = rl_shape(7, RL_SLIDING, 5);
	journal->window_ns = RL_SECOND_NS;
	journal->valid = 1; /* left behind after the slot was opened: a new agent drops it */
	nothing(f);
	found_with(f, &journal->slot, f->t.seg.view.slot_count, RL_FAULT_JOURNAL, 0);
	found_with(f, &journal->closed_head, rl_head_open(RL_N_FIRST), RL_FAULT_JOURNAL, 0);
	found_with(f, &journal->shape, rl_shape(7, RL_SLIDING, 0), RL_FAULT_JOURNAL, 0);
	journal->valid = 2;
	nothing(f);
	found_with(f, &journal->valid, 3, RL_FAULT_JOURNAL, 0);
}

static void test_verify__damaged_rules_in_force_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_rule_rec *rec = rec_of(f, true, 2), *none = rec_of(f, true, RL_RULES_MAX - 1);

	found_with(f, &rec->shape, rec->shape + 1, RL_FAULT_RULE_TERMS, 2);
	found_with(f, &rec->rest, RL_WAIT_MAX_NS + 1, RL_FAULT_RULE_TERMS, 2);
	found_with(f, &rec->id_flags, rec->id_flags ^ RL_RULE_GIVEN, RL_FAULT_RULE_TERMS, 2);
	found_with(f, &rec->id_flags, rec->id_flags | RL_FLEET_CONSISTENCY, RL_FAULT_RULE_TERMS, 2);
	found_with(f, &rec->name[0], rec->name[0] ^ 1, RL_FAULT_RULE_NAME, 2);
	found_with(f, &none->bucket, 1, RL_FAULT_RULE_LEFT, RL_RULES_MAX - 1);
	rec->name[7] = 1; /* behind its NUL */
	found(f, RL_FAULT_RULE_NAME, 2, rec->name);
	rec->name[7] = 0;
	rec->window_ns = RL_WINDOW_MIN_NS - 1;
	found(f, RL_FAULT_RULE_TERMS, 2, &rec->shape);
	rec->window_ns = RL_WINDOW_MIN_NS;
	nothing(f);
}

static void test_verify__two_rules_of_one_id_are_found(void **state)
{
	struct fixture *f = *state;

	memcpy((void *)rec_of(f, true, 9), (const void *)rec_of(f, true, 1),
	       sizeof(struct rl_rule_rec));
	found(f, RL_FAULT_RULE_TWICE, 9, &rec_of(f, true, 9)->id_flags);
}

static void test_verify__damage_in_the_other_bank_is_told_apart(void **state)
{
	struct fixture *f = *state;
	struct rl_rule_rec *rec = rec_of(f, false, 1);

	found_with(f, &rec->name[0], rec->name[0] ^ 1, RL_FAULT_RULE_OLD, 1);
}

static void test_verify__damaged_words_of_the_fleet_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_fleet *fleet = f->t.seg.fleet;
	uint64_t ahead_ns = rl_clock_precise_ns() + 3600 * RL_SECOND_NS;

	found_with(f, &fleet->redis, 3, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->hosts, 65536, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->epoch, UINT64_C(1) << 53, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->interval_ns, RL_INTERVAL_MIN_NS - 1, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->interval_ns, RL_INTERVAL_MAX_NS + 1, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->stale_after_ns, UINT64_MAX, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->redis_since_ns, ahead_ns, RL_FAULT_FLEET, 0);
	found_with(f, &fleet->host[0], UINT64_C(0x0a), RL_FAULT_FLEET, 0);
	fleet->asleep = 2;
	found(f, RL_FAULT_FLEET, 0, &fleet->asleep);
}

static void test_verify__damaged_words_of_a_partition_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_part *part = &f->t.seg.fleet->part[RL_PARTS - 1];
	uint64_t ahead_ns = rl_clock_precise_ns() + 3600 * RL_SECOND_NS;

	found_with(f, &part->seq, 0, RL_FAULT_PART, RL_PARTS - 1);
	found_with(f, &part->seq, UINT64_C(1) << 53, RL_FAULT_PART, RL_PARTS - 1);
	found_with(f, &part->silent_ns, ahead_ns, RL_FAULT_PART, RL_PARTS - 1);
	found_with(f, &part->sent_ns, ahead_ns, RL_FAULT_PART, RL_PARTS - 1);
	found_with(f, &part->lease_until_ns, ahead_ns, RL_FAULT_PART, RL_PARTS - 1);
}

static void test_verify__members_of_nobody_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_member *member = f->t.seg.member;

	member[3].owner = (uint64_t)getpid();
	nothing(f);
	found_with(f, &member[0].owner, (uint64_t)getpid(), RL_FAULT_MEMBER, 0);
	found_with(f, &member[5].owner, 0x7ffffffe, RL_FAULT_MEMBER, 5);
	found_with(f, &member[f->t.seg.view.member_count - 1].owner,
		   UINT64_C(1) << 32 | (uint64_t)getpid(), RL_FAULT_MEMBER,
		   f->t.seg.view.member_count - 1);
}

static void test_verify__marks_of_slots_that_are_not_there_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_seg *seg = &f->t.seg;

	seg->dirty[0].word[0] = UINT64_MAX; /* slots that are there */
	nothing(f);
	found_with(f, &seg->dirty[0].sum[0], UINT64_C(1) << seg->dirty[0].words, RL_FAULT_DIRTY, 0);
	if (seg->view.slot_count % 64 != 0)
		found_with(f, &seg->dirty[0].word[seg->dirty[0].words - 1], UINT64_C(1) << 63,
			   RL_FAULT_DIRTY, 0);
}

static void test_verify__heads_that_nobody_writes_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *s = slot(f, SLIDING);
	uint64_t n = rl_head_n(s->head), index = f->slot[SLIDING];

	found_with(f, &s->head, rl_head_closed(n, 6), RL_FAULT_SLOT_KIND, index);
	found_with(f, &s->head, rl_head_closed(n, RL_KIND_FREE) | RL_HEAD_GRANT, RL_FAULT_SLOT_KIND,
		   index);
	found_with(f, &s->head, rl_head_open(RL_N_FIRST - 1), RL_FAULT_SLOT_COUNT, index);
	found_with(f, &s->head, rl_head_closed(n, RL_KIND_REBASE), RL_FAULT_SLOT_CLOSED, index);
	s = &f->t.seg.slot[f->free_slot];
	s->head = rl_head_closed(RL_N_REBASE, RL_KIND_FREE);
	nothing(f);
	found_with(f, &s->head, rl_head_closed(RL_N_REBASE + 1, RL_KIND_FREE), RL_FAULT_SLOT_COUNT,
		   f->free_slot);
}

static void test_verify__rebase_that_was_not_finished_is_found(void **state)
{
	struct fixture *f = *state;
	struct rl_journal *journal = &f->t.seg.live->journal;
	struct rl_slot *s = slot(f, SLIDING);

	journal->slot = f->slot[SLIDING];
	journal->closed_head = rl_head_closed(rl_head_n(s->head), RL_KIND_REBASE);
	journal->open_head = rl_head_open(RL_N_FIRST + 5);
	journal->shape = s->shape;
	journal->window_ns = s->window_ns;
	journal->valid = 1;
	nothing(f); /* not closed yet, or opened again */
	found_with(f, &s->head, journal->closed_head, RL_FAULT_SLOT_REBASE, f->slot[SLIDING]);
	journal->slot = f->free_slot; /* it knows of another */
	found_with(f, &s->head, journal->closed_head, RL_FAULT_SLOT_CLOSED, f->slot[SLIDING]);
}

static void test_verify__claims_of_the_dead_are_found(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t *head = &f->t.seg.slot[f->free_slot].head;
	uint64_t n = rl_head_n(*head);

	for (uint64_t kind = RL_KIND_CLAIM; kind <= RL_KIND_WIPE; kind++) {
		*head = rl_head_closed(n, kind);
		found(f, RL_FAULT_SLOT_CLAIM, f->free_slot, head);
	}
}

static void test_verify__free_slot_with_words_left_is_found(void **state)
{
	struct fixture *f = *state;
	struct rl_seg *seg = &f->t.seg;
	uint64_t index = f->free_slot;

	seg->text[index].word[7] = 1;
	found(f, RL_FAULT_SLOT_LEFT, index, &seg->slot[index].id);
	seg->text[index].word[7] = 0;
	seg->side[index].acked = 1;
	found(f, RL_FAULT_SLOT_LEFT, index, &seg->slot[index].id);
	seg->side[index].acked = 0;
	seg->tags[index / 32].word[index % 32 / 4] |= UINT64_C(1) << index % 4 * 16;
	found(f, RL_FAULT_SLOT_LEFT, index, (char *)&seg->tags[index / 32] + index % 32 * 2);
}

static void test_verify__tag_of_another_identity_is_found(void **state)
{
	struct fixture *f = *state;
	uint64_t index = f->slot[SLIDING];
	_Atomic uint64_t *word = &f->t.seg.tags[index / 32].word[index % 32 / 4];

	*word ^= UINT64_C(0x8000) << index % 4 * 16;
	found(f, RL_FAULT_SLOT_TAG, index, (char *)&f->t.seg.tags[index / 32] + index % 32 * 2);
	*word &= ~(UINT64_C(0xffff) << index % 4 * 16);
	found(f, RL_FAULT_SLOT_TAG, index, (char *)&f->t.seg.tags[index / 32] + index % 32 * 2);
}

/* As if a key had been put there: the slot's words, its side, its text and its tag. */
static void copy_slot(struct rl_seg *seg, uint64_t from, uint64_t to)
{
	struct rl_id id = {{seg->slot[from].id[0], seg->slot[from].id[1]}};

	memcpy((void *)&seg->slot[to], (const void *)&seg->slot[from], sizeof(struct rl_slot));
	memcpy((void *)&seg->side[to], (const void *)&seg->side[from], sizeof(struct rl_side));
	memcpy((void *)&seg->text[to], (const void *)&seg->text[from], sizeof(struct rl_text));
	seg->tags[to / 32].word[to % 32 / 4] |= rl_tag_of(&id) << to % 4 * 16;
}

static bool is_bucket_of(const struct rl_seg *seg, uint64_t slot_index, uint64_t bucket)
{
	struct rl_id id = {{seg->slot[slot_index].id[0], seg->slot[slot_index].id[1]}};
	uint64_t its[8] = {RL_NO_SLOT, RL_NO_SLOT, RL_NO_SLOT, RL_NO_SLOT,
			   RL_NO_SLOT, RL_NO_SLOT, RL_NO_SLOT, RL_NO_SLOT};

	rl_tag_buckets(&id, &seg->view.newest, its);
	for (int i = 0; i < 8; i++)
		if (its[i] == bucket)
			return true;
	return false;
}

/* A free slot that is, or is not, in a bucket of the one at index; above it if it is. */
static uint64_t free_place(const struct rl_seg *seg, uint64_t index, bool of_it)
{
	for (uint64_t i = of_it ? index + 1 : 0; i < seg->view.slot_count; i++)
		if (rl_head_is(seg->slot[i].head, RL_KIND_FREE) &&
		    is_bucket_of(seg, index, i / 32) == of_it)
			return i;
	return RL_NO_SLOT;
}

static void test_verify__two_open_slots_of_one_identity_are_found(void **state)
{
	struct fixture *f = *state;
	uint64_t index = f->slot[SLIDING], other = free_place(&f->t.seg, index, true);

	if (other == RL_NO_SLOT) { /* the key has the very last place */
		print_message("# no place behind the key's own\n");
		return;
	}
	copy_slot(&f->t.seg, index, other);
	found(f, RL_FAULT_SLOT_TWICE, index, &f->t.seg.slot[index].id);
	assert_int_equal(f->first.found, other);
	f->t.seg.slot[other].head =
		rl_head_closed(RL_N_FIRST, RL_KIND_TENT); /* not open: a claim */
	found(f, RL_FAULT_SLOT_CLAIM, other, &f->t.seg.slot[other].head);
}

static void test_verify__slot_outside_its_buckets_is_found(void **state)
{
	struct fixture *f = *state;
	uint64_t index = f->slot[SLIDING], other = free_place(&f->t.seg, index, false);

	assert_int_not_equal(other, RL_NO_SLOT);
	copy_slot(&f->t.seg, index, other);
	assert_true(rl_table_wipe(&f->t.seg, index, f->t.seg.slot[index].head));
	found(f, RL_FAULT_SLOT_BUCKET, other, &f->t.seg.slot[other].id);
}

static void test_verify__open_slot_without_identity_is_found(void **state)
{
	struct fixture *f = *state;
	uint64_t index = f->slot[SHARED];

	f->t.seg.slot[index].id[1] = 0;
	verify(f);
	assert_int_equal(f->count, 2); /* nor is the key beside it that of no identity */
	assert_int_equal(f->first.fault, RL_FAULT_SLOT_ID);
	assert_int_equal(f->first.index, index);
}

static void test_verify__shapes_of_no_rule_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *s = slot(f, SLIDING), *b = slot(f, BUCKET);
	uint64_t index = f->slot[SLIDING], rule = s->shape >> 32 << 32;

	s->shape = rule | RL_Q_MAX;
	nothing(f);
	found_with(f, &s->shape, rule | (RL_Q_MAX + 1), RL_FAULT_SLOT_SHAPE, index);
	found_with(f, &s->shape, rule, RL_FAULT_SLOT_SHAPE, index);
	s->window_ns = RL_WINDOW_MAX_NS;
	nothing(f);
	found_with(f, &s->window_ns, RL_WINDOW_MAX_NS + 1, RL_FAULT_SLOT_SHAPE, index);
	found_with(f, &s->window_ns, RL_WINDOW_MIN_NS - 1, RL_FAULT_SLOT_SHAPE, index);
	found_with(f, &b->shape, b->shape | 1, RL_FAULT_SLOT_SHAPE, f->slot[BUCKET]);
	found_with(f, &b->hint, b->hint & 0xff, RL_FAULT_SLOT_SHAPE, f->slot[BUCKET]);
}

static void test_verify__states_of_another_life_or_algorithm_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *b = slot(f, BUCKET);

	slot(f, SHARED)->state = INT64_MAX;
	slot(f, SLIDING)->state = UINT64_MAX; /* marks */
	nothing(f);
	found_with(f, &b->state, rl_count_state(rl_head_n(b->head) + 1, 0), RL_FAULT_SLOT_STATE,
		   f->slot[BUCKET]);
	found_with(f, &b->state, 0, RL_FAULT_SLOT_TAKEN, f->slot[BUCKET]);
}

static void test_verify__stamp_ahead_of_the_clock_is_found(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *s = slot(f, SLIDING);

	/* What a re-base adds to a stamp; it is found as late as this. */
	s->ring[23] = rl_clock_precise_ns() + RL_VERIFY_AHEAD_NS;
	nothing(f);
	found_with(f, &s->ring[23], rl_clock_precise_ns() + RL_VERIFY_AHEAD_NS + RL_SECOND_NS,
		   RL_FAULT_SLOT_STAMP, f->slot[SLIDING]);
}

static void test_verify__partition_of_another_key_is_found(void **state)
{
	struct fixture *f = *state;

	slot(f, SHARED)->hint ^= 0x1f;
	found(f, RL_FAULT_SLOT_PART, f->slot[SHARED], &slot(f, SHARED)->hint);
}

static void test_verify__sides_that_contradict_their_slot_are_found(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *s = slot(f, SHARED);
	struct rl_side *x = side(f, SHARED);
	uint64_t n = rl_head_n(s->head), index = f->slot[SHARED];
	uint32_t text = rl_acked_text(x->acked);

	x->acked = rl_acked(n, true, text);
	nothing(f);
	x->infl = s->head | RL_INFL_VALID;
	nothing(f);
	found_with(f, &x->infl, s->head & ~RL_INFL_VALID, RL_FAULT_SIDE_INFL, index);
	found_with(f, &x->infl, rl_head_open(n + 1) | RL_INFL_VALID, RL_FAULT_SIDE_INFL, index);
	found_with(f, &x->acked, rl_acked(n + 1, true, text), RL_FAULT_SIDE_ACKED, index);
	x->acked = rl_acked(n, false, text);
	found(f, RL_FAULT_SIDE_INFL, index, &x->infl);
}

static void test_verify__texts_of_no_key_or_of_another_are_found(void **state)
{
	struct fixture *f = *state;
	uint64_t index = f->slot[SLIDING];
	struct rl_side *x = side(f, SLIDING);
	struct rl_text *text = &f->t.seg.text[index];

	found_with(f, &text->word[0], text->word[0] ^ 1, RL_FAULT_TEXT_KEY, index);
	text->word[7] = 1; /* behind the key */
	found(f, RL_FAULT_TEXT_KEY, index, text);
	text->word[7] = 0;
	found_with(f, &x->acked, x->acked & ~RL_TEXT_MASK, RL_FAULT_TEXT, index);
	found_with(f, &x->acked, (x->acked & ~RL_TEXT_MASK) | (RL_TEXT_LONG + 1), RL_FAULT_TEXT,
		   index);
	x->acked--;
	found(f, RL_FAULT_TEXT_KEY, index, text);
}

/* In the agent's place: beats, and at a sign passes over the table. */
struct keeper {
	struct rl_seg *seg;
	uint64_t repair; /* this slot, in its first pass; or RL_NO_SLOT */
	atomic_bool stop;
	pthread_t thread;
};

static void *keep(void *arg)
{
	const struct timespec nap = {.tv_nsec = 100000000};
	struct keeper *keeper = arg;

	while (!atomic_load(&keeper->stop)) {
		rl_clock_beat(keeper->seg->live);
		nanosleep(&nap, NULL);
		if (keeper->repair != RL_NO_SLOT &&
		    keeper->seg->live->sweep_passes >= RL_VERIFY_PASSES)
			rl_table_wipe(keeper->seg, keeper->repair,
				      keeper->seg->slot[keeper->repair].head);
		atomic_fetch_add(&keeper->seg->live->sweep_passes, 1);
	}
	return NULL;
}

static void keeper_start(struct keeper *keeper, struct fixture *f, uint64_t repair)
{
	*keeper = (struct keeper){.seg = &f->t.seg, .repair = repair};
	f->t.seg.live->agent_pid = (uint64_t)getpid();
	rl_clock_beat(f->t.seg.live);
	assert_int_equal(pthread_create(&keeper->thread, NULL, keep, keeper), 0);
}

static void keeper_stop(struct keeper *keeper)
{
	atomic_store(&keeper->stop, true);
	pthread_join(keeper->thread, NULL);
}

static void test_verify__claim_that_a_live_agent_takes_back_is_no_finding(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *s = &f->t.seg.slot[f->free_slot];
	struct keeper keeper;

	s->head = rl_head_closed(rl_head_n(s->head), RL_KIND_CLAIM);
	keeper_start(&keeper, f, f->free_slot); /* later than SOON */
	verify(f);
	keeper_stop(&keeper);
	assert_int_equal(f->count, 0);
	assert_true(rl_head_is(s->head, RL_KIND_FREE));
}

static void test_verify__claim_that_a_live_agent_passes_by_is_one(void **state)
{
	struct fixture *f = *state;
	struct rl_slot *s = &f->t.seg.slot[f->free_slot];
	struct keeper keeper;

	s->head = rl_head_closed(rl_head_n(s->head), RL_KIND_CLAIM);
	keeper_start(&keeper, f, RL_NO_SLOT);
	found(f, RL_FAULT_SLOT_CLAIM, f->free_slot, &s->head);
	keeper_stop(&keeper);
}

static void test_verify__wall_clock_off_under_a_live_agent_is_found(void **state)
{
	struct fixture *f = *state;

	f->t.seg.live->wall_ns += 10 * RL_SECOND_NS;
	nothing(f); /* without an agent nobody follows it */
	rl_clock_beat(f->t.seg.live);
	f->t.seg.live->agent_pid = (uint64_t)getpid();
	f->t.seg.live->beat_ns += RL_SECOND_NS / 100; /* and no other beat comes */
	f->t.seg.live->wall_ns += 10 * RL_SECOND_NS;
	found(f, RL_FAULT_LIVE, 0, &f->t.seg.live->wall_ns);
}

static void test_verify__more_damage_than_it_can_hold_at_once_is_all_found(void **state)
{
	struct fixture *f = *state;
	struct t_seg big;

	t_seg_drop(&f->t);
	t_seg_make(&big, 3000);
	for (uint64_t i = 0; i < big.seg.view.slot_count; i++)
		big.seg.slot[i].head = rl_head_closed(RL_N_FIRST, 9);
	f->t = big;
	verify(f);
	assert_int_equal(f->count, big.seg.view.slot_count);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_verify__sound_segment_is_fine_and_counted),
		CASE(test_verify__each_fault_has_a_name_of_its_own),
		CASE(test_verify__header_words_written_after_the_attach_are_found),
		CASE(test_verify__moments_of_the_agent_ahead_of_the_clock_are_found),
		CASE(test_verify__journal_that_names_nothing_is_found),
		CASE(test_verify__damaged_rules_in_force_are_found),
		CASE(test_verify__two_rules_of_one_id_are_found),
		CASE(test_verify__damage_in_the_other_bank_is_told_apart),
		CASE(test_verify__damaged_words_of_the_fleet_are_found),
		CASE(test_verify__damaged_words_of_a_partition_are_found),
		CASE(test_verify__members_of_nobody_are_found),
		CASE(test_verify__marks_of_slots_that_are_not_there_are_found),
		CASE(test_verify__heads_that_nobody_writes_are_found),
		CASE(test_verify__rebase_that_was_not_finished_is_found),
		CASE(test_verify__claims_of_the_dead_are_found),
		CASE(test_verify__free_slot_with_words_left_is_found),
		CASE(test_verify__tag_of_another_identity_is_found),
		CASE(test_verify__two_open_slots_of_one_identity_are_found),
		CASE(test_verify__slot_outside_its_buckets_is_found),
		CASE(test_verify__open_slot_without_identity_is_found),
		CASE(test_verify__shapes_of_no_rule_are_found),
		CASE(test_verify__states_of_another_life_or_algorithm_are_found),
		CASE(test_verify__stamp_ahead_of_the_clock_is_found),
		CASE(test_verify__partition_of_another_key_is_found),
		CASE(test_verify__sides_that_contradict_their_slot_are_found),
		CASE(test_verify__texts_of_no_key_or_of_another_are_found),
		CASE(test_verify__claim_that_a_live_agent_takes_back_is_no_finding),
		CASE(test_verify__claim_that_a_live_agent_passes_by_is_one),
		CASE(test_verify__wall_clock_off_under_a_live_agent_is_found),
		CASE(test_verify__more_damage_than_it_can_hold_at_once_is_all_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
