/*
 * command.h - one command to the agent: from its line to the line that answers it.
 *
 * Rooms:  agent/control.c. Reads and writes lines; agent/orders/ does what they say. No socket.
 */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "agent/orders/orders.h"

/* Bytes of a line: a key of 1 KiB is 2 KiB of hex, a set of rules 256 KiB, and as JSON more. */
#define COMMAND_MAX (640u << 10)

/* Who asks, as the kernel says. */
struct command_caller {
	int64_t uid; /* -1: not known */
	char by[64]; /* "uid=1000 pid=4711", for the log */
};

/* Called once with the answer to a line, to be freed, without a newline; NULL: no memory. */
typedef void command_answer_fn(void *arg, char *text);

/* Run a line of len bytes: answer is called before this returns, or when the fleet was told. */
void command_run(struct orders *orders, const char *line, size_t len,
		 const struct command_caller *caller, command_answer_fn *answer, void *arg);

#endif
