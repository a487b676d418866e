/*
 * rl_leaky_bucket.c - requests leave at limit a window, evenly; up to burst more may queue.
 *
 * As nginx' limit_req: a request is refused when more than burst are before it, and else held up
 * until its turn, but for the first delay of the burst, which are served at once (delay = burst
 * is nginx' nodelay). The answer says for how long; to wait is the caller's part.
 *
 * Any interval of length t holds at most burst + 1 + t * limit / window units (rl_bucket.h).
 */
#include "shm/rl_bucket.h"
#include "shm/rl_terms.h"

static uint32_t most(uint32_t limit, uint32_t burst)
{
	(void)limit;
	return burst < RL_LIMIT_MAX ? burst + 1 : RL_LIMIT_MAX;
}

static int step(uint64_t word, const struct rl_count_terms *terms, uint32_t cost, uint64_t now_ns,
		struct rl_count_answer *ret)
{
	return rl_bucket_step(word, terms, cost, most(terms->limit, terms->burst),
			      most(terms->limit, terms->delay), now_ns, ret);
}

const struct rl_algorithm rl_leaky_bucket = {
	.name = "leaky_bucket",
	.options = RL_OPTION_BURST | RL_OPTION_DELAY,
	.renew = RL_BUCKET_RENEW,
	.most = most,
	.start = rl_bucket_start,
	.held = rl_bucket_held,
	.step = step,
	.refund = rl_bucket_refund,
};
