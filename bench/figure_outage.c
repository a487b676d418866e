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
#include "bench/cases/cases.h"

enum { HOSTS = 3, LIMIT = 1000, BATCH = 20 };

#define WARM_UP SECOND
#define SETTLED SECOND

struct outcome {
	double check_over_normal, admit_over_normal, admitted, excess, recovery_ms;
};

/* Leave only what was before the outage and well after it, so that a slow drift cancels out. */
static void keep_normal(struct fleet_log *log, const struct outage_result *m)
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
static void compare_spans(struct outage_result *m, struct outcome *ret)
{
	static const int kind[] = {FLEET_ALL, 0, 1};
	static const char *const name[] = {"all checks", "those refused", "those admitted"};
	const struct fleet_part outage = {m->stop_ns + 2 * STALE_NS, m->continue_ns, FLEET_ALL,
					  FLEET_ALL};
	uint32_t during[3], normal[3];

	for (int i = 0; i < 3; i++)
		during[i] = fleet_span(&m->probes, &outage, kind[i], 0.5);
	keep_normal(&m->probes, m);
	for (int i = 0; i < 3; i++) {
		normal[i] = fleet_span(&m->probes, &FLEET_WHOLE, kind[i], 0.5);
		printf("  p50 of %s: %u ns, in the outage %u ns\n", name[i], normal[i], during[i]);
	}
	ret->check_over_normal = (double)during[0] / (normal[0] > 0 ? normal[0] : 1);
	ret->admit_over_normal = (double)during[2] / (normal[2] > 0 ? normal[2] : 1);
}

static struct outcome run(const char *name, double load_factor)
{
	const struct outage outage = {.rule = "name: r, limit: 1000/s, consistency: bounded, "
					      "beta: 10%, no_credit: allow, "
					      "on_unreachable: share",
				      .hosts = HOSTS,
				      .limit = LIMIT,
				      .window_ns = SECOND,
				      .before_ns = 4 * SECOND,
				      .after_ns = 3 * SECOND,
				      .load = load_factor,
				      .probe_batch = BATCH};
	struct outage_result result;
	struct outcome outcome;

	outage_run(name, &outage, &result);
	printf("  %.1f %% of the outage's answers said so\n", result.said_percent);
	if (result.said_percent < 90)
		bench_die("the outage was not noticed");
	compare_spans(&result, &outcome);
	outcome.admitted = result.admitted_percent;
	outcome.excess = case_excess_percent(result.most, LIMIT);
	outcome.recovery_ms = result.recovery_ms;
	fflush(stdout);
	fleet_log_free(&result.log);
	fleet_log_free(&result.probes);
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
	twice = run("2x", 2);
	ten = run("10x", 10);
	print("outage", &twice);
	print("outage_10x", &ten);
	return twice.check_over_normal > 1.2 || twice.admitted < 60 || twice.excess > 5 ||
	       twice.recovery_ms > 300;
}
