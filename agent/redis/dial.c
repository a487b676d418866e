#include "agent/redis/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ELEMENTS_MAX (1 << 20)

/* A peer that vanished without a word is found after some 25 s even when nothing is sent. */
static void keep_alive(int fd)
{
	static const struct {
		int level, name, value;
	} wanted[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 10}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		setsockopt(fd, wanted[i].level, wanted[i].name, &wanted[i].value, sizeof(int));
}

static int dial(const struct sockaddr *address, socklen_t size, const char **ret_why)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && address->sa_family != AF_UNIX)
		keep_alive(fd);
	if (fd >= 0 && (connect(fd, address, size) == 0 || errno == EINPROGRESS))
		return fd;
	*ret_why = strerror(errno);
	if (fd >= 0)
		close(fd);
	return -1;
}

int redis_dial_unix(const char *path, const char **ret_why)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, path, strnlen(path, sizeof(address.sun_path) - 1));
	return dial((struct sockaddr *)&address, sizeof(address), ret_why);
}

int redis_dial_tcp(const struct addrinfo *list, unsigned turn, const char **ret_why)
{
	const struct addrinfo *chosen;
	unsigned count = 0;

	for (chosen = list; chosen != NULL; chosen = chosen->ai_next)
		count++;
	chosen = list;
	for (unsigned i = turn % count; i > 0; i--)
		chosen = chosen->ai_next;
	return dial(chosen->ai_addr, chosen->ai_addrlen, ret_why);
}

#if HIREDIS_MAJOR >= 1

redisReader *redis_reader_new(void)
{
	redisReader *reader = redisReaderCreate();

	if (reader != NULL)
		reader->maxelements = ELEMENTS_MAX;
	return reader;
}

#else

static redisReplyObjectFunctions *original;

static void *small_array(const redisReadTask *task, int count)
{
	return count <= ELEMENTS_MAX ? original->createArray(task, count) : NULL;
}

redisReader *redis_reader_new(void)
{
	static redisReplyObjectFunctions capped;
	redisReader *reader = redisReaderCreate();

	if (reader == NULL)
		return NULL;
	original = reader->fn; /* always the same table of the library's */
	capped = *original;
	capped.createArray = small_array;
	reader->fn = &capped;
	return reader;
}

#endif
