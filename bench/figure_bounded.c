/*
 * Question: how far above its limit does a bounded rule get, and does it refuse what it need not?
 *
 * Ten real agents and a Redis, 1000 a second, beta 10 %, all as it is without being configured.
 *
 *	bounded_flash_excess_percent  1000 requests to each cold host at once, four times, callers
 *	                              that wait: the largest window, percent of L above it
 *	bounded_steady_excess_percent Poisson at 10x for 6 s, at 2x by Zipf for 5 s and at 2x moving
 *	                              from host to host each 0.5 s for 5 s: the worst of them
 *	bounded_false_reject_0.9x_percent, _0.5x_
 *	                              of all requests, those that were refused and that a log of
 *every single event would have admitted soft_excess_over_bound        no_credit: allow, callers
 *that do not wait; four flashes, and 10x for 5 s: the largest excess over what is published, 2 N
 *max(1, beta L / N) units
 *
 * Exit status 1 when one is worse than is promised.
 */
#include <stdio.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

enum { HOSTS = 10, LIMIT = 1000, FLASHES = 4, BETA_PERCENT = 10 };

#define WAITS  "name: r, limit: 1000/s, consistency: bounded, beta: 10%, wait: 50ms"
#define ALLOWS "name: r, limit: 1000/s, consistency: bounded, beta: 10%, no_credit: allow"

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t flashes(const char *rule, uint32_t threads, uint32_t flags)
{
	const char *const rules[] = {rule, NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .without_totals = true};
	struct fleet fleet;
	uint64_t most = 0;

	fleet_start(&fleet, &spec);
	for (int i = 0; i < FLASHES; i++) {
		struct verdict v = flash_run(&fleet, "r", threads, flags);

		most = larger(most, fleet_most(&v));
	}
	fleet_stop(&fleet);
	return most;
}

static struct verdict steady(const char *name, double load, enum steady_spread spread,
			     uint32_t seconds)
{
	const struct steady s = {.rule = WAITS,
				 .hosts = HOSTS,
				 .limit = LIMIT,
				 .threads = spread == STEADY_UNIFORM ? 4 : 8,
				 .flags = RL_MAY_WAIT,
				 .window_ns = SECOND,
				 .for_ns = seconds * SECOND,
				 .load = load,
				 .spread = spread};
	struct steady_result result;

	steady_run(name, &s, &result);
	return result.verdict;
}

static uint64_t steady_most(void)
{
	struct verdict v = steady("10x", 10, STEADY_UNIFORM, 6);
	uint64_t most = fleet_most(&v);

	v = steady("2x by Zipf", 2, STEADY_ZIPF, 5);
	most = larger(most, fleet_most(&v));
	v = steady("2x, moving", 2, STEADY_MOVING, 5);
	return larger(most, fleet_most(&v));
}

static double false_rejects(const char *name, double load)
{
	struct verdict v = steady(name, load, STEADY_UNIFORM, 5);

	return case_percent(v.false_rejects, v.requests);
}

static double soft_over_bound(void)
{
	const struct steady s = {.rule = ALLOWS,
				 .hosts = HOSTS,
				 .limit = LIMIT,
				 .threads = 4,
				 .window_ns = SECOND,
				 .for_ns = 5 * SECOND,
				 .load = 10};
	const uint32_t blind = LIMIT * BETA_PERCENT / 100 / HOSTS;
	const uint64_t bound = 2 * HOSTS * (blind > 0 ? blind : 1);
	struct steady_result result;
	uint64_t most;

	steady_run("allow, 10x", &s, &result);
	most = larger(flashes(ALLOWS, 2, 0), fleet_most(&result.verdict));
	return most > LIMIT ? (double)(most - LIMIT) / (double)bound : 0;
}

int main(void)
{
	double flash, always, near, half, soft;

	bench_machine();
	printf("%d hosts, %d/s bounded, beta %d %%\n", HOSTS, LIMIT, BETA_PERCENT);
	flash = case_excess_percent(flashes(WAITS, 25, RL_MAY_WAIT), LIMIT);
	always = case_excess_percent(steady_most(), LIMIT);
	near = false_rejects("0.9x", 0.9);
	half = false_rejects("0.5x", 0.5);
	soft = soft_over_bound();
	bench_figure("bounded_flash_excess_percent", flash, "%");
	bench_figure("bounded_steady_excess_percent", always, "%");
	bench_figure("bounded_false_reject_0.9x_percent", near, "%");
	bench_figure("bounded_false_reject_0.5x_percent", half, "%");
	bench_figure("soft_excess_over_bound", soft, "x");
	return flash > 10 || always > 2 || near > 1 || half > 0 || soft > 1;
}
