/*
 * rl_claim.c - the claiming half of rl_table.h: one key, one slot, whoever dies.
 *
 * Every load and CAS of tags and heads here is seq_cst: two claimants each write their own
 * tentative slot and then read the other's, and at least one must see the other (Dekker).
 * A slot counts as seen at the moment its tag word was read: a tag is set before its TENT
 * is published and cleared after the slot is closed, so "no tag" proves "not open and not
 * tentative" at that moment.
 */
#include "shm/rl_count.h"
#include "shm/rl_mark.h"
#include "shm/rl_table.h"
#include "shm/rl_tags.h"
#include "shm/rl_word.h"

#define CLAIM_TRIES   64 /* each lost try is another process's progress */
#define ROOM_TO_SPARE 16 /* free lanes: costs no load before the first full bucket, see DESIGN */
#define ROOM_SCARCE   4  /* fewer free lanes: the third bucket is looked at as well */
#define TENTS_MAX     96 /* a bucket's lanes, three times: no more are ever tentative at once */

/* All slots of one identity that matter, as its buckets showed them. */
struct sight {
	uint64_t open; /* index of an open slot, or RL_NO_SLOT */
	uint32_t tents;
	struct {
		uint64_t index;
		uint64_t head;
	} tent[TENTS_MAX]; /* in ascending order of index */
};

static uint64_t load_head(const struct rl_slot *slot)
{
	/* pairs[slot_head.acq]: a published head's identity was written before it. */
	return atomic_load_explicit(&slot->head, memory_order_seq_cst);
}

static bool swap_head(struct rl_seg *seg, uint64_t index, uint64_t from, uint64_t to)
{
	/* pairs[slot_head.rel]: what the new head says was written before it. */
	return atomic_compare_exchange_strong_explicit(&seg->slot[index].head, &from, to,
						       memory_order_seq_cst, memory_order_seq_cst);
}

static bool same_id(const struct rl_slot *slot, const struct rl_id *id)
{
	/* Relaxed: ordered after the load of head that published them. */
	return atomic_load_explicit(&slot->id[0], memory_order_relaxed) == id->word[0] &&
	       atomic_load_explicit(&slot->id[1], memory_order_relaxed) == id->word[1];
}

static void look_at(const struct rl_seg *seg, const struct rl_id *id, uint64_t index,
		    struct sight *sight)
{
	uint64_t head = load_head(&seg->slot[index]);

	if (!rl_head_is_open(head) && !rl_head_is(head, RL_KIND_TENT) &&
	    !rl_head_is(head, RL_KIND_REBASE))
		return;
	if (!same_id(&seg->slot[index], id))
		return;
	if (!rl_head_is(head, RL_KIND_TENT)) {
		sight->open = index; /* being re-based is open, but for a moment */
		return;
	}
	if (sight->tents >= TENTS_MAX)
		return; /* damage */
	sight->tent[sight->tents].index = index;
	sight->tent[sight->tents].head = head;
	sight->tents++;
}

/* The buckets of an identity in ascending order, and how many. */
static uint32_t rising_buckets(const struct rl_seg *seg, const struct rl_id *id,
			       uint64_t ret[RL_CANDIDATES])
{
	uint32_t count = rl_tag_candidates(&seg->view, id, ret);

	for (uint32_t i = 1; i < count; i++)
		for (uint32_t j = i; j > 0 && ret[j - 1] > ret[j]; j--) {
			uint64_t higher = ret[j - 1];

			ret[j - 1] = ret[j];
			ret[j] = higher;
		}
	return count;
}

/*
 * Read all buckets, in ascending order of index. Also those behind one with room: it may have been
 * full when somebody claimed.
 */
static void look(const struct rl_seg *seg, const struct rl_id *id, struct sight *ret)
{
	uint64_t bucket[RL_CANDIDATES], tag = rl_tag_of(id);
	uint32_t count = rising_buckets(seg, id, bucket);

	ret->open = RL_NO_SLOT;
	ret->tents = 0;
	for (uint32_t b = 0; b < count; b++)
		for (uint32_t w = 0; w < RL_LANE_WORDS; w++) {
			uint64_t word = atomic_load_explicit(&seg->tags[bucket[b]].word[w],
							     memory_order_seq_cst);
			uint64_t match = rl_tag_match(word, tag);

			for (; match != 0; match &= match - 1)
				look_at(seg, id, bucket[b] * RL_LANES + w * 4 + rl_tag_first(match),
					ret);
		}
}

bool rl_table_holds(const struct rl_seg *seg, const struct rl_id *id)
{
	struct sight sight;

	look(seg, id, &sight);
	return sight.open != RL_NO_SLOT;
}

static bool withdraw(struct rl_seg *seg, uint64_t index, uint64_t head)
{
	return swap_head(seg, index, head, rl_head_closed(rl_head_n(head), RL_KIND_SPOILED));
}

