/*
 * Question: what does an outage of Redis cost the callers, and what does it let through?
 *
 * Three hosts, one key, 1000 a second, the default consistency (bounded, beta 10 %, callers
 * that do not wait, no_credit allow, on_unreachable share). Requests at 2 times the limit:
 * 4 s with Redis, 5 s while it is stopped with SIGSTOP, 3 s after SIGCONT. Then the same on a
 * new fleet at 10 times the limit (outage_10x_*).
 *
 *	check_over_normal  p50 of a check's time in the outage over that before and after it
 *	admit_over_normal  the same of those that are admitted alone: in the outage they are the
 *	                   first of a batch, which finds its memory cold, and before half of it
 *	admitted_percent   of L/W, from 250 ms after the stop to the continue
 *	excess_percent     of L, the largest window that ends between the stop and 2 W after the
 *	                   continue, by readings or by spans
 *	recovery_ms        from the continue until every host's answers are fresh, for good, and it
 *	                   has admitted a request by credit
 *
 * Exit status 1 when a figure at 2x is worse than it must be.
 */
#include <stdio.h>

#include "bench/bench.h"
#include "bench/fleet/load.h"

#define SECOND UINT64_C(1000000000)
#define MS     UINT64_C(1000000)

enum { HOSTS = 3, LIMIT = 1000, BATCH = 20 };

#define WINDOW    SECOND
#define BEFORE    (4 * SECOND)
#define OUTAGE    (5 * SECOND)
#define AFTER     (3 * SECOND)
#define WARM_UP   SECOND
#define SETTLED   SECOND
#define STALE_FOR (250 * MS) /* an unanswered sync is noticed then: the default */

struct moments {
	uint64_t start_ns, stop_ns, continue_ns;
};

struct outcome {
	double check_over_normal, admit_over_normal, admitted, excess, recovery_ms;
};

/* Leave only what was before the outage and well after it, so that a slow drift cancels out. */
static void keep_normal(struct fleet_log *log, const struct moments *m)
{
	size_t count = 0;

	for (size_t i = 0; i < log->count; i++) {
		uint64_t at = log->request[i].now_ns;

		if ((at > m->start_ns + WARM_UP && at < m->stop_ns) ||
		    at > m->continue_ns + SETTLED)
			log->request[count++] = log->request[i];
	}
	log->count = count;
}

/*
 * Of the probes: batches of checks of another key of the same rule, as much over its limit.
 * Single requests after a sleep cost whatever the machine's caches and clocks make of them.
 */
static void compare_spans(struct fleet_log *probes, const struct moments *m, struct outcome *ret)
{
	static const int kind[] = {FLEET_ALL, 0, 1};
	static const char *const name[] = {"all checks", "those refused", "those admitted"};
	const struct fleet_part outage = {m->stop_ns + 2 * STALE_FOR, m->continue_ns, FLEET_ALL,
					  FLEET_ALL};
	uint32_t during[3], normal[3];

	for (int i = 0; i < 3; i++)
		during[i] = fleet_span(probes, &outage, kind[i], 0.5);
	keep_normal(probes, m);
	for (int i = 0; i < 3; i++) {
		normal[i] = fleet_span(probes, &FLEET_WHOLE, kind[i], 0.5);
		printf("  p50 of %s: %u ns, in the outage %u ns\n", name[i], normal[i], during[i]);
	}
	ret->check_over_normal = (double)during[0] / (normal[0] > 0 ? normal[0] : 1);
	ret->admit_over_normal = (double)during[2] / (normal[2] > 0 ? normal[2] : 1);
}

static double admitted_percent(const struct fleet_log *log, const struct moments *m)
{
	const struct fleet_part part = {m->stop_ns + STALE_FOR, m->continue_ns, FLEET_ALL,
					FLEET_ALL};

	return 100.0 * (double)fleet_admitted(log, &part) /
	       ((double)(part.to_ns - part.from_ns) / (double)WINDOW * LIMIT);
}

static double excess_percent(const struct fleet_log *log, const struct moments *m)
{
	const struct fleet_part part = {m->stop_ns - WINDOW, m->continue_ns + 2 * WINDOW, FLEET_ALL,
					FLEET_ALL};
	struct verdict verdict;
	uint64_t most;

	fleet_judge(log, &part, LIMIT, WINDOW, &verdict);
	most = fleet_most(&verdict);
	printf("  most in a window: %llu by reading, %llu by span\n",
	       (unsigned long long)verdict.most_by_reading,
	       (unsigned long long)verdict.most_by_span);
	return most > LIMIT ? 100.0 * (double)(most - LIMIT) / LIMIT : 0;
}

