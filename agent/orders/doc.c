#include "agent/orders/doc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/rl_sha256.h"

#define LIFE_SIZE 17 /* 64 bits in hex */

void doc_sha256(const char *text, char ret[DOC_SHA256])
{
	uint8_t digest[RL_SHA256_BYTES];

	rl_sha256(text, strlen(text), digest);
	for (size_t i = 0; i < RL_SHA256_BYTES; i++)
		snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static json_t *head(uint64_t life, uint64_t version)
{
	char text[LIFE_SIZE];

	snprintf(text, sizeof(text), "%016" PRIx64, life);
	return json_pack("{s:i, s:s, s:I}", "format", DOC_FORMAT, "life", text, "version",
			 (json_int_t)version);
}

/* Frees the object. */
static char *finish(json_t *object, size_t most)
{
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	if (text == NULL || strlen(text) <= most)
		return text;
	free(text);
	return NULL;
}

char *order_doc_write(const struct order_doc *doc)
{
	json_t *object = head(doc->life, doc->version), *list = json_array();

	for (size_t i = 0; i < doc->set.count; i++)
		json_array_append_new(list, order_write(&doc->set.order[i]));
	json_object_set_new(object, "orders", list);
	return finish(object, ORDERS_TEXT_MAX);
}

static void add_push(json_t *object, const struct rules_push *push)
{
	char sha256[DOC_SHA256];

	json_object_set_new(object, "version", json_integer((json_int_t)push->version));
	json_object_set_new(object, "at", json_integer((json_int_t)push->at_ms));
	json_object_set_new(object, "uid", json_integer((json_int_t)push->uid));
	json_object_set_new(object, "host", json_string(push->host));
	if (push->text == NULL)
		return;
	doc_sha256(push->text, sha256);
	json_object_set_new(object, "sha256", json_string(sha256));
	json_object_set_new(object, "text", json_string(push->text));
}

char *rules_doc_write(const struct rules_doc *doc)
{
	json_t *object = head(doc->life, doc->now.version), *former = json_object();

	add_push(object, &doc->now);
	add_push(former, &doc->former);
	json_object_set_new(object, "former", former);
	return finish(object, DOC_RULES_MAX);
}

static bool read_version(json_t *object, uint64_t *ret)
{
	json_t *version = json_object_get(object, "version");
	json_int_t number = json_integer_value(version);

	*ret = (uint64_t)number;
	return json_is_integer(version) && number >= 0 && (uint64_t)number < ORDERS_MS_MAX;
}

/* The object, or NULL and why it is no document of ours. */
static json_t *read_head(const char *text, size_t len, uint64_t *ret_life, const char **ret_why)
{
	json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *life = json_string_value(json_object_get(object, "life"));

	*ret_why = NULL;
	if (!json_is_object(object))
		*ret_why = "it is no JSON object";
	else if (json_integer_value(json_object_get(object, "format")) != DOC_FORMAT)
		*ret_why = "it is of another format: another release wrote it, or none of ours";
	else if (life == NULL || strlen(life) != LIFE_SIZE - 1 ||
		 strspn(life, "0123456789abcdef") != LIFE_SIZE - 1)
		*ret_why = "its 'life' is none";
	if (*ret_why != NULL) {
		json_decref(object);
		return NULL;
	}
	*ret_life = strtoull(life, NULL, 16);
	return object;
}

/* Those that cannot be read are counted and left out. False: no memory. */
static bool read_orders(json_t *list, struct order_doc *ret)
{
	struct order *order = malloc(sizeof(*order));
	bool good = order != NULL;

	for (size_t i = 0; good && i < json_array_size(list); i++) {
		const char *why;

		if (order_read(json_array_get(list, i), order, &why)) {
			good = order_put(&ret->set, order);
		} else {
			if (ret->unknown++ == 0)
				ret->why = why;
		}
	}
	free(order);
	return good;
}

bool order_doc_read(const char *text, size_t len, struct order_doc *ret, const char **ret_why)
{
	json_t *object, *list;

	*ret = (struct order_doc){0};
	object = read_head(text, len, &ret->life, ret_why);
	if (object == NULL)
		return false;
	list = json_object_get(object, "orders");
	if (!read_version(object, &ret->version))
		*ret_why = "its 'version' is none";
	else if (!json_is_array(list) || json_array_size(list) > ORDERS_MAX)
		*ret_why = "it has no list of orders, or too many of them";
	else if (!read_orders(list, ret))
		*ret_why = "there is no memory for it";
	json_decref(object);
	if (*ret_why != NULL)
		order_doc_free(ret);
	return *ret_why == NULL;
}

/* NULL, or why it is none. */
static const char *read_push(json_t *object, struct rules_push *ret)
{
	const char *text = json_string_value(json_object_get(object, "text"));
	const char *sha256 = json_string_value(json_object_get(object, "sha256"));
	const char *host = json_string_value(json_object_get(object, "host"));
	json_t *uid = json_object_get(object, "uid");
	char is[DOC_SHA256];

	if (!read_version(object, &ret->version))
		return "a 'version' in it is none";
	ret->at_ms = (uint64_t)json_integer_value(json_object_get(object, "at"));
	if (ret->at_ms > ORDERS_MS_MAX)
		return "a time in it is none";
	ret->uid = json_is_integer(uid) ? (int64_t)json_integer_value(uid) : -1;
	if (host != NULL && *host != '\0' && rl_name_fault(host) != NULL)
		return "a name in it is none";
	snprintf(ret->host, sizeof(ret->host), "%s", host != NULL ? host : "");
	if (text == NULL)
		return NULL;
	doc_sha256(text, is);
	if (strlen(text) > DOC_TEXT_MAX || sha256 == NULL || strcmp(is, sha256) != 0)
		return "its rules are not whole: their SHA-256 is another";
	ret->text = strdup(text);
	return ret->text != NULL ? NULL : "there is no memory for it";
}

bool rules_doc_read(const char *text, size_t len, struct rules_doc *ret, const char **ret_why)
{
	json_t *object, *former;

	*ret = (struct rules_doc){0};
	object = read_head(text, len, &ret->life, ret_why);
	if (object == NULL)
		return false;
	former = json_object_get(object, "former");
	*ret_why = read_push(object, &ret->now);
	if (*ret_why == NULL && former != NULL)
		*ret_why = read_push(former, &ret->former);
	json_decref(object);
	if (*ret_why != NULL)
		rules_doc_free(ret);
	return *ret_why == NULL;
}

void order_doc_free(struct order_doc *doc)
{
	order_free(&doc->set);
	*doc = (struct order_doc){0};
}

void rules_doc_free(struct rules_doc *doc)
{
	free(doc->now.text);
	free(doc->former.text);
	*doc = (struct rules_doc){0};
}
