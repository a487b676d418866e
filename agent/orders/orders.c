#include "agent/orders/orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/log.h"
#include "agent/orders/inner.h"
#include "agent/sync/sync.h"
#include "shm/rl_now.h"
#include "shm/rl_word.h"

#define LOCAL_LIFE 1 /* a document of this host alone has no other lives to be told from */

static uint64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t orders_low_ms(const struct orders *orders, bool fleet)
{
	if (fleet)
		return orders->clock.store_ms +
		       (rl_clock_precise_ns() - orders->clock.got_ns) / 1000000;
	if (orders->config->clock_given)
		return orders->seg != NULL ? rl_now_ns(&orders->seg->view, false) / 1000000 : 0;
	return wall_ms();
}

uint64_t orders_high_ms(const struct orders *orders)
{
	return orders->clock.store_ms + (rl_clock_precise_ns() - orders->clock.sent_ns) / 1000000 +
	       1;
}

uint64_t orders_precise_ns(const struct orders *orders, uint64_t ms)
{
	int64_t apart_ms = (int64_t)(ms - orders->clock.store_ms);

	if (apart_ms > (int64_t)ORDERS_SPAN_MS || apart_ms < -(int64_t)ORDERS_SPAN_MS)
		apart_ms = 0; /* what somebody wrote there */
	return orders->clock.sent_ns + (uint64_t)(apart_ms * 1000000);
}

void orders_log_once(char *told, const char *what, const char *why)
{
	if (strcmp(told, why) == 0)
		return;
	snprintf(told, REASON_MAX, "%s", why);
	log_event(LOG_ERROR, what, "msg=\"%s\"", why);
}

/* Relaxed, all: for tools. */
static void show(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

void orders_show(struct orders *orders)
{
	struct rl_fleet *fleet = orders->seg->fleet;
	bool pushed = orders->has_pushed;

	show(&fleet->orders, orders->local.set.count + orders->fleet.set.count);
	show(&fleet->orders_version, orders->fleet.version);
	show(&fleet->orders_hosts, orders->with[CONTROL_ORDERS]);
	show(&fleet->rules_version, pushed ? orders->pushed_version : 0);
	show(&fleet->rules_wanted, orders->rules.now.text != NULL ? orders->rules.now.version : 0);
	show(&fleet->rules_hosts, orders->with[CONTROL_RULES]);
	show(&fleet->orders_live, orders->live);
}

bool orders_publish(struct orders *orders, bool rules)
{
	if (!compose(orders) || !orders->publish(orders->arg, &orders->whole, rules))
		return false;
	compose_switches(orders);
	orders->published_ns = rl_clock_precise_ns();
	orders_show(orders);
	return true;
}

struct orders *orders_open(const struct agent_config *config, orders_publish_fn *publish, void *arg)
{
	struct orders *orders = calloc(1, sizeof(*orders));
	const char *beside;

	if (orders == NULL)
		return NULL;
	beside = config->snapshot_path[0] != '\0' ? config->snapshot_path : config->segment_path;
	orders->config = config;
	orders->publish = publish;
	orders->arg = arg;
	snprintf(orders->path, sizeof(orders->path), "%.*s.orders", PATH_MAX - 16, beside);
	for (int d = 0; d < CONTROL_DOCUMENTS; d++) {
		memcpy(orders->doc[d].has, CONTROL_NO_TIP, CONTROL_TIP);
		memcpy(orders->doc[d].seen, CONTROL_NO_TIP, CONTROL_TIP);
	}
	keep_read(orders);
	orders->local.life = LOCAL_LIFE;
	if (orders->rules.now.text != NULL && !rules_use(orders, &orders->rules.now) &&
	    orders->rules.former.text != NULL)
		rules_use(orders, &orders->rules.former); /* as before this agent ended */
	return orders;
}

const struct agent_config *orders_config(struct orders *orders)
{
	return compose(orders) ? &orders->whole : orders->config;
}

/* Switched off by an agent of an earlier release, or whose file is gone: it stays so. */
static void adopt_switches(struct orders *orders)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	uint64_t generation;
	int count = rl_rules_list(&orders->seg->view, list, &generation);
	struct order off = {.kind = ORDER_OFF, .uid = -1, .at_ms = orders_low_ms(orders, false)};

	if (orders->local.set.count > 0 || orders->fleet.life != 0)
		return;
	/* Relaxed: the last agent's. */
	if (atomic_load_explicit(&orders->seg->live->off_all, memory_order_relaxed) == 1)
		order_put(&orders->local.set, &off);
	for (int i = 0; i < count; i++) {
		if ((list[i].rule.fleet & RL_RULE_OFF) == 0)
			continue;
		memcpy(off.rule, list[i].name, sizeof(off.rule));
		order_put(&orders->local.set, &off);
	}
	if (orders->local.set.count > 0)
		keep_write(orders);
}

/* Limits that have ended: the credit of before is given up. What is in the lists ends by itself. */
static void end_limits(struct orders *orders, struct order_set *set, bool fleet)
{
	uint64_t now_ms = orders_low_ms(orders, fleet);

	for (size_t i = 0; i < set->count; i++) {
		struct order *order = &set->order[i];

		if (order->kind != ORDER_OVERRIDE || order->over || order->until_ms > now_ms)
			continue;
		order->over = true;
		resets_limit_changed(orders, order);
	}
}

static bool has_ends(const struct orders *orders)
{
	return orders->local.set.count + orders->fleet.set.count > 0;
}

#define AGAIN_NS (60 * RL_SECOND_NS) /* clocks drift apart by less than a second in it */

