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

uint64_t rl_gcra_take(_Atomic uint64_t *word, uint64_t cost_ns, uint64_t burst_ns, uint64_t now_ns)
{
	uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);

	for (int i = 0; i < TRIES; i++) {
		uint64_t from = (int64_t)(seen - now_ns) > 0 ? seen : now_ns;
		uint64_t ahead = from + cost_ns - now_ns;

		if (ahead > burst_ns && from != now_ns)
			return ahead - burst_ns < from - now_ns ? ahead - burst_ns : from - now_ns;
		if (atomic_compare_exchange_weak_explicit(word, &seen, from + cost_ns,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return 0;
	}
	return 1;
}

void rl_gcra_return(_Atomic uint64_t *word, uint64_t cost_ns)
{
	atomic_fetch_sub_explicit(word, cost_ns, memory_order_relaxed);
}
