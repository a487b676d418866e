/*
 * rl_alive.c - the one descriptor that librl keeps: of "<segment>.alive", in processes that
 * acquire.
 *
 * A process has one for each such file, whatever the number of its clients: closing any descriptor
 * of a file drops all of the process's locks on it, so two clients with one each would end each
 * other's. It is opened by one thread at a time, moved to a high number before it is published,
 * and stays open; a forked child goes on with the number, but has none of the parent's locks.
 * What lies there is looked at before use: the server may have closed it, or put something else in
 * its place. That of a segment that was replaced stays open as well, for who may be about to use
 * it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_error.h"
#include "shm/rl_holder.h"

#define FILES      8   /* segments with concurrency rules that one process uses */
#define HIGH_FD    512 /* out of the way of servers that count theirs */
#define OPEN_TRIES 1000

static _Atomic int kept[FILES]; /* 1 + descriptor; 0 = none; relaxed: a number, checked at use */
static _Atomic int opener;      /* pid whose thread is opening one; 0 = nobody's; pairs[opener] */

int client_alive_kept(const struct mapped *mapped)
{
	for (int i = 0; i < FILES; i++) {
		int fd = atomic_load_explicit(&kept[i], memory_order_relaxed) - 1;

		if (fd >= 0 && rl_alive_is(&mapped->seg.view, fd))
			return fd;
	}
	return -EBADF;
}

/* Is there nothing of ours: a segment's file that was removed, or none at all? */
static bool is_spare(int fd)
{
	struct stat st;

	return fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink == 0;
}

static int keep(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	if (high >= 0) {
		close(fd); /* the process has no lock there yet */
		fd = high;
	}
	for (int i = 0; i < FILES; i++) {
		int old = atomic_load_explicit(&kept[i], memory_order_relaxed) - 1;

		if (old >= 0 && !is_spare(old))
			continue;
		atomic_store_explicit(&kept[i], fd + 1, memory_order_relaxed);
		return fd;
	}
	close(fd);
	return -EMFILE;
}

static int open_one(const struct mapped *mapped, const char *path)
{
	int fd = client_alive_kept(mapped); /* another thread's, by now */

	if (fd >= 0)
		return fd;
	fd = rl_alive_open(&mapped->seg.view, path);
	return fd < 0 ? fd : keep(fd);
}

RL_COLD static int open_alone(const struct mapped *mapped, const char *path)
{
	int pid = getpid(), seen = 0, fd;

	for (int i = 0; i < OPEN_TRIES; i++) {
		/* pairs[opener.acq]: what the last one opened is in kept. One that was forked in
		 * the middle of another thread's opening: nobody is at it. */
		if ((seen == 0 || seen != pid) &&
		    atomic_compare_exchange_strong_explicit(
			    &opener, &seen, pid, memory_order_acquire, memory_order_relaxed)) {
			fd = open_one(mapped, path);
			/* pairs[opener.rel]: see above. */
			atomic_store_explicit(&opener, 0, memory_order_release);
			return fd;
		}
		sched_yield();
		seen = atomic_load_explicit(&opener, memory_order_relaxed);
	}
	return RL_E_BUSY;
}

int client_alive(const struct mapped *mapped, const char *path)
{
	int fd = client_alive_kept(mapped);

	return fd >= 0 ? fd : open_alone(mapped, path);
}
