/*
 * answer.h - a call's answer: checked against the call, and applied.
 *
 * Rooms:  agent/sync/part.c.
 */
#ifndef SYNC_ANSWER_H
#define SYNC_ANSWER_H

#include "agent/store/store.h"
#include "agent/sync/part.h"

/* The answer to the call under way, which is then over, is sent again later, or is given up. */
void answer_take(struct sync_part *part, const struct store_answer *answer);

#endif
