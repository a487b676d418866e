#include "client/preload/inbound.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "client/preload/http_head.h"
#include "client/preload/limiter.h"
#include "client/preload/real.h"
#include "client/preload/reply.h"

#define HEAD_MAX     8192  /* bytes of a head that is looked at; a longer one is left alone */
#define DISCARD_MAX  65536 /* a refused body larger than this ends the connection */
#define REFUSALS_MAX 32    /* refused requests handled in one call of the application */
#define PIECES_MAX   16

/* One call of the application, and what it may still have. */
struct call {
	int fd;
	struct conn *conn;
	const struct iovec *piece;
	size_t count;
	size_t room; /* bytes the application asked for */
	int flags;
	int refusals;
};

/* What a step decided. */
enum next {
	AGAIN,  /* look at the connection's new state */
	RETURN, /* *ret is what the application gets */
};

static void set_state(struct conn *conn, enum conn_state state)
{
	atomic_store_explicit(&conn->state, (uint8_t)state, memory_order_relaxed);
}

static bool never_blocks(const struct call *call)
{
	int flags;

	if ((call->flags & MSG_DONTWAIT) != 0)
		return true;
	flags = fcntl(call->fd, F_GETFL);
	return flags < 0 || (flags & O_NONBLOCK) != 0;
}

static bool set_low_water(int fd, struct conn *conn, uint32_t bytes)
{
	int value = (int)bytes;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) != 0)
		return false;
	conn->low_water = bytes;
	return true;
}

/* Poll and epoll were told to wait for more of a head: let them speak of every byte again. */
static void reset_low_water(int fd, struct conn *conn)
{
	if (conn->low_water > 1)
		set_low_water(fd, conn, 1);
}

/* Bytes may be left in the kernel that an edge-triggered reader will not come back for. */
static void raise_edge(int fd, struct conn *conn)
{
	if (atomic_load_explicit(&conn->edge, memory_order_relaxed))
		set_low_water(fd, conn, 1);
}

/* The application's own receive, of at most limit bytes. */
static ssize_t receive(const struct call *call, uint64_t limit)
{
	struct iovec cut[PIECES_MAX];
	struct msghdr message = {.msg_iov = cut};
	size_t i = 0;

	for (; i < call->count && i < PIECES_MAX && limit > 0; i++) {
		cut[i] = call->piece[i];
		if (cut[i].iov_len > limit)
			cut[i].iov_len = (size_t)limit;
		limit -= cut[i].iov_len;
	}
	message.msg_iovlen = i;
	if (i == 1)
		return real()->recv(call->fd, cut[0].iov_base, cut[0].iov_len, call->flags);
	return real()->recvmsg(call->fd, &message, call->flags);
}

static ssize_t peek(const struct call *call, char *bytes, size_t size)
{
	return real()->recv(call->fd, bytes, size, MSG_PEEK | (call->flags & MSG_DONTWAIT));
}

/* Take and drop len bytes that a peek has shown to be there. */
static bool swallow(const struct call *call, char *scratch, size_t len)
{
	return real()->recv(call->fd, scratch, len, MSG_DONTWAIT) == (ssize_t)len;
}

static enum next leave_alone(struct call *call)
{
	reset_low_water(call->fd, call->conn);
	conn_leave(call->conn);
	return AGAIN;
}

static enum next give(ssize_t got, ssize_t *ret)
{
	*ret = got;
	return RETURN;
}

static enum next fail(int error, ssize_t *ret)
{
	errno = error;
	return give(-1, ret);
}

/* End of file for the application, now and for ever: it will close the connection. */
static enum next end(struct call *call, ssize_t *ret)
{
	set_state(call->conn, CONN_ENDED);
	return give(0, ret);
}

/* After the last byte of a head or body. */
static void enter_boundary(struct conn *conn)
{
	conn->discard = false;
	conn->chunk = (struct chunk){0};
	set_state(conn, conn->then_chunked ? CONN_CHUNKED : CONN_BOUNDARY);
	conn->then_chunked = false;
}

