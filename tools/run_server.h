/*
 * run_server.h - start the server under the shim and stay with it to its end.
 */
#ifndef TOOLS_RUN_SERVER_H
#define TOOLS_RUN_SERVER_H

#include <stdbool.h>

#include "tools/run_agent.h"

struct run_server {
	const char *segment;
	const char *rule;
	const char *port; /* only listeners on this port; NULL = all */
	char **command;   /* argv, NULL-terminated */
};

/* Set LD_PRELOAD and the shim's variables. False after a message (no shim to be found). */
bool run_server_environment(const struct run_server *server);

/*
 * Run the command as a child until it and every process it left behind has ended, forward
 * signals to it, and start the private agent again when it dies. Returns the exit code to
 * end with: the command's own, or 128 + the signal that ended it.
 */
int run_server_supervise(const struct run_server *server, struct run_agent *agent,
			 const struct run_signals *signals);

/* execvp() in the server's environment. Returns the exit code to end with, after a message. */
int run_server_become(const struct run_server *server);

#endif
