#include "tools/answer.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_shared.h"
#include "shm/rl_terms.h"
#include "tools/fleet.h"

/* A key is any bytes; JSON is text: what is not UTF-8 goes as hex. */
static json_t *json_key(const char *key)
{
	json_t *text = json_string(key);
	char hex[2 * 1024 + 5] = "hex:";

	if (text != NULL)
		return text;
	for (size_t i = 0; key[i] != '\0' && i < 1024; i++)
		snprintf(hex + 4 + 2 * i, 3, "%02x", (unsigned char)key[i]);
	return json_string(hex);
}

static const char *decided_name(unsigned by)
{
	static const char *const name[] = {"window", "credit", "no_credit", "policy", "block",
					   "list",   "shadow", "off",       "pool",   "full"};

	return by < sizeof(name) / sizeof(name[0]) ? name[by] : "?";
}

static void print_json(const struct answer *a)
{
	json_t *all =
		json_pack("{s:o, s:o, s:b, s:I, s:I, s:f, s:f, s:f, s:s, s:s}", "rule",
			  tool_json_text(a->rule), "key", json_key(a->key), "allowed", a->allowed,
			  "limit", (json_int_t)a->limit, "remaining", (json_int_t)a->remaining,
			  "window_s", (double)a->window_ns / 1e9, "retry_after_s",
			  (double)a->retry_after_ns / 1e9, "delay_s", (double)a->delay_ns / 1e9,
			  "state", fleet_state_name(a->state), "decided_by", decided_name(a->by));

	if (a->window_ns == 0)
		json_object_set_new(all, "in_flight", json_integer(a->in_flight));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

/* Who speaks of what is left: the host's own window, its credit, or a policy that has none. */
static void print_left(const struct answer *a)
{
	if (a->by == RL_DECIDED_POLICY)
		printf("by on_unreachable");
	else if (a->by == RL_DECIDED_BLOCK)
		printf("blocked");
	else if (a->by == RL_DECIDED_LIST)
		printf("by the rule's list");
	else if (a->by == RL_DECIDED_SHADOW)
		printf("the rule only looks on, the limit is reached");
	else if (a->by == RL_DECIDED_FULL)
		printf("no slot is free, by on_full");
	else if (a->by == RL_DECIDED_OFF)
		printf("the rule is switched off");
	else if (a->by == RL_DECIDED_WINDOW && a->remaining > a->limit) /* of a bucket's burst */
		printf("%" PRIu32 " remaining", a->remaining);
	else
		printf("%" PRIu32 " of %" PRIu32 " %s", a->remaining, a->limit,
		       a->by == RL_DECIDED_WINDOW ? "remaining" : "at hand on this host");
}

static void print_in_flight(const struct answer *a)
{
	printf("%s: %" PRIu32 " in flight, %" PRIu32 " of %" PRIu32
	       " remaining under %s, state %s\n",
	       a->allowed ? "allowed" : "limited", a->in_flight, a->remaining, a->limit, a->rule,
	       fleet_state_name(a->state));
}

static void print_text(const struct answer *a)
{
	char span[RL_TERMS_TEXT], limit[RL_TERMS_TEXT];
	const struct rl_terms terms = {a->limit, a->window_ns};

	rl_terms_format(&terms, limit);
	printf("%s", a->allowed ? "allowed" : "limited");
	if (a->delay_ns > 0)
		printf(" after a delay of %s", rl_span_format(a->delay_ns, span));
	printf(": ");
	print_left(a);
	printf(" under %s (%s)", a->rule, limit);
	if (!a->allowed)
		printf(", try again in %s", rl_span_format(a->retry_after_ns, span));
	printf(", state %s\n", fleet_state_name(a->state));
}

int answer_print(const struct tool *tool, const struct answer *answer)
{
	if (tool->json)
		print_json(answer);
	else if (answer->window_ns == 0)
		print_in_flight(answer);
	else
		print_text(answer);
	return answer->allowed ? TOOL_FINE : TOOL_FINDING;
}
