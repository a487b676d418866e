/* Redis that does not answer for a while, R17; and one that forgets, R19. */
#include "bench/bench.h"
#include "bench/cases/cases.h"

static struct fleet_load *send(struct fleet *fleet, const struct outage *o, const char *key,
			       uint32_t batch)
{
	const struct fleet_traffic traffic = {
		.rule = "r",
		.key = key,
		.keys = 1,
		.threads = batch > 0 ? 1 : 2,
		.per_second = o->load * o->limit * (double)SECOND / (double)o->window_ns,
		.batch = batch,
		.seed = case_seed() + batch,
	};

	return fleet_load_start(fleet, &traffic);
}

static void go_through_it(struct fleet *fleet, const struct outage *o, struct outage_result *ret)
{
	struct fleet_load *probe = o->probe_batch > 0 ? send(fleet, o, "p", o->probe_batch) : NULL;
	struct fleet_load *load = send(fleet, o, "k", 0);

	ret->start_ns = fleet_load_began_ns(load);
	fleet_sleep_until(fleet, ret->start_ns + o->before_ns);
	fleet_stop_redis(fleet);
	ret->stop_ns = fleet_now_ns(fleet);
	fleet_sleep_until(fleet, ret->stop_ns + OUTAGE_NS);
	ret->continue_ns = fleet_now_ns(fleet);
	fleet_continue_redis(fleet);
	fleet_sleep_until(fleet, ret->continue_ns + o->after_ns);
	fleet_load_end(load, &ret->log);
	if (probe != NULL)
		fleet_load_end(probe, &ret->probes);
}

static void judge_admits(const char *name, const struct outage *o, struct outage_result *ret)
{
	const struct fleet_part outage = {ret->stop_ns + STALE_NS, ret->continue_ns, FLEET_ALL,
					  FLEET_ALL};
	struct fleet_part around = FLEET_WHOLE;
	struct verdict v;

	if (ret->stop_ns > o->window_ns)
		around.from_ns = ret->stop_ns - o->window_ns;
	v = case_judge(name, &ret->log, &around, o->limit, o->window_ns);
	ret->most = fleet_most(&v);
	ret->admitted_percent =
		100.0 * (double)fleet_admitted(&ret->log, &outage) /
		((double)(outage.to_ns - outage.from_ns) / (double)o->window_ns * o->limit);
}

static double recovery_ms(const struct outage *o, const struct outage_result *result)
{
	uint64_t last = 0;

	for (int h = 0; h < (int)o->hosts; h++) {
		uint64_t at = fleet_recovered_ns(&result->log, h, result->continue_ns);

		last = at > last ? at : last;
	}
	return (double)(last == UINT64_MAX ? o->after_ns : last - result->continue_ns) / (double)MS;
}

/* An outage that no host noticed would flatter all numbers. */
static double said_percent(const struct outage_result *result)
{
	uint64_t stale = 0, all = 0;

	for (size_t i = 0; i < result->log.count; i++) {
		const struct fleet_request *r = &result->log.request[i];

		if (r->now_ns < result->stop_ns + 4 * STALE_NS || r->now_ns > result->continue_ns)
			continue;
		all++;
		stale += r->state == RL_STATE_STALE;
	}
	return case_percent(stale, all);
}

void outage_run(const char *name, const struct outage *o, struct outage_result *ret)
{
	const char *const rules[] = {o->rule, NULL};
	const struct fleet_spec spec = {.hosts = o->hosts, .rules = rules, .redis = o->redis};
	struct fleet fleet;

	*ret = (struct outage_result){0};
	fleet_start(&fleet, &spec);
	go_through_it(&fleet, o, ret);
	fleet_stop(&fleet);
	judge_admits(name, o, ret);
	ret->recovery_ms = recovery_ms(o, ret);
	ret->said_percent = said_percent(ret);
}

