/*
 * Question: what does a check cost a worker, over the least that any such check must cost?
 *
 * hit:    rl_check() through librl.so.1, as a program calls it: key bytes in, the full result
 *         out, statistics on, two rules in force, every request admitted (the dearer answer).
 * floor:  the same SipHash object code over the same bytes, the same clock, and one CAS on a
 *         word of its own cache line for each key. No rule, no window, no table, no result.
 *
 * prehashed:   rl_check_key(), over the floor without the hash.
 * check_all_2: rl_check_all() of one key under two rules, over a hit.
 * denied:      rl_check() where every request is refused, over the same floor.
 *
 * Ten rounds, hit and floor in turn, over 1,024 keys in a random order; medians. Windows of
 * 60 s use the coarse clock, windows of 1 s the precise one (hit_precise_*). Then two
 * processes at once, every call timed: percentiles, with the two clock readings in them.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "client/rl.h"
#include "shm/rl_clock.h"
#include "shm/rl_hash.h"

enum { KEYS = 1024, ORDER = 8192, ROUNDS = 10, CALLS = 1000000, TIMED = 2000000 };

#define MOST_OVER_FLOOR 2.5 /* more is exit status 1 */

/* One word for each key, alone in its cache line. */
struct line {
	_Alignas(64) _Atomic uint64_t word;
};

struct run {
	struct rl_client *client;
	const uint64_t *hash_key;
	uint64_t rule;
	bool coarse;
};

static struct bench_key key[KEYS];
static uint32_t order[ORDER];
static struct line line[KEYS];

static double time_hits(const struct run *run, int expected)
{
	uint64_t start = bench_now_ns();
	struct rl_result result;
	uint64_t other = 0;

	for (uint32_t i = 0; i < CALLS; i++) {
		const struct bench_key *k = &key[order[i % ORDER]];

		other += rl_check(run->client, run->rule, k->text, k->len, 1, 0, &result) !=
			 expected;
	}
	if (other != 0)
		bench_die("a check gave another answer than the run is about");
	return (double)(bench_now_ns() - start) / CALLS;
}

static struct rl_key hashed[KEYS];

/* Inlined twice: no branch of one is in the other. */
static inline __attribute__((always_inline)) double floor_of(const struct run *run, bool with_hash)
{
	uint64_t start = bench_now_ns();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < CALLS; i++) {
		uint64_t at = order[i % ORDER], now, seen;
		_Atomic uint64_t *word;

		if (with_hash)
			at = rl_hash_key(run->hash_key, (uint32_t)(run->rule >> 32), key[at].text,
					 key[at].len)
				     .word[0] %
			     KEYS;
		now = rl_clock_now_ns(run->coarse);
		word = &line[at].word;
		seen = atomic_load_explicit(word, memory_order_acquire);
		/* pairs[none]: nobody else is here; the order a limiter would need. */
		sum += atomic_compare_exchange_strong_explicit(
			word, &seen, now, memory_order_release, memory_order_relaxed);
	}
	if (sum != CALLS)
		bench_die("a CAS failed with nobody else there");
	return (double)(bench_now_ns() - start) / CALLS;
}

static double time_floor(const struct run *run)
{
	return floor_of(run, true);
}

static double time_floor_without_hash(const struct run *run)
{
	return floor_of(run, false);
}

static double time_prehashed(const struct run *run)
{
	uint64_t start = bench_now_ns();
	struct rl_result result;
	uint64_t other = 0;

	for (uint32_t i = 0; i < CALLS; i++)
		other += rl_check_key(run->client, &hashed[order[i % ORDER]], 1, 0, &result) !=
			 RL_ALLOWED;
	if (other != 0)
		bench_die("a hashed key was not admitted");
	return (double)(bench_now_ns() - start) / CALLS;
}

static double time_two_rules(const struct run *run, uint64_t second_rule)
{
	uint64_t start = bench_now_ns();
	uint64_t other = 0;

	for (uint32_t i = 0; i < CALLS; i++) {
		const struct bench_key *k = &key[order[i % ORDER]];
		struct rl_ask ask[2] = {
			{.rule = run->rule, .key = k->text, .key_len = k->len, .cost = 1},
			{.rule = second_rule, .key = k->text, .key_len = k->len, .cost = 1}};

		other += rl_check_all(run->client, ask, 2) != RL_ALLOWED;
	}
	if (other != 0)
		bench_die("two rules did not admit");
	return (double)(bench_now_ns() - start) / CALLS;
}

static void compare_many(const struct run *run, uint64_t second_rule)
{
	double prehashed[ROUNDS], all[ROUNDS], over_floor[ROUNDS], over_hit[ROUNDS];

	for (uint32_t k = 0; k < KEYS; k++)
		if (rl_key_make(run->client, run->rule, key[k].text, key[k].len, &hashed[k]) != 0)
			bench_die("cannot hash a key");
	for (int r = 0; r < ROUNDS; r++) {
		prehashed[r] = time_prehashed(run);
		over_floor[r] = prehashed[r] / time_floor_without_hash(run);
		all[r] = time_two_rules(run, second_rule);
		over_hit[r] = all[r] / time_hits(run, RL_ALLOWED);
	}
	bench_figure("prehashed_ns", bench_median(prehashed, ROUNDS), "ns");
	bench_figure("prehashed_over_floor", bench_median(over_floor, ROUNDS), "x");
	bench_figure("check_all_2_ns", bench_median(all, ROUNDS), "ns");
	bench_figure("check_all_2_over_hit", bench_median(over_hit, ROUNDS), "x");
}

