/*
 * fleet.c - the fleet's two documents: what of them is new is taken, and what is commanded here is
 * swapped in.
 *
 * One request is under way at a time. A command that finds another agent's change in its way is
 * made anew from what is there; one whose answer is lost is sent again only when what is there does
 * not have it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/orders/inner.h"
#include "agent/store/store.h"
#include "agent/sync/identity.h"
#include "agent/sync/sync.h"

#define REPORT_NS  (20 * RL_SECOND_NS) /* a store keeps what a row said for a minute */
#define COUNT_NS   (2 * RL_SECOND_NS)
#define JUMP_MS    1000 /* the store's clock goes on from elsewhere: ends are written anew */
#define LOG_ORDERS 8

static void draw(char ret[CONTROL_TIP])
{
	char hex[CONTROL_TIP + 1];

	snprintf(hex, sizeof(hex), "%016" PRIx64, identity_random() | 1);
	memcpy(ret, hex, CONTROL_TIP);
}

static bool same_tip(const char a[CONTROL_TIP], const char b[CONTROL_TIP])
{
	return memcmp(a, b, CONTROL_TIP) == 0;
}

static bool is_none(const char tip[CONTROL_TIP])
{
	return same_tip(tip, CONTROL_NO_TIP);
}

/* --- commands, as far as they got --- */

static void remove_pending(struct orders *orders, struct pending *pending)
{
	for (size_t i = 0; i < orders->pendings; i++)
		if (orders->pending[i] == pending) {
			memmove(&orders->pending[i], &orders->pending[i + 1],
				(orders->pendings - i - 1) * sizeof(orders->pending[0]));
			orders->pendings--;
			return;
		}
}

void pending_finish(struct orders *orders, struct pending *pending, const char *error, int code)
{
	const struct orders_result result = {
		.error = error,
		.code = code,
		.fleet = true,
		.version = pending->version,
		.live = orders->live,
		.have = orders->with[pending->document],
		.note = pending->note[0] != '\0' ? pending->note : NULL,
	};

	remove_pending(orders, pending);
	if (pending->done != NULL)
		pending->done(pending->arg, &result);
	free(pending->text);
	free(pending);
}

/* It is in the store, and in force here. */
static void pending_stored(struct orders *orders, struct pending *pending)
{
	if (pending->verb == ORDERS_PUT && pending->order.kind == ORDER_RESET &&
	    resets_wait(orders, &pending->order))
		pending->state = PENDING_RESET;
	else if (pending->wait && orders->with[pending->document] < orders->live)
		pending->state = PENDING_HOSTS;
	else
		pending_finish(orders, pending, NULL, 0);
}

static const char *late(const struct pending *pending)
{
	switch (pending->state) {
	case PENDING_RESET:
		return "the fleet is told, but the count in Redis is not forgotten yet: that is "
		       "done as soon as Redis answers, and this host's table has room for the "
		       "key";
	case PENDING_SENT:
		return "Redis does not answer: it is not known whether the fleet was told; 'rlctl "
		       "orders' says so when it is back";
	default:
		return "the fleet could not be reached: nothing was done; with --local it is done "
		       "on this host alone";
	}
}

static void end_pendings(struct orders *orders)
{
	uint64_t now_ns = rl_clock_precise_ns();

	for (size_t i = orders->pendings; i-- > 0;) {
		struct pending *pending;

		if (i >= orders->pendings) /* who was answered gave another command */
			continue;
		pending = orders->pending[i];
		if (pending->state == PENDING_RESET && !resets_wait(orders, &pending->order))
			pending_stored(orders, pending); /* --wait: then the hosts */
		else if (now_ns < pending->end_ns || pending->restore)
			continue;
		else if (pending->state == PENDING_HOSTS)
			pending_finish(orders, pending, NULL, 0);
		else
			pending_finish(orders, pending, late(pending), 0);
	}
}

/* --- taking a document --- */

