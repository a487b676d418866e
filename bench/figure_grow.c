/*
 * Question: what is lost, refused or delayed when a table of a million keys grows to four million
 * under traffic, and what does a check cost afterwards?
 *
 * 900,000 keys of a limit of 4 a day spend 2 each. Then two processes ask, at random, those keys
 * and a million others, and count what each key is allowed. While they do, the table grows, by the
 * call that the agent makes. At the end every key that was ever asked is asked until it is refused:
 * the sum must be its limit. More is a count that was lost, less one that was made twice.
 *
 * What a check costs is measured afterwards by one process, in one run: the old keys by a client
 * that still maps what there was (it asks no other), the same by one that maps all, and new keys.
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

enum { PROCESSES = 2, LIMIT = 4, FIRST = 2, ROUNDS = 31, ASKED = 20000 };

#define KEYS       1000000u
#define GROWN_KEYS 4000000u
#define OLD        900000u
#define NEW        1000000u
#define ROOM       50000u
#define DAY_NS     (UINT64_C(86400) * 1000000000)
#define BEFORE_NS  UINT64_C(1000000000)
#define AFTER_NS   UINT64_C(3000000000)

struct seen {
	_Atomic uint8_t admitted[OLD + NEW];           /* by key, since the start */
	_Atomic uint64_t errors, calls, longest_ns[2]; /* until the table has grown, and after */
	_Atomic uint32_t phase;                        /* 0 warm up, 1 growing, 2 after, 3 end */
};

static struct seen *seen;

static int ask(struct rl_client *client, uint64_t rule, uint64_t number, struct rl_result *result)
{
	uint64_t key[2] = {number, ~number};

	return rl_check(client, rule, key, sizeof(key), 1, 0, result);
}

static void publish(struct rl_seg *seg)
{
	const struct rl_rule_spec spec = {
		.name = "api", .terms = {LIMIT, DAY_NS}, .on_full = RL_FULL_DENY};
	size_t other;

	if (rl_rules_publish(seg, &spec, 1, &other) != 0)
		bench_die("the rule was refused");
}

static struct rl_client *attach(const char *path, uint64_t *ret_rule)
{
	struct rl_client *client;

	if (rl_attach(path, &client, NULL) != 0 || rl_rule(client, "api", ret_rule) != 0)
		bench_die("cannot attach");
	return client;
}

static void raise_to(_Atomic uint64_t *most, uint64_t value)
{
	uint64_t now = atomic_load(most);

	while (value > now && !atomic_compare_exchange_weak(most, &now, value))
		;
}

static void timed_ask(struct rl_client *client, uint64_t rule, uint64_t key, uint32_t phase)
{
	uint64_t begun_ns = bench_now_ns();
	struct rl_result result;
	int got = ask(client, rule, key, &result);

	raise_to(&seen->longest_ns[phase == 1], bench_now_ns() - begun_ns);
	if (got == RL_ALLOWED)
		atomic_fetch_add(&seen->admitted[key], 1);
	else if (got != RL_LIMITED || result.decided_by != RL_BY_WINDOW)
		atomic_fetch_add(&seen->errors, 1);
	atomic_fetch_add(&seen->calls, 1);
}

/* Of new keys only so many, until the table has grown, as there is room for. */
static uint64_t pick(uint64_t random, uint32_t phase)
{
	if (phase == 0 || random >> 63 == 0)
		return random % OLD;
	return OLD + random % (phase == 1 ? ROOM : NEW);
}

static void work(const char *path, uint64_t seed)
{
	uint64_t rule, state = seed;
	struct rl_client *client = attach(path, &rule);
	uint32_t phase;

	while ((phase = atomic_load(&seen->phase)) < 3) {
		timed_ask(client, rule, pick(bench_random(&state), phase), phase);
	}
	rl_detach(client);
	_exit(0);
}

static void wait_ns(uint64_t ns)
{
	for (uint64_t end = bench_now_ns() + ns; bench_now_ns() < end;)
		usleep(1000);
}

