#include "agent/memory/serve.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/store/item.h"

#define PART_SIZE \
	96u /* bytes of a partition's name: the fleet's, which has up to 63, and a number */

bool serve_hello(struct frame_in *in, struct frame_out *out)
{
	bool known = frame_take4(in) == FRAME_HELLO && frame_take8(in) == FRAME_MAGIC &&
		     frame_take4(in) == FRAME_VERSION && frame_is_read(in);

	frame_begin(out, FRAME_HELLO);
	frame_put8(out, FRAME_MAGIC);
	frame_put4(out, FRAME_VERSION);
	frame_put4(out, (uint32_t)getpid());
	return known;
}

static void refuse(struct frame_out *out, const char *why)
{
	frame_begin(out, FRAME_REFUSED);
	frame_put_text(out, why, strlen(why));
}

static void write_answer(const struct memory_reply *reply, struct frame_out *out)
{
	if (reply->error != NULL) {
		refuse(out, reply->error);
		return;
	}
	frame_begin(out, FRAME_ANSWER);
	frame_put8(out, (uint64_t)reply->status);
	frame_put8(out, (uint64_t)reply->now_ms);
	frame_put8(out, (uint64_t)reply->live);
	frame_put_text(out, reply->other, reply->other_len);
	frame_put_text(out, reply->answers, reply->answers_len);
}

static bool take_items(struct frame_in *in, struct memory_call *call,
		       struct memory_entry item[SYNC_BATCH_MAX])
{
	call->count = frame_take4(in);
	call->item = item;
	if (call->count > SYNC_BATCH_MAX)
		return false;
	for (uint32_t i = 0; i < call->count; i++) {
		item[i].name = frame_take_text(in);
		item[i].bytes = frame_take_text(in);
	}
	return true;
}

/* The caller's four; the fleet's name with a number is its partition's. */
static bool take_caller(struct frame_in *in, uint32_t number, char part[PART_SIZE],
			struct memory_call *ret)
{
	struct memory_text fleet = frame_take_text(in);

	ret->host = frame_take_text(in);
	ret->row = frame_take_text(in);
	ret->words = frame_take_text(in);
	if (fleet.len > PART_SIZE - 16)
		return false;
	ret->part.at = part;
	ret->part.len =
		(size_t)snprintf(part, PART_SIZE, "%u:%.*s", number, (int)fleet.len, fleet.at);
	return true;
}

static bool serve_control(struct memory *memory, double clock_ms, struct frame_in *in,
			  struct frame_out *out)
{
	struct memory_call call = {.count = 0};
	struct memory_text request;
	struct memory_reply reply;
	char part[PART_SIZE];

	if (!take_caller(in, 0, part, &call))
		return false;
	request = frame_take_text(in);
	if (!frame_is_read(in))
		return false;
	memory_control(memory, clock_ms, &call, request, &reply);
	write_answer(&reply, out);
	return true;
}

static bool serve_sync(struct memory *memory, double clock_ms, struct frame_in *in,
		       struct frame_out *out)
{
	struct memory_entry item[SYNC_BATCH_MAX];
	struct memory_call call = {.count = 0};
	uint32_t number = frame_take4(in);
	struct memory_reply reply;
	char part[PART_SIZE];

	if (!take_caller(in, number, part, &call))
		return false;
	call.header = frame_take_text(in);
	if (!take_items(in, &call, item) || !frame_is_read(in))
		return false;
	memory_sync(memory, clock_ms, &call, &reply);
	write_answer(&reply, out);
	return true;
}

bool serve(struct memory *memory, double clock_ms, struct frame_in *in, struct frame_out *out)
{
	switch (frame_take4(in)) {
	case FRAME_SYNC:
		return serve_sync(memory, clock_ms, in, out);
	case FRAME_CONTROL:
		return serve_control(memory, clock_ms, in, out);
	default:
		return false;
	}
}
