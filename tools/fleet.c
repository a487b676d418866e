#include "tools/fleet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/rl_clock.h"

#define OTHER_LATELY_NS (600 * RL_SECOND_NS) /* a twin that is gone for so long is not news */
#define SILENT_SHOWN_NS UINT64_C(50000000)   /* younger calls are simply under way */

/* Relaxed: numbers for people. */
static uint64_t number(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static uint64_t age(uint64_t since_ns, uint64_t now_ns)
{
	return now_ns > since_ns ? now_ns - since_ns : 0;
}

/* words is ret's size in words of 8 bytes; ret has one byte more when there may be no NUL. */
static void read_text(const _Atomic uint64_t *word, size_t words, char *ret, size_t size)
{
	memset(ret, 0, size);
	for (size_t i = 0; i < words; i++) {
		uint64_t bytes = number(&word[i]);

		memcpy(ret + 8 * i, &bytes, sizeof(bytes));
	}
	ret[size - 1] = '\0';
	tool_printable(ret);
}

static void read_parts(const struct rl_view *view, uint64_t now_ns, struct fleet *ret)
{
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		enum rl_state state = rl_shared_state(view, p, now_ns);
		uint64_t since_ns = number(&view->fleet->part[p].silent_ns);

		if (state > ret->state)
			ret->state = state;
		if (since_ns != 0 && age(since_ns, now_ns) > ret->silent_ns)
			ret->silent_ns = age(since_ns, now_ns);
	}
}

static void read_counters(const struct rl_fleet *from, struct fleet *ret)
{
	ret->round_trip_ns = number(&from->round_trip_ns);
	ret->slowed = number(&from->slowed);
	ret->calls = number(&from->syncs);
	ret->resends = number(&from->resends);
	ret->keys = number(&from->keys_synced);
	ret->granted = number(&from->granted);
	ret->returned = number(&from->returned);
	ret->dropped = number(&from->dropped);
	ret->clashes = number(&from->clashes);
}

static void read_other(const struct rl_fleet *from, uint64_t now_ns, struct fleet *ret)
{
	uint64_t seen_ns = number(&from->other_seen_ns);

	if (seen_ns == 0 || age(seen_ns, now_ns) >= OTHER_LATELY_NS)
		return;
	ret->other_age_ns = age(seen_ns, now_ns) + 1;
	read_text(from->other, 32, ret->other, sizeof(ret->other));
}

static void read_orders(const struct rl_fleet *from, struct fleet *ret)
{
	ret->orders = number(&from->orders);
	ret->orders_version = number(&from->orders_version);
	ret->orders_hosts = number(&from->orders_hosts);
	ret->orders_live = number(&from->orders_live);
	ret->rules_version = number(&from->rules_version);
	ret->rules_wanted = number(&from->rules_wanted);
	ret->rules_hosts = number(&from->rules_hosts);
}

static void read_nodes(const struct rl_fleet *from, struct fleet *ret)
{
	uint64_t count = number(&from->nodes), up = number(&from->nodes_up);

	ret->nodes = count > RL_PARTS ? RL_PARTS : (uint32_t)count;
	for (uint32_t i = 0; i < ret->nodes; i++) {
		read_text(from->node[i], RL_NODE_WORDS, ret->node[i].where,
			  sizeof(ret->node[i].where));
		ret->node[i].up = (up >> i & 1) != 0;
	}
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		uint64_t place = number(&from->part[p].node);

		if (place > 0 && place <= ret->nodes)
			ret->node[place - 1].parts |= UINT32_C(1) << p;
	}
}

void fleet_read(const struct rl_view *view, struct fleet *ret)
{
	const struct rl_fleet *from = view->fleet;
	uint64_t now_ns = rl_clock_precise_ns(), redis = number(&from->redis);
	uint64_t hosts = number(&from->hosts);

	*ret = (struct fleet){.shared = redis != RL_REDIS_NONE, .redis_up = redis == RL_REDIS_UP};
	read_orders(from, ret);
	if (!ret->shared) {
		ret->state = age(number(&view->live->beat_ns), now_ns) > RL_ALONE_NS ? RL_ALONE
										     : RL_FRESH;
		return;
	}
	ret->hosts = hosts == 0 ? 1 : hosts > UINT32_MAX ? UINT32_MAX : (uint32_t)hosts;
	ret->since_ns = age(number(&from->redis_since_ns), now_ns);
	read_text(from->fleet, RL_NAME_WORDS, ret->name, sizeof(ret->name));
	read_text(from->host, RL_NAME_WORDS, ret->host, sizeof(ret->host));
	read_text(from->store, 24, ret->store, sizeof(ret->store));
	read_nodes(from, ret);
	read_parts(view, now_ns, ret);
	read_counters(from, ret);
	read_other(from, now_ns, ret);
}

bool fleet_finding(const struct fleet *fleet)
{
	return fleet->shared &&
	       (!fleet->redis_up || fleet->state != RL_FRESH || fleet->other_age_ns != 0 ||
		fleet->rules_version != fleet->rules_wanted);
}

static uint32_t nodes_up(const struct fleet *fleet)
{
	uint32_t up = 0;

	for (uint32_t i = 0; i < fleet->nodes; i++)
		up += fleet->node[i].up;
	return up;
}