static void log_new(const struct order_doc *doc, uint64_t before)
{
	unsigned said = 0;

	for (size_t i = 0; i < doc->set.count && said < LOG_ORDERS; i++) {
		const struct order *order = &doc->set.order[i];

		if (order->number <= before)
			continue;
		said++;
		log_event(LOG_INFO, "ordered",
			  "do=%s rule=%s host=%s uid=%" PRId64 " version=%" PRIu64,
			  order_name(order->kind), order->rule[0] != '\0' ? order->rule : "(all)",
			  order->host, order->uid, doc->version);
	}
	log_event(LOG_INFO, "orders", "version=%" PRIu64 " orders=%zu", doc->version,
		  doc->set.count);
}

/* Keys whose limit is another by it. */
static void limits_changed(struct orders *orders, const struct order_set *a,
			   const struct order_set *b)
{
	for (size_t i = 0; i < a->count; i++) {
		const struct order *there = order_find(b, &a->order[i]);

		if (a->order[i].kind == ORDER_OVERRIDE &&
		    (there == NULL || there->number != a->order[i].number))
			resets_limit_changed(orders, &a->order[i]);
	}
}

static void use_orders(struct orders *orders, struct order_doc *fresh, const char *tip)
{
	struct order_doc old = orders->fleet;

	orders->fleet = *fresh;
	if (!orders_publish(orders, false)) {
		orders->fleet = old;
		order_doc_free(fresh);
		orders_log_once(
			orders->doc[CONTROL_ORDERS].why, "orders_refused",
			"this host has no room for what the fleet was told, and goes by the "
			"version before it: its segment was made for fewer entries of "
			"lists");
		orders_publish(orders, false);
		return;
	}
	log_new(fresh, old.life == fresh->life ? old.version : 0);
	limits_changed(orders, &old.set, &fresh->set);
	limits_changed(orders, &fresh->set, &old.set);
	order_doc_free(&old);
	memcpy(orders->doc[CONTROL_ORDERS].has, tip, CONTROL_TIP);
	/* A document that was begun anew counts from 1 again. */
	if (orders->resets_done >= orders->fleet.version)
		orders->resets_done = orders->fleet.version > 0 ? orders->fleet.version - 1 : 0;
	for (size_t i = 0; i < orders->fleet.set.count; i++)
		if (orders->fleet.set.order[i].number > orders->resets_done)
			resets_add(orders, &orders->fleet.set.order[i]);
	orders->doc[CONTROL_ORDERS].why[0] = '\0';
	keep_write(orders);
	resets_step(orders); /* before anything else is told of those keys */
}

static void restore(struct orders *orders, enum control_document document);

static void complain(struct orders *orders, enum control_document document, const char *why)
{
	char text[REASON_MAX];

	snprintf(text, sizeof(text), "the %s that the store has for the fleet cannot be read: %s",
		 document == CONTROL_ORDERS ? "orders" : "rules", why);
	orders_log_once(orders->doc[document].why, "orders_refused", text);
}

static void take_orders(struct orders *orders, const char *tip, const char *text, size_t size)
{
	struct order_doc fresh;
	const char *why;

	if (!order_doc_read(text, size, &fresh, &why)) {
		complain(orders, CONTROL_ORDERS, why);
		return;
	}
	if (fresh.unknown > 0)
		complain(orders, CONTROL_ORDERS, fresh.why); /* the others are taken */
	if (fresh.life == orders->fleet.life && fresh.version < orders->fleet.version) {
		order_doc_free(&fresh);
		restore(orders, CONTROL_ORDERS); /* a failover lost the newest */
		return;
	}
	use_orders(orders, &fresh, tip);
}

