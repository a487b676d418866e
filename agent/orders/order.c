#include "agent/orders/order.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *order_name(enum order_kind kind)
{
	static const char *const name[ORDER_KINDS] = {"off", "block", "override", "reset"};

	return kind < ORDER_KINDS ? name[kind] : "?";
}

const char *order_limit_parse(const char *text, struct rl_terms *ret)
{
	unsigned long long units = 0;

	if (strchr(text, '/') != NULL)
		return rl_terms_parse(text, ret);
	if (strlen(text) > 10 || strspn(text, "0123456789") != strlen(text) || *text == '\0')
		return "write COUNT/WINDOW, e.g. 1000/minute, or COUNT in the rule's own window";
	units = strtoull(text, NULL, 10);
	if (units < 1 || units > RL_LIMIT_MAX)
		return "the count must be 1 .. 2147483647";
	*ret = (struct rl_terms){.limit = (uint32_t)units};
	return NULL;
}

bool order_key_read(const char *hex, struct order *ret)
{
	size_t len = strlen(hex);

	if (len < 2 || len % 2 != 0 || len / 2 > sizeof(ret->key) ||
	    strspn(hex, "0123456789abcdefABCDEF") != len)
		return false;
	for (size_t i = 0; i < len / 2; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &ret->key[i]) != 1)
			return false;
	ret->key_len = len / 2;
	return true;
}

void order_key_write(const struct order *order, char hex[2 * RL_KEY_BYTES_MAX + 1])
{
	hex[0] = '\0';
	for (size_t i = 0; i < order->key_len; i++)
		snprintf(hex + 2 * i, 3, "%02x", order->key[i]);
}

static void set_text(json_t *object, const char *name, const char *text)
{
	json_object_set_new(object, name, json_string(text));
}

static void set_number(json_t *object, const char *name, uint64_t number)
{
	json_object_set_new(object, name, json_integer((json_int_t)number));
}

json_t *order_write(const struct order *order)
{
	char hex[2 * RL_KEY_BYTES_MAX + 1], limit[RL_TERMS_TEXT];
	json_t *object = json_object();

	if (object == NULL)
		return NULL;
	set_text(object, "do", order_name(order->kind));
	if (order->rule[0] != '\0')
		set_text(object, "rule", order->rule);
	order_key_write(order, hex);
	if (order->key_len > 0)
		set_text(object, "key", hex);
	if (order->terms.window_ns != 0)
		set_text(object, "limit", rl_terms_format(&order->terms, limit));
	else if (order->kind == ORDER_OVERRIDE) {
		snprintf(limit, sizeof(limit), "%u", order->terms.limit);
		set_text(object, "limit", limit);
	}
	if (order->until_ms != 0)
		set_number(object, "until", order->until_ms);
	set_number(object, "n", order->number);
	set_number(object, "at", order->at_ms);
	json_object_set_new(object, "uid", json_integer((json_int_t)order->uid));
	if (order->host[0] != '\0')
		set_text(object, "host", order->host);
	return object;
}

static bool read_kind(json_t *object, enum order_kind *ret)
{
	const char *name = json_string_value(json_object_get(object, "do"));

	for (int kind = 0; kind < ORDER_KINDS && name != NULL; kind++)
		if (strcmp(name, order_name((enum order_kind)kind)) == 0) {
			*ret = (enum order_kind)kind;
			return true;
		}
	return false;
}

/* A name as rules and hosts have them, or none. */
static bool read_name(json_t *object, const char *key, char ret[RL_NAME_MAX + 1])
{
	const char *name = json_string_value(json_object_get(object, key));

	ret[0] = '\0';
	if (json_object_get(object, key) == NULL)
		return true;
	if (name == NULL || rl_name_fault(name) != NULL)
		return false;
	memcpy(ret, name, strlen(name) + 1);
	return true;
}

/* 0 when there is none; UINT64_MAX when it is no number that one can be. */
static uint64_t read_number(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);
	json_int_t number = json_integer_value(value);

	if (value == NULL)
		return 0;
	if (!json_is_integer(value) || number < 0 || (uint64_t)number > ORDERS_MS_MAX)
		return UINT64_MAX;
	return (uint64_t)number;
}

static bool read_times(json_t *object, struct order *ret)
{
	ret->number = read_number(object, "n");
	ret->at_ms = read_number(object, "at");
	ret->until_ms = read_number(object, "until");
	return ret->number != UINT64_MAX && ret->at_ms != UINT64_MAX &&
	       ret->until_ms != UINT64_MAX && (ret->until_ms == 0) == (ret->kind == ORDER_OFF);
}

