/*
 * rlctl rules [show | check FILE | push ..] - the rules in force; is a configuration right?
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/rl_rules.h"
#include "tools/fleet.h"
#include "tools/push.h"
#include "tools/tool.h"

static void print_rule(const struct rl_named_rule *rule, json_t *list)
{
	char text[RL_TERMS_TEXT], sharing[FLEET_TEXT];
	json_t *object;

	fleet_limit(&rule->rule, text);
	if (list == NULL) {
		printf("%-24s %-12s %s\n", rule->name, text, fleet_sharing(&rule->rule, sharing));
		return;
	}
	object = json_pack("{s:o, s:s}", "name", tool_json_text(rule->name), "limit", text);
	fleet_sharing_json(&rule->rule, object);
	json_array_append_new(list, object);
}

static int show(const struct tool *tool)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	struct fleet fleet;
	struct rl_view view;
	uint64_t generation;
	json_t *json;
	int count;

	if (!tool_view(tool, &view))
		return TOOL_ERROR;
	count = rl_rules_list(&view, list, &generation);
	fleet_read(&view, &fleet);
	rl_segment_unview(&view);
	if (count < 0)
		return tool_error("cannot read the rules: %s", rl_error_text(count));
	json = tool->json ? json_array() : NULL;
	for (int i = 0; i < count; i++) {
		tool_printable(list[i].name);
		print_rule(&list[i], json);
	}
	if (json != NULL) {
		json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
		putchar('\n');
		json_decref(json);
	} else {
		fleet_print_pushed(&fleet, "these are ", "\n");
	}
	return TOOL_FINE;
}

/* The agent alone reads configurations: one parser, one set of messages. */
static int check_file(const char *file)
{
	char agent[PATH_MAX];

	if (tool_sibling("rl-agent", "sbin", agent, sizeof(agent)))
		execl(agent, "rl-agent", "--config", file, "--check", (char *)NULL);
	else
		execlp("rl-agent", "rl-agent", "--config", file, "--check", (char *)NULL);
	return tool_error("cannot run rl-agent: %s; install it beside rlctl", strerror(errno));
}

int cmd_rules(const struct tool *tool, int argc, char **argv)
{
	const unsigned of_push = TOOL_LOCAL | TOOL_WAIT | TOOL_CLEAR | TOOL_ROLLBACK;
	bool shows = argc == 0 || (argc == 1 && strcmp(argv[0], "show") == 0);

	if (argc >= 1 && strcmp(argv[0], "push") == 0 && (tool->given & TOOL_PUSHED) == 0)
		return push_rules(tool, argc - 1, argv + 1);
	if ((tool->given & of_push) != 0)
		return tool_error("--local, --wait, --clear and --rollback do not go with this");
	if (shows && (tool->given & TOOL_PUSHED) != 0)
		return push_show(tool);
	if (shows)
		return show(tool);
	if (argc == 2 && strcmp(argv[0], "check") == 0)
		return check_file(argv[1]);
	return tool_error("usage: rlctl rules [show [--pushed]], rlctl rules check FILE, or rlctl "
			  "rules push FILE | --clear | --rollback");
}
