/*
 * Question: what does a fleet cost its Redis, and how much of the requests' number does it spare
 * it?
 *
 * A redis-server of its own, on a unix socket. Its time is what it says itself: of the process
 * (user and system; reading, the script, answering), which is the larger and the figure, and
 * within EVALSHA, which is printed beside it.
 *
 * The script called as three hosts call it, in batches of 64 keys, without agents:
 *	redis_us_per_key           keys at twice their limit: full logs, three leases each
 *	cold_redis_us_per_request  keys that come 1 to 3 times, and are told of once
 *	redis_bytes_per_key        all that Redis needs more for a key of the first kind
 *	redis_keys_left            keys of both kinds, W = 1 s, 2 W + 15 s after the last call
 *
 * With three real agents:
 *	redis_ops_saved            requests that the hosts answered over calls to Redis, one key at
 *	                           10 times its limit of 1000 a second
 *	cold_agents_redis_us_per_request
 *	                           addresses of 1 to 3 requests within two seconds, 3,000 new ones a
 *	                           second, 100 a minute each. Here calls are small
 *
 * With names of files (make figure-rediscost FIGURE_ARGS=...): the script of this build and those
 * scripts in turn, without agents. They are to show what a change is worth.
 *
 * Exit status 1 when keys are left, or a figure that does not depend on how busy the machine is
 * (bytes, calls saved) is worse than it must be. The times are only printed.
 */
#include <stdio.h>

#include <agent/store/rl_sync.lua.h>

#include "bench/bench.h"
#include "bench/fleet/load.h"
#include "bench/rediscost/cold.h"
#include "bench/rediscost/hosts.h"
#include "bench/rediscost/server.h"

#define SECOND UINT64_C(1000000000)

enum { SCRIPTS_MAX = 10, WARM_ROUNDS = 75, ROUNDS = 20, COLD_ROUNDS = 5, WINDOW_MS = 1000 };

enum { MUST_BYTES_PER_KEY = 700, MUST_OPS_SAVED = 20 };

static const char *const rules[] = {
	"name: hot, limit: 1000/s",
	"name: per-ip, limit: 100/60s",
	NULL,
};

/* A script, and the traffic it is called for. */
struct contest {
	const char *name;
	const char *text;
	size_t len;
	double us[ROUNDS], script_us[ROUNDS]; /* a key */
	double bytes_per_key, us_per_request;
};

static void time_round(struct fleet *fleet, struct hosts *hosts, struct contest *c, int round)
{
	uint64_t keys = hosts_sum(hosts).keys;
	struct server_time then = server_time(fleet->connection);

	hosts_round(hosts);
	keys = hosts_sum(hosts).keys - keys;
	then = server_since(fleet->connection, &then);
	c->us[round] = then.process_us / (double)keys;
	c->script_us[round] = then.script_us / (double)keys;
}

/* All scripts in turn, each with keys and a fleet of its own. */
static void run_model(struct fleet *fleet, struct contest *contest, int count,
		      const struct hosts_traffic *kind, int warm, int rounds)
{
	struct hosts *hosts[SCRIPTS_MAX];

	for (int i = 0; i < count; i++) {
		uint64_t before = server_memory_bytes(fleet->connection);
		struct hosts_traffic traffic = *kind;
		char name[16];

		snprintf(name, sizeof(name), "%s%d", kind->fleet, i);
		traffic.fleet = name;
		hosts[i] = hosts_new(fleet->connection, contest[i].text, contest[i].len, &traffic);
		for (int r = 0; r < warm; r++)
			hosts_round(hosts[i]);
		contest[i].bytes_per_key =
			(double)(server_memory_bytes(fleet->connection) - before) / kind->keys;
	}
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < count; i++)
			time_round(fleet, hosts[i], &contest[i], r);
	for (int i = 0; i < count; i++) {
		struct hosts_sum sum = hosts_sum(hosts[i]);

		contest[i].us_per_request = bench_median(contest[i].us, (size_t)rounds) *
					    (double)sum.keys / (double)sum.requests;
		printf("%s, %s: %.2f us a key, %.2f in the script; of %.0f requests %.1f %% "
		       "admitted\n",
		       contest[i].name, kind->rule, bench_median(contest[i].us, (size_t)rounds),
		       bench_median(contest[i].script_us, (size_t)rounds), (double)sum.requests,
		       100.0 * (double)sum.admitted / (double)sum.requests);
		fflush(stdout);
		hosts_free(hosts[i]);
	}
}

/* While scripts are compared the first ones' keys are not called for as long as the others' are
 * made. */
static uint32_t lease_ms(int scripts)
{
	return scripts > 1 ? 300000 : 10000;
}

static double hot(struct fleet *fleet, struct contest *contest, int count)
{
	const struct hosts_traffic traffic = {
		.fleet = "hot",
		.rule = "hot",
		.keys = HOSTS_KEYS_MAX,
		.limit = 1000,
		.window_ms = WINDOW_MS,
		.interval_ms = 20,
		.lease_ms = lease_ms(count),
		.per_interval = 2.0 * 1000 * 20 / 1000 / HOSTS,
		.waiting = 8,
		.seed = 20261122,
	};

	run_model(fleet, contest, count, &traffic, WARM_ROUNDS, ROUNDS);
	for (int i = 0; i < count; i++)
		printf("%s: %.0f bytes a key\n", contest[i].name, contest[i].bytes_per_key);
	return contest[0].us[ROUNDS / 2]; /* bench_median() has sorted them */
}

