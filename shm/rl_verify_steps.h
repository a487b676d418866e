/*
 * rl_verify_steps.h - the parts of rl_verify.h.
 *
 * Rooms:  rl_verify*.c only.
 */
#ifndef RL_VERIFY_STEPS_H
#define RL_VERIFY_STEPS_H

#include "shm/rl_clock.h"
#include "shm/rl_verify.h"

/* Two ticks of the coarse clock are added to stamps that move to the precise one (a re-base). */
#define RL_VERIFY_AHEAD_NS (2 * RL_TICK_MAX_NS)

/* This looks wrong: a suspect, or when suspects are looked at again, the one in question. */
void rl_verify_say(struct rl_verify *verify, enum rl_fault fault, uint64_t index, const void *at,
		   uint64_t found, uint64_t wanted);

/* Everything about one slot: its words, its tag, its side and text, its twin. */
void rl_verify_slot(struct rl_verify *verify, uint64_t index);

/* Everything but the slots. */
void rl_verify_host(struct rl_verify *verify);
void rl_verify_rules(struct rl_verify *verify);
void rl_verify_holders(struct rl_verify *verify);

/* One line of who holds how many; looks at it only when it is somebody's. */
void rl_verify_hold(struct rl_verify *verify, uint64_t line);

/* Relaxed: a word that stands for itself. */
static inline uint64_t rl_verify_word(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

#endif
