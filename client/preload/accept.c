#include "client/preload/accept.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "client/preload/conn.h"
#include "client/preload/limiter.h"
#include "client/preload/real.h"

/* The text a client is limited under: its IPv4 address, or the /64 of its IPv6 address. */
static uint8_t key_of(const struct sockaddr_storage *from, char key[CONN_KEY_MAX])
{
	const struct sockaddr_in *v4 = (const void *)from;
	const struct sockaddr_in6 *v6 = (const void *)from;
	struct in6_addr net;

	if (from->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, key, CONN_KEY_MAX);
		return (uint8_t)strlen(key);
	}
	if (from->ss_family != AF_INET6)
		return 0;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], key, CONN_KEY_MAX);
		return (uint8_t)strlen(key);
	}
	net = v6->sin6_addr;
	memset(&net.s6_addr[8], 0, 8);
	inet_ntop(AF_INET6, &net, key, CONN_KEY_MAX);
	memcpy(key + strlen(key), "/64", 4);
	return (uint8_t)strlen(key);
}

static bool port_matches(int fd)
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	uint16_t port = limiter_port();

	if (port == 0)
		return true;
	if (getsockname(fd, (struct sockaddr *)&local, &len) != 0)
		return false;
	if (local.ss_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)&local)->sin_port == htons(port);
	return local.ss_family == AF_INET6 &&
	       ((const struct sockaddr_in6 *)(const void *)&local)->sin6_port == htons(port);
}

static void track(int fd, const struct sockaddr_storage *from)
{
	char key[CONN_KEY_MAX];
	uint8_t key_len;

	conn_close(fd); /* a number that was closed behind our back */
	if (!limiter_ready())
		return;
	key_len = key_of(from, key);
	if (key_len > 0 && port_matches(fd))
		conn_open(fd, key, key_len);
}

int accept_tracked(int listener, struct sockaddr *address, socklen_t *len, int flags, bool four)
{
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	struct sockaddr *to = (struct sockaddr *)&from;
	int error = errno;
	int fd = four ? real()->accept4(listener, to, &from_len, flags)
		      : real()->accept(listener, to, &from_len);

	if (fd < 0)
		return fd;
	if (from_len >= sizeof(sa_family_t))
		track(fd, &from);
	if (address != NULL && len != NULL) {
		memcpy(address, &from, *len < from_len ? *len : from_len);
		*len = from_len; /* as accept does: the size it would have needed */
	}
	errno = error;
	return fd;
}
