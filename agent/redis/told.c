#include "agent/redis/told.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_CHARS "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-:"

static const char *text_of(const redisReply *reply)
{
	return reply != NULL && reply->type == REDIS_REPLY_STRING ? reply->str : "";
}

/* The value of a name in [name, value, name, value ...]; "" without one. */
static const char *value_of(const redisReply *reply, const char *name)
{
	if (reply->type == REDIS_REPLY_ARRAY)
		for (size_t i = 0; i + 1 < reply->elements; i += 2)
			if (strcmp(text_of(reply->element[i]), name) == 0)
				return text_of(reply->element[i + 1]);
	return "";
}

static bool is_place(const char *host, const char *port, char ret_host[256], uint16_t *ret_port)
{
	long number = strtol(port, NULL, 10);

	if (host[0] == '\0' || strlen(host) > 255 || strspn(host, HOST_CHARS) != strlen(host) ||
	    number < 1 || number > UINT16_MAX)
		return false;
	memcpy(ret_host, host, strlen(host) + 1);
	*ret_port = (uint16_t)number;
	return true;
}

uint64_t told_epoch(const redisReply *reply)
{
	return strtoull(value_of(reply, "config-epoch"), NULL, 10);
}

bool told_where(const redisReply *reply, const char *name, struct told_primary *ret,
		char why[SENTINEL_WHY])
{
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
	    is_place(text_of(reply->element[0]), text_of(reply->element[1]), ret->host, &ret->port))
		return true;
	if (reply->type == REDIS_REPLY_NIL ||
	    (reply->type == REDIS_REPLY_ARRAY && reply->elements == 0))
		snprintf(why, SENTINEL_WHY,
			 "it watches no primary of that name: correct redis.master, or 'sentinel "
			 "monitor %s ...' there",
			 name);
	else if (reply->type == REDIS_REPLY_ERROR && strstr(reply->str, "unknown command") != NULL)
		snprintf(why, SENTINEL_WHY,
			 "it is no Sentinel: correct redis.sentinels, whose port is usually %d",
			 REDIS_SENTINEL_PORT);
	else if (reply->type == REDIS_REPLY_ERROR)
		snprintf(why, SENTINEL_WHY, "it answers %.200s", reply->str);
	else
		snprintf(why, SENTINEL_WHY, "an answer of another form: is it a Sentinel?");
	return false;
}

bool told_other(const redisReply *element, struct redis_address *ret)
{
	const char *flags = value_of(element, "flags");

	return strstr(flags, "s_down") == NULL && strstr(flags, "disconnected") == NULL &&
	       is_place(value_of(element, "ip"), value_of(element, "port"), ret->host, &ret->port);
}
