/*
 * rlctl rules push FILE | push --clear | push --rollback | show --pushed - the rules that all hosts
 * of a fleet go by instead of their files.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/rl_clock.h"
#include "shm/rl_terms.h"
#include "tools/ask.h"
#include "tools/push.h"

#define FILE_MAX (256u << 10) /* as the agent takes one */

/* The file's text, to be freed; NULL after a message. */
static char *read_text(const char *name)
{
	FILE *in = fopen(name, "r");
	char *text = malloc(FILE_MAX + 2);
	size_t size = 0;

	if (in != NULL && text != NULL)
		size = fread(text, 1, FILE_MAX + 1, in);
	if (in == NULL || text == NULL || ferror(in)) {
		tool_error("cannot read %s: %s", name, strerror(errno));
	} else if (size > FILE_MAX) {
		tool_error("%s is larger than 256 KiB: this is no set of rules", name);
	} else if (memchr(text, '\0', size) != NULL) {
		tool_error("%s holds a NUL character: this is no set of rules", name);
	} else {
		text[size] = '\0';
		fclose(in);
		return text;
	}
	if (in != NULL)
		fclose(in);
	free(text);
	return NULL;
}

static json_t *push_command(const char *file)
{
	char *text = read_text(file);
	json_t *command;

	if (text == NULL)
		return NULL;
	command = json_pack("{s:s, s:s, s:o}", "do", "push", "text", text, "name",
			    tool_json_text(file));
	free(text);
	if (command == NULL)
		tool_error("%s is no UTF-8 text", file);
	return command;
}

static int say(const struct tool *tool, json_t *answer, const char *what)
{
	int code;

	if (answer == NULL)
		return TOOL_ERROR;
	if (!tool->json)
		puts(what);
	code = ask_say_fleet(tool, answer);
	json_decref(answer);
	return code;
}

int push_rules(const struct tool *tool, int argc, char **argv)
{
	bool clear = (tool->given & TOOL_CLEAR) != 0, back = (tool->given & TOOL_ROLLBACK) != 0;
	json_t *command;

	if (clear + back + argc != 1)
		return tool_error("rules push needs one of FILE, --clear and --rollback");
	if (clear)
		return say(tool, ask_agent(tool, json_pack("{s:s}", "do", "clear")),
			   "every host goes by its own file again");
	if (back)
		return say(tool, ask_agent(tool, json_pack("{s:s}", "do", "rollback")),
			   "the set of rules that was pushed before is in force again");
	command = push_command(argv[0]);
	return command == NULL ? TOOL_ERROR
			       : say(tool, ask_agent(tool, command), "pushed: counts stay");
}

static void print_about(json_t *rules)
{
	char host[RL_NAME_MAX + 1], ago[RL_TERMS_TEXT], sha256[80];
	json_int_t ms = json_integer_value(json_object_get(rules, "ago_ms"));

	printf("# version %" JSON_INTEGER_FORMAT
	       ", pushed %s ago on %s by uid %" JSON_INTEGER_FORMAT "\n# sha256 %s\n",
	       json_integer_value(json_object_get(rules, "fleet_version")),
	       rl_span_format(ms > 0 ? (uint64_t)ms * 1000000 : 0, ago),
	       ask_text(rules, "host", host, sizeof(host)),
	       json_integer_value(json_object_get(rules, "uid")),
	       ask_text(rules, "sha256", sha256, sizeof(sha256)));
}

int push_show(const struct tool *tool)
{
	json_t *answer = ask_agent(tool, json_pack("{s:s}", "do", "rules")), *rules;
	const char *text;

	if (answer == NULL)
		return TOOL_ERROR;
	rules = json_object_get(answer, "rules");
	text = json_string_value(json_object_get(rules, "text"));
	if (tool->json) {
		json_dumpf(rules, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (text != NULL) {
		print_about(rules);
		fputs(text, stdout);
	} else {
		puts("# no set of rules is pushed: every host goes by its own file");
	}
	json_decref(answer);
	return TOOL_FINE;
}
