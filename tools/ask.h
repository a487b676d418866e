/*
 * ask.h - a command to the agent of the segment, over its control socket.
 */
#ifndef TOOLS_ASK_H
#define TOOLS_ASK_H

#include "tools/tool.h"

/*
 * Send the command and wait for the answer, at most 5 s. The answer when the agent has done it, a
 * new reference; NULL after a message. Takes the reference to command, and adds to it what
 * options say: --local, --wait.
 */
json_t *ask_agent(const struct tool *tool, json_t *command);

/* An answer's text, for a terminal: what is no printable ASCII is '?'. Never NULL. */
const char *ask_text(json_t *answer, const char *name, char *ret, size_t size);

/*
 * How far the fleet has come with what was done, and what else is to be known: lines for people, or
 * the answer itself. TOOL_FINDING when --wait waited in vain.
 */
int ask_say_fleet(const struct tool *tool, json_t *answer);

/* The bytes of a key as a command has them: in hex. A new reference. */
json_t *ask_key(const char *key);

#endif
