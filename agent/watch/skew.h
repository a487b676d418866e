/*
 * skew.h - how far the store's clock and this host's are apart, from the times in its answers.
 *
 * Rooms:  agent/watch/, agent/main.c. Pure arithmetic; no clock is read here.
 *
 * An answer says what the store's clock was at some moment between the call and its arrival, in
 * whole milliseconds. So what is to be added to our monotone clock to have the store's lies in an
 * interval: as long as the round trip, and a millisecond. The intervals of several answers have
 * that number in common (but for what two clocks drift apart, SKEW_DRIFT_PPM at most), so quick
 * answers narrow what slow ones say, and the middle of what is left is the estimate.
 *
 * Answers that contradict what is known, all in the same way for SKEW_SETTLE_NS, mean that the
 * store's clock was set: a step. One that goes on creeping is believed after SKEW_PATIENCE_NS.
 */
#ifndef WATCH_SKEW_H
#define WATCH_SKEW_H

#include <stdbool.h>
#include <stdint.h>

#define SKEW_DRIFT_PPM   UINT64_C(500)
#define SKEW_SETTLE_NS   UINT64_C(500000000)
#define SKEW_PATIENCE_NS UINT64_C(5000000000)
#define SKEW_STEP_NS     INT64_C(50000000) /* less is not spoken of */

/* Where the store's clock less ours is, ns. */
struct skew_range {
	int64_t low_ns, high_ns;
};

struct skew {
	struct skew_range known;
	uint64_t known_ns;       /* our clock: as of then; 0: nothing is known */
	struct skew_range moved; /* what the answers say since they contradict known */
	uint64_t moved_ns;       /* of the last of them; 0: they do not */
	uint64_t moving_ns;      /* when the first of them came */
	uint64_t settling_ns;    /* since when they agree with one another */
};

enum skew_news {
	SKEW_SAME,
	SKEW_MOVED,   /* what was known before is wrong, by little */
	SKEW_STEPPED, /* that clock was set: by *ret_step_ns */
};

/*
 * An answer to a call that was sent at sent_ns and has come at now_ns (our monotone clock, any
 * constant added), saying that the store's clock was store_ms.
 */
enum skew_news skew_answer(struct skew *skew, uint64_t sent_ns, uint64_t now_ns, uint64_t store_ms,
			   int64_t *ret_step_ns);

/*
 * What is to be added to our clock to have the store's, at now_ns, and by how much that may be
 * wrong. False: not known.
 */
bool skew_now(const struct skew *skew, uint64_t now_ns, int64_t *ret_add_ns, uint64_t *ret_by_ns);

/* Do the last answers agree with what is known? */
bool skew_is_steady(const struct skew *skew);

#endif
