/*
 * lists.c - 'allow', 'deny', 'overrides', 'shadow' and 'enforce' of a rule.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_check.h"
#include "shm/rl_lists.h"

#define PPM_ALL 1000000u

/* One rule's entries while they are read: grown as needed, with where each stands. */
struct reading {
	struct yaml_file *file;
	struct rl_list_item *item;
	const yaml_node_t **node; /* of each item's key */
	size_t count, room;
};

static struct rl_list_item *add(struct reading *r, const yaml_node_t *node)
{
	if (r->count == r->room) {
		r->room = r->room == 0 ? 16 : 2 * r->room;
		r->item = realloc(r->item, r->room * sizeof(r->item[0]));
		r->node = realloc(r->node, r->room * sizeof(r->node[0]));
		if (r->item == NULL || r->node == NULL)
			abort(); /* a file of 1 MiB at most: nothing works any more */
	}
	r->node[r->count] = node;
	r->item[r->count] = (struct rl_list_item){0};
	return &r->item[r->count++];
}

/* An address, a network, or any other key. A single IPv6 address is its subscriber's /64. */
static bool read_key(struct reading *r, const yaml_node_t *node, const char *text,
		     struct rl_list_item *ret)
{
	const char *slash = strchr(text, '/');
	struct rl_ip alone;
	bool address =
		rl_ip_parse(text, slash != NULL ? (size_t)(slash - text) : strlen(text), &alone);
	char net[RL_IP_TEXT];

	if (address && !rl_ip_parse(text, strlen(text), &ret->net)) {
		yaml_fault(r->file, node, "bad network '%s': the length is 0 .. %u", text,
			   alone.bits);
		return false;
	}
	if (address && slash == NULL && alone.bits == RL_IP6_BITS)
		rl_ip_mask(&ret->net, RL_IP6_USUAL);
	else if (address && memcmp(alone.bytes, ret->net.bytes, sizeof(alone.bytes)) != 0) {
		rl_ip_format(&ret->net, net);
		yaml_fault(r->file, node,
			   "bad network '%s': it has bits behind its length; did you mean %s?",
			   text, net);
		return false;
	}
	if (address)
		return true;
	if (strlen(text) > RL_KEY_BYTES_MAX) {
		yaml_fault(r->file, node, "this key has more than %d bytes", RL_KEY_BYTES_MAX);
		return false;
	}
	ret->key = strdup(text);
	ret->key_len = strlen(text);
	return ret->key != NULL;
}

static void read_plain(struct reading *r, const yaml_node_t *rule, const char *key,
		       enum rl_verdict verdict)
{
	yaml_node_t *list = yaml_get(r->file, rule, key), *node;

	if (list == NULL)
		return;
	if (list->type != YAML_SEQUENCE_NODE) {
		yaml_fault(r->file, list,
			   "'%s' must be a list of keys and networks, e.g. [10.0.0.0/8, monitor]",
			   key);
		return;
	}
	for (size_t i = 0; (node = yaml_item(r->file, list, i)) != NULL && !yaml_enough(r->file);
	     i++) {
		const char *text =
			yaml_text(r->file, node, key, "a key or a network, e.g. 10.0.0.0/8");
		struct rl_list_item item = {.verdict = verdict};

		if (text != NULL && read_key(r, node, text, &item))
			*add(r, node) = item;
	}
}

static bool read_limit(struct reading *r, const yaml_node_t *node, struct rl_terms *ret)
{
	yaml_node_t *value = yaml_get(r->file, node, "limit");
	const char *text, *wrong;

	if (value == NULL) {
		yaml_fault(r->file, node, "this override has no 'limit'");
		return false;
	}
	text = yaml_text(r->file, value, "limit", "COUNT/WINDOW, e.g. 100/minute, 5/10s");
	if (text == NULL)
		return false;
	wrong = rl_terms_parse(text, ret);
	if (wrong != NULL)
		yaml_fault(r->file, value, "bad limit '%s': %s", text, wrong);
	return wrong == NULL;
}

/* A bucket's burst is the rule's unless the override has one. */
static bool read_burst(struct reading *r, const yaml_node_t *node, const struct rl_rule_spec *spec,
		       uint32_t *ret)
{
	yaml_node_t *value = yaml_get(r->file, node, "burst");
	uint32_t options = rl_algorithm_options(spec->algorithm);
	unsigned long long units;

	*ret = spec->burst;
	if (value == NULL)
		return true;
	if ((options & RL_OPTION_BURST) == 0) {
		yaml_fault(r->file, value, "'burst' in an override of a %s rule: it has none",
			   rl_algorithm_name(spec->algorithm));
		return false;
	}
	if (!yaml_number(r->file, value, "burst", (options & RL_OPTION_DELAY) != 0 ? 0 : 1,
			 RL_LIMIT_MAX, &units))
		return false;
	*ret = (uint32_t)units;
	return true;
}

