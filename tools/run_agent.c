#include "tools/run_agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/rl_rules.h"
#include "tools/run_leftovers.h"
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

/* Root's own folder is the agents'; nobody else can be trusted to make it. */
static void own_segment(struct run_agent *agent)
{
	char dir[64] = "/dev/shm/rl";

	if (geteuid() != 0)
		snprintf(dir, sizeof(dir), "/dev/shm/rl-%lu", (unsigned long)geteuid());
	run_leftovers_remove(dir);
	snprintf(agent->segment, sizeof(agent->segment), "%s/run-%ld", dir, (long)getpid());
}

static bool has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

/* NULL, or why the path cannot be written into the agent's configuration. */
static const char *path_fault(const char *path)
{
	if (*path != '/')
		return "must start with '/'";
	if (strlen(path) + 32 > sizeof(((struct run_agent *)0)->segment))
		return "is too long";
	if (strpbrk(path, "\"\\\n") != NULL)
		return "must not hold '\"', '\\' or a newline";
	if (has_control(path))
		return "holds a control character";
	return tool_is_utf8(path) ? NULL : "is not UTF-8 text";
}

bool run_agent_prepare(struct run_agent *agent, const char *segment, const struct rl_terms *terms)
{
	const char *wrong = segment == NULL ? NULL : path_fault(segment);

	*agent = (struct run_agent){.config_fd = -1, .own_path = segment == NULL};
	if (wrong != NULL)
		return tool_error("the segment's path %s", wrong), false;
	if (segment == NULL)
		own_segment(agent);
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
static void become_agent(const struct run_agent *agent, pid_t parent)
{
	char config[32];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent) /* it died before we asked to be told */
		_exit(TOOL_ERROR);
	snprintf(config, sizeof(config), "/proc/self/fd/%d", agent->config_fd);
	execl(agent->program, "rl-agent", "--config", config, (char *)NULL);
	tool_error("cannot run %s: %s", agent->program, strerror(errno));
	_exit(TOOL_ERROR);
}

static void spawn(struct run_agent *agent)
{
	pid_t parent = getpid();

	agent->pid = fork();
	if (agent->pid == 0)
		become_agent(agent, parent);
	if (agent->pid < 0)
		agent->pid = 0;
	agent->last_pid = agent->pid;
}

void run_agent_restart(struct run_agent *agent)
{
	if (rl_segment_lock_holder(agent->segment) == 0)
		spawn(agent);
}

/* The rule is there, and it is our agent that keeps it. */
static bool is_ready(const struct run_agent *agent)
{
	struct tool_agent keeper;
	struct rl_view view;
	uint64_t handle;
	bool there;

	if (rl_segment_view(agent->segment, &view, NULL) != 0)
		return false;
	tool_agent(&view, &keeper);
	there = keeper.pid == (uint64_t)agent->pid && rl_rules_find(&view, RUN_RULE, &handle) == 0;
	rl_segment_unview(&view);
	return there;
}

static void add_signals(sigset_t *set, const int *numbers)
{
	for (; *numbers != 0; numbers++)
		sigaddset(set, *numbers);
}

void run_signals_block(struct run_signals *signals)
{
	sigemptyset(&signals->ours);
	add_signals(&signals->ours,
		    (const int[]){SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, 0});
	sigprocmask(SIG_BLOCK, &signals->ours, &signals->normal);
}

/* Sleep 10 ms; the number of a signal that asks rlctl to end, or 0. The others stay pending. */
static int nap_or_signal(void)
{
	const struct timespec nap = {.tv_nsec = 10000000};
	sigset_t ending;
	int got;

	sigemptyset(&ending);
	add_signals(&ending, (const int[]){SIGTERM, SIGINT, SIGHUP, SIGQUIT, 0});
	got = sigtimedwait(&ending, NULL, &nap);
	return got > 0 ? got : 0;
}

int run_agent_start(struct run_agent *agent)
{
	int got = 0, status;

	spawn(agent);
	for (int i = 0; agent->pid > 0 && got == 0 && i < READY_TRIES; i++) {
		if (waitpid(agent->pid, &status, WNOHANG) == agent->pid) {
			agent->pid = 0; /* its own message is on stderr, unless it was killed */
			if (WIFSIGNALED(status))
				tool_error("the private rl-agent died of signal %d",
					   WTERMSIG(status));
			return -1;
		}
		if (is_ready(agent))
			return 0;
		got = nap_or_signal();
	}
	if (got == 0)
		tool_error("the private rl-agent did not get ready");
	return got != 0 ? got : -1;
}

/* Also what an agent that had to be killed was building. */
static void remove_files(const struct run_agent *agent)
{
	char name[PATH_MAX + 32];

	unlink(agent->segment);
	snprintf(name, sizeof(name), "%s.%ld.tmp", agent->segment, (long)agent->last_pid);
	unlink(name);
	snprintf(name, sizeof(name), "%s.lock", agent->segment);
	unlink(name);
}

void run_agent_stop(struct run_agent *agent)
{
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
	if (agent->own_path)
		remove_files(agent);
}
