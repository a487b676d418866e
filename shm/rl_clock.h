/*
 * rl_clock.h - the two clocks of stamps, and how long a stamp is held beyond its window.
 *
 * Rooms:  shm/ and above. vDSO clock reads; no system call on a normal kernel, no state.
 *
 * Both count nanoseconds of CLOCK_MONOTONIC plus a constant of 400 days, so that a stamp of
 * 0 is older than the longest window even just after boot: zeroed memory reads as "expired".
 * They do not advance in suspend: windows then only get longer (denials, never excess).
 *
 *   precise  CLOCK_MONOTONIC, about 20 ns a read; windows below 10 s
 *   coarse   CLOCK_MONOTONIC_COARSE, about 3 ns a read; behind precise by up to 2 ticks
 *
 * All users of one slot use the clock of the window the slot was made for.
 */
#ifndef RL_CLOCK_H
#define RL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define RL_SECOND_NS      UINT64_C(1000000000)
#define RL_DAY_NS         (UINT64_C(86400) * RL_SECOND_NS)
#define RL_CLOCK_BIAS_NS  (400 * RL_DAY_NS)
#define RL_COARSE_FROM_NS (10 * RL_SECOND_NS)
#define RL_TICK_MAX_NS    UINT64_C(20000000) /* 50 Hz; no kernel is configured below 100 */

static inline uint64_t rl_clock_read_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t); /* cannot fail for these ids and a valid address */
	return (uint64_t)t.tv_sec * RL_SECOND_NS + (uint64_t)t.tv_nsec;
}

static inline uint64_t rl_clock_precise_ns(void)
{
	return rl_clock_read_ns(CLOCK_MONOTONIC) + RL_CLOCK_BIAS_NS;
}

static inline uint64_t rl_clock_coarse_ns(void)
{
	return rl_clock_read_ns(CLOCK_MONOTONIC_COARSE) + RL_CLOCK_BIAS_NS;
}

static inline bool rl_clock_is_coarse(uint64_t window_ns)
{
	return window_ns >= RL_COARSE_FROM_NS;
}

static inline uint64_t rl_clock_now_ns(bool coarse)
{
	return rl_clock_read_ns(coarse ? CLOCK_MONOTONIC_COARSE : CLOCK_MONOTONIC) +
	       RL_CLOCK_BIAS_NS;
}

/*
 * How much longer than its window a stamp must be held for the promise to be true in real
 * time. A coarse stamp may be two ticks older than its event; one unit more on either clock
 * makes two events W apart fall into different windows (t-W, t].
 */
static inline uint64_t rl_clock_hold_ns(bool coarse, uint64_t tick_ns)
{
	return coarse ? 2 * tick_ns + 1 : 1;
}

/* Resolution of the coarse clock in ns: one kernel tick, 1 .. RL_TICK_MAX_NS. */
static inline uint64_t rl_clock_tick_ns(void)
{
	struct timespec t;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &t) != 0 || t.tv_sec != 0 || t.tv_nsec < 1 ||
	    (uint64_t)t.tv_nsec > RL_TICK_MAX_NS)
		return RL_TICK_MAX_NS;
	return (uint64_t)t.tv_nsec;
}

#endif
