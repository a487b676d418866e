/*
 * push.h - the part of `rlctl rules` that is about a pushed set.
 */
#ifndef TOOLS_PUSH_H
#define TOOLS_PUSH_H

#include "tools/tool.h"

/* rules push FILE, or --clear, or --rollback. */
int push_rules(const struct tool *tool, int argc, char **argv);

/* rules show --pushed. */
int push_show(const struct tool *tool);

#endif