static void print_redis(const struct fleet *fleet)
{
	char since[RL_TERMS_TEXT], took[RL_TERMS_TEXT];

	printf("redis    %s for %s", fleet->redis_up ? "up" : "down",
	       rl_span_format(fleet->since_ns, since));
	if (fleet->nodes > 1)
		printf(", %" PRIu32 " of %" PRIu32 " nodes up", nodes_up(fleet), fleet->nodes);
	if (fleet->redis_up)
		printf(", round trip %s", rl_span_format(fleet->round_trip_ns, took));
	if (fleet->silent_ns > SILENT_SHOWN_NS)
		printf(", oldest call unanswered for %s", rl_span_format(fleet->silent_ns, since));
	putchar('\n');
}

/* Overload is seen before anything goes stale. */
static void print_slowed(const struct fleet *fleet)
{
	char took[RL_TERMS_TEXT];

	if (fleet->slowed == 0)
		return;
	printf("slowed   keys far from their limit are told x%" PRIu32
	       " as seldom, others x%" PRIu32 ": a call takes %s\n",
	       rl_slowed_far(fleet->slowed), rl_slowed_all(fleet->slowed),
	       rl_span_format(fleet->round_trip_ns, took));
}

/* This host as its agent describes it to the others. */
static void print_twin(const struct fleet *fleet, const struct tool *tool, uint64_t agent_pid)
{
	char name[RL_NAME_MAX + 1] = "?", seen[RL_TERMS_TEXT];

	gethostname(name, sizeof(name) - 1);
	printf("WARNING  two hosts use the host id '%s': give each its own 'host'\n"
	       "         the other: %s (%s ago)\n"
	       "         this one:  %s pid %" PRIu64 " segment %s\n",
	       fleet->host, fleet->other, rl_span_format(fleet->other_age_ns, seen), name,
	       agent_pid, tool->segment);
}

void fleet_print(const struct fleet *fleet, const struct tool *tool, uint64_t agent_pid)
{
	print_redis(fleet);
	print_slowed(fleet);
	if (fleet->store[0] != '\0')
		printf("store    %s\n", fleet->store);
	printf("fleet    %s, this host is %s, %" PRIu32 " live host%s\n", fleet->name, fleet->host,
	       fleet->hosts, fleet->hosts == 1 ? "" : "s");
	printf("sync     calls %" PRIu64 " (sent again %" PRIu64 "), keys %" PRIu64
	       "; credit granted %" PRIu64 ", returned unspent %" PRIu64 "; units dropped %" PRIu64
	       "; clashes %" PRIu64 "\n",
	       fleet->calls, fleet->resends, fleet->keys, fleet->granted, fleet->returned,
	       fleet->dropped, fleet->clashes);
	if (fleet->other_age_ns != 0)
		print_twin(fleet, tool, agent_pid);
}

/* Which server has which partitions. */
static json_t *json_nodes(const struct fleet *fleet)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < fleet->nodes; i++) {
		json_t *parts = json_array();

		for (uint32_t p = 0; p < RL_PARTS; p++)
			if (fleet->node[i].parts >> p & 1)
				json_array_append_new(parts, json_integer((json_int_t)p));
		json_array_append_new(all, json_pack("{s:o, s:b, s:o}", "where",
						     tool_json_text(fleet->node[i].where), "up",
						     fleet->node[i].up, "partitions", parts));
	}
	return all;
}

static json_t *json_twin(const struct fleet *fleet)
{
	if (fleet->other_age_ns == 0)
		return json_null();
	return json_pack("{s:o, s:f}", "other", tool_json_text(fleet->other), "seen_age_s",
			 (double)fleet->other_age_ns / 1e9);
}

void fleet_json(const struct fleet *fleet, json_t *all)
{
	if (!fleet->shared) {
		json_object_set_new(all, "redis", json_null());
		json_object_set_new(all, "fleet", json_null());
		json_object_set_new(all, "sync", json_null());
		return;
	}
	json_object_set_new(all, "redis",
			    json_pack("{s:b, s:o, s:o, s:f, s:f, s:f}", "up", fleet->redis_up,
				      "store", tool_json_text(fleet->store), "nodes",
				      json_nodes(fleet), "since_s", (double)fleet->since_ns / 1e9,
				      "round_trip_s", (double)fleet->round_trip_ns / 1e9,
				      "oldest_unanswered_s", (double)fleet->silent_ns / 1e9));
	json_object_set_new(all, "fleet",
			    json_pack("{s:o, s:o, s:I, s:o}", "name", tool_json_text(fleet->name),
				      "host", tool_json_text(fleet->host), "live_hosts",
				      (json_int_t)fleet->hosts, "duplicate", json_twin(fleet)));
	json_object_set_new(
		all, "sync",
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "calls",
			  (json_int_t)fleet->calls, "sent_again", (json_int_t)fleet->resends,
			  "keys", (json_int_t)fleet->keys, "granted", (json_int_t)fleet->granted,
			  "returned", (json_int_t)fleet->returned, "dropped",
			  (json_int_t)fleet->dropped, "clashes", (json_int_t)fleet->clashes,
			  "slowed_far", (json_int_t)rl_slowed_far(fleet->slowed), "slowed_all",
			  (json_int_t)rl_slowed_all(fleet->slowed)));
}

const char *fleet_state_name(unsigned state)
{
	static const char *const name[] = {"fresh", "stale", "alone"};

	return state < sizeof(name) / sizeof(name[0]) ? name[state] : "?";
}
