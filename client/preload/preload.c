/*
 * preload.c - the functions librl-preload.so puts in front of libc's: entry points only.
 *
 * Each passes an untracked descriptor on to libc's own function after one table look-up, and
 * a tracked one to inbound.c or outbound.c; what inbound.c has no answer to is passed on just
 * as it came. errno is libc's. Without RL_RULE in the
 * environment, or as long as there is no segment, nothing is tracked.
 *
 * No descriptor is kept open, nothing is allocated, no signal is touched, no thread started.
 */

/* With it glibc declares accept & co. with a transparent union that cannot be redefined in ISO C.
 */
#undef _GNU_SOURCE
#define _DEFAULT_SOURCE 1

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "client/preload/accept.h"
#include "client/preload/conn.h"
#include "client/preload/inbound.h"
#include "client/preload/limiter.h"
#include "client/preload/outbound.h"
#include "client/preload/real.h"

#define EXPORT __attribute__((visibility("default")))

/* Declared by glibc for _GNU_SOURCE only. */
int accept4(int listener, struct sockaddr *address, socklen_t *len, int flags);
int dup3(int fd, int to, int flags);
int close_range(unsigned first, unsigned last, int flags);
void closefrom(int first);
ssize_t sendfile64(int fd, int from, off_t *offset, size_t size);

/* The fortified forms check the size first; libc's own does that, and aborts, when it fails. */
ssize_t __read_chk(int fd, void *bytes, size_t size, size_t most);
ssize_t __recv_chk(int fd, void *bytes, size_t size, size_t most, int flags);
ssize_t __recvfrom_chk(int fd, void *bytes, size_t size, size_t most, int flags,
		       struct sockaddr *from, socklen_t *len);

__attribute__((constructor)) static void start(void)
{
	int error = errno;

	real();
	conn_init();
	limiter_init();
	errno = error;
}

EXPORT int accept(int listener, struct sockaddr *address, socklen_t *len)
{
	return accept_tracked(listener, address, len, 0, false);
}

EXPORT int accept4(int listener, struct sockaddr *address, socklen_t *len, int flags)
{
	return accept_tracked(listener, address, len, flags, true);
}

/* The shim's answer to a receive into one buffer, or INBOUND_YOURS. */
static ssize_t receive_bytes(int fd, void *bytes, size_t size, int flags)
{
	struct conn *conn = conn_of(fd);
	struct iovec piece = {bytes, size};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

	return conn != NULL ? inbound_receive(fd, conn, &message, flags) : INBOUND_YOURS;
}

EXPORT ssize_t read(int fd, void *bytes, size_t size)
{
	ssize_t got = receive_bytes(fd, bytes, size, 0);

	return got != INBOUND_YOURS ? got : real()->read(fd, bytes, size);
}

EXPORT ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
	ssize_t got = receive_bytes(fd, bytes, size, flags);

	return got != INBOUND_YOURS ? got : real()->recv(fd, bytes, size, flags);
}

EXPORT ssize_t recvfrom(int fd, void *restrict bytes, size_t size, int flags,
			struct sockaddr *restrict from, socklen_t *restrict len)
{
	ssize_t got = receive_bytes(fd, bytes, size, flags);

	if (got == INBOUND_YOURS)
		return real()->recvfrom(fd, bytes, size, flags, from, len);
	if (got >= 0 && from != NULL && len != NULL)
		*len = 0; /* as the kernel does for TCP */
	return got;
}

EXPORT ssize_t readv(int fd, const struct iovec *piece, int count)
{
	struct conn *conn = conn_of(fd);
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)piece};
	ssize_t got;

	if (conn == NULL || count < 1)
		return real()->readv(fd, piece, count);
	message.msg_iovlen = (size_t)count;
	got = inbound_receive(fd, conn, &message, 0);
	return got != INBOUND_YOURS ? got : real()->readv(fd, piece, count);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct conn *conn = conn_of(fd);
	ssize_t got = INBOUND_YOURS;

	if (conn != NULL && message != NULL)
		got = inbound_receive(fd, conn, message, flags);
	return got != INBOUND_YOURS ? got : real()->recvmsg(fd, message, flags);
}

EXPORT ssize_t __read_chk(int fd, void *bytes, size_t size, size_t most)
{
	return size > most ? real()->read_chk(fd, bytes, size, most) : read(fd, bytes, size);
}

