/*
 * Question: what does it take to tell the fleet's store of 100,000 keys that are all in use, and do
 * those who check them notice?
 *
 * One host with an agent, one Redis. 100,000 keys of a strict rule, 200,000 checks a second spread
 * over all of them, so that each has something to be told again soon after it was told. Against
 * the same checks of as many keys of a local rule, of which nothing is told: "at rest". The two
 * take turns, and medians are compared. Nothing is pinned: the store, the agent and the checks
 * share the machine as they do in use.
 *
 *	sync_keys_per_s           keys told and answered, while all of them are in use
 *	sync_agent_cpu_percent    of one processor, of the agent, meanwhile
 *	sync_check_p99_over_rest  of a check, over that of one at rest
 *	sync_check_p50_over_rest  likewise
 *	sync_agent_beat_gap_ms    longest time without the agent's heartbeat, of 10 ms each
 *
 * Exit status 1 when the p99 is more than twice what it is at rest.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/fleet/fleet.h"
#include "bench/rediscost/server.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_rules.h"

#define SECOND UINT64_C(1000000000)
#define SLICE  UINT64_C(1000000) /* checks of so long are sent together */

enum { KEYS = 100000, PER_SLICE = 200, SECONDS = 5, ROUNDS = 3, IDLE_SECONDS = 2 };
enum { STRIDE = 61, BAR = 2 }; /* no multiple of a bucket's neighbours */

struct checker {
	struct fleet *fleet;
	struct rl_seg *seg;
	struct rl_member *member;
	uint32_t *took_ns;
	size_t count;
	uint64_t beat_gap_ns;
};

struct phase {
	double p99, p50, keys_per_s, agent_percent, redis_percent, beat_gap_ms, admitted_percent;
};

static uint64_t check(struct checker *c, uint64_t rule, uint32_t key, bool *ret_allowed)
{
	struct rl_answer answer;
	char text[20];
	size_t len = (size_t)snprintf(text, sizeof(text), "10.%u.%u.%u", key >> 16, key >> 8 & 255,
				      key & 255);
	uint64_t begin_ns = bench_now_ns();

	*ret_allowed = rl_check_spend(c->seg, c->member, rule, text, len, 1, 0, &answer) == 1;
	return bench_now_ns() - begin_ns;
}

static void look_at_beat(struct checker *c)
{
	uint64_t beat_ns = atomic_load_explicit(&c->seg->live->beat_ns, memory_order_relaxed),
		 now_ns = rl_clock_precise_ns();

	if (now_ns > beat_ns && now_ns - beat_ns > c->beat_gap_ns)
		c->beat_gap_ns = now_ns - beat_ns;
}

static uint64_t cpu_ns(pid_t pid)
{
	struct timespec spent;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &spent) != 0)
		bench_die("cannot read a process' time");
	return (uint64_t)spent.tv_sec * SECOND + (uint64_t)spent.tv_nsec;
}

/* All keys in turn, so many in each slice. Returns how many were admitted. */
static uint64_t send(struct checker *c, uint64_t rule, uint32_t slices)
{
	uint64_t start_ns = bench_now_ns(), admitted = 0;
	uint32_t key = 0;

	c->count = 0;
	c->beat_gap_ns = 0;
	for (uint32_t s = 0; s < slices; s++) {
		for (uint32_t i = 0; i < PER_SLICE; i++) {
			bool allowed;

			key = (key + STRIDE) % KEYS;
			c->took_ns[c->count++] = (uint32_t)check(c, rule, key, &allowed);
			admitted += allowed;
		}
		look_at_beat(c);
		fleet_sleep_until(c->fleet, start_ns + (s + 1) * SLICE);
	}
	return admitted;
}

static struct phase run(struct checker *c, const char *name)
{
	const uint32_t slices = SECONDS * 1000;
	pid_t agent = c->fleet->host[0].agent;
	uint64_t rule = bench_rule(&c->seg->view, name), keys, spent_ns, from_ns, admitted;
	struct server_time then;
	struct phase phase;
	double span_s;

