#include "client/preload/inbound_refuse.h"

#include <errno.h>

#include "client/preload/inbound_socket.h"
#include "client/preload/inbound_wait.h"
#include "client/preload/reply.h"

#define KEEP_MAX     65536 /* a refused body larger than this is answered with a close */
#define REFUSALS_MAX 32    /* refused requests handled in one call of the application */
#define DISCARD_MAX  (UINT64_C(16) << 20)  /* bytes of one refused body; after them, the end */
#define TURN_MAX     (UINT64_C(256) << 10) /* bytes dropped in one call of the application */

/* The end, with a 429 sent or nothing more to say: bytes unread at the close would reset it. */
static enum next drain_and_end(struct call *call, ssize_t *ret)
{
	socket_drop(call->fd, TURN_MAX);
	return call_end(call, ret);
}

/* This call has done enough for others of its event loop to wait: the rest next time. */
static enum next yield_turn(struct call *call, ssize_t *ret)
{
	socket_raise_edge(call->fd, call->conn);
	return call_fail(EAGAIN, ret);
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
	conn_set_state(conn, CONN_INSIDE);
	return ++call->refusals < REFUSALS_MAX ? NEXT_AGAIN : yield_turn(call, ret);
}

enum next refuse_head(struct call *call, const struct head *head, uint64_t retry_after_s,
		      ssize_t *ret)
{
	bool to_head, can_wait = call_never_blocks(call);
	struct reply reply = {.retry_after_s = retry_after_s, .to_head = head->is_head};

	if (!conn_holds(call->fd, call->conn))
		return call_forget(call);
	if (socket_drop(call->fd, head->size) != (ssize_t)head->size)
		return call_end(call, ret);
	if (conn_oldest(call->conn, &to_head)) {
		shutdown(call->fd, SHUT_RD); /* a 429 would land before or inside what is owed */
		return call_end(call, ret);
	}
	reply.close = head->wants_close || head->expects || head->body_size > KEEP_MAX || !can_wait;
	conn_spoke(call->conn);
	if (!reply_send(call->fd, &reply))
		return drain_and_end(call, ret);
	if (reply.close && head->expects)
		return drain_and_end(call, ret); /* the body may never come */
	return begin_discard(call, head, reply.close, ret);
}

/* Drop a piece of a body of known length. Returns as socket_drop(). */
static ssize_t drop_inside(struct call *call)
{
	struct conn *conn = call->conn;
	ssize_t got = 0;

	if (conn->left > 0)
		got = socket_drop(call->fd, conn->left < TURN_MAX ? conn->left : TURN_MAX);
	if (conn->left > 0 && got <= 0)
		return got;
	conn->left -= (uint64_t)got;
	if (conn->left == 0)
		conn_enter_boundary(conn);
	return got;
}

/* Drop a piece of a chunked body. Returns as socket_drop(); 0 also for what is not chunked. */
static ssize_t drop_chunks(struct call *call)
{
	char bytes[CALL_STACK_MAX];
	ssize_t seen = socket_peek(call->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	size_t used;
	bool done, bad;

	if (seen <= 0)
		return seen;
	used = chunk_walk(&call->conn->chunk, bytes, (size_t)seen, &done, &bad);
	if (bad || socket_drop(call->fd, used) != (ssize_t)used)
		return 0;
	if (done)
		conn_enter_boundary(call->conn);
	return (ssize_t)used;
}

enum next refuse_body(struct call *call, ssize_t *ret)
{
	struct conn *conn = call->conn;
	bool known = conn_state_of(conn) == CONN_INSIDE, is_empty = known && conn->left == 0;
	ssize_t got = known ? drop_inside(call) : drop_chunks(call);

	if (got < 0)
		return wait_for_body(call, ret);
	if (got == 0 && !is_empty)
		return call_end(call, ret);
	conn->dropped += (uint64_t)got;
	call->dropped += (uint64_t)got;
	if (conn->dropped > DISCARD_MAX ||
	    (!conn->discard && (conn->then_end || !call_never_blocks(call))))
		return drain_and_end(call, ret);
	if (call->dropped < TURN_MAX || !call_never_blocks(call))
		return NEXT_AGAIN;
	return yield_turn(call, ret);
}
