/*
 * ask_fleet.c - an agent's answer, as far as it is about the fleet.
 */
#include <stdio.h>

#include "tools/ask.h"

#define NOTE_TEXT 512

static long long number(json_t *answer, const char *name)
{
	return (long long)json_integer_value(json_object_get(answer, name));
}

static void print_fleet(const struct tool *tool, json_t *answer)
{
	long long hosts = number(answer, "hosts"), have = number(answer, "have");

	printf("fleet: version %lld, in force on ", number(answer, "version"));
	if (have >= hosts)
		printf("all of %lld live host%s\n", hosts, hosts == 1 ? "" : "s");
	else if ((tool->given & TOOL_WAIT) != 0)
		printf("%lld of %lld live hosts; the others were waited for in vain: 'rlctl "
		       "status' says when they have it\n",
		       have, hosts);
	else
		printf("%lld of %lld live hosts, the others follow within a second\n", have, hosts);
}

int ask_say_fleet(const struct tool *tool, json_t *answer)
{
	bool fleet = json_is_true(json_object_get(answer, "fleet"));
	bool late = fleet && (tool->given & TOOL_WAIT) != 0 &&
		    number(answer, "have") < number(answer, "hosts");
	char note[NOTE_TEXT];

	if (tool->json) {
		json_dumpf(answer, stdout, 0);
		putchar('\n');
	} else if (fleet) {
		print_fleet(tool, answer);
	}
	ask_text(answer, "note", note, sizeof(note));
	if (!tool->json && note[0] != '\0')
		printf("note: %s\n", note);
	return late ? TOOL_FINDING : TOOL_FINE;
}
