#include "client/preload/http_head.h"

#include <string.h>
#include <strings.h>

#define METHOD_MAX 24 /* the longest registered method has 17 letters */

struct text {
	const char *at;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct text trim(struct text t)
{
	while (t.len > 0 && is_blank(t.at[0])) {
		t.at++;
		t.len--;
	}
	while (t.len > 0 && is_blank(t.at[t.len - 1]))
		t.len--;
	return t;
}

static bool same(struct text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

/* Digits and nothing else, at most HEAD_BODY_MAX. */
static bool number(struct text t, uint64_t *ret)
{
	uint64_t value = 0;

	if (t.len == 0)
		return false;
	for (size_t i = 0; i < t.len; i++) {
		if (t.at[i] < '0' || t.at[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(t.at[i] - '0');
		if (value > HEAD_BODY_MAX)
			return false;
	}
	*ret = value;
	return true;
}

/* Is word one of the comma-separated items of a value? */
static bool lists(struct text value, const char *word)
{
	while (value.len > 0) {
		const char *comma = memchr(value.at, ',', value.len);
		size_t len = comma != NULL ? (size_t)(comma - value.at) : value.len;

		if (same(trim((struct text){value.at, len}), word))
			return true;
		if (comma == NULL)
			return false;
		value.at += len + 1;
		value.len -= len + 1;
	}
	return false;
}

/*
 * The line that starts at *at, without its CR LF (a bare LF ends a line as well: servers
 * that accept it read it so, the others refuse the request). False: not complete yet.
 */
static bool take_line(const char **at, const char *end, struct text *ret)
{
	const char *newline = memchr(*at, '\n', (size_t)(end - *at));

	if (newline == NULL)
		return false;
	ret->at = *at;
	ret->len = (size_t)(newline - *at);
	if (ret->len > 0 && ret->at[ret->len - 1] == '\r')
		ret->len--;
	*at = newline + 1;
	return true;
}

static bool method_byte(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || (!first && (c == '-' || c == '_'));
}

/* Can these first bytes of a line still become "METHOD SP ..."? */
static bool may_be_method(const char *at, const char *end)
{
	size_t i = 0;

	while (at + i < end && i < METHOD_MAX && method_byte(at[i], i == 0))
		i++;
	if (at + i == end)
		return i < METHOD_MAX;
	return i > 0 && is_blank(at[i]) && !(i == 3 && memcmp(at, "PRI", 3) == 0);
}

static bool has_method(struct text line, const char *method)
{
	size_t len = strlen(method);

	return line.len > len && memcmp(line.at, method, len) == 0 && is_blank(line.at[len]);
}

/*
 * "METHOD target HTTP/1.x", with the blanks that servers allow. Every later minor version
 * is framed as 1.1 is: that is what RFC 9110 2.5 has the minor number mean.
 */
static bool read_request_line(struct text line, struct head *ret)
{
	static const char version[] = "HTTP/1.";
	size_t tail = sizeof(version) - 1 + 1; /* with the minor digit */
	struct text t = trim(line);
	const char *end = t.at + t.len;

	if (t.len < tail + 4 || memcmp(end - tail, version, tail - 1) != 0)
		return false;
	if (!is_blank(end[-(ptrdiff_t)tail - 1]) || end[-1] < '0' || end[-1] > '9')
		return false;
	ret->wants_close = end[-1] == '0';
	ret->is_head = has_method(t, "HEAD");
	ret->is_connect = has_method(t, "CONNECT");
	return true;
}

/* What has been seen of the fields that frame the body. */
struct framing {
	bool has_length;
	bool has_coding;
	bool is_http10;
	bool last_frames; /* the field above is one of them: a folded line would belong to it */
	bool is_doubtful; /* a line was no field: some servers end the head's fields there */
};

static bool read_length(struct text value, struct framing *seen, struct head *ret)
{
	uint64_t size;

	if (!number(value, &size) || (seen->has_length && size != ret->body_size))
		return false;
	seen->has_length = true;
	ret->body_size = size;
	return true;
}

static void read_connection(struct text value, struct head *ret)
{
	if (lists(value, "close"))
		ret->wants_close = true;
	else if (lists(value, "keep-alive"))
		ret->wants_close = false;
}

/* A field that frames the body. False: foreign. */
static bool read_framing(struct text name, struct text value, struct framing *seen,
			 struct head *ret)
{
	seen->last_frames = true;
	if (same(name, "content-length"))
		return read_length(value, seen, ret);
	if (!same(value, "chunked") || seen->has_coding || seen->is_http10)
		return false;
	seen->has_coding = true;
	return true;
}

/*
 * One line of the fields. False: foreign. A line that is no proper field (folded, without a
 * colon, with blanks before it) is taken by one server, dropped by another and refused by a
 * third; that is all one to us, unless the body's framing could depend on it.
 */
static bool read_field(struct text line, struct framing *seen, struct head *ret)
{
	const char *colon = memchr(line.at, ':', line.len);
	bool is_folded = is_blank(line.at[0]), is_proper;
	struct text raw, name, value;

	if (memchr(line.at, '\0', line.len) != NULL || (is_folded && seen->last_frames))
		return false;
	if (colon == NULL) {
		seen->is_doubtful = seen->is_doubtful || !is_folded;
		return true;
	}
	raw = (struct text){line.at, (size_t)(colon - line.at)};
	name = trim(raw);
	if (name.len == 0)
		return false;
	is_proper = name.len == raw.len && !seen->is_doubtful;
	value = trim((struct text){colon + 1, line.len - raw.len - 1});
	if (same(name, "content-length") || same(name, "transfer-encoding"))
		return is_proper && read_framing(name, value, seen, ret);
	seen->last_frames = false;
	if (same(name, "connection"))
		read_connection(value, ret);
	else if (same(name, "expect"))
		ret->expects = true;
	return true;
}

enum head_kind head_scan(const char *bytes, size_t len, struct head *ret)
{
	const char *at = bytes, *end = bytes + len;
	struct framing seen = {0};
	struct text line;

	*ret = (struct head){0};
	while (at < end && (*at == '\r' || *at == '\n'))
		at++; /* RFC 9112 2.2: empty lines before a request line are to be ignored */
	if (at == end)
		return HEAD_PARTIAL;
	if (!may_be_method(at, end))
		return HEAD_FOREIGN;
	if (!take_line(&at, end, &line))
		return HEAD_PARTIAL;
	if (!read_request_line(line, ret))
		return HEAD_FOREIGN;
	seen.is_http10 = ret->wants_close;
	for (;;) {
		if (!take_line(&at, end, &line))
			return HEAD_PARTIAL;
		if (line.len == 0)
			break;
		if (!read_field(line, &seen, ret))
			return HEAD_FOREIGN;
	}
	if (seen.has_length && seen.has_coding)
		return HEAD_FOREIGN;
	ret->chunked = seen.has_coding;
	ret->size = (size_t)(at - bytes);
	return HEAD_WHOLE;
}
