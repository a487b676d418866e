#include "bench/window/stop.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

enum { ROOM = 1 << 16 }; /* records of a hand */

static void *shared(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		bench_die("no memory to share");
	return at;
}

struct hard *stop_keys(size_t count)
{
	struct hard *hard = shared(count * sizeof(*hard));

	for (size_t i = 0; i < count; i++)
		for (uint32_t h = TRAFFIC_THREADS; h < HARD_HANDS; h++) {
			hard[i].hand[h].deed = shared(ROOM * sizeof(struct deed));
			hard[i].hand[h].room = ROOM;
			hard[i].hand[h].fixed = true;
		}
	return hard;
}

void stop_free(struct hard *hard, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (uint32_t h = 0; h < HARD_HANDS; h++)
			if (hard[i].hand[h].fixed)
				munmap(hard[i].hand[h].deed, ROOM * sizeof(struct deed));
			else
				free(hard[i].hand[h].deed);
	munmap(hard, count * sizeof(*hard));
}

/* Relaxed: the parent waits for the end of the process before it reads what that wrote. */
static bool ended(const struct stop *stop)
{
	return atomic_load_explicit(stop->stop, memory_order_relaxed) != 0;
}

static _Noreturn void work(const struct stop *stop, uint32_t number)
{
	uint64_t seed = stop->seed + number;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!ended(stop))
		hard_send(stop->seg, &stop->seg->member[HARD_HANDS + number],
			  &stop->hard[(bench_random(&seed) >> 32) % stop->count],
			  TRAFFIC_THREADS + number);
	_exit(0);
}

static void nap(uint64_t ns)
{
	const struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	nanosleep(&t, NULL);
}

/* Each for 1.1 to 3.1 W, at random moments; so the others mostly run meanwhile. */
static void *stop_them(void *arg)
{
	struct stop *stop = arg;
	uint64_t since_ns[STOP_WORKERS] = {0}, stopped_ns[STOP_WORKERS] = {0};

	while (!ended(stop)) {
		uint32_t w = (uint32_t)(bench_random(&stop->seed) >> 32) % STOP_WORKERS;
		uint64_t now_ns = bench_now_ns();

		if (stopped_ns[w] == 0) {
			kill(stop->pid[w], SIGSTOP);
			since_ns[w] = now_ns;
			stopped_ns[w] = stop->window_ns / 10 * 11 +
					bench_random(&stop->seed) % (2 * stop->window_ns);
			stop->stops++;
		} else if (now_ns - since_ns[w] >= stopped_ns[w]) {
			kill(stop->pid[w], SIGCONT);
			stopped_ns[w] = 0;
		}
		nap(bench_random(&stop->seed) % 3000000);
	}
	for (uint32_t w = 0; w < STOP_WORKERS; w++)
		kill(stop->pid[w], SIGCONT);
	return NULL;
}

void stop_start(struct stop *stop)
{
	stop->stop = shared(sizeof(*stop->stop));
	for (uint32_t w = 0; w < STOP_WORKERS; w++) {
		stop->pid[w] = fork();
		if (stop->pid[w] < 0)
			bench_die("cannot fork");
		if (stop->pid[w] == 0)
			work(stop, w);
	}
	if (pthread_create(&stop->thread, NULL, stop_them, stop) != 0)
		bench_die("cannot start a thread");
}

void stop_end(struct stop *stop)
{
	int status, bad = 0;

	atomic_store_explicit(stop->stop, 1, memory_order_relaxed); /* as in ended() */
	pthread_join(stop->thread, NULL);
	for (uint32_t w = 0; w < STOP_WORKERS; w++)
		bad += waitpid(stop->pid[w], &status, 0) != stop->pid[w] || status != 0;
	if (bad > 0)
		bench_die("a process that was stopped did not go on as it should");
}
