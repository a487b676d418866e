/* Many hosts for a while, at a load that stays as it is: R8, R9, R10, R13, R14. */
#include <stdio.h>

#include "bench/cases/cases.h"

enum { HOSTS = 10, LIMIT = 1000 };

#define STRICT_1000 "name: r, limit: 1000/s, consistency: strict"

/* The part of all requests that a host gets, and which host. */
static struct fleet_traffic traffic_of(const struct steady *s, uint32_t host)
{
	struct fleet_traffic t = {.rule = "r",
				  .key = "k",
				  .keys = 1,
				  .threads = s->threads,
				  .per_second = s->load * s->limit * (double)SECOND /
						(double)s->window_ns,
				  .flags = s->flags,
				  .seed = case_seed() + host};
	double harmonic = 0;

	switch (s->spread) {
	case STEADY_UNIFORM:
		break;
	case STEADY_ONE:
		t.hosts = 1;
		break;
	case STEADY_ZIPF:
		for (uint32_t h = 1; h <= s->hosts; h++)
			harmonic += 1.0 / h;
		t.hosts = 1u << host;
		t.per_second /= harmonic * (host + 1);
		break;
	case STEADY_MOVING:
		t.turn_ns = s->window_ns / 2;
		break;
	}
	return t;
}

static void send_all(struct fleet *fleet, const struct steady *s, struct fleet_log *ret)
{
	uint32_t loads = s->spread == STEADY_ZIPF ? s->hosts : 1;
	struct fleet_load *load[FLEET_HOSTS_MAX] = {0};

	for (uint32_t i = 0; i < loads; i++) {
		const struct fleet_traffic traffic = traffic_of(s, i);

		load[i] = fleet_load_start(fleet, &traffic);
	}
	fleet_sleep_until(fleet, fleet_load_began_ns(load[0]) + s->for_ns);
	*ret = (struct fleet_log){0};
	for (uint32_t i = 0; i < loads; i++) {
		struct fleet_log log;

		fleet_load_end(load[i], &log);
		fleet_log_add(ret, &log);
	}
}

static void share(const struct fleet_log *log, uint32_t hosts, struct steady_result *ret)
{
	struct fleet_part part = FLEET_WHOLE;

	ret->least_share = 100;
	for (part.host = 0; part.host < (int)hosts; part.host++) {
		double percent = case_percent(fleet_admitted(log, &part), ret->verdict.allowed);

		ret->least_share = percent < ret->least_share ? percent : ret->least_share;
		ret->most_share = percent > ret->most_share ? percent : ret->most_share;
	}
}

void steady_run(const char *name, const struct steady *s, struct steady_result *ret)
{
	const char *const rules[] = {s->rule, NULL};
	const struct fleet_spec spec = {
		.hosts = s->hosts, .rules = rules, .redis = s->redis, .without_totals = true};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_log log;
	struct fleet fleet;
	uint64_t syncs;

	*ret = (struct steady_result){0};
	fleet_start(&fleet, &spec);
	syncs = fleet_syncs(&fleet);
	send_all(&fleet, s, &log);
	syncs = fleet_syncs(&fleet) - syncs;
	fleet_stop(&fleet);
	ret->verdict = case_judge(name, &log, &whole, s->limit, s->window_ns);
	ret->used_percent = case_percent(ret->verdict.allowed, ret->verdict.exact);
	ret->refused_percent =
		case_percent(ret->verdict.requests - ret->verdict.allowed, ret->verdict.requests);
	ret->syncs_per_host_s = (double)syncs / s->hosts / ((double)s->for_ns / (double)SECOND);
	share(&log, s->hosts, ret);
	fleet_log_free(&log);
}

/* Ten hosts, 1000 a second, strict. */
static struct steady_result run_ten(struct fleet_case *c, double load, enum steady_spread spread,
				    const char *rule, uint32_t seconds)
{
	const struct steady steady = {.rule = rule,
				      .redis = AS_T50,
				      .hosts = HOSTS,
				      .limit = LIMIT,
				      .threads = spread == STEADY_UNIFORM ? 4 : 8,
				      .flags = RL_MAY_WAIT,
				      .window_ns = SECOND,
				      .for_ns = seconds * SECOND,
				      .load = load,
				      .spread = spread};
	struct steady_result result;

	steady_run(c->name, &steady, &result);
	case_note(c, "maxW", (double)fleet_most(&result.verdict), "", CASE_AT_MOST, LIMIT);
	return result;
}

