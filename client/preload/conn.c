#include "client/preload/conn.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

/*
 * The queue is one word: the oldest request's HEAD bit is bit 0, the topmost 1 marks the
 * end. 1 = empty. More than QUEUE_MAX at once: the rest is never answered as far as we know.
 */
#define QUEUE_EMPTY UINT64_C(1)
#define QUEUE_LOST  UINT64_MAX /* overflowed: never empty again */

static struct conn conns[CONN_MAX];
static _Atomic pid_t our_pid;

static void in_child(void)
{
	atomic_store_explicit(&our_pid, getpid(), memory_order_relaxed);
}

void conn_init(void)
{
	in_child();
	pthread_atfork(NULL, NULL, in_child);
}

static enum conn_state state_of(const struct conn *conn)
{
	return (enum conn_state)atomic_load_explicit(&conn->state, memory_order_relaxed);
}

struct conn *conn_of(int fd)
{
	if ((unsigned)fd >= CONN_MAX || state_of(&conns[fd]) == CONN_NONE)
		return NULL;
	return &conns[fd];
}

bool conn_open(int fd, const char *key, uint8_t key_len)
{
	struct conn *conn;

	if ((unsigned)fd >= CONN_MAX || key_len > CONN_KEY_MAX)
		return false;
	conn = &conns[fd];
	memset(conn, 0, sizeof(*conn));
	memcpy(conn->key, key, key_len);
	conn->key_len = key_len;
	atomic_store_explicit(&conn->unanswered, QUEUE_EMPTY, memory_order_relaxed);
	atomic_store_explicit(&conn->state, CONN_BOUNDARY, memory_order_relaxed);
	return true;
}

void conn_close(int fd)
{
	struct conn *conn = conn_of(fd);

	if (conn != NULL && getpid() == atomic_load_explicit(&our_pid, memory_order_relaxed))
		atomic_store_explicit(&conn->state, CONN_NONE, memory_order_relaxed);
}

void conn_leave(struct conn *conn)
{
	atomic_store_explicit(&conn->state, CONN_RAW, memory_order_relaxed);
}

static uint64_t pushed(uint64_t queue, bool is_head)
{
	unsigned top;

	if (queue >> 63 != 0)
		return QUEUE_LOST;
	top = 63 - (unsigned)__builtin_clzll(queue | 1);
	return (queue & ~(UINT64_C(1) << top)) | (uint64_t)is_head << top | UINT64_C(2) << top;
}

void conn_asked(struct conn *conn, bool is_head)
{
	uint64_t seen = atomic_load_explicit(&conn->unanswered, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&conn->unanswered, &seen,
						      pushed(seen, is_head), memory_order_relaxed,
						      memory_order_relaxed))
		; /* at most one writer races with us: it succeeds at most 63 times */
}

void conn_answered(struct conn *conn)
{
	uint64_t seen = atomic_load_explicit(&conn->unanswered, memory_order_relaxed);

	while (seen != QUEUE_EMPTY && seen != QUEUE_LOST &&
	       !atomic_compare_exchange_weak_explicit(&conn->unanswered, &seen, seen >> 1,
						      memory_order_relaxed, memory_order_relaxed))
		; /* likewise the reader */
}

bool conn_oldest(const struct conn *conn, bool *ret_is_head)
{
	uint64_t queue = atomic_load_explicit(&conn->unanswered, memory_order_relaxed);

	*ret_is_head = (queue & 1) != 0;
	return queue != QUEUE_EMPTY;
}
