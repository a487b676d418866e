/*
 * Question: what does a flood of keys that come a few times each cost those who check them, the
 * agents, and Redis?
 *
 * Two hosts with an agent each, one Redis. A rule of 100 a minute and address, bounded as by
 * default; 20,000 new addresses a second for 8 s, each with 1 to 3 requests within 2 s, by callers
 * that cannot wait. Beside them, one by one, checks of a few hot addresses under a rule that they
 * never reach. Two threads, one for each host, as servers' workers would make them.
 *
 *	cold_check_p99_over_hot_p99  of an address's first request, over a hot one's, same run
 *	cold_redis_us_per_request    of Redis' processor, all of it, over the cold requests
 *	cold_loop_stall_ms           the longest a cold check took in excess of a scheduler's slice
 *	                             (4 ms; a hot one takes as long now and then), and refusals
 *count as 1,000: 0 is none cold_agent_beat_gap_ms       longest time without an agent's heartbeat,
 *of 10 ms each
 *
 * The same again with a limit so low that hosts have no blind share (N > beta L): each new key must
 * be asked for. Printed as ask_*.
 *
 * Exit status 1 when a check was refused that must not be, or Redis' part is twice what it may be.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/fleet/fleet.h"
#include "bench/rediscost/server.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_rules.h"

#define SECOND UINT64_C(1000000000)
#define SLICE  UINT64_C(1000000) /* requests of so long are sent together */

enum { HOSTS = 2, SECONDS = 8, TIMES_MAX = 3, HOT_KEYS = 4, SLICE_MS = 4, MUST_REDIS_US = 6 };
enum { NEW_PER_SECOND = 20000, SLICES = SECONDS * 1000, LATER_SLICES = 1000 };
enum { NEW_PER_SLICE = NEW_PER_SECOND / HOSTS / 1000 };

/* One host's worker. */
struct worker {
	struct fleet *fleet;
	uint32_t host, prefix;
	uint64_t cold_rule, hot_rule, seed, start_ns;
	struct rl_member *member;
	uint32_t *cold_ns, *hot_ns; /* of first requests; of hot ones */
	size_t colds, hots;
	uint64_t requests, refused, longest_ns;
	uint32_t *again[SLICES + 2 * LATER_SLICES + 1]; /* addresses that come again then */
	uint32_t agains[SLICES + 2 * LATER_SLICES + 1];
};

