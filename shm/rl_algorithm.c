#include "shm/rl_algorithm.h"

#include <stddef.h>

#define ROW(row) &row,

static const struct rl_algorithm *const table[] = {NULL, RL_ALGORITHM_ROWS(ROW)};

#define COUNT (sizeof(table) / sizeof(table[0]))

static_assert(COUNT <= RL_CONCURRENCY, "a slot's shape has five bits for it");

const struct rl_algorithm *rl_algorithm(uint32_t number)
{
	return number < COUNT ? table[number] : NULL;
}

uint32_t rl_algorithm_count(void)
{
	return COUNT;
}

const char *rl_algorithm_name(uint32_t number)
{
	if (number == RL_SLIDING)
		return "sliding";
	if (number == RL_CONCURRENCY)
		return "concurrency";
	return number < COUNT ? table[number]->name : "?";
}

uint32_t rl_algorithm_options(uint32_t number)
{
	if (number == RL_SLIDING)
		return RL_OPTION_INTERPOLATE;
	return number < COUNT ? table[number]->options : 0;
}

uint32_t rl_algorithm_most(uint32_t number, uint32_t limit, uint32_t burst)
{
	const struct rl_algorithm *algorithm = rl_algorithm(number);

	return algorithm == NULL ? limit : algorithm->most(limit, burst);
}

/* What can come at once, and what flows in meanwhile; of a fixed window, that of two windows. */
uint64_t rl_algorithm_bound(uint32_t number, uint32_t limit, uint32_t burst, bool interpolate)
{
	if (number == RL_CONCURRENCY)
		return limit;
	if (number != RL_SLIDING)
		return (uint64_t)limit + rl_algorithm_most(number, limit, burst);
	return limit + (interpolate ? rl_window_q_spread(limit) - 1 : 0);
}
