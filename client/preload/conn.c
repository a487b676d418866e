#include "client/preload/conn.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The queue is one word: the oldest request's HEAD bit is bit 0, the topmost 1 marks the
 * end. 1 = empty. More than QUEUE_MAX at once: the rest is never answered as far as we know.
 */
#define QUEUE_EMPTY UINT64_C(1)
#define QUEUE_LOST  UINT64_MAX /* overflowed: never empty again */

#define PROBES_MAX 64 /* places tried for a connection when a duplicate lives on in its own */

static struct conn conns[CONN_MAX];
static _Atomic uint32_t holders[CONN_MAX]; /* of a conns[]: descriptors; 0 = free */
static _Atomic uint32_t place[CONN_MAX];   /* of a descriptor: its conns[], plus 1; 0 = none */
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

/* A vfork child runs in its parent's memory: what it closes stays open there. */
static bool in_vfork_child(void)
{
	return getpid() != atomic_load_explicit(&our_pid, memory_order_relaxed);
}

/* Where fd's connection is, plus 1; 0 = not tracked. */
static uint32_t place_of(int fd)
{
	if ((unsigned)fd >= CONN_MAX)
		return 0;
	return atomic_load_explicit(&place[fd], memory_order_relaxed);
}

struct conn *conn_of(int fd)
{
	uint32_t at = place_of(fd);

	return at != 0 ? &conns[at - 1] : NULL;
}

/* Never 0 for what is not a socket: a connection whose kernel gave 0 still differs from it. */
static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	int error = errno;

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0)
		return cookie;
	cookie = errno == ENOTSOCK || errno == EBADF ? UINT64_MAX : 0;
	errno = error;
	return cookie;
}

/* A free place, taken: fd's own unless a duplicate of an earlier fd holds it. 0 = none. */
static uint32_t take_place(int fd)
{
	for (uint32_t i = 0; i < PROBES_MAX; i++) {
		uint32_t at = ((uint32_t)fd + i) % CONN_MAX, free = 0;

		/* pairs[conn_holders.acq]: what its last holder wrote there came before. */
		if (atomic_compare_exchange_strong_explicit(
			    &holders[at], &free, 1, memory_order_acquire, memory_order_relaxed))
			return at + 1;
	}
	return 0;
}

bool conn_open(int fd, const char *key, uint8_t key_len)
{
	struct conn *conn;
	uint32_t at;

	if ((unsigned)fd >= CONN_MAX || key_len > CONN_KEY_MAX || (at = take_place(fd)) == 0)
		return false;
	conn = &conns[at - 1];
	memset(conn, 0, sizeof(*conn));
	memcpy(conn->key, key, key_len);
	conn->key_len = key_len;
	conn->cookie = cookie_of(fd);
	atomic_store_explicit(&conn->unanswered, QUEUE_EMPTY, memory_order_relaxed);
	atomic_store_explicit(&conn->state, CONN_BOUNDARY, memory_order_relaxed);
	atomic_store_explicit(&place[fd], at, memory_order_relaxed);
	return true;
}

void conn_close(int fd)
{
	uint32_t at = place_of(fd);

	if (at == 0 || in_vfork_child())
		return;
	at = atomic_exchange_explicit(&place[fd], 0, memory_order_relaxed);
	if (at == 0) /* another thread was first */
		return;
	if (atomic_load_explicit(&holders[at - 1], memory_order_relaxed) == 1)
		atomic_store_explicit(&conns[at - 1].state, CONN_NONE, memory_order_relaxed);
	/* pairs[conn_holders.rel]: another thread may take the place the moment it is free. */
	atomic_fetch_sub_explicit(&holders[at - 1], 1, memory_order_release);
}

void conn_share(int from, int to)
{
	uint32_t at = place_of(from);

	if (to < 0 || to == from)
		return;
	conn_close(to);
	if (at == 0 || in_vfork_child())
		return;
	if (to >= CONN_MAX) {
		conn_leave(&conns[at - 1]); /* it could be read where the shim cannot follow */
		return;
	}
	atomic_fetch_add_explicit(&holders[at - 1], 1, memory_order_relaxed);
	atomic_store_explicit(&place[to], at, memory_order_relaxed);
}

bool conn_is_alone(int fd)
{
	uint32_t at = place_of(fd);

	return at != 0 && atomic_load_explicit(&holders[at - 1], memory_order_relaxed) == 1;
}

bool conn_holds(int fd, const struct conn *conn)
{
	return cookie_of(fd) == conn->cookie;
}

enum conn_state conn_state_of(const struct conn *conn)
{
	return (enum conn_state)atomic_load_explicit(&conn->state, memory_order_relaxed);
}

void conn_set_state(struct conn *conn, enum conn_state state)
{
	atomic_store_explicit(&conn->state, (uint8_t)state, memory_order_relaxed);
}

void conn_enter_boundary(struct conn *conn)
{
	conn->chunk = (struct chunk){0};
	conn->discard = conn->discard && conn->then_chunked;
	conn_set_state(conn, conn->then_chunked ? CONN_CHUNKED : CONN_BOUNDARY);
	conn->then_chunked = false;
}

void conn_leave(struct conn *conn)
{
	atomic_store_explicit(&conn->state, CONN_RAW, memory_order_relaxed);
}

void conn_spoke(struct conn *conn)
{
	atomic_store_explicit(&conn->speaker, atomic_load_explicit(&our_pid, memory_order_relaxed),
			      memory_order_relaxed);
}

bool conn_is_ours(const struct conn *conn)
{
	return atomic_load_explicit(&conn->speaker, memory_order_relaxed) == getpid();
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