static void use_rules(struct orders *orders, struct rules_doc *fresh, const char *tip)
{
	bool good = true;

	if (fresh->now.text != NULL)
		good = rules_use(orders, &fresh->now);
	else
		orders->has_pushed = false;
	rules_doc_free(&orders->rules);
	orders->rules = *fresh;
	if (good && orders_publish(orders, true)) {
		memcpy(orders->doc[CONTROL_RULES].has, tip, CONTROL_TIP);
		log_event(LOG_INFO, "rules", "from=%s version=%" PRIu64 " host=%s uid=%" PRId64,
			  orders->has_pushed ? "push" : "file", orders->rules.now.version,
			  orders->rules.now.host, orders->rules.now.uid);
	} else if (good) {
		log_event(LOG_ERROR, "push_refused",
			  "version=%" PRIu64 " msg=\"the segment cannot take these rules: the ones "
			  "before them stay\"",
			  orders->rules.now.version);
		snprintf(orders->doc[CONTROL_RULES].why, REASON_MAX,
			 "this host could not take the rules of version %" PRIu64,
			 orders->rules.now.version);
		orders->has_pushed = orders->rules.former.text != NULL &&
				     rules_use(orders, &orders->rules.former);
		orders_publish(orders, true);
	}
	orders_show(orders);
	keep_write(orders);
}

static void take_rules(struct orders *orders, const char *tip, const char *text, size_t size)
{
	struct rules_doc fresh;
	const char *why;

	if (!rules_doc_read(text, size, &fresh, &why)) {
		complain(orders, CONTROL_RULES, why);
		return;
	}
	if (fresh.life == orders->rules.life && fresh.now.version < orders->rules.now.version) {
		rules_doc_free(&fresh);
		restore(orders, CONTROL_RULES);
		return;
	}
	use_rules(orders, &fresh, tip);
}

static uint64_t life_of(const struct orders *orders, enum control_document document)
{
	return document == CONTROL_ORDERS ? orders->fleet.life : orders->rules.life;
}

/* What is there now, and the text if it is news. */
static void take_document(struct orders *orders, enum control_document document, const char *tip,
			  const char *text, size_t size)
{
	struct kept_doc *doc = &orders->doc[document];

	if (same_tip(doc->seen, tip) && (!is_none(tip) || life_of(orders, document) == 0))
		return;
	memcpy(doc->seen, tip, CONTROL_TIP);
	if (is_none(tip)) {
		if (life_of(orders, document) != 0)
			restore(orders, document); /* the store has lost all of it */
	} else if (document == CONTROL_ORDERS) {
		take_orders(orders, tip, text, size);
	} else {
		take_rules(orders, tip, text, size);
	}
}

static void take_clock(struct orders *orders, uint64_t store_ms)
{
	uint64_t before_ms = orders_low_ms(orders, true);
	int64_t jump_ms = (int64_t)(store_ms - before_ms);

	orders->clock.store_ms = store_ms;
	orders->clock.sent_ns = orders->sent_ns;
	orders->clock.got_ns = rl_clock_precise_ns();
	if ((jump_ms > JUMP_MS || jump_ms < -JUMP_MS) && orders->fleet.set.count > 0)
		orders_publish(orders, false);
}

/* --- making a document --- */

static const char *change_set(struct orders *orders, struct pending *pending, struct order_doc *doc)
{
	struct order *order = &pending->order, *there = order_find(&doc->set, order);

	order_prune(&doc->set, orders_low_ms(orders, true));
	order->number = doc->version;
	if (pending->restore)
		return NULL;
	if (pending->verb == ORDERS_DROP) {
		there = order_find(&doc->set, order);
		if (there != NULL)
			order_drop(&doc->set, there);
		return NULL;
	}
	order->at_ms = orders_high_ms(orders);
	order->until_ms = order->kind == ORDER_OFF ? 0 : order->at_ms + pending->for_ms;
	if (!order_put(&doc->set, order))
		return "the fleet has a thousand standing orders already: take some back first";
	order_prune(&doc->set, orders_low_ms(orders, true));
	return NULL;
}

