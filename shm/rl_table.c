#include "shm/rl_table.h"

#include "shm/rl_cold.h"
#include "shm/rl_tags.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

static bool id_is(const struct rl_slot *slot, const struct rl_id *id)
{
	/* Relaxed: ordered after the acquire of head, and final while head keeps that value. */
	return atomic_load_explicit(&slot->id[0], memory_order_relaxed) == id->word[0] &&
	       atomic_load_explicit(&slot->id[1], memory_order_relaxed) == id->word[1];
}

/* The open slot at index, if it is the one of id. */
static inline bool is_at(const struct rl_view *view, const struct rl_id *id, uint64_t index,
			 uint64_t *ret_head)
{
	const struct rl_slot *slot = &view->slot[index];
	/* pairs[slot_head.acq]: whoever opened the slot wrote identity and terms before. */
	uint64_t head = atomic_load_explicit(&slot->head, memory_order_acquire);

	*ret_head = head;
	return rl_head_is_open(head) && id_is(slot, id);
}

/*
 * Look at all lanes of the bucket; index of the open slot of id, or none. All words first and
 * then the lanes that they say: which word it is in nobody can foretell, so a branch for each
 * would be mispredicted for every second key.
 */
static inline uint64_t find_in_bucket(const struct rl_view *view, const struct rl_id *id,
				      uint64_t bucket, uint64_t *ret_head)
{
	uint64_t match = 0, tag = rl_tag_of(id);

	for (uint32_t w = 0; w < RL_LANE_WORDS; w++)
		/* Relaxed: a hint; a tag not seen yet sends the caller to claim, which settles it.
		 */
		match |= rl_tag_match(atomic_load_explicit(&view->tags[bucket].word[w],
							   memory_order_relaxed),
				      tag) >>
			 (15 - w);
	for (; match != 0; match &= match - 1) {
		uint32_t bit = (uint32_t)__builtin_ctzll(match); /* 16 * lane + word */
		uint64_t index = bucket * RL_LANES + bit % 16 * 4 + bit / 16;

		if (is_at(view, id, index, ret_head))
			return index;
	}
	return RL_NO_SLOT;
}

/* Not in its first bucket: look at the others. */
RL_COLD static uint64_t find_anywhere(const struct rl_view *view, const struct rl_id *id,
				      uint64_t *ret_head)
{
	uint64_t bucket[RL_CANDIDATES];
	uint32_t count = rl_tag_candidates(view, id, bucket);

	for (uint32_t b = 1; b < count; b++) {
		uint64_t index = find_in_bucket(view, id, bucket[b], ret_head);

		if (index != RL_NO_SLOT)
			return index;
	}
	return RL_NO_SLOT;
}

/*
 * A key lies in its home lane unless that was taken when it came: looked at first, and the tags,
 * on a line of their own that its address would have to wait for, only when it does not. In a
 * table that is nearly full that is every second key, so their line is fetched beside the lane's.
 */
uint64_t rl_table_find(const struct rl_view *view, const struct rl_id *id, uint64_t *ret_head)
{
	uint64_t bucket = rl_tag_bucket(id, &view->newest);
	uint64_t home = bucket * RL_LANES + rl_tag_home(id), index;

	__builtin_prefetch(&view->tags[bucket]);
	if (is_at(view, id, home, ret_head))
		return home;
	index = find_in_bucket(view, id, bucket, ret_head);
	return index != RL_NO_SLOT ? index : find_anywhere(view, id, ret_head);
}

static bool clear_tag(struct rl_seg *seg, uint64_t index)
{
	_Atomic uint64_t *word = &seg->tags[index / RL_LANES].word[index % RL_LANES / 4];
	uint64_t mask = UINT64_C(0xffff) << (index % 4 * 16);
	/* seq_cst, here and below: part of the single order in which claimants read tags. */
	uint64_t seen = atomic_load_explicit(word, memory_order_seq_cst);

	for (int i = 0; i < RL_TAG_TRIES; i++)
		if (atomic_compare_exchange_weak_explicit(
			    word, &seen, seen & ~mask, memory_order_seq_cst, memory_order_seq_cst))
			return true;
	return false;
}

/* Relaxed: nobody trusts these words until a head published after them. */
static void zero(_Atomic uint64_t *word, size_t count)
{
	for (size_t i = 0; i < count; i++)
		atomic_store_explicit(&word[i], 0, memory_order_relaxed);
}

static void zero_side(struct rl_side *side)
{
	zero(&side->infl, 1);
	zero(&side->acked, 1);
	zero(&side->total, 1);
	atomic_store_explicit(&side->refused, 0, memory_order_relaxed);
	atomic_store_explicit(&side->debt, 0, memory_order_relaxed);
	atomic_store_explicit(&side->waiters, 0, memory_order_relaxed);
}

/*
 * Zero every word of a slot whose head is WIPE but head, and turn: who waits for it must not
 * see an old turn come back. Idempotent.
 */
