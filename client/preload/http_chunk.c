#include "client/preload/http_chunk.h"

#define DIGITS_MAX 13 /* hex digits: 2^52 bytes in one chunk are more than any */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

static void end_of_size(struct chunk *chunk)
{
	chunk->phase = chunk->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
	chunk->digits = 0;
}

/* One byte of a size line. False: not a chunk. */
static bool size_byte(struct chunk *chunk, char c)
{
	int digit = hex(c);

	if (digit >= 0) {
		if (chunk->left > 0 || chunk->digits == 0) /* leading zeros say nothing */
			chunk->digits++;
		chunk->left = chunk->left * 16 + (uint64_t)digit;
		return chunk->digits <= DIGITS_MAX;
	}
	if (chunk->digits == 0)
		return false;
	if (c == '\n')
		end_of_size(chunk);
	else
		chunk->phase = CHUNK_EXT;
	return c == '\n' || c == '\r' || c == ';' || c == ' ' || c == '\t';
}

/* One byte outside of data. False: not a chunked body. */
static bool frame_byte(struct chunk *chunk, char c, bool *ret_done)
{
	switch (chunk->phase) {
	case CHUNK_SIZE:
		return size_byte(chunk, c);
	case CHUNK_EXT:
		if (c == '\n')
			end_of_size(chunk);
		return true;
	case CHUNK_AFTER:
		if (c == '\n')
			chunk->phase = CHUNK_SIZE;
		return c == '\n' || c == '\r';
	case CHUNK_TRAILER:
		*ret_done = c == '\n';
		if (c != '\n' && c != '\r')
			chunk->phase = CHUNK_FIELD;
		return true;
	default:
		if (c == '\n')
			chunk->phase = CHUNK_TRAILER;
		return true;
	}
}

size_t chunk_walk(struct chunk *chunk, const char *bytes, size_t len, bool *ret_done, bool *ret_bad)
{
	size_t i = 0;

	*ret_done = *ret_bad = false;
	while (i < len && !*ret_done) {
		if (chunk->phase == CHUNK_DATA) {
			size_t step = len - i < chunk->left ? len - i : (size_t)chunk->left;

			chunk->left -= step;
			i += step;
			if (chunk->left == 0)
				chunk->phase = CHUNK_AFTER;
		} else if (!frame_byte(chunk, bytes[i++], ret_done)) {
			*ret_bad = true;
			return i;
		}
	}
	return i;
}
