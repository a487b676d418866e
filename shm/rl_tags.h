/*
 * rl_tags.h - one bucket's line of 32 tags: match, take and clear a lane.
 *
 * Rooms:  rl_table.c, rl_claim.c, and who looks where a key may lie.
 *
 * A tag says that its slot may belong to an identity; 0 says that the slot is free or being
 * wiped. Workers set a tag only from zero, the agent alone clears it, and only while the
 * slot's head is closed: so as long as a slot is open its tag is right.
 */
#ifndef RL_TAGS_H
#define RL_TAGS_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_hash.h"
#include "shm/rl_layout.h"
#include "shm/rl_segment.h"

#define RL_TAG_TRIES 64 /* each failed try is another lane of the word changing */

static inline uint64_t rl_tag_of(const struct rl_id *id)
{
	uint64_t tag = id->word[1] >> 48;

	return tag == 0 ? 1 : tag;
}

#define RL_CANDIDATES (RL_CHOICES * RL_EXTENTS_MAX)

/* The bucket of an extent that an identity is looked for first. */
static inline uint64_t rl_tag_bucket(const struct rl_id *id, const struct rl_extent *extent)
{
	return extent->first + (((id->word[0] >> 32) * extent->count) >> 32);
}

static inline uint64_t rl_tag_next(uint64_t bucket, const struct rl_extent *extent)
{
	return bucket + 1 < extent->first + extent->count ? bucket + 1 : extent->first;
}

/*
 * All buckets of an identity in one extent; always different: it has at least as many. Bits of
 * their own for each, so that nothing follows from one for another.
 */
static inline void rl_tag_buckets(const struct rl_id *id, const struct rl_extent *extent,
				  uint64_t ret[RL_CHOICES])
{
	ret[0] = rl_tag_bucket(id, extent);
	ret[1] = extent->first + (((id->word[1] & UINT64_C(0xffffffff)) * extent->count) >> 32);
	ret[2] = extent->first + (((id->word[0] & UINT64_C(0xffffffff)) * extent->count) >> 32);
	if (ret[1] == ret[0])
		ret[1] = rl_tag_next(ret[1], extent);
	for (int i = 0; i < 2 && (ret[2] == ret[0] || ret[2] == ret[1]); i++)
		ret[2] = rl_tag_next(ret[2], extent);
}

/*
 * All buckets of an identity, in the order it is looked for, and how many: the first choice of each
 * extent, the newest before the older, then the second choices.
 */
static inline uint32_t rl_tag_candidates(const struct rl_view *view, const struct rl_id *id,
					 uint64_t ret[RL_CANDIDATES])
{
	uint32_t extents = view->extents;

	for (uint32_t e = 0; e < extents; e++) {
		uint64_t choice[RL_CHOICES];

		rl_tag_buckets(id, &view->extent[extents - 1 - e], choice);
		for (uint32_t c = 0; c < RL_CHOICES; c++)
			ret[c * extents + e] = choice[c];
	}
	return extents * RL_CHOICES;
}

/* Where in its bucket an identity looks first; lightly loaded tables then need one word. */
static inline uint32_t rl_tag_home(const struct rl_id *id)
{
	return (uint32_t)id->word[0] % RL_LANES;
}

/* The top bit of every 16-bit lane of word that equals tag. Exact, no false lanes. */
static inline uint64_t rl_tag_match(uint64_t word, uint64_t tag)
{
	const uint64_t low = UINT64_C(0x7fff7fff7fff7fff);
	uint64_t differ = word ^ (tag * UINT64_C(0x0001000100010001));

	return ~(((differ & low) + low) | differ | low);
}

/* First lane (0..3) marked in a result of rl_tag_match(), which must not be 0. */
static inline uint32_t rl_tag_first(uint64_t match)
{
	return (uint32_t)__builtin_ctzll(match) / 16;
}

#endif
