#include "agent/redis/inner.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void redis_enter(struct redis *redis)
{
	redis->busy++;
}

void redis_leave(struct redis *redis)
{
	if (--redis->busy > 0 || !redis->gone)
		return;
	redis_tls_free(redis->tls);
	for (unsigned i = 0; i < redis->scripts; i++)
		free(redis->lua[i].body);
	free(redis->probe.body);
	free(redis);
}

/* A callback may free redis: then the call within has emptied the queue when it returns. */
void redis_give_up_all(struct redis *redis)
{
	struct redis_request *request;

	STAILQ_CONCAT(&redis->refused, &redis->sent);
	STAILQ_CONCAT(&redis->refused, &redis->waiting);
	while ((request = STAILQ_FIRST(&redis->refused)) != NULL) {
		STAILQ_REMOVE_HEAD(&redis->refused, next);
		if (request->fn != NULL)
			request->fn(redis, NULL, request->arg);
		redis_request_free(request);
	}
}

/* Nothing is on its way: all the refused ones get another try, in order, then the others. */
static bool send_again(struct redis *redis)
{
	struct redis_request *one;
	bool written = true;

	for (one = STAILQ_FIRST(&redis->refused); one != NULL; one = STAILQ_NEXT(one, next))
		one->how = REDIS_EVAL;
	STAILQ_CONCAT(&redis->sent, &redis->refused);
	STAILQ_CONCAT(&redis->sent, &redis->waiting);
	for (one = STAILQ_FIRST(&redis->sent); one != NULL; one = STAILQ_NEXT(one, next))
		written = written && redis_link_write(redis, one);
	return written;
}

static bool is_forgotten(const struct redis_request *request, const redisReply *reply)
{
	return request->how == REDIS_EVALSHA && reply->type == REDIS_REPLY_ERROR &&
	       strncmp(reply->str, "NOSCRIPT", 8) == 0;
}

/*
 * This connection will never be of use again: the server has another role or opinion of us now.
 * Errors within a script have other words before or behind them, by version.
 */
static bool is_useless(struct redis *redis, const redisReply *reply)
{
	static const char *const lost[] = {"NOAUTH ", "NOPERM ", "READONLY You can't write",
					   "The user executing the script",
					   "ACL failure in script"};

	if (reply->type == REDIS_REPLY_ERROR)
		for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++)
			if (strstr(reply->str, lost[i]) != NULL)
				return !redis_refused(redis, reply->str);
	return false;
}

/* The oldest command has its answer. False: the connection is of no more use. */
bool redis_answered(struct redis *redis, redisReply *reply)
{
	struct redis_request *request = STAILQ_FIRST(&redis->sent);
	bool fine = true;

	if (request == NULL)
		return redis_blame(redis, "an answer that nobody asked for");
	redis->heard = true;
	if (redis->state == STATE_UP && is_useless(redis, reply))
		return false; /* it was not applied, and gets its NULL with all the others */
	STAILQ_REMOVE_HEAD(&redis->sent, next);
	if (redis->state == STATE_UP && is_forgotten(request, reply)) {
		STAILQ_INSERT_TAIL(&redis->refused, request, next);
	} else if (redis->state == STATE_GREETING) {
		redis_request_free(request);
		fine = redis_greeted(redis, reply);
	} else {
		redis->backoff_ms = REDIS_BACKOFF_SOON_MS;
		request->fn(redis, reply, request->arg);
		redis_request_free(request);
	}
	if (!redis->gone && !STAILQ_EMPTY(&redis->refused) && STAILQ_EMPTY(&redis->sent))
		return send_again(redis);
	return fine;
}

struct redis *redis_new(struct event_base *base, const struct redis_address *address,
			const struct redis_events *events, void *arg)
{
	struct redis *redis = calloc(1, sizeof(*redis));

	if (redis == NULL || !redis_link_init(redis, base)) {
		free(redis);
		return NULL;
	}
	redis->address = *address;
	redis->events = *events;
	redis->arg = arg;
	redis->timeout_ms = REDIS_TIMEOUT_MS;
	redis->option = "redis.";
	STAILQ_INIT(&redis->refused);
	STAILQ_INIT(&redis->sent);
	STAILQ_INIT(&redis->waiting);
	if (!address->tls || redis_set_trust(redis, &(struct redis_trust){0}) == 0)
		return redis;
	redis_free(redis);
	return NULL;
}

void redis_free(struct redis *redis)
{
	if (redis == NULL)
		return;
	assert(!redis->gone);
	redis->gone = true;
	redis_enter(redis);
	redis_link_end(redis);
	redis_give_up_all(redis);
	redis_leave(redis);
}

static int set_lua(struct redis *redis, struct redis_lua *lua, const char *body, size_t size)
{
	assert(lua->body == NULL && redis->state == STATE_WAITING);
	lua->body = malloc(size + 1);
	if (lua->body == NULL)
		return -ENOMEM;
	memcpy(lua->body, body, size);
	lua->size = size;
	return 0;
}

