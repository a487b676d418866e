/*
 * store_bridge.c - a backend of the store behind a socket, spoken to as tests speak to Redis.
 *
 * usage: store_bridge URL SOCKET
 *
 * So that tests/sys/test_script.py, which sends batches as the agent does, can be run against any
 * backend: SCRIPT is answered with a name, EVALSHA becomes store_sync() of the keys' partition and
 * fleet, FLUSHALL goes on with another fleet, whose counts begin anew. One connection at a time,
 * one command after the other.
 */
#include <assert.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/store/store.h"

#define SHA   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define WRONG "-ERR rl_sync: keys and arguments do not match\r\n"

static struct {
	const char *url;
	struct event_base *base;
	struct store *store;
	char fleet[64]; /* it was opened for this one */
	unsigned flushed;
	int fd;
	bool answered;
} b;

static void send_bytes(const void *bytes, size_t size)
{
	for (const char *at = bytes; size > 0;) {
		ssize_t sent = write(b.fd, at, size);

		if (sent <= 0)
			return; /* whoever asked is gone: the next read says so */
		at += sent;
		size -= (size_t)sent;
	}
}

static void send_text(const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	send_bytes(text, strlen(text));
}

static void on_server(void *arg, const char *where, const struct store_server *server)
{
	(void)arg, (void)where, (void)server;
}

static void on_up(void *arg, uint32_t parts)
{
	(void)arg, (void)parts;
}

static void on_down(void *arg, uint32_t parts, const char *where, const char *why)
{
	(void)arg, (void)parts;
	if (why != NULL)
		fprintf(stderr, "store_bridge: %s is down: %s\n", where, why);
}

/* Counts of this fleet, and of none before the last FLUSHALL. */
static void open_for(const char *fleet)
{
	static const struct store_events events = {
		.server = on_server, .up = on_up, .down = on_down};
	static const struct redis_trust trust;
	static const struct redis_login login;
	static const struct redis_sentinels sentinels;
	static const struct redis_seeds seeds;
	const char *why;
	struct store_setup setup = {.base = b.base,
				    .url = b.url,
				    .fleet = b.fleet,
				    .timeout_ms = 2000,
				    .sentinels = &sentinels,
				    .seeds = &seeds,
				    .trust = &trust,
				    .login = &login};
	char name[sizeof(b.fleet)];

	snprintf(name, sizeof(name), "%.40s.%d.%u", fleet, (int)getpid(), b.flushed);
	if (b.store != NULL && strcmp(name, b.fleet) == 0)
		return;
	store_free(b.store);
	memcpy(b.fleet, name, sizeof(name));
	b.store = store_new(&setup, &events, NULL, &why);
	if (b.store == NULL) {
		fprintf(stderr, "store_bridge: %s: %s\n", b.url, why);
		exit(2);
	}
}

static void on_answer(const struct store_answer *answer, void *arg)
{
	(void)arg;
	b.answered = true;
	if (answer->outcome != STORE_ANSWERED) {
		send_text("-%s\r\n", answer->why);
		return;
	}
	send_text("*5\r\n:%lld\r\n:%llu\r\n:%llu\r\n$%zu\r\n", (long long)answer->status,
		  (unsigned long long)answer->now_ms, (unsigned long long)answer->live_rows,
		  answer->other_size);
	send_bytes(answer->other, answer->other_size);
	send_text("\r\n$%zu\r\n", answer->answers_size);
	send_bytes(answer->answers, answer->answers_size);
	send_text("\r\n");
}

static void run_call(uint32_t part, const struct store_call *call)
{
	while (!store_is_up(b.store, part))
		event_base_loop(b.base, EVLOOP_ONCE);
	b.answered = false;
	if (store_sync(b.store, part, call, on_answer, NULL) != 0)
		send_text("-ERR the store takes no call\r\n");
	else
		while (!b.answered)
			event_base_loop(b.base, EVLOOP_ONCE);
}

/* Its bytes and those of its pieces; 0: there is none. */
static size_t size_of_item(const unsigned char *at, size_t left)
{
	size_t size = SYNC_ITEM_SIZE;

	if (left < size)
		return 0;
	for (size_t i = 0; i < 3; i++) /* the flags are the last four bytes, little-endian */
		size += (size_t)at[SYNC_ITEM_SIZE - 3 + i] * SYNC_PIECE_SIZE << (8 * i);
	return size <= left ? size : 0;
}

