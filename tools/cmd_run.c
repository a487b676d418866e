/*
 * rlctl run - start an unmodified server behind a limit.
 *
 *   --rule NAME    the rule of a running agent's segment; rlctl then becomes the command
 *   --limit TEXT   a limit of its own: rlctl starts a private agent beside the command
 *
 * With --limit and an explicit --segment whose agent already has this very limit, that one
 * is used, so that several servers share it.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/rl_rules.h"
#include "tools/run_agent.h"
#include "tools/run_server.h"
#include "tools/run_share.h"
#include "tools/tool.h"

#define STARTS_MAX 3

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
	"The server must be dynamically linked and speak plain HTTP/1.x to its clients.\n"
	"\n"
	"exit status: the command's own, or 128 + the signal that ended it; 126 it cannot be\n"
	"run, 127 it is not there; 2 an error of rlctl's own, before the command was started\n";

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
			exit(fputs(usage, stdout) < 0 ? TOOL_ERROR : tool_flush(TOOL_FINE));
		} else if (option != 'b') {
			return false;
		} else if (strcmp(optarg, "ip") != 0) {
			return tool_error("--by knows only 'ip', not '%s'", optarg), false;
		}
	}
	return true;
}

/* The options make sense together; the limit is parsed. */
static bool sensible(struct wish *wish, char *const *command)
{
	unsigned long port;
	const char *wrong;

	if ((wish->rule == NULL) == (wish->limit == NULL))
		return tool_error("run needs either --rule NAME or --limit COUNT/WINDOW"), false;
	if (command[0] == NULL)
		return tool_error("run needs a command after --, e.g. -- nginx -g 'daemon off;'"),
		       false;
	if (*command[0] == '\0')
		return tool_error("the command is empty"), false;
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
	struct rl_rule rule;
	uint64_t handle;

	if (!tool_view(tool, &view))
		return TOOL_ERROR;
	if (rl_rules_find(&view, wish->rule, &handle) != 0 ||
	    rl_rules_read(&view, handle, &rule) != 0)
		return tool_no_rule(tool, &view, wish->rule);
	rl_segment_unview(&view);
	if (rl_rule_in_flight(&rule))
		return tool_error("the rule '%s' limits requests in flight, and the shim limits "
				  "rates: name a rule of another algorithm",
				  wish->rule);
	return run_server_become(&server);
}

/* Start the private agent, then the server under it. *ret_late: another agent was first. */
static int run_private(const struct tool *tool, const struct wish *wish, char **command,
		       bool *ret_late)
{
	struct run_agent agent;
	struct run_server server = {agent.segment, RUN_RULE, wish->port, command};
	struct run_signals signals;
	int code = TOOL_ERROR, started;

	*ret_late = false;
	if (!run_agent_prepare(&agent, tool->segment_given ? tool->segment : NULL, &wish->terms))
		return TOOL_ERROR;
	run_signals_block(&signals);
	started = run_agent_start(&agent);
	if (started > 0)
		code = 128 + started;
	if (started < 0)
		*ret_late = !agent.own_path && rl_segment_lock_holder(agent.segment) != 0;
	if (started == 0) {
		fprintf(stderr,
			"rlctl: limit %s per client address; look at it with\n"
			"       rlctl --segment %s status\n",
			wish->limit, agent.segment);
		code = run_server_supervise(&server, &agent, &signals);
	}
	run_agent_stop(&agent);
	sigprocmask(SIG_SETMASK, &signals.normal, NULL);
	return code;
}

/* Another has the named segment: be its guest, or say why not. */
static int run_shared(const struct tool *tool, const struct wish *wish, enum run_share share,
		      char **command)
{
	const struct wish by_rule = {.rule = RUN_RULE, .port = wish->port};

	if (share == RUN_SHARE_SAME)
		return run_by_rule(tool, &by_rule, command);
	if (share == RUN_SHARE_OTHER)
		return tool_error("the segment %s has an agent without this limit: use --rule NAME "
				  "for one of its rules, or another --segment",
				  tool->segment);
	if (share == RUN_SHARE_SILENT)
		return tool_error("the segment %s is kept by process %ld, which has not answered "
				  "for %d s: continue or end that one, or use another --segment",
				  tool->segment, (long)rl_segment_lock_holder(tool->segment),
				  RUN_SHARE_WAIT_MS / 1000);
	return tool_error("the segment %s has other rules, and its agent is not running: "
			  "start that agent and use --rule NAME, or use another --segment",
			  tool->segment);
}

static int run_by_limit(const struct tool *tool, const struct wish *wish, char **command)
{
	bool late = true;
	int code = TOOL_ERROR;

	/* Of several started at once all but one come late, and find the first one's agent. */
	for (int i = 0; late && i < STARTS_MAX; i++) {
		enum run_share share = RUN_SHARE_NOBODY;

		if (tool->segment_given)
			share = run_share_settle(tool->segment, &wish->terms);
		if (share != RUN_SHARE_NOBODY)
			return run_shared(tool, wish, share, command);
		code = run_private(tool, wish, command, &late);
		if (late)
			fputs("rlctl: another agent took that segment just now: looking again\n",
			      stderr);
	}
	return code;
}

int cmd_run(const struct tool *tool, int argc, char **argv)
{
	struct tool with_options = *tool;
	char run_name[] = "rlctl run";
	struct wish wish = {0};

	if (tool->cost_text != NULL)
		return tool_error("--cost goes with 'check' only");
	argv[0] = run_name; /* getopt's messages begin with it */
	if (!parse(&with_options, &wish, argc, argv)) {
		fputs(usage, stderr);
		return TOOL_ERROR;
	}
	if (!sensible(&wish, argv + optind))
		return TOOL_ERROR;
	if (wish.rule != NULL)
		return run_by_rule(&with_options, &wish, argv + optind);
	return run_by_limit(&with_options, &wish, argv + optind);
}
