/*
 * redis.c - the counts in a Redis or Valkey: a partition's call is rl_sync.lua, in one step.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <agent/store/rl_control.lua.h> /* made from rl_control.lua: rl_control_lua[] */
#include <agent/store/rl_probe.lua.h>   /* likewise */
#include <agent/store/rl_sync.lua.h>    /* likewise */

#include "agent/redis/redis.h"
#include "agent/store/backend.h"
#include "shm/rl_terms.h"

#define KEY_SIZE      256 /* three names of 63 bytes, a key, and the marks between */
#define KEYS_MOST     (2 + 2 * SYNC_BATCH_MAX)
#define ARGS_MOST     5
#define ANSWER_PARTS  5
#define SPILL_HOSTS   8 /* of more: the script may need the names of leases beside a key's string */
#define CALL_IS_WRONG "ERR rl_" /* a script of ours finds a call wrong */

static_assert((int)NOTICES <= (int)STORE_NOTICES, "each kind of notice has a place");

enum { SCRIPT_SYNC, SCRIPT_CONTROL }; /* in the order they are added */

struct backend {
	struct store *store;
	struct redis *redis;
	char fleet[RL_NAME_MAX + 1];
	uint64_t live_rows; /* hosts of the fleet, as the last answer said */
};

/* A call on its way: whose answer it is. */
struct ticket {
	struct backend *self;
	store_fn *fn;
	void *arg;
};

/* The arguments of one command; the pointers are into it or into the caller's. */
struct words {
	const char *argv[KEYS_MOST + ARGS_MOST];
	size_t len[KEYS_MOST + ARGS_MOST];
	size_t count, keys;
	char key[KEYS_MOST][KEY_SIZE];
	unsigned char items[SYNC_BATCH_MAX * SYNC_ITEM_MOST];
};

static void push(struct words *words, const void *bytes, size_t len)
{
	words->argv[words->count] = bytes;
	words->len[words->count++] = len;
}

/* "{rl:FLEET:p}:k:NAME"; a partition is a hash tag, so that a call has one slot of a cluster. */
static void push_key(struct words *words, const struct backend *self, uint32_t part,
		     const char *kind, const char *name, size_t name_size)
{
	char *text = words->key[words->keys++];
	int len = snprintf(text, KEY_SIZE, "{rl:%s:%u}:%s", self->fleet, part, kind);

	if (name_size > KEY_SIZE - (size_t)len)
		name_size = KEY_SIZE - (size_t)len;
	memcpy(text + len, name, name_size);
	push(words, text, (size_t)len + name_size);
}

static void push_text(struct words *words, const char *text)
{
	push(words, text, strlen(text));
}

static void push_caller(struct words *words, const struct store_call *call)
{
	push_text(words, call->host);
	push_text(words, call->row);
	push_text(words, call->words);
}

static void push_keys(struct words *words, const struct backend *self, uint32_t part,
		      const char *kind, const struct store_call *call)
{
	for (uint32_t i = 0; i < call->count; i++)
		push_key(words, self, part, kind, call->item[i].name, call->item[i].name_size);
}

/* One string: an argument of its own costs Redis as much as reading a key. */
static void push_items(struct words *words, const struct store_call *call)
{
	size_t size = 0;

	for (uint32_t i = 0; i < call->count; i++) {
		memcpy(words->items + size, call->item[i].bytes, call->item[i].size);
		size += call->item[i].size;
	}
	push(words, words->items, size);
}

static void write_sync(struct words *words, const struct backend *self, uint32_t part,
		       const struct store_call *call)
{
	words->count = words->keys = 0;
	push_key(words, self, part, "s", "", 0);
	push_key(words, self, part, "h", "", 0);
	push_keys(words, self, part, "k:", call);
	if (self->live_rows > SPILL_HOSTS)
		push_keys(words, self, part, "l:", call);
	push_caller(words, call);
	push(words, call->header, SYNC_HEADER_SIZE);
	push_items(words, call);
}

