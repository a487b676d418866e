/*
 * Question: what does a check cost beside what people use for it today, on this machine, in this
 * run, with the same keys?
 *
 * ours:   rl_check() through librl.so.1, as in figure_hit: whole result, statistics, every request
 *         admitted, a window of 60 s.
 * lua:    nginx's shared dictionary, incr() with an expiry, inside nginx: shared by processes, a
 *         count from each key's first request on (up to twice the limit in a window).
 * go:     golang.org/x/time/rate behind a sync.Map: token buckets of one process.
 * nrf:    rate-limiter-flexible in memory, on Node: a count from each key's first request on, of
 *         one process.
 * redis:  one INCR over a unix socket: what any limiter that asks a store for each check pays at
 *         least.
 *
 * The peers are programs of their own in bench/peers/, started once, that time their own loops:
 * no call from outside is in it. Rounds in turn, medians.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "client/rl.h"

enum { KEYS = 1024, ORDER = 8192, ROUNDS = 20, CALLS = 2000000, WARM = 10 };

struct peer {
	const char *name;
	const char *argv[6]; /* @ stands for the folder of the programs, % for one of the figure */
	uint32_t calls;      /* a round, about 100 ms */
	double least;        /* times ours; less is exit status 1. 0: only shown */
	const char *packages;
	pid_t pid;
	FILE *to, *from;
	double ns[ROUNDS], over[ROUNDS];
};

static struct peer peer[] = {
	{.name = "lua",
	 .argv = {"nginx", "-p", "@", "-c", "nginx.conf"},
	 .calls = 500000,
	 .least = 1.5,
	 .packages = "nginx libnginx-mod-http-lua"},
	{.name = "go",
	 .argv = {"@/peer_go"},
	 .calls = 500000,
	 .least = 2,
	 .packages = "golang-go golang-golang-x-time-dev"},
	{.name = "nrf",
	 .argv = {"node", "@/peer.js"},
	 .calls = 100000,
	 .least = 5,
	 .packages = "nodejs npm"},
	{.name = "redis",
	 .argv = {"@/peer_redis", "%"},
	 .calls = 5000,
	 .least = 0,
	 .packages = "redis-server"},
};

enum { PEERS = sizeof(peer) / sizeof(peer[0]) };

static struct bench_key key[KEYS];
static uint32_t order[ORDER];

static _Noreturn void peer_failed(const struct peer *p)
{
	fprintf(stderr,
		"figure_peers: the peer %s does not answer. It needs the packages: %s\n"
		"  tools/setup figure-peers  installs what all of them need\n",
		p->name, p->packages);
	exit(2);
}

/* An argument with @ and % replaced. */
static char *expand(const char *argument, const char *programs, const char *folder)
{
	char text[512];

	if (*argument == '@')
		snprintf(text, sizeof(text), "%s%s", programs, argument + 1);
	else
		snprintf(text, sizeof(text), "%s", *argument == '%' ? folder : argument);
	return strdup(text);
}

static _Noreturn void become(const struct peer *p, const char *programs, const char *folder)
{
	char *argv[sizeof(p->argv) / sizeof(p->argv[0]) + 1] = {NULL};

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	for (size_t i = 0; p->argv[i] != NULL; i++)
		argv[i] = expand(p->argv[i], programs, folder);
	execvp(argv[0], argv);
	_exit(127);
}

static void start(struct peer *p, const char *programs, const char *folder)
{
	int to[2], from[2];

	/* Closed in the peers started later: each is to see the end of its own input. */
	if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
		bench_die("no pipe");
	fflush(stdout);
	p->pid = fork();
	if (p->pid < 0)
		bench_die("cannot fork");
	if (p->pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		become(p, programs, folder);
	}
	close(to[0]);
	close(from[1]);
	p->to = fdopen(to[1], "w");
	p->from = fdopen(from[0], "r");
	if (p->to == NULL || p->from == NULL)
		bench_die("no memory");
	fprintf(p->to, "%d\n", KEYS);
	for (uint32_t k = 0; k < KEYS; k++)
		fprintf(p->to, "%s\n", key[k].text);
	fprintf(p->to, "%d\n", ORDER);
	for (uint32_t i = 0; i < ORDER; i++)
		fprintf(p->to, "%u\n", order[i]);
}

/* ns a call. */
static double ask(struct peer *p, uint32_t calls)
{
	char line[64];

	fprintf(p->to, "%u\n", calls);
	if (fflush(p->to) != 0 || fgets(line, sizeof(line), p->from) == NULL)
		peer_failed(p);
	return strtod(line, NULL) / calls;
}

static void end(struct peer *p)
{
	fclose(p->to);
	fclose(p->from);
	waitpid(p->pid, NULL, 0);
}

static double time_ours(struct rl_client *client, uint64_t rule)
{
	uint64_t begin = bench_now_ns();
	struct rl_result result;
	uint64_t other = 0;

	for (uint32_t i = 0; i < CALLS; i++) {
		const struct bench_key *k = &key[order[i % ORDER]];

		other += rl_check(client, rule, k->text, k->len, 1, 0, &result) != RL_ALLOWED;
	}
	if (other != 0)
		bench_die("a check was not admitted");
	return (double)(bench_now_ns() - begin) / CALLS;
}

static void run(struct rl_client *client, uint64_t rule)
{
	double ours[ROUNDS];

	for (int p = 0; p < PEERS; p++)
		ask(&peer[p], peer[p].calls / WARM); /* compilers, caches, new keys */
	for (int r = 0; r < ROUNDS; r++) {
		ours[r] = time_ours(client, rule);
		for (int p = 0; p < PEERS; p++) {
			peer[p].ns[r] = ask(&peer[p], peer[p].calls);
			peer[p].over[r] = peer[p].ns[r] / ours[r];
		}
	}
	bench_figure("peer_ratel_ns", bench_median(ours, ROUNDS), "ns");
}

/* Is it at least so many times ours? */
static bool show(struct peer *p)
{
	double over = bench_median(p->over, ROUNDS);
	char name[64];

	snprintf(name, sizeof(name), "peer_%s_ns", p->name);
	bench_figure(name, bench_median(p->ns, ROUNDS), "ns");
	snprintf(name, sizeof(name), "peer_%s_over_ratel", p->name);
	bench_figure(name, over, "x");
	return over >= p->least;
}

int main(int argc, char **argv)
{
	static const char *const rules[] = {"minute 1000000000/60s"};
	struct rl_client *client;
	struct bench_seg bench;
	char why[RL_WHY_SIZE];
	bool good = true;

	if (argc != 2)
		bench_die(
			"usage: figure_peers FOLDER  (of the peers' programs: make figure-peers)");
	signal(SIGPIPE, SIG_IGN);
	bench_keys(key, KEYS, order, ORDER);
	bench_seg_make(&bench, 4 * KEYS);
	bench_rules(&bench.seg, 1, rules);
	if (rl_attach(bench.path, &client, why) != 0)
		bench_die(why);
	bench_machine();
	printf("%d rounds, %d keys, median of each\n", ROUNDS, KEYS);
	for (int p = 0; p < PEERS; p++)
		start(&peer[p], argv[1], bench.dir);
	run(client, bench_rule(&bench.seg.view, "minute"));
	for (int p = 0; p < PEERS; p++) {
		good &= show(&peer[p]);
		end(&peer[p]);
	}
	rl_detach(client);
	bench_seg_drop(&bench);
	return !good;
}
