/*
 * command.h - one command to the agent: from its line to the line that answers it.
 *
 * Rooms:  agent/control.c. Does what it says to the segment; no socket.
 */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <stddef.h>

#include "shm/rl_segment.h"

#define COMMAND_MAX 4096 /* bytes of a line: a key of 1 KiB is 2 KiB of hex */

/* The answer to a line of len bytes, to be freed, without a newline. by: who asks, for the log. */
char *command_run(struct rl_seg *seg, const char *line, size_t len, const char *by);

#endif
