/*
 * Question: what does a flood of made-up keys do to those who are limited, and to honest new keys?
 *
 * A table of a million slots, and 100 keys that have spent their limit for the day. Two processes
 * then ask 10 million made-up keys each, all of the same rule: none goes idle, so the table fills
 * and stays full. In between (every 10,000) and at the end each asks all live keys: an answer other
 * than RL_LIMITED by the key's own window is a false one. At the end 1,000 honest new keys ask once
 * each. Once with on_full: allow, once with pool (there the flood has spent what new keys share).
 *
 * Memory: what the flooding processes have of their own, and the blocks of the segment's file, from
 * the first thousand keys to the end.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "client/rl.h"
#include "shm/rl_check.h"
#include "shm/rl_table.h"

enum { PROCESSES = 2, LIVE = 100, LIMIT = 5, EVERY = 10000, HONEST = 1000 };

#define SLOTS                 1000000u
#define MADE_UP               10000000u /* of each process */
#define DAY_NS                (UINT64_C(86400) * 1000000000)
#define LEAST_ALLOWED_PERCENT 95 /* with on_full: allow; less is exit status 1 */

struct seen {
	_Atomic uint64_t false_allow, undecided, memory_growth;
};

static struct seen *seen;

static void publish(struct rl_seg *seg, enum rl_on_full on_full)
{
	const struct rl_rule_spec spec = {
		.name = "api", .terms = {LIMIT, DAY_NS}, .on_full = (uint8_t)on_full};
	size_t other;

	if (rl_rules_publish(seg, &spec, 1, &other) != 0)
		bench_die("the rule was refused");
	if (on_full == RL_FULL_POOL && rl_pool_ensure(seg) != 0)
		bench_die("no room for the rule's pool");
}

static int ask(struct rl_client *client, uint64_t rule, const char *kind, uint64_t number,
	       struct rl_result *result)
{
	char key[48];
	int len = snprintf(key, sizeof(key), "%s-%llu", kind, (unsigned long long)number);

	return rl_check(client, rule, key, (size_t)len, 1, 0, result);
}

static void ask_live(struct rl_client *client, uint64_t rule)
{
	struct rl_result result;

	for (uint64_t k = 0; k < LIVE; k++) {
		int got = ask(client, rule, "live", k, &result);

		if (got == RL_ALLOWED || (got == RL_LIMITED && result.decided_by != RL_BY_WINDOW))
			atomic_fetch_add(&seen->false_allow, 1);
		else if (got != RL_LIMITED)
			atomic_fetch_add(&seen->undecided, 1);
	}
}

/* Of this process alone: the segment's pages are another matter. */
static uint64_t own_bytes(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/self/status", "r");

	if (file == NULL)
		bench_die("cannot read /proc/self/status");
	while (fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "RssAnon: %llu", &kib) == 1)
			break;
	fclose(file);
	return kib * 1024;
}

static void flood(const char *path, uint64_t which)
{
	struct rl_client *client;
	struct rl_result result;
	uint64_t rule, before = 0;

	if (rl_attach(path, &client, NULL) != 0 || rl_rule(client, "api", &rule) != 0)
		bench_die("a flooding process cannot attach");
	for (uint64_t i = 0; i < MADE_UP; i++) {
		ask(client, rule, "made-up", i * PROCESSES + which, &result);
		if (i % EVERY == 0)
			ask_live(client, rule);
		if (i == 1000)
			before = own_bytes();
	}
	ask_live(client, rule);
	atomic_fetch_add(&seen->memory_growth, own_bytes() - before);
	_exit(0);
}

static uint64_t file_bytes(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		bench_die("cannot stat the segment");
	return (uint64_t)st.st_blocks * 512;
}

/* Live keys that have no slot any more. */
static uint64_t count_lost(const struct rl_view *view, uint64_t rule)
{
	uint64_t lost = 0, head;

	for (uint64_t k = 0; k < LIVE; k++) {
		struct rl_check_key key;
		char text[48];
		int len = snprintf(text, sizeof(text), "live-%llu", (unsigned long long)k);

		rl_check_hash(view, rule, text, (size_t)len, &key);
		lost += rl_table_find(view, &key.id, &head) == RL_NO_SLOT;
	}
	return lost;
}

static void run_flood(const char *path)
{
	for (uint64_t p = 0; p < PROCESSES; p++)
		if (fork() == 0)
			flood(path, p);
	for (int p = 0; p < PROCESSES; p++) {
		int status;

		if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
			bench_die("a flooding process failed");
	}
}

static double honest_percent(struct rl_client *client, uint64_t rule)
{
	struct rl_result result;
	int allowed = 0;

	for (uint64_t k = 0; k < HONEST; k++)
		allowed += ask(client, rule, "honest", k, &result) == RL_ALLOWED;
	return 100.0 * allowed / HONEST;
}

struct outcome {
	uint64_t lost, growth;
	double allowed_percent, full_percent, seconds;
};

static struct outcome run(enum rl_on_full on_full)
{
	struct outcome outcome;
	struct rl_client *client;
	struct bench_seg bench;
	uint64_t rule, before, start;

	bench_seg_make(&bench, SLOTS * 9 / 10);
	publish(&bench.seg, on_full);
	if (rl_attach(bench.path, &client, NULL) != 0 || rl_rule(client, "api", &rule) != 0)
		bench_die("cannot attach");
	for (uint64_t k = 0; k < LIVE; k++)
		for (int i = 0; i < LIMIT; i++)
			if (ask(client, rule, "live", k, NULL) != RL_ALLOWED)
				bench_die("a live key was refused before its limit");
	before = file_bytes(bench.path);
	start = bench_now_ns();
	run_flood(bench.path);
	outcome.seconds = (double)(bench_now_ns() - start) / 1e9;
	outcome.growth = file_bytes(bench.path) - before;
	outcome.allowed_percent = honest_percent(client, rule);
	outcome.lost = count_lost(&bench.seg.view, rule);
	outcome.full_percent =
		100.0 * (double)rl_table_used(&bench.seg.view) / (double)bench.seg.view.slot_count;
	rl_detach(client);
	bench_seg_drop(&bench);
	return outcome;
}

int main(void)
{
	struct outcome allow, pool;
	bool bad;

	bench_machine();
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		bench_die("no memory");
	allow = run(RL_FULL_ALLOW);
	pool = run(RL_FULL_POOL);
	printf("%d processes, %u made-up keys each, %.1f and %.1f s; the table then %.2f %% full\n",
	       PROCESSES, MADE_UP, allow.seconds, pool.seconds, pool.full_percent);
	bench_figure("flood_live_lost", (double)(allow.lost + pool.lost), "keys");
	bench_figure("flood_live_false_allow", (double)seen->false_allow, "answers");
	bench_figure("flood_live_undecided", (double)seen->undecided, "answers");
	bench_figure("flood_new_allowed_percent", allow.allowed_percent, "%");
	bench_figure("flood_new_allowed_pool_percent", pool.allowed_percent, "%");
	bench_figure("flood_rss_growth_bytes",
		     (double)(seen->memory_growth + allow.growth + pool.growth), "bytes");
	bad = allow.lost + pool.lost + seen->false_allow + seen->undecided > 0 ||
	      allow.allowed_percent < LEAST_ALLOWED_PERCENT;
	return bad ? 1 : 0;
}
