/*
 * order.h - one standing order: a rule that is off, a key that is blocked, has another limit for a
 * while, or was reset. Its form in a command's document, and sets of them.
 *
 * Rooms:  agent/orders/. Pure; memory but no clock and no segment.
 *
 *	{"do": "off", "rule": "login"}                        without a rule: all of them
 *	{"do": "block", "rule": "login", "key": "3139..", "until": 1790000000000}
 *	{"do": "override", ..., "limit": "1000/minute", "until": ..}     "1000": in the rule's
 *window
 *	{"do": "reset", "rule": "login", "key": "3139..", "until": ..}   for who was away at "at"
 *
 * each with "n", the number of the document it came with, "at", when, "uid" and "host", by whom.
 * Times are milliseconds of the clock that the set goes by: of Redis, or of this host.
 */
#ifndef ORDERS_ORDER_H
#define ORDERS_ORDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_check.h"
#include "shm/rl_terms.h"

#define ORDERS_MAX      1000u /* of a set: each agent has all of them in its lists */
#define ORDERS_RESETS   256u  /* of them resets; then the oldest are dropped */
#define ORDERS_TEXT_MAX (512u << 10)
#define ORDERS_MS_MAX   (UINT64_C(1) << 52)
#define ORDERS_SPAN_MS  UINT64_C(3155760000000) /* a century: the longest that one stands */

enum order_kind { ORDER_OFF, ORDER_BLOCK, ORDER_OVERRIDE, ORDER_RESET, ORDER_KINDS };

struct order {
	enum order_kind kind;
	char rule[RL_NAME_MAX + 1]; /* empty: all of them */
	unsigned char key[RL_KEY_BYTES_MAX];
	size_t key_len;        /* 0: none, ORDER_OFF */
	struct rl_terms terms; /* ORDER_OVERRIDE; a window of 0: the rule's */
	uint64_t number;       /* of the document that it came with */
	uint64_t at_ms;
	uint64_t until_ms;          /* 0: until it is taken back, ORDER_OFF */
	bool over;                  /* this agent has seen its end */
	int64_t uid;                /* of who gave it; -1: not known */
	char host[RL_NAME_MAX + 1]; /* where */
};

struct order_set {
	struct order *order;
	size_t count, room;
};

/* "off", "block", "override", "reset". */
const char *order_name(enum order_kind kind);

/* "1000/minute", or "1000" in the rule's window: NULL, or what is wrong with it. */
const char *order_limit_parse(const char *text, struct rl_terms *ret);

/* A key's bytes in hex, 1 .. RL_KEY_BYTES_MAX of them. */
bool order_key_read(const char *hex, struct order *ret);
void order_key_write(const struct order *order, char hex[2 * RL_KEY_BYTES_MAX + 1]);

/* NULL when there is no memory. */
json_t *order_write(const struct order *order);

/* Whatever object is given: true and *ret filled, or false and one line that says why. */
bool order_read(json_t *object, struct order *ret, const char **ret_why);

/* The order of the same kind, rule and key, or NULL. */
struct order *order_find(const struct order_set *set, const struct order *like);

/* Add it, or put it in the place of the one that is the same but for its terms. False: no room. */
bool order_put(struct order_set *set, const struct order *order);

void order_drop(struct order_set *set, struct order *order);

/* Drop those that have ended at now_ms, and resets above ORDERS_RESETS. How many. */
size_t order_prune(struct order_set *set, uint64_t now_ms);

bool order_copy(const struct order_set *from, struct order_set *ret);
void order_free(struct order_set *set);

#endif
