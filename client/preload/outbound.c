#include "client/preload/outbound.h"

static void feed(struct conn *conn, const char *bytes, size_t len)
{
	while (len > 0) {
		enum response_event event;
		bool to_head;
		size_t used;

		if (!conn_oldest(conn, &to_head))
			conn->response.phase =
				RESPONSE_LOST; /* an answer to nothing we passed on */
		event = response_feed(&conn->response, to_head, bytes, len, &used);
		if (event == RESPONSE_SWITCHED) {
			conn_leave(conn);
			return;
		}
		if (event == RESPONSE_DONE)
			conn_answered(conn);
		bytes += used;
		len -= used;
	}
}

void outbound_wrote(struct conn *conn, const struct iovec *piece, size_t count, size_t written)
{
	if (atomic_load_explicit(&conn->state, memory_order_relaxed) == CONN_RAW)
		return;
	conn_spoke(conn);
	for (size_t i = 0; i < count && written > 0; i++) {
		size_t len = piece[i].iov_len < written ? piece[i].iov_len : written;

		feed(conn, piece[i].iov_base, len);
		written -= len;
	}
}

void outbound_sent_file(struct conn *conn, uint64_t sent)
{
	if (atomic_load_explicit(&conn->state, memory_order_relaxed) == CONN_RAW)
		return;
	conn_spoke(conn);
	if (response_skip(&conn->response, sent) == RESPONSE_DONE)
		conn_answered(conn);
}
