/*
 * rlctl - look at a Ratel segment, spend from it, run a server behind it.
 *
 * This file is the table of subcommands and the options they share; each has a file.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/tool.h"

static const char usage[] =
	"usage: rlctl [--segment PATH] [--json] COMMAND ...\n"
	"\n"
	"  status                      the agent, the fleet, the table, the rules\n"
	"  get RULE KEY                how much of its limit a key has used; spends nothing\n"
	"  check RULE KEY [--cost N]   ask as a server would, and spend\n"
	"  rules [show]                the rules in force, and how hosts share each\n"
	"  rules check FILE            is this configuration right?\n"
	"  rules push FILE             give all hosts these rules; --rollback, --clear: back\n"
	"  off [RULE]                  let everything pass and count nothing; on [RULE] ends it\n"
	"  reset RULE KEY              forget what a key has spent\n"
	"  block RULE KEY TIME         refuse a key for so long, e.g. 10m; unblock RULE KEY ends "
	"it\n"
	"  override RULE KEY LIMIT TIME  another limit for so long; override RULE KEY off ends it\n"
	"  orders                      what was ordered so, and stands\n"
	"  verify                      look at every word of the segment: is it damaged?\n"
	"  run --rule NAME [--by ip] [--port P] -- COMMAND...\n"
	"  run --limit 100/minute [--by ip] [--port P] -- COMMAND...\n"
	"                              start an unmodified server behind a limit\n"
	"\n"
	"In a fleet off, on, reset, block, unblock and override are for all its hosts: --local is "
	"for\n"
	"this one alone, --wait waits until all have it.\n"
	"\n"
	"  --segment PATH  which segment; else $RL_SEGMENT, else " RL_SEGMENT_DEFAULT "\n"
	"  --json          answer in JSON (all but run and rules check)\n"
	"  --version       print the version and exit\n"
	"\n"
	"exit status: 0 allowed or fine, 1 limited or a finding, 2 an error\n";

static const struct {
	const char *name;
	int (*run)(const struct tool *tool, int argc, char **argv);
	bool own_options; /* parses what follows its name itself */
	bool takes_key;
	unsigned takes; /* TOOL_LOCAL .. */
} commands[] = {
	{"status", cmd_status, false, false, 0},
	{"get", cmd_get, false, true, 0},
	{"check", cmd_check, false, true, 0},
	{"rules", cmd_rules, false, false, TOOL_WAIT | TOOL_CLEAR | TOOL_ROLLBACK | TOOL_PUSHED},
	{"off", cmd_off, false, false, TOOL_LOCAL | TOOL_WAIT},
	{"on", cmd_on, false, false, TOOL_LOCAL | TOOL_WAIT},
	{"reset", cmd_reset, false, true, TOOL_LOCAL | TOOL_WAIT},
	{"block", cmd_block, false, true, TOOL_LOCAL | TOOL_WAIT},
	{"unblock", cmd_unblock, false, true, TOOL_LOCAL | TOOL_WAIT},
	{"override", cmd_override, false, true, TOOL_LOCAL | TOOL_WAIT},
	{"orders", cmd_orders, false, false, 0},
	{"verify", cmd_verify, false, false, 0},
	{"run", cmd_run, true, false, 0},
};

static const struct option options[] = {
	{"segment", required_argument, NULL, 's'},
	{"json", no_argument, NULL, 'j'},
	{"cost", required_argument, NULL, 'c'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{"local", no_argument, NULL, 'L'},
	{"wait", no_argument, NULL, 'W'},
	{"clear", no_argument, NULL, 'C'},
	{"rollback", no_argument, NULL, 'R'},
	{"pushed", no_argument, NULL, 'P'},
	{0},
};

/* The bit of an option that is one; 0. */
static unsigned bit_of(int option)
{
	static const char letters[] = "LWCRP";
	const char *at = strchr(letters, option);

	return at != NULL && *at != '\0' ? 1u << (at - letters) : 0;
}

/* Parse options: all of argv, or ("+") only those before the first word. */
static bool parse(struct tool *tool, int argc, char **argv, const char *shorts)
{
	int option;

	while ((option = getopt_long(argc, argv, shorts, options, NULL)) != -1) {
		if (option == 's') {
			tool->segment = optarg;
			tool->segment_given = true;
		} else if (option == 'j') {
			tool->json = true;
		} else if (option == 'c') {
			tool->cost_text = optarg;
		} else if (bit_of(option) != 0) {
			tool->given |= bit_of(option);
		} else if (option == 'h') {
			exit(fputs(usage, stdout) < 0 ? TOOL_ERROR : tool_flush(TOOL_FINE));
		} else if (option == 'v') {
			exit(puts("rlctl " RL_VERSION) < 0 ? TOOL_ERROR : tool_flush(TOOL_FINE));
		} else {
			return false;
		}
	}
	return true;
}

static int find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return (int)i;
	return -1;
}

static int run_command(struct tool *tool, int index, int argc, char **argv)
{
	char name[32];

	if (commands[index].own_options)
		return commands[index].run(tool, argc, argv);
	snprintf(name, sizeof(name), "rlctl %s", commands[index].name);
	argv[0] = name; /* getopt's messages begin with it */
	optind = 0;     /* glibc: scan anew, with options and words mixed */
	if (!parse(tool, argc, argv, "s:jh")) {
		if (commands[index].takes_key)
			fputs("  a KEY that begins with '-' goes after --\n", stderr);
		return TOOL_ERROR;
	}
	if (tool->cost_text != NULL && commands[index].run != cmd_check)
		return tool_error("--cost goes with 'check' only");
	if ((tool->given & ~commands[index].takes) != 0)
		return tool_error("--local and --wait go with off, on, reset, block, unblock and "
				  "override; --wait, --clear, --rollback and --pushed with rules");
	return commands[index].run(tool, argc - optind, argv + optind);
}

/*
 * A descriptor 0, 1 or 2 that is closed would go to the next file opened: the segment. What
 * takes its place cannot be written to, so that an answer that goes nowhere is still an error.
 */
static void fill_standard_files(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && fd <= 2)
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd > 2)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *from_env = getenv("RL_SEGMENT");
	struct tool tool = {.segment = RL_SEGMENT_DEFAULT};
	int index;

	fill_standard_files();
	if (from_env != NULL && *from_env != '\0') {
		tool.segment = from_env;
		tool.segment_given = true;
	}
	if (!parse(&tool, argc, argv, "+s:jh"))
		return TOOL_ERROR;
	if (optind == argc) {
		fputs(usage, stderr);
		return TOOL_ERROR;
	}
	index = find_command(argv[optind]);
	if (index < 0)
		return tool_error("unknown command '%s' (rlctl --help lists them)", argv[optind]);
	return tool_flush(run_command(&tool, index, argc - optind, argv + optind));
}
