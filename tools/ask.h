/*
 * ask.h - a command to the agent of the segment, over its control socket.
 */
#ifndef TOOLS_ASK_H
#define TOOLS_ASK_H

#include "tools/tool.h"

/*
 * Send the command and wait for the answer, at most 5 s. TOOL_FINE when the agent has done it, else
 * TOOL_ERROR after a message. Takes the reference to command.
 */
int ask_agent(const struct tool *tool, json_t *command);

/* The bytes of a key as a command has them: in hex. A new reference. */
json_t *ask_key(const char *key);

#endif
