/*
 * greet.c - what is settled at the beginning of each connection, one command after the other:
 * each waits for the answer to the one before, as what is wrong is then said by its cause.
 */
#include <stdio.h>
#include <string.h>

#include "agent/redis/greet.h"
#include "shm/rl_clock.h"

/*
 * A connection that was merely lost is made again in one answer, not four: where every few answers
 * are lost it would else hardly ever be up. What was known is forgotten when the server refuses
 * anything or cannot be reached: then it may be another one.
 */
#define KNOWN_NS (60 * RL_SECOND_NS)

struct step {
	bool (*wanted)(const struct redis *redis);
	struct redis_request *(*request)(struct redis *redis); /* NULL: no memory */
	enum greet_outcome (*answer)(struct redis *redis, const redisReply *reply);
};

static struct redis_request *plain(size_t argc, const char **argv)
{
	size_t length[4];

	for (size_t i = 0; i < argc; i++)
		length[i] = strlen(argv[i]);
	return redis_request_new(REDIS_PLAIN, 0, argc, argv, length);
}

static enum greet_outcome failed(bool unused)
{
	(void)unused;
	return GREET_FAILED;
}

/* --- ROLE: Sentinel may not know better --- */

static bool wants_role(const struct redis *redis)
{
	return redis->sentinel != NULL;
}

static struct redis_request *ask_role(struct redis *redis)
{
	const char *argv[] = {"ROLE"};

	(void)redis;
	return plain(1, argv);
}

/* Where it may not be asked, INFO says it. */
static enum greet_outcome role_told(struct redis *redis, const redisReply *reply)
{
	const redisReply *role = reply->elements > 0 ? reply->element[0] : NULL;

	if (reply->type == REDIS_REPLY_ERROR && (greet_begins(reply->str, "NOPERM") ||
						 greet_begins(reply->str, "ERR unknown command"))) {
		redis->brief = false;
		return GREET_DONE;
	}
	if (reply->type == REDIS_REPLY_ERROR)
		return failed(redis_refused(redis, reply->str));
	if (role != NULL && role->type == REDIS_REPLY_STRING && strcmp(role->str, "master") == 0)
		return GREET_DONE;
	return failed(redis_blame(redis,
				  "the server is no primary, though Sentinel says so: Sentinel is "
				  "asked again"));
}

/* --- INFO --- */

static bool wants_server(const struct redis *redis)
{
	return redis->events.server != NULL && !redis->brief;
}

static struct redis_request *ask_server(struct redis *redis)
{
	const char *argv[] = {"INFO"};

	(void)redis;
	return plain(1, argv);
}

/* It may be forbidden, or renamed. */
static enum greet_outcome server_told(struct redis *redis, const redisReply *reply)
{
	struct redis_server server;
	char why[256];

	if (reply->type == REDIS_REPLY_STRING)
		redis_server_read(reply->str, reply->len, &server);
	else if (reply->type != REDIS_REPLY_ERROR)
		redis_server_unknown("in another form", &server);
	else if (greet_begins(reply->str, "NOPERM") ||
		 greet_begins(reply->str, "ERR unknown command"))
		redis_server_unknown(reply->str, &server);
	else
		return failed(redis_refused(redis, reply->str));
	if (redis_server_refusal(&server, redis->use, why, sizeof(why)))
		return failed(redis_blame(redis, "%s", why));
	redis->events.server(redis->arg, &server);
	return GREET_DONE;
}

/* --- SELECT --- */

static bool wants_database(const struct redis *redis)
{
	return redis->address.database != 0;
}

static struct redis_request *select_database(struct redis *redis)
{
	char number[8];
	const char *argv[] = {"SELECT", number};

	snprintf(number, sizeof(number), "%u", redis->address.database);
	return plain(2, argv);
}

static enum greet_outcome selected(struct redis *redis, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ERROR)
		return GREET_DONE;
	if (!greet_begins(reply->str, "ERR"))
		return failed(redis_refused(redis, reply->str));
	return failed(redis_blame(redis, "refused SELECT %u: %s: does its 'databases' go that far?",
				  redis->address.database, reply->str));
}

/* --- the first script, and what it may do --- */

static bool has_script(const struct redis *redis)
{
	return redis->scripts > 0;
}

static struct redis_request *load_script(struct redis *redis)
{
	const char *argv[] = {"SCRIPT", "LOAD", redis->lua[0].body};
	const size_t length[] = {6, 4, redis->lua[0].size};

	return redis_request_new(REDIS_PLAIN, 0, 3, argv, length);
}

