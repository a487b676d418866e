/*
 * log.h - what one key was really allowed, and the most that any window of it held.
 *
 * Rooms:  agent/watch/ only. Pure: no clock, no segment.
 *
 * An admit is known by a span of time in which it happened. A window (t - W, t] certainly held
 * those whose whole spans lie in it. So what is measured is never more than what was: a worker that
 * was stopped in between makes it less, never an excess that was none.
 *
 * Admits that lie within a LOG_PARTS-th of the window share a span. So a key takes a bounded number
 * of them however many it is allowed, and of a window's ends so much is not counted. What is too
 * long for a window is not kept.
 */
#ifndef WATCH_LOG_H
#define WATCH_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_PARTS 512u
#define LOG_MOST  1024u /* spans of a key */

struct log_span {
	uint64_t begun_ns, ended_ns;
	uint64_t units;
};

struct key_log {
	struct log_span *span; /* by ended_ns */
	uint32_t count, room;
	uint64_t window_ns;
	uint64_t from_ns; /* all that ended since is here; raised when spans are dropped */
};

/* An empty one; complete from now_ns on. */
void log_begin(struct key_log *log, uint64_t window_ns, uint64_t now_ns);
void log_free(struct key_log *log);

/* False: it is not kept; no memory, or its span is as long as a window. */
bool log_add(struct key_log *log, uint64_t begun_ns, uint64_t ended_ns, uint64_t units);

/* So many of the youngest units were given back. */
void log_give_back(struct key_log *log, uint64_t units);

/* What began before then was forgotten. */
void log_forget(struct key_log *log, uint64_t before_ns);

/* What ended before then is of no use any more. */
void log_drop(struct key_log *log, uint64_t before_ns);

/*
 * The most units that any window certainly held, of those that end at or after since_ns. span is by
 * ended_ns; scratch has as much room.
 */
uint64_t log_most(const struct log_span *span, uint32_t count, uint64_t window_ns,
		  uint64_t since_ns, struct log_span *scratch);

/* As few spans as most, at least, by joining those of one part of the window; returns how many. */
uint32_t log_coarsen(const struct log_span *span, uint32_t count, uint64_t part_ns,
		     struct log_span *ret);

/* For qsort(): by ended_ns. */
int log_by_end(const void *a, const void *b);

#endif
