/*
 * tool.h - what all rlctl subcommands share.
 *
 * Exit codes are the same everywhere: 0 allowed or fine, 1 limited or a finding, 2 an error
 * with a message that says what to do.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

enum { TOOL_FINE = 0, TOOL_FINDING = 1, TOOL_ERROR = 2 };

struct tool {
	const char *segment; /* --segment, else $RL_SEGMENT, else the default path; never NULL */
	bool segment_given;  /* by option or environment */
	bool json;
	const char *cost_text; /* --cost, or NULL */
	unsigned given;        /* TOOL_LOCAL ..: options of commands that are for a fleet */
};

#define TOOL_LOCAL    1u /* --local: this host alone */
#define TOOL_WAIT     2u /* --wait: until all hosts have it */
#define TOOL_CLEAR    4u /* --clear, --rollback: of pushed rules */
#define TOOL_ROLLBACK 8u
#define TOOL_PUSHED   16u /* --pushed: their text */

/* "rlctl: MESSAGE" on stderr; returns TOOL_ERROR. */
int tool_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Write out what was printed. Returns code, or TOOL_ERROR after a message when it did not all
 * get where it should (a full disk, a closed stdout).
 */
int tool_flush(int code);

bool tool_is_utf8(const char *text);

/* Put '?' for what is no printable ASCII: text of a segment, for a terminal. */
void tool_printable(char *text);

/* Text as a JSON string; bytes that are no UTF-8 text as \xNN. A new reference, never NULL. */
json_t *tool_json_text(const char *text);

/* Map the segment for reading, or say why not; true when mapped. */
bool tool_view(const struct tool *tool, struct rl_view *ret);

/* Say that a rule is not there, naming those that are; returns TOOL_ERROR. */
int tool_no_rule(const struct tool *tool, const struct rl_view *view, const char *name);

/* The agent's heartbeat. */
struct tool_agent {
	uint64_t pid; /* 0: stopped cleanly */
	uint64_t age_ns;
	bool alive; /* the heartbeat is at most a second old */
};
void tool_agent(const struct rl_view *view, struct tool_agent *ret);

/*
 * Find a file of this release beside the rlctl that runs: in its folder, or in ../SUB as
 * installed. False when there is none.
 */
bool tool_sibling(const char *name, const char *sub, char *ret_path, size_t size);

/* Parse a whole number low .. high; false when it is not one. */
bool tool_number(const char *text, unsigned long low, unsigned long high, unsigned long *ret);

int cmd_status(const struct tool *tool, int argc, char **argv);
int cmd_get(const struct tool *tool, int argc, char **argv);
int cmd_check(const struct tool *tool, int argc, char **argv);
int cmd_rules(const struct tool *tool, int argc, char **argv);
int cmd_off(const struct tool *tool, int argc, char **argv);
int cmd_on(const struct tool *tool, int argc, char **argv);
int cmd_reset(const struct tool *tool, int argc, char **argv);
int cmd_block(const struct tool *tool, int argc, char **argv);
int cmd_unblock(const struct tool *tool, int argc, char **argv);
int cmd_override(const struct tool *tool, int argc, char **argv);
int cmd_orders(const struct tool *tool, int argc, char **argv);
int cmd_verify(const struct tool *tool, int argc, char **argv);
int cmd_run(const struct tool *tool, int argc, char **argv);

#endif
