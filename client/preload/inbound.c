#include "client/preload/inbound.h"

#include <errno.h>
#include <sys/mman.h>

#include "client/preload/http_head.h"
#include "client/preload/inbound_call.h"
#include "client/preload/inbound_pieces.h"
#include "client/preload/inbound_refuse.h"
#include "client/preload/inbound_socket.h"
#include "client/preload/inbound_wait.h"
#include "client/preload/limiter.h"

#define DRAIN_MAX 65536 /* bytes dropped before a close */

static enum next pass_on(struct call *call, const struct head *head, size_t seen, ssize_t *ret)
{
	struct conn *conn = call->conn;
	ssize_t got;

	conn_asked(conn, head->is_head);
	if (head->is_connect)
		return call_leave_alone(call);
	conn->left = head->size + head->body_size;
	conn->then_chunked = head->chunked;
	conn_set_state(conn, CONN_INSIDE);
	got = pieces_receive(call, conn->left);
	if (got <= 0)
		return call_give(got, ret);
	conn->left -= (uint64_t)got;
	if (conn->left == 0)
		conn_enter_boundary(conn);
	/* Bytes the peek saw are left, or it was too short to see all. */
	if ((size_t)got < call->room && ((size_t)got < seen || seen >= CALL_STACK_MAX))
		socket_raise_edge(call->fd, conn);
	return call_give(got, ret);
}

/*
 * A head too long for the stack is looked at in a mapping that lives as long as the look.
 * malloc could be in use by whoever was interrupted.
 */
static enum head_kind scan_long(int fd, struct head *head, size_t *seen)
{
	char *bytes = mmap(NULL, CALL_HEAD_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	enum head_kind kind = HEAD_FOREIGN;
	ssize_t now;

	if (bytes == MAP_FAILED)
		return HEAD_FOREIGN;
	now = socket_peek(fd, bytes, CALL_HEAD_MAX, MSG_DONTWAIT);
	if (now > 0) {
		kind = head_scan(bytes, (size_t)now, head);
		*seen = (size_t)now;
	}
	munmap(bytes, CALL_HEAD_MAX);
	return kind;
}

/*
 * Look at the head that begins here. Returns as socket_peek(); what was found goes to *kind
 * and *head.
 */
static ssize_t look(const struct call *call, enum head_kind *kind, struct head *head)
{
	char bytes[CALL_STACK_MAX];
	ssize_t got = socket_peek(call->fd, bytes, sizeof(bytes), call->flags);
	size_t seen = (size_t)got;

	if (got <= 0)
		return got;
	*kind = head_scan(bytes, seen, head);
	if (*kind == HEAD_PARTIAL && seen == sizeof(bytes))
		*kind = scan_long(call->fd, head, &seen);
	return (ssize_t)seen;
}

static enum next at_boundary(struct call *call, ssize_t *ret)
{
	struct head head;
	enum head_kind kind;
	uint64_t retry_after_s;
	ssize_t seen = look(call, &kind, &head);

	if (seen <= 0)
		return call_nothing(call, seen, ret);
	if (kind == HEAD_PARTIAL)
		return wait_for_more(call, (size_t)seen, ret);
	if (kind == HEAD_FOREIGN)
		return call_leave_alone(call);
	socket_reset_low_water(call->fd, call->conn);
	if (limiter_allows(call->conn, &retry_after_s))
		return pass_on(call, &head, (size_t)seen, ret);
	return refuse_head(call, &head, retry_after_s, ret);
}

/* In the rest of a head or in a body of known length. */
static enum next inside(struct call *call, ssize_t *ret)
{
	struct conn *conn = call->conn;
	ssize_t got = pieces_receive(call, conn->left);

	if (got <= 0)
		return call_nothing(call, got, ret);
	conn->left -= (uint64_t)got;
	if (conn->left > 0)
		return call_give(got, ret);
	conn_enter_boundary(conn);
	if ((size_t)got < call->room)
		socket_raise_edge(call->fd, conn);
	return call_give(got, ret);
}

/*
 * In a chunked body. The look at it goes where the bytes will go, however much room there is:
 * what is not the body's is looked at there again, or overwritten by the next read.
 */
static enum next in_chunks(struct call *call, ssize_t *ret)
{
	struct conn *conn = call->conn;
	struct chunk walked = conn->chunk;
	bool done, bad;
	size_t used;
	ssize_t seen, got;

	if ((call->flags & MSG_TRUNC) != 0) /* the application drops bytes it has no room for */
		return call_leave_alone(call);
	seen = pieces_peek(call);
	if (seen <= 0)
		return call_nothing(call, seen, ret);
	used = pieces_walk(&walked, call->message, (size_t)seen, &done, &bad);
	if (bad)
		return call_leave_alone(call);
	got = pieces_receive(call, used);
	if (got != (ssize_t)used) /* cannot be: they were there to be peeked at */
		return conn_leave(conn), call_give(got, ret);
	conn->chunk = walked;
	if (!done)
		return call_give(got, ret);
	conn_enter_boundary(conn);
	if (used < call->room)
		socket_raise_edge(call->fd, conn);
	return call_give(got, ret);
}

static enum next step(struct call *call, ssize_t *ret)
{
	switch (conn_state_of(call->conn)) {
	case CONN_BOUNDARY:
		return at_boundary(call, ret);
	case CONN_INSIDE:
		return call->conn->discard ? refuse_body(call, ret) : inside(call, ret);
	case CONN_CHUNKED:
		return call->conn->discard ? refuse_body(call, ret) : in_chunks(call, ret);
	case CONN_ENDED:
		return call_give(0, ret);
	default: /* CONN_RAW, and CONN_NONE when another thread closed it */
		return NEXT_YOURS;
	}
}

ssize_t inbound_receive(int fd, struct conn *conn, struct msghdr *message, int flags)
{
	struct call call = {.fd = fd, .flags = flags, .conn = conn, .message = message};
	enum next next = NEXT_AGAIN;
	int error = errno;
	ssize_t ret = 0;

	/* A look of the application's own moves nothing; out-of-band data is not HTTP. */
	if (conn_state_of(conn) == CONN_RAW || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)) != 0 ||
	    (call.room = pieces_room(message)) == 0)
		return INBOUND_YOURS;
	if ((conn_state_of(conn) == CONN_ENDED || conn->discard) && !conn_holds(fd, conn))
		next = call_forget(&call);
	while (next == NEXT_AGAIN)
		next = step(&call, &ret);
	if (next == NEXT_YOURS || ret >= 0)
		errno = error;
	if (next == NEXT_YOURS)
		return INBOUND_YOURS;
	if (ret == 0) { /* as the kernel leaves a message that brought nothing */
		message->msg_namelen = 0;
		message->msg_controllen = 0;
		message->msg_flags = 0;
	}
	return ret;
}

/*
 * Only of a connection whose requests were all passed on and written to by this very process,
 * through its last descriptor: what a forked child is about to read is not ours to drop.
 */
void inbound_drain(int fd)
{
	struct conn *conn = conn_of(fd);
	int error = errno;

	if (conn == NULL || !conn_is_alone(fd) || !conn_is_ours(conn))
		return;
	if ((conn_state_of(conn) == CONN_BOUNDARY || conn_state_of(conn) == CONN_ENDED) &&
	    conn_holds(fd, conn))
		socket_drop(fd, DRAIN_MAX);
	errno = error;
}
