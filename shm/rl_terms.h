/*
 * rl_terms.h - the terms of a limit, as a number and as text: COUNT/WINDOW.
 *
 * Rooms:  everywhere. Pure; no memory but the caller's.
 */
#ifndef RL_TERMS_H
#define RL_TERMS_H

#include <stddef.h>
#include <stdint.h>

#define RL_LIMIT_MAX     UINT32_C(0x7fffffff)                 /* 2^31 - 1 */
#define RL_WINDOW_MIN_NS UINT64_C(10000000)                   /* 10 ms */
#define RL_WINDOW_MAX_NS (UINT64_C(365) * 86400 * 1000000000) /* 365 days */
#define RL_NAME_MAX      63                                   /* bytes of a rule's name */
#define RL_TERMS_TEXT    48                                   /* bytes for rl_terms_format */

struct rl_terms {
	uint32_t limit;     /* units, 1 .. RL_LIMIT_MAX */
	uint64_t window_ns; /* RL_WINDOW_MIN_NS .. RL_WINDOW_MAX_NS */
};

/*
 * Parse "100/minute", "5/10s", "20/250ms": COUNT/[N](ms|s|second|m|minute|h|hour|d|day).
 * Returns NULL and fills *ret, or one line that says what is wrong (static text).
 */
const char *rl_terms_parse(const char *text, struct rl_terms *ret);

/*
 * Parse the limit of a rule that limits requests in flight: a plain COUNT, 1 .. 1048575. The window
 * is the shortest there is: nothing goes by it. Returns as rl_terms_parse().
 */
const char *rl_terms_parse_count(const char *text, struct rl_terms *ret);

/* The shortest text that parses back to these terms, e.g. "100/10s". Returns text. */
char *rl_terms_format(const struct rl_terms *terms, char text[RL_TERMS_TEXT]);

/*
 * Parse a span of time, "250ms", "2s", "0": N(ms|s|second|m|minute|h|hour|d|day), 0 .. 365d.
 * Returns NULL and sets *ret_ns, or one line that says what is wrong (static text).
 */
const char *rl_span_parse(const char *text, uint64_t *ret_ns);

/* A span of time for people: "10 ms", "1.5 s", "2 m 30 s", "3 h 10 m", "12 d". Returns text. */
char *rl_span_format(uint64_t span_ns, char text[RL_TERMS_TEXT]);

/* NULL, or why this cannot be a rule's name: 1 .. RL_NAME_MAX of [A-Za-z0-9._-]. */
const char *rl_name_fault(const char *name);

#endif