static uint64_t grow_under_traffic(const char *path)
{
	uint64_t seed = bench_seed(), begun_ns, took_ns;
	char why[RL_WHY_MAX];
	int status;

	for (int p = 0; p < PROCESSES; p++)
		if (fork() == 0)
			work(path, seed + (uint64_t)p);
	wait_ns(BEFORE_NS);
	atomic_store(&seen->phase, 1);
	begun_ns = bench_now_ns();
	if (rl_segment_grow(path, GROWN_KEYS, why) != 1)
		bench_die(why);
	took_ns = bench_now_ns() - begun_ns;
	atomic_store(&seen->phase, 2);
	wait_ns(AFTER_NS);
	atomic_store(&seen->phase, 3);
	for (int p = 0; p < PROCESSES; p++)
		if (wait(&status) < 0 || status != 0)
			bench_die("a worker died");
	return took_ns;
}

static void spend_first(const char *path)
{
	uint64_t rule;
	struct rl_client *client = attach(path, &rule);
	struct rl_result result;

	for (uint64_t k = 0; k < OLD; k++)
		for (int i = 0; i < FIRST; i++) {
			if (ask(client, rule, k, &result) != RL_ALLOWED)
				bench_die("a key found no slot");
			atomic_fetch_add(&seen->admitted[k], 1);
		}
	rl_detach(client);
}

static void count_rest(const char *path, uint64_t *ret_lost, uint64_t *ret_twice, uint64_t *ret_new)
{
	uint64_t rule;
	struct rl_client *client = attach(path, &rule);
	struct rl_result result;

	for (uint64_t k = 0; k < OLD + NEW; k++) {
		int sum = atomic_load(&seen->admitted[k]);

		if (sum == 0)
			continue; /* never asked */
		*ret_new += k >= OLD;
		while (sum < 2 * LIMIT && ask(client, rule, k, &result) == RL_ALLOWED)
			sum++;
		*ret_lost += sum > LIMIT;
		*ret_twice += sum < LIMIT;
	}
	rl_detach(client);
}

/* ns a check; keys at random from first on. */
static double cost_ns(struct rl_client *client, uint64_t rule, uint64_t first, uint64_t count,
		      uint64_t *state)
{
	uint64_t begun_ns = bench_now_ns();
	struct rl_result result;

	for (int i = 0; i < ASKED; i++)
		ask(client, rule, first + bench_random(state) % count, &result);
	return (double)(bench_now_ns() - begun_ns) / ASKED;
}

static void compare_costs(struct rl_client *before, uint64_t rule, const char *path)
{
	static double old_before[ROUNDS], old_after[ROUNDS], new_after[ROUNDS];
	uint64_t state = 88172645463325252u;
	struct rl_client *after = attach(path, &rule);

	for (int r = 0; r < ROUNDS; r++) {
		old_before[r] = cost_ns(before, rule, 0, OLD, &state);
		old_after[r] = cost_ns(after, rule, 0, OLD, &state);
		new_after[r] = cost_ns(after, rule, OLD, NEW, &state);
	}
	rl_detach(after);
	bench_figure("grow_old_keys_over_before",
		     bench_median(old_after, ROUNDS) / bench_median(old_before, ROUNDS), "ratio");
	bench_figure("grow_new_keys_over_before",
		     bench_median(new_after, ROUNDS) / bench_median(old_before, ROUNDS), "ratio");
}

int main(void)
{
	static struct bench_seg bench;
	uint64_t lost = 0, twice = 0, fresh = 0, took_ns, rule;
	struct rl_client *before;

	if (bench_memory_bytes() < UINT64_C(3) << 30)
		bench_die("it takes 3 GB of memory");
	bench_machine();
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		bench_die("no memory");
	bench_seg_make(&bench, KEYS);
	publish(&bench.seg);
	spend_first(bench.path);
	before = attach(bench.path, &rule);
	took_ns = grow_under_traffic(bench.path);
	count_rest(bench.path, &lost, &twice, &fresh);
	printf("grown in %.0f ms under %llu checks; %llu new keys\n", (double)took_ns / 1e6,
	       (unsigned long long)atomic_load(&seen->calls), (unsigned long long)fresh);
	bench_figure("grow_lost", (double)lost, "keys");
	bench_figure("grow_twice", (double)twice, "keys");
	bench_figure("grow_undecided", (double)atomic_load(&seen->errors), "checks");
	bench_figure("grow_longest_check_while", (double)atomic_load(&seen->longest_ns[1]) / 1e6,
		     "ms");
	bench_figure("grow_longest_check_else", (double)atomic_load(&seen->longest_ns[0]) / 1e6,
		     "ms");
	compare_costs(before, rule, bench.path);
	rl_detach(before);
	bench_seg_drop(&bench);
	return lost != 0 || twice != 0 || atomic_load(&seen->errors) != 0;
}
