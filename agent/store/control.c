#include "agent/store/control.h"

#include <stdlib.h>
#include <string.h>

#define ANSWER_SIZE 64u

static unsigned char *put(unsigned char *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (unsigned char)(value >> (8 * i));
	return at + bytes;
}

static uint64_t take(const unsigned char **at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)(*at)[i] << (8 * i);
	*at += bytes;
	return value;
}

static unsigned char *put_bytes(unsigned char *at, const void *bytes, size_t size)
{
	if (size > 0)
		memcpy(at, bytes, size);
	return at + size;
}

static void take_bytes(const unsigned char **at, void *ret, size_t size)
{
	memcpy(ret, *at, size);
	*at += size;
}

static bool swaps(uint32_t flags)
{
	return (flags & (CONTROL_SWAP | CONTROL_SWAP << 1)) != 0;
}

unsigned char *control_ask_write(const struct control_ask *ask, size_t *ret_size)
{
	size_t more = swaps(ask->flags) ? CONTROL_SWAP_SIZE + ask->text_size : 0;
	unsigned char *bytes = malloc(CONTROL_ASK_SIZE + more), *at = bytes;

	if (bytes == NULL)
		return NULL;
	at = put(at, ask->silence_ms, 4);
	at = put(at, ask->flags, 4);
	at = put_bytes(at, ask->known, sizeof(ask->known));
	at = put_bytes(at, ask->has, sizeof(ask->has));
	if (more > 0) {
		at = put_bytes(at, ask->expected, CONTROL_TIP);
		at = put_bytes(at, ask->tip, CONTROL_TIP);
		at = put_bytes(at, ask->text, ask->text_size);
	}
	*ret_size = (size_t)(at - bytes);
	return bytes;
}

bool control_ask_read(const unsigned char *bytes, size_t size, struct control_ask *ret)
{
	const unsigned char *at = bytes;

	*ret = (struct control_ask){0};
	if (size < CONTROL_ASK_SIZE)
		return false;
	ret->silence_ms = (uint32_t)take(&at, 4);
	ret->flags = (uint32_t)take(&at, 4);
	take_bytes(&at, ret->known, sizeof(ret->known));
	take_bytes(&at, ret->has, sizeof(ret->has));
	if (!swaps(ret->flags))
		return true;
	if (size < CONTROL_ASK_SIZE + CONTROL_SWAP_SIZE ||
	    size > CONTROL_ASK_SIZE + CONTROL_SWAP_SIZE + CONTROL_TEXT_MAX)
		return false;
	take_bytes(&at, ret->expected, CONTROL_TIP);
	take_bytes(&at, ret->tip, CONTROL_TIP);
	ret->text = (const char *)at;
	ret->text_size = (size_t)(bytes + size - at);
	return true;
}

unsigned char *control_answer_write(const struct control_answer *answer, size_t *ret_size)
{
	size_t texts = answer->text_size[CONTROL_ORDERS] + answer->text_size[CONTROL_RULES];
	unsigned char *bytes = malloc(ANSWER_SIZE + texts), *at = bytes;

	if (bytes == NULL)
		return NULL;
	at = put(at, answer->now_ms, 8);
	at = put(at, answer->swapped, 4);
	at = put(at, answer->live, 4);
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		at = put(at, answer->with[d], 4);
	at = put_bytes(at, answer->tip, sizeof(answer->tip));
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		at = put(at, answer->text_size[d], 4);
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		at = put_bytes(at, answer->text[d], answer->text_size[d]);
	*ret_size = (size_t)(at - bytes);
	return bytes;
}

bool control_answer_read(const unsigned char *bytes, size_t size, struct control_answer *ret)
{
	const unsigned char *at = bytes;

	*ret = (struct control_answer){0};
	if (size < ANSWER_SIZE)
		return false;
	ret->now_ms = take(&at, 8);
	ret->swapped = (uint32_t)take(&at, 4);
	ret->live = (uint32_t)take(&at, 4);
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		ret->with[d] = (uint32_t)take(&at, 4);
	take_bytes(&at, ret->tip, sizeof(ret->tip));
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		ret->text_size[d] = (size_t)take(&at, 4);
	for (int d = 0; d < CONTROL_DOCUMENTS; d++) {
		if (ret->text_size[d] > (size_t)(bytes + size - at))
			return false;
		ret->text[d] = (const char *)at;
		at += ret->text_size[d];
	}
	return at == bytes + size;
}