static char *make_orders(struct orders *orders, struct pending *pending, const char **ret_why)
{
	struct order_doc doc = orders->fleet;
	char *text = NULL;

	if (doc.unknown > 0) {
		*ret_why = "the fleet was told something that this release does not know: command "
			   "it where a newer one runs";
		return NULL;
	}
	if (doc.life == 0 || (pending->restore && is_none(orders->doc[CONTROL_ORDERS].seen)))
		doc.life = identity_random() | 1;
	doc.version++;
	*ret_why = "no memory";
	if (!order_copy(&orders->fleet.set, &doc.set))
		return NULL;
	*ret_why = change_set(orders, pending, &doc);
	if (*ret_why == NULL) {
		text = order_doc_write(&doc);
		*ret_why = "the fleet's standing orders would be longer than 512 KiB";
	}
	pending->version = doc.version;
	order_free(&doc.set);
	return text;
}

static void fill_push(struct orders *orders, const struct pending *pending, struct rules_push *ret)
{
	ret->version++;
	ret->at_ms = orders_high_ms(orders);
	ret->uid = pending->uid;
	snprintf(ret->host, sizeof(ret->host), "%s", sync_host(orders->sync));
	ret->text = pending->text;
	if (pending->verb == ORDERS_ROLLBACK)
		ret->text = orders->rules.former.text;
	if (pending->verb == ORDERS_CLEAR)
		ret->text = NULL;
}

static char *make_rules(struct orders *orders, struct pending *pending, const char **ret_why)
{
	struct rules_doc doc = orders->rules;

	if (!pending->restore && doc.now.version != pending->pushed) {
		snprintf(pending->note, sizeof(pending->note),
			 "version %" PRIu64 " was pushed meanwhile on host %s by uid %" PRId64
			 ": look at it (rlctl rules show --pushed), then push again",
			 doc.now.version, doc.now.host, doc.now.uid);
		*ret_why = pending->note;
		return NULL;
	}
	if (pending->verb == ORDERS_ROLLBACK && !pending->restore && doc.former.text == NULL) {
		*ret_why = "no set of rules was pushed before this one";
		return NULL;
	}
	if (doc.life == 0 || (pending->restore && is_none(orders->doc[CONTROL_RULES].seen)))
		doc.life = identity_random() | 1;
	if (pending->restore) {
		doc.now.version++;
	} else {
		doc.former = orders->rules.now;
		fill_push(orders, pending, &doc.now);
	}
	pending->version = doc.now.version;
	*ret_why = "the rules, with those before them, are longer than 1 MiB";
	return rules_doc_write(&doc);
}

/* --- asking --- */

static void on_answer(const struct store_answer *answer, void *arg);

static bool send_ask(struct orders *orders, struct control_ask *ask)
{
	size_t size;
	unsigned char *bytes = control_ask_write(ask, &size);

	orders->sent_ns = rl_clock_precise_ns();
	orders->asking =
		bytes != NULL && sync_control(orders->sync, bytes, size, on_answer, orders) == 0;
	free(bytes);
	return orders->asking;
}

static bool any_document(const struct orders *orders)
{
	return orders->fleet.life != 0 || orders->rules.life != 0;
}

static bool is_waiting(const struct orders *orders)
{
	for (size_t i = 0; i < orders->pendings; i++)
		if (orders->pending[i]->state == PENDING_HOSTS)
			return true;
	return false;
}

/* Reports are kept only where there is something to go by. */
static void fill_ask(struct orders *orders, bool count, struct control_ask *ret)
{
	uint64_t now_ns = rl_clock_precise_ns();

	*ret = (struct control_ask){.silence_ms = SYNC_RECLAIM_MS};
	for (int d = 0; d < CONTROL_DOCUMENTS; d++) {
		memcpy(ret->known[d], orders->doc[d].seen, CONTROL_TIP);
		memcpy(ret->has[d], orders->doc[d].has, CONTROL_TIP);
	}
	if (any_document(orders) && (memcmp(ret->has, orders->reported, sizeof(ret->has)) != 0 ||
				     now_ns - orders->reported_ns > REPORT_NS)) {
		ret->flags |= CONTROL_REPORT;
		memcpy(orders->reported, ret->has, sizeof(ret->has));
		orders->reported_ns = now_ns;
	}
	if (count || is_waiting(orders) ||
	    (any_document(orders) && now_ns - orders->counted_ns > COUNT_NS))
		ret->flags |= CONTROL_COUNT;
}

