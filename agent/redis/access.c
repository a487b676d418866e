#include "agent/redis/access.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS     "0123456789"
#define NAME_CHARS DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"
#define HEAD       "sentinel://"

bool redis_primary_name_is_good(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length <= REDIS_PRIMARY_MAX && strspn(name, NAME_CHARS) == length;
}

const char *redis_sentinels_add(const char *text, struct redis_sentinels *ret)
{
	struct redis_address *address = &ret->address[ret->count];
	const char *why;

	if (ret->count == REDIS_SENTINELS_MAX)
		return "8 Sentinels are enough: they name the others";
	why = redis_host_parse(text, REDIS_SENTINEL_PORT, address);
	if (why != NULL)
		return why;
	if (strstr(text, "://") == NULL)
		address->tls = ret->tls;
	ret->count++;
	return NULL;
}

/* The hosts, up to the '/'. */
static const char *add_all(const char *text, size_t length, struct redis_sentinels *ret)
{
	const char *why = NULL, *end = text + length;
	char one[300];

	while (why == NULL && text <= end) {
		size_t size = strcspn(text, ",");

		if (text + size > end)
			size = (size_t)(end - text);
		if (size >= sizeof(one))
			return "a host is too long";
		memcpy(one, text, size);
		one[size] = '\0';
		why = redis_sentinels_add(one, ret);
		text += size + 1;
	}
	return why;
}

static const char *parse(const char *text, struct redis_sentinels *ret)
{
	static const char form[] =
		"Sentinels are written sentinel://HOST:PORT,HOST:PORT/NAME, where NAME is theirs "
		"for the primary";
	const char *slash = strchr(text, '/'), *database, *why;
	size_t length;
	long number;

	if (slash == NULL || slash == text)
		return form;
	why = add_all(text, (size_t)(slash - text), ret);
	if (why != NULL)
		return why;
	length = strcspn(slash + 1, "/");
	if (length > REDIS_PRIMARY_MAX)
		return form;
	memcpy(ret->primary, slash + 1, length);
	ret->primary[length] = '\0';
	if (!redis_primary_name_is_good(ret->primary))
		return form;
	database = slash + 1 + length;
	if (*database == '\0' || database[1] == '\0')
		return NULL;
	number = strspn(database + 1, DIGITS) <= 5 ? strtol(database + 1, NULL, 10) : -1;
	if (strspn(database + 1, DIGITS) != strlen(database + 1) || number < 0 ||
	    number > REDIS_DATABASE_MAX)
		return "the database is a number from 0 to 65535, as in sentinel://HOST/NAME/3";
	ret->database = (uint16_t)number;
	return NULL;
}

const char *redis_sentinels_parse(const char *text, struct redis_sentinels *ret)
{
	struct redis_sentinels all = *ret;
	const char *why;

	if (strncmp(text, HEAD, strlen(HEAD)) != 0)
		return "it begins with " HEAD;
	all.count = 0;
	why = parse(text + strlen(HEAD), &all);
	if (why == NULL)
		*ret = all;
	return why;
}

const char *redis_seeds_add(const char *text, bool tls, struct redis_seeds *ret)
{
	struct redis_address *address = &ret->address[ret->count];
	const char *why;

	if (ret->count == REDIS_SEEDS_MAX)
		return "16 nodes are enough: they name the others";
	why = redis_host_parse(text, REDIS_PORT_DEFAULT, address);
	if (why != NULL)
		return why;
	if (strstr(text, "://") == NULL)
		address->tls = tls;
	if (address->tls != ret->address[0].tls)
		return "all nodes of a cluster are spoken to in TLS, or none";
	ret->count++;
	return NULL;
}