static void zero_words(struct rl_seg *seg, uint64_t index)
{
	struct rl_slot *slot = &seg->slot[index];

	zero(slot->id, 2);
	zero(&slot->shape, 1);
	zero(&slot->window_ns, 1);
	zero(&slot->hint, 1);
	zero(&slot->state, 1);
	atomic_store_explicit(&slot->asked, 0, memory_order_relaxed);
	zero(slot->ring, RL_RING);
	zero_side(&seg->side[index]);
	zero(seg->text[index].word, RL_TEXT_BYTES / 8);
}

/*
 * The head a slot is wiped under. Refunds may have lowered n by up to a group: it goes on from
 * where no head of this life has been. Not again when it is WIPE already.
 */
static uint64_t wipe_head(const struct rl_slot *slot, uint64_t head)
{
	/* Relaxed: under head. */
	uint32_t q = rl_shape_q(atomic_load_explicit(&slot->shape, memory_order_relaxed));
	uint64_t n = rl_head_n(head);

	if (rl_head_is(head, RL_KIND_WIPE))
		return head;
	if (q >= 1 && q <= RL_Q_MAX && n <= RL_N_REBASE)
		n += 2 * (uint64_t)q;
	return rl_head_closed(n, RL_KIND_WIPE);
}

bool rl_table_wipe(struct rl_seg *seg, uint64_t index, uint64_t head)
{
	struct rl_slot *slot = &seg->slot[index];
	uint64_t wipe = wipe_head(slot, head), n = rl_head_n(wipe);

	/* pairs[slot_head.rel]: nothing of the wipe may be seen before the close. */
	if (head != wipe &&
	    !atomic_compare_exchange_strong_explicit(&slot->head, &head, wipe, memory_order_seq_cst,
						     memory_order_relaxed))
		return false;
	/* Killed from here on: the slot stays WIPE and the next sweep does all this again. */
	if (!clear_tag(seg, index))
		return false;
	zero_words(seg, index);
	if (n < RL_N_FIRST || n > RL_N_REBASE)
		n = RL_N_FIRST; /* damaged; or 2^41 counts later, when nobody holds an old head */
	/* pairs[slot_head.rel]: the words are zero before the slot is free. */
	atomic_store_explicit(&slot->head, rl_head_closed(n, RL_KIND_FREE), memory_order_seq_cst);
	return true;
}

bool rl_table_free_idle(struct rl_seg *seg, uint64_t index, uint64_t head, uint64_t total)
{
	uint64_t wipe = wipe_head(&seg->slot[index], head);

	/* pairs[slot_head.rel]: fails if a worker admitted since the slot was seen to be idle. */
	if (!atomic_compare_exchange_strong_explicit(&seg->slot[index].head, &head, wipe,
						     memory_order_seq_cst, memory_order_relaxed))
		return false;
	/* Blocked since it was seen to be idle? seq_cst: who blocks a key looks at its head
	 * afterwards, so one of the two sees the other. Killed here: its block is lost, and whoever
	 * set it finds the slot closed and sets it anew. */
	if (atomic_load_explicit(&seg->side[index].total, memory_order_seq_cst) != total) {
		/* pairs[slot_head.rel]: nothing of it has changed. */
		atomic_store_explicit(&seg->slot[index].head, head, memory_order_release);
		return false;
	}
	return rl_table_wipe(seg, index, wipe);
}

bool rl_table_free(struct rl_seg *seg, uint64_t index, uint64_t head)
{
	/* Relaxed: what is changed after this is seen there. */
	return rl_table_free_idle(
		seg, index, head,
		atomic_load_explicit(&seg->side[index].total, memory_order_relaxed));
}

bool rl_table_in_place(const struct rl_view *view, uint64_t index)
{
	const struct rl_slot *slot = &view->slot[index];
	/* Relaxed, all: as id_is(); the agent, who asks, is the only one to clear a tag. */
	uint64_t word = atomic_load_explicit(
		&view->tags[index / RL_LANES].word[index % RL_LANES / 4], memory_order_relaxed);
	struct rl_id id = {{atomic_load_explicit(&slot->id[0], memory_order_relaxed),
			    atomic_load_explicit(&slot->id[1], memory_order_relaxed)}};
	uint64_t bucket[RL_CANDIDATES];
	uint32_t count = rl_tag_candidates(view, &id, bucket);

	if (id.word[0] == 0 || id.word[1] == 0 ||
	    (word >> (index % 4 * 16) & 0xffff) != rl_tag_of(&id))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (bucket[i] == index / RL_LANES)
			return true;
	return false;
}

uint64_t rl_table_used(const struct rl_view *view)
{
	uint64_t used = 0;

	for (uint64_t b = 0; b < view->bucket_count; b++)
		for (uint32_t w = 0; w < RL_LANE_WORDS; w++) {
			/* Relaxed: a count for people. */
			uint64_t word =
				atomic_load_explicit(&view->tags[b].word[w], memory_order_relaxed);

			used += 4 - (uint64_t)__builtin_popcountll(rl_tag_match(word, 0));
		}
	return used;
}
