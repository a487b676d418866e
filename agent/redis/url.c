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

static const char *parse_unix(const char *path, struct redis_address *ret)
{
	const char *after = skip(path, "//");

	if (after != NULL)
		path = after;
	if (path[0] != '/')
		return "the path of a unix socket begins with '/', as in unix:/run/redis.sock";
	if (strlen(path) >= sizeof(ret->path))
		return "the path of a unix socket has 107 bytes at most";
	ret->kind = REDIS_UNIX;
	strcpy(ret->path, path);
	return NULL;
}

static const char *parse_port(const char *text, struct redis_address *ret)
{
	size_t digits = strspn(text, DIGITS);
	long port = digits <= 5 ? strtol(text, NULL, 10) : 0;

	if (digits == 0 || text[digits] != '\0' || port < 1 || port > UINT16_MAX)
		return "the port is a number from 1 to 65535";
	ret->port = (uint16_t)port;
	return NULL;
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
	const char *after, *why;

	if (strchr(text, '@') != NULL)
		return "a user or a password is not supported yet";
	if (strchr(text, '/') != NULL)
		return "a database, or anything else behind the port, is not supported yet";
	if (text[0] != '[' && strchr(text, ':') != strrchr(text, ':'))
		return "an IPv6 address needs brackets, as in redis://[::1]:6379";
	why = split_host(text, &after, ret);
	if (why != NULL)
		return why;
	ret->kind = REDIS_TCP;
	ret->port = REDIS_PORT_DEFAULT;
	if (*after == '\0')
		return NULL;
	if (*after != ':')
		return "a host has letters, digits, '.', '-' and '_'";
	return parse_port(after + 1, ret);
}

static const char *parse(const char *text, struct redis_address *ret)
{
	const char *rest;

	if ((rest = skip(text, "unix:")) != NULL)
		return parse_unix(rest, ret);
	if ((rest = skip(text, "redis://")) != NULL)
		return parse_tcp(rest, ret);
	if (skip(text, "rediss://") != NULL)
		return "rediss://, that is TLS, is not supported yet";
	if (strstr(text, "://") != NULL)
		return "an address begins with redis:// or unix:";
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

const char *redis_url_format(const struct redis_address *address, char text[REDIS_URL_MAX])
{
	bool brackets = strchr(address->host, ':') != NULL;

	if (address->kind == REDIS_UNIX)
		snprintf(text, REDIS_URL_MAX, "unix:%s", address->path);
	else
		snprintf(text, REDIS_URL_MAX, "redis://%s%s%s:%u", brackets ? "[" : "",
			 address->host, brackets ? "]" : "", address->port);
	return text;
}
