/*
 * Question: does a strict rule ever admit more than its limit over a whole fleet, how much of
 * the limit can be used, and is every admit in Redis once?
 *
 * Ten hosts with an agent each, one key, 1000 a second, 10 times as many requests, callers that
 * may wait 2 ms, all as it is without being configured. First all is well for 8 s; then, on a
 * new fleet, for 10 s each proxy between an agent and Redis drops every 5th reply, and every
 * 100 ms one agent is killed with SIGKILL and started again.
 *
 * Judged by the readings of the checks and by whole spans, over the log of all hosts merged;
 * when it is quiet, what Redis was ever told is held against the admits that were recorded.
 *
 * Exit status 1 when more than the limit was admitted in any window, an admit was lost or
 * doubled, or less than 98 % of the limit was used while all was well, 90 % otherwise.
 */
#include <stdio.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

enum { HOSTS = 10, LIMIT = 1000, SECONDS = 8, LOSSY_SECONDS = 10 };

static const struct faulty well = {
	.rule = "name: r, limit: 1000/s, consistency: strict, wait: 2ms",
	.hosts = HOSTS,
	.limit = LIMIT,
	.keys = 1,
	.threads = 4,
	.flags = RL_MAY_WAIT,
	.load = 10,
	.for_ns = SECONDS * SECOND,
};

static double excess(const struct faulty_result *result)
{
	return case_excess_percent(result->most, LIMIT);
}

int main(void)
{
	struct faulty_result good, lossy;
	struct faulty faulty = well;
	uint64_t lost, doubled;

	bench_machine();
	printf("%d hosts, %d/s strict, 10x\n", HOSTS, LIMIT);
	faulty_run("all is well", &well, &good);
	faulty.fault = "drop-reply 5";
	faulty.kill_each_ns = 100 * MS;
	faulty.for_ns = LOSSY_SECONDS * SECOND;
	faulty_run("lossy", &faulty, &lossy);
	printf("%llu agents killed, %llu calls sent again\n", (unsigned long long)lossy.kills,
	       (unsigned long long)lossy.resends);
	lost = good.balance.lost + lossy.balance.lost;
	doubled = good.balance.doubled + lossy.balance.doubled;
	bench_figure("strict_excess_percent", excess(&good), "%");
	bench_figure("strict_utilisation_percent", good.used_percent, "%");
	bench_figure("strict_lossy_excess_percent", excess(&lossy), "%");
	bench_figure("strict_lossy_utilisation_percent", lossy.used_percent, "%");
	bench_figure("strict_lost", (double)lost, "units");
	bench_figure("strict_doubled", (double)doubled, "units");
	bench_figure("strict_redis_syncs_per_host_s", good.syncs_per_host_s, "1/s");
	return excess(&good) > 0 || excess(&lossy) > 0 || lost > 0 || doubled > 0 ||
	       good.used_percent < 98 || lossy.used_percent < 90;
}
