/*
 * check_latency SEGMENT RULE: what a check costs beside whatever else runs now.
 *
 * Times 200,000 single checks of 1,024 keys of its own under the rule, each with a reading of
 * CLOCK_MONOTONIC before and after (about 20 ns of what is printed), and prints
 * "p50 N ns, p99 N ns". Spends units of the rule; use one that nothing else uses.
 */
#include <stdio.h>

#include "bench/bench.h"
#include "client/rl.h"

enum { CALLS = 200000, KEYS = 1024 };

static uint32_t spent[CALLS];

static void time_calls(struct rl_client *client, uint64_t rule)
{
	struct rl_result result;
	char key[32];

	for (uint32_t i = 0; i < CALLS; i++) {
		size_t len = (size_t)snprintf(key, sizeof(key), "latency-%u", i * 7919 % KEYS);
		uint64_t start = bench_now_ns(), took;
		int got = rl_check(client, rule, key, len, 1, 0, &result);

		took = bench_now_ns() - start;
		if (got < 0)
			bench_die(rl_strerror(got));
		spent[i] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
	}
}

int main(int argc, char **argv)
{
	struct rl_client *client;
	char why[RL_WHY_SIZE];
	uint64_t rule;

	if (argc != 3)
		bench_die("usage: check_latency SEGMENT RULE");
	if (rl_attach(argv[1], &client, why) != 0)
		bench_die(why);
	if (rl_rule(client, argv[2], &rule) != 0)
		bench_die("no such rule");
	time_calls(client, rule);
	rl_detach(client);
	bench_sort(spent, CALLS);
	printf("p50 %u ns, p99 %u ns\n", bench_percentile(spent, CALLS, 0.5),
	       bench_percentile(spent, CALLS, 0.99));
	return 0;
}