static bool send_pending(struct orders *orders, struct pending *pending)
{
	const struct kept_doc *doc = &orders->doc[pending->document];
	struct control_ask ask;
	const char *why = NULL;
	char *text;
	bool sent;

	/* Rules are pushed whole: who could not take the last ones may still push others. */
	if (!pending->restore && pending->document == CONTROL_ORDERS &&
	    !same_tip(doc->has, doc->seen)) {
		pending_finish(orders, pending, doc->why, 0);
		return true;
	}
	text = pending->document == CONTROL_ORDERS ? make_orders(orders, pending, &why)
						   : make_rules(orders, pending, &why);
	if (text == NULL) {
		pending_finish(orders, pending, why, 0);
		return true;
	}
	fill_ask(orders, true, &ask);
	ask.flags |= CONTROL_SWAP << pending->document;
	draw(pending->tip);
	memcpy(ask.expected, doc->seen, CONTROL_TIP);
	memcpy(ask.tip, pending->tip, CONTROL_TIP);
	ask.text = text;
	ask.text_size = strlen(text);
	sent = send_ask(orders, &ask);
	if (sent)
		pending->state = PENDING_SENT;
	free(orders->sending);
	orders->sending = text;
	return sent;
}

static struct pending *sent_pending(const struct orders *orders)
{
	for (size_t i = 0; i < orders->pendings; i++)
		if (orders->pending[i]->state == PENDING_SENT)
			return orders->pending[i];
	return NULL;
}

static struct pending *next_pending(const struct orders *orders)
{
	for (size_t i = 0; i < orders->pendings; i++)
		if (orders->pending[i]->state == PENDING_QUEUED)
			return orders->pending[i];
	return NULL;
}

void fleet_ask(struct orders *orders)
{
	struct pending *pending;
	struct control_ask ask;

	if (orders->asking || !sync_can_control(orders->sync))
		return;
	/* What the store has is asked first: what is commanded is made from it. Also when the
	 * answer to one before was lost: the next one's would be taken for it. */
	while (orders->heard && sent_pending(orders) == NULL &&
	       (pending = next_pending(orders)) != NULL)
		if (!send_pending(orders, pending) || orders->asking)
			return;
	fill_ask(orders, false, &ask);
	send_ask(orders, &ask);
}

/* --- answers --- */

/* Its answer may have been lost. */
static bool is_there(const struct orders *orders, const struct pending *pending)
{
	const struct order *there = order_find(&orders->fleet.set, &pending->order);

	if (same_tip(orders->doc[pending->document].seen, pending->tip))
		return true;
	return pending->document == CONTROL_ORDERS && pending->verb == ORDERS_PUT &&
	       there != NULL && there->at_ms == pending->order.at_ms &&
	       strcmp(there->host, pending->order.host) == 0;
}

static void take_swap(struct orders *orders, struct pending *pending,
		      const struct control_answer *answer)
{
	if (answer->swapped == CONTROL_SWAPPED) {
		memcpy(orders->doc[pending->document].seen, pending->tip, CONTROL_TIP);
		if (pending->document == CONTROL_ORDERS)
			take_orders(orders, pending->tip, orders->sending, strlen(orders->sending));
		else
			take_rules(orders, pending->tip, orders->sending, strlen(orders->sending));
		/* The store counted before this host went by it. */
		orders->with[pending->document] +=
			same_tip(orders->doc[pending->document].has, pending->tip);
		pending_stored(orders, pending);
	} else if (pending->restore) {
		pending_finish(orders, pending, NULL, 0); /* another agent was first */
	} else {
		pending->state = PENDING_QUEUED;
	}
}

