#include "tools/run_agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/rl_rules.h"
#include "tools/tool.h"

#define READY_TRIES 1000 /* of 10 ms */
#define STOP_TRIES  300  /* of 10 ms, then SIGKILL */

static void nap_10ms(void)
{
	poll(NULL, 0, 10);
}

static bool write_config(struct run_agent *agent, const struct rl_terms *terms)
{
	char limit[RL_TERMS_TEXT];

	agent->config_fd = memfd_create("rl-run-config", 0);
	if (agent->config_fd < 0)
		return false;
	rl_terms_format(terms, limit);
	return dprintf(agent->config_fd,
		       "segment: \"%s\"\nrules:\n  - name: " RUN_RULE "\n    limit: %s\n",
		       agent->segment, limit) > 0;
}

bool run_agent_prepare(struct run_agent *agent, const char *segment, const struct rl_terms *terms)
{
	*agent = (struct run_agent){.config_fd = -1, .own_path = segment == NULL};
	if (segment == NULL)
		snprintf(agent->segment, sizeof(agent->segment), "/dev/shm/rl/run-%ld",
			 (long)getpid());
	else if (*segment != '/' || strlen(segment) + 32 > sizeof(agent->segment) ||
		 strpbrk(segment, "\"\\\n") != NULL)
		return tool_error("the segment's path must start with '/': %s", segment), false;
	else
		memcpy(agent->segment, segment, strlen(segment) + 1);
	if (!tool_sibling("rl-agent", "sbin", agent->program, sizeof(agent->program)))
		return tool_error("there is no rl-agent beside rlctl: install it"), false;
	if (!write_config(agent, terms))
		return tool_error("cannot write the agent's configuration: %s", strerror(errno)),
		       false;
	return true;
}

/* In the child: its own process group, so that a Ctrl-C meant for the server spares it. */
static void become_agent(const struct run_agent *agent)
{
	char config[32];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	snprintf(config, sizeof(config), "/proc/self/fd/%d", agent->config_fd);
	execl(agent->program, "rl-agent", "--config", config, (char *)NULL);
	tool_error("cannot run %s: %s", agent->program, strerror(errno));
	_exit(TOOL_ERROR);
}

void run_agent_restart(struct run_agent *agent)
{
	agent->pid = fork();
	if (agent->pid == 0)
		become_agent(agent);
	if (agent->pid < 0)
		agent->pid = 0;
}

static bool rule_is_there(const struct run_agent *agent)
{
	struct rl_view view;
	uint64_t handle;
	bool there;

	if (rl_segment_view(agent->segment, &view, NULL) != 0)
		return false;
	there = rl_rules_find(&view, RUN_RULE, &handle) == 0;
	rl_segment_unview(&view);
	return there;
}

bool run_agent_start(struct run_agent *agent)
{
	run_agent_restart(agent);
	for (int i = 0; agent->pid > 0 && i < READY_TRIES; i++) {
		if (waitpid(agent->pid, NULL, WNOHANG) == agent->pid) {
			agent->pid = 0; /* its own message is on stderr */
			return false;
		}
		if (rule_is_there(agent))
			return true;
		nap_10ms();
	}
	return tool_error("the private rl-agent did not get ready"), false;
}

void run_agent_stop(struct run_agent *agent)
{
	char lock[PATH_MAX + 8];

	if (agent->pid > 0) {
		kill(agent->pid, SIGTERM);
		for (int i = 0; waitpid(agent->pid, NULL, WNOHANG) == 0; i++) {
			if (i == STOP_TRIES)
				kill(agent->pid, SIGKILL);
			nap_10ms();
		}
		agent->pid = 0;
	}
	if (agent->config_fd >= 0)
		close(agent->config_fd);
	if (agent->own_path) {
		snprintf(lock, sizeof(lock), "%s.lock", agent->segment);
		unlink(agent->segment);
		unlink(lock);
	}
}
