#include "client/preload/inbound.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include "client/preload/http_head.h"
#include "client/preload/limiter.h"
#include "client/preload/real.h"
#include "client/preload/reply.h"

#define HEAD_MAX     65536 /* bytes of a head that is looked at: nginx takes 33 KiB */
#define STACK_MAX    2048  /* of them on the stack, which may be a signal handler's */
#define KEEP_MAX     65536 /* a refused body larger than this is answered with a close */
#define DISCARD_MAX  (UINT64_C(16) << 20)  /* bytes of one refused body; after them, the end */
#define TURN_MAX     (UINT64_C(256) << 10) /* bytes dropped in one call of the application */
#define REFUSALS_MAX 32    /* refused requests handled in one call of the application */
#define LINGER_MS    50    /* a blocking caller waits for the rest of a refused body */
#define DRAIN_MAX    65536 /* bytes dropped before a close */
#define PIECES_MAX   1024  /* IOV_MAX of Linux: more is an error, for libc to report */
#define TICK_US      20000 /* a receive timeout may end so much early: the kernel's jiffy */

/* One call of the application, and what it may still have. */
struct call {
	int fd;
	int flags;
	struct conn *conn;
	struct msghdr *message;
	size_t room;      /* bytes the application asked for */
	uint64_t dropped; /* bytes of refused bodies */
	int refusals;
	struct timespec wait_start;   /* for more of a head; zero = has not waited */
	struct timespec linger_start; /* for more of a refused body; likewise */
};

/* What a step decided. */
enum next {
	AGAIN,  /* look at the connection's new state */
	RETURN, /* *ret is what the application gets */
	YOURS,  /* the application's own call decides, unchanged */
};

static enum conn_state state_of(const struct conn *conn)
{
	return (enum conn_state)atomic_load_explicit(&conn->state, memory_order_relaxed);
}

static void set_state(struct conn *conn, enum conn_state state)
{
	atomic_store_explicit(&conn->state, (uint8_t)state, memory_order_relaxed);
}