static void run_r17(struct fleet_case *c, const struct outage *o, uint32_t most, uint32_t least)
{
	struct outage_result result;

	outage_run(c->name, o, &result);
	fleet_log_free(&result.log);
	case_rate(c, "maxW", (double)result.most, "", CASE_AT_MOST, most);
	case_rate(c, "admitted meanwhile", result.admitted_percent, " % of L/W",
		  least > 0 ? CASE_AT_LEAST : CASE_SHOWN, least);
	case_rate(c, "said so", result.said_percent, " %", CASE_AT_LEAST, 90);
	case_rate(c, "normal after", result.recovery_ms, " ms", CASE_AT_MOST, 300);
}

void case_r17_second(struct fleet_case *c, uint32_t load_factor)
{
	const struct outage outage = {.rule = "name: r, limit: 1000/s, consistency: bounded, "
					      "beta: 10%, on_unreachable: share",
				      .redis = AS_T50,
				      .hosts = 3,
				      .limit = 1000,
				      .window_ns = SECOND,
				      .before_ns = 2 * SECOND,
				      .after_ns = 2 * SECOND,
				      .load = load_factor};

	case_begin(c, "R17", "three hosts at %ux, share, W = 1 s, Redis stopped for 5 s",
		   load_factor);
	run_r17(c, &outage, 1050, 60);
}

/* In the outage the window is half full. */
void case_r17_minute(struct fleet_case *c, uint32_t load_factor)
{
	const struct outage outage = {.rule = "name: r, limit: 60000/60s, consistency: bounded, "
					      "beta: 10%, on_unreachable: share",
				      .redis = AS_T50,
				      .hosts = 3,
				      .limit = 60000,
				      .window_ns = 60 * SECOND,
				      .before_ns = 15 * SECOND,
				      .after_ns = 75 * SECOND,
				      .load = load_factor};

	case_begin(c, "R17", "three hosts at %ux, share, W = 60 s, Redis stopped for 5 s",
		   load_factor);
	run_r17(c, &outage, 60300, 0);
}

void case_r19(struct fleet_case *c, uint32_t flushes)
{
	static const char *const rules[] = {"name: r, limit: 1000/s, consistency: strict", NULL};
	const struct fleet_spec spec = {.hosts = 10, .rules = rules, .redis = AS_T50};
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r19-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 10000,
					      .flags = RL_MAY_WAIT,
					      .seed = case_seed()};
	uint64_t most = 0, after_most = 0, admitted_least = UINT64_MAX;
	struct fleet fleet;

	case_begin(c, "R19", "ten hosts at 10x, FLUSHALL, %u times", flushes);
	fleet_start(&fleet, &spec);
	for (uint32_t i = 0; i < flushes; i++) {
		struct fleet_part part = FLEET_WHOLE;
		struct fleet_load *load = fleet_load_start(&fleet, &traffic);
		struct fleet_log log;
		uint64_t flush_ns = fleet_load_began_ns(load) + 1500 * MS;
		struct verdict v;

		fleet_sleep_until(&fleet, flush_ns);
		fleet_flush_redis(&fleet);
		part.from_ns = fleet_now_ns(&fleet) + SECOND;
		fleet_sleep_until(&fleet, part.from_ns + 2 * SECOND);
		fleet_load_end(load, &log);
		v = case_judge("R19", &log, &FLEET_WHOLE, 1000, SECOND);
		most = fleet_most(&v) > most ? fleet_most(&v) : most;
		v = case_judge("R19 after W", &log, &part, 1000, SECOND);
		after_most = fleet_most(&v) > after_most ? fleet_most(&v) : after_most;
		admitted_least = v.allowed < admitted_least ? v.allowed : admitted_least;
		fleet_log_free(&log);
	}
	fleet_stop(&fleet);
	case_note(c, "maxW", (double)most, "", CASE_AT_MOST, 2000);
	case_note(c, "after W", (double)after_most, "", CASE_AT_MOST, 1000);
	case_rate(c, "in 2 W of that", (double)admitted_least, "", CASE_AT_LEAST, 1900);
}
