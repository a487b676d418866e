#include "bench/rediscost/server.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

static redisReply *ask(redisContext *redis, const char *command, const char *argument)
{
	redisReply *reply = redisCommand(redis, "%s %s", command, argument);

	if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
		bench_die(reply != NULL ? reply->str : "Redis has gone");
	return reply;
}

/* The number behind what is looked for; 0 when INFO does not have it. */
static double number_after(const char *info, const char *line, const char *field)
{
	const char *at = strstr(info, line);

	at = at != NULL ? strstr(at, field) : NULL;
	return at != NULL ? strtod(at + strlen(field), NULL) : 0;
}

struct server_time server_time(redisContext *redis)
{
	redisReply *cpu = ask(redis, "INFO", "cpu"), *stats = ask(redis, "INFO", "commandstats");
	struct server_time ret = {
		.process_us = 1e6 * (number_after(cpu->str, "used_cpu_sys:", "used_cpu_sys:") +
				     number_after(cpu->str, "used_cpu_user:", "used_cpu_user:")),
		.script_us = number_after(stats->str, "cmdstat_evalsha:", "usec="),
		.calls = (uint64_t)number_after(stats->str, "cmdstat_evalsha:", "calls="),
	};

	freeReplyObject(cpu);
	freeReplyObject(stats);
	return ret;
}

struct server_time server_since(redisContext *redis, const struct server_time *then)
{
	struct server_time now = server_time(redis);

	now.process_us -= then->process_us;
	now.script_us -= then->script_us;
	now.calls -= then->calls;
	return now;
}

uint64_t server_memory_bytes(redisContext *redis)
{
	redisReply *reply = ask(redis, "INFO", "memory");
	uint64_t bytes = (uint64_t)number_after(reply->str, "used_memory:", "used_memory:");

	freeReplyObject(reply);
	return bytes;
}

uint64_t server_keys(redisContext *redis, const char *pattern)
{
	redisReply *reply = ask(redis, "KEYS", pattern);
	uint64_t count = reply->elements;

	freeReplyObject(reply);
	return count;
}
