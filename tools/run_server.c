#include "tools/run_server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/tool.h"

#define AGENT_RETRY_S 1 /* between two starts of an agent that keeps dying */

static bool preload(const char *shim)
{
	const char *others = getenv("LD_PRELOAD");
	char *value;
	bool done;

	if (others == NULL || *others == '\0')
		return setenv("LD_PRELOAD", shim, 1) == 0;
	if (asprintf(&value, "%s:%s", shim, others) < 0)
		return false;
	done = setenv("LD_PRELOAD", value, 1) == 0;
	free(value);
	return done;
}

bool run_server_environment(const struct run_server *server)
{
	char found[PATH_MAX], shim[PATH_MAX];

	if (!tool_sibling("librl-preload.so", "lib", found, sizeof(found)) ||
	    realpath(found, shim) == NULL)
		return tool_error("there is no librl-preload.so beside rlctl: install it"), false;
	if (strpbrk(shim, " :") != NULL)
		return tool_error("the path %s has a space or colon, which LD_PRELOAD cannot carry",
				  shim),
		       false;
	if (preload(shim) && setenv("RL_SEGMENT", server->segment, 1) == 0 &&
	    setenv("RL_RULE", server->rule, 1) == 0 &&
	    (server->port == NULL ? unsetenv("RL_PORT") : setenv("RL_PORT", server->port, 1)) == 0)
		return true;
	return tool_error("cannot set the environment: %s", strerror(errno)), false;
}

int run_server_become(const struct run_server *server)
{
	int code;

	if (!run_server_environment(server))
		return TOOL_ERROR;
	execvp(server->command[0], server->command);
	code = errno == ENOENT ? 127 : 126;
	tool_error("cannot run %s: %s", server->command[0], strerror(errno));
	return code;
}

static pid_t start(const struct run_server *server, const sigset_t *normal)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	sigprocmask(SIG_SETMASK, normal, NULL);
	_exit(run_server_become(server));
}

/* A signal as it came to rlctl. */
struct told {
	int number;    /* 0 = none */
	bool to_group; /* by the terminal (Ctrl-C), to everybody in the foreground */
};

/* Not to who has it already: a second SIGINT is an order to end at once, for many servers. */
static void tell(pid_t pid, const struct told *told)
{
	if (!told->to_group || getpgid(pid) != getpgrp())
		kill(pid, told->number);
}

/* A server that went to the background left orphans that are now our children: tell them. */
static void pass_on(const struct told *told, pid_t server, pid_t agent)
{
	FILE *list;
	long pid;

	if (server > 0) {
		tell(server, told);
		return;
	}
	list = fopen("/proc/thread-self/children", "re");
	if (list == NULL)
		return;
	while (fscanf(list, "%ld", &pid) == 1)
		if ((pid_t)pid != agent)
			tell((pid_t)pid, told);
	fclose(list);
}

struct wards {
	pid_t server; /* 0 = ended */
	int exit_code;
	struct told told; /* the last signal passed on to the server */
	time_t agent_started;
};

static int code_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Reap everybody who has ended. */
static void reap(struct wards *wards, struct run_agent *agent)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == agent->pid) {
			agent->pid = 0;
			fprintf(stderr,
				"rlctl: the private rl-agent ended (%d): starting it again; "
				"the limit holds meanwhile\n",
				code_of(status));
		} else if (pid == wards->server) {
			wards->server = 0;
			wards->exit_code = code_of(status);
			if (wards->told.number != 0) /* it was just going to the background */
				pass_on(&wards->told, 0, agent->pid);
		}
	}
}

/* Are children other than the agent left? */
static bool orphans_left(const struct run_agent *agent)
{
	FILE *list = fopen("/proc/thread-self/children", "re");
	bool left = false;
	long pid;

	if (list == NULL)
		return false;
	while (fscanf(list, "%ld", &pid) == 1)
		left = left || (pid_t)pid != agent->pid;
	fclose(list);
	return left;
}

static void keep_agent(struct wards *wards, struct run_agent *agent)
{
	if (agent->pid != 0 || time(NULL) < wards->agent_started + AGENT_RETRY_S)
		return;
	run_agent_restart(agent);
	wards->agent_started = time(NULL);
}

int run_server_supervise(const struct run_server *server, struct run_agent *agent,
			 const struct run_signals *signals)
{
	const struct timespec tick = {.tv_sec = AGENT_RETRY_S};
	struct wards wards = {.agent_started = time(NULL)};
	siginfo_t info;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	wards.server = start(server, &signals->normal);
	if (wards.server < 0)
		return tool_error("cannot fork: %s", strerror(errno));
	while (wards.server > 0 || orphans_left(agent)) {
		int got = sigtimedwait(&signals->ours, &info, &tick);

		if (got > 0 && got != SIGCHLD) {
			wards.told = (struct told){got, info.si_code == SI_KERNEL};
			pass_on(&wards.told, wards.server, agent->pid);
		}
		reap(&wards, agent);
		keep_agent(&wards, agent);
	}
	return wards.exit_code;
}
