/*
 * rl_bucket.h - the level of a bucket that drains all the time, counted without error.
 *
 * Rooms:  shm/ only. Pure arithmetic.
 *
 * Time is measured in parts: F parts are what one unit takes to drain, F a power of two, so
 * that a part lasts 16 to 32 ns (longer below 30 units a minute; a unit's time above 6 * 10^7
 * units a second, when 54 bits last for as little as 23 hours: the agent starts them anew). A
 * word holds the moment, in parts since base, at which the bucket will be empty; GCRA's
 * theoretical arrival time on a clock that divides a unit's time exactly. So nothing is rounded
 * from check to check, whatever limit and window are, and
 *
 *	units admitted in any (t1, t2]  <=  size + (t2 - t1) * limit / window + 1 / F
 *
 * where the last term is the clock's resolution: the readings of two checks that are a part
 * apart are taken for one.
 *
 * Source: ITU-T I.371, annex A (virtual scheduling algorithm).
 */
#ifndef RL_BUCKET_H
#define RL_BUCKET_H

#include <stdint.h>

#include "shm/rl_algorithm.h"

#define RL_PART_NS       16u /* at least, if a unit takes as long: 54 bits last for 8 years */
#define RL_PARTS_SHIFTED 21u /* at most 2^21 parts in a unit: 2^31 units have room */

__extension__ typedef unsigned __int128 rl_wide;

#define RL_BUCKET_RENEW (RL_COUNT_MAX / 2)

struct rl_bucket {
	uint64_t now;   /* parts since base */
	uint64_t empty; /* when the bucket is, not before now */
	uint32_t shift; /* F = 1 << shift */
};

static inline uint32_t rl_bucket_shift(const struct rl_count_terms *terms)
{
	uint64_t parts = terms->window_ns / terms->scale / RL_PART_NS;
	uint32_t shift = parts == 0 ? 0 : 63u - (uint32_t)__builtin_clzll(parts);

	return shift < RL_PARTS_SHIFTED ? shift : RL_PARTS_SHIFTED;
}

/* Parts of so much time; RL_COUNT_MAX when it is more. */
static inline uint64_t rl_bucket_parts(const struct rl_count_terms *terms, uint32_t shift,
				       uint64_t span_ns)
{
	rl_wide parts = (rl_wide)span_ns * ((uint64_t)terms->scale << shift) / terms->window_ns;

	return parts < RL_COUNT_MAX ? (uint64_t)parts : RL_COUNT_MAX;
}

/* Time that so many parts take, rounded up; at most 2^63 ns. */
static inline uint64_t rl_bucket_ns(const struct rl_count_terms *terms, uint32_t shift,
				    uint64_t parts)
{
	uint64_t a_window = (uint64_t)terms->scale << shift;
	rl_wide ns = ((rl_wide)parts * terms->window_ns + a_window - 1) / a_window;

	return ns < INT64_MAX ? (uint64_t)ns : INT64_MAX;
}

static inline struct rl_bucket rl_bucket_at(uint64_t word, const struct rl_count_terms *terms,
					    uint64_t now_ns)
{
	uint64_t since_ns = now_ns > terms->base_ns ? now_ns - terms->base_ns : 0;
	struct rl_bucket bucket = {.shift = rl_bucket_shift(terms)};

	bucket.now = rl_bucket_parts(terms, bucket.shift, since_ns);
	bucket.empty = word > bucket.now ? word : bucket.now;
	return bucket;
}

/* Of a bucket of this size: what is above it (another rule's, or damage) is not in it. */
static inline struct rl_bucket rl_bucket_full_at(uint64_t word, const struct rl_count_terms *terms,
						 uint32_t size, uint64_t now_ns)
{
	struct rl_bucket bucket = rl_bucket_at(word, terms, now_ns);
	uint64_t full = bucket.now + ((uint64_t)size << bucket.shift);

	if (bucket.empty > full)
		bucket.empty = full;
	return bucket;
}

/* Units in the bucket, rounded up. */
static inline uint32_t rl_bucket_units(const struct rl_bucket *bucket)
{
	uint64_t units =
		(bucket->empty - bucket->now + (UINT64_C(1) << bucket->shift) - 1) >> bucket->shift;

	return units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

/* Units for which there is room in a bucket of this size. */
static inline uint32_t rl_bucket_room(const struct rl_bucket *bucket, uint32_t size)
{
	uint64_t full = bucket->now + ((uint64_t)size << bucket->shift);

	return bucket->empty < full ? (uint32_t)((full - bucket->empty) >> bucket->shift) : 0;
}

/* How long until the level is size units at most, if cost units go in now. */
static inline uint64_t rl_bucket_until(const struct rl_bucket *bucket,
				       const struct rl_count_terms *terms, uint32_t cost,
				       uint64_t size)
{
	uint64_t then = bucket->empty + ((uint64_t)cost << bucket->shift);
	uint64_t least = bucket->now + (size << bucket->shift);

	return then > least ? rl_bucket_ns(terms, bucket->shift, then - least) : 0;
}

/*
 * Those of rl_algorithm that are the same for every bucket. Given back is what has not drained of
 * the last admit: of an older one nobody can tell how much has, once another was given back.
 */
uint64_t rl_bucket_refund(uint64_t word, uint64_t then, const struct rl_count_terms *terms,
			  uint32_t cost, uint64_t now_ns);
uint64_t rl_bucket_start(const struct rl_count_terms *terms, uint32_t units, uint64_t now_ns);
uint32_t rl_bucket_held(uint64_t word, const struct rl_count_terms *terms, uint64_t now_ns);

/*
 * One step of a bucket of this size, 1 .. 2^31 - 1: as rl_algorithm's step(). What makes the level
 * higher than at_once units is to be held up until it is no higher; at_once = size: nothing is.
 */
int rl_bucket_step(uint64_t word, const struct rl_count_terms *terms, uint32_t cost, uint32_t size,
		   uint32_t at_once, uint64_t now_ns, struct rl_count_answer *ret);

#endif