static void take_counts(struct orders *orders, const struct control_answer *answer)
{
	if (answer->live == 0)
		return;
	orders->counted_ns = rl_clock_precise_ns();
	orders->live = answer->live;
	memcpy(orders->with, answer->with, sizeof(orders->with));
	orders_show(orders);
	for (size_t i = orders->pendings; i-- > 0;)
		if (i < orders->pendings && orders->pending[i]->state == PENDING_HOSTS &&
		    orders->with[orders->pending[i]->document] >= orders->live)
			pending_finish(orders, orders->pending[i], NULL, 0);
}

static void take_answer(struct orders *orders, const struct control_answer *answer)
{
	struct pending *sent = sent_pending(orders);

	take_clock(orders, answer->now_ms);
	orders->heard = true;
	orders->told[0] = '\0';
	take_counts(orders, answer);
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		if (sent == NULL || answer->swapped != CONTROL_SWAPPED ||
		    sent->document != (enum control_document)d)
			take_document(orders, (enum control_document)d, answer->tip[d],
				      answer->text[d], answer->text_size[d]);
	if (sent != NULL && answer->swapped != 0)
		take_swap(orders, sent, answer);
	else if (sent != NULL && is_there(orders, sent))
		pending_stored(orders, sent);
	else if (sent != NULL)
		sent->state = PENDING_QUEUED;
	sync_heard(orders->sync);
}

/* It may have been applied, or not: what the store says next tells. */
static void take_trouble(struct orders *orders, const struct store_answer *answer)
{
	struct pending *sent = sent_pending(orders);

	if (answer->outcome == STORE_LOST)
		return;
	if (answer->outcome == STORE_REFUSED || answer->outcome == STORE_WRONG) {
		char why[REASON_MAX];

		snprintf(why, sizeof(why), "the store refuses it: %.400s", answer->why);
		orders_log_once(orders->told, "orders_refused", why);
		if (sent != NULL)
			pending_finish(orders, sent, why, 0);
		sync_heard(orders->sync);
	} else if (sent != NULL) {
		sent->state = PENDING_QUEUED;
	}
}

static void on_answer(const struct store_answer *answer, void *arg)
{
	struct orders *orders = arg;
	struct control_answer control;
	char reported[CONTROL_DOCUMENTS][CONTROL_TIP];

	orders->asking = false;
	if (answer->outcome != STORE_ANSWERED) {
		take_trouble(orders, answer);
		return;
	}
	if (!control_answer_read(answer->answers, answer->answers_size, &control)) {
		orders_log_once(orders->told, "orders_refused",
				"the store's answer is of another form");
		return;
	}
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		memcpy(reported[d], orders->doc[d].has, CONTROL_TIP);
	take_answer(orders, &control);
	/* At once: what was commanded meanwhile, and that this host goes by what is new. */
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		if (!same_tip(reported[d], orders->doc[d].has)) {
			fleet_ask(orders);
			return;
		}
	if (next_pending(orders) != NULL)
		fleet_ask(orders);
}

static void restore(struct orders *orders, enum control_document document)
{
	struct pending *pending;

	for (size_t i = 0; i < orders->pendings; i++)
		if (orders->pending[i]->restore && orders->pending[i]->document == document)
			return;
	pending = calloc(1, sizeof(*pending));
	if (pending == NULL || orders->pendings == PENDING_MAX) {
		free(pending);
		return;
	}
	log_event(LOG_WARNING, "orders_restored",
		  "msg=\"the store has lost the %s that the fleet was told: it gets them from this "
		  "host\"",
		  document == CONTROL_ORDERS ? "orders" : "rules");
	pending->restore = true;
	pending->document = document;
	orders->pending[orders->pendings++] = pending;
}

void fleet_command(struct orders *orders, struct pending *pending)
{
	orders->pending[orders->pendings++] = pending;
	fleet_ask(orders);
}

void fleet_tick(struct orders *orders)
{
	end_pendings(orders);
	fleet_ask(orders);
}