static double recovery_ms(const struct fleet_log *log, const struct moments *m)
{
	uint64_t last = 0;

	for (int h = 0; h < HOSTS; h++) {
		uint64_t at = fleet_recovered_ns(log, h, m->continue_ns);

		if (at == UINT64_MAX)
			printf("  host %d did not recover\n", h);
		last = at > last ? at : last;
	}
	return last == UINT64_MAX ? (double)AFTER / 1e6 : (double)(last - m->continue_ns) / 1e6;
}

/* An outage that no host noticed would flatter all figures. */
static void check_that_it_was_noticed(const struct fleet_log *log, const struct moments *m)
{
	uint64_t stale = 0, all = 0;

	for (size_t i = 0; i < log->count; i++) {
		const struct fleet_request *r = &log->request[i];

		if (r->now_ns < m->stop_ns + 4 * STALE_FOR || r->now_ns > m->continue_ns)
			continue;
		all++;
		stale += r->state == RL_STATE_STALE;
	}
	printf("  %.1f %% of the outage's answers said so\n", 100.0 * (double)stale / (double)all);
	if (stale < all / 10 * 9)
		bench_die("the outage was not noticed");
}

static struct fleet_load *send(struct fleet *fleet, double load_factor, const char *key,
			       uint32_t batch)
{
	const struct fleet_traffic traffic = {
		.rule = "r",
		.key = key,
		.keys = 1,
		.threads = batch > 1 ? 1 : 2,
		.per_second = load_factor * LIMIT,
		.batch = batch,
		.seed = bench_now_ns(),
	};

	return fleet_load_start(fleet, &traffic);
}

static void go_through_it(struct fleet *fleet, double load_factor, struct moments *m,
			  struct fleet_log *ret, struct fleet_log *ret_probes)
{
	struct fleet_load *probe = send(fleet, load_factor, "p", BATCH);
	struct fleet_load *load = send(fleet, load_factor, "k", 1);

	m->start_ns = fleet_load_began_ns(load);
	fleet_sleep_until(fleet, m->start_ns + BEFORE);
	fleet_stop_redis(fleet);
	m->stop_ns = fleet_now_ns(fleet);
	fleet_sleep_until(fleet, m->stop_ns + OUTAGE);
	m->continue_ns = fleet_now_ns(fleet);
	fleet_continue_redis(fleet);
	fleet_sleep_until(fleet, m->continue_ns + AFTER);
	fleet_load_end(load, ret);
	fleet_load_end(probe, ret_probes);
}

static struct outcome run(double load_factor)
{
	static const char *const rules[] = {
		"name: r, limit: 1000/s, consistency: bounded, beta: 10%, no_credit: allow, "
		"on_unreachable: share",
		NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules};
	struct moments m = {0};
	struct outcome outcome;
	struct fleet fleet;
	struct fleet_log log, probes;

	fleet_start(&fleet, &spec);
	go_through_it(&fleet, load_factor, &m, &log, &probes);
	printf("%.0fx: %zu requests\n", load_factor, log.count);
	check_that_it_was_noticed(&log, &m);
	compare_spans(&probes, &m, &outcome);
	outcome.admitted = admitted_percent(&log, &m);
	outcome.excess = excess_percent(&log, &m);
	outcome.recovery_ms = recovery_ms(&log, &m);
	fflush(stdout);
	fleet_log_free(&log);
	fleet_log_free(&probes);
	fleet_stop(&fleet);
	return outcome;
}

static void print(const char *prefix, const struct outcome *outcome)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_check_over_normal", prefix);
	bench_figure(name, outcome->check_over_normal, "x");
	snprintf(name, sizeof(name), "%s_admit_over_normal", prefix);
	bench_figure(name, outcome->admit_over_normal, "x");
	snprintf(name, sizeof(name), "%s_admitted_percent", prefix);
	bench_figure(name, outcome->admitted, "%");
	snprintf(name, sizeof(name), "%s_excess_percent", prefix);
	bench_figure(name, outcome->excess, "%");
	snprintf(name, sizeof(name), "%s_recovery_ms", prefix);
	bench_figure(name, outcome->recovery_ms, "ms");
}

int main(void)
{
	struct outcome twice, ten;

	bench_machine();
	printf("%d hosts, %d/s bounded, Redis stopped for 5 s\n", HOSTS, LIMIT);
	twice = run(2);
	ten = run(10);
	print("outage", &twice);
	print("outage_10x", &ten);
	return twice.check_over_normal > 1.3 || twice.admitted < 60 || twice.excess > 5 ||
	       twice.recovery_ms > 500;
}
