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

#endif
