#include "agent/watch/skew.h"

#define MS_NS INT64_C(1000000)

static int64_t middle(struct skew_range range)
{
	return range.low_ns + (range.high_ns - range.low_ns) / 2;
}

/* What it may have become since then. */
static struct skew_range drifted(struct skew_range range, uint64_t then_ns, uint64_t now_ns)
{
	int64_t by_ns = (int64_t)((now_ns - then_ns) / (1000000 / SKEW_DRIFT_PPM)) + 1;

	return (struct skew_range){range.low_ns - by_ns, range.high_ns + by_ns};
}

/* False: they have nothing in common. */
static bool narrow(struct skew_range *range, struct skew_range other)
{
	struct skew_range both = {
		range->low_ns > other.low_ns ? range->low_ns : other.low_ns,
		range->high_ns < other.high_ns ? range->high_ns : other.high_ns,
	};

	if (both.low_ns > both.high_ns)
		return false;
	*range = both;
	return true;
}

/* It contradicts what is known. True: often enough to be believed. */
static bool believe(struct skew *skew, struct skew_range said, uint64_t now_ns)
{
	struct skew_range moved = skew->moved;

	if (skew->moved_ns == 0)
		skew->moving_ns = now_ns;
	else
		moved = drifted(moved, skew->moved_ns, now_ns);
	if (skew->moved_ns == 0 || !narrow(&moved, said)) {
		skew->settling_ns = now_ns;
		moved = said;
	}
	skew->moved = moved;
	skew->moved_ns = now_ns;
	return now_ns - skew->settling_ns >= SKEW_SETTLE_NS ||
	       now_ns - skew->moving_ns >= SKEW_PATIENCE_NS;
}

static void know(struct skew *skew, struct skew_range range, uint64_t now_ns)
{
	skew->known = range;
	skew->known_ns = now_ns;
	skew->moved_ns = 0;
}

enum skew_news skew_answer(struct skew *skew, uint64_t sent_ns, uint64_t now_ns, uint64_t store_ms,
			   int64_t *ret_step_ns)
{
	struct skew_range said, known;
	int64_t store_ns;

	if (now_ns < sent_ns || store_ms > (uint64_t)(INT64_MAX / MS_NS / 2))
		return SKEW_SAME;
	store_ns = (int64_t)store_ms * MS_NS;
	said = (struct skew_range){store_ns - (int64_t)now_ns, store_ns + MS_NS - (int64_t)sent_ns};
	if (skew->known_ns == 0) {
		know(skew, said, now_ns);
		return SKEW_SAME;
	}
	known = drifted(skew->known, skew->known_ns, now_ns);
	if (narrow(&known, said)) {
		know(skew, known, now_ns);
		return SKEW_SAME;
	}
	if (!believe(skew, said, now_ns))
		return SKEW_SAME;
	*ret_step_ns = middle(skew->moved) - middle(skew->known);
	know(skew, skew->moved, now_ns);
	return *ret_step_ns >= SKEW_STEP_NS || *ret_step_ns <= -SKEW_STEP_NS ? SKEW_STEPPED
									     : SKEW_MOVED;
}

bool skew_is_steady(const struct skew *skew)
{
	return skew->known_ns != 0 && skew->moved_ns == 0;
}

bool skew_now(const struct skew *skew, uint64_t now_ns, int64_t *ret_add_ns, uint64_t *ret_by_ns)
{
	struct skew_range range;

	if (skew->known_ns == 0)
		return false;
	range = drifted(skew->known, skew->known_ns,
			now_ns > skew->known_ns ? now_ns : skew->known_ns);
	*ret_add_ns = middle(range);
	*ret_by_ns = (uint64_t)(range.high_ns - range.low_ns) / 2;
	return true;
}
