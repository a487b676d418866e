/*
 * rlctl run - start an unmodified server behind a limit.
 *
 *   --rule NAME    the rule of a running agent's segment; rlctl then becomes the command
 *   --limit TEXT   a limit of its own: rlctl starts a private agent beside the command
 *
 * With --limit and an explicit --segment whose agent already has this very limit, that one
 * is used, so that several servers share it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/rl_rules.h"
#include "tools/run_agent.h"
#include "tools/run_server.h"
#include "tools/tool.h"

static const char usage[] =
	"usage: rlctl run --rule NAME  [--by ip] [--port P] [--segment PATH] -- COMMAND...\n"
	"       rlctl run --limit TEXT [--by ip] [--port P] [--segment PATH] -- COMMAND...\n"
	"\n"
	"  --rule NAME     limit by this rule of the segment's agent\n"
	"  --limit TEXT    limit by COUNT/WINDOW, e.g. 100/10s, with a private agent\n"
	"  --by ip         each client address has the limit to itself (IPv6: each /64)\n"
	"  --port P        only connections to this port of the server; else to all\n"
	"\n"
	"Requests above the limit are answered 429 Too Many Requests with Retry-After.\n"
	"The server must be dynamically linked and speak plain HTTP/1.x to its clients.\n";

struct wish {
	const char *rule;
	const char *limit;
	const char *port;
	struct rl_terms terms;
};

static bool parse(struct tool *tool, struct wish *wish, int argc, char **argv)
{
	static const struct option known[] = {
		{"rule", required_argument, NULL, 'r'},
		{"limit", required_argument, NULL, 'l'},
		{"by", required_argument, NULL, 'b'},
		{"port", required_argument, NULL, 'p'},
		{"segment", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int option;

	optind = 0; /* glibc: scan anew */
	while ((option = getopt_long(argc, argv, "+s:h", known, NULL)) != -1) {
		if (option == 'r') {
			wish->rule = optarg;
		} else if (option == 'l') {
			wish->limit = optarg;
		} else if (option == 'p') {
			wish->port = optarg;
		} else if (option == 's') {
			tool->segment = optarg;
			tool->segment_given = true;
		} else if (option == 'h') {
			exit(fputs(usage, stdout) < 0);
		} else if (option != 'b') {
			return false;
		} else if (strcmp(optarg, "ip") != 0) {
			return tool_error("--by knows only 'ip', not '%s'", optarg), false;
		}
	}
	return true;
}

/* The options make sense together; the limit is parsed. */
static bool sensible(struct wish *wish, bool has_command)
{
	unsigned long port;
	const char *wrong;

	if ((wish->rule == NULL) == (wish->limit == NULL))
		return tool_error("run needs either --rule NAME or --limit COUNT/WINDOW"), false;
	if (!has_command)
		return tool_error("run needs a command after --, e.g. -- nginx -g 'daemon off;'"),
		       false;
	if (wish->port != NULL && !tool_number(wish->port, 1, 65535, &port))
		return tool_error("--port must be 1 .. 65535, not '%s'", wish->port), false;
	if (wish->limit == NULL)
		return true;
	wrong = rl_terms_parse(wish->limit, &wish->terms);
	if (wrong != NULL)
		return tool_error("bad limit '%s': %s", wish->limit, wrong), false;
	return true;
}

static int run_by_rule(const struct tool *tool, const struct wish *wish, char **command)
{
	const struct run_server server = {tool->segment, wish->rule, wish->port, command};
	struct rl_view view;
	uint64_t handle;

	if (!tool_view(tool, &view))
		return TOOL_ERROR;
	if (rl_rules_find(&view, wish->rule, &handle) != 0)
		return tool_no_rule(tool, &view, wish->rule);
	rl_segment_unview(&view);
	if (!run_server_environment(&server))
		return TOOL_ERROR;
	execvp(command[0], command);
	tool_error("cannot run %s: %s", command[0], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

enum shared {
	SHARED_NO,    /* nobody's: a private agent may have it */
	SHARED_YES,   /* a live agent has this very limit */
	SHARED_OTHER, /* a live agent has other rules */
	SHARED_DEAD,  /* other rules, and no agent at the moment: not ours to replace */
};

/* Is run's rule the only one? Then an earlier `rlctl run` made the segment. */
static bool made_by_run(const struct rl_view *view)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	uint64_t generation;

	return rl_rules_list(view, list, &generation) == 1 && strcmp(list[0].name, RUN_RULE) == 0;
}

/* Whose is the named segment? */
static enum shared already_there(const struct tool *tool, const struct wish *wish)
{
	struct tool_agent agent;
	struct rl_rule rule;
	struct rl_view view;
	uint64_t handle;
	bool same, ours;

	if (!tool->segment_given || rl_segment_view(tool->segment, &view, NULL) != 0)
		return SHARED_NO;
	tool_agent(&view, &agent);
	same = rl_rules_find(&view, RUN_RULE, &handle) == 0 &&
	       rl_rules_read(&view, handle, &rule) == 0 && rule.limit == wish->terms.limit &&
	       rule.window_ns == wish->terms.window_ns;
	ours = made_by_run(&view);
	rl_segment_unview(&view);
	if (!agent.alive)
		return ours ? SHARED_NO : SHARED_DEAD;
	return same ? SHARED_YES : SHARED_OTHER;
}

static int run_by_limit(const struct tool *tool, const struct wish *wish, char **command)
{
	struct wish by_rule = {.rule = RUN_RULE, .port = wish->port};
	struct run_agent agent;
	struct run_server server = {agent.segment, RUN_RULE, wish->port, command};
	enum shared shared = already_there(tool, wish);
	int code;

	if (shared == SHARED_YES)
		return run_by_rule(tool, &by_rule, command);
	if (shared == SHARED_OTHER)
		return tool_error("the segment %s has an agent without this limit: use --rule NAME "
				  "for one of its rules, or another --segment",
				  tool->segment);
	if (shared == SHARED_DEAD)
		return tool_error("the segment %s has other rules, and its agent is not running: "
				  "start that agent and use --rule NAME, or use another --segment",
				  tool->segment);
	if (!run_agent_prepare(&agent, tool->segment_given ? tool->segment : NULL, &wish->terms))
		return TOOL_ERROR;
	if (!run_agent_start(&agent)) {
		run_agent_stop(&agent);
		return TOOL_ERROR;
	}
	fprintf(stderr,
		"rlctl: limit %s per client address; look at it with\n"
		"       rlctl --segment %s status\n",
		wish->limit, agent.segment);
	code = run_server_supervise(&server, &agent);
	run_agent_stop(&agent);
	return code;
}

int cmd_run(const struct tool *tool, int argc, char **argv)
{
	struct tool with_options = *tool;
	struct wish wish = {0};

	if (!parse(&with_options, &wish, argc, argv)) {
		fputs(usage, stderr);
		return TOOL_ERROR;
	}
	if (!sensible(&wish, optind < argc))
		return TOOL_ERROR;
	if (wish.rule != NULL)
		return run_by_rule(&with_options, &wish, argv + optind);
	return run_by_limit(&with_options, &wish, argv + optind);
}
