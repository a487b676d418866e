/* A host that vanishes: R16. */
#include "bench/cases/cases.h"

#define X      (10 * SECOND) /* a host that was silent for so long is taken for gone */
#define BEFORE (1500 * MS)

enum { HOSTS = 10, LIMIT = 1000, VICTIM = 3 };

/* It is sent no more, its agent killed and its segment removed while it holds leases. */
static uint64_t go_through_it(struct fleet *fleet, uint64_t look_ns, struct fleet_log *ret)
{
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r16-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 2 * LIMIT,
					      .flags = RL_MAY_WAIT,
					      .seed = case_seed()};
	struct fleet_load *load = fleet_load_start(fleet, &traffic);
	uint64_t gone_ns;

	fleet_sleep_until(fleet, fleet_load_began_ns(load) + BEFORE);
	fleet_load_leave(load, VICTIM);
	fleet_remove_host(fleet, VICTIM);
	gone_ns = fleet_now_ns(fleet);
	fleet_sleep_until(fleet, gone_ns + X + WHEN + look_ns);
	fleet_load_end(load, ret);
	return gone_ns;
}

void case_r16(struct fleet_case *c, uint32_t look_ms)
{
	static const char *const rules[] = {"name: r, limit: 1000/s, consistency: strict", NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .redis = AS_T50};
	struct fleet_part late = FLEET_WHOLE, of_victim = FLEET_WHOLE;
	uint64_t look_ns = look_ms * MS, gone_ns;
	struct fleet_log log;
	struct fleet fleet;
	struct verdict after;

	case_begin(c, "R16", "ten hosts at 2x, one vanishes with its leases, %u ms of the rest",
		   look_ms);
	fleet_start(&fleet, &spec);
	gone_ns = go_through_it(&fleet, look_ns, &log);
	case_judge_whole(c, &log, LIMIT, SECOND, LIMIT);
	late.from_ns = gone_ns + X + WHEN;
	late.to_ns = late.from_ns + look_ns;
	after = case_judge("R16 after X + T", &log, &late, LIMIT, SECOND);
	of_victim.host = VICTIM;
	case_note(c, "admitted by it", (double)fleet_admitted(&log, &of_victim), "", CASE_AT_LEAST,
		  1);
	case_note(c, "since it went", fleet_last_admit(&log, &of_victim) < gone_ns ? 0 : 1, "",
		  CASE_EXACTLY, 0);
	case_rate(c, "of L/W after 10 s + T", case_percent(after.allowed * SECOND, LIMIT * look_ns),
		  " %", CASE_AT_LEAST, 97);
	fleet_wait_ready(&fleet); /* the others count one host less */
	fleet_log_free(&log);
	fleet_stop(&fleet);
}
