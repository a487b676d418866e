/*
 * skew - clocks that are off, for programs that do not know.
 *
 * As a preloaded library it adds the offset (ns, int64) that stands in the file $RL_SKEW to
 * the monotonic and the real clocks of the whole process. The file is mapped and read at every
 * call, so the clocks can step at any moment. Linked into a program it does the same for each
 * thread that skew_thread() gives an offset: threads of one process then live on several hosts.
 */
#include "tests/skew/skew.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The interposed name, with its own declaration's attributes left out. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *t);

static const _Atomic int64_t *of_process;
static __thread const _Atomic int64_t *of_thread __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void map_offset(void)
{
	const char *path = getenv("RL_SKEW");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at;

	if (path == NULL)
		return;
	at = mmap(NULL, sizeof(*of_process), PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || at == MAP_FAILED)
		_exit(125); /* with the real clocks the test would prove nothing */
	close(fd);
	of_process = at;
}

void skew_thread(const _Atomic int64_t *offset_ns)
{
	of_thread = offset_ns;
}

static int is_moved(clockid_t id)
{
	return id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_REALTIME;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	const _Atomic int64_t *offset = of_thread != NULL ? of_thread : of_process;
	int got = (int)syscall(SYS_clock_gettime, id, t);
	int64_t ns;

	if (got != 0 || offset == NULL || !is_moved(id))
		return got;
	/* Relaxed: a number that stands for itself. */
	ns = t->tv_sec * INT64_C(1000000000) + t->tv_nsec +
	     atomic_load_explicit(offset, memory_order_relaxed);
	t->tv_sec = ns / 1000000000;
	t->tv_nsec = ns % 1000000000;
	return 0;
}
