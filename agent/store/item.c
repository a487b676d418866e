#include "agent/store/item.h"

/* Little-endian whatever the machine: Lua's struct reads it with '<'. */
static unsigned char *put(unsigned char *at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*at++ = (unsigned char)(value >> (8 * i));
	return at;
}

static const unsigned char *take(const unsigned char *at, unsigned bytes, uint64_t *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < bytes; i++)
		*ret |= (uint64_t)at[i] << (8 * i);
	return at + bytes;
}

static const unsigned char *take4(const unsigned char *at, uint32_t *ret)
{
	uint64_t value;

	at = take(at, 4, &value);
	*ret = (uint32_t)value;
	return at;
}

void sync_header_write(const struct sync_header *header, unsigned char out[SYNC_HEADER_SIZE])
{
	out = put(out, header->seq, 8);
	out = put(out, header->nonce, 8);
	out = put(out, header->lease_ms, 4);
	out = put(out, header->flags, 4);
	put(out, 0, 8); /* the time is Redis's own */
}

void sync_item_write(const struct sync_item *item, unsigned char out[SYNC_ITEM_SIZE])
{
	out = put(out, item->limit, 4);
	out = put(out, item->window_ms, 8);
	out = put(out, item->interval_ms, 4);
	out = put(out, item->blind, 4);
	out = put(out, item->tag, 8);
	out = put(out, item->used, 8);
	out = put(out, item->age_ms, 8);
	out = put(out, item->credit, 4);
	out = put(out, item->demand, 8);
	out = put(out, item->waiting, 4);
	put(out, item->flags, 4);
}

void sync_piece_write(const struct sync_piece *piece, unsigned char out[SYNC_PIECE_SIZE])
{
	out = put(out, piece->units, 8);
	put(out, piece->age_ms, 8);
}

void sync_answer_read(const unsigned char in[SYNC_ANSWER_SIZE], struct sync_answer *ret)
{
	in = take(in, 8, &ret->tag);
	in = take4(in, &ret->grant);
	in = take4(in, &ret->flags);
	in = take4(in, &ret->retry_ms);
	in = take4(in, &ret->count);
	in = take4(in, &ret->others_out);
	take4(in, &ret->ends_ms);
}

void sync_header_read(const unsigned char in[SYNC_HEADER_SIZE], struct sync_header *ret,
		      uint64_t *ret_now_ms)
{
	in = take(in, 8, &ret->seq);
	in = take(in, 8, &ret->nonce);
	in = take4(in, &ret->lease_ms);
	in = take4(in, &ret->flags);
	take(in, 8, ret_now_ms);
}

void sync_item_read(const unsigned char in[SYNC_ITEM_SIZE], struct sync_item *ret)
{
	in = take4(in, &ret->limit);
	in = take(in, 8, &ret->window_ms);
	in = take4(in, &ret->interval_ms);
	in = take4(in, &ret->blind);
	in = take(in, 8, &ret->tag);
	in = take(in, 8, &ret->used);
	in = take(in, 8, &ret->age_ms);
	in = take4(in, &ret->credit);
	in = take(in, 8, &ret->demand);
	in = take4(in, &ret->waiting);
	take4(in, &ret->flags);
	ret->flags &=
		(1u << SYNC_PIECES_AT) - 1; /* the item's size says how many pieces there are */
}

void sync_piece_read(const unsigned char in[SYNC_PIECE_SIZE], struct sync_piece *ret)
{
	in = take(in, 8, &ret->units);
	take(in, 8, &ret->age_ms);
}

void sync_answer_write(const struct sync_answer *answer, unsigned char out[SYNC_ANSWER_SIZE])
{
	out = put(out, answer->tag, 8);
	out = put(out, answer->grant, 4);
	out = put(out, answer->flags, 4);
	out = put(out, answer->retry_ms, 4);
	out = put(out, answer->count, 4);
	out = put(out, answer->others_out, 4);
	put(out, answer->ends_ms, 4);
}
