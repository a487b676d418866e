#include "agent/redis/slots.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS     "0123456789"
#define NAME_CHARS DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"

uint16_t redis_crc16(const char *bytes, size_t size)
{
	uint32_t crc = 0;

	for (size_t i = 0; i < size; i++) {
		crc ^= (uint32_t)(unsigned char)bytes[i] << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc << 1) ^ ((crc & 0x8000) != 0 ? 0x1021 : 0);
	}
	return (uint16_t)crc;
}

uint16_t redis_slot_of(const char *key, size_t size)
{
	const char *open = memchr(key, '{', size), *close = NULL;

	if (open != NULL)
		close = memchr(open + 1, '}', (size_t)(key + size - open - 1));
	if (close != NULL && close > open + 1)
		return redis_crc16(open + 1, (size_t)(close - open - 1)) % REDIS_SLOTS;
	return redis_crc16(key, size) % REDIS_SLOTS;
}

/* A name or a numeric address; "" and "?" mean that the node does not know its own. */
static bool set_host(const char *host, size_t size, const struct redis_address *from,
		     struct redis_address *ret)
{
	struct in6_addr unused;
	char text[sizeof(ret->host)] = "";

	if (size == 0 || (size == 1 && host[0] == '?')) {
		memcpy(ret->host, from->host, sizeof(ret->host));
		return true;
	}
	if (size >= sizeof(text) || memchr(host, '\0', size) != NULL)
		return false;
	memcpy(text, host, size);
	if (strspn(text, NAME_CHARS) != size && inet_pton(AF_INET6, text, &unused) != 1)
		return false;
	memcpy(ret->host, text, sizeof(text));
	return true;
}

static bool set_port(long long port, struct redis_address *ret)
{
	ret->port = (uint16_t)port;
	return port > 0 && port <= UINT16_MAX;
}

static struct redis_address reached_as(const struct redis_address *from)
{
	struct redis_address address;

	memset(&address, 0, sizeof(address)); /* addresses are compared */
	address.kind = REDIS_TCP;
	address.tls = from->tls;
	return address;
}

/* HOST, PORT, and what else a server may say of a node. */
static bool read_node(const redisReply *node, const struct redis_address *from,
		      struct redis_address *ret)
{
	const redisReply *host, *port;

	if (node->type != REDIS_REPLY_ARRAY || node->elements < 2)
		return false;
	host = node->element[0];
	port = node->element[1];
	*ret = reached_as(from);
	if (port->type != REDIS_REPLY_INTEGER || !set_port(port->integer, ret))
		return false;
	if (host->type == REDIS_REPLY_NIL)
		return set_host("", 0, from, ret);
	return host->type == REDIS_REPLY_STRING &&
	       set_host(host->str, (size_t)host->len, from, ret);
}

static bool is_slot(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0 &&
	       reply->integer < (long long)REDIS_SLOTS;
}

static bool same_node(const struct redis_address *a, const struct redis_address *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* FIRST, LAST, the primary's node, its replicas. */
static const char *read_range(const redisReply *range, const struct redis_address *from,
			      const uint16_t *slot, size_t count, struct redis_address *ret)
{
	struct redis_address owner;

	if (range->type != REDIS_REPLY_ARRAY || range->elements < 3 ||
	    !is_slot(range->element[0]) || !is_slot(range->element[1]) ||
	    range->element[0]->integer > range->element[1]->integer)
		return "CLUSTER SLOTS is answered with a range that is none";
	if (!read_node(range->element[2], from, &owner))
		return "CLUSTER SLOTS names a node that has no host or port";
	for (size_t i = 0; i < count; i++) {
		if (slot[i] < range->element[0]->integer || slot[i] > range->element[1]->integer)
			continue;
		if (ret[i].port != 0 && !same_node(&ret[i], &owner))
			return "CLUSTER SLOTS says of a slot that two nodes own it";
		ret[i] = owner;
	}
	return NULL;
}

const char *redis_slots_read(const redisReply *reply, const struct redis_address *from,
			     const uint16_t *slot, size_t count, struct redis_address *ret)
{
	const char *why = NULL;

	memset(ret, 0, count * sizeof(ret[0]));
	if (reply->type != REDIS_REPLY_ARRAY)
		return "CLUSTER SLOTS is answered in another form: is it a Redis Cluster?";
	for (size_t i = 0; i < reply->elements && why == NULL; i++)
		why = read_range(reply->element[i], from, slot, count, ret);
	return why;
}

bool redis_redirect_read(const char *error, const struct redis_address *from,
			 struct redis_redirect *ret)
{
	bool ask = strncmp(error, "ASK ", 4) == 0, moved = strncmp(error, "MOVED ", 6) == 0;
	const char *slot = error + (ask ? 4 : 6), *host, *colon;
	size_t digits;
	long number;

	if (!ask && !moved)
		return false;
	digits = strspn(slot, DIGITS);
	number = digits > 0 && digits <= 5 ? strtol(slot, NULL, 10) : -1;
	if (number < 0 || number >= (long)REDIS_SLOTS || slot[digits] != ' ')
		return false;
	host = slot + digits + 1;
	colon = strrchr(host, ':'); /* an IPv6 address has others */
	if (colon == NULL || strspn(colon + 1, DIGITS) != strlen(colon + 1) ||
	    strlen(colon + 1) > 5 || strlen(colon + 1) == 0)
		return false;
	*ret = (struct redis_redirect){
		.ask = ask, .slot = (uint16_t)number, .to = reached_as(from)};
	return set_port(strtol(colon + 1, NULL, 10), &ret->to) &&
	       set_host(host, (size_t)(colon - host), from, &ret->to);
}
