/*
 * Question: does a strict rule ever admit more than its limit over a whole fleet, how much of
 * the limit can be used, and is every admit in Redis once?
 *
 * Three hosts with an agent each, one key, 1000 a second, 10 times as many requests, callers
 * that may wait 2 ms. First all is well for 8 s; then, on a new fleet, for 8 s each proxy
 * between an agent and Redis drops every 10th reply, and every second one agent is killed
 * with SIGKILL and started again.
 *
 * Judged by the readings of the checks and by whole spans, over the log of all hosts merged;
 * when it is quiet, what Redis was ever told is held against the admits that were recorded.
 *
 * Exit status 1 when more than the limit was admitted in any window, an admit was lost or
 * doubled, or less than 97 % of the limit was used while all was well.
 */
#include <stdio.h>

#include "bench/bench.h"
#include "bench/fleet/load.h"

#define SECOND UINT64_C(1000000000)

enum { HOSTS = 3, LIMIT = 1000, SECONDS = 8 };

struct outcome {
	double excess, utilisation, syncs_per_host_s;
	struct fleet_balance balance;
};

static void kill_one_each_second(struct fleet *fleet, uint64_t start_ns)
{
	for (uint32_t second = 0; second < SECONDS; second++) {
		fleet_sleep_until(fleet, start_ns + second * SECOND + SECOND / 2);
		fleet_kill_agent(fleet, second % HOSTS);
		fleet_start_agent(fleet, second % HOSTS);
	}
}

static void print(const char *what, const struct fleet_log *log, const struct verdict *v,
		  const struct outcome *outcome)
{
	printf("%s: %llu requests, %llu admitted (an exact log: %llu), most in a window %llu by "
	       "reading, %llu by span\n",
	       what, (unsigned long long)v->requests, (unsigned long long)v->allowed,
	       (unsigned long long)v->exact, (unsigned long long)v->most_by_reading,
	       (unsigned long long)v->most_by_span);
	printf("  p99.9 of a check %.1f us, %llu busy; Redis was told of %llu\n",
	       v->span_p999_ns / 1000.0, (unsigned long long)log->busy,
	       (unsigned long long)outcome->balance.in_redis);
	fflush(stdout);
}

static void judge_run(struct fleet *fleet, const struct fleet_log *log, const char *what,
		      struct outcome *ret)
{
	const struct fleet_part whole = FLEET_WHOLE;
	struct verdict verdict;
	uint64_t most;

	fleet_judge(log, &whole, LIMIT, SECOND, &verdict);
	most = fleet_most(&verdict);
	ret->excess = most > LIMIT ? 100.0 * (double)(most - LIMIT) / LIMIT : 0;
	ret->utilisation = 100.0 * (double)verdict.allowed / (double)verdict.exact;
	fleet_balance(fleet, log, "k", 1, &ret->balance);
	print(what, log, &verdict, ret);
}

static struct outcome run(const char *what, bool lossy)
{
	static const char *const rules[] = {
		"name: r, limit: 1000/s, consistency: strict, wait: 2ms", NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .proxy = lossy};
	const struct fleet_traffic traffic = {
		.rule = "r",
		.key = "k",
		.keys = 1,
		.threads = 8,
		.per_second = 10.0 * LIMIT,
		.flags = RL_MAY_WAIT,
		.seed = bench_now_ns(),
	};
	struct fleet_load *load;
	struct outcome outcome;
	struct fleet fleet;
	struct fleet_log log;
	uint64_t syncs, start_ns;

	fleet_start(&fleet, &spec);
	if (lossy)
		fleet_fault(&fleet, FLEET_ALL, "drop-reply 10");
	syncs = fleet_syncs(&fleet);
	load = fleet_load_start(&fleet, &traffic);
	start_ns = fleet_load_began_ns(load);
	if (lossy)
		kill_one_each_second(&fleet, start_ns);
	fleet_sleep_until(&fleet, start_ns + SECONDS * SECOND);
	fleet_load_end(load, &log);
	outcome.syncs_per_host_s = (double)(fleet_syncs(&fleet) - syncs) / HOSTS / (double)SECONDS;
	if (lossy)
		fleet_fault(&fleet, FLEET_ALL, "clear");
	judge_run(&fleet, &log, what, &outcome);
	fleet_log_free(&log);
	fleet_stop(&fleet);
	return outcome;
}

int main(void)
{
	struct outcome good, lossy;
	uint64_t lost, doubled;

	bench_machine();
	printf("%d hosts, %d/s strict, 10x, %d s each\n", HOSTS, LIMIT, SECONDS);
	good = run("all is well", false);
	lossy = run("lossy", true);
	lost = good.balance.lost + lossy.balance.lost;
	doubled = good.balance.doubled + lossy.balance.doubled;
	bench_figure("strict_excess_percent", good.excess, "%");
	bench_figure("strict_utilisation_percent", good.utilisation, "%");
	bench_figure("strict_lossy_excess_percent", lossy.excess, "%");
	bench_figure("strict_lossy_utilisation_percent", lossy.utilisation, "%");
	bench_figure("strict_lost", (double)lost, "units");
	bench_figure("strict_doubled", (double)doubled, "units");
	bench_figure("strict_redis_syncs_per_host_s", good.syncs_per_host_s, "1/s");
	return good.excess > 0 || lossy.excess > 0 || lost > 0 || doubled > 0 ||
	       good.utilisation < 97;
}