/*
 * Finish the lowest tentative slot seen, whoever began it. The caller looks again whatever
 * comes of it. Killed anywhere: the others remain tentative or spoiled, none is open twice.
 */
static bool finish_lowest(struct rl_seg *seg, const struct rl_id *id, const struct rl_claim *claim,
			  const struct sight *seen)
{
	uint64_t index = seen->tent[0].index, head = seen->tent[0].head;
	struct sight now;

	look(seg, id, &now);
	if (now.open != RL_NO_SLOT || now.tents == 0 || now.tent[0].index != index ||
	    now.tent[0].head != head)
		return false;
	for (uint32_t i = 1; i < now.tents; i++)
		if (!withdraw(seg, now.tent[i].index, now.tent[i].head))
			return false;
	return swap_head(seg, index, head,
			 rl_head_with_credit(rl_head_open(rl_head_n(head)), claim->credit));
}

/* Set a word of a claimed slot; false when another value is there (guarantee C). */
static bool fill_word(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t seen = 0;

	/* Relaxed: published by the head that says TENT. */
	return atomic_compare_exchange_strong_explicit(word, &seen, value, memory_order_relaxed,
						       memory_order_relaxed) ||
	       seen == value;
}

static bool set_tag(struct rl_seg *seg, uint64_t index, uint64_t tag)
{
	_Atomic uint64_t *word = &seg->tags[index / RL_LANES].word[index % RL_LANES / 4];
	unsigned shift = (unsigned)(index % 4 * 16);
	uint64_t seen = atomic_load_explicit(word, memory_order_seq_cst);

	for (int i = 0; i < RL_TAG_TRIES; i++) {
		if ((seen >> shift & 0xffff) != 0)
			return false; /* left by a claimant that woke late: not ours to touch */
		if (atomic_compare_exchange_weak_explicit(word, &seen, seen | tag << shift,
							  memory_order_seq_cst,
							  memory_order_seq_cst))
			return true;
	}
	return false;
}

/* What the sync needs of a slot: its key, where its admits begin, its partition. */
static bool fill_side(struct rl_seg *seg, uint64_t index, uint64_t n, const struct rl_claim *claim)
{
	uint32_t text = claim->text.code | (claim->audited ? RL_TEXT_AUDIT : 0);
	bool good = fill_word(&seg->side[index].acked, rl_acked(n, false, text)) &&
		    fill_word(&seg->slot[index].hint, claim->hint);

	for (size_t i = 0; good && i < RL_TEXT_BYTES / 8; i++)
		good = fill_word(&seg->text[index].word[i], claim->text.word[i]);
	return good;
}

/*
 * The youngest groups below n, as if so many units had been admitted just now. Of more groups than
 * the ring has the older ones share its cells: held is read from shared memory.
 */
static bool fill_ring(struct rl_slot *slot, uint64_t n, const struct rl_claim *claim)
{
	uint64_t group, first = claim->held < n ? n - claim->held : 0;
	bool good = true;

	if (claim->algorithm != RL_SLIDING || claim->held == 0)
		return true;
	group = (n - 1) / claim->q;
	for (uint32_t left = RL_RING; good && left > 0 && group >= first / claim->q; left--)
		good = fill_word(&slot->ring[group-- % RL_RING], claim->now_ns);
	return good;
}

/* What it counts by; of the sliding window the mark of a local key that is audited, or nothing. */
static bool fill_state(struct rl_slot *slot, uint64_t n, const struct rl_claim *claim)
{
	uint64_t word = rl_count_state(n, claim->word), seen = 0;

	if (claim->algorithm == RL_SLIDING)
		word = claim->audited && claim->local ? RL_MARK_AUDIT : 0;
	/* pairs[slot_state.rel]: not seen before the slot was taken, by who marks the key that had
	 * it before (rl_mark.c). */
	return word == 0 ||
	       atomic_compare_exchange_strong_explicit(
		       &slot->state, &seen, word, memory_order_release, memory_order_relaxed) ||
	       seen == word;
}

/*
 * Take one free slot and publish it as tentative. Every word goes from zero to its value or
 * the slot is given up: what is in it then was ours alone when TENT was published. Killed
 * in the middle: CLAIM (or SPOILED) stays, holds no count, and the agent takes it back.
 */
static bool propose_at(struct rl_seg *seg, uint64_t index, uint64_t free_head,
		       const struct rl_id *id, const struct rl_claim *claim)
{
	struct rl_slot *slot = &seg->slot[index];
	uint64_t n = rl_head_n(free_head) + 1;
	uint64_t mine = rl_head_closed(n, RL_KIND_CLAIM);

	if (!swap_head(seg, index, free_head, mine))
		return false;
	if (fill_word(&slot->id[0], id->word[0]) && fill_word(&slot->id[1], id->word[1]) &&
	    fill_word(&slot->shape, rl_shape(claim->rule_id, claim->algorithm, claim->q)) &&
	    fill_word(&slot->window_ns, claim->window_ns) && fill_state(slot, n, claim) &&
	    fill_ring(slot, n, claim) && fill_side(seg, index, n, claim) &&
	    set_tag(seg, index, rl_tag_of(id)))
		return swap_head(seg, index, mine, rl_head_closed(n, RL_KIND_TENT));
	swap_head(seg, index, mine, rl_head_closed(n, RL_KIND_SPOILED));
	return false;
}

