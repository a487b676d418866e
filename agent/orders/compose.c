/*
 * compose.c - the rules of this host, or the pushed ones, with what was ordered: one configuration.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/orders/inner.h"
#include "shm/rl_algorithm.h"

/* The end of an order, in seconds of the segment's clock: rounded up, as an end is a whole one. */
static uint32_t end_of(const struct orders *orders, const struct order *order, bool fleet)
{
	uint64_t now_ms = orders_low_ms(orders, fleet), left_ms, ns, s;

	if (orders->config->clock_given)
		s = (order->until_ms + 999) / 1000;
	else if (order->until_ms <= now_ms)
		return 0;
	else {
		left_ms = order->until_ms - now_ms;
		if (left_ms > ORDERS_SPAN_MS)
			left_ms = ORDERS_SPAN_MS;
		ns = rl_clock_precise_ns() + left_ms * 1000000;
		s = (ns + RL_SECOND_NS - 1) / RL_SECOND_NS;
	}
	return s < UINT32_MAX ? (uint32_t)s : UINT32_MAX;
}

static bool is_entry(const struct order *order, enum order_kind kind,
		     const struct rl_rule_spec *spec)
{
	return order->kind == kind && strcmp(order->rule, spec->name) == 0 &&
	       (kind == ORDER_BLOCK || spec->algorithm != RL_CONCURRENCY);
}

static struct rl_list_item entry_of(const struct orders *orders, const struct order *order,
				    bool fleet, const struct rl_rule_spec *spec)
{
	struct rl_list_item item = {
		.verdict = order->kind == ORDER_BLOCK ? RL_VERDICT_BLOCK : RL_VERDICT_UNTIL,
		.key = (const char *)order->key,
		.key_len = order->key_len,
		.terms = order->terms,
		.until_s = end_of(orders, order, fleet),
	};

	if (order->kind == ORDER_OVERRIDE && item.terms.window_ns == 0)
		item.terms.window_ns = spec->terms.window_ns;
	return item;
}

/* Blocks before limits, and this host's before the fleet's: the first that stands decides. */
static size_t add_entries(const struct orders *orders, const struct rl_rule_spec *spec,
			  struct rl_list_item *out)
{
	static const enum order_kind kinds[] = {ORDER_BLOCK, ORDER_OVERRIDE};
	const struct order_set *set[] = {&orders->local.set, &orders->fleet.set};
	size_t count = 0;

	for (size_t k = 0; k < 2; k++)
		for (size_t s = 0; s < 2; s++)
			for (size_t i = 0; i < set[s]->count; i++)
				if (is_entry(&set[s]->order[i], kinds[k], spec)) {
					if (out != NULL)
						out[count] = entry_of(orders, &set[s]->order[i],
								      s == 1, spec);
					count++;
				}
	return count;
}

static bool add_orders(struct orders *orders, size_t index)
{
	struct rl_rule_spec *spec = &orders->whole.rule[index];
	size_t count = add_entries(orders, spec, NULL);
	struct rl_list_item *list;

	if (count == 0)
		return true;
	list = malloc((count + spec->list_count) * sizeof(list[0]));
	if (list == NULL)
		return false;
	add_entries(orders, spec, list);
	if (spec->list_count > 0)
		memcpy(list + count, spec->list, spec->list_count * sizeof(list[0]));
	spec->list = orders->list[index] = list;
	spec->list_count += count;
	return true;
}

void compose_free(struct orders *orders)
{
	for (size_t i = 0; i < RL_RULES_MAX; i++) {
		free(orders->list[i]);
		orders->list[i] = NULL;
	}
}

bool compose(struct orders *orders)
{
	const struct agent_config *rules = orders->has_pushed ? &orders->pushed : orders->config;
	bool good = true;

	compose_free(orders);
	orders->whole = *orders->config;
	orders->whole.rule_count = rules->rule_count;
	memcpy(orders->whole.rule, rules->rule, sizeof(orders->whole.rule));
	for (size_t i = 0; i < rules->rule_count && good; i++)
		good = add_orders(orders, i);
	if (!good)
		log_event(LOG_ERROR, "no_memory", "msg=\"no memory for the standing orders\"");
	return good;
}

static bool is_off(const struct orders *orders, const char *rule)
{
	struct order like = {.kind = ORDER_OFF};

	memcpy(like.rule, rule, strlen(rule) + 1);
	return order_find(&orders->local.set, &like) != NULL ||
	       order_find(&orders->fleet.set, &like) != NULL;
}

void compose_switches(struct orders *orders)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	uint64_t generation;
	int count = rl_rules_list(&orders->seg->view, list, &generation);

	/* Also when it stands as it should: then nothing is written that was not there. */
	rl_rules_switch(orders->seg, 0, !is_off(orders, ""));
	for (int i = 0; i < count; i++) {
		bool off = (list[i].rule.fleet & RL_RULE_OFF) != 0;

		if (off != is_off(orders, list[i].name))
			rl_rules_switch(orders->seg, list[i].rule.id, off);
	}
}
