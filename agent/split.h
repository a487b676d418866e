/*
 * split.h - after an upgrade, as long as processes of the earlier release go on in the segment that
 * the new one took the place of: each of the two has half of every limit that only this host
 * counts.
 *
 * Rooms:  agent/keeper.c.
 *
 * The replaced file keeps a name, "<segment>.before", while anybody has it mapped for writing: the
 * kernel says so (a lease on the file is refused), whatever container or pid namespace they are in.
 * When the last of them has gone, what they admitted counts until its window has passed; then the
 * rule's limit is whole again. All of this is in that file (it is emptied, but for the moment at
 * which they went), so that it outlives this agent. Remove the file to end it at once.
 *
 * No window of a key holds more than L: what was counted before is in both segments, so together
 * they admit at most L / 2 + L / 2 less that.
 */
#ifndef AGENT_SPLIT_H
#define AGENT_SPLIT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_rules.h"

struct split {
	bool on;
	bool said;
	bool was_idle;    /* nobody had the old segment when it was begun */
	uint64_t gone_ns; /* precise clock: when the last one was seen to be gone; 0: not yet */
	char path[PATH_MAX + sizeof(".before")];
	int unsure;                /* errno of a kernel that does not say who has it; else 0 */
	struct split_rules *rules; /* as they were published last; NULL: never */
	struct split_rules *next;  /* as they are about to be */
};

/* Is one under way that an agent before us began? */
void split_open(struct split *split, const char *segment);

/*
 * The segment is about to be replaced: give it its other name. Nothing of it may be mapped here. 0,
 * or -errno and why: also when the one before it is still in use.
 */
int split_begin(struct split *split, const char *segment, char *why);

/* It was not replaced. */
void split_cancel(struct split *split);

/*
 * The rules to put in force in place of these, and then whether they are; and what may be left to
 * the old segment of such a rule.
 */
const struct rl_rule_spec *split_halve(struct split *split, const struct rl_rule_spec *rule,
				       size_t count);
void split_settle(struct split *split, bool in_force);
void split_leave(struct rl_seg *old, const struct rl_rule_spec *rule, size_t count);

/*
 * Once a second. True: the limits that are to be in force have changed; put those of split_due()
 * in force, then go on.
 */
bool split_look(struct split *split);
const struct rl_rule_spec *split_due(struct split *split, size_t *ret_count);

void split_close(struct split *split);

#endif
