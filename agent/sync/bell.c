#include "agent/sync/bell.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "shm/rl_bell.h"

#define NAP_NS UINT64_C(100000000) /* how long the thread may take to notice that it must end */

struct bell {
	struct rl_seg *seg;
	void (*heard)(void *arg);
	void *arg;
	struct event *event;
	int fd;
	pthread_t thread;
	atomic_bool ending; /* relaxed: it stands for itself, and join orders the rest */
};

static void pass_on(const struct bell *bell)
{
	const struct timespec gap = {.tv_nsec = BELL_GAP_US * 1000L};
	const uint64_t one = 1;

	if (write(bell->fd, &one, sizeof(one)) < 0)
		return; /* the loop has as many to read as fit */
	nanosleep(&gap, NULL);
}

static void *listen_on(void *arg)
{
	struct bell *bell = arg;
	uint32_t heard = 0;

	while (!atomic_load_explicit(&bell->ending, memory_order_relaxed))
		if (rl_bell_wait(bell->seg, &heard, NAP_NS))
			pass_on(bell);
	return NULL;
}

static void on_ring(evutil_socket_t fd, short events, void *arg)
{
	struct bell *bell = arg;
	uint64_t rings;

	(void)events;
	if (read(fd, &rings, sizeof(rings)) == sizeof(rings))
		bell->heard(bell->arg);
}

/* Signals are the loop's: the thread takes none. */
static bool start_thread(struct bell *bell)
{
	sigset_t all, before;
	bool started;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	started = pthread_create(&bell->thread, NULL, listen_on, bell) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

struct bell *bell_new(struct event_base *base, struct rl_seg *seg, void (*heard)(void *arg),
		      void *arg)
{
	struct bell *bell = calloc(1, sizeof(*bell));

	if (bell == NULL)
		return NULL;
	bell->seg = seg;
	bell->heard = heard;
	bell->arg = arg;
	bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	bell->event = event_new(base, bell->fd, EV_READ | EV_PERSIST, on_ring, bell);
	if (bell->fd >= 0 && bell->event != NULL && event_add(bell->event, NULL) == 0 &&
	    start_thread(bell))
		return bell;
	if (bell->event != NULL)
		event_free(bell->event);
	if (bell->fd >= 0)
		close(bell->fd);
	free(bell);
	return NULL;
}

void bell_free(struct bell *bell)
{
	if (bell == NULL)
		return;
	atomic_store_explicit(&bell->ending, true, memory_order_relaxed);
	rl_bell_ring(bell->seg);
	pthread_join(bell->thread, NULL);
	event_free(bell->event);
	close(bell->fd);
	free(bell);
}
