/*
 * answer.h - print what a check or a look answered, for people or as JSON.
 */
#ifndef TOOLS_ANSWER_H
#define TOOLS_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/tool.h"

struct answer {
	const char *rule;
	const char *key;
	bool allowed;
	uint32_t limit;
	uint32_t remaining;      /* of a shared rule: the credit this host holds */
	uint64_t window_ns;      /* 0: of a rule that limits requests in flight */
	uint32_t in_flight;      /* of such a rule */
	uint64_t retry_after_ns; /* 0 when allowed */
	uint64_t delay_ns;       /* allowed: to be held up for so long */
	unsigned state;          /* enum rl_state */
	unsigned by;             /* enum rl_decided */
};

/* Returns TOOL_FINE when allowed, else TOOL_FINDING. */
int answer_print(const struct tool *tool, const struct answer *answer);

#endif
