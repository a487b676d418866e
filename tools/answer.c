#include "tools/answer.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_terms.h"

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

static void print_json(const struct answer *a)
{
	json_t *all = json_pack("{s:s, s:o, s:b, s:I, s:I, s:f, s:f, s:s}", "rule", a->rule, "key",
				json_key(a->key), "allowed", a->allowed, "limit",
				(json_int_t)a->limit, "remaining", (json_int_t)a->remaining,
				"window_s", (double)a->window_ns / 1e9, "retry_after_s",
				(double)a->retry_after_ns / 1e9, "state", a->state);

	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static void print_text(const struct answer *a)
{
	char span[RL_TERMS_TEXT], limit[RL_TERMS_TEXT];
	const struct rl_terms terms = {a->limit, a->window_ns};

	rl_terms_format(&terms, limit);
	printf("%s: %" PRIu32 " of %" PRIu32 " remaining under %s (%s)",
	       a->allowed ? "allowed" : "limited", a->remaining, a->limit, a->rule, limit);
	if (!a->allowed)
		printf(", try again in %s", rl_span_format(a->retry_after_ns, span));
	printf(", state %s\n", a->state);
}

int answer_print(const struct tool *tool, const struct answer *answer)
{
	if (tool->json)
		print_json(answer);
	else
		print_text(answer);
	return answer->allowed ? TOOL_FINE : TOOL_FINDING;
}
