#include "agent/listen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128

/* Bound to its name only when nobody but those the segment lets in can connect. */
static int bind_as(const char *path, const char *segment, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mode_t before;
	struct stat st;
	int failed;

	if (fd < 0)
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	unlink(path); /* of an agent that was killed: we hold its lock */
	before = umask(0177);
	failed = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(before);
	/* The group first: the mode is for it. Where we may not give it away, nobody's group may:
	 * it is ours, and not the segment's. */
	if (failed == 0 && stat(segment, &st) == 0) {
		bool given = lchown(path, (uid_t)-1, st.st_gid) == 0;

		failed = !given && errno != EPERM;
		failed = failed || chmod(path, st.st_mode & (given ? 0666 : 0600)) != 0;
	}
	if (failed != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

const char *listen_open(struct listen *listen, struct event_base *base, const char *segment,
			const char *suffix, int type, evconnlistener_cb on_caller, void *arg)
{
	struct stat st = {0};
	int fd;

	*listen = (struct listen){0};
	if (snprintf(listen->path, sizeof(listen->path), "%s%s", segment, suffix) >=
	    (int)sizeof(listen->path))
		return "a socket's path has at most 107 bytes";
	fd = bind_as(listen->path, segment, type);
	if (fd < 0)
		return strerror(errno);
	stat(listen->path, &st);
	listen->dev = st.st_dev;
	listen->ino = st.st_ino;
	listen->listener = evconnlistener_new(
		base, on_caller, arg, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, BACKLOG, fd);
	if (listen->listener != NULL)
		return NULL;
	close(fd);
	return strerror(errno);
}

void listen_close(struct listen *listen)
{
	struct stat st;

	if (listen->listener == NULL)
		return;
	evconnlistener_free(listen->listener);
	listen->listener = NULL;
	if (stat(listen->path, &st) == 0 && st.st_dev == listen->dev && st.st_ino == listen->ino)
		unlink(listen->path);
}
