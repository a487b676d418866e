/*
 * rl_cold.h - mark a function that a check hardly ever calls.
 *
 * Rooms:  shm/ and client/.
 *
 * It is then kept out of its callers, which need no stack for it: worth 5 ns of a check's 50.
 */
#ifndef RL_COLD_H
#define RL_COLD_H

#define RL_COLD __attribute__((noinline, cold))

/* A condition that is for another kind of check: keeps its code out of this one's way, 2 ns. */
#define RL_RARELY(condition) __builtin_expect(condition, 0)

#endif
