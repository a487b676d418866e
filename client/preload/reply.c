#include "client/preload/reply.h"

#include <string.h>
#include <sys/socket.h>

#include "client/preload/real.h"

struct out {
	char *text;
	size_t len;
};

static void put(struct out *out, const char *text)
{
	size_t len = strlen(text);

	if (out->len + len > REPLY_MAX)
		return;
	memcpy(out->text + out->len, text, len);
	out->len += len;
}

static void put_number(struct out *out, uint64_t value)
{
	char digits[21];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	put(out, digits + at);
}

size_t reply_format(const struct reply *reply, char *text)
{
	static const char body[] = "Too Many Requests\n";
	struct out out = {text, 0};

	put(&out, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: ");
	put_number(&out, sizeof(body) - 1);
	put(&out, "\r\nRetry-After: ");
	put_number(&out, reply->retry_after_s);
	put(&out,
	    reply->close ? "\r\nConnection: close\r\n\r\n" : "\r\nConnection: keep-alive\r\n\r\n");
	if (!reply->to_head)
		put(&out, body);
	return out.len;
}

bool reply_send(int fd, const struct reply *reply)
{
	char text[REPLY_MAX];
	size_t len = reply_format(reply, text);

	return real()->send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}