static void read_override(struct reading *r, const yaml_node_t *node,
			  const struct rl_rule_spec *spec)
{
	static const char *const known[] = {"key", "limit", "burst", NULL};
	struct rl_list_item item = {.verdict = RL_VERDICT_OTHER};
	yaml_node_t *key;
	const char *text;

	if (!yaml_check_keys(r->file, node, "an override", known))
		return;
	key = yaml_get(r->file, node, "key");
	if (key == NULL) {
		yaml_fault(r->file, node, "this override has no 'key'");
		return;
	}
	text = yaml_text(r->file, key, "key", "a key or a network, e.g. 10.0.0.0/8");
	if (text != NULL && read_limit(r, node, &item.terms) &&
	    read_burst(r, node, spec, &item.burst) && read_key(r, key, text, &item))
		*add(r, key) = item;
}

static void read_overrides(struct reading *r, const yaml_node_t *rule,
			   const struct rl_rule_spec *spec)
{
	yaml_node_t *list = yaml_get(r->file, rule, "overrides"), *node;

	if (list == NULL)
		return;
	if (list->type != YAML_SEQUENCE_NODE) {
		yaml_fault(
			r->file, list,
			"'overrides' must be a list, e.g. [{key: 10.0.0.7, limit: 1000/minute}]");
		return;
	}
	for (size_t i = 0; (node = yaml_item(r->file, list, i)) != NULL && !yaml_enough(r->file);
	     i++)
		read_override(r, node, spec);
}

static int compare(const struct rl_list_item *a, const struct rl_list_item *b)
{
	if ((a->key == NULL) != (b->key == NULL))
		return a->key == NULL ? -1 : 1;
	if (a->key != NULL)
		return strcmp(a->key, b->key);
	return memcmp(&a->net, &b->net, sizeof(a->net));
}

static const struct reading *sorted; /* what by_key() compares; one thread reads configurations */

/* Equal keys in the order of the file. */
static int by_key(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	int order = compare(&sorted->item[x], &sorted->item[y]);

	return order != 0 ? order : x < y ? -1 : 1;
}

static void refuse_repeated(struct reading *r)
{
	size_t *order = malloc((r->count + 1) * sizeof(order[0]));

	if (order == NULL)
		abort(); /* as in add() */
	for (size_t i = 0; i < r->count; i++)
		order[i] = i;
	sorted = r;
	qsort(order, r->count, sizeof(order[0]), by_key);
	for (size_t i = 1; i < r->count && !yaml_enough(r->file); i++)
		if (compare(&r->item[order[i - 1]], &r->item[order[i]]) == 0)
			yaml_fault(r->file, r->node[order[i]],
				   "the same key or network stands in line %zu already",
				   r->node[order[i - 1]]->start_mark.line + 1);
	free(order);
}

/* Of all keys, or of those that are not enforced. */
static void read_shadow(struct yaml_file *file, const yaml_node_t *rule, uint32_t *ret_ppm)
{
	yaml_node_t *enforce = yaml_get(file, rule, "enforce");
	uint32_t enforced = PPM_ALL;
	bool shadow = false;

	value_truth(file, rule, "shadow", &shadow);
	value_part(file, rule, "enforce", &enforced);
	if (enforce != NULL && shadow)
		yaml_fault(file, enforce,
			   "'enforce' on a shadow rule: it enforces nothing; take one out");
	*ret_ppm = shadow ? PPM_ALL : PPM_ALL - enforced;
}

void config_read_lists(struct yaml_file *file, const yaml_node_t *rule, struct rl_rule_spec *ret)
{
	struct reading r = {.file = file};

	read_plain(&r, rule, "allow", RL_VERDICT_ALLOW);
	read_plain(&r, rule, "deny", RL_VERDICT_DENY);
	if (ret->algorithm != RL_CONCURRENCY)
		read_overrides(&r, rule, ret);
	else if (yaml_get(file, rule, "overrides") != NULL)
		yaml_fault(file, yaml_get(file, rule, "overrides"),
			   "'overrides' on a concurrency rule: it has one limit for all keys");
	refuse_repeated(&r);
	free(r.node);
	ret->list = r.item;
	ret->list_count = r.count;
	read_shadow(file, rule, &ret->shadow_ppm);
}

void config_free(struct agent_config *config)
{
	for (size_t r = 0; r < config->rule_count; r++) {
		for (size_t i = 0; i < config->rule[r].list_count; i++)
			free((void *)(uintptr_t)config->rule[r].list[i].key);
		free((void *)(uintptr_t)config->rule[r].list);
		config->rule[r].list = NULL;
		config->rule[r].list_count = 0;
	}
}
