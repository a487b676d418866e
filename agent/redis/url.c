#include "agent/redis/url.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS     "0123456789"
#define NAME_CHARS DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"

static const char *skip(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* A number of 16 bits, from low on, that ends at end or with the text. */
static bool parse_number(const char *text, long low, char end, uint16_t *ret)
{
	size_t digits = strspn(text, DIGITS);
	long number = digits <= 5 ? strtol(text, NULL, 10) : -1;

	if (digits == 0 || (text[digits] != '\0' && text[digits] != end) || number < low ||
	    number > UINT16_MAX)
		return false;
	*ret = (uint16_t)number;
	return true;
}

static const char *parse_database(const char *text, struct redis_address *ret)
{
	if (parse_number(text, 0, '\0', &ret->database))
		return NULL;
	return "the database is a number from 0 to 65535, as in redis://HOST/3 or unix:/PATH?db=3";
}

static const char *parse_unix(const char *path, struct redis_address *ret)
{
	const char *after = skip(path, "//"), *query;
	size_t length;

	if (after != NULL)
		path = after;
	length = strcspn(path, "?");
	if (path[0] != '/')
		return "the path of a unix socket begins with '/', as in unix:/run/redis.sock";
	if (length >= sizeof(ret->path))
		return "the path of a unix socket has 107 bytes at most";
	ret->kind = REDIS_UNIX;
	memcpy(ret->path, path, length); /* the rest is zero */
	if (path[length] == '\0')
		return NULL;
	query = skip(path + length, "?db=");
	return query != NULL ? parse_database(query, ret)
			     : "behind the '?' of a unix socket only db=N is known";
}

/* The host and what comes after it; brackets, if any, are left out of both. */
static const char *split_host(const char *text, const char **ret_after, struct redis_address *ret)
{
	bool bracketed = text[0] == '[';
	const char *host = text + bracketed;
	size_t length = bracketed ? strcspn(host, "]") : strspn(host, NAME_CHARS);
	struct in6_addr unused;

	if (length == 0 || length >= sizeof(ret->host))
		return "a host is missing, or too long";
	memcpy(ret->host, host, length);
	ret->host[length] = '\0';
	*ret_after = host + length;
	if (!bracketed)
		return NULL;
	if (host[length] != ']' || inet_pton(AF_INET6, ret->host, &unused) != 1)
		return "only an IPv6 address stands in brackets, as in redis://[::1]:6379";
	*ret_after += 1;
	return NULL;
}

static const char *parse_tcp(const char *text, struct redis_address *ret)
{
	const char *after, *slash, *why;

	if (strchr(text, '@') != NULL)
		return "a user or a password does not stand in the url, but in redis.user and "
		       "redis.password_file";
	if (text[0] != '[' && strchr(text, ':') != strrchr(text, ':'))
		return "an IPv6 address needs brackets, as in redis://[::1]:6379";
	why = split_host(text, &after, ret);
	if (why != NULL)
		return why;
	ret->kind = REDIS_TCP;
	if (ret->port == 0)
		ret->port = REDIS_PORT_DEFAULT;
	if (*after != '\0' && *after != ':' && *after != '/')
		return "a host has letters, digits, '.', '-' and '_'";
	if (*after == ':' && !parse_number(after + 1, 1, '/', &ret->port))
		return "the port is a number from 1 to 65535";
	slash = strchr(after, '/');
	return slash == NULL || slash[1] == '\0' ? NULL : parse_database(slash + 1, ret);
}

static const char *parse(const char *text, struct redis_address *ret)
{
	const char *rest;

	if ((rest = skip(text, "unix:")) != NULL)
		return parse_unix(rest, ret);
	if ((rest = skip(text, "redis://")) != NULL)
		return parse_tcp(rest, ret);
	if ((rest = skip(text, "rediss://")) != NULL) {
		ret->tls = true;
		return parse_tcp(rest, ret);
	}
	if (strstr(text, "://") != NULL)
		return "an address begins with redis://, rediss://, sentinel:// or unix:";
	if (text[0] == '/')
		return "a unix socket is written unix:/PATH";
	return parse_tcp(text, ret);
}

const char *redis_url_parse(const char *text, struct redis_address *ret)
{
	struct redis_address address = {0};
	const char *why = parse(text, &address);

	if (why == NULL)
		*ret = address;
	return why;
}

const char *redis_host_parse(const char *text, uint16_t port, struct redis_address *ret)
{
	struct redis_address address;
	const char *why;

	memset(&address, 0, sizeof(address)); /* configurations are compared */
	address.port = port;
	why = parse(text, &address);

	if (why != NULL)
		return why;
	if (address.kind != REDIS_TCP || address.database != 0)
		return "it is HOST[:PORT], or redis[s]://HOST[:PORT]";
	*ret = address;
	return NULL;
}

const char *redis_url_format(const struct redis_address *address, char text[REDIS_URL_MAX])
{
	bool brackets = strchr(address->host, ':') != NULL, local = address->kind == REDIS_UNIX;
	int size;

	if (local)
		size = snprintf(text, REDIS_URL_MAX, "unix:%s", address->path);
	else
		size = snprintf(text, REDIS_URL_MAX, "redis%s://%s%s%s:%u", address->tls ? "s" : "",
				brackets ? "[" : "", address->host, brackets ? "]" : "",
				address->port);
	if (address->database != 0)
		snprintf(text + size, REDIS_URL_MAX - (size_t)size, "%s%u", local ? "?db=" : "/",
			 address->database);
	return text;
}
