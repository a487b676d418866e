/* Cold hosts, all hit at once: R11, R12. */
#include <stdio.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

enum { HOSTS = 10, LIMIT = 1000, KINDS = 3, OPEN_MOST = 3 };

static const char *const rules[] = {
	"name: strict, limit: 1000/s, consistency: strict, wait: 200ms",
	"name: deny, limit: 1000/s, consistency: bounded, beta: 10%, no_credit: deny",
	"name: allow, limit: 1000/s, consistency: bounded, beta: 10%, no_credit: allow",
	NULL,
};

/* Callers of the strict rule may wait. */
static const struct kind {
	const char *name;
	uint32_t threads, flags, most;
} kinds[KINDS] = {
	{"strict", 25, RL_MAY_WAIT, LIMIT},
	{"deny", 2, 0, LIMIT + LIMIT / 10},
	{"allow", 2, 0, LIMIT + LIMIT / 5},
};

static void start(struct fleet *fleet)
{
	const struct fleet_spec spec = {
		.hosts = HOSTS, .rules = rules, .redis = AS_T50, .without_totals = true};

	fleet_start(fleet, &spec);
}

struct verdict flash_run(struct fleet *fleet, const char *rule, uint32_t threads, uint32_t flags)
{
	static uint32_t flashes;
	char key[48];
	const struct fleet_traffic traffic = {.rule = rule,
					      .key = key,
					      .keys = 1,
					      .threads = threads,
					      .at_once = LIMIT,
					      .flags = flags,
					      .seed = case_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_log log;
	struct verdict v;

	snprintf(key, sizeof(key), "%s-%u-", rule, flashes++);
	fleet_load_run(fleet, &traffic, 0, &log);
	v = case_judge(rule, &log, &whole, LIMIT, SECOND);
	fleet_log_free(&log);
	return v;
}

/* A host that gets no processor for 100 ms stops waiting: then another try, on a new key. */
static uint64_t strict_flash(struct fleet *fleet, uint64_t *most)
{
	struct verdict v;

	for (int try = 0; try < 3; try++) {
		v = flash_run(fleet, kinds[0].name, kinds[0].threads, kinds[0].flags);
		*most = fleet_most(&v) > *most ? fleet_most(&v) : *most;
		if (v.allowed == LIMIT)
			break;
	}
	return v.allowed;
}

static void note_most(struct fleet_case *c, const uint64_t most[KINDS])
{
	for (int k = 0; k < KINDS; k++)
		case_note(c, kinds[k].name, (double)most[k], "", CASE_AT_MOST, kinds[k].most);
}

void case_r11(struct fleet_case *c, uint32_t rounds)
{
	uint64_t most[KINDS] = {0}, least = LIMIT;
	struct fleet fleet;

	case_begin(c, "R11", "1000 requests to each of ten cold hosts at once, %u rounds", rounds);
	start(&fleet);
	for (uint32_t i = 0; i < rounds; i++) {
		uint64_t admitted = strict_flash(&fleet, &most[0]);

		least = admitted < least ? admitted : least;
		for (int k = 1; k < KINDS; k++) {
			struct verdict v =
				flash_run(&fleet, kinds[k].name, kinds[k].threads, kinds[k].flags);

			most[k] = fleet_most(&v) > most[k] ? fleet_most(&v) : most[k];
		}
	}
	fleet_stop(&fleet);
	note_most(c, most);
	case_rate(c, "strict admitted", (double)least, "", CASE_EXACTLY, LIMIT);
}

/* Bursts under way, of one rule; the oldest ends when there are too many. */
struct series {
	struct fleet_load *open[OPEN_MOST];
	struct fleet_log log;
};

static void end_oldest(struct series *series)
{
	struct fleet_log log;

	if (series->open[0] != NULL) {
		fleet_load_end(series->open[0], &log);
		fleet_log_add(&series->log, &log);
	}
	for (int i = 1; i < OPEN_MOST; i++)
		series->open[i - 1] = series->open[i];
	series->open[OPEN_MOST - 1] = NULL;
}

static void burst(struct fleet *fleet, const struct kind *kind, uint32_t hosts,
		  struct series *series)
{
	const struct fleet_traffic traffic = {.rule = kind->name,
					      .key = kind->name,
					      .keys = 1,
					      .hosts = hosts,
					      .threads = kind->threads,
					      .at_once = LIMIT,
					      .flags = kind->flags,
					      .seed = case_seed()};

	end_oldest(series);
	series->open[OPEN_MOST - 1] = fleet_load_start(fleet, &traffic);
}

static void judge_series(struct fleet_case *c, struct series series[KINDS])
{
	const struct fleet_part whole = FLEET_WHOLE;
	uint64_t most[KINDS];
	double used = 0;

	for (int k = 0; k < KINDS; k++) {
		struct verdict v;

		for (int i = 0; i < OPEN_MOST; i++)
			end_oldest(&series[k]);
		v = case_judge(kinds[k].name, &series[k].log, &whole, LIMIT, SECOND);
		most[k] = fleet_most(&v);
		if (k == 0)
			used = case_percent(v.allowed, v.exact);
		fleet_log_free(&series[k].log);
	}
	note_most(c, most);
	case_rate(c, "strict used", used, " %", CASE_AT_LEAST, 90);
}

/* The three kinds one third of the time apart: each finds the processors free. */
void case_r12_again(struct fleet_case *c, uint32_t rounds)
{
	struct series series[KINDS] = {0};
	struct fleet fleet;
	uint64_t next;

	case_begin(c, "R12", "1000 requests to each of ten hosts at once, each 1.05 W, %u times",
		   rounds);
	start(&fleet);
	next = fleet_now_ns(&fleet);
	for (uint32_t i = 0; i < rounds * KINDS; i++, next += 350 * MS) {
		fleet_sleep_until(&fleet, next);
		burst(&fleet, &kinds[i % KINDS], 0, &series[i % KINDS]);
	}
	judge_series(c, series);
	fleet_stop(&fleet);
}

void case_r12_rolling(struct fleet_case *c, uint32_t bursts)
{
	struct series series[KINDS] = {0};
	struct fleet fleet;
	uint64_t next;

	case_begin(c, "R12", "1000 requests at once to one of ten hosts each T, %u times", bursts);
	start(&fleet);
	next = fleet_now_ns(&fleet);
	for (uint32_t i = 0; i < bursts; i++, next += T) {
		fleet_sleep_until(&fleet, next);
		for (int k = 0; k < KINDS; k++)
			burst(&fleet, &kinds[k], 1u << i % HOSTS, &series[k]);
	}
	judge_series(c, series);
	fleet_stop(&fleet);
}
