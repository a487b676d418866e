/*
 * redis.c - the counts in a Redis or Valkey: a partition's call is rl_sync.lua, in one step.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/store/nodes.h"

#define KEY_SIZE      256 /* three names of 63 bytes, a key, and the marks between */
#define KEYS_MOST     (2 + 2 * SYNC_BATCH_MAX)
#define ARGS_MOST     5
#define ANSWER_PARTS  5
#define SPILL_HOSTS   8 /* of more: the script may need the names of leases beside a key's string */
#define CALL_IS_WRONG "ERR rl_" /* a script of ours finds a call wrong */

/* A call on its way: whose answer it is. */
struct ticket {
	struct node *node;
	uint32_t part;
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
	/* A slot of a cluster that is being moved is told by the names alone whether it has all. */
	if (self->live_rows > SPILL_HOSTS || self->cluster != NULL)
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
static bool is_error(const redisReply *reply, const struct ticket *ticket, struct store_answer *ret)
{
	*ret = (struct store_answer){STORE_LOST, .why = "the connection was lost"};
	if (reply == NULL)
		return true;
	if (reply->type != REDIS_REPLY_ERROR)
		return false;
	*ret = (struct store_answer){STORE_REFUSED, .why = reply->str};
	if (strncmp(reply->str, CALL_IS_WRONG, strlen(CALL_IS_WRONG)) == 0)
		ret->outcome = STORE_WRONG;
	else if (ticket->node->self->cluster != NULL)
		ret->outcome = cluster_outcome(ticket->node, ticket->part, reply->str);
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

static void on_synced(struct redis *redis, redisReply *reply, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;
	struct store_answer answer;

	(void)redis;
	free(arg);
	if (!is_error(reply, &ticket, &answer))
		read_answer(reply, &answer);
	if (answer.outcome == STORE_ANSWERED && answer.live_rows > 0)
		ticket.node->self->live_rows = answer.live_rows;
	ticket.fn(&answer, ticket.arg);
}

static void on_controlled(struct redis *redis, redisReply *reply, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;
	struct store_answer answer;

	(void)redis;
	free(arg);
	if (is_error(reply, &ticket, &answer))
		;
	else if (reply->type != REDIS_REPLY_STRING)
		answer = (struct store_answer){STORE_REFUSED, .why = "an answer of another form"};
	else
		answer = (struct store_answer){STORE_ANSWERED,
					       .answers = (const unsigned char *)reply->str,
					       .answers_size = (size_t)reply->len};
	ticket.fn(&answer, ticket.arg);
}

static int run(struct backend *self, uint32_t part, unsigned script, const struct words *words,
	       redis_reply_fn *heard, store_fn *fn, void *fn_arg)
{
	struct node *node = self->cluster != NULL ? cluster_node(self, part) : self->route[part];
	struct ticket *ticket = malloc(sizeof(*ticket));
	int wrong = -ENOMEM;

	if (ticket == NULL)
		return wrong;
	*ticket = (struct ticket){node, part, fn, fn_arg};
	wrong = node == NULL ? -ENOTCONN
			     : redis_script(node->redis, script, words->keys, words->count,
					    (const char **)(uintptr_t)words->argv, words->len,
					    heard, ticket);
	if (wrong != 0)
		free(ticket);
	return wrong;
}

static int send_sync(void *arg, uint32_t part, const struct store_call *call, store_fn *fn,
		     void *fn_arg)
{
	static struct words words; /* too large for a stack; the loop has one thread */

	write_sync(&words, arg, part, call);
	return run(arg, part, SCRIPT_SYNC, &words, on_synced, fn, fn_arg);
}

static int send_control(void *arg, const struct store_call *call, const void *bytes, size_t size,
			store_fn *fn, void *fn_arg)
{
	static struct words words;

	write_control(&words, arg, call, bytes, size);
	return run(arg, 0, SCRIPT_CONTROL, &words, on_controlled, fn, fn_arg);
}

static int send_share(void *arg, uint32_t part, const struct store_log *log, store_fn *fn,
		      void *fn_arg)
{
	static struct words words;
	char keep[24];

	words.count = words.keys = 0;
	push_key(&words, arg, part, "a:", log->name, log->name_size);
	push_text(&words, log->row);
	push(&words, log->bytes, log->size);
	snprintf(keep, sizeof(keep), "%" PRIu64, log->keep_ms);
	push_text(&words, keep);
	return run(arg, part, SCRIPT_SHARE, &words, on_controlled, fn, fn_arg);
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

	for (size_t i = 0; i < NODES_MAX; i++)
		if (self->node[i].redis != NULL)
			node_close(&self->node[i]);
	cluster_end(self);
	free(self);
}

/* One server has all partitions. */
static bool open_alone(struct backend *self, const struct redis_address *address,
		       const struct redis_sentinels *sentinels)
{
	struct node *node = node_open(self, address, REDIS_ALONE, sentinels);

	if (node == NULL)
		return false;
	for (uint32_t p = 0; p < RL_PARTS; p++)
		node_route(node, p, false);
	memcpy(self->store->where, node->where, sizeof(self->store->where));
	return true;
}

static void *open_redis(struct store *store, const struct store_setup *setup, const char **ret_why)
{
	bool watched = setup->sentinels->count > 0, many = setup->seeds->count > 0;
	struct redis_address address = {.tls = setup->sentinels->tls,
					.database = setup->sentinels->database};
	struct backend *self;

	*ret_why = watched || many ? NULL : redis_url_parse(setup->url, &address);
	if (*ret_why != NULL)
		return NULL;
	*ret_why = "out of memory, threads or descriptors";
	self = calloc(1, sizeof(*self));
	if (self == NULL)
		return NULL;
	self->store = store;
	self->base = setup->base;
	self->timeout_ms = setup->timeout_ms;
	self->trust = *setup->trust;
	self->login = *setup->login;
	snprintf(self->fleet, sizeof(self->fleet), "%s", setup->fleet);
	if (many ? cluster_begin(self, setup->seeds)
		 : open_alone(self, &address, watched ? setup->sentinels : NULL))
		return self;
	close_redis(self);
	return NULL;
}

static void settle_anew(void *arg)
{
	struct backend *self = arg;

	for (size_t i = 0; i < NODES_MAX; i++)
		if (self->node[i].redis != NULL)
			redis_ask_again(self->node[i].redis);
}

static uint32_t list_nodes(const void *arg, struct store_node ret[RL_PARTS])
{
	const struct backend *self = arg;
	uint32_t count = 0;

	for (size_t i = 0; i < NODES_MAX && count < RL_PARTS; i++) {
		const struct node *node = &self->node[i];

		if (node->redis != NULL && node->parts != 0)
			ret[count++] = (struct store_node){node->where, node->up, node->parts};
	}
	return count;
}

const struct store_backend store_redis = {
	.nodes = list_nodes,
	.fault = fault,
	.open = open_redis,
	.close = close_redis,
	.sync = send_sync,
	.control = send_control,
	.share = send_share,
	.ask_again = settle_anew,
};