static uint32_t free_lanes(const struct rl_seg *seg, uint64_t bucket)
{
	uint32_t lanes = 0;

	for (uint32_t w = 0; w < RL_LANE_WORDS; w++) {
		/* Relaxed: a hint for where to try first. */
		uint64_t word =
			atomic_load_explicit(&seg->tags[bucket].word[w], memory_order_relaxed);

		lanes += (uint32_t)__builtin_popcountll(rl_tag_match(word, 0));
	}
	return lanes;
}

static bool lane_untagged(const struct rl_seg *seg, uint64_t index)
{
	uint64_t word =
		atomic_load_explicit(&seg->tags[index / RL_LANES].word[index % RL_LANES / 4],
				     memory_order_relaxed); /* a hint, as above */

	return (word >> (index % 4 * 16) & 0xffff) == 0;
}

/* The lane to try as number i: the home lane, the others of its tag word, the next words. */
static uint32_t lane_of(const struct rl_id *id, uint32_t i)
{
	uint32_t home = rl_tag_home(id);

	return (home / 4 + i / 4) % RL_LANE_WORDS * 4 + (home + i) % 4;
}

/* Try the lanes of a bucket that look free. */
static bool propose_in(struct rl_seg *seg, uint64_t bucket, const struct rl_id *id,
		       const struct rl_claim *claim, bool *ret_tried)
{
	for (uint32_t i = 0; i < RL_LANES; i++) {
		uint64_t index = bucket * RL_LANES + lane_of(id, i);
		uint64_t head;

		if (!lane_untagged(seg, index))
			continue;
		head = load_head(&seg->slot[index]);
		/* A count near its end is damage: a wiped slot never has one past RL_N_REBASE. */
		if (!rl_head_is(head, RL_KIND_FREE) || rl_head_n(head) >= RL_N_MAX - UINT32_MAX)
			continue;
		*ret_tried = true;
		if (propose_at(seg, index, head, id, claim))
			return true;
	}
	return false;
}

/*
 * Of the newest extent the first bucket while it has room to spare (a lookup then reads one tag
 * line), else the emptier of two; the emptiest of three where that one is nearly full. Where that
 * is so as well the next older extent, likewise: taken as they come its buckets would fill
 * unevenly, and a grown table would refuse keys that it has room for.
 */
static uint64_t best_bucket(const struct rl_seg *seg, const struct rl_id *id)
{
	static const uint32_t enough[RL_CHOICES] = {UINT32_MAX, ROOM_TO_SPARE, ROOM_SCARCE};
	uint64_t bucket[RL_CHOICES], best = rl_tag_bucket(id, &seg->view.newest);
	uint32_t most = 0;

	for (uint32_t e = seg->view.extents; e-- > 0 && most < ROOM_SCARCE;) {
		rl_tag_buckets(id, &seg->view.extent[e], bucket);
		for (uint32_t c = 0; c < RL_CHOICES && most < enough[c]; c++) {
			uint32_t lanes = free_lanes(seg, bucket[c]);

			if (lanes > most) {
				most = lanes;
				best = bucket[c];
			}
		}
	}
	return best;
}

/* Propose in the best bucket, else in the others. False in *ret_tried: all are full. */
static void propose(struct rl_seg *seg, const struct rl_id *id, const struct rl_claim *claim,
		    bool *ret_tried)
{
	uint64_t bucket[RL_CANDIDATES], best = best_bucket(seg, id);
	uint32_t count = rl_tag_candidates(&seg->view, id, bucket);
	bool done;

	*ret_tried = false;
	done = propose_in(seg, best, id, claim, ret_tried);
	for (uint32_t b = 0; b < count && !done; b++)
		done = bucket[b] != best && propose_in(seg, bucket[b], id, claim, ret_tried);
}

int rl_table_claim(struct rl_seg *seg, const struct rl_id *id, const struct rl_claim *claim)
{
	for (int i = 0; i < CLAIM_TRIES; i++) {
		struct sight sight;
		bool tried;

		look(seg, id, &sight);
		if (sight.open != RL_NO_SLOT) {
			for (uint32_t t = 0; t < sight.tents; t++)
				withdraw(seg, sight.tent[t].index, sight.tent[t].head);
			return 0;
		}
		/* After the look that saw what may be finished: rl_table.h. */
		if (rl_segment_has_grown(&seg->view))
			return RL_E_GROWN;
		if (sight.tents > 0) {
			if (finish_lowest(seg, id, claim, &sight))
				return 1;
			continue;
		}
		propose(seg, id, claim, &tried);
		if (!tried)
			return RL_E_FULL;
	}
	return RL_E_BUSY;
}
