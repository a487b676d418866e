/*
 * resets.c - what an order does to the slot of its key: forget what was spent, or what was lent
 * under another limit.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/orders/inner.h"
#include "agent/sync/forget.h"
#include "agent/sync/sync.h"
#include "shm/rl_table.h"

#define STEP_MS  20
#define FRESH_MS 1000 /* until then nobody else has begun to count anew */

/* A key's slot, as far as there is one. */
struct place {
	struct rl_rule rule;
	struct rl_check_key key;
	uint64_t handle, index, head;
};

static int find(const struct orders *orders, const struct order *order, struct place *ret)
{
	int error = rl_rules_find(&orders->seg->view, order->rule, &ret->handle);

	if (error == 0)
		error = rl_rules_read(&orders->seg->view, ret->handle, &ret->rule);
	if (error == 0 && rl_rule_in_flight(&ret->rule))
		error = RL_E_ALGORITHM;
	if (error != 0)
		return error;
	rl_check_hash(&orders->seg->view, ret->handle, order->key, order->key_len, &ret->key);
	ret->index = rl_table_find(&orders->seg->view, &ret->key.id, &ret->head);
	return 0;
}

int reset_now(struct orders *orders, const struct order *order)
{
	struct place place;
	int error = find(orders, order, &place);

	return error == 0 ? rl_check_reset(orders->seg, place.handle, &place.key) : error;
}

void resets_limit_changed(struct orders *orders, const struct order *order)
{
	struct place place;

	if (orders->sync != NULL && find(orders, order, &place) == 0 && place.index != RL_NO_SLOT)
		sync_limit_changed(orders->sync, place.index);
}

static bool is_same(const struct order *a, const struct order *b)
{
	return a->number == b->number && strcmp(a->rule, b->rule) == 0 &&
	       a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0;
}

bool resets_wait(const struct orders *orders, const struct order *order)
{
	for (size_t i = 0; i < orders->resets; i++)
		if (is_same(&orders->reset[i].order, order))
			return true;
	return false;
}

static void wake(struct orders *orders)
{
	const struct timeval soon = {.tv_usec = STEP_MS * 1000};

	if (orders->soon != NULL && orders->resets > 0)
		evtimer_add(orders->soon, &soon);
}

void resets_add(struct orders *orders, const struct order *order)
{
	struct reset *reset;

	if (order->kind != ORDER_RESET || order->number <= orders->resets_done ||
	    resets_wait(orders, order))
		return;
	reset = realloc(orders->reset, (orders->resets + 1) * sizeof(orders->reset[0]));
	if (reset == NULL)
		return;
	orders->reset = reset;
	orders->reset[orders->resets++] = (struct reset){
		.order = *order,
		.mine = strcmp(order->host, sync_host(orders->sync)) == 0,
	};
	wake(orders);
}

/*
 * What this host admitted before the order, on the slot's clock; a coarse stamp may be two ticks
 * older than what it stands for. The host that gave the order is the first to begin anew, if it
 * comes at once: then all there is.
 */
static uint64_t moment(const struct orders *orders, const struct reset *reset,
		       const struct place *place, bool fresh)
{
	bool coarse = rl_clock_is_coarse(place->rule.window_ns);

	if (fresh)
		return rl_clock_precise_ns();
	return orders_precise_ns(orders, reset->order.at_ms) -
	       (coarse ? 2 * orders->seg->view.tick_ns : 0);
}

/*
 * Commanded here a moment ago? "at" is the latest that it can have been, by the answer of the store
 * before: by the one after it that may be ahead.
 */
static bool is_fresh(const struct orders *orders, const struct reset *reset)
{
	return reset->mine && (int64_t)(orders_high_ms(orders) - reset->order.at_ms) < FRESH_MS;
}

/* A key that no host has a slot of may still have a count in Redis: who commands makes one. */
static void make_slot(struct orders *orders, struct place *place)
{
	static struct rl_member nobody;

	rl_check_make(orders->seg, &nobody, place->handle, &place->key);
}

/* True when it is over, one way or the other. */
static bool step_shared(struct orders *orders, struct reset *reset, struct place *place)
{
	bool fresh = is_fresh(orders, reset);
	uint64_t before_ns, since_ns;

	if (reset->done_here && reset->index == place->index)
		return !sync_forget_waits(orders->sync, place->index);
	reset->done_here = false;
	if (place->index == RL_NO_SLOT) {
		if (reset->mine)
			make_slot(orders, place); /* the next step finds it, or tries again */
		return !reset->mine;
	}
	before_ns = moment(orders, reset, place, fresh);
	since_ns = fresh ? before_ns : orders_precise_ns(orders, reset->order.at_ms);
	if (!sync_forget(orders->sync, place->index, before_ns, reset->mine ? since_ns : 0))
		return false;
	reset->done_here = true;
	reset->index = place->index;
	return !reset->mine;
}

static bool step(struct orders *orders, struct reset *reset)
{
	struct place place;

	if (reset->order.until_ms <= orders_low_ms(orders, true) ||
	    find(orders, &reset->order, &place) != 0)
		return true;
	if (rl_rule_is_local(&place.rule))
		return rl_check_reset(orders->seg, place.handle, &place.key) != RL_E_BUSY;
	return step_shared(orders, reset, &place);
}

void resets_step(struct orders *orders)
{
	size_t before = orders->resets;

	for (size_t i = orders->resets; i-- > 0;)
		if (step(orders, &orders->reset[i]))
			orders->reset[i] = orders->reset[--orders->resets];
	if (orders->resets == 0 && before > 0) {
		orders->resets_done = orders->fleet.version;
		keep_write(orders);
	}
	wake(orders);
}
