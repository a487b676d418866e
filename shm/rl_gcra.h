/*
 * rl_gcra.h - a rate in one word: the generic cell rate algorithm.
 *
 * Rooms:  shm/ only. Arithmetic and CAS on one word; no clock.
 *
 * The word holds the theoretical arrival time: when the bucket would be full again. A request
 * moves it by what it costs and passes when it is then at most burst ahead of now; or when it
 * was not ahead at all, so that a cost above the burst is not refused for ever.
 *
 * Source: ITU-T I.371, annex A (virtual scheduling algorithm).
 */
#ifndef RL_GCRA_H
#define RL_GCRA_H

#include <stdint.h>

/* ns that units take at limit units a window, a little more; limit >= 1. At most 2^62. */
uint64_t rl_gcra_span(uint64_t units, uint64_t limit, uint64_t window_ns);

/*
 * Spend cost_ns at now_ns from the word. Returns 0 and what the word is then, or how long until it
 * could pass. A failed CAS is another's success; after 64 it answers 1 (ns). So it does of a word
 * with the top bit set, which is no such word (a slot's whose rule has another algorithm now).
 * Relaxed: publishes no other memory.
 */
uint64_t rl_gcra_take(_Atomic uint64_t *word, uint64_t cost_ns, uint64_t burst_ns, uint64_t now_ns,
		      uint64_t *ret_word);

/* Give back what was just taken and not used, unless the word is another meanwhile. */
void rl_gcra_return(_Atomic uint64_t *word, uint64_t taken_word, uint64_t cost_ns);

#endif
