/*
 * promise.h - how the promise stands, for people: `rlctl status`, from shm/rl_watch.h.
 */
#ifndef TOOLS_PROMISE_H
#define TOOLS_PROMISE_H

#include <jansson.h>

#include "shm/rl_watch.h"
#include "tools/tool.h"

struct promise {
	struct rl_watch_host host;
	uint32_t count;
	bool counted; /* the sums were counted here, as no agent does */
	struct rl_watch_rule_now rule[RL_RULES_MAX];
};

/* Of these rules, in their order. */
void promise_read(const struct rl_view *view, const struct rl_named_rule *rule, uint32_t count,
		  struct promise *ret);

/* The lines of `rlctl status`: a table of a line for each rule, not above 80 columns. */
void promise_print(const struct promise *promise, const struct rl_named_rule *rule);

/* Put "clock", "partitions" and "audit" of the host into all; null when nothing is shared. */
void promise_json(const struct promise *promise, json_t *all);

/* Put "bound_in_force", "promise" and "audit" into a rule's object. */
void promise_json_rule(const struct promise *promise, uint32_t i, json_t *object);

#endif
