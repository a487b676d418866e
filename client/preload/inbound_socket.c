#include "client/preload/inbound_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include "client/preload/real.h"

ssize_t socket_peek(int fd, char *bytes, size_t size, int flags)
{
	return real()->recv(fd, bytes, size, MSG_PEEK | (flags & MSG_DONTWAIT));
}

ssize_t socket_count_ahead(int fd, size_t seen, int flags)
{
	return real()->recv(fd, NULL, seen + 1, MSG_PEEK | MSG_TRUNC | flags);
}

ssize_t socket_drop(int fd, uint64_t len)
{
	return real()->recv(fd, NULL, (size_t)len, MSG_TRUNC | MSG_DONTWAIT);
}

bool socket_stirs(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI | POLLRDHUP};

	return poll(&p, 1, 0) > 0;
}

static bool set_low_water(int fd, struct conn *conn, uint32_t bytes)
{
	int value = (int)bytes;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) != 0)
		return false;
	conn->low_water = bytes;
	return true;
}

void socket_reset_low_water(int fd, struct conn *conn)
{
	if (conn->low_water > 1)
		set_low_water(fd, conn, 1);
}

bool socket_park(int fd, struct conn *conn, size_t seen)
{
	return conn->low_water == seen + 1 || set_low_water(fd, conn, (uint32_t)seen + 1);
}

void socket_raise_edge(int fd, struct conn *conn)
{
	if (atomic_load_explicit(&conn->edge, memory_order_relaxed))
		set_low_water(fd, conn, 1);
}
