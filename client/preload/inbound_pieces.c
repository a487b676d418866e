#include "client/preload/inbound_pieces.h"

#include <limits.h>
#include <sys/uio.h>

#include "client/preload/real.h"

#define PIECES_MAX 1024 /* IOV_MAX of Linux: more is an error, for libc to report */

size_t pieces_room(const struct msghdr *message)
{
	size_t room = 0;

	if (message->msg_iovlen > PIECES_MAX)
		return 0;
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		if (message->msg_iov[i].iov_len > SSIZE_MAX - room)
			return 0;
		room += message->msg_iov[i].iov_len;
	}
	return room;
}

/* How many of the application's pieces fit whole into limit bytes, and how much that is. */
static size_t whole_pieces(const struct msghdr *message, uint64_t limit, size_t *ret_size)
{
	size_t i = 0, size = 0;

	while (i < message->msg_iovlen && message->msg_iov[i].iov_len <= limit - size)
		size += message->msg_iov[i++].iov_len;
	*ret_size = size;
	return i;
}

/* The first count of the application's pieces, with its control buffer. */
static ssize_t receive_whole(const struct call *call, size_t count)
{
	struct msghdr message = *call->message;
	ssize_t got;

	if (count == 1 && message.msg_controllen == 0)
		return real()->recv(call->fd, message.msg_iov->iov_base, message.msg_iov->iov_len,
				    call->flags);
	message.msg_iovlen = count;
	got = real()->recvmsg(call->fd, &message, call->flags);
	message.msg_iovlen = call->message->msg_iovlen;
	if (got >= 0)
		*call->message = message;
	return got;
}

/* One piece, cut short; the control buffer is for it if no piece came before. */
static ssize_t receive_part(const struct call *call, struct iovec part, bool first)
{
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t got;

	if (!first)
		return real()->recv(call->fd, part.iov_base, part.iov_len,
				    call->flags | MSG_DONTWAIT);
	if (call->message->msg_controllen == 0)
		return real()->recv(call->fd, part.iov_base, part.iov_len, call->flags);
	message.msg_control = call->message->msg_control;
	message.msg_controllen = call->message->msg_controllen;
	got = real()->recvmsg(call->fd, &message, call->flags);
	if (got < 0)
		return got;
	call->message->msg_controllen = message.msg_controllen;
	call->message->msg_flags = message.msg_flags;
	return got;
}

ssize_t pieces_receive(const struct call *call, uint64_t limit)
{
	size_t size, count = whole_pieces(call->message, limit, &size);
	struct iovec part;
	ssize_t got = 0, more;

	if (count > 0)
		got = receive_whole(call, count);
	if (got < 0 || (size_t)got < size || count == call->message->msg_iovlen || size == limit)
		return got;
	part = call->message->msg_iov[count];
	part.iov_len = (size_t)(limit - size);
	more = receive_part(call, part, size == 0);
	if (size == 0)
		return more;
	return more > 0 ? got + more : got;
}

ssize_t pieces_peek(const struct call *call)
{
	struct msghdr message = {.msg_iov = call->message->msg_iov,
				 .msg_iovlen = call->message->msg_iovlen};

	return real()->recvmsg(call->fd, &message, MSG_PEEK | (call->flags & MSG_DONTWAIT));
}

size_t pieces_walk(struct chunk *chunk, const struct msghdr *message, size_t len, bool *done,
		   bool *bad)
{
	size_t used = 0;

	*done = *bad = false;
	for (size_t i = 0; i < message->msg_iovlen && used < len && !*done && !*bad; i++) {
		size_t size = message->msg_iov[i].iov_len;

		if (size > len - used)
			size = len - used;
		used += chunk_walk(chunk, message->msg_iov[i].iov_base, size, done, bad);
	}
	return used;
}
