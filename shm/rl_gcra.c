#include "shm/rl_gcra.h"

#include <stdatomic.h>

#define TRIES    64
#define SPAN_MAX (UINT64_C(1) << 62)

/* In doubles: a 128-bit division takes as long as all the rest. Off by 2^-50 of it, upwards. */
uint64_t rl_gcra_span(uint64_t units, uint64_t limit, uint64_t window_ns)
{
	double span = (double)units * (double)window_ns / (double)limit * (1 + 0x1p-50);

	return span >= (double)SPAN_MAX ? SPAN_MAX : (uint64_t)span + 1;
}

uint64_t rl_gcra_take(_Atomic uint64_t *word, uint64_t cost_ns, uint64_t burst_ns, uint64_t now_ns,
		      uint64_t *ret_word)
{
	uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);

	for (int i = 0; i < TRIES && seen >> 63 == 0; i++) {
		uint64_t from = (int64_t)(seen - now_ns) > 0 ? seen : now_ns;
		uint64_t ahead = from + cost_ns - now_ns;

		if (ahead > burst_ns && from != now_ns)
			return ahead - burst_ns < from - now_ns ? ahead - burst_ns : from - now_ns;
		*ret_word = from + cost_ns;
		if (atomic_compare_exchange_weak_explicit(
			    word, &seen, *ret_word, memory_order_relaxed, memory_order_relaxed))
			return 0;
	}
	return 1;
}

void rl_gcra_return(_Atomic uint64_t *word, uint64_t taken_word, uint64_t cost_ns)
{
	/* Relaxed: as above. Fails when others took since: then this part stays spent. */
	atomic_compare_exchange_strong_explicit(word, &taken_word, taken_word - cost_ns,
						memory_order_relaxed, memory_order_relaxed);
}
