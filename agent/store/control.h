/*
 * control.h - the bytes of store_control(): two documents that agents swap for others, and which
 * agent has taken which.
 *
 * Rooms:  agent/store/, agent/orders/, agent/memory/. Pure; rl_control.lua has the other side of
 *         both formats, and says what a store does with them.
 */
#ifndef AGENT_STORE_CONTROL_H
#define AGENT_STORE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_TIP       16u
#define CONTROL_NO_TIP    "0000000000000000" /* of a document that is not there */
#define CONTROL_ASK_SIZE  72u
#define CONTROL_SWAP_SIZE 32u
#define CONTROL_TEXT_MAX  (1u << 20)

#define CONTROL_COUNT  1u /* flag: count the rows */
#define CONTROL_REPORT 2u /* flag: note what this row goes by */
#define CONTROL_SWAP   4u /* flag: swap document 0; shifted by one, document 1 */

enum control_document { CONTROL_ORDERS, CONTROL_RULES, CONTROL_DOCUMENTS };

struct control_ask {
	uint32_t silence_ms; /* a row that was not seen for longer is dead */
	uint32_t flags;
	char known[CONTROL_DOCUMENTS][CONTROL_TIP]; /* the texts of these need not be sent */
	char has[CONTROL_DOCUMENTS][CONTROL_TIP];   /* this row goes by these */
	/* With CONTROL_SWAP. */
	char expected[CONTROL_TIP], tip[CONTROL_TIP];
	const char *text;
	size_t text_size;
};

#define CONTROL_SWAPPED   1u
#define CONTROL_UNSWAPPED 2u /* another tip was there */

struct control_answer {
	uint64_t now_ms;
	uint32_t swapped; /* 0: not asked */
	/* With CONTROL_COUNT: live rows, and how many of them go by each document as it is. */
	uint32_t live, with[CONTROL_DOCUMENTS];
	char tip[CONTROL_DOCUMENTS][CONTROL_TIP];
	const char *text[CONTROL_DOCUMENTS]; /* of those that were not known; into the answer */
	size_t text_size[CONTROL_DOCUMENTS];
};

/* Bytes to be freed, NULL when there is no memory. */
unsigned char *control_ask_write(const struct control_ask *ask, size_t *ret_size);

/* False: it is no answer. */
bool control_answer_read(const unsigned char *bytes, size_t size, struct control_answer *ret);

/* The other side, for a backend that is no Redis. False: it is no request. */
bool control_ask_read(const unsigned char *bytes, size_t size, struct control_ask *ret);
unsigned char *control_answer_write(const struct control_answer *answer, size_t *ret_size);

#endif
