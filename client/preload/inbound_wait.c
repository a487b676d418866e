#include "client/preload/inbound_wait.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#include "client/preload/inbound_socket.h"

#define LINGER_MS 50    /* a blocking caller waits for the rest of a refused body */
#define TICK_US   20000 /* a receive timeout may end so much early: the kernel's jiffy */

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
		return call_fail(EAGAIN, ret); /* what a timed-out receive says */
	now = socket_count_ahead(call->fd, seen, 0);
	if (now < 0)
		return call_give(-1, ret);
	if ((size_t)now > seen || socket_stirs(call->fd) || timed_out(call) || !signals_interrupt())
		return NEXT_AGAIN;
	return call_fail(EINTR, ret);
}

enum next wait_for_more(struct call *call, size_t seen, ssize_t *ret)
{
	if (!conn_holds(call->fd, call->conn))
		return call_forget(call);
	if (seen >= CALL_HEAD_MAX || !socket_park(call->fd, call->conn, seen))
		return call_leave_alone(call);
	if (socket_stirs(call->fd)) /* counted after: the end that stirred comes behind all bytes */
		return socket_count_ahead(call->fd, seen, MSG_DONTWAIT) > (ssize_t)seen
			       ? NEXT_AGAIN
			       : call_leave_alone(call);
	if (call_never_blocks(call))
		return call_fail(EAGAIN, ret);
	return block_for_more(call, seen, ret);
}

enum next wait_for_body(struct call *call, ssize_t *ret)
{
	struct pollfd p = {.fd = call->fd, .events = POLLIN};
	int left_ms = LINGER_MS - (int)(elapsed_us(&call->linger_start) / 1000);

	if (errno != EAGAIN || call_never_blocks(call))
		return call_give(-1, ret);
	if (left_ms > 0 && poll(&p, 1, left_ms) > 0)
		return NEXT_AGAIN;
	return call_end(call, ret);
}