static double cold(struct fleet *fleet, struct contest *contest, int count)
{
	const struct hosts_traffic traffic = {
		.fleet = "cold",
		.rule = "per-ip",
		.keys = HOSTS_KEYS_MAX,
		.limit = 100,
		.window_ms = WINDOW_MS,
		.interval_ms = 20,
		.lease_ms = lease_ms(count),
		.blind = 100 / 10 / HOSTS,
		.seed = 20261122,
	};

	run_model(fleet, contest, count, &traffic, 1, COLD_ROUNDS);
	return contest[0].us_per_request;
}

/* All requests over all calls, those of partitions with nothing to say too. */
static double ops_saved(struct fleet *fleet)
{
	const struct fleet_traffic traffic = {.rule = "hot",
					      .key = "k",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 10000,
					      .seed = bench_now_ns()};
	struct server_time then = server_time(fleet->connection);
	struct fleet_log log;
	double requests;

	fleet_load_run(fleet, &traffic, 6 * SECOND, &log);
	then = server_since(fleet->connection, &then);
	requests = (double)log.count;
	printf("agents, one key at 10x: %.0f requests, %llu calls, %.1f us of the processor a "
	       "call\n",
	       requests, (unsigned long long)then.calls, then.process_us / (double)then.calls);
	fleet_log_free(&log);
	return requests / (double)then.calls;
}

static double cold_with_agents(struct fleet *fleet)
{
	uint64_t syncs = fleet_keys_synced(fleet), requests;
	struct server_time then = server_time(fleet->connection);

	requests = cold_run(fleet, "per-ip");
	then = server_since(fleet->connection, &then);
	printf("agents, addresses of 1 to 3 requests: %llu requests, %llu calls, %.1f keys in a "
	       "call, "
	       "%.1f us of the processor a call, %.1f in the script\n",
	       (unsigned long long)requests, (unsigned long long)then.calls,
	       (double)(fleet_keys_synced(fleet) - syncs) / (double)then.calls,
	       then.process_us / (double)then.calls, then.script_us / (double)then.calls);
	return then.process_us / (double)requests;
}

/* What is left of what was called for without agents, when all of it has had its time. */
static uint64_t keys_left(struct fleet *fleet, uint64_t last_ns)
{
	fleet_sleep_until(fleet, last_ns + (2 * WINDOW_MS * UINT64_C(1000000)) + 15 * SECOND);
	return server_keys(fleet->connection, "{rl:hot*}:[kl]:*") +
	       server_keys(fleet->connection, "{rl:cold*}:[kl]:*");
}

static void read_script(const char *path, struct contest *ret)
{
	FILE *file = fopen(path, "re");
	static char room[SCRIPTS_MAX][1 << 17];
	static int used;

	if (file == NULL)
		bench_die(path);
	ret->name = path;
	ret->text = room[used];
	ret->len = fread(room[used++], 1, sizeof(room[0]), file);
	fclose(file);
}

static int compare(int count, char **path)
{
	static const char *const none[] = {"name: hot, limit: 1000/s", NULL};
	const struct fleet_spec spec = {.hosts = 0, .rules = none};
	struct contest contest[SCRIPTS_MAX] = {
		{.name = "this build", .text = rl_sync_lua, .len = sizeof(rl_sync_lua)}};
	struct fleet fleet;

	if (count > SCRIPTS_MAX - 1)
		bench_die("too many scripts");
	for (int i = 0; i < count; i++)
		read_script(path[i], &contest[1 + i]);
	fleet_start(&fleet, &spec);
	hot(&fleet, contest, 1 + count);
	cold(&fleet, contest, 1 + count);
	fleet_stop(&fleet);
	return 0;
}

int main(int argc, char **argv)
{
	const struct fleet_spec spec = {
		.hosts = HOSTS, .rules = rules, .keys = COLD_KEYS, .without_totals = true};
	struct contest contest = {
		.name = "the script", .text = rl_sync_lua, .len = sizeof(rl_sync_lua)};
	double saved, agents_us, hot_us, bytes, once_us;
	struct fleet fleet;
	uint64_t left;

	bench_machine();
	if (argc > 1)
		return compare(argc - 1, argv + 1);
	fleet_start(&fleet, &spec);
	saved = ops_saved(&fleet);
	agents_us = cold_with_agents(&fleet);
	hot_us = hot(&fleet, &contest, 1);
	bytes = contest.bytes_per_key;
	once_us = cold(&fleet, &contest, 1);
	left = keys_left(&fleet, bench_now_ns());
	fleet_stop(&fleet);
	bench_figure("redis_us_per_key", hot_us, "us");
	bench_figure("cold_redis_us_per_request", once_us, "us");
	bench_figure("redis_bytes_per_key", bytes, "bytes");
	bench_figure("redis_keys_left", (double)left, "keys");
	bench_figure("redis_ops_saved", saved, "x");
	bench_figure("cold_agents_redis_us_per_request", agents_us, "us");
	return bytes > MUST_BYTES_PER_KEY || left > 0 || saved < MUST_OPS_SAVED;
}
