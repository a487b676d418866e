/*
 * stop.h - processes that check in a tight loop and are stopped in the middle of it for longer
 * than a window, again and again.
 */
#ifndef BENCH_WINDOW_STOP_H
#define BENCH_WINDOW_STOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/hard.h"
#include "bench/traffic.h"

enum { STOP_WORKERS = HARD_HANDS - TRAFFIC_THREADS };

struct stop {
	struct rl_seg *seg;
	struct hard *hard; /* shared with the processes */
	size_t count;      /* of keys: each request is for one of them at random */
	uint64_t window_ns, seed;
	pid_t pid[STOP_WORKERS];
	pthread_t thread;
	_Atomic uint32_t *stop; /* shared with the processes */
	uint64_t stops;
};

/* Keys that processes share, with room for the records of STOP_WORKERS of their hands. */
struct hard *stop_keys(size_t count);
void stop_free(struct hard *hard, size_t count);

/* Start the processes and the thread that stops and continues them. */
void stop_start(struct stop *stop);

/* End them all; their hands are complete then. Exits when one of them failed. */
void stop_end(struct stop *stop);

#endif