static uint32_t check(struct worker *w, uint64_t rule, uint32_t prefix, uint32_t address)
{
	struct rl_answer answer;
	char key[20];
	size_t len = (size_t)snprintf(key, sizeof(key), "%u.%u.%u.%u", prefix, address >> 16,
				      address >> 8 & 255, address & 255);
	uint64_t begin = bench_now_ns(), took;

	w->refused += rl_check_spend(&w->fleet->host[w->host].seg, w->member, rule, key, len, 1, 0,
				     &answer) != 1;
	took = bench_now_ns() - begin;
	return took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

static void come_again(struct worker *w, uint32_t slice, uint32_t address)
{
	uint32_t count = w->agains[slice]++;

	if (count % 64 == 0)
		w->again[slice] = realloc(w->again[slice], (count + 64) * sizeof(uint32_t));
	if (w->again[slice] == NULL)
		bench_die("no memory for the requests");
	w->again[slice][count] = address;
}

static void cold_request(struct worker *w, uint32_t address, bool first)
{
	uint32_t took = check(w, w->cold_rule, w->prefix, address);

	w->requests++;
	if (took > w->longest_ns)
		w->longest_ns = took;
	if (first)
		w->cold_ns[w->colds++] = took;
	w->hot_ns[w->hots++] =
		check(w, w->hot_rule, 9, (uint32_t)(bench_random(&w->seed) % HOT_KEYS));
}

static void run_slice(struct worker *w, uint32_t slice)
{
	for (uint32_t i = 0; i < NEW_PER_SLICE && slice < SLICES; i++) {
		uint32_t address = slice * NEW_PER_SLICE + i, later = slice;

		cold_request(w, address, true);
		for (uint64_t more = bench_random(&w->seed) % TIMES_MAX; more > 0; more--) {
			later += 1 + (uint32_t)(bench_random(&w->seed) % LATER_SLICES);
			come_again(w, later, address);
		}
	}
	for (uint32_t i = 0; i < w->agains[slice]; i++)
		cold_request(w, w->again[slice][i], false);
	free(w->again[slice]);
}

/* A server's worker has had the table for long: its pages are mapped. */
static void touch_pages(const void *from, size_t bytes)
{
	static volatile char sink; /* so that the reads are made */

	for (size_t at = 0; at < bytes; at += 4096)
		sink = ((const char *)from)[at];
	(void)sink;
}

static void map_table(const struct rl_view *view)
{
	touch_pages(view->tags, view->bucket_count * sizeof(*view->tags));
	touch_pages(view->slot, view->slot_count * sizeof(*view->slot));
	touch_pages(view->side, view->slot_count * sizeof(*view->side));
	touch_pages(view->text, view->slot_count * sizeof(*view->text));
}

static void *work(void *arg)
{
	struct worker *w = arg;

	map_table(&w->fleet->host[w->host].seg.view);
	w->member = rl_member_take(&w->fleet->host[w->host].seg, (uint64_t)getpid());
	for (uint32_t slice = 0; slice <= SLICES + 2 * LATER_SLICES; slice++) {
		fleet_sleep_until(w->fleet, w->start_ns + slice * SLICE);
		run_slice(w, slice);
	}
	rl_member_give(w->member, (uint64_t)getpid());
	return NULL;
}

/* The agents' hearts, looked at each millisecond until it is over. */
static double longest_beat_gap_ms(struct fleet *fleet, uint64_t until_ns)
{
	uint64_t longest = 0;

	while (bench_now_ns() < until_ns) {
		fleet_sleep_until(fleet, bench_now_ns() + SLICE);
		for (uint32_t h = 0; h < HOSTS; h++) {
			uint64_t beat = atomic_load_explicit(&fleet->host[h].seg.live->beat_ns,
							     memory_order_relaxed);
			uint64_t now = rl_clock_precise_ns();

			if (now > beat && now - beat > longest)
				longest = now - beat;
		}
	}
	return (double)longest / 1e6;
}

struct outcome {
	double over_hot, redis_us, stall_ms, beat_gap_ms, refused_percent;
};

static struct worker *new_worker(struct fleet *fleet, uint32_t host, const char *rule,
				 uint32_t prefix, uint64_t start_ns)
{
	const size_t most = (size_t)NEW_PER_SLICE * SLICES;
	struct worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		bench_die("no memory");
	*w = (struct worker){.fleet = fleet,
			     .host = host,
			     .prefix = prefix,
			     .seed = 20261122 + host,
			     .start_ns = start_ns,
			     .cold_ns = calloc(most, sizeof(uint32_t)),
			     .hot_ns = calloc(most * TIMES_MAX, sizeof(uint32_t))};
	if (w->cold_ns == NULL || w->hot_ns == NULL ||
	    rl_rules_find(&fleet->host[host].seg.view, rule, &w->cold_rule) != 0 ||
	    rl_rules_find(&fleet->host[host].seg.view, "hot", &w->hot_rule) != 0)
		bench_die("no memory, or a host does not have the rule");
	return w;
}

static void judge_workers(struct worker *const *w, struct outcome *ret)
{
	uint64_t requests = 0, refused = 0, longest = 0;
	double cold = 0, hot = 0;

	for (uint32_t h = 0; h < HOSTS; h++) {
		bench_sort(w[h]->cold_ns, w[h]->colds);
		bench_sort(w[h]->hot_ns, w[h]->hots);
		cold += bench_percentile(w[h]->cold_ns, w[h]->colds, 0.99) / HOSTS;
		hot += bench_percentile(w[h]->hot_ns, w[h]->hots, 0.99) / HOSTS;
		requests += w[h]->requests;
		refused += w[h]->refused;
		longest = w[h]->longest_ns > longest ? w[h]->longest_ns : longest;
	}
	printf("  p99 of a first check %.0f ns, of a hot one %.0f; p50 %u and %u; longest %.1f "
	       "ms\n",
	       cold, hot, bench_percentile(w[0]->cold_ns, w[0]->colds, 0.5),
	       bench_percentile(w[0]->hot_ns, w[0]->hots, 0.5), (double)longest / 1e6);
	ret->over_hot = cold / hot;
	ret->redis_us /= (double)requests;
	ret->refused_percent = 100.0 * (double)refused / (double)requests;
	ret->stall_ms = longest > SLICE_MS * SLICE ? (double)(longest - SLICE_MS * SLICE) / 1e6 : 0;
}

static struct outcome run(struct fleet *fleet, const char *rule, uint32_t prefix)
{
	uint64_t keys = fleet_keys_synced(fleet), start_ns = bench_now_ns() + SECOND / 10;
	struct server_time then = server_time(fleet->connection);
	struct worker *w[HOSTS];
	pthread_t thread[HOSTS];
	struct outcome outcome;

	for (uint32_t h = 0; h < HOSTS; h++) {
		w[h] = new_worker(fleet, h, rule, prefix, start_ns);
		if (pthread_create(&thread[h], NULL, work, w[h]) != 0)
			bench_die("cannot start a thread");
	}
	outcome.beat_gap_ms = longest_beat_gap_ms(fleet, start_ns + SECONDS * SECOND);
	for (uint32_t h = 0; h < HOSTS; h++)
		pthread_join(thread[h], NULL);
	fleet_sleep_until(fleet, bench_now_ns() + 3 * SECOND / 2); /* all is told */
	then = server_since(fleet->connection, &then);
	outcome.redis_us = then.process_us;
	printf("%s: %llu calls, %.1f keys in each, %.1f us of the processor a call\n", rule,
	       (unsigned long long)then.calls,
	       (double)(fleet_keys_synced(fleet) - keys) / (double)then.calls,
	       then.process_us / (double)then.calls);
	judge_workers(w, &outcome);
	for (uint32_t h = 0; h < HOSTS; h++) {
		free(w[h]->cold_ns);
		free(w[h]->hot_ns);
		free(w[h]);
	}
	fflush(stdout);
	return outcome;
}

int main(void)
{
	static const char *const rules[] = {"name: per-ip, limit: 100/minute",
					    "name: ask, limit: 10/minute",
					    "name: hot, limit: 1000000000/minute", NULL};
	const struct fleet_spec spec = {
		.hosts = HOSTS, .rules = rules, .keys = 400000, .without_totals = true};
	struct outcome cold, ask;
	struct fleet fleet;

	bench_machine();
	fleet_start(&fleet, &spec);
	cold = run(&fleet, "per-ip", 10);
	ask = run(&fleet, "ask", 11);
	fleet_stop(&fleet);
	bench_figure("cold_check_p99_over_hot_p99", cold.over_hot, "x");
	bench_figure("cold_redis_us_per_request", cold.redis_us, "us");
	bench_figure("cold_loop_stall_ms", cold.stall_ms + 1000 * (cold.refused_percent > 0), "ms");
	bench_figure("cold_agent_beat_gap_ms", cold.beat_gap_ms, "ms");
	bench_figure("ask_check_p99_over_hot_p99", ask.over_hot, "x");
	bench_figure("ask_redis_us_per_request", ask.redis_us, "us");
	bench_figure("ask_refused_percent", ask.refused_percent, "%");
	bench_figure("ask_agent_beat_gap_ms", ask.beat_gap_ms, "ms");
	return cold.refused_percent > 0 || cold.redis_us > 2 * MUST_REDIS_US;
}
