/*
 * cases.c - what the harder cases are, their run, and their figures.
 *
 * Each kind in three shapes of traffic for every limit, all at once: so all meet in one table while
 * limits change and slots are re-based and freed. The last phase again, with processes that send
 * requests of all these keys too and are stopped for 1.1 to 3.1 W at random instructions. What such
 * a worker admits when it goes on has its reading from before: it counts there, whole windows ago,
 * and is one unit of cost per stop at most by when the caller learns of it (late).
 */
#include "bench/window/cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/traffic.h"
#include "bench/window/keeper.h"
#include "bench/window/stop.h"

#define MS UINT64_C(1000000)

static const uint32_t limit[] = {1, 7, 22, 23, 24, 45, 46, 47, 69, 70, 100, 1000, 10000};

static const struct kind {
	const char *name;
	uint32_t cost_most, refund_percent, both_percent;
	bool changes;
} kind[] = {
	{"cost 1 .. 7", 7, 0, 0, false},        {"10 % refunds", 1, 10, 0, false},
	{"30 % two rules", 1, 0, 30, false},    {"limit changes", 1, 0, 0, true},
	{"the four together", 7, 10, 30, true},
};

static const struct shape {
	enum pattern pattern;
	double load;
} shape[] = {{PATTERN_POISSON, 2}, {PATTERN_BURSTS, 0}, {PATTERN_ADVERSARY, 0}};

enum {
	LIMITS = sizeof(limit) / sizeof(limit[0]),
	KINDS = sizeof(kind) / sizeof(kind[0]),
	SHAPES = sizeof(shape) / sizeof(shape[0]),
	KEYS_MAX = LIMITS * KINDS * SHAPES,
};

static const struct phase {
	uint64_t window_ns;
	uint32_t to; /* of the limits */
	bool stops;
	uint64_t sample_ms, proof_ms; /* 0 = not */
} phase[] = {
	{50 * MS, 100, false, 2000, 20000},
	{1000 * MS, 10000, false, 4000, 40000},
	{50 * MS, 100, true, 3000, 30000},
	{10000 * MS, 1000, false, 0, 50000}, /* the coarse clock */
};

/* Over all cases. */
static struct {
	uint64_t admitted, given_back, changes, old_limit, stops, late, busy, rolled_back;
	double over_percent, stopped_percent;
} total;

/* One key: where its traffic comes from, and what it is judged by. */
struct sample {
	const struct kind *kind;
	uint32_t base;
	struct hard *hard;
};

static uint64_t handle_of(const struct rl_seg *seg, char kind_of_rule, uint32_t base)
{
	char name[32];

	snprintf(name, sizeof(name), "%c%u", kind_of_rule, base);
	return bench_rule(&seg->view, name);
}

static void prepare(const struct rl_seg *seg, const struct sample *sample, uint64_t *seed)
{
	const struct kind *k = sample->kind;
	struct hard *hard = sample->hard;

	hard->rule = handle_of(seg, k->changes ? 'c' : 'l', sample->base);
	hard->second_rule = handle_of(seg, 's', sample->base);
	hard->key = bench_random(seed);
	hard->cost_most = k->cost_most;
	hard->cost_limit = sample->base;
	hard->refund_percent = k->refund_percent;
	hard->both_percent = k->both_percent;
	for (uint32_t h = 0; h < HARD_HANDS; h++)
		hard->hand[h].seed = bench_random(seed);
}

static struct source source_of(const struct sample *sample, const struct shape *s,
			       uint64_t window_ns, uint64_t *seed)
{
	return (struct source){
		.pattern = s->pattern,
		.load = s->load,
		.limit = sample->base,
		.window_ns = window_ns,
		.seed = bench_random(seed),
		.hard = sample->hard,
	};
}

static void check_limits(const struct keeper *keeper, const struct sample *sample)
{
	for (uint32_t h = 0; h < HARD_HANDS; h++)
		for (size_t i = 0; i < sample->hard->hand[h].count; i++) {
			const struct deed *deed = &sample->hard->hand[h].deed[i];

			if (sample->kind->changes && deed->limit[0] != 0)
				total.old_limit +=
					!keeper_allows(keeper, sample->base, deed->begin_ns,
						       deed->end_ns, deed->limit[0]);
		}
}

static void add(struct units_verdict *to, const struct units_verdict *v)
{
	to->admitted += v->admitted;
	to->given_back += v->given_back;
	to->late += v->late;
	if (v->over_by_reading > to->over_by_reading)
		to->over_by_reading = v->over_by_reading;
	if (v->over_by_span > to->over_by_span)
		to->over_by_span = v->over_by_span;
	if (v->over_percent > to->over_percent)
		to->over_percent = v->over_percent;
}

/* Under its own rule, and under the second one. */
static void judge_sample(const struct sample *sample, uint64_t window_ns, struct units_verdict *sum)
{
	for (uint32_t which = 0; which < 2; which++) {
		struct units_verdict v;
		size_t count;
		struct unit *unit = hard_units(sample->hard, which, &count);

		judge_units(unit, count, window_ns, &v);
		free(unit);
		if (v.over_percent > 0)
			printf("  rule %c%u: %llu above by reading, %llu by span\n",
			       which == 1              ? 's'
			       : sample->kind->changes ? 'c'
						       : 'l',
			       sample->base, (unsigned long long)v.over_by_reading,
			       (unsigned long long)v.over_by_span);
		if (which == 1)
			v.admitted = v.given_back = v.late = 0; /* the same requests */
		add(sum, &v);
	}
}

