/*
 * rlctl status - the agent's heartbeat first, so that a dead agent is seen at once, then the
 * fleet: is Redis there, do all hosts have ids of their own, what bounds each rule now.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "shm/rl_clock.h"
#include "shm/rl_member.h"
#include "shm/rl_rules.h"
#include "shm/rl_table.h"
#include "tools/fleet.h"
#include "tools/promise.h"
#include "tools/tool.h"

struct status {
	struct tool_agent agent;
	struct fleet fleet;
	struct rl_totals totals;
	uint64_t slots, keys, used, freed, rebased, reaped, evicted, generation;
	int rule_count; /* negative: could not be read */
	struct rl_named_rule rule[RL_RULES_MAX];
	struct rl_rule_totals counts[RL_RULES_MAX]; /* of rule[] */
	struct promise promise;                     /* likewise */
};

/* Relaxed: numbers for people. */
static uint64_t number(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void collect(const struct rl_view *view, struct status *ret)
{
	tool_agent(view, &ret->agent);
	fleet_read(view, &ret->fleet);
	rl_member_totals(view, &ret->totals);
	ret->slots = view->slot_count;
	ret->keys = rl_segment_keys(view->bucket_count);
	ret->used = rl_table_used(view);
	ret->freed = number(&view->live->slots_freed);
	ret->rebased = number(&view->live->slots_rebased);
	ret->reaped = number(&view->live->slots_reaped);
	ret->evicted = number(&view->live->slots_evicted);
	ret->rule_count = rl_rules_list(view, ret->rule, &ret->generation);
	for (int i = 0; i < ret->rule_count; i++) {
		tool_printable(ret->rule[i].name);
		rl_member_rule_totals(view, ret->rule[i].index, ret->rule[i].rule.id,
				      &ret->counts[i]);
	}
	promise_read(view, ret->rule, ret->rule_count > 0 ? (uint32_t)ret->rule_count : 0,
		     &ret->promise);
}

static void print_agent(const struct tool_agent *agent)
{
	char age[RL_TERMS_TEXT];

	rl_span_format(agent->age_ns, age);
	if (agent->alive)
		printf("agent    alive: heartbeat %s ago, pid %" PRIu64 "\n", age, agent->pid);
	else if (agent->pid == 0)
		printf("agent    stopped: last heartbeat %s ago\n", age);
	else
		printf("agent    dead: last heartbeat %s ago, pid was %" PRIu64 "\n", age,
		       agent->pid);
}

static void print_segment(const struct tool *tool, const struct rl_view *view)
{
	time_t made = (time_t)view->hdr->made_real_s;
	char text[32] = "?";
	struct tm tm;

	if (localtime_r(&made, &tm) != NULL)
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	printf("segment  %s, ABI %u.%u, %.1f MiB, made %s\n", tool->segment, view->hdr->abi_major,
	       view->hdr->abi_minor, (double)view->size / (1 << 20), text);
}

static void print_members(const struct rl_view *view, uint32_t members)
{
	uint32_t shown = 0;

	printf("members  %" PRIu32 " process%s", members, members == 1 ? "" : "es");
	for (uint32_t i = 0; i < view->member_count && shown < 16; i++) {
		uint64_t pid = number(&view->member[i].owner);

		if (pid != 0)
			printf("%s%" PRIu64, shown++ == 0 ? ": " : " ", pid);
	}
	puts(members > shown ? " ..." : "");
}

/* In a fleet: the bound in force, and what else the rule goes by. */
static void print_sharing(const struct status *status, const struct rl_rule *rule)
{
	const struct fleet fresh = {.state = RL_FRESH, .hosts = status->fleet.hosts};
	struct rl_fleet_terms terms;
	char text[FLEET_TEXT];

	rl_fleet_unpack(rule->fleet, rule->wait_ns, &terms);
	printf("  %s", fleet_in_force(&status->fleet, rule, text));
	if (terms.consistency == RL_LOCAL)
		return;
	if (status->fleet.state == RL_FRESH)
		printf(" (on_unreachable %s)", rl_unreachable_name(terms.on_unreachable));
	else
		printf(" (when fresh %s)", fleet_in_force(&fresh, rule, text));
}

static bool is_used(const struct rl_rule_totals *counts)
{
	return (counts->allowed | counts->limited | counts->errors | counts->pooled) != 0;
}

/* What was answered under each rule; the rarer things only when they happened. */
static void print_counts(const char *name, const struct rl_rule_totals *counts)
{
	printf("counts   %-24s allowed %" PRIu64 " (near the limit %" PRIu64 "), limited %" PRIu64,
	       name, counts->allowed, counts->near, counts->limited);
	if (counts->shadowed > 0)
		printf(" (passed by shadow %" PRIu64 ")", counts->shadowed);
	if (counts->errors > 0)
		printf(", errors %" PRIu64, counts->errors);
	if (counts->pooled > 0)
		printf(", without a slot %" PRIu64, counts->pooled);
	if (counts->refunded > 0)
		printf(", refunded %" PRIu64, counts->refunded);
	putchar('\n');
}

static void print_rules(const struct status *status)
{
	char text[RL_TERMS_TEXT];

	printf("rules    %d, generation %" PRIu64, status->rule_count, status->generation);
	fleet_print_pushed(&status->fleet, ", ", "");
	putchar('\n');
	for (int i = 0; i < status->rule_count; i++) {
		const struct rl_named_rule *rule = &status->rule[i];

		printf("         %-24s %s", rule->name, fleet_limit(&rule->rule, text));
		if (status->fleet.shared || (rule->rule.fleet & RL_RULE_SPECIAL) != 0)
			print_sharing(status, &rule->rule);
		putchar('\n');
	}
}

/* "below": a bucket's end is all that is known. */
static void print_latency(const struct rl_totals *totals)
{
	uint64_t timed = rl_member_timings(totals);

	if (timed == 0)
		return;
	printf("latency  p50 below %" PRIu64 " ns, p99 below %" PRIu64 " ns, max below %" PRIu64
	       " ns, of %" PRIu64 " checks timed, 1 in %u\n",
	       rl_member_latency(totals, 0.5), rl_member_latency(totals, 0.99),
	       rl_member_latency(totals, 1), timed, RL_LATENCY_ONE_IN);
}

/* Of what the table promises to hold: above 100, new keys may find no slot. */
static double pressure_percent(const struct status *status)
{
	return 100.0 * (double)status->used / (double)status->keys;
}

static void print_table(const struct status *status)
{
	printf("table    %" PRIu64 " of %" PRIu64 " slots used, %.1f %% of its %" PRIu64
	       " keys; freed %" PRIu64 ", re-based %" PRIu64 ", reaped %" PRIu64
	       ", evicted %" PRIu64 "\n",
	       status->used, status->slots, pressure_percent(status), status->keys, status->freed,
	       status->rebased, status->reaped, status->evicted);
}

static void print_text(const struct tool *tool, const struct rl_view *view,
		       const struct status *status)
{
	print_agent(&status->agent);
	printf("state    %s\n", fleet_state_name(status->fleet.state));
	if (status->fleet.shared)
		fleet_print(&status->fleet, tool, status->agent.pid);
	fleet_print_orders(&status->fleet);
	print_segment(tool, view);
	print_table(status);
	print_members(view, status->totals.members);
	printf("totals   allowed %" PRIu64 ", limited %" PRIu64 ", errors %" PRIu64
	       "; without a slot %" PRIu64 "\n",
	       status->totals.allowed, status->totals.limited, status->totals.errors,
	       status->totals.full);
	print_latency(&status->totals);

	if (number(&view->holders->file) != 0)
		printf("in flight given back of dead processes: %" PRIu64 "\n",
		       number(&view->holders->given_back));
	print_rules(status);
	for (int i = 0; i < status->rule_count; i++)
		if (is_used(&status->counts[i]))
			print_counts(status->rule[i].name, &status->counts[i]);
	promise_print(&status->promise, status->rule);
}

static void add_number(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *json_counts(const struct rl_rule_totals *counts)
{
	json_t *object = json_object();

	add_number(object, "allowed", counts->allowed);
	add_number(object, "limited", counts->limited);
	add_number(object, "shadowed", counts->shadowed);
	add_number(object, "errors", counts->errors);
	add_number(object, "near", counts->near);
	add_number(object, "pooled", counts->pooled);
	add_number(object, "refunded", counts->refunded);
	return object;
}

/* null: nothing was timed. buckets[b]: checks of 2^b .. 2^(b+1) - 1 ns. */
static json_t *json_latency(const struct rl_totals *totals)
{
	json_t *object, *buckets;

	if (rl_member_timings(totals) == 0)
		return json_null();
	object = json_object();
	buckets = json_array();
	add_number(object, "one_in", RL_LATENCY_ONE_IN);
	add_number(object, "timed", rl_member_timings(totals));
	add_number(object, "p50_below_ns", rl_member_latency(totals, 0.5));
	add_number(object, "p99_below_ns", rl_member_latency(totals, 0.99));
	add_number(object, "max_below_ns", rl_member_latency(totals, 1));
	for (uint32_t b = 0; b < RL_LATENCY_BUCKETS; b++)
		json_array_append_new(buckets, json_integer((json_int_t)totals->latency[b]));
	json_object_set_new(object, "buckets", buckets);
	return object;
}

static json_t *json_rule(const struct fleet *fleet, const struct rl_named_rule *named,
			 const struct rl_rule_totals *counts)
{
	const struct rl_rule *rule = &named->rule;
	json_t *object = json_pack("{s:o, s:I, s:f}", "name", tool_json_text(named->name), "limit",
				   (json_int_t)rule->limit, "window_s",
				   rl_rule_in_flight(rule) ? 0.0 : (double)rule->window_ns / 1e9);
	char text[FLEET_TEXT];

	fleet_sharing_json(rule, object);
	json_object_set_new(object, "bound", json_integer((json_int_t)fleet_bound(fleet, rule)));
	json_object_set_new(object, "in_force", json_string(fleet_in_force(fleet, rule, text)));
	json_object_set_new(object, "counts", json_counts(counts));
	return object;
}

static json_t *json_rules(const struct status *status)
{
	json_t *list = json_array();

	for (int i = 0; i < status->rule_count; i++) {
		json_t *object = json_rule(&status->fleet, &status->rule[i], &status->counts[i]);

		promise_json_rule(&status->promise, (uint32_t)i, object);
		json_array_append_new(list, object);
	}
	return list;
}

static void print_json(const struct tool *tool, const struct rl_view *view,
		       const struct status *status)
{
	json_t *agent = json_pack("{s:b, s:I, s:f}", "alive", status->agent.alive, "pid",
				  (json_int_t)status->agent.pid, "heartbeat_age_s",
				  (double)status->agent.age_ns / 1e9);
	json_t *table = json_pack(
		"{s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I}", "slots", (json_int_t)status->slots,
		"keys", (json_int_t)status->keys, "used", (json_int_t)status->used,
		"pressure_percent", pressure_percent(status), "evicted",
		(json_int_t)status->evicted, "freed", (json_int_t)status->freed, "rebased",
		(json_int_t)status->rebased, "reaped", (json_int_t)status->reaped);
	json_t *totals = json_pack(
		"{s:I, s:I, s:I, s:I, s:I}", "allowed", (json_int_t)status->totals.allowed,
		"limited", (json_int_t)status->totals.limited, "errors",
		(json_int_t)status->totals.errors, "table_full", (json_int_t)status->totals.full,
		"mended", (json_int_t)status->totals.mended);
	json_t *all = json_pack("{s:o, s:s, s:I, s:o, s:o, s:I, s:o, s:I, s:o}", "segment",
				tool_json_text(tool->segment), "state",
				fleet_state_name(status->fleet.state), "bytes",
				(json_int_t)view->size, "agent", agent, "table", table, "members",
				(json_int_t)status->totals.members, "totals", totals, "generation",
				(json_int_t)status->generation, "rules", json_rules(status));

	json_object_set_new(all, "latency", json_latency(&status->totals));

	json_object_set_new(all, "given_back",
			    json_integer((json_int_t)number(&view->holders->given_back)));
	fleet_json(&status->fleet, all);
	promise_json(&status->promise, all);
	fleet_json_orders(&status->fleet, all);
	json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(all);
}

int cmd_status(const struct tool *tool, int argc, char **argv)
{
	static struct status status;
	struct rl_view view;

	if (argc > 0)
		return tool_error("status takes no argument, not '%s'", argv[0]);
	if (!tool_view(tool, &view))
		return TOOL_ERROR;
	collect(&view, &status);
	if (tool->json)
		print_json(tool, &view, &status);
	else
		print_text(tool, &view, &status);
	rl_segment_unview(&view);
	return status.agent.alive && status.rule_count >= 0 && !fleet_finding(&status.fleet)
		       ? TOOL_FINE
		       : TOOL_FINDING;
}
