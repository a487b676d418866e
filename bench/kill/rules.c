#include "bench/kill/rules.h"

#include <stdio.h>
#include <time.h>

#include "bench/bench.h"
#include "shm/rl_algorithm.h"

#define DAY_NS (UINT64_C(86400) * 1000000000)

/* By the numbers of rl_algorithm.h's rows. */
enum { FIXED = 1, TOKEN = 2, LEAKY = 3 };

static const struct {
	const char *name;
	uint32_t limit;
	uint8_t algorithm;
} table[KILL_RULES] = {
	[KILL_MANY] = {"many", 2000000000, RL_SLIDING},
	[KILL_GROUPS] = {"groups", 1000, RL_SLIDING},
	[KILL_FEW] = {"few", 20, RL_SLIDING},
	[KILL_FULL_RING] = {"full-ring", 23, RL_SLIDING},
	[KILL_FIXED] = {"fixed", 50, FIXED},
	[KILL_TOKEN] = {"token", 50, TOKEN},
	[KILL_LEAKY] = {"leaky", 50, LEAKY},
	[KILL_LIMITS] = {"limits", 23, RL_SLIDING},
	[KILL_WINDOWS] = {"windows", 1000, RL_SLIDING},
	[KILL_ALGORITHMS] = {"algorithms", 20, RL_SLIDING},
	[KILL_BRIEF] = {"brief", 10, RL_SLIDING},
};

/* A year, or a little less when a fixed window of a year would end during the run. */
static uint64_t long_window_ns(void)
{
	uint64_t day = (uint64_t)time(NULL) / 86400;

	return (day % 365 < 363 ? 365 : 361) * DAY_NS;
}

static void move(struct rl_rule_spec *spec, enum kill_rule rule, uint32_t variant)
{
	static const uint32_t limit[] = {23, 12, 17};

	if (rule == KILL_LIMITS)
		spec->terms.limit = limit[variant % 3];
	if (rule == KILL_WINDOWS && variant % 2 != 0)
		spec->terms.limit = 100;
	if (rule == KILL_WINDOWS && variant % 3 != 0)
		spec->terms.window_ns -= variant % 3 * DAY_NS;
	if (rule == KILL_ALGORITHMS)
		spec->algorithm = (uint8_t)(variant % rl_algorithm_count());
}

static struct rl_rule_spec spec_of(enum kill_rule rule, uint32_t variant)
{
	struct rl_rule_spec spec = {.terms = {table[rule].limit, long_window_ns()},
				    .algorithm = table[rule].algorithm};

	snprintf(spec.name, sizeof(spec.name), "%s", table[rule].name);
	if (rule == KILL_BRIEF)
		spec.terms.window_ns = 20000000;
	spec.on_full = RL_FULL_DENY; /* what a pool admits is not held by the key that asked */
	move(&spec, rule, variant);
	if (spec.algorithm == LEAKY)
		spec.burst = spec.terms.limit - 1; /* then it holds the limit at once */
	return spec;
}

void kill_rules_publish(struct rl_seg *seg, uint32_t variant)
{
	struct rl_rule_spec spec[KILL_RULES];
	size_t other;

	for (int r = 0; r < KILL_RULES; r++)
		spec[r] = spec_of((enum kill_rule)r, variant);
	if (rl_rules_publish(seg, spec, KILL_RULES, &other) != 0)
		bench_die("the rules were refused");
}

uint32_t kill_rule_limit(enum kill_rule rule)
{
	return table[rule].limit;
}

/* Groups of another size round what they carry up to whole ones. */
bool kill_rule_exact(enum kill_rule rule)
{
	return rule != KILL_WINDOWS;
}

void kill_rule_handles(const struct rl_view *view, uint64_t ret[KILL_RULES])
{
	for (int r = 0; r < KILL_RULES; r++)
		ret[r] = bench_rule(view, table[r].name);
}
