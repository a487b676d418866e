/*
 * give.c - a command: is it one that can be carried out, and for this host alone or for the fleet?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/orders/inner.h"
#include "agent/sync/sync.h"

#define ANSWER_NS (4 * RL_SECOND_NS) /* rlctl waits for 5 */

static void tell(orders_done_fn *done, void *arg, const char *error, int code)
{
	const struct orders_result result = {.error = error, .code = code};

	done(arg, &result);
}

static bool is_rules(const struct orders_command *command)
{
	return command->verb != ORDERS_PUT && command->verb != ORDERS_DROP;
}

/* 0, or why no order of this kind can be given for this rule. */
static int fault_of(const struct orders *orders, const struct orders_command *command)
{
	const struct order *order = &command->order;
	struct rl_rule rule;
	uint64_t handle;
	int error;

	if (is_rules(command) || order->rule[0] == '\0')
		return 0;
	error = rl_rules_find(&orders->seg->view, order->rule, &handle);
	if (error == 0)
		error = rl_rules_read(&orders->seg->view, handle, &rule);
	if (error != 0)
		return command->verb == ORDERS_DROP ? 0 : error;
	if (rl_rule_in_flight(&rule) &&
	    (order->kind == ORDER_RESET || order->kind == ORDER_OVERRIDE))
		return RL_E_ALGORITHM;
	return 0;
}

/* A block that was made in the key's slot, by rl_block() or an agent of before. */
static void end_slot_block(struct orders *orders, const struct order *order)
{
	static struct rl_member nobody;
	struct rl_check_key key;
	uint64_t handle;

	if (rl_rules_find(&orders->seg->view, order->rule, &handle) != 0)
		return;
	rl_check_hash(&orders->seg->view, handle, order->key, order->key_len, &key);
	rl_check_block(orders->seg, &nobody, handle, &key, 0);
}

static bool change_local(struct orders *orders, const struct orders_command *command)
{
	struct order order = command->order, *there;

	if (command->verb == ORDERS_DROP) {
		there = order_find(&orders->local.set, &order);
		if (there != NULL)
			order_drop(&orders->local.set, there);
		return true;
	}
	order.at_ms = orders_low_ms(orders, false);
	order.until_ms = order.kind == ORDER_OFF ? 0 : order.at_ms + command->for_ms;
	order.uid = command->uid;
	return order_put(&orders->local.set, &order);
}

/* Else it would be in force, and not be kept. */
static bool can_be_kept(const struct orders *orders)
{
	char *text = order_doc_write(&orders->local);

	free(text);
	return text != NULL;
}

/* 0, or an error and nothing has changed. */
static const char *give_local(struct orders *orders, const struct orders_command *command)
{
	struct order_set before;
	const char *why = NULL;

	if (!order_copy(&orders->local.set, &before))
		return "no memory";
	if (!change_local(orders, command))
		why = "this host has a thousand standing orders of its own already: take some back "
		      "first";
	else if (!can_be_kept(orders))
		why = "this host's own standing orders would be longer than 512 KiB: take some "
		      "back first";
	else if (!orders_publish(orders, false))
		why = "this host has no room for another order: its segment was made for so many "
		      "entries of lists, of rules and of orders together";
	if (why == NULL) {
		order_free(&before);
		keep_write(orders);
		if (command->order.kind == ORDER_OVERRIDE)
			resets_limit_changed(orders, &command->order);
		return NULL;
	}
	order_free(&orders->local.set);
	orders->local.set = before;
	orders_publish(orders, false);
	return why;
}

static void run_local(struct orders *orders, const struct orders_command *command,
		      orders_done_fn *done, void *arg)
{
	const char *error = NULL;
	int code = 0;

	if (is_rules(command))
		error = "rules are pushed to a fleet, and this agent has no 'redis': change its "
			"file and send it a SIGHUP";
	else if (command->verb == ORDERS_PUT && command->order.kind == ORDER_RESET)
		code = reset_now(orders, &command->order);
	else
		error = give_local(orders, command);
	if (command->verb == ORDERS_DROP && command->order.kind == ORDER_BLOCK)
		end_slot_block(orders, &command->order);
	tell(done, arg, error, code);
}

