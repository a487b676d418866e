#include "bench/window/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "agent/sweep.h"
#include "bench/bench.h"
#include "shm/rl_clock.h"

#define TICK_NS    10000000L
#define VISIBLE_NS 1000 /* no clock reading is ordered with a store of another processor */

static const uint32_t steps[] = {6, 24, 1, 36, 12, 4, 120, 11, 13, 2}; /* twelfths */

uint32_t keeper_limit(uint32_t limit, uint32_t parts)
{
	return limit * parts / 12 < 1 ? 1 : limit * parts / 12;
}

uint32_t keeper_second(uint32_t limit)
{
	return keeper_limit(limit, 1);
}

static void publish(struct keeper *keeper, uint32_t parts)
{
	char text[3 * KEEPER_LIMITS_MAX][40];
	const char *rule[3 * KEEPER_LIMITS_MAX];
	unsigned long long ms = keeper->window_ns / 1000000;
	struct change *change = &keeper->change[keeper->changes++];

	for (size_t i = 0; i < keeper->limits; i++) {
		uint32_t limit = keeper->limit[i];

		snprintf(text[3 * i], sizeof(*text), "l%u %u/%llums", limit, limit, ms);
		snprintf(text[3 * i + 1], sizeof(*text), "s%u %u/%llums", limit,
			 keeper_second(limit), ms);
		snprintf(text[3 * i + 2], sizeof(*text), "c%u %u/%llums", limit,
			 keeper_limit(limit, parts), ms);
	}
	for (size_t i = 0; i < 3 * keeper->limits; i++)
		rule[i] = text[i];
	change->parts = parts;
	change->before_ns = bench_now_ns();
	bench_rules(keeper->seg, 3 * keeper->limits, rule);
	change->after_ns = bench_now_ns();
}

static uint64_t next_change(struct keeper *keeper, uint64_t now_ns)
{
	uint64_t window_ns = keeper->window_ns;

	return now_ns + window_ns / 2 + bench_random(&keeper->seed) % (window_ns / 2 * 3);
}

static void *keep(void *arg)
{
	const struct timespec tick = {0, TICK_NS};
	static struct sweep sweep; /* too large for a stack */
	struct keeper *keeper = arg;
	uint64_t change_ns = next_change(keeper, bench_now_ns());

	sweep_init(&sweep, keeper->seg);
	/* Relaxed: nothing is handed over by it. */
	while (atomic_load_explicit(&keeper->stop, memory_order_relaxed) == 0) {
		uint64_t now_ns = bench_now_ns();

		if (now_ns >= change_ns && keeper->changes < KEEPER_CHANGES_MAX) {
			publish(keeper, steps[bench_random(&keeper->seed) %
					      (sizeof(steps) / sizeof(steps[0]))]);
			sweep_rules_changed(&sweep);
			change_ns = next_change(keeper, now_ns);
		}
		for (uint64_t i = 0; i < keeper->seg->view.slot_count; i++)
			sweep_slot(&sweep, i, rl_clock_precise_ns());
		nanosleep(&tick, NULL);
	}
	return NULL;
}

void keeper_start(struct keeper *keeper, struct rl_seg *seg, const uint32_t *limit, size_t limits,
		  uint64_t window_ns, uint64_t seed)
{
	*keeper = (struct keeper){
		.seg = seg, .limit = limit, .limits = limits, .window_ns = window_ns, .seed = seed};
	publish(keeper, 12);
	if (pthread_create(&keeper->thread, NULL, keep, keeper) != 0)
		bench_die("cannot start a thread");
}

void keeper_stop(struct keeper *keeper)
{
	atomic_store_explicit(&keeper->stop, 1, memory_order_relaxed); /* as in keep() */
	pthread_join(keeper->thread, NULL);
}

bool keeper_allows(const struct keeper *keeper, uint32_t base, uint64_t begin_ns, uint64_t end_ns,
		   uint32_t limit)
{
	for (size_t i = 0; i < keeper->changes; i++) {
		const struct change *change = &keeper->change[i];
		bool over = i + 1 < keeper->changes && change[1].after_ns + VISIBLE_NS < begin_ns;

		if (change->before_ns <= end_ns && !over &&
		    keeper_limit(base, change->parts) == limit)
			return true;
	}
	return false;
}
