#include "client/preload/http_response.h"

#include <string.h>
#include <strings.h>

static void lose(struct response *r)
{
	r->phase = RESPONSE_LOST;
}

static void start_over(struct response *r)
{
	memset(r, 0, sizeof(*r));
}

/* "HTTP/1.1 200 OK" */
static bool read_status(struct response *r)
{
	const char *digits = r->line + 9;

	if (r->line_len < 12 || memcmp(r->line, "HTTP/1.", 7) != 0 || r->line[8] != ' ')
		return false;
	for (int i = 0; i < 3; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		r->status = (uint16_t)(r->status * 10 + (digits[i] - '0'));
	}
	r->has_status = true;
	return true;
}

static bool read_length(struct response *r, size_t at)
{
	uint64_t size = 0;
	size_t end = r->line_len;

	while (at < end && (r->line[at] == ' ' || r->line[at] == '\t'))
		at++;
	while (end > at && (r->line[end - 1] == ' ' || r->line[end - 1] == '\t'))
		end--;
	if (at == end || r->long_line || end - at > 18)
		return false;
	for (; at < end; at++) {
		if (r->line[at] < '0' || r->line[at] > '9')
			return false;
		size = size * 10 + (uint64_t)(r->line[at] - '0');
	}
	r->has_length = true;
	r->left = size;
	return true;
}

static bool starts(const struct response *r, const char *name)
{
	size_t len = strlen(name);

	return r->line_len >= len && strncasecmp(r->line, name, len) == 0;
}

/* A whole line of the head, not the empty one. False: lost. */
static bool read_line(struct response *r)
{
	if (!r->has_status)
		return read_status(r);
	if (starts(r, "content-length:"))
		return read_length(r, strlen("content-length:"));
	if (starts(r, "transfer-encoding:"))
		r->chunked = true; /* any coding of a response ends in chunked, or in a close */
	return true;
}

/* The empty line: how does this response's body end? */
static enum response_event end_head(struct response *r, bool to_head)
{
	if (!r->has_status) {
		lose(r);
		return RESPONSE_MORE;
	}
	if (r->status == 101)
		return RESPONSE_SWITCHED;
	if (r->status < 200) {
		start_over(r); /* 100, 103: the answer proper follows */
		return RESPONSE_MORE;
	}
	if (to_head || r->status == 204 || r->status == 304)
		return RESPONSE_DONE;
	if (r->chunked)
		r->phase = RESPONSE_CHUNKS;
	else if (!r->has_length)
		lose(r);
	else if (r->left == 0)
		return RESPONSE_DONE;
	else
		r->phase = RESPONSE_BODY;
	return RESPONSE_MORE;
}

/* The line is complete. */
static enum response_event end_line(struct response *r, bool to_head)
{
	if (r->line_len > 0 && !r->long_line && r->line[r->line_len - 1] == '\r')
		r->line_len--;
	if (r->line_len == 0)
		return end_head(r, to_head);
	if (!read_line(r))
		lose(r);
	r->line_len = 0;
	r->long_line = false;
	return RESPONSE_MORE;
}

static void keep_byte(struct response *r, char c)
{
	if (r->line_len < sizeof(r->line))
		r->line[r->line_len++] = c;
	else
		r->long_line = true;
}

static enum response_event feed_head(struct response *r, bool to_head, const char *bytes,
				     size_t len, size_t *ret_used)
{
	enum response_event event = RESPONSE_MORE;
	size_t i = 0;

	while (i < len && event == RESPONSE_MORE && r->phase == RESPONSE_HEAD) {
		char c = bytes[i++];

		if (c == '\n')
			event = end_line(r, to_head);
		else
			keep_byte(r, c);
	}
	*ret_used = i;
	return event;
}

static enum response_event feed_body(struct response *r, size_t len, size_t *ret_used)
{
	*ret_used = len < r->left ? len : (size_t)r->left;
	r->left -= *ret_used;
	return r->left == 0 ? RESPONSE_DONE : RESPONSE_MORE;
}

static enum response_event feed_chunks(struct response *r, const char *bytes, size_t len,
				       size_t *ret_used)
{
	bool done, bad;

	*ret_used = chunk_walk(&r->chunk, bytes, len, &done, &bad);
	if (bad)
		lose(r);
	return done ? RESPONSE_DONE : RESPONSE_MORE;
}

enum response_event response_feed(struct response *r, bool to_head, const char *bytes, size_t len,
				  size_t *ret_used)
{
	enum response_event event = RESPONSE_MORE;
	size_t used = 0, step;

	while (used < len && event == RESPONSE_MORE && r->phase != RESPONSE_LOST) {
		if (r->phase == RESPONSE_HEAD)
			event = feed_head(r, to_head, bytes + used, len - used, &step);
		else if (r->phase == RESPONSE_BODY)
			event = feed_body(r, len - used, &step);
		else
			event = feed_chunks(r, bytes + used, len - used, &step);
		used += step;
	}
	if (event == RESPONSE_DONE)
		start_over(r);
	*ret_used = r->phase == RESPONSE_LOST ? len : used;
	return event;
}

enum response_event response_skip(struct response *r, uint64_t len)
{
	struct chunk *chunk = &r->chunk;

	if (r->phase == RESPONSE_BODY && len <= r->left) {
		r->left -= len;
		if (r->left > 0)
			return RESPONSE_MORE;
		start_over(r);
		return RESPONSE_DONE;
	}
	if (r->phase == RESPONSE_CHUNKS && chunk->phase == CHUNK_DATA && len <= chunk->left) {
		chunk->left -= len;
		if (chunk->left == 0)
			chunk->phase = CHUNK_AFTER;
		return RESPONSE_MORE;
	}
	lose(r);
	return RESPONSE_MORE;
}