/* How long hosts that are away may come back with what is to be forgotten. */
static uint64_t reset_ms(const struct orders *orders, const char *name)
{
	struct rl_rule rule = {0};
	uint64_t handle;

	if (rl_rules_find(&orders->seg->view, name, &handle) == 0)
		rl_rules_read(&orders->seg->view, handle, &rule);
	return rule.window_ns / 1000000 + ORDERS_RESET_MS;
}

static struct pending *make(struct orders *orders, const struct orders_command *command,
			    orders_done_fn *done, void *arg)
{
	struct pending *pending = calloc(1, sizeof(*pending));

	if (pending == NULL)
		return NULL;
	pending->verb = command->verb;
	pending->document = is_rules(command) ? CONTROL_RULES : CONTROL_ORDERS;
	pending->wait = command->wait;
	pending->order = command->order;
	pending->order.uid = pending->uid = command->uid;
	snprintf(pending->order.host, sizeof(pending->order.host), "%s", sync_host(orders->sync));
	pending->for_ms = command->for_ms;
	if (pending->order.kind == ORDER_RESET)
		pending->for_ms = reset_ms(orders, pending->order.rule);
	pending->pushed = orders->rules.now.version;
	pending->end_ns = rl_clock_precise_ns() + ANSWER_NS;
	pending->done = done;
	pending->arg = arg;
	return pending;
}

/* A set of rules as it will be pushed: its 'rules' alone, which are right here. NULL, and why. */
static char *cut(const struct orders *orders, const struct orders_command *command, char **ret_why,
		 bool *ret_others)
{
	static struct agent_config fresh;
	size_t size;
	FILE *out = open_memstream(ret_why, &size);
	char *text = NULL;

	if (out == NULL)
		return NULL;
	if (config_load_rules(command->name, command->text, strlen(command->text), orders->config,
			      out, &fresh))
		text = config_cut_rules(command->name, command->text, strlen(command->text),
					orders->config, out, ret_others);
	fclose(out);
	return text;
}

/* False, when it was answered. */
static bool add_text(struct orders *orders, const struct orders_command *command,
		     struct pending *pending)
{
	bool others = false;
	char *why = NULL;

	if (command->verb != ORDERS_PUSH)
		return true;
	pending->text = cut(orders, command, &why, &others);
	if (others)
		snprintf(
			pending->note, sizeof(pending->note),
			"only 'rules' was pushed: the other sections of %.200s are each host's own",
			command->name);
	if (pending->text == NULL)
		tell(pending->done, pending->arg, why != NULL ? why : "no memory", 0);
	free(why);
	return pending->text != NULL;
}

static void run_fleet(struct orders *orders, const struct orders_command *command,
		      orders_done_fn *done, void *arg)
{
	struct pending *pending;

	if (!sync_can_control(orders->sync)) {
		tell(done, arg,
		     is_rules(command)
			     ? "the fleet cannot be reached, as its Redis cannot: nothing was done"
			     : "the fleet cannot be reached, as its Redis cannot: nothing was "
			       "done; "
			       "with --local it is done on this host alone",
		     0);
		return;
	}
	pending = orders->pendings < PENDING_MAX - CONTROL_DOCUMENTS
			  ? make(orders, command, done, arg)
			  : NULL;
	if (pending == NULL) {
		tell(done, arg, "too many others command this agent at this moment: try again", 0);
		return;
	}
	if (!add_text(orders, command, pending)) {
		free(pending);
		return;
	}
	if (command->verb == ORDERS_DROP && command->order.kind == ORDER_BLOCK)
		end_slot_block(orders, &command->order);
	fleet_command(orders, pending);
}

void orders_command(struct orders *orders, const struct orders_command *command,
		    orders_done_fn *done, void *arg)
{
	int fault = fault_of(orders, command);

	if (fault != 0)
		tell(done, arg, NULL, fault);
	else if (orders->sync == NULL || command->local)
		run_local(orders, command, done, arg);
	else
		run_fleet(orders, command, done, arg);
}
