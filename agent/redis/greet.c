/*
 * greet.c - what is settled at the beginning of each connection, one command after the other:
 * each waits for the answer to the one before, as what is wrong is then said by its cause.
 */
#include <stdio.h>
#include <string.h>

#include "agent/redis/inner.h"

struct step {
	bool (*wanted)(const struct redis *redis);
	struct redis_request *(*request)(const struct redis *redis); /* NULL: no memory */
	bool (*answer)(struct redis *redis, const redisReply *reply);
};

static struct redis_request *plain(size_t argc, const char **argv)
{
	size_t length[4];

	for (size_t i = 0; i < argc; i++)
		length[i] = strlen(argv[i]);
	return redis_request_new(REDIS_PLAIN, 0, argc, argv, length);
}

static bool wants_database(const struct redis *redis)
{
	return redis->address.database != 0;
}

static struct redis_request *select_database(const struct redis *redis)
{
	char number[8];
	const char *argv[] = {"SELECT", number};

	snprintf(number, sizeof(number), "%u", redis->address.database);
	return plain(2, argv);
}

static bool selected(struct redis *redis, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ERROR)
		return true;
	return redis_blame(redis, "refused SELECT %u: %s: does its 'databases' go that far?",
			   redis->address.database, reply->str);
}

static bool has_script(const struct redis *redis)
{
	return redis->lua.body != NULL;
}

static struct redis_request *load_script(const struct redis *redis)
{
	const char *argv[] = {"SCRIPT", "LOAD", redis->lua.body};
	const size_t length[] = {6, 4, redis->lua.size};

	return redis_request_new(REDIS_PLAIN, 0, 3, argv, length);
}

static bool script_loaded(struct redis *redis, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		return redis_blame(redis, "refused: %s", reply->str);
	if (reply->type != REDIS_REPLY_STRING || reply->len != sizeof(redis->lua.sha) - 1)
		return redis_blame(redis, "an odd answer to SCRIPT LOAD: is it a Redis?");
	memcpy(redis->lua.sha, reply->str, sizeof(redis->lua.sha));
	return true;
}

/* At least hear that somebody is there who speaks the protocol. */
static bool has_no_script(const struct redis *redis)
{
	return redis->lua.body == NULL;
}

static struct redis_request *ping(const struct redis *redis)
{
	const char *argv[] = {"PING"};

	(void)redis;
	return plain(1, argv);
}

static bool ponged(struct redis *redis, const redisReply *reply)
{
	return reply->type != REDIS_REPLY_ERROR || redis_blame(redis, "refused: %s", reply->str);
}

static const struct step steps[] = {
	{wants_database, select_database, selected},
	{has_script, load_script, script_loaded},
	{has_no_script, ping, ponged},
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* The first step from here on that is wanted, or STEPS. */
static size_t next_step(const struct redis *redis, size_t step)
{
	while (step < STEPS && !steps[step].wanted(redis))
		step++;
	return step;
}

static bool take_step(struct redis *redis, size_t step)
{
	struct redis_request *request = steps[step].request(redis);

	if (request == NULL)
		return redis_blame(redis, "no memory for a command");
	redis->step = step;
	STAILQ_INSERT_TAIL(&redis->sent, request, next);
	return redis_link_write(redis, request);
}

bool redis_greet(struct redis *redis)
{
	return take_step(redis, next_step(redis, 0));
}

bool redis_greeted(struct redis *redis, const redisReply *reply)
{
	size_t step;

	if (!steps[redis->step].answer(redis, reply))
		return false;
	step = next_step(redis, redis->step + 1);
	if (step < STEPS)
		return take_step(redis, step);
	redis->state = STATE_UP;
	redis->events.up(redis->arg);
	return true;
}
