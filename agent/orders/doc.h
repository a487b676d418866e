/*
 * doc.h - the two documents that a fleet has in its store: the standing orders, and a set of rules.
 *
 * Rooms:  agent/orders/. Pure; memory only.
 *
 * Each is one JSON text, swapped for another as a whole. life is drawn when a document is made out
 * of nothing; version counts its changes. So an agent that finds an older version of the same life
 * knows that the store has lost something, and one of another life that it knows nothing.
 */
#ifndef ORDERS_DOC_H
#define ORDERS_DOC_H

#include "agent/orders/order.h"

#define DOC_FORMAT 1
#define DOC_RULES_MAX \
	(1u << 20) /* bytes of a document of rules: the set, and the one before it \
		    */
#define DOC_TEXT_MAX (256u << 10)
#define DOC_SHA256   65

struct order_doc {
	uint64_t life, version; /* 0: there is none */
	struct order_set set;
	uint32_t unknown; /* orders that this release cannot read: nobody here may change it */
	const char *why;  /* of the first of them */
};

/* A set of rules as it was pushed. */
struct rules_push {
	uint64_t version;
	uint64_t at_ms;
	int64_t uid;
	char host[RL_NAME_MAX + 1];
	char *text; /* NULL: none, each host goes by its own file */
};

struct rules_doc {
	uint64_t life; /* 0: nothing was ever pushed */
	struct rules_push now, former;
};

/* The text, to be freed; NULL when there is no memory, or it would be longer than may be. */
char *order_doc_write(const struct order_doc *doc);
char *rules_doc_write(const struct rules_doc *doc);

/*
 * Whatever text is given: true and *ret (to be freed), or false and one line that says why. Of a
 * set of rules only that it is whole: not whether they are right.
 */
bool order_doc_read(const char *text, size_t len, struct order_doc *ret, const char **ret_why);
bool rules_doc_read(const char *text, size_t len, struct rules_doc *ret, const char **ret_why);

void order_doc_free(struct order_doc *doc);
void rules_doc_free(struct rules_doc *doc);

/* In hex. */
void doc_sha256(const char *text, char ret[DOC_SHA256]);

#endif