/* Ten rounds in turn; prints prefix_ns, prefix_floor_ns and, the result, prefix_over_floor. */
static double compare(const struct run *run, const char *prefix, int expected)
{
	double hit[ROUNDS], floor[ROUNDS], ratio[ROUNDS];
	char name[64];

	for (int r = 0; r < ROUNDS; r++) {
		hit[r] = time_hits(run, expected);
		floor[r] = time_floor(run);
		ratio[r] = hit[r] / floor[r];
	}
	snprintf(name, sizeof(name), "%s_ns", prefix);
	bench_figure(name, bench_median(hit, ROUNDS), "ns");
	snprintf(name, sizeof(name), "%s_floor_ns", prefix);
	bench_figure(name, bench_median(floor, ROUNDS), "ns");
	snprintf(name, sizeof(name), "%s_over_floor", prefix);
	bench_figure(name, bench_median(ratio, ROUNDS), "x");
	return bench_median(ratio, ROUNDS);
}

/* Time every call; spent[] is shared with the parent. */
static void time_each(const struct run *run, uint32_t *spent, uint32_t offset)
{
	struct rl_result result;

	for (uint32_t i = 0; i < TIMED; i++) {
		const struct bench_key *k = &key[order[(i + offset) % ORDER]];
		uint64_t start = bench_now_ns();
		int got = rl_check(run->client, run->rule, k->text, k->len, 1, 0, &result);
		uint64_t took = bench_now_ns() - start;

		if (got != RL_ALLOWED)
			_exit(1);
		spent[i] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
	}
}

static void two_processes(const struct run *run)
{
	size_t size = 2 * TIMED * sizeof(uint32_t);
	uint32_t *spent =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, bad = 0;

	if (spent == MAP_FAILED)
		bench_die("no memory");
	fflush(stdout);
	for (uint32_t p = 0; p < 2; p++)
		if (fork() == 0) {
			time_each(run, spent + p * TIMED, p * (ORDER / 2));
			_exit(0);
		}
	while (wait(&status) > 0)
		bad += status != 0;
	if (bad != 0)
		bench_die("a check was not admitted");
	bench_sort(spent, 2 * TIMED);
	bench_figure("check_p50_ns", bench_percentile(spent, 2 * TIMED, 0.5), "ns");
	bench_figure("check_p99_ns", bench_percentile(spent, 2 * TIMED, 0.99), "ns");
	munmap(spent, size);
}

static struct run open_run(const struct bench_seg *bench, struct rl_client *client,
			   const char *rule, bool coarse)
{
	return (struct run){
		.client = client,
		.hash_key = bench->seg.view.hash_key,
		.rule = bench_rule(&bench->seg.view, rule),
		.coarse = coarse,
	};
}

/* Spend each key's whole limit of one, so that the next checks are refused. */
static void use_up(const struct run *run)
{
	for (uint32_t k = 0; k < KEYS; k++)
		rl_check(run->client, run->rule, key[k].text, key[k].len, 1, 0, NULL);
}

int main(void)
{
	static const char *const wide[] = {"minute 1000000000/60s", "second 1000000000/1s",
					   "other 1000000000/60s"};
	static const char *const narrow[] = {"minute 1/1h", "second 1/1h"};
	struct rl_client *client;
	struct bench_seg bench;
	struct run minute, second;
	char why[RL_WHY_SIZE];
	double over_floor;

	bench_keys(key, KEYS, order, ORDER);
	bench_seg_make(&bench, 4 * KEYS);
	bench_rules(&bench.seg, 3, wide);
	if (rl_attach(bench.path, &client, why) != 0)
		bench_die(why);
	minute = open_run(&bench, client, "minute", true);
	second = open_run(&bench, client, "second", false);
	bench_machine();
	printf("%d rounds of %d checks, %d keys, median of each\n", ROUNDS, CALLS, KEYS);
	over_floor = compare(&minute, "hit", RL_ALLOWED);
	compare(&second, "hit_precise", RL_ALLOWED);
	compare_many(&minute, bench_rule(&bench.seg.view, "other"));
	two_processes(&minute);
	rl_detach(client);
	bench_seg_drop(&bench);

	bench_seg_make(&bench, 4 * KEYS);
	bench_rules(&bench.seg, 2, narrow);
	if (rl_attach(bench.path, &client, why) != 0)
		bench_die(why);
	minute = open_run(&bench, client, "minute", true);
	use_up(&minute);
	compare(&minute, "denied", RL_LIMITED);
	rl_detach(client);
	bench_seg_drop(&bench);
	return over_floor > MOST_OVER_FLOOR;
}
