/*
 * Question: does one host of a fleet get all of the limit when the others ask for nothing?
 *
 * Ten real agents and a Redis, 1000 a second, strict, callers that may wait, 2 times the limit.
 *
 *	onehost_utilisation_percent  all requests to one host, 10 s: admitted, of what a log of
 *every single event would have admitted of them moving_utilisation_percent   the same, to one host
 *after the other, half a window each, 20 s onehost_excess_percent       of both, the largest window
 *above the limit
 *
 * Exit status 1 when more than the limit was admitted, or less than 97 or 95 % of it.
 */
#include "bench/bench.h"
#include "bench/cases/cases.h"

static struct steady_result run(const char *name, enum steady_spread spread, uint32_t seconds)
{
	const struct steady s = {.rule = "name: r, limit: 1000/s, consistency: strict, wait: 2ms",
				 .hosts = 10,
				 .limit = 1000,
				 .threads = 8,
				 .flags = RL_MAY_WAIT,
				 .window_ns = SECOND,
				 .for_ns = seconds * SECOND,
				 .load = 2,
				 .spread = spread};
	struct steady_result result;

	steady_run(name, &s, &result);
	return result;
}

int main(void)
{
	struct steady_result one, moving;
	uint64_t most;

	bench_machine();
	one = run("one host", STEADY_ONE, 10);
	moving = run("moving", STEADY_MOVING, 20);
	most = fleet_most(&one.verdict);
	if (fleet_most(&moving.verdict) > most)
		most = fleet_most(&moving.verdict);
	bench_figure("onehost_utilisation_percent", one.used_percent, "%");
	bench_figure("moving_utilisation_percent", moving.used_percent, "%");
	bench_figure("onehost_excess_percent", case_excess_percent(most, 1000), "%");
	return most > 1000 || one.used_percent < 97 || moving.used_percent < 95;
}
