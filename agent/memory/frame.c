#include "agent/memory/frame.h"

#include <string.h>

static uint64_t take(struct frame_in *in, unsigned bytes)
{
	uint64_t value = 0;

	if ((size_t)(in->end - in->at) < bytes) {
		in->at = in->end;
		in->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)*in->at++ << (8 * i);
	return value;
}

uint32_t frame_take4(struct frame_in *in)
{
	return (uint32_t)take(in, 4);
}

uint64_t frame_take8(struct frame_in *in)
{
	return take(in, 8);
}

struct memory_text frame_take_text(struct frame_in *in)
{
	struct memory_text text = {.len = frame_take4(in)};

	if (text.len > (size_t)(in->end - in->at)) {
		in->at = in->end;
		in->bad = true;
		text.len = 0;
	}
	text.at = (const char *)in->at;
	in->at += text.len;
	return text;
}

bool frame_is_read(const struct frame_in *in)
{
	return !in->bad && in->at == in->end;
}

static void put(struct frame_out *out, uint64_t value, unsigned bytes)
{
	if (sizeof(out->bytes) - out->size < bytes) {
		out->bad = true;
		return;
	}
	for (unsigned i = 0; i < bytes; i++)
		out->bytes[out->size++] = (unsigned char)(value >> (8 * i));
}

void frame_begin(struct frame_out *out, enum frame_kind kind)
{
	out->size = 4;
	out->bad = false;
	frame_put4(out, kind);
}

void frame_put4(struct frame_out *out, uint32_t value)
{
	put(out, value, 4);
}

void frame_put8(struct frame_out *out, uint64_t value)
{
	put(out, value, 8);
}

void frame_put_text(struct frame_out *out, const void *bytes, size_t len)
{
	if (sizeof(out->bytes) - out->size < len + 4) {
		out->bad = true;
		return;
	}
	frame_put4(out, (uint32_t)len);
	if (len > 0)
		memcpy(out->bytes + out->size, bytes, len);
	out->size += (uint32_t)len;
}

bool frame_end(struct frame_out *out)
{
	uint32_t size = out->size;

	out->size = 0;
	frame_put4(out, size - 4);
	out->size = size;
	return !out->bad;
}