/* Has the peer closed its sending half, so that no more of this head will come? */
static bool peer_finished(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static bool has_timeout(int fd)
{
	struct timeval t = {0};
	socklen_t len = sizeof(t);

	return getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len) == 0 &&
	       (t.tv_sec != 0 || t.tv_usec != 0);
}

/*
 * The head is not complete. Nothing is swallowed: whoever waits in poll, epoll or a blocking
 * receive is woken by the next byte or by the end.
 */
static enum next wait_for_more(struct call *call, size_t seen, ssize_t *ret)
{
	struct conn *conn = call->conn;
	bool seen_before = conn->low_water == seen + 1;

	if (seen >= HEAD_MAX || peer_finished(call->fd))
		return leave_alone(call);
	if (!seen_before && !set_low_water(call->fd, conn, (uint32_t)seen + 1))
		return leave_alone(call);
	if (never_blocks(call))
		return fail(EAGAIN, ret);
	if (seen_before && has_timeout(call->fd))
		return fail(EAGAIN, ret); /* what a timed-out receive says */
	return AGAIN;                     /* the next peek blocks until byte seen + 1, or the end */
}

static enum next pass_on(struct call *call, const struct head *head, size_t seen, ssize_t *ret)
{
	struct conn *conn = call->conn;
	ssize_t got;

	conn_asked(conn, head->is_head);
	if (head->is_connect)
		return leave_alone(call);
	conn->left = head->size + head->body_size;
	conn->then_chunked = head->chunked;
	set_state(conn, CONN_INSIDE);
	got = receive(call, conn->left);
	if (got <= 0)
		return give(got, ret);
	conn->left -= (uint64_t)got;
	if (conn->left == 0)
		enter_boundary(conn);
	if ((size_t)got < seen && (size_t)got < call->room)
		raise_edge(call->fd, conn);
	return give(got, ret);
}

static enum next refuse(struct call *call, const struct head *head, uint64_t retry_after_s,
			char *scratch, ssize_t *ret)
{
	struct conn *conn = call->conn;
	bool owed, to_head, can_wait = never_blocks(call);
	struct reply reply = {.retry_after_s = retry_after_s, .to_head = head->is_head};

	if (!swallow(call, scratch, head->size))
		return end(call, ret);
	owed = conn_oldest(conn, &to_head);
	if (owed) { /* ours would land before or inside the server's own response */
		shutdown(call->fd, SHUT_RD);
		return end(call, ret);
	}
	reply.close =
		head->wants_close || head->expects || head->body_size > DISCARD_MAX || !can_wait;
	if (!reply_send(call->fd, &reply) || reply.close) {
		while (real()->recv(call->fd, scratch, HEAD_MAX, MSG_DONTWAIT) > 0 &&
		       ++call->refusals < REFUSALS_MAX)
			; /* what is unread when the server closes would reset the connection */
		return end(call, ret);
	}
	conn->left = head->body_size;
	conn->then_chunked = head->chunked;
	conn->discard = true;
	set_state(conn, CONN_INSIDE);
	if (++call->refusals < REFUSALS_MAX)
		return AGAIN;
	raise_edge(call->fd, conn); /* others of this event loop have waited long enough */
	return fail(EAGAIN, ret);
}

static enum next at_boundary(struct call *call, char *scratch, ssize_t *ret)
{
	struct head head;
	uint64_t retry_after_s;
	ssize_t seen = peek(call, scratch, HEAD_MAX);

