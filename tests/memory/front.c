/*
 * front - the counts in memory behind a pipe, so that a script can have them beside Redis.
 *
 * Rooms:  tests/sys/test_memory.py. usage: front MAX_BYTES
 *
 * On stdin frames, each answered on stdout before the next is read. All numbers little-endian:
 *
 *	u32 bytes that follow, u32 what, f64 clock ms, then for
 *	  SYNC   u32 items, then texts, u32 length and bytes each: partition, host, row, words,
 *	         header, and for each item its key's name and its bytes
 *	  SWEEP  nothing    FLUSH  nothing    USE  nothing    TOTAL, LEASES  texts: partition, name
 *	  CONTROL  texts: partition, host, row, words, request
 *	u32 bytes that follow, then for
 *	  SYNC, CONTROL  i64 status, i64 now, i64 live, u32 length and bytes: error, other, answers
 *	  LEASES  for each u32 held, u32 length and bytes: the row
 *	  the others  u64 keys, rows, bytes, refused, the total
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/memory/inner.h"

#define FRAME_MAX (4u << 20)
#define ITEMS_MAX 128u

enum { SYNC = 1, SWEEP, FLUSH, USE, TOTAL, LEASES, CONTROL };

struct frame {
	uint32_t size, at;
	unsigned char bytes[FRAME_MAX];
};

static uint32_t take4(struct frame *frame)
{
	uint32_t value;

	if (frame->at + 4 > frame->size)
		exit(3);
	memcpy(&value, frame->bytes + frame->at, 4);
	frame->at += 4;
	return value;
}

static double take_double(struct frame *frame)
{
	double value;

	if (frame->at + 8 > frame->size)
		exit(3);
	memcpy(&value, frame->bytes + frame->at, 8);
	frame->at += 8;
	return value;
}

static void put(struct frame *frame, const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(frame->bytes + frame->size, bytes, len);
	frame->size += (uint32_t)len;
}

static void put_text(struct frame *frame, const void *bytes, size_t len)
{
	uint32_t size = (uint32_t)len;

	put(frame, &size, 4);
	put(frame, bytes, len);
}

static struct memory_text take_text(struct frame *frame)
{
	struct memory_text text = {.len = take4(frame)};

	text.at = (const char *)frame->bytes + frame->at;
	if (text.len > frame->size - frame->at)
		exit(3);
	frame->at += (uint32_t)text.len;
	return text;
}

static void tell_reply(const struct memory_reply *reply, struct frame *out)
{
	put(out, &reply->status, 8);
	put(out, &reply->now_ms, 8);
	put(out, &reply->live, 8);
	put_text(out, reply->error == NULL ? "" : reply->error,
		 reply->error == NULL ? 0 : strlen(reply->error));
	put_text(out, reply->other, reply->other_len);
	put_text(out, reply->answers, reply->answers_len);
}

static uint64_t total_of(struct memory *memory, struct frame *in)
{
	struct memory_text part = take_text(in), name = take_text(in);

	return memory_total(memory, part, name);
}

static void sync_now(struct memory *memory, double clock_ms, struct frame *in, struct frame *out)
{
	static struct memory_entry item[ITEMS_MAX];
	struct memory_call call = {.count = take4(in), .item = item};
	struct memory_reply reply;

	call.part = take_text(in);
	call.host = take_text(in);
	call.row = take_text(in);
	call.words = take_text(in);
	call.header = take_text(in);
	for (uint32_t i = 0; i < call.count && i < ITEMS_MAX; i++) {
		item[i].name = take_text(in);
		item[i].bytes = take_text(in);
	}
	memory_sync(memory, clock_ms, &call, &reply);
	tell_reply(&reply, out);
}

static void control_now(struct memory *memory, double clock_ms, struct frame *in, struct frame *out)
{
	struct memory_call call = {.part = take_text(in)};
	struct memory_text request;
	struct memory_reply reply;

	call.host = take_text(in);
	call.row = take_text(in);
	call.words = take_text(in);
	request = take_text(in);
	memory_control(memory, clock_ms, &call, request, &reply);
	tell_reply(&reply, out);
}
static const struct memory_row *row_of(const struct memory_part *part, uint64_t id)
{
	const struct memory_row *row = part->row_list[id % MEMORY_PART_LISTS];

	while (row->id != id)
		row = row->next;
	return row;
}

static void tell_leases(struct memory *memory, struct frame *in, struct frame *out)
{
	struct memory_text part = take_text(in), name = take_text(in);
	uint64_t id = memory_id(memory, memory_id(memory, 0, part), name);
	const struct memory_key *key = memory->bucket[id & (memory->bucket_count - 1)];

	while (key != NULL && key->id != id)
		key = key->next;
	for (uint32_t i = 0; key != NULL && i < key->leases; i++) {
		const struct memory_row *row =
			row_of(memory_part_of(memory, part, false), key->lease[i].row);

		put(out, &key->lease[i].held, 4);
		put_text(out, row->name, row->name_len);
	}
}

static void other(struct memory *memory, uint32_t what, double clock_ms, struct frame *in,
		  struct frame *out)
{
	struct memory_use use;
	uint64_t total = 0;

	if (what == SWEEP)
		memory_sweep(memory, clock_ms);
	else if (what == FLUSH)
		memory_flush(memory);
	else if (what == TOTAL)
		total = total_of(memory, in);
	memory_use(memory, &use);
	put(out, &use.keys, 8);
	put(out, &use.rows, 8);
	put(out, &use.bytes, 8);
	put(out, &use.refused, 8);
	put(out, &total, 8);
}

int main(int argc, char **argv)
{
	static struct frame in, out;
	struct memory *memory = argc == 2 ? memory_new(strtoull(argv[1], NULL, 10)) : NULL;

	if (memory == NULL)
		return 2;
	while (fread(&in.size, 4, 1, stdin) == 1 && in.size <= FRAME_MAX &&
	       fread(in.bytes, 1, in.size, stdin) == in.size) {
		uint32_t what;
		double clock_ms;

		in.at = out.size = 0;
		what = take4(&in);
		clock_ms = take_double(&in);
		if (what == SYNC)
			sync_now(memory, clock_ms, &in, &out);
		else if (what == CONTROL)
			control_now(memory, clock_ms, &in, &out);
		else if (what == LEASES)
			tell_leases(memory, &in, &out);
		else
			other(memory, what, clock_ms, &in, &out);
		fwrite(&out.size, 4, 1, stdout);
		fwrite(out.bytes, 1, out.size, stdout);
		fflush(stdout);
	}
	memory_free(memory);
	return 0;
}