static void write_control(struct words *words, const struct backend *self,
			  const struct store_call *call, const void *bytes, size_t size)
{
	words->count = words->keys = 0;
	push_key(words, self, 0, "c", "", 0);
	push_key(words, self, 0, "r", "", 0);
	push_key(words, self, 0, "h", "", 0);
	push_caller(words, call);
	push(words, bytes, size);
}

/* Of every answer that is none. */
static bool is_error(const redisReply *reply, struct store_answer *ret)
{
	if (reply == NULL)
		*ret = (struct store_answer){STORE_LOST, .why = "the connection was lost"};
	else if (reply->type != REDIS_REPLY_ERROR)
		return false;
	else if (strncmp(reply->str, CALL_IS_WRONG, strlen(CALL_IS_WRONG)) == 0)
		*ret = (struct store_answer){STORE_WRONG, .why = reply->str};
	else
		*ret = (struct store_answer){STORE_REFUSED, .why = reply->str};
	return true;
}

static bool is_answer(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == ANSWER_PARTS &&
	       reply->element[0]->type == REDIS_REPLY_INTEGER &&
	       reply->element[1]->type == REDIS_REPLY_INTEGER &&
	       reply->element[2]->type == REDIS_REPLY_INTEGER &&
	       reply->element[3]->type == REDIS_REPLY_STRING &&
	       reply->element[4]->type == REDIS_REPLY_STRING &&
	       reply->element[4]->len % SYNC_ANSWER_SIZE == 0;
}

static uint64_t not_below(long long number, long long least)
{
	return (uint64_t)(number < least ? least : number);
}

static void read_answer(const redisReply *reply, struct store_answer *ret)
{
	if (!is_answer(reply)) {
		*ret = (struct store_answer){STORE_REFUSED, .why = "an answer of another form"};
		return;
	}
	*ret = (struct store_answer){
		.outcome = STORE_ANSWERED,
		.status = reply->element[0]->integer,
		.now_ms = not_below(reply->element[1]->integer, 0),
		.live_rows = not_below(reply->element[2]->integer, 0),
		.other = reply->element[3]->str,
		.other_size = (size_t)reply->element[3]->len,
		.answers = (const unsigned char *)reply->element[4]->str,
		.answers_size = (size_t)reply->element[4]->len,
	};
}

static void deliver(const struct store_answer *answer, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;

	free(arg);
	if (answer->outcome == STORE_ANSWERED && answer->live_rows > 0)
		ticket.self->live_rows = answer->live_rows;
	ticket.fn(answer, ticket.arg);
}

static void on_synced(struct redis *redis, redisReply *reply, void *arg)
{
	struct store_answer answer;

	(void)redis;
	if (!is_error(reply, &answer))
		read_answer(reply, &answer);
	deliver(&answer, arg);
}

static void on_controlled(struct redis *redis, redisReply *reply, void *arg)
{
	struct store_answer answer;

	(void)redis;
	if (is_error(reply, &answer))
		;
	else if (reply->type != REDIS_REPLY_STRING)
		answer = (struct store_answer){STORE_REFUSED, .why = "an answer of another form"};
	else
		answer = (struct store_answer){STORE_ANSWERED,
					       .answers = (const unsigned char *)reply->str,
					       .answers_size = (size_t)reply->len};
	deliver(&answer, arg);
}

static int run(struct backend *self, unsigned script, const struct words *words,
	       redis_reply_fn *heard, struct ticket from)
{
	struct ticket *ticket = malloc(sizeof(*ticket));
	int wrong = -ENOMEM;

	if (ticket == NULL)
		return wrong;
	*ticket = from;
	wrong = redis_script(self->redis, script, words->keys, words->count,
			     (const char **)(uintptr_t)words->argv, words->len, heard, ticket);
	if (wrong != 0)
		free(ticket);
	return wrong;
}

static int send_sync(void *arg, uint32_t part, const struct store_call *call, store_fn *fn,
		     void *fn_arg)
{
	static struct words words; /* too large for a stack; the loop has one thread */

	write_sync(&words, arg, part, call);
	return run(arg, SCRIPT_SYNC, &words, on_synced, (struct ticket){arg, fn, fn_arg});
}