static bool never_blocks(const struct call *call)
{
	int flags;

	if ((call->flags & MSG_DONTWAIT) != 0)
		return true;
	flags = real()->fcntl(call->fd, F_GETFL);
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

/*
 * Let poll, epoll and a blocking receive wait for the byte after the first seen. A receive
 * buffer too small for so much caps it silently: then it stirs at once, see stirs().
 */
static bool park(int fd, struct conn *conn, size_t seen)
{
	return conn->low_water == seen + 1 || set_low_water(fd, conn, (uint32_t)seen + 1);
}

/* Bytes may be left in the kernel that an edge-triggered reader will not come back for. */
static void raise_edge(int fd, struct conn *conn)
{
	if (atomic_load_explicit(&conn->edge, memory_order_relaxed))
		set_low_water(fd, conn, 1);
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

/* The application's own receive, of at most limit bytes. */
static ssize_t receive(const struct call *call, uint64_t limit)
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

static ssize_t peek(int fd, char *bytes, size_t size, int flags)
{
	return real()->recv(fd, bytes, size, MSG_PEEK | (flags & MSG_DONTWAIT));
}

/* How many bytes a peek would show, at most one more than seen. Copies nothing. */
static ssize_t count_ahead(int fd, size_t seen, int flags)
{
	return real()->recv(fd, NULL, seen + 1, MSG_PEEK | MSG_TRUNC | flags);
}

/* Take what is there, at most len bytes, to nowhere: on TCP MSG_TRUNC copies nothing. */
static ssize_t drop(int fd, uint64_t len)
{
	return real()->recv(fd, NULL, (size_t)len, MSG_TRUNC | MSG_DONTWAIT);
}

static enum next leave_alone(struct call *call)
{
	reset_low_water(call->fd, call->conn);
	conn_leave(call->conn);
	return YOURS;
}

/* The descriptor is something else by now. */
static enum next forget(struct call *call)
{
	conn_close(call->fd);
	return YOURS;
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

/* What a receive said that brought nothing: mostly it is the answer (EAGAIN, ECONNRESET...). */
static enum next nothing(struct call *call, ssize_t got, ssize_t *ret)
{
	if (got < 0 && (errno == ENOTSOCK || errno == EOPNOTSUPP || errno == EINVAL))
		return forget(call);
	return give(got, ret);
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
	conn->chunk = (struct chunk){0};
	conn->discard = conn->discard && conn->then_chunked;
	set_state(conn, conn->then_chunked ? CONN_CHUNKED : CONN_BOUNDARY);
	conn->then_chunked = false;
}

/*
 * Is anything to be reported beyond the bytes a connection is parked on: the next byte, the
 * peer's end, an urgent mark that no peek goes past, a window too full for more?
 */
static bool stirs(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI | POLLRDHUP};

	return poll(&p, 1, 0) > 0;
}

/* Microseconds since the first call with this start, which begins as zero. */
static int64_t elapsed_us(struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (start->tv_sec == 0 && start->tv_nsec == 0)
		*start = now;
	return (now.tv_sec - start->tv_sec) * INT64_C(1000000) +
	       (now.tv_nsec - start->tv_nsec) / 1000;
}

/* Has the application's own receive timeout passed since it began to wait? */
static bool timed_out(struct call *call)
{
	struct timeval most = {0};
	socklen_t len = sizeof(most);

	if (getsockopt(call->fd, SOL_SOCKET, SO_RCVTIMEO, &most, &len) != 0 ||
	    (most.tv_sec == 0 && most.tv_usec == 0))
		return false;
	return elapsed_us(&call->wait_start) + TICK_US >=
	       most.tv_sec * INT64_C(1000000) + most.tv_usec;
}

/*
 * A signal ended a wait. The kernel does not say which, so: does the application have a
 * handler that wants calls to end (no SA_RESTART)? If not, its own call would have gone on.
 */
static bool signals_interrupt(void)
{
	struct sigaction action;

	for (int number = 1; number < NSIG; number++)
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL &&
		    action.sa_handler != SIG_IGN && (action.sa_flags & SA_RESTART) == 0)
			return true;
	return false;
}

/* Block until a parked connection has more. A blocking peek heeds SO_RCVLOWAT. */
static enum next block_for_more(struct call *call, size_t seen, ssize_t *ret)
{
	ssize_t now;

	if (timed_out(call))
		return fail(EAGAIN, ret); /* what a timed-out receive says */
	now = count_ahead(call->fd, seen, 0);
	if (now < 0)
		return give(-1, ret);
	if ((size_t)now > seen || stirs(call->fd) || timed_out(call) || !signals_interrupt())
		return AGAIN;
	return fail(EINTR, ret);
}

/*
 * The head is not complete. Nothing is swallowed: whoever waits in poll, epoll or a blocking
 * receive is woken by the next byte or by the end.
 */
static enum next wait_for_more(struct call *call, size_t seen, ssize_t *ret)
{
	if (!conn_holds(call->fd, call->conn))
		return forget(call);
	if (seen >= HEAD_MAX || !park(call->fd, call->conn, seen))
		return leave_alone(call);
	if (stirs(call->fd)) /* counted after that: the end that stirred comes behind all bytes */
		return count_ahead(call->fd, seen, MSG_DONTWAIT) > (ssize_t)seen
			       ? AGAIN
			       : leave_alone(call);
	if (never_blocks(call))
		return fail(EAGAIN, ret);
	return block_for_more(call, seen, ret);
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
	/* Bytes the peek saw are left, or it was too short to see all. */
	if ((size_t)got < call->room && ((size_t)got < seen || seen >= STACK_MAX))
		raise_edge(call->fd, conn);
	return give(got, ret);
}

/* The end, with a 429 sent or nothing more to say: bytes unread at the close would reset it. */
static enum next drain_and_end(struct call *call, ssize_t *ret)
{
	drop(call->fd, TURN_MAX);
	return end(call, ret);
}

/* This call has done enough for others of its event loop to wait: the rest next time. */
static enum next yield_turn(struct call *call, ssize_t *ret)
{
	raise_edge(call->fd, call->conn);
	return fail(EAGAIN, ret);
}

/* Begin to drop the body of a request whose head has been swallowed and answered. */
static enum next begin_discard(struct call *call, const struct head *head, bool then_end,
			       ssize_t *ret)
{
	struct conn *conn = call->conn;

	conn->left = head->body_size;
	conn->then_chunked = head->chunked;
	conn->then_end = then_end;
	conn->dropped = 0;
	conn->discard = true;
	set_state(conn, CONN_INSIDE);
	return ++call->refusals < REFUSALS_MAX ? AGAIN : yield_turn(call, ret);
}

static enum next refuse(struct call *call, const struct head *head, uint64_t retry_after_s,
			ssize_t *ret)
{
	bool to_head, can_wait = never_blocks(call);
	struct reply reply = {.retry_after_s = retry_after_s, .to_head = head->is_head};

	if (!conn_holds(call->fd, call->conn))
		return forget(call);
	if (drop(call->fd, head->size) != (ssize_t)head->size)
		return end(call, ret);
	if (conn_oldest(call->conn, &to_head)) {
		shutdown(call->fd, SHUT_RD); /* a 429 would land before or inside what is owed */
		return end(call, ret);
	}
	reply.close = head->wants_close || head->expects || head->body_size > KEEP_MAX || !can_wait;
	conn_spoke(call->conn);
	if (!reply_send(call->fd, &reply))
		return drain_and_end(call, ret);
	if (reply.close && head->expects)
		return drain_and_end(call, ret); /* the body may never come */
	return begin_discard(call, head, reply.close, ret);
}

/*
 * A head too long for the stack is looked at in a mapping that lives as long as the look.
 * malloc could be in use by whoever was interrupted.
 */
static enum head_kind scan_long(int fd, struct head *head, size_t *seen)
{
	char *bytes =
		mmap(NULL, HEAD_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	enum head_kind kind = HEAD_FOREIGN;
	ssize_t now;

	if (bytes == MAP_FAILED)
		return HEAD_FOREIGN;
	now = peek(fd, bytes, HEAD_MAX, MSG_DONTWAIT);
	if (now > 0) {
		kind = head_scan(bytes, (size_t)now, head);
		*seen = (size_t)now;
	}
	munmap(bytes, HEAD_MAX);
	return kind;
}

/* Look at the head that begins here. Returns as peek; what was found goes to *kind, *head. */
static ssize_t look(const struct call *call, enum head_kind *kind, struct head *head)
{
	char bytes[STACK_MAX];
	ssize_t got = peek(call->fd, bytes, sizeof(bytes), call->flags);
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
		return nothing(call, seen, ret);
	if (kind == HEAD_PARTIAL)
		return wait_for_more(call, (size_t)seen, ret);
	if (kind == HEAD_FOREIGN)
		return leave_alone(call);
	reset_low_water(call->fd, call->conn);
	if (limiter_allows(call->conn, &retry_after_s))
		return pass_on(call, &head, (size_t)seen, ret);
	return refuse(call, &head, retry_after_s, ret);
}

/* In the rest of a head or in a body of known length. */
static enum next inside(struct call *call, ssize_t *ret)
{
	struct conn *conn = call->conn;
	ssize_t got = receive(call, conn->left);

	if (got <= 0)
		return nothing(call, got, ret);
	conn->left -= (uint64_t)got;
	if (conn->left > 0)
		return give(got, ret);
	enter_boundary(conn);
	if ((size_t)got < call->room)
		raise_edge(call->fd, conn);
	return give(got, ret);
}

/* A look at the next bytes in the application's own pieces, which are at least that large. */
static ssize_t peek_pieces(const struct call *call)
{
	struct msghdr message = {.msg_iov = call->message->msg_iov,
				 .msg_iovlen = call->message->msg_iovlen};

	return real()->recvmsg(call->fd, &message, MSG_PEEK | (call->flags & MSG_DONTWAIT));
}

/* As chunk_walk(), over the first len bytes of the application's pieces. */
static size_t walk_pieces(struct chunk *chunk, const struct msghdr *message, size_t len, bool *done,
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
		return leave_alone(call);
	seen = peek_pieces(call);
	if (seen <= 0)
		return nothing(call, seen, ret);
	used = walk_pieces(&walked, call->message, (size_t)seen, &done, &bad);
	if (bad)
		return leave_alone(call);
	got = receive(call, used);
	if (got != (ssize_t)used) /* cannot be: they were there to be peeked at */
		return conn_leave(conn), give(got, ret);
	conn->chunk = walked;
	if (!done)
		return give(got, ret);
	enter_boundary(conn);
	if (used < call->room)
		raise_edge(call->fd, conn);
	return give(got, ret);
}

/* Drop a piece of a body of known length. Returns as drop(). */
static ssize_t drop_inside(struct call *call)
{
	struct conn *conn = call->conn;
	ssize_t got = 0;

	if (conn->left > 0)
		got = drop(call->fd, conn->left < TURN_MAX ? conn->left : TURN_MAX);
	if (conn->left > 0 && got <= 0)
		return got;
	conn->left -= (uint64_t)got;
	if (conn->left == 0)
		enter_boundary(conn);
	return got;
}

/* Drop a piece of a chunked body. Returns as drop(); 0 also for what is not chunked. */
static ssize_t drop_chunks(struct call *call)
{
	char bytes[STACK_MAX];
	ssize_t seen = peek(call->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	size_t used;
	bool done, bad;

	if (seen <= 0)
		return seen;
	used = chunk_walk(&call->conn->chunk, bytes, (size_t)seen, &done, &bad);
	if (bad || drop(call->fd, used) != (ssize_t)used)
		return 0;
	if (done)
		enter_boundary(call->conn);
	return (ssize_t)used;
}

/*
 * Nothing of the body is there now. A blocking caller cannot be told to come back, so it is
 * held up for a moment, in which a client that is sending sends on; then it gets the end.
 */
static enum next wait_for_body(struct call *call, ssize_t *ret)
{
	struct pollfd p = {.fd = call->fd, .events = POLLIN};
	int left_ms = LINGER_MS - (int)(elapsed_us(&call->linger_start) / 1000);

	if (errno != EAGAIN || never_blocks(call))
		return give(-1, ret);
	if (left_ms > 0 && poll(&p, 1, left_ms) > 0)
		return AGAIN;
	return end(call, ret);
}

/* In the body of a refused request. */
static enum next in_discard(struct call *call, ssize_t *ret)
{
	struct conn *conn = call->conn;
	bool known = state_of(conn) == CONN_INSIDE, is_empty = known && conn->left == 0;
	ssize_t got = known ? drop_inside(call) : drop_chunks(call);

	if (got < 0)
		return wait_for_body(call, ret);
	if (got == 0 && !is_empty)
		return end(call, ret);
	conn->dropped += (uint64_t)got;
	call->dropped += (uint64_t)got;
	if (conn->dropped > DISCARD_MAX ||
	    (!conn->discard && (conn->then_end || !never_blocks(call))))
		return drain_and_end(call, ret);
	if (call->dropped < TURN_MAX || !never_blocks(call))
		return AGAIN;
	return yield_turn(call, ret);
}

static enum next step(struct call *call, ssize_t *ret)
{
	switch (state_of(call->conn)) {
	case CONN_BOUNDARY:
		return at_boundary(call, ret);
	case CONN_INSIDE:
		return call->conn->discard ? in_discard(call, ret) : inside(call, ret);
	case CONN_CHUNKED:
		return call->conn->discard ? in_discard(call, ret) : in_chunks(call, ret);
	case CONN_ENDED:
		return give(0, ret);
	default: /* CONN_RAW, and CONN_NONE when another thread closed it */
		return YOURS;
	}
}

/* The bytes the application has room for; 0 also when only libc can say what is wrong. */
static size_t room_of(const struct msghdr *message)
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

ssize_t inbound_receive(int fd, struct conn *conn, struct msghdr *message, int flags)
{
	struct call call = {.fd = fd, .flags = flags, .conn = conn, .message = message};
	enum next next = AGAIN;
	int error = errno;
	ssize_t ret = 0;

	/* A look of the application's own moves nothing; out-of-band data is not HTTP. */
	if (state_of(conn) == CONN_RAW || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)) != 0 ||
	    (call.room = room_of(message)) == 0)
		return INBOUND_YOURS;
	if ((state_of(conn) == CONN_ENDED || conn->discard) && !conn_holds(fd, conn))
		next = forget(&call);
	while (next == AGAIN)
		next = step(&call, &ret);
	if (next == YOURS || ret >= 0)
		errno = error;
	if (next == YOURS)
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
	if ((state_of(conn) == CONN_BOUNDARY || state_of(conn) == CONN_ENDED) &&
	    conn_holds(fd, conn))
		drop(fd, DRAIN_MAX);
	errno = error;
}