static void on_tick(evutil_socket_t unused, short events, void *arg)
{
	struct orders *orders = arg;

	(void)unused, (void)events;
	end_limits(orders, &orders->local.set, false);
	end_limits(orders, &orders->fleet.set, true);
	if (order_prune(&orders->local.set, orders_low_ms(orders, false)) > 0)
		keep_write(orders);
	if (has_ends(orders) && rl_clock_precise_ns() - orders->published_ns > AGAIN_NS)
		orders_publish(orders, false);
	if (orders->sync != NULL)
		fleet_tick(orders);
}

static void on_soon(evutil_socket_t unused, short events, void *arg)
{
	struct orders *orders = arg;

	(void)unused, (void)events;
	resets_step(orders);
	fleet_tick(orders); /* who waits for one is answered */
}

/*
 * A connection that was lost for a moment has cost no look at what the fleet is told. Asked after
 * every loss, where each few answers are lost, it would take the place of the calls that admit.
 */
static bool has_just_looked(const struct orders *orders)
{
	return orders->heard &&
	       rl_clock_precise_ns() - orders->clock.got_ns < ORDERS_ASK_MS * UINT64_C(1000000);
}

static void on_up(void *arg)
{
	struct orders *orders = arg;

	if (orders->pendings > 0 || !has_just_looked(orders))
		fleet_ask(orders);
}

bool orders_begin(struct orders *orders, struct event_base *base, struct rl_seg *seg,
		  struct sync *sync, bool anew)
{
	const struct timeval tick = {.tv_usec = ORDERS_ASK_MS * 1000};

	orders->base = base;
	orders->seg = seg;
	orders->sync = sync;
	if (anew)
		orders->resets_done = 0; /* what it holds may be of before them */
	adopt_switches(orders);
	compose_switches(orders);
	orders->tick = event_new(base, -1, EV_PERSIST, on_tick, orders);
	orders->soon = evtimer_new(base, on_soon, orders);
	if (orders->tick == NULL || orders->soon == NULL || event_add(orders->tick, &tick) != 0)
		return false;
	orders_show(orders);
	if (sync != NULL)
		sync_listen(sync, on_up, orders);
	for (size_t i = 0; sync != NULL && i < orders->fleet.set.count; i++)
		resets_add(orders, &orders->fleet.set.order[i]);
	return true;
}

bool orders_reload(struct orders *orders)
{
	const struct rules_doc *rules = &orders->rules;
	const struct rules_push *push =
		orders->pushed_version == rules->now.version ? &rules->now : &rules->former;

	/* What a rule does not say is as the host's own file says. */
	if (orders->has_pushed && push->text != NULL)
		rules_use(orders, push);
	if (orders->has_pushed)
		log_event(
			LOG_WARNING, "rules_pushed",
			"version=%llu host=%s msg=\"the pushed set of rules stays in force; those "
			"of the file count when 'rlctl rules push --clear' takes it back\"",
			(unsigned long long)orders->pushed_version, orders->rules.now.host);
	return orders_publish(orders, true);
}

void orders_end(struct orders *orders)
{
	while (orders != NULL && orders->pendings > 0)
		pending_finish(orders, orders->pending[0],
			       "the agent ends: it is not known whether the fleet was told", 0);
}

void orders_free(struct orders *orders)
{
	if (orders == NULL)
		return;
	if (orders->tick != NULL)
		event_free(orders->tick);
	if (orders->soon != NULL)
		event_free(orders->soon);
	compose_free(orders);
	config_free(&orders->pushed);
	order_doc_free(&orders->local);
	order_doc_free(&orders->fleet);
	rules_doc_free(&orders->rules);
	free(orders->reset);
	free(orders->sending);
	free(orders);
}

static void add_set(struct orders *orders, json_t *list, const struct order_set *set, bool fleet)
{
	uint64_t now_ms = orders_low_ms(orders, fleet);

	for (size_t i = 0; i < set->count; i++) {
		const struct order *order = &set->order[i];
		json_t *object;

		if (order->until_ms != 0 && order->until_ms <= now_ms)
			continue;
		object = order_write(order);
		json_object_set_new(object, "local", json_boolean(!fleet));
		json_object_set_new(object, "ago_ms",
				    json_integer((json_int_t)(now_ms - order->at_ms)));
		if (order->until_ms != 0)
			json_object_set_new(object, "left_ms",
					    json_integer((json_int_t)(order->until_ms - now_ms)));
		json_array_append_new(list, object);
	}
}

json_t *orders_list(struct orders *orders)
{
	json_t *list = json_array();

	add_set(orders, list, &orders->local.set, false);
	add_set(orders, list, &orders->fleet.set, true);
	return list;
}

json_t *orders_rules(struct orders *orders)
{
	const struct rules_push *push = &orders->rules.now;
	json_t *object = json_pack("{s:s}", "from", orders->has_pushed ? "push" : "file");
	char sha256[DOC_SHA256];

	if (orders->rules.life == 0)
		return object;
	json_object_set_new(
		object, "version",
		json_integer((json_int_t)(orders->has_pushed ? orders->pushed_version : 0)));
	json_object_set_new(object, "fleet_version", json_integer((json_int_t)push->version));
	json_object_set_new(object, "cleared", json_boolean(push->text == NULL));
	json_object_set_new(object, "uid", json_integer((json_int_t)push->uid));
	json_object_set_new(object, "host", json_string(push->host));
	json_object_set_new(object, "ago_ms",
			    json_integer((json_int_t)(orders_low_ms(orders, true) - push->at_ms)));
	if (push->text == NULL)
		return object;
	doc_sha256(push->text, sha256);
	json_object_set_new(object, "sha256", json_string(sha256));
	json_object_set_new(object, "text", json_string(push->text));
	return object;
}