static enum greet_outcome script_loaded(struct redis *redis, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		return failed(redis_refused(redis, reply->str));
	if (reply->type != REDIS_REPLY_STRING || reply->len != sizeof(redis->lua[0].sha) - 1)
		return failed(redis_blame(redis, "an odd answer to SCRIPT LOAD: is it a Redis?"));
	memcpy(redis->lua[0].sha, reply->str, sizeof(redis->lua[0].sha));
	redis->lua[0].sent = true;
	return GREET_DONE;
}

static bool has_probe(const struct redis *redis)
{
	return redis->probe.body != NULL && !redis->brief;
}

static struct redis_request *run_probe(struct redis *redis)
{
	const char *argv[] = {"EVAL", redis->probe.body, "1", redis->probe_key};
	const size_t length[] = {4, redis->probe.size, 1, strlen(redis->probe_key)};

	return redis_request_new(REDIS_PLAIN, 0, 4, argv, length);
}

/* Our keys as an ACL's pattern, by the probe's name: "~{rl:*". */
static void add_right(const struct redis *redis, const char *name, char *text, size_t size)
{
	size_t used = strlen(text);

	if (name[0] == '~')
		snprintf(text + used, size - used, " ~%.*s*",
			 (int)strcspn(redis->probe_key, ":") + 1, redis->probe_key);
	else
		snprintf(text + used, size - used, " +%.24s", name);
}

/* The key has left this node: what we may do here shows when it is called for one it has. */
static bool is_elsewhere(const struct redis *redis, const redisReply *reply)
{
	static const char *const words[] = {"MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN"};

	for (size_t i = 0; redis->use == REDIS_NODE && i < sizeof(words) / sizeof(words[0]); i++)
		if (greet_begins(reply->str, words[i]))
			return true;
	return false;
}

static enum greet_outcome probed(struct redis *redis, const redisReply *reply)
{
	char rights[256] = "";

	if (reply->type == REDIS_REPLY_ERROR && greet_begins(reply->str, "NOPERM") &&
	    strstr(reply->str, "to access") != NULL)
		add_right(redis, "~", rights, sizeof(rights)); /* before it could even begin */
	else if (reply->type == REDIS_REPLY_ERROR && is_elsewhere(redis, reply))
		return GREET_DONE;
	else if (reply->type == REDIS_REPLY_ERROR)
		return failed(redis_refused(redis, reply->str));
	for (size_t i = 0; i < reply->elements; i++)
		if (reply->element[i]->type == REDIS_REPLY_STRING)
			add_right(redis, reply->element[i]->str, rights, sizeof(rights));
	if (rights[0] == '\0')
		return GREET_DONE;
	return failed(greet_deny(redis, "user '%s' lacks rights: ACL SETUSER %s%s",
				 greet_user(redis), greet_user(redis), rights));
}

/* --- PING: at least hear that somebody is there who speaks the protocol --- */

static bool has_no_script(const struct redis *redis)
{
	return redis->scripts == 0 && redis->use != REDIS_GUIDE; /* which has answered INFO */
}

static struct redis_request *ping(struct redis *redis)
{
	const char *argv[] = {"PING"};

	(void)redis;
	return plain(1, argv);
}

static enum greet_outcome ponged(struct redis *redis, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		return failed(redis_refused(redis, reply->str));
	return GREET_DONE;
}

static const struct step steps[] = {
	{greet_wants_login, greet_log_in, greet_logged_in},
	{wants_role, ask_role, role_told},
	{wants_server, ask_server, server_told},
	{wants_database, select_database, selected},
	{has_script, load_script, script_loaded},
	{has_probe, run_probe, probed},
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
	for (unsigned i = 0; i < redis->scripts; i++)
		redis->lua[i].sent = false; /* it may be another server */
	redis->brief = redis->use != REDIS_GUIDE && redis->known_ns != 0 &&
		       rl_clock_precise_ns() - redis->known_ns < KNOWN_NS;
	return take_step(redis, next_step(redis, 0));
}

bool redis_greeted(struct redis *redis, const redisReply *reply)
{
	enum greet_outcome outcome = steps[redis->step].answer(redis, reply);
	size_t step;

	if (outcome == GREET_FAILED) {
		redis->known_ns = 0;
		return false;
	}
	if (redis->gone) /* freed by the one who was told of the server */
		return true;
	step = next_step(redis, redis->step + (outcome == GREET_DONE));
	if (step < STEPS)
		return take_step(redis, step);
	if (!redis->brief)
		redis->known_ns = rl_clock_precise_ns();
	redis->state = STATE_UP;
	redis->events.up(redis->arg);
	return true;
}