EXPORT ssize_t __recv_chk(int fd, void *bytes, size_t size, size_t most, int flags)
{
	return size > most ? real()->recv_chk(fd, bytes, size, most, flags)
			   : recv(fd, bytes, size, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *bytes, size_t size, size_t most, int flags,
			      struct sockaddr *from, socklen_t *len)
{
	return size > most ? real()->recvfrom_chk(fd, bytes, size, most, flags, from, len)
			   : recvfrom(fd, bytes, size, flags, from, len);
}

static ssize_t note_write(int fd, const void *bytes, size_t size, ssize_t written)
{
	struct conn *conn = conn_of(fd);

	if (conn != NULL && written > 0)
		outbound_wrote(conn, &(struct iovec){(void *)(uintptr_t)bytes, size}, 1,
			       (size_t)written);
	return written;
}

static ssize_t note_writev(int fd, const struct iovec *piece, size_t count, ssize_t written)
{
	struct conn *conn = conn_of(fd);

	if (conn != NULL && written > 0)
		outbound_wrote(conn, piece, count, (size_t)written);
	return written;
}

EXPORT ssize_t write(int fd, const void *bytes, size_t size)
{
	return note_write(fd, bytes, size, real()->write(fd, bytes, size));
}

EXPORT ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
	return note_write(fd, bytes, size, real()->send(fd, bytes, size, flags));
}

EXPORT ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to,
		      socklen_t len)
{
	return note_write(fd, bytes, size, real()->sendto(fd, bytes, size, flags, to, len));
}

EXPORT ssize_t writev(int fd, const struct iovec *piece, int count)
{
	return note_writev(fd, piece, count > 0 ? (size_t)count : 0,
			   real()->writev(fd, piece, count));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t written = real()->sendmsg(fd, message, flags);

	return written > 0 ? note_writev(fd, message->msg_iov, message->msg_iovlen, written)
			   : written;
}

EXPORT ssize_t sendfile(int fd, int from, off_t *offset, size_t size)
{
	struct conn *conn = conn_of(fd);
	ssize_t sent = real()->sendfile(fd, from, offset, size);

	if (conn != NULL && sent > 0)
		outbound_sent_file(conn, (uint64_t)sent);
	return sent;
}

_Static_assert(sizeof(off_t) == 8, "off_t is off64_t here: sendfile64 shares sendfile's code");

EXPORT ssize_t sendfile64(int fd, int from, off_t *offset, size_t size)
{
	return sendfile(fd, from, offset, size);
}

EXPORT int close(int fd)
{
	inbound_drain(fd);
	conn_close(fd); /* before: the number may be another thread's the moment it is closed */
	return real()->close(fd);
}

/* Nothing is drained: whole ranges are closed by who is about to run another program. */
static void note_closed(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd < CONN_MAX; fd++)
		conn_close((int)fd);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	if (real()->close_range == NULL) {
		errno = ENOSYS;
		return -1;
	}
	if (flags == 0) /* else they stay open, or those of other threads do */
		note_closed(first, last);
	return real()->close_range(first, last, flags);
}

EXPORT void closefrom(int first)
{
	note_closed(first > 0 ? (unsigned)first : 0, CONN_MAX);
	if (real()->closefrom != NULL)
		real()->closefrom(first);
}

/* A new number: what was known of it is of a descriptor that was closed where we do not see. */
EXPORT int socket(int domain, int type, int protocol)
{
	int fd = real()->socket(domain, type, protocol);

	conn_close(fd);
	return fd;
}

EXPORT int socketpair(int domain, int type, int protocol, int pair[2])
{
	int result = real()->socketpair(domain, type, protocol, pair);

	if (result == 0) {
		conn_close(pair[0]);
		conn_close(pair[1]);
	}
	return result;
}

static int note_dup(int from, int to)
{
	conn_share(from, to);
	return to;
}

EXPORT int dup(int fd)
{
	return note_dup(fd, real()->dup(fd));
}

EXPORT int dup2(int fd, int to)
{
	return note_dup(fd, real()->dup2(fd, to));
}

EXPORT int dup3(int fd, int to, int flags)
{
	return note_dup(fd, real()->dup3(fd, to, flags));
}

/* The third argument is an int, a pointer or not there: it is passed on as libc itself does. */
EXPORT int fcntl(int fd, int command, ...)
{
	va_list arguments;
	void *argument;
	int result;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	result = real()->fcntl(fd, command, argument);
	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? note_dup(fd, result) : result;
}

EXPORT __attribute__((alias("fcntl"))) int fcntl64(int fd, int command, ...);

EXPORT int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	struct conn *conn = conn_of(fd);

	if (conn != NULL && event != NULL && operation != EPOLL_CTL_DEL)
		atomic_store_explicit(&conn->edge, (event->events & EPOLLET) != 0,
				      memory_order_relaxed);
	return real()->epoll_ctl(epoll, operation, fd, event);
}
