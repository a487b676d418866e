/*
 * thread.c - a snapshot every interval, beside the loop.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/log.h"
#include "agent/snapshot/snapshot.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"

struct snapshot_thread {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool ending; /* under mutex */
	const struct rl_view *view;
	char path[PATH_MAX];
	uint64_t interval_ns;
	bool failed; /* the last one did; the thread's, and after its end snapshot_stop()'s */
};

/* Each way that it goes wrong, and its end, is said once. */
static void note(struct snapshot_thread *thread, bool failed, uint64_t keys, const char *why)
{
	if (failed && !thread->failed)
		log_event(LOG_ERROR, "snapshot_failed",
			  "msg=\"%s; after a reboot counts begin with the last one that was "
			  "written\"",
			  why);
	else if (!failed && thread->failed)
		log_event(LOG_INFO, "snapshot_again", "snapshot=%s keys=%llu", thread->path,
			  (unsigned long long)keys);
	thread->failed = failed;
}

static void save(struct snapshot_thread *thread)
{
	char why[RL_WHY_MAX] = "";
	uint64_t keys;
	bool failed = snapshot_save(thread->view, thread->path, &keys, why) != 0;

	note(thread, failed, keys, why);
}

static struct timespec in_ns(uint64_t ns)
{
	uint64_t due_ns = rl_clock_read_ns(CLOCK_MONOTONIC) + ns;

	return (struct timespec){.tv_sec = (time_t)(due_ns / RL_SECOND_NS),
				 .tv_nsec = (long)(due_ns % RL_SECOND_NS)};
}

/* False when it is time to end. */
static bool wait_interval(struct snapshot_thread *thread)
{
	const struct timespec due = in_ns(thread->interval_ns);
	bool ending;

	pthread_mutex_lock(&thread->mutex);
	while (!thread->ending &&
	       pthread_cond_timedwait(&thread->changed, &thread->mutex, &due) != ETIMEDOUT)
		;
	ending = thread->ending;
	pthread_mutex_unlock(&thread->mutex);
	return !ending;
}

static void *run(void *arg)
{
	struct snapshot_thread *thread = arg;
	char why[RL_WHY_MAX] = "";

	if (snapshot_check_place(thread->path, why) != 0)
		note(thread, true, 0, why);
	while (wait_interval(thread))
		save(thread);
	return NULL;
}

static bool init(struct snapshot_thread *thread)
{
	pthread_condattr_t monotonic;
	bool good;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	good = pthread_mutex_init(&thread->mutex, NULL) == 0 &&
	       pthread_cond_init(&thread->changed, &monotonic) == 0;
	pthread_condattr_destroy(&monotonic);
	return good;
}

struct snapshot_thread *snapshot_start(const struct rl_view *view, const char *path,
				       uint64_t interval_ns)
{
	struct snapshot_thread *thread = calloc(1, sizeof(*thread));
	sigset_t all, before;
	bool started;

	if (thread == NULL)
		return NULL;
	thread->view = view;
	thread->interval_ns = interval_ns;
	strcpy(thread->path, path);
	sigfillset(&all);
	sigdelset(&all, SIGBUS); /* of a truncated segment: keeper_catch_truncation() says so */
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
	started = init(thread) && pthread_create(&thread->thread, NULL, run, thread) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (started)
		return thread;
	free(thread);
	return NULL;
}

void snapshot_stop(struct snapshot_thread *thread, bool last)
{
	if (thread == NULL)
		return;
	pthread_mutex_lock(&thread->mutex);
	thread->ending = true;
	pthread_cond_signal(&thread->changed);
	pthread_mutex_unlock(&thread->mutex);
	pthread_join(thread->thread, NULL);
	if (last)
		save(thread);
	pthread_cond_destroy(&thread->changed);
	pthread_mutex_destroy(&thread->mutex);
	free(thread);
}
