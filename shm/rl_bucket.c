#include "shm/rl_bucket.h"

uint64_t rl_bucket_start(const struct rl_count_terms *terms, uint32_t units, uint64_t now_ns)
{
	struct rl_bucket bucket = rl_bucket_at(0, terms, now_ns);
	uint64_t empty = bucket.now + ((uint64_t)units << bucket.shift);

	return empty < RL_COUNT_MAX ? empty : RL_COUNT_MAX;
}

uint32_t rl_bucket_held(uint64_t word, const struct rl_count_terms *terms, uint64_t now_ns)
{
	struct rl_bucket bucket = rl_bucket_at(word, terms, now_ns);

	return rl_bucket_units(&bucket);
}

int rl_bucket_step(uint64_t word, const struct rl_count_terms *terms, uint32_t cost, uint32_t size,
		   uint32_t at_once, uint64_t now_ns, struct rl_count_answer *ret)
{
	struct rl_bucket bucket = rl_bucket_full_at(word, terms, size, now_ns);
	uint64_t next = bucket.empty + ((uint64_t)cost << bucket.shift);

	ret->next = word;
	ret->wait_ns = rl_bucket_until(&bucket, terms, cost, size);
	ret->delay_ns = 0;
	ret->remaining = rl_bucket_room(&bucket, size);
	if (next > RL_COUNT_MAX)
		return RL_TRY_AGAIN;
	if (ret->wait_ns > 0)
		return RL_TRY_LIMITED;
	ret->next = next;
	ret->remaining -= cost;
	ret->delay_ns = rl_bucket_until(&bucket, terms, cost, at_once);
	return RL_TRY_ALLOWED;
}

uint64_t rl_bucket_refund(uint64_t word, uint64_t then, const struct rl_count_terms *terms,
			  uint32_t cost, uint64_t now_ns)
{
	struct rl_bucket bucket = rl_bucket_at(word, terms, now_ns);
	uint64_t all = (uint64_t)cost << bucket.shift, left = bucket.empty - bucket.now;

	if (word != then)
		return word;
	return bucket.empty - (left < all ? left : all);
}
