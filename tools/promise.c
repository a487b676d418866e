#include "tools/promise.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_SHOWN 24 /* characters of a rule's name, in a table */
#define CELL       16 /* bytes for a number in few characters */

void promise_read(const struct rl_view *view, const struct rl_named_rule *rule, uint32_t count,
		  struct promise *ret)
{
	static struct rl_watch_sum sum[RL_RULES_MAX];
	uint64_t age_ns = 0;

	rl_watch_read_host(view, &ret->host);
	ret->count = count;
	for (uint32_t i = 0; i < count; i++) {
		rl_watch_read_rule(view, &ret->host, &rule[i].rule, &ret->rule[i]);
		if (!rl_rule_is_local(&rule[i].rule) && ret->rule[i].age_ns > age_ns)
			age_ns = ret->rule[i].age_ns;
	}
	ret->counted = ret->host.shared && age_ns > RL_WATCH_OLD_NS;
	if (!ret->counted)
		return;
	/* Nobody has looked for a while: what the keys hold is counted here. How long that is not
	 * told is at least since then. */
	rl_watch_count(view, rule, count, sum);
	for (uint32_t i = 0; i < count; i++) {
		sum[i].untold_ns = ret->rule[i].sum.untold_ns;
		sum[i].stale_ns = ret->rule[i].sum.stale_ns;
		ret->rule[i].sum = sum[i];
	}
}

/* In five characters: 99999, 1.23M. */
static char *few(uint64_t n, char text[CELL])
{
	static const char unit[] = "kMGTPE";
	double part = (double)n;
	int i = -1;

	if (n <= 99999) {
		snprintf(text, CELL, "%" PRIu64, n);
		return text;
	}
	for (; part >= 999.5 && i < 5; i++)
		part /= 1000;
	snprintf(text, CELL, "%.3g%c", part, unit[i]);
	return text;
}

/* In six: 12 ms, 3.2 s, 15 m. */
static char *span(uint64_t ns, char text[CELL])
{
	double s = (double)ns / 1e9;

	if (s < 9.95)
		snprintf(text, CELL, s < 0.9995 ? "%.0f ms" : "%.1f s", s < 0.9995 ? s * 1e3 : s);
	else if (s < 600)
		snprintf(text, CELL, "%.0f s", s);
	else if (s < 36000)
		snprintf(text, CELL, "%.0f m", s / 60);
	else
		snprintf(text, CELL, s < 360000 ? "%.0f h" : "%.0f d",
			 s < 360000 ? s / 3600 : s / 86400);
	return text;
}

static char *bound(const struct rl_bound *of, char text[2 * CELL])
{
	char number[CELL];

	if (of->units == RL_BOUND_NONE)
		snprintf(text, 2 * CELL, "none");
	else
		snprintf(text, 2 * CELL, "%s %s", few(of->units, number),
			 of->of_fleet ? "fleet" : "host");
	return text;
}

static void print_sum(const struct rl_watch_rule_now *now)
{
	char stale[CELL] = "-", old[CELL] = "-", units[CELL], credit[CELL], active[CELL];

	if (now->sum.active > 0)
		span(now->sum.stale_ns, stale);
	if (now->sum.untold > 0)
		span(now->sum.untold_ns, old);
	printf(" %7s %7s %6s %7s %7s", stale, few(now->sum.untold, units), old,
	       few(now->sum.credit, credit), few(now->sum.active, active));
}

/* Of rules that hosts share; the others' bound stands with the rules. */
static void print_sums(const struct promise *promise, const struct rl_named_rule *rule)
{
	bool first = true;

	for (uint32_t i = 0; i < promise->count; i++) {
		char text[2 * CELL];

		if (rl_rule_is_local(&rule[i].rule))
			continue;
		if (first)
			printf("promise  %-*s %12s %7s %7s %6s %7s %7s\n", NAME_SHOWN - 8, "rule",
			       "bound", "stale", "untold", "for", "credit", "active");
		first = false;
		printf("         %-*.*s %12s", NAME_SHOWN - 8, NAME_SHOWN - 8, rule[i].name,
		       bound(&promise->rule[i].bound, text));
		print_sum(&promise->rule[i]);
		putchar('\n');
	}
	if (!first && promise->counted)
		puts("         (counted just now, as no agent does; stale and for: since it last "
		     "did)");
}

static void print_excess(uint64_t excess, uint64_t ppm)
{
	char number[CELL];

	printf(" %6s %5.1f%%", few(excess, number), (double)ppm / 1e4);
}

static void print_audits(const struct promise *promise, const struct rl_named_rule *rule)
{
	const struct rl_watch_host *host = &promise->host;
	bool first = true;

	for (uint32_t i = 0; i < promise->count; i++) {
		const struct rl_watch_audit *audit = &promise->rule[i].audit;
		char one_in[CELL], keys[CELL], admits[CELL], windows[CELL];

		if (audit->admits == 0)
			continue;
		if (first)
			printf("audit    %-*s %6s %4s %6s %7s  %-13s %s\n", NAME_SHOWN - 8, "rule",
			       "1 in", "keys", "admits", "windows", "excess, ever", "last minute");
		first = false;
		printf("         %-*.*s %6s %4s %6s %7s", NAME_SHOWN - 8, NAME_SHOWN - 8,
		       rule[i].name, few(audit->one_in, one_in), few(audit->keys, keys),
		       few(audit->admits, admits),
		       few(audit->windows + audit->fleet_windows, windows));
		print_excess(audit->excess, audit->excess_ppm);
		print_excess(audit->lately, audit->lately_ppm);
		putchar('\n');
	}
	if (host->missed + host->unkept > 0)
		printf("         not measured: %" PRIu64 " admits missed, %" PRIu64 " not kept\n",
		       host->missed, host->unkept);
}