	send(c, rule, KEYS / PER_SLICE + 500); /* now all are in use */
	keys = fleet_keys_synced(c->fleet);
	then = server_time(c->fleet->connection);
	spent_ns = cpu_ns(agent);
	from_ns = bench_now_ns();
	admitted = send(c, rule, slices);
	span_s = (double)(bench_now_ns() - from_ns) / 1e9;
	spent_ns = cpu_ns(agent) - spent_ns;
	then = server_since(c->fleet->connection, &then);
	bench_sort(c->took_ns, c->count);
	phase = (struct phase){
		.p99 = bench_percentile(c->took_ns, c->count, 0.99),
		.p50 = bench_percentile(c->took_ns, c->count, 0.5),
		.keys_per_s = (double)(fleet_keys_synced(c->fleet) - keys) / span_s,
		.agent_percent = 100.0 * (double)spent_ns / 1e9 / span_s,
		.redis_percent = 100.0 * then.process_us / 1e6 / span_s,
		.beat_gap_ms = (double)c->beat_gap_ns / 1e6,
		.admitted_percent = 100.0 * (double)admitted / (double)c->count,
	};
	printf("%s: %.0f keys/s in %.0f calls/s, agent %.0f %% of a processor, Redis %.0f %%; a "
	       "check takes %.0f ns, 1 in 100 %.0f; %.1f %% admitted, beat gap %.1f ms\n",
	       name, phase.keys_per_s, (double)then.calls / span_s, phase.agent_percent,
	       phase.redis_percent, phase.p50, phase.p99, phase.admitted_percent,
	       phase.beat_gap_ms);
	fflush(stdout);
	return phase;
}

static void give_figures(const struct phase *rest, const struct phase *sync, double *ret_p99)
{
	double value[5][ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		value[0][i] = sync[i].keys_per_s;
		value[1][i] = sync[i].agent_percent;
		value[2][i] = sync[i].p99 / rest[i].p99;
		value[3][i] = sync[i].p50 / rest[i].p50;
		value[4][i] = sync[i].beat_gap_ms;
	}
	*ret_p99 = bench_median(value[2], ROUNDS);
	bench_figure("sync_keys_per_s", bench_median(value[0], ROUNDS), "keys/s");
	bench_figure("sync_agent_cpu_percent", bench_median(value[1], ROUNDS), "%");
	bench_figure("sync_check_p99_over_rest", *ret_p99, "x");
	bench_figure("sync_check_p50_over_rest", bench_median(value[3], ROUNDS), "x");
	bench_figure("sync_agent_beat_gap_ms", bench_median(value[4], ROUNDS), "ms");
}

int main(void)
{
	static const char *const rules[] = {
		"name: told, limit: 100000/10s, consistency: strict, no_credit: deny",
		"name: rest, limit: 100000/10s, consistency: local", NULL};
	const struct fleet_spec spec = {
		.hosts = 1, .rules = rules, .keys = 4 * KEYS, .without_totals = true};
	struct phase rest[ROUNDS], sync[ROUNDS];
	struct checker checker = {0};
	struct fleet fleet;
	double p99;

	bench_machine();
	fleet_start(&fleet, &spec);
	checker = (struct checker){
		.fleet = &fleet,
		.seg = &fleet.host[0].seg,
		.member = rl_member_take(&fleet.host[0].seg, (uint64_t)getpid()),
		.took_ns = calloc((size_t)SECONDS * 1000 * PER_SLICE, sizeof(uint32_t))};
	if (checker.took_ns == NULL)
		bench_die("no memory");
	for (int i = 0; i < ROUNDS; i++) {
		rest[i] = run(&checker, "rest");
		sync[i] = run(&checker, "told");
		fleet_sleep_until(&fleet, bench_now_ns() + IDLE_SECONDS * SECOND);
	}
	rl_member_give(checker.member, (uint64_t)getpid());
	fleet_stop(&fleet);
	free(checker.took_ns);
	give_figures(rest, sync, &p99);
	return p99 > BAR;
}