static int send_control(void *arg, const struct store_call *call, const void *bytes, size_t size,
			store_fn *fn, void *fn_arg)
{
	static struct words words;

	write_control(&words, arg, call, bytes, size);
	return run(arg, SCRIPT_CONTROL, &words, on_controlled, (struct ticket){arg, fn, fn_arg});
}

static void on_server(void *arg, const struct redis_server *redis)
{
	struct backend *self = arg;
	struct store_server server = {0};

	memcpy(server.name, redis->name, sizeof(server.name));
	memcpy(server.version, redis->version, sizeof(server.version));
	for (int i = 0; i < NOTICES; i++) {
		server.notice[i].warning = i == NOTICE_EVICTS;
		server.notice[i].is =
			redis_server_notice(redis, (enum redis_notice)i, server.notice[i].text,
					    sizeof(server.notice[i].text));
	}
	redis_name(self->redis, self->store->where);
	store_report_server(self->store, self->store->where, &server);
}

static void on_up(void *arg)
{
	struct backend *self = arg;

	redis_name(self->redis, self->store->where); /* Sentinel may have sent us elsewhere */
	store_report_up(self->store, STORE_ALL);
}

static void on_down(void *arg, const char *why)
{
	struct backend *self = arg;

	redis_name(self->redis, self->store->where);
	store_report_down(self->store, STORE_ALL, self->store->where, why);
}

static const char *fault(const char *url, bool *ret_tls)
{
	struct redis_address address = {0};
	const char *why = redis_url_parse(url, &address);

	*ret_tls = address.tls;
	return why;
}

static void close_redis(void *arg)
{
	struct backend *self = arg;

	redis_free(self->redis);
	free(self);
}

static bool prepare(struct backend *self, const struct store_setup *setup,
		    const struct redis_address *address)
{
	char probe_key[128];

	/* In the partition that every fleet has, beside its keys "s", "h", "k:..." and "l:...". */
	snprintf(probe_key, sizeof(probe_key), "{rl:%s:0}:probe", self->fleet);
	redis_set_login(self->redis, setup->login);
	redis_set_timeout(self->redis, setup->timeout_ms);
	return (!address->tls || redis_set_trust(self->redis, setup->trust) == 0) &&
	       (setup->sentinels->count == 0 ||
		redis_set_sentinels(self->redis, setup->sentinels, setup->trust) == 0) &&
	       redis_add_script(self->redis, rl_sync_lua, sizeof(rl_sync_lua)) == SCRIPT_SYNC &&
	       redis_add_script(self->redis, rl_control_lua, sizeof(rl_control_lua)) ==
		       SCRIPT_CONTROL &&
	       redis_set_probe(self->redis, rl_probe_lua, sizeof(rl_probe_lua), probe_key) == 0;
}

static void *open_redis(struct store *store, const struct store_setup *setup, const char **ret_why)
{
	static const struct redis_events events = {
		.server = on_server, .up = on_up, .down = on_down};
	struct redis_address address = {.tls = setup->sentinels->tls,
					.database = setup->sentinels->database};
	struct backend *self;

	*ret_why = setup->sentinels->count > 0 ? NULL : redis_url_parse(setup->url, &address);
	if (*ret_why != NULL)
		return NULL;
	*ret_why = "out of memory, threads or descriptors";
	self = calloc(1, sizeof(*self));
	if (self == NULL)
		return NULL;
	self->store = store;
	snprintf(self->fleet, sizeof(self->fleet), "%s", setup->fleet);
	self->redis = redis_new(setup->base, &address, &events, self);
	if (self->redis != NULL && prepare(self, setup, &address)) {
		redis_name(self->redis, store->where);
		return self;
	}
	close_redis(self);
	return NULL;
}

static void settle_anew(void *arg)
{
	redis_ask_again(((struct backend *)arg)->redis);
}

const struct store_backend store_redis = {
	.fault = fault,
	.open = open_redis,
	.close = close_redis,
	.sync = send_sync,
	.control = send_control,
	.ask_again = settle_anew,
};
