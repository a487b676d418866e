#include "agent/watch/watch.h"

#include <stdlib.h>

#include "agent/log.h"
#include "shm/rl_clock.h"

#define MS_NS 1e6

/* Relaxed: numbers for people; the agent is the only writer. */
static void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t number(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

bool watch_open(struct watch *watch, struct rl_seg *seg)
{
	*watch = (struct watch){.seg = seg, .audit = audit_new(seg)};
	put(&seg->watch->skew_at_ns, 0); /* what an agent before us knew is too old */
	return watch->audit != NULL;
}

void watch_close(struct watch *watch)
{
	audit_free(watch->audit);
	watch->audit = NULL;
}

void watch_tick(struct watch *watch)
{
	audit_tick(watch->audit);
}

static void note_step(struct watch *watch, int64_t step_ns, uint64_t now_ns)
{
	struct rl_watch *to = watch->seg->watch;

	put(&to->steps, number(&to->steps) + 1);
	put(&to->step_ns, (uint64_t)step_ns);
	put(&to->step_at_ns, now_ns);
	if (watch->step_told_ns != 0 && now_ns - watch->step_told_ns < WATCH_TELL_NS)
		return;
	watch->step_told_ns = now_ns;
	log_event(LOG_WARNING, "store_clock_stepped",
		  "ms=%.0f msg=\"the store's clock was set, or another server answers now: a step "
		  "ahead frees what was counted that much early, one back holds it longer\"",
		  (double)step_ns / MS_NS);
}

/* Once, until it has been well below. */
static void note_skew(struct watch *watch, int64_t skew_ns, uint64_t by_ns)
{
	int64_t least_ns = (skew_ns < 0 ? -skew_ns : skew_ns) - (int64_t)by_ns;

	if (least_ns > WATCH_SKEW_NS && !watch->skew_warned)
		log_event(LOG_WARNING, "clock_skew",
			  "ms=%.0f by_ms=%.1f msg=\"the store's clock less this host's: no limit "
			  "is wrong by it, as only ages are sent, but times in logs do not agree\"",
			  (double)skew_ns / MS_NS, (double)by_ns / MS_NS);
	if (least_ns > WATCH_SKEW_NS || least_ns < WATCH_SKEW_NS / 2)
		watch->skew_warned = least_ns > WATCH_SKEW_NS;
}

static void publish_skew(struct watch *watch, uint64_t now_ns)
{
	struct rl_watch *to = watch->seg->watch;
	int64_t add_ns, wall_ns;
	uint64_t by_ns;

	if (!skew_now(&watch->skew, now_ns, &add_ns, &by_ns))
		return;
	wall_ns = (int64_t)(rl_clock_read_ns(CLOCK_REALTIME) - rl_clock_precise_ns());
	put(&to->skew_ns, (uint64_t)(add_ns - wall_ns));
	put(&to->skew_by_ns, by_ns);
	put(&to->skew_at_ns, now_ns);
	note_skew(watch, add_ns - wall_ns, by_ns);
}

void watch_answer(struct watch *watch, uint64_t sent_ns, uint64_t now_ns, uint64_t now_ms)
{
	uint64_t known_ns = watch->skew.known_ns;
	int64_t step_ns;

	switch (skew_answer(&watch->skew, sent_ns, now_ns, now_ms, &step_ns)) {
	case SKEW_STEPPED:
		note_step(watch, step_ns, now_ns);
		/* fallthrough */
	case SKEW_MOVED:
		watch->moves++;
		break;
	default:
		break;
	}
	if (watch->skew.known_ns != known_ns)
		publish_skew(watch, now_ns);
}
