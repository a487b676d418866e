/*
 * inner.h - what the files of agent/orders/ know of each other. For these files only.
 */
#ifndef ORDERS_INNER_H
#define ORDERS_INNER_H

#include <limits.h>

#include "agent/orders/doc.h"
#include "agent/orders/orders.h"
#include "agent/store/control.h"
#include "shm/rl_clock.h"

#define PENDING_MAX     32u /* commands under way; more are told to come again */
#define REASON_MAX      512u
#define ORDERS_RESET_MS 60000u /* after a window: leases, and clocks that step */

/*
 * The store's clock, as the last answer told it: between low and high ms now, which are apart by
 * its round trip. Before the first answer it is what this host's wall clock makes of it.
 */
struct orders_clock {
	uint64_t store_ms;        /* as it was told */
	uint64_t sent_ns, got_ns; /* precise clock: before and after it was read */
};

/* One document as this host has it. */
struct kept_doc {
	char has[CONTROL_TIP];  /* in force here */
	char seen[CONTROL_TIP]; /* the last one that was looked at; has, unless it was refused */
	char why[REASON_MAX];   /* it was */
};

/* A reset that this host has still to carry out. */
struct reset {
	struct order order;
	bool mine;      /* commanded here: this host tells Redis */
	bool done_here; /* the slot has forgotten; Redis is being told */
	uint64_t index; /* the slot, then */
};

enum pending_state {
	PENDING_QUEUED, /* to be sent, or sent again */
	PENDING_SENT,
	PENDING_RESET, /* in the store; the key is still to be reset */
	PENDING_HOSTS, /* done; all hosts are awaited */
};

struct pending {
	enum pending_state state;
	enum orders_verb verb;
	enum control_document document;
	bool restore; /* ours: the store has lost it */
	bool wait;
	struct order order;
	uint64_t for_ms;
	int64_t uid;
	char *text;      /* a set of rules */
	uint64_t pushed; /* the version that was in force when it was pushed */
	char tip[CONTROL_TIP];
	uint64_t version; /* of the document that has it */
	uint64_t end_ns;  /* then it is answered, whatever is known */
	char note[REASON_MAX];
	orders_done_fn *done;
	void *arg;
};

struct orders {
	const struct agent_config *config; /* the host's own */
	orders_publish_fn *publish;
	void *arg;
	char path[PATH_MAX]; /* of the file */

	struct order_doc local, fleet;
	struct rules_doc rules;
	struct agent_config pushed; /* rules.now.text, when it is right here */
	bool has_pushed;
	uint64_t pushed_version; /* of pushed: another than the last when that is refused */
	struct kept_doc doc[CONTROL_DOCUMENTS];
	uint64_t resets_done; /* the fleet's resets up to this version are carried out */

	/* What is in force, put together; its lists are freed with the next one. */
	struct agent_config whole;
	struct rl_list_item *list[RL_RULES_MAX];

	struct event_base *base;
	struct rl_seg *seg;
	struct sync *sync; /* NULL: no fleet */
	struct event *tick, *soon;
	struct orders_clock clock;
	bool asking; /* a request is under way */
	bool heard;  /* the store has answered since this agent began */
	uint64_t sent_ns, reported_ns, counted_ns, published_ns;
	uint32_t live, with[CONTROL_DOCUMENTS];
	char reported[CONTROL_DOCUMENTS][CONTROL_TIP]; /* what the store was told that we have */
	char *sending;                                 /* the document that is being swapped in */
	char told[REASON_MAX]; /* the last trouble with the store that was logged */

	struct reset *reset;
	size_t resets;
	struct pending *pending[PENDING_MAX];
	size_t pendings;
};

/* orders.c */
uint64_t orders_low_ms(const struct orders *orders, bool fleet);
uint64_t orders_high_ms(const struct orders *orders);
/* The earliest moment of this host, precise clock, at which the store's clock was at ms. */
uint64_t orders_precise_ns(const struct orders *orders, uint64_t ms);
bool orders_publish(struct orders *orders, bool rules);
/* Log it unless it is what was logged last; kept in told, of REASON_MAX bytes. */
void orders_log_once(char *told, const char *what, const char *why);
/* In the segment, for tools. */
void orders_show(struct orders *orders);

/* compose.c: config with everything that stands, into orders->whole; and the switches. */
bool compose(struct orders *orders);
void compose_free(struct orders *orders);
void compose_switches(struct orders *orders);

/* keep.c */
void keep_read(struct orders *orders);
void keep_write(struct orders *orders);

/* rules.c: is the pushed set right for this host? Into orders->pushed; false after logging. */
bool rules_use(struct orders *orders, const struct rules_push *push);

/* fleet.c */
void fleet_ask(struct orders *orders);
void fleet_command(struct orders *orders, struct pending *pending);
void fleet_tick(struct orders *orders);
void pending_finish(struct orders *orders, struct pending *pending, const char *error, int code);

/* resets.c */
void resets_add(struct orders *orders, const struct order *order);
/* One step of each; again in a moment while there are any. */
void resets_step(struct orders *orders);
bool resets_wait(const struct orders *orders, const struct order *order);
/* Of a rule of this host alone, at once. 0 or an error. */
int reset_now(struct orders *orders, const struct order *order);
void resets_limit_changed(struct orders *orders, const struct order *order);

#endif
