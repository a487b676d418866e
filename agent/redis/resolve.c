#include "agent/redis/resolve.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct answer {
	struct addrinfo *list; /* NULL: error says why */
	int error;             /* EAI_... */
	int system_error;      /* errno, for EAI_SYSTEM */
};

/* One question. The thread writes answer and then done; the loop reads them in that order. */
struct job {
	atomic_int owners; /* the thread and the loop; pairs[resolve_owners.rel] */
	atomic_bool done;  /* pairs[resolve_done.rel] */
	int fd;            /* an eventfd: readable, there is something to look at */
	struct redis_address address;
	struct answer answer;
};

struct redis_resolver {
	struct event_base *base;
	void (*heard)(void *arg);
	void *arg;
	struct job *job;     /* NULL: nothing is on its way */
	struct event *event; /* on job's fd, as long as there is one */
	bool has_answer;
	struct answer answer;
};

static struct answer look_up(const struct redis_address *address, int flags)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = flags | AI_NUMERICSERV};
	struct answer answer = {0};
	char port[8];

	snprintf(port, sizeof(port), "%u", address->port);
	answer.error = getaddrinfo(address->host, port, &hints, &answer.list);
	answer.system_error = errno;
	if (answer.error != 0)
		answer.list = NULL;
	return answer;
}

static void forget(struct answer *answer)
{
	if (answer->list != NULL)
		freeaddrinfo(answer->list);
	answer->list = NULL;
}

/* The end of one owner's share: the last one frees the job. */
static void let_go(struct job *job)
{
	/* pairs[resolve_owners.rel]: what this owner did with the job is done before it counts
	 * as gone. pairs[resolve_owners.acq]: the last one sees all of that before it frees. */
	if (atomic_fetch_sub_explicit(&job->owners, 1, memory_order_acq_rel) > 1)
		return;
	forget(&job->answer);
	close(job->fd);
	free(job);
}

static void *ask_in_thread(void *arg)
{
	struct job *job = arg;
	const uint64_t one = 1;
	ssize_t written;

	job->answer = look_up(&job->address, 0);
	/* pairs[resolve_done.rel]: the whole answer is written before it counts as there. */
	atomic_store_explicit(&job->done, true, memory_order_release);
	/* The loop may have let go long ago: the descriptor is open until we do so as well. */
	written = write(job->fd, &one, sizeof(one));
	assert(written == sizeof(one)); /* it holds 0 up to here */
	let_go(job);
	return NULL;
}

/* Signals are the loop's: the thread takes none. 0 or an error of errno's. */
static int start_thread(struct job *job)
{
	sigset_t all, before;
	pthread_t thread;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, NULL, ask_in_thread, job);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		pthread_detach(thread);
	return error;
}

/* The loop's share of the question ends. */
static void leave_job(struct redis_resolver *resolver)
{
	if (resolver->event != NULL)
		event_free(resolver->event);
	if (resolver->job != NULL)
		let_go(resolver->job);
	resolver->event = NULL;
	resolver->job = NULL;
}

static void on_done(evutil_socket_t unused, short events, void *arg)
{
	struct redis_resolver *resolver = arg;
	struct job *job = resolver->job;

	(void)unused, (void)events;
	/* pairs[resolve_done.acq]: after seeing true, the answer below is final. */
	if (!atomic_load_explicit(&job->done, memory_order_acquire))
		return;
	resolver->answer = job->answer;
	resolver->has_answer = true;
	job->answer.list = NULL;
	leave_job(resolver);
	resolver->heard(resolver->arg); /* which may free resolver */
}

static struct job *job_new(const struct redis_address *address)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	atomic_init(&job->owners, 1);
	job->address = *address;
	job->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (job->fd >= 0)
		return job;
	free(job);
	return NULL;
}

/* 0 or an error of errno's; then nothing is on its way. */
static int begin(struct redis_resolver *resolver, const struct redis_address *address)
{
	struct job *job = job_new(address);
	int error;

	if (job == NULL)
		return errno;
	resolver->job = job;
	resolver->event =
		event_new(resolver->base, job->fd, EV_READ | EV_PERSIST, on_done, resolver);
	if (resolver->event == NULL || event_add(resolver->event, NULL) != 0) {
		leave_job(resolver);
		return ENOMEM;
	}
	/* Relaxed: there is no thread yet, and its creation orders this before it. */
	atomic_store_explicit(&job->owners, 2, memory_order_relaxed);
	error = start_thread(job);
	if (error != 0) {
		atomic_store_explicit(&job->owners, 1, memory_order_relaxed);
		leave_job(resolver);
	}
	return error;
}

struct redis_resolver *redis_resolver_new(struct event_base *base, void (*heard)(void *arg),
					  void *arg)
{
	struct redis_resolver *resolver = calloc(1, sizeof(*resolver));

	if (resolver == NULL)
		return NULL;
	resolver->base = base;
	resolver->heard = heard;
	resolver->arg = arg;
	return resolver;
}

void redis_resolver_free(struct redis_resolver *resolver)
{
	if (resolver == NULL)
		return;
	leave_job(resolver);
	forget(&resolver->answer);
	free(resolver);
}

bool redis_resolver_ask(struct redis_resolver *resolver, const struct redis_address *address)
{
	int error;

	if (resolver->has_answer || resolver->job != NULL)
		return resolver->has_answer;
	resolver->answer = look_up(address, AI_NUMERICHOST);
	if (resolver->answer.error == EAI_NONAME) { /* it is a name */
		error = begin(resolver, address);
		if (error == 0)
			return false;
		resolver->answer.error = EAI_SYSTEM;
		resolver->answer.system_error = error;
	}
	resolver->has_answer = true;
	return true;
}

void redis_resolver_forget(struct redis_resolver *resolver)
{
	leave_job(resolver);
	forget(&resolver->answer);
	resolver->has_answer = false;
}

struct addrinfo *redis_resolver_take(struct redis_resolver *resolver, const char **ret_why)
{
	struct answer answer = resolver->answer;

	assert(resolver->has_answer);
	resolver->has_answer = false;
	resolver->answer.list = NULL;
	if (answer.list == NULL)
		*ret_why = answer.error == EAI_SYSTEM ? strerror(answer.system_error)
						      : gai_strerror(answer.error);
	return answer.list;
}