/* As Redis names it: so that one script need not be loaded before it is known how to call it. */
static bool name_script(struct redis_lua *lua)
{
	unsigned char digest[20];

	if (EVP_Digest(lua->body, lua->size, digest, NULL, EVP_sha1(), NULL) != 1)
		return false;
	for (size_t i = 0; i < sizeof(digest); i++)
		sprintf(lua->sha + 2 * i, "%02x", digest[i]);
	return true;
}

int redis_add_script(struct redis *redis, const char *body, size_t size)
{
	struct redis_lua *lua = &redis->lua[redis->scripts];

	assert(redis->scripts < REDIS_SCRIPTS_MAX);
	if (set_lua(redis, lua, body, size) != 0)
		return -ENOMEM;
	if (name_script(lua))
		return (int)redis->scripts++;
	free(lua->body);
	lua->body = NULL;
	return -ENOMEM;
}

int redis_set_probe(struct redis *redis, const char *body, size_t size, const char *key)
{
	redis_set_probe_key(redis, key);
	return set_lua(redis, &redis->probe, body, size);
}

void redis_set_login(struct redis *redis, const struct redis_login *login)
{
	assert(redis->state == STATE_WAITING);
	redis->login = *login;
}

int redis_set_trust(struct redis *redis, const struct redis_trust *trust)
{
	struct redis_tls *tls;

	assert(redis->address.tls && redis->state == STATE_WAITING);
	tls = redis_tls_new(trust);
	if (tls == NULL)
		return -ENOMEM;
	redis_tls_free(redis->tls);
	redis->tls = tls;
	return 0;
}

void redis_set_probe_key(struct redis *redis, const char *key)
{
	snprintf(redis->probe_key, sizeof(redis->probe_key), "%s", key);
}

void redis_set_use(struct redis *redis, enum redis_use use)
{
	assert(redis->state == STATE_WAITING);
	redis->use = use;
}

bool redis_is_slow(const struct redis *redis)
{
	return redis->state == STATE_UP && !redis_link_is_well(redis);
}

void redis_set_timeout(struct redis *redis, unsigned timeout_ms)
{
	redis->timeout_ms = timeout_ms;
}

int redis_set_sentinels(struct redis *redis, const struct redis_sentinels *sentinels,
			const struct redis_trust *trust)
{
	assert(redis->state == STATE_WAITING && redis->sentinel == NULL);
	redis->sentinel = redis_sentinel_new(redis->base, sentinels, trust, redis);
	return redis->sentinel != NULL ? 0 : -ENOMEM;
}

void redis_set_option(struct redis *redis, const char *prefix)
{
	redis->option = prefix;
}

void redis_ask_again(struct redis *redis)
{
	redis->known_ns = 0;
	redis_link_hurry(redis);
}

const char *redis_name(const struct redis *redis, char text[REDIS_URL_MAX])
{
	if (redis->sentinel != NULL && redis->address.host[0] == '\0')
		return redis_sentinel_name(redis->sentinel, text);
	return redis_url_format(&redis->address, text);
}

bool redis_is_up(const struct redis *redis)
{
	return redis->state == STATE_UP;
}

const char *redis_why(const struct redis *redis)
{
	return redis->why;
}

static int issue(struct redis *redis, struct redis_request *request, redis_reply_fn *fn, void *arg)
{
	if (request == NULL)
		return -ENOMEM;
	request->fn = fn;
	request->arg = arg;
	if (!STAILQ_EMPTY(&redis->refused)) {
		STAILQ_INSERT_TAIL(&redis->waiting, request, next);
		return 0;
	}
	if (!redis_link_write(redis, request)) {
		redis_request_free(request);
		return -ENOMEM;
	}
	STAILQ_INSERT_TAIL(&redis->sent, request, next);
	return 0;
}

int redis_script(struct redis *redis, unsigned script, size_t key_count, size_t argc,
		 const char **argv, const size_t *argv_len, redis_reply_fn *fn, void *arg)
{
	struct redis_lua *lua = &redis->lua[script];
	struct redis_request *request;
	int wrong;

	assert(script < redis->scripts && key_count <= argc);
	if (redis->state != STATE_UP)
		return -ENOTCONN;
	request = redis_request_new(lua->sent ? REDIS_EVALSHA : REDIS_EVAL, key_count, argc, argv,
				    argv_len);
	if (request != NULL)
		request->script = script;
	wrong = issue(redis, request, fn, arg);
	lua->sent = lua->sent || wrong == 0;
	return wrong;
}

int redis_command(struct redis *redis, size_t argc, const char **argv, const size_t *argv_len,
		  redis_reply_fn *fn, void *arg)
{
	assert(argc > 0);
	if (redis->state != STATE_UP)
		return -ENOTCONN;
	return issue(redis, redis_request_new(REDIS_PLAIN, 0, argc, argv, argv_len), fn, arg);
}
