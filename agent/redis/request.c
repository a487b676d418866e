#include "agent/redis/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_MAX 24 /* "$18446744073709551615\r\n" */
#define HEAD_MAX   96

static size_t put(char *at, const char *bytes, size_t size)
{
	int head = sprintf(at, "$%zu\r\n", size);

	if (size > 0)
		memcpy(at + head, bytes, size);
	memcpy(at + head + size, "\r\n", 2);
	return (size_t)head + size + 2;
}

struct redis_request *redis_request_new(enum redis_how how, size_t key_count, size_t argc,
					const char **argv, const size_t *argv_len)
{
	struct redis_request *request;
	size_t room = 2 * LENGTH_MAX + 2;
	char keys[LENGTH_MAX];

	for (size_t i = 0; i < argc; i++)
		room += LENGTH_MAX + argv_len[i] + 2;
	request = malloc(sizeof(*request) + room);
	if (request == NULL)
		return NULL;
	*request = (struct redis_request){.how = how, .argc = argc};
	if (how != REDIS_PLAIN) {
		request->argc++;
		request->size = put(request->wire, keys, (size_t)sprintf(keys, "%zu", key_count));
	}
	for (size_t i = 0; i < argc; i++)
		request->size += put(request->wire + request->size, argv[i], argv_len[i]);
	return request;
}

void redis_request_free(struct redis_request *request)
{
	if (request != NULL && request->secret)
		explicit_bzero(request->wire, request->size);
	free(request);
}

static size_t head_of(const struct redis_request *request, const struct redis_lua *lua, char *head)
{
	if (request->how == REDIS_EVALSHA)
		return (size_t)sprintf(head, "*%zu\r\n$7\r\nEVALSHA\r\n$40\r\n%.40s\r\n",
				       request->argc + 2, lua->sha);
	if (request->how == REDIS_EVAL)
		return (size_t)sprintf(head, "*%zu\r\n$4\r\nEVAL\r\n$%zu\r\n", request->argc + 2,
				       lua->size);
	return (size_t)sprintf(head, "*%zu\r\n", request->argc);
}

bool redis_request_write(const struct redis_request *request, const struct redis_lua *lua,
			 struct evbuffer *out)
{
	char head[HEAD_MAX];
	size_t head_size = head_of(request, lua, head);
	size_t body_size = request->how == REDIS_EVAL ? lua->size + 2 : 0;

	/* With the room made first none of the pieces can fail: half a command is poison. */
	if (evbuffer_expand(out, head_size + body_size + request->size) != 0)
		return false;
	evbuffer_add(out, head, head_size);
	if (request->how == REDIS_EVAL) {
		evbuffer_add(out, lua->body, lua->size);
		evbuffer_add(out, "\r\n", 2);
	}
	evbuffer_add(out, request->wire, request->size);
	return true;
}
