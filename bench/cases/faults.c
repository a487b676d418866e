/* Replies lost, connections cut, agents killed: R15, and many kills. */
#include "bench/bench.h"
#include "bench/cases/cases.h"

#define KEY "k"

/* Kill one agent after the other, and start each again at once, until then. */
static uint64_t kill_agents(struct fleet *fleet, const struct faulty *f, uint64_t end_ns)
{
	uint64_t next = fleet_now_ns(fleet), seed = case_seed(), kills = 0;
	uint32_t host = 0;

	for (; f->kill_each_ns > 0; host = (host + 1) % f->hosts, kills++) {
		next += f->kill_each_ns / 2 + bench_random(&seed) % f->kill_each_ns;
		if (f->kills > 0 ? kills == f->kills : next >= end_ns)
			break;
		fleet_sleep_until(fleet, next);
		fleet_kill_agent(fleet, host);
		fleet_start_agent(fleet, host);
	}
	if (f->kills == 0)
		fleet_sleep_until(fleet, end_ns);
	return kills;
}

/* Of the key that is furthest above its limit, and of all keys together. */
static void judge_keys(const char *name, const struct fleet_log *log, const struct faulty *f,
		       struct faulty_result *ret)
{
	struct fleet_part part = FLEET_WHOLE;
	uint64_t allowed = 0, exact = 0;

	ret->least_used_percent = 100;
	for (part.key = 0; part.key < (int)f->keys; part.key++) {
		struct verdict v = case_judge(name, log, &part, f->limit, SECOND);

		ret->most = fleet_most(&v) > ret->most ? fleet_most(&v) : ret->most;
		if (case_percent(v.allowed, v.exact) < ret->least_used_percent)
			ret->least_used_percent = case_percent(v.allowed, v.exact);
		allowed += v.allowed;
		exact += v.exact;
	}
	ret->used_percent = case_percent(allowed, exact);
}

void faulty_run(const char *name, const struct faulty *f, struct faulty_result *ret)
{
	const char *const rules[] = {f->rule, NULL};
	const struct fleet_spec spec = {
		.hosts = f->hosts, .rules = rules, .redis = f->redis, .proxy = f->fault != NULL};
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = KEY,
					      .keys = f->keys,
					      .threads = f->threads,
					      .per_second = f->load * f->limit * f->keys,
					      .flags = f->flags,
					      .seed = case_seed()};
	struct fleet_load *load;
	struct fleet_log log;
	struct fleet fleet;
	uint64_t began_ns, syncs;

	*ret = (struct faulty_result){0};
	fleet_start(&fleet, &spec);
	if (f->fault != NULL)
		fleet_fault(&fleet, FLEET_ALL, f->fault);
	syncs = fleet_syncs(&fleet);
	load = fleet_load_start(&fleet, &traffic);
	began_ns = fleet_load_began_ns(load);
	ret->kills = kill_agents(&fleet, f, began_ns + f->for_ns);
	if (f->kill_each_ns == 0)
		fleet_sleep_until(&fleet, began_ns + f->for_ns);
	ret->syncs_per_host_s = (double)(fleet_syncs(&fleet) - syncs) / f->hosts /
				((double)(fleet_now_ns(&fleet) - began_ns) / (double)SECOND);
	fleet_load_end(load, &log);
	if (f->fault != NULL)
		fleet_fault(&fleet, FLEET_ALL, "clear");
	ret->resends = fleet_resends(&fleet);
	judge_keys(name, &log, f, ret);
	fleet_balance(&fleet, &log, KEY, f->keys, &ret->balance);
	fleet_log_free(&log);
	fleet_stop(&fleet);
}

static void note_result(struct fleet_case *c, const struct faulty *f,
			const struct faulty_result *result)
{
	case_note(c, "maxW", (double)result->most, "", CASE_AT_MOST, f->limit);
	case_note(c, "admitted", (double)result->balance.admitted, "", CASE_AT_LEAST, 1);
	case_note(c, "lost", (double)result->balance.lost, "", CASE_EXACTLY, 0);
	case_note(c, "doubled", (double)result->balance.doubled, "", CASE_EXACTLY, 0);
	case_note(c, "used", result->used_percent, " %", CASE_SHOWN, 0);
	case_note(c, "kills", (double)result->kills, "", CASE_AT_LEAST, f->kills);
}

static void run_r15(struct fleet_case *c, const char *fault, bool replies, uint32_t seconds)
{
	const struct faulty faulty = {.rule = "name: r, limit: 1000/s, consistency: strict",
				      .redis = AS_FAULTY,
				      .fault = fault,
				      .hosts = 10,
				      .limit = 1000,
				      .keys = 1,
				      .threads = 4,
				      .flags = RL_MAY_WAIT,
				      .load = 10,
				      .kill_each_ns = 100 * MS,
				      .for_ns = seconds * SECOND};
	struct faulty_result result;

	faulty_run(c->name, &faulty, &result);
	note_result(c, &faulty, &result);
	/*
	 * Lost replies that led to no call sent again would prove nothing. A cut at a moment of its
	 * own rarely meets a call under way.
	 */
	case_note(c, "sent again", (double)result.resends, "", replies ? CASE_AT_LEAST : CASE_SHOWN,
		  1);
}

void case_r15_replies(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R15", "R8 with each 5th reply lost, an agent killed each 100 ms, %u s",
		   seconds);
	run_r15(c, "drop-reply 5", true, seconds);
}

void case_r15_cuts(struct fleet_case *c, uint32_t seconds)
{
	case_begin(c, "R15",
		   "R8 with connections cut each 200 ms, an agent killed each 100 ms, %u s",
		   seconds);
	run_r15(c, "cut-ms 200", false, seconds);
}

void case_agentkill(struct fleet_case *c, uint32_t kills)
{
	const struct faulty faulty = {.rule = "name: r, limit: 200/s, consistency: strict",
				      .redis = AS_FAULTY,
				      .fault = "drop-reply 5",
				      .hosts = 5,
				      .limit = 200,
				      .keys = 8,
				      .threads = 2,
				      .flags = RL_MAY_WAIT,
				      .load = 2,
				      .kill_each_ns = 60 * MS,
				      .kills = kills};
	struct faulty_result result;

	case_begin(c, "kills",
		   "five hosts, eight keys at 2x, each 5th reply lost, %u agents killed", kills);
	faulty_run(c->name, &faulty, &result);
	note_result(c, &faulty, &result);
}