/* All items in one argument. False: it has more in it. */
static bool read_items(const redisReply *items, struct store_call *ret)
{
	const unsigned char *at = (const unsigned char *)items->str, *end = at + items->len;

	for (ret->count = 0; at < end && ret->count < SYNC_BATCH_MAX; ret->count++) {
		size_t size = size_of_item(at, (size_t)(end - at));

		if (size == 0)
			return false;
		ret->item[ret->count] = (struct store_item){.bytes = at, .size = size};
		at += size;
	}
	return at == end;
}

/* EVALSHA sha N {rl:FLEET:p}:s {..}:h {..}:k:NAME... ({..}:l:NAME...) host row words header items
 */
static bool read_call(redisReply **word, size_t words, char fleet[64], uint32_t *ret_part,
		      struct store_call *ret)
{
	size_t keys = words > 2 ? strtoul(word[2]->str, NULL, 10) : 0, tag;
	redisReply **arg = word + 3 + keys;

	if (keys < 2 || keys > words || words - keys != 3 + 5 ||
	    (size_t)arg[3]->len != SYNC_HEADER_SIZE ||
	    sscanf(word[3]->str, "{rl:%40[^:}]:%u}", fleet, ret_part) != 2 || *ret_part >= RL_PARTS)
		return false;
	tag = strcspn(word[3]->str, "}") + strlen("}:k:");
	*ret = (struct store_call){.host = arg[0]->str,
				   .row = arg[1]->str,
				   .words = arg[2]->str,
				   .header = (unsigned char *)arg[3]->str};
	if (!read_items(arg[4], ret) || (keys != 2 + ret->count && keys != 2 + 2 * ret->count))
		return false;
	for (uint32_t i = 0; i < ret->count; i++) {
		const redisReply *key = word[5 + i];
		bool named = (size_t)key->len > tag; /* the test's names begin with ':' */

		ret->item[i].name = key->str + (named ? tag : 0);
		ret->item[i].name_size = named ? (size_t)key->len - tag : 0;
	}
	return true;
}

static void run_command(redisReply **word, size_t words)
{
	static struct store_call call;
	char fleet[64];
	uint32_t part;

	if (strcmp(word[0]->str, "SCRIPT") == 0) {
		send_text("$40\r\n" SHA "\r\n");
	} else if (strcmp(word[0]->str, "FLUSHALL") == 0) {
		b.flushed++;
		send_text("+OK\r\n");
	} else if (strcmp(word[0]->str, "EVALSHA") != 0) {
		send_text("-ERR store_bridge knows SCRIPT, EVALSHA and FLUSHALL\r\n");
	} else if (!read_call(word, words, fleet, &part, &call)) {
		send_text(WRONG);
	} else {
		open_for(fleet);
		run_call(part, &call);
	}
}

static void serve(void)
{
	redisReader *reader = redisReaderCreate();
	char bytes[65536];
	ssize_t size;

	assert(reader != NULL);
	while ((size = read(b.fd, bytes, sizeof(bytes))) > 0) {
		void *reply = NULL;

		redisReaderFeed(reader, bytes, (size_t)size);
		while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply != NULL) {
			redisReply *command = reply;

			if (command->type == REDIS_REPLY_ARRAY && command->elements > 0)
				run_command(command->element, command->elements);
			freeReplyObject(reply);
		}
	}
	redisReaderFree(reader);
}

int main(int argc, char **argv)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 3 || strlen(argv[2]) >= sizeof(at.sun_path)) {
		fprintf(stderr, "usage: store_bridge URL SOCKET\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	b.url = argv[1];
	b.base = event_base_new();
	memcpy(at.sun_path, argv[2], strlen(argv[2]));
	if (b.base == NULL || bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(listener, 4) != 0) {
		perror("store_bridge");
		return 2;
	}
	while ((b.fd = accept(listener, NULL, NULL)) >= 0) {
		serve();
		close(b.fd);
	}
	return 2;
}
