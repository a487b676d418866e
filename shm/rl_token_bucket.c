/*
 * rl_token_bucket.c - limit tokens a window flow into a bucket of burst; a unit takes one.
 *
 * Without burst the bucket holds the limit: a key that was idle may have all of it at once. Any
 * interval of length t holds at most burst + t * limit / window units (rl_bucket.h). Here the
 * bucket holds what was taken, and drains.
 */
#include "shm/rl_bucket.h"

static uint32_t most(uint32_t limit, uint32_t burst)
{
	return burst > 0 ? burst : limit;
}

static int step(uint64_t word, const struct rl_count_terms *terms, uint32_t cost, uint64_t now_ns,
		struct rl_count_answer *ret)
{
	uint32_t size = most(terms->limit, terms->burst);

	return rl_bucket_step(word, terms, cost, size, size, now_ns, ret);
}

const struct rl_algorithm rl_token_bucket = {
	.name = "token_bucket",
	.options = RL_OPTION_BURST,
	.renew = RL_BUCKET_RENEW,
	.most = most,
	.start = rl_bucket_start,
	.held = rl_bucket_held,
	.step = step,
	.refund = rl_bucket_refund,
};