static void print_clock(const struct rl_watch_host *host)
{
	double ms = (double)host->skew_ns / 1e6;
	char age[RL_TERMS_TEXT];

	if (!host->skew_known)
		return;
	printf("clock    the store's is %.3g ms %s this host's (+- %.2g ms)", fabs(ms),
	       ms < 0 ? "behind" : "ahead of", (double)host->skew_by_ns / 1e6);
	if (host->steps > 0)
		printf("; stepped %" PRIu64 " time%s, last by %.3g ms %s ago", host->steps,
		       host->steps == 1 ? "" : "s", (double)host->step_ns / 1e6,
		       rl_span_format(host->step_age_ns, age));
	putchar('\n');
}

void promise_print(const struct promise *promise, const struct rl_named_rule *rule)
{
	if (promise->host.shared) {
		print_clock(&promise->host);
		print_sums(promise, rule);
	}
	print_audits(promise, rule);
}

static json_t *seconds(uint64_t ns)
{
	return ns == UINT64_MAX ? json_null() : json_real((double)ns / 1e9);
}

static json_t *whole(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *json_clock(const struct rl_watch_host *host)
{
	json_t *object;

	if (!host->skew_known)
		return json_null();
	object = json_pack("{s:f, s:f, s:o, s:o}", "skew_s", (double)host->skew_ns / 1e9,
			   "uncertainty_s", (double)host->skew_by_ns / 1e9, "age_s",
			   seconds(host->skew_age_ns), "steps", whole(host->steps));
	if (host->steps > 0) {
		json_object_set_new(object, "last_step_s", json_real((double)host->step_ns / 1e9));
		json_object_set_new(object, "last_step_age_s", seconds(host->step_age_ns));
	}
	return object;
}

static json_t *json_parts(const struct rl_watch_host *host)
{
	static const char *const state[] = {"fresh", "stale", "alone"};
	json_t *list = json_array();

	for (uint32_t p = 0; p < RL_PARTS; p++)
		json_array_append_new(
			list, json_pack("{s:s, s:o, s:o, s:o}", "state", state[host->part[p].state],
					"unanswered_s", seconds(host->part[p].silent_ns),
					"last_answer_age_s", seconds(host->part[p].answered_ns),
					"lease_left_s", seconds(host->part[p].lease_ns)));
	return list;
}

void promise_json(const struct promise *promise, json_t *all)
{
	const struct rl_watch_host *host = &promise->host;

	json_object_set_new(all, "clock", host->shared ? json_clock(host) : json_null());
	json_object_set_new(all, "partitions", host->shared ? json_parts(host) : json_null());
	json_object_set_new(all, "audit",
			    json_pack("{s:o, s:o, s:o}", "noted", whole(host->noted), "missed",
				      whole(host->missed), "not_kept", whole(host->unkept)));
}

static json_t *json_bound(const struct rl_bound *of)
{
	return json_pack("{s:o, s:s}", "units",
			 of->units == RL_BOUND_NONE ? json_null() : whole(of->units), "of",
			 of->of_fleet ? "fleet" : "host");
}

static json_t *json_sum(const struct promise *promise, const struct rl_watch_rule_now *now)
{
	if (now->age_ns == UINT64_MAX && !promise->counted)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "age_s",
			 promise->counted ? json_real(0) : seconds(now->age_ns), "active_keys",
			 whole(now->sum.active), "credit", whole(now->sum.credit), "untold",
			 whole(now->sum.untold), "untold_for_s", seconds(now->sum.untold_ns),
			 "stale_s", seconds(now->sum.stale_ns));
}

static json_t *json_audit(const struct rl_watch_audit *audit)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:f}", "one_in",
			 whole(audit->one_in), "keys", whole(audit->keys), "admits",
			 whole(audit->admits), "windows", whole(audit->windows), "fleet_windows",
			 whole(audit->fleet_windows), "excess", whole(audit->excess),
			 "excess_percent", (double)audit->excess_ppm / 1e4, "excess_last_minute",
			 whole(audit->lately), "excess_last_minute_percent",
			 (double)audit->lately_ppm / 1e4);
}

void promise_json_rule(const struct promise *promise, uint32_t i, json_t *object)
{
	const struct rl_watch_rule_now *now = &promise->rule[i];

	json_object_set_new(object, "bound_in_force", json_bound(&now->bound));
	json_object_set_new(object, "slots", whole(now->slots));
	json_object_set_new(object, "promise", json_sum(promise, now));
	json_object_set_new(object, "audit", json_audit(&now->audit));
}
