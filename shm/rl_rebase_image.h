/*
 * rl_rebase_image.h - the two halves of a re-base: of the sliding window, and of one word.
 *
 * Rooms:  rl_rebase.c and rl_rebase_count.c only.
 */
#ifndef RL_REBASE_IMAGE_H
#define RL_REBASE_IMAGE_H

#include "shm/rl_rebase.h"

#define RL_JOURNAL_WHOLE 1u
#define RL_JOURNAL_TAKE  2u /* close, take the slot's word, fill in what follows from it */

/* What a slot is to become. */
struct rl_image {
	uint64_t n, shape, window_ns, acked, state, hint;
	uint64_t ring[RL_RING];
};

/* Relaxed: each stands under head or under the journal's valid word. */
static inline void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t take(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* A count above the old one, at the start of a group of q, that the ring can index back from. */
uint64_t rl_rebase_next_n(uint64_t n, uint32_t q);

/* acked as far behind the new count as behind the old one: what is unreported stays so. */
uint64_t rl_rebase_acked(uint64_t acked, uint64_t old_n, uint64_t new_n);

void rl_rebase_write(struct rl_journal *journal, uint64_t index, uint64_t head,
		     const struct rl_image *image, uint64_t valid);

/* Close the slot, whose head was read as head, for the entry. */
bool rl_rebase_close(struct rl_seg *seg, uint64_t index, uint64_t head);

/* Write the closed slot from the journal and open it. The same bytes however often. */
void rl_rebase_apply(struct rl_seg *seg, uint64_t index);

void rl_rebase_drop(struct rl_journal *journal);

/*
 * Fill in the state and hint of a slot that holds units now in one word. Its n, shape and window_ns
 * are there, and the partition in its hint.
 */
void rl_rebase_count_image(const struct rl_view *view, uint32_t scale, uint32_t units,
			   struct rl_image *image);

bool rl_rebase_count_wanted(const struct rl_view *view, const struct rl_slot *slot,
			    const struct rl_rule *rule);

/* rl_rebase_slot() of a slot that counts in one word. */
bool rl_rebase_count_slot(struct rl_seg *seg, uint64_t index, uint64_t head,
			  const struct rl_rule *rule);

/*
 * Of a slot closed for an entry that says TAKE: take its word and make the entry whole. False,
 * and nothing is done, when the slot is damaged.
 */
bool rl_rebase_count_take(struct rl_seg *seg, uint64_t index);

#endif