	if (seen == 0)
		return give(0, ret);
	if (seen < 0 && (errno == ENOTSOCK || errno == EOPNOTSUPP || errno == EINVAL))
		return leave_alone(call); /* the descriptor was closed behind our back and reused */
	if (seen < 0)
		return give(-1, ret); /* the peek is the answer: EAGAIN, EINTR, ECONNRESET... */
	switch (head_scan(scratch, (size_t)seen, &head)) {
	case HEAD_PARTIAL:
		return wait_for_more(call, (size_t)seen, ret);
	case HEAD_FOREIGN:
		return leave_alone(call);
	default:
		reset_low_water(call->fd, call->conn);
	}
	if (limiter_allows(call->conn, &retry_after_s))
		return pass_on(call, &head, (size_t)seen, ret);
	return refuse(call, &head, retry_after_s, scratch, ret);
}

/* In the rest of a head or in a body of known length. */
static enum next inside(struct call *call, char *scratch, ssize_t *ret)
{
	struct conn *conn = call->conn;
	bool discard = conn->discard;
	size_t most = conn->left < HEAD_MAX ? (size_t)conn->left : HEAD_MAX;
	ssize_t got = 0;

	if (conn->left > 0) {
		got = discard ? real()->recv(call->fd, scratch, most, call->flags)
			      : receive(call, conn->left);
		if (got <= 0)
			return give(got, ret);
	}
	conn->left -= (uint64_t)got;
	if (conn->left == 0) {
		bool chunks_follow = conn->then_chunked;

		enter_boundary(conn);
		conn->discard = discard && chunks_follow;
		if (!discard && (size_t)got < call->room)
			raise_edge(call->fd, conn);
	}
	return discard ? AGAIN : give(got, ret);
}

static enum next in_chunks(struct call *call, char *scratch, ssize_t *ret)
{
	struct conn *conn = call->conn;
	size_t most = conn->discard || call->room > HEAD_MAX ? HEAD_MAX : call->room;
	struct chunk walked = conn->chunk;
	ssize_t seen = peek(call, scratch, most), got;
	bool done, bad, discard = conn->discard;
	size_t used;

	if (seen <= 0)
		return give(seen, ret);
	used = chunk_walk(&walked, scratch, (size_t)seen, &done, &bad);
	if (bad)
		return discard ? end(call, ret) : leave_alone(call);
	if (discard)
		got = swallow(call, scratch, used) ? (ssize_t)used : -1;
	else
		got = receive(call, used);
	if (got != (ssize_t)used) /* cannot be: they were there to be peeked at */
		return discard ? end(call, ret) : (conn_leave(conn), give(got, ret));
	conn->chunk = walked;
	if (done)
		enter_boundary(conn);
	if (discard)
		return AGAIN;
	if (done && used < call->room)
		raise_edge(call->fd, conn);
	return give(got, ret);
}

static size_t room_of(const struct iovec *piece, size_t count)
{
	size_t room = 0;

	for (size_t i = 0; i < count && i < PIECES_MAX; i++)
		room += piece[i].iov_len;
	return room;
}

ssize_t inbound_receive(int fd, struct conn *conn, const struct iovec *piece, size_t count,
			int flags)
{
	struct call call = {fd, conn, piece, count, room_of(piece, count), flags, 0};
	enum next next = AGAIN;
	char scratch[HEAD_MAX];
	int error = errno;
	ssize_t ret = 0;

	/* A look of the application's own moves nothing; out-of-band data is not HTTP. */
	if (call.room == 0 || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)) != 0)
		return receive(&call, call.room);
	while (next == AGAIN) {
		switch (atomic_load_explicit(&conn->state, memory_order_relaxed)) {
		case CONN_BOUNDARY:
			next = at_boundary(&call, scratch, &ret);
			break;
		case CONN_INSIDE:
			next = inside(&call, scratch, &ret);
			break;
		case CONN_CHUNKED:
			next = in_chunks(&call, scratch, &ret);
			break;
		case CONN_ENDED:
			return 0;
		default: /* CONN_RAW, and CONN_NONE when another thread closed it */
			next = give(receive(&call, call.room), &ret);
		}
	}
	if (ret >= 0)
		errno = error;
	return ret;
}
