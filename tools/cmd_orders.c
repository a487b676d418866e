/*
 * rlctl orders - what was ordered of the fleet and of this host, and stands: by whom, until when.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_clock.h"
#include "shm/rl_terms.h"
#include "tools/ask.h"

#define KEY_TEXT 40

/* A key's bytes out of their hex, as far as there is room. */
static void print_key(json_t *order)
{
	const char *hex = json_string_value(json_object_get(order, "key"));
	char text[KEY_TEXT + 1] = "";
	size_t len = 0;

	for (; hex != NULL && len < KEY_TEXT && hex[2 * len] != '\0' && hex[2 * len + 1] != '\0';
	     len++)
		if (sscanf(hex + 2 * len, "%2hhx", (unsigned char *)&text[len]) != 1)
			break;
	tool_printable(text);
	for (size_t i = 0; i < len; i++) /* a NUL in it */
		if (text[i] == '\0')
			text[i] = '?';
	printf("  %s%s", text, hex != NULL && hex[2 * len] != '\0' ? ".." : "");
}

static void print_span(const char *before, json_t *order, const char *name, const char *after)
{
	json_t *value = json_object_get(order, name);
	json_int_t ms = json_integer_value(value);
	char text[RL_TERMS_TEXT];

	if (json_is_integer(value))
		printf("%s%s%s", before, rl_span_format(ms > 0 ? (uint64_t)ms * 1000000 : 0, text),
		       after);
}

static void print_order(json_t *order)
{
	char kind[16], rule[RL_NAME_MAX + 1], limit[RL_TERMS_TEXT], host[RL_NAME_MAX + 1];
	bool local = json_is_true(json_object_get(order, "local"));
	json_int_t uid = json_integer_value(json_object_get(order, "uid"));

	ask_text(order, "do", kind, sizeof(kind));
	ask_text(order, "rule", rule, sizeof(rule));
	printf("%-9s %-24s", kind, rule[0] != '\0' ? rule : "(every rule)");
	print_key(order);
	if (ask_text(order, "limit", limit, sizeof(limit))[0] != '\0')
		printf("  %s", limit);
	if (strcmp(kind, "reset") != 0)
		print_span("  for ", order, "left_ms", " more");
	print_span("  given ", order, "ago_ms", " ago");
	if (uid >= 0)
		printf(" by uid %" JSON_INTEGER_FORMAT, uid);
	ask_text(order, "host", host, sizeof(host));
	printf("%s%s\n", local ? ", for this host alone" : " on ", local ? "" : host);
}

int cmd_orders(const struct tool *tool, int argc, char **argv)
{
	json_t *answer, *list, *order;
	size_t i;

	if (argc > 0)
		return tool_error("orders takes no argument, not '%s'", argv[0]);
	answer = ask_agent(tool, json_pack("{s:s}", "do", "orders"));
	if (answer == NULL)
		return TOOL_ERROR;
	list = json_object_get(answer, "orders");
	if (tool->json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (json_array_size(list) == 0) {
		puts("nothing was ordered");
	}
	if (!tool->json)
		json_array_foreach(list, i, order) print_order(order);
	json_decref(answer);
	return TOOL_FINE;
}
