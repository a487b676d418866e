#include "agent/redis/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL_MIN 5 /* replicates a script's effects; 4 and older do not as the script needs it */

/* The value of "NAME:VALUE\r\n" in INFO, as much of it as there is room for; "" without one. */
static void find(const char *info, size_t size, const char *name, char *ret, size_t ret_size)
{
	const char *end = info + size, *line = info, *next;
	size_t length = strlen(name);

	ret[0] = '\0';
	for (; line < end; line = next) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		size_t have = (size_t)((stop != NULL ? stop : end) - line);

		next = stop != NULL ? stop + 1 : end;
		if (have <= length || memcmp(line, name, length) != 0 || line[length] != ':')
			continue;
		have -= length + 1;
		if (have > 0 && line[length + have] == '\r')
			have--;
		snprintf(ret, ret_size, "%.*s", (int)have, line + length + 1);
		return;
	}
}

static bool is(const char *info, size_t size, const char *name, const char *value)
{
	char text[32];

	find(info, size, name, text, sizeof(text));
	return strcmp(text, value) == 0;
}

void redis_server_read(const char *info, size_t size, struct redis_server *ret)
{
	char text[32];

	*ret = (struct redis_server){.known = true};
	find(info, size, "redis_version", ret->version, sizeof(ret->version));
	ret->level = (unsigned)strtoul(ret->version, NULL, 10);
	snprintf(ret->name, sizeof(ret->name), "redis");
	find(info, size, "valkey_version", text, sizeof(text));
	if (text[0] != '\0') {
		snprintf(ret->name, sizeof(ret->name), "valkey");
		snprintf(ret->version, sizeof(ret->version), "%.23s", text);
	}
	find(info, size, "redis_mode", ret->mode, sizeof(ret->mode));
	if (ret->mode[0] == '\0')
		find(info, size, "server_mode", ret->mode, sizeof(ret->mode)); /* Valkey's word */
	find(info, size, "maxmemory_policy", ret->policy, sizeof(ret->policy));
	find(info, size, "maxmemory", text, sizeof(text));
	ret->has_memory_limit = text[0] != '\0' && strcmp(text, "0") != 0;
	ret->is_replica = is(info, size, "role", "slave") || is(info, size, "role", "replica");
	ret->is_clustered = is(info, size, "cluster_enabled", "1");
	ret->says_of_cluster = ret->is_clustered || is(info, size, "cluster_enabled", "0");
	ret->logs_writes = is(info, size, "aof_enabled", "1");
	ret->says_of_writes = ret->logs_writes || is(info, size, "aof_enabled", "0");
}

void redis_server_unknown(const char *error, struct redis_server *ret)
{
	*ret = (struct redis_server){.known = false, .name = "unknown"};
	snprintf(ret->why, sizeof(ret->why), "%s", error);
}

bool redis_server_refusal(const struct redis_server *server, enum redis_use use, char *why,
			  size_t why_size)
{
	bool clustered = server->is_clustered || strcmp(server->mode, "cluster") == 0;

	if (!server->known)
		return false;
	if (server->level != 0 && server->level < LEVEL_MIN)
		snprintf(why, why_size,
			 "the server is %s %s: its scripts need Redis 5 or later, or "
			 "Valkey",
			 server->name, server->version);
	else if (strcmp(server->mode, "sentinel") == 0)
		snprintf(why, why_size,
			 "the server is a Sentinel: name it in redis.sentinels, with the "
			 "primary's name in redis.master");
	else if (clustered && use == REDIS_ALONE)
		snprintf(why, why_size,
			 "the server is a node of a cluster: name some of its nodes in "
			 "redis.cluster, in place of redis.url");
	else if (!clustered && use != REDIS_ALONE &&
		 (server->says_of_cluster || server->mode[0] != '\0'))
		snprintf(why, why_size,
			 "the server is not in cluster mode: name it in redis.url, in place of "
			 "redis.cluster");
	else if (server->is_replica && use == REDIS_NODE)
		snprintf(why, why_size,
			 "the node is a replica by now: the cluster is asked who "
			 "has taken its place");
	else if (server->is_replica && use == REDIS_ALONE)
		snprintf(why, why_size,
			 "the server is a replica, which only reads: set redis.url to "
			 "the primary, or name its Sentinels in redis.sentinels");
	else
		return false;
	return true;
}

bool redis_server_notice(const struct redis_server *server, enum redis_notice notice, char *text,
			 size_t text_size)
{
	bool evicts = server->known && server->has_memory_limit &&
		      strcmp(server->policy, "noeviction") != 0 && server->policy[0] != '\0';

	switch (notice) {
	case NOTICE_UNKNOWN:
		snprintf(text, text_size,
			 "its version, role, maxmemory-policy and persistence could not be looked "
			 "at: INFO is answered %s",
			 server->why);
		return !server->known;
	case NOTICE_EVICTS:
		snprintf(text, text_size,
			 "maxmemory-policy is %s: when its memory is full, counts are evicted and "
			 "their limits begin anew; set it to noeviction",
			 server->policy);
		return evicts;
	default:
		snprintf(text, text_size,
			 "appendonly is off: after a crash of Redis the counts "
			 "since its last snapshot are gone, and one window may hold "
			 "up to twice the limit, once");
		return server->says_of_writes && !server->logs_writes;
	}
}