static bool read_key(json_t *object, struct order *ret)
{
	const char *hex = json_string_value(json_object_get(object, "key"));

	if (ret->kind == ORDER_OFF)
		return json_object_get(object, "key") == NULL;
	return ret->rule[0] != '\0' && hex != NULL && order_key_read(hex, ret);
}

static bool read_limit(json_t *object, struct order *ret)
{
	const char *text = json_string_value(json_object_get(object, "limit"));

	if (ret->kind != ORDER_OVERRIDE)
		return json_object_get(object, "limit") == NULL;
	return text != NULL && order_limit_parse(text, &ret->terms) == NULL;
}

static int64_t read_uid(json_t *object)
{
	json_t *uid = json_object_get(object, "uid");
	json_int_t number = json_integer_value(uid);

	return json_is_integer(uid) && number >= 0 && number <= UINT32_MAX ? number : -1;
}

bool order_read(json_t *object, struct order *ret, const char **ret_why)
{
	memset(ret, 0, sizeof(*ret));
	*ret_why = NULL;
	if (!json_is_object(object) || !read_kind(object, &ret->kind))
		*ret_why = "it is of no kind that this release knows";
	else if (!read_name(object, "rule", ret->rule) || !read_name(object, "host", ret->host))
		*ret_why = "a name in it is none";
	else if (!read_key(object, ret))
		*ret_why = "its key is none";
	else if (!read_limit(object, ret))
		*ret_why = "its limit is none";
	else if (!read_times(object, ret))
		*ret_why = "a time in it is none";
	ret->uid = read_uid(object);
	return *ret_why == NULL;
}

static bool is_same(const struct order *a, const struct order *b)
{
	return a->kind == b->kind && strcmp(a->rule, b->rule) == 0 && a->key_len == b->key_len &&
	       memcmp(a->key, b->key, a->key_len) == 0;
}

struct order *order_find(const struct order_set *set, const struct order *like)
{
	for (size_t i = 0; i < set->count; i++)
		if (is_same(&set->order[i], like))
			return &set->order[i];
	return NULL;
}

static bool grow(struct order_set *set, size_t room)
{
	struct order *order = realloc(set->order, room * sizeof(order[0]));

	if (order == NULL)
		return false;
	set->order = order;
	set->room = room;
	return true;
}

bool order_put(struct order_set *set, const struct order *order)
{
	struct order *there = order_find(set, order);

	if (there == NULL && set->count >= ORDERS_MAX)
		return false;
	if (there == NULL && set->count == set->room && !grow(set, 2 * set->room + 8))
		return false;
	if (there == NULL)
		there = &set->order[set->count++];
	*there = *order;
	return true;
}

void order_drop(struct order_set *set, struct order *order)
{
	size_t at = (size_t)(order - set->order);

	memmove(order, order + 1, (set->count - at - 1) * sizeof(order[0]));
	set->count--;
}

static struct order *oldest_reset(struct order_set *set, size_t *ret_count)
{
	struct order *oldest = NULL;

	*ret_count = 0;
	for (size_t i = 0; i < set->count; i++) {
		struct order *order = &set->order[i];

		if (order->kind != ORDER_RESET)
			continue;
		(*ret_count)++;
		if (oldest == NULL || order->at_ms < oldest->at_ms)
			oldest = order;
	}
	return oldest;
}

size_t order_prune(struct order_set *set, uint64_t now_ms)
{
	size_t before = set->count, resets;
	struct order *oldest;

	for (size_t i = set->count; i-- > 0;)
		if (set->order[i].until_ms != 0 && set->order[i].until_ms <= now_ms)
			order_drop(set, &set->order[i]);
	while ((oldest = oldest_reset(set, &resets)) != NULL && resets > ORDERS_RESETS)
		order_drop(set, oldest);
	return before - set->count;
}

bool order_copy(const struct order_set *from, struct order_set *ret)
{
	*ret = (struct order_set){0};
	if (from->count == 0)
		return true;
	if (!grow(ret, from->count))
		return false;
	memcpy(ret->order, from->order, from->count * sizeof(from->order[0]));
	ret->count = from->count;
	return true;
}

void order_free(struct order_set *set)
{
	free(set->order);
	*set = (struct order_set){0};
}
