/*
 * rlctl off [RULE] | on [RULE] | reset RULE KEY | block RULE KEY TIME | unblock RULE KEY |
 * override RULE KEY LIMIT TIME - what the agents of the fleet, or of this host, do for us.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_terms.h"
#include "tools/ask.h"

#define MORE_TEXT 192

/* What was done, for people; JSON has it for programs. Takes the reference to answer. */
static int say(const struct tool *tool, json_t *answer, const char *what, const char *rule,
	       const char *more)
{
	int code;

	if (answer == NULL)
		return TOOL_ERROR;
	if (!tool->json)
		printf("%s%s%s%s\n", what, rule != NULL ? " " : "", rule != NULL ? rule : "", more);
	code = ask_say_fleet(tool, answer);
	json_decref(answer);
	return code;
}

static int tell_switch(const struct tool *tool, int argc, char **argv, bool on)
{
	const char *word = on ? "on" : "off", *rule = argc == 1 ? argv[0] : NULL;
	json_t *command;

	if (argc > 1)
		return tool_error("%s takes one RULE, or none for all of them", word);
	command = json_pack("{s:s}", "do", word);
	if (rule != NULL)
		json_object_set_new(command, "rule", tool_json_text(rule));
	return say(tool, ask_agent(tool, command),
		   rule != NULL ? word
		   : on         ? "on: every rule"
				: "off: every rule",
		   rule,
		   on ? "" : ": everything passes and nothing is counted until it is switched on");
}

int cmd_off(const struct tool *tool, int argc, char **argv)
{
	return tell_switch(tool, argc, argv, false);
}

int cmd_on(const struct tool *tool, int argc, char **argv)
{
	return tell_switch(tool, argc, argv, true);
}

/* NULL after a message when these are no RULE KEY. */
static json_t *key_command(const char *word, int argc, int wanted, char **argv, const char *example)
{
	if (argc != wanted) {
		tool_error("%s needs %s, e.g. rlctl %s", word,
			   wanted == 4   ? "RULE, KEY, LIMIT and TIME"
			   : wanted == 3 ? "RULE, KEY and TIME"
					 : "RULE and KEY",
			   example);
		return NULL;
	}
	if (strlen(argv[1]) < 1 || strlen(argv[1]) > RL_KEY_BYTES_MAX) {
		tool_error("a key is 1 .. %d bytes long", RL_KEY_BYTES_MAX);
		return NULL;
	}
	return json_pack("{s:s, s:o, s:o}", "do", word, "rule", tool_json_text(argv[0]), "key",
			 ask_key(argv[1]));
}

int cmd_reset(const struct tool *tool, int argc, char **argv)
{
	json_t *command = key_command("reset", argc, 2, argv, "reset login 192.0.2.7");

	if (command == NULL)
		return TOOL_ERROR;
	return say(tool, ask_agent(tool, command), "reset: the key has its whole limit under",
		   argv[0], "");
}

static json_t *block(const struct tool *tool, json_t *command, uint64_t for_ns)
{
	uint64_t for_s = (for_ns + RL_SECOND_NS - 1) / RL_SECOND_NS;

	json_object_set_new(command, "do", json_string("block"));
	json_object_set_new(command, "for_s", json_integer((json_int_t)for_s));
	return ask_agent(tool, command);
}

int cmd_block(const struct tool *tool, int argc, char **argv)
{
	json_t *command = key_command("block", argc, 3, argv, "block login 192.0.2.7 10m");
	char span[RL_TERMS_TEXT], more[RL_TERMS_TEXT + 8];
	const char *wrong;
	uint64_t for_ns;

	if (command == NULL)
		return TOOL_ERROR;
	wrong = rl_span_parse(argv[2], &for_ns);
	if (wrong != NULL || for_ns == 0) {
		json_decref(command);
		return tool_error("bad time '%s': %s", argv[2],
				  wrong != NULL ? wrong : "rlctl unblock ends a block");
	}
	snprintf(more, sizeof(more), " for %s", rl_span_format(for_ns, span));
	return say(tool, block(tool, command, for_ns), "blocked under", argv[0], more);
}

int cmd_unblock(const struct tool *tool, int argc, char **argv)
{
	json_t *command = key_command("unblock", argc, 2, argv, "unblock login 192.0.2.7");

	if (command == NULL)
		return TOOL_ERROR;
	return say(tool, block(tool, command, 0), "unblocked under", argv[0], "");
}

/* LIMIT "off" ends it. */
static int end_override(const struct tool *tool, char **argv)
{
	char *no_time[] = {argv[0], argv[1]};
	json_t *command = key_command("override", 2, 2, no_time, "override login 192.0.2.7 off");

	if (command == NULL)
		return TOOL_ERROR;
	json_object_set_new(command, "for_s", json_integer(0));
	return say(tool, ask_agent(tool, command), "the rule's own limit again under", argv[0], "");
}

int cmd_override(const struct tool *tool, int argc, char **argv)
{
	char span[RL_TERMS_TEXT], more[MORE_TEXT];
	json_t *command;
	const char *wrong;
	uint64_t for_ns;

	if (argc == 3 && strcmp(argv[2], "off") == 0)
		return end_override(tool, argv);
	command = key_command("override", argc, 4, argv, "override login 192.0.2.7 1000/minute 1h");
	if (command == NULL)
		return TOOL_ERROR;
	wrong = rl_span_parse(argv[3], &for_ns);
	if (wrong != NULL || for_ns == 0) {
		json_decref(command);
		return tool_error("bad time '%s': %s", argv[3],
				  wrong != NULL ? wrong : "'override RULE KEY off' ends one");
	}
	json_object_set_new(command, "limit", tool_json_text(argv[2]));
	json_object_set_new(command, "for_s",
			    json_integer((json_int_t)((for_ns + RL_SECOND_NS - 1) / RL_SECOND_NS)));
	snprintf(more, sizeof(more), ": %.64s for %s", argv[2], rl_span_format(for_ns, span));
	return say(tool, ask_agent(tool, command), "another limit under", argv[0], more);
}
