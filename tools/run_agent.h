/*
 * run_agent.h - the private agent of `rlctl run --limit`: one rule, one segment of its own.
 */
#ifndef TOOLS_RUN_AGENT_H
#define TOOLS_RUN_AGENT_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "shm/rl_terms.h"

#define RUN_RULE "run" /* the name of the one rule */

struct run_agent {
	char program[PATH_MAX];
	char segment[PATH_MAX];
	int config_fd;  /* a memfd with the configuration; -1 = none */
	pid_t pid;      /* 0 = not running */
	pid_t last_pid; /* of the last one that was started */
	bool own_path;  /* the segment's path was made up here: remove it at the end */
};

/* Prepare: write the configuration. False after a message. segment NULL: a path of our own. */
bool run_agent_prepare(struct run_agent *agent, const char *segment, const struct rl_terms *terms);

/* From here to run_agent_stop() rlctl must not die of a signal: it has something to remove. */
struct run_signals {
	sigset_t ours;   /* blocked, and waited for */
	sigset_t normal; /* what the server is to have */
};
void run_signals_block(struct run_signals *signals);

/*
 * Start it and wait until its rule is in force, at most 10 s. 0 when it is; the number of a
 * signal that asked rlctl to end meanwhile; -1 after a message.
 */
int run_agent_start(struct run_agent *agent);

/* Start it again without waiting (it died; workers go on meanwhile), unless another has its
 * segment. */
void run_agent_restart(struct run_agent *agent);

/* Stop it, and remove the segment if the path was made up here. */
void run_agent_stop(struct run_agent *agent);

#endif