void case_r8(struct fleet_case *c, uint32_t seconds)
{
	struct steady_result result;

	case_begin(c, "R8", "ten hosts at 10x, %u s", seconds);
	result = run_ten(c, 10, STEADY_UNIFORM, STRICT_1000, seconds);
	case_rate(c, "used", result.used_percent, " %", CASE_AT_LEAST, 98);
	case_rate(c, "a host's share", result.least_share, " %", CASE_AT_LEAST, 8);
	case_rate(c, "and", result.most_share, " %", CASE_AT_MOST, 12);
	case_rate(c, "syncs/s/host", result.syncs_per_host_s, "", CASE_AT_MOST, 60);
}

/* Callers wait for long enough that a thread without a processor is not taken for a refusal. */
static void below_the_limit(struct fleet_case *c, double load, double most, uint32_t seconds)
{
	struct steady_result result =
		run_ten(c, load, STEADY_UNIFORM, STRICT_1000 ", wait: 100ms", seconds);

	case_rate(c, "refused", result.refused_percent, " %", CASE_AT_MOST, most);
}

void case_r9_half(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R9", "ten hosts at 0.5x, %u s", seconds);
	below_the_limit(c, 0.5, 0, seconds);
}

void case_r9_near(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R9", "ten hosts at 0.9x, %u s", seconds);
	below_the_limit(c, 0.9, 2, seconds);
}

static void unevenly(struct fleet_case *c, enum steady_spread spread, double least,
		     uint32_t seconds)
{
	struct steady_result result = run_ten(c, 2, spread, STRICT_1000, seconds);

	case_rate(c, "used", result.used_percent, " %", CASE_AT_LEAST, least);
}

void case_r10_one(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R10", "one of ten hosts at 2x, %u s", seconds);
	unevenly(c, STEADY_ONE, 97, seconds);
}

void case_r10_zipf(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R10", "ten hosts at 2x by Zipf, %u s", seconds);
	unevenly(c, STEADY_ZIPF, 97, seconds);
}

void case_r10_moving(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R10", "2x, on another of ten hosts each 0.5 s, %u s", seconds);
	unevenly(c, STEADY_MOVING, 95, seconds);
}

void case_r13(struct fleet_case *c, uint32_t seconds)
{
	const struct steady steady = {.rule = "name: r, limit: 10/s, consistency: strict",
				      .redis = AS_T50,
				      .hosts = 20,
				      .limit = 10,
				      .threads = 2,
				      .flags = RL_MAY_WAIT,
				      .window_ns = SECOND,
				      .for_ns = seconds * SECOND,
				      .load = 3};
	struct steady_result result;

	case_begin(c, "R13", "twenty hosts, 10/s, at 3x, %u s", seconds);
	steady_run(c->name, &steady, &result);
	case_note(c, "maxW", (double)fleet_most(&result.verdict), "", CASE_AT_MOST, 10);
	case_rate(c, "used", result.used_percent, " %", CASE_AT_LEAST, 95);
}

void case_r14(struct fleet_case *c, uint32_t window_s)
{
	char rule[64];
	const struct steady steady = {.rule = rule,
				      .redis = AS_T50,
				      .hosts = HOSTS,
				      .limit = 100,
				      .threads = 2,
				      .flags = RL_MAY_WAIT,
				      .window_ns = window_s * SECOND,
				      .for_ns = 3 * window_s * SECOND,
				      .load = 2};
	struct steady_result result;

	snprintf(rule, sizeof(rule), "name: r, limit: 100/%us, consistency: strict", window_s);
	case_begin(c, "R14", "ten hosts, 100/%us, at 2x, %u s", window_s, 3 * window_s);
	steady_run(c->name, &steady, &result);
	case_note(c, "maxW", (double)fleet_most(&result.verdict), "", CASE_AT_MOST, 100);
	case_rate(c, "used", result.used_percent, " %", CASE_AT_LEAST, 97);
}
