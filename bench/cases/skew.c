/* Hosts whose clocks are off and step: R18. */
#include "tests/skew/skew.h"
#include "bench/cases/cases.h"

enum { HOSTS = 10, LIMIT = 1000, STEPS = 4 };

static void set_offset(struct fleet *fleet, uint32_t host, int64_t ns)
{
	/* Relaxed: a number that stands for itself. */
	atomic_store_explicit(fleet->host[host].offset_ns, ns, memory_order_relaxed);
}

/* Hosts do not begin with a clock that jumps: theirs are off before their agents start. */
static void start(struct fleet *fleet)
{
	static const char *const rules[] = {"name: r, limit: 1000/s, consistency: strict", NULL};
	static int64_t offset[HOSTS];
	const struct fleet_spec spec = {.hosts = HOSTS,
					.rules = rules,
					.redis = AS_T50,
					.set_clock = skew_thread,
					.offset_ns = offset};

	for (int h = 0; h < HOSTS; h++)
		offset[h] = ((int64_t)h * 1000 / (HOSTS - 1) - 500) * (int64_t)MS;
	fleet_start(fleet, &spec);
}

void case_r18(struct fleet_case *c, uint32_t seconds)
{
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r18-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 2 * LIMIT,
					      .flags = RL_MAY_WAIT,
					      .seed = case_seed()};
	struct fleet_part part = FLEET_WHOLE;
	struct fleet_load *load;
	struct fleet_log log;
	struct fleet fleet;
	struct verdict v;
	uint64_t least = UINT64_MAX;

	case_begin(c, "R18", "ten hosts at 2x, clocks off by up to 500 ms, one steps by 2 s, %u s",
		   seconds);
	start(&fleet);
	load = fleet_load_start(&fleet, &traffic);
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + seconds * SECOND / 2);
	set_offset(&fleet, STEPS, (int64_t)(2 * SECOND));
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + seconds * SECOND);
	fleet_load_end(load, &log);
	fleet_stop(&fleet);
	v = case_judge_whole(c, &log, LIMIT, SECOND, LIMIT);
	for (part.host = 0; part.host < HOSTS; part.host++) {
		uint64_t admitted = fleet_admitted(&log, &part);

		least = admitted < least ? admitted : least;
	}
	fleet_log_free(&log);
	case_rate(c, "used", case_percent(v.allowed, v.exact), " %", CASE_AT_LEAST, 97);
	case_note(c, "least of a host", (double)least, "", CASE_AT_LEAST, 1);
}