static void show_kind(const struct phase *p, const struct kind *k, const struct sample *sample,
		      size_t count)
{
	struct units_verdict sum = {0};
	uint64_t kept = 0, rolled_back = 0, refused = 0;

	for (size_t i = 0; i < count; i++) {
		if (sample[i].kind != k)
			continue;
		judge_sample(&sample[i], p->window_ns, &sum);
		for (uint32_t h = 0; h < HARD_HANDS; h++) {
			kept += sample[i].hard->hand[h].kept;
			rolled_back += sample[i].hard->hand[h].rolled_back;
			refused += sample[i].hard->hand[h].refused;
			total.busy += sample[i].hard->hand[h].busy;
		}
	}
	printf("  %-19s %9llu %9llu %8.3f %9llu %8llu %8llu %6llu\n", k->name,
	       (unsigned long long)refused, (unsigned long long)sum.admitted, sum.over_percent,
	       (unsigned long long)sum.given_back, (unsigned long long)kept,
	       (unsigned long long)rolled_back, (unsigned long long)sum.late);
	total.admitted += sum.admitted;
	total.given_back += sum.given_back;
	total.rolled_back += rolled_back;
	total.late += p->stops ? sum.late : 0;
	if (p->stops && sum.over_percent > total.stopped_percent)
		total.stopped_percent = sum.over_percent;
	if (!p->stops && sum.over_percent > total.over_percent)
		total.over_percent = sum.over_percent;
}

static size_t make_samples(const struct rl_seg *seg, const struct phase *p, struct hard *hard,
			   uint64_t *seed, struct sample *sample, struct source *source)
{
	size_t count = 0;

	for (uint32_t l = 0; l < LIMITS && limit[l] <= p->to; l++)
		for (uint32_t k = 0; k < KINDS; k++)
			for (uint32_t s = 0; s < SHAPES; s++, count++) {
				sample[count] = (struct sample){&kind[k], limit[l], &hard[count]};
				prepare(seg, &sample[count], seed);
				source[count] =
					source_of(&sample[count], &shape[s], p->window_ns, seed);
			}
	return count;
}

static void run(struct rl_seg *seg, const struct phase *p, uint64_t duration_ms, uint64_t *seed)
{
	static struct sample sample[KEYS_MAX];
	static struct source source[KEYS_MAX];
	static struct log log[KEYS_MAX];
	static struct keeper keeper;
	struct hard *hard = stop_keys(KEYS_MAX);
	struct stop stop = {.seg = seg, .hard = hard, .window_ns = p->window_ns, .seed = *seed};
	size_t count;

	keeper_start(&keeper, seg, limit, LIMITS, p->window_ns, bench_random(seed));
	count = make_samples(seg, p, hard, seed, sample, source);
	stop.count = count;
	if (p->stops)
		stop_start(&stop);
	traffic_run(seg, source, count, duration_ms * MS, log);
	if (p->stops)
		stop_end(&stop);
	keeper_stop(&keeper);
	printf("W = %llu ms, limits 1 .. %u, %.1f s, %zu changes, %llu stops\n",
	       (unsigned long long)(p->window_ns / MS), p->to, (double)duration_ms / 1000,
	       keeper.changes - 1, (unsigned long long)stop.stops);
	for (uint32_t k = 0; k < KINDS; k++)
		show_kind(p, &kind[k], sample, count);
	for (size_t i = 0; i < count; i++) {
		check_limits(&keeper, &sample[i]);
		free(log[i].request);
	}
	total.changes += keeper.changes - 1;
	total.stops += stop.stops;
	stop_free(hard, KEYS_MAX);
	fflush(stdout);
}

void cases_run(bool all, uint64_t *seed)
{
	struct bench_seg bench;

	bench_seg_make(&bench, 2000);
	printf("  %-19s %9s %9s %8s %9s %8s %8s %6s\n", "harder traffic", "refused", "admitted",
	       "excess %", "refunded", "kept", "rolled b", "late");
	for (size_t i = 0; i < sizeof(phase) / sizeof(phase[0]); i++) {
		uint64_t duration_ms = all ? phase[i].proof_ms : phase[i].sample_ms;

		if (duration_ms > 0)
			run(&bench.seg, &phase[i], duration_ms, seed);
	}
	bench_seg_drop(&bench);
}

bool cases_failed(void)
{
	bench_figure("window_hard_units", (double)total.admitted, "units");
	bench_figure("window_hard_excess_max_percent", total.over_percent, "%");
	bench_figure("window_stopped_excess_max_percent", total.stopped_percent, "%");
	bench_figure("window_stops", (double)total.stops, "stops");
	bench_figure("window_late_admits", (double)total.late, "admits");
	bench_figure("window_refunded_units", (double)total.given_back, "units");
	bench_figure("window_rolled_back", (double)total.rolled_back, "requests");
	bench_figure("window_limit_changes", (double)total.changes, "changes");
	bench_figure("window_busy_checks", (double)total.busy, "checks");
	bench_figure("window_old_limit_checks", (double)total.old_limit, "checks");
	return total.over_percent > 0 || total.stopped_percent > 0 || total.old_limit > 0 ||
	       total.late > total.stops;
}
