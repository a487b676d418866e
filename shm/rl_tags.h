/*
 * rl_tags.h - one bucket's line of 32 tags: match, take and clear a lane.
 *
 * Rooms:  rl_table.c and rl_claim.c only.
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

#define RL_TAG_TRIES 64 /* each failed try is another lane of the word changing */

static inline uint64_t rl_tag_of(const struct rl_id *id)
{
	uint64_t tag = id->word[1] >> 48;

	return tag == 0 ? 1 : tag;
}

/* The bucket an identity is looked for first. */
static inline uint64_t rl_tag_bucket(const struct rl_id *id, uint64_t bucket_count)
{
	return ((id->word[0] >> 32) * bucket_count) >> 32;
}

static inline uint64_t rl_tag_next(uint64_t bucket, uint64_t bucket_count)
{
	return bucket + 1 < bucket_count ? bucket + 1 : 0;
}

/*
 * All buckets of an identity, in the order it is looked for; always different: a segment has at
 * least as many. Bits of their own for each, so that nothing follows from one for another.
 */
static inline void rl_tag_buckets(const struct rl_id *id, uint64_t bucket_count,
				  uint64_t ret[RL_CHOICES])
{
	ret[0] = rl_tag_bucket(id, bucket_count);
	ret[1] = ((id->word[1] & UINT64_C(0xffffffff)) * bucket_count) >> 32;
	ret[2] = ((id->word[0] & UINT64_C(0xffffffff)) * bucket_count) >> 32;
	if (ret[1] == ret[0])
		ret[1] = rl_tag_next(ret[1], bucket_count);
	for (int i = 0; i < 2 && (ret[2] == ret[0] || ret[2] == ret[1]); i++)
		ret[2] = rl_tag_next(ret[2], bucket_count);
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
