#include "bench/traffic.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/hard.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"

#define NAP_FROM_NS UINT64_C(60000) /* a shorter wait is spun: waking takes about as long */

/* One thread's share of one source. */
struct stream {
	const struct source *source;
	uint32_t thread;
	uint64_t next_ns;
	uint64_t phase_ns; /* when the burst, cycle or round began */
	uint64_t on_ns;    /* length of the burst */
	uint64_t left;     /* requests still to be sent at next_ns */
	uint64_t rounds;   /* begun */
	uint64_t own_seed; /* arrivals: a different one in each thread */
	uint64_t seed;     /* bursts: the same in all */
	struct log log;
	size_t room;
};

struct sender {
	pthread_t thread;
	struct rl_seg *seg;
	struct rl_member *member;
	struct stream *stream;
	struct stream **heap; /* the earliest next_ns first */
	size_t count;
	uint64_t end_ns;
};

static double uniform(uint64_t *seed)
{
	return ((double)(bench_random(seed) >> 11) + 0.5) / 9007199254740992.0;
}

/* A thread's share of n requests. */
static uint64_t share(const struct stream *s, uint64_t n)
{
	return n * (s->thread + 1) / TRAFFIC_THREADS - n * s->thread / TRAFFIC_THREADS;
}

/* To this thread's next request, all threads together sending load times the limit. */
static uint64_t gap_ns(struct stream *s, double load)
{
	double mean = (double)s->source->window_ns * TRAFFIC_THREADS / (load * s->source->limit);

	return (uint64_t)(-log(uniform(&s->own_seed)) * mean) + 1;
}

static uint64_t part_of_window(struct stream *s, double from, double to)
{
	return (uint64_t)((double)s->source->window_ns * (from + (to - from) * uniform(&s->seed)));
}

static void next_in_bursts(struct stream *s)
{
	s->next_ns += gap_ns(s, 8);
	while (s->next_ns > s->phase_ns + s->on_ns) {
		s->phase_ns += s->on_ns + part_of_window(s, 0.1, 1.5);
		s->on_ns = part_of_window(s, 0.05, 0.5);
		s->next_ns = s->phase_ns + gap_ns(s, 8);
	}
}

/* Rounds begin 1.002 W apart; the threads take turns, or they would hold each other up. */
static void next_of_cron(struct stream *s)
{
	if (s->left == 0) {
		s->next_ns += (s->rounds++ == 0 ? s->thread : TRAFFIC_THREADS) *
			      (s->source->window_ns / 1000 * 1002);
		s->left = s->source->limit;
	}
	s->left--;
}

/* A cycle of 4 W: one at 0, limit - 1 at 0.98 W, the flood in W .. 2.5 W. */
static void next_of_adversary(struct stream *s)
{
	uint64_t window = s->source->window_ns, end = s->phase_ns + window / 100 * 98;

	if (s->next_ns < end) {
		s->next_ns = end;
		s->left = share(s, s->source->limit - 1);
	}
	if (s->next_ns == end && s->left > 0) {
		s->left--;
		return;
	}
	if (s->next_ns < s->phase_ns + window)
		s->next_ns = s->phase_ns + window;
	s->next_ns += gap_ns(s, 4);
	if (s->next_ns > s->phase_ns + window / 2 * 5) {
		s->phase_ns += 4 * window;
		s->next_ns = s->phase_ns;
		if (s->thread != 0)
			next_of_adversary(s);
	}
}

static void advance(struct stream *s)
{
	switch (s->source->pattern) {
	case PATTERN_POISSON:
		s->next_ns += gap_ns(s, s->source->load);
		break;
	case PATTERN_BURSTS:
		next_in_bursts(s);
		break;
	case PATTERN_CRON:
		next_of_cron(s);
		break;
	case PATTERN_ADVERSARY:
		next_of_adversary(s);
		break;
	}
}

/* Sources begin at random points of their first window, or all bursts would meet. */
static void begin(struct stream *s, const struct source *source, uint32_t thread, uint64_t start_ns)
{
	memset(s, 0, sizeof(*s));
	s->source = source;
	s->thread = thread;
	s->seed = source->seed;
	s->own_seed = source->seed ^ UINT64_C(0x9e3779b97f4a7c15) * (thread + 1);
	s->phase_ns = start_ns + part_of_window(s, 0, source->pattern == PATTERN_POISSON ? 0 : 0.8);
	s->next_ns = s->phase_ns;
	if (source->pattern != PATTERN_ADVERSARY || thread != 0)
		advance(s);
}

static void sift_down(struct sender *sender)
{
	struct stream **heap = sender->heap, *moving = heap[0];
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < sender->count && heap[child + 1]->next_ns < heap[child]->next_ns)
			child++;
		if (child >= sender->count || heap[child]->next_ns >= moving->next_ns)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = moving;
}

static int by_next(const void *a, const void *b)
{
	uint64_t x = (*(struct stream *const *)a)->next_ns,
		 y = (*(struct stream *const *)b)->next_ns;

	return (x > y) - (x < y);
}

static void note(struct log *log, size_t *room, const struct request *request)
{
	if (log->count == *room) {
		*room = *room == 0 ? 256 : *room * 2;
		log->request = realloc(log->request, *room * sizeof(*request));
		if (log->request == NULL)
			bench_die("no memory for the records");
	}
	log->request[log->count++] = *request;
}

static void send_one(struct sender *sender, struct stream *s)
{
	const struct source *source = s->source;
	struct request request;
	struct rl_answer answer;
	uint64_t begin_ns = bench_now_ns();
	int got = rl_check_spend(sender->seg, sender->member, source->rule, &source->key,
				 sizeof(source->key), 1, 0, &answer);
	uint64_t span_ns = bench_now_ns() - begin_ns;

	if (got < 0)
		bench_die("a check could not decide");
	request.begin_ns = begin_ns;
	request.now_ns = answer.now_ns;
	request.span_ns = span_ns < UINT32_MAX ? (uint32_t)span_ns : UINT32_MAX;
	request.allowed = (uint32_t)got;
	note(&s->log, &s->room, &request);
}

static void wait_until(uint64_t at_ns)
{
	const struct timespec at = {(time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000)};

	if (at_ns > bench_now_ns() + NAP_FROM_NS)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	while (bench_now_ns() < at_ns)
		;
}

/* A thread that was held up leaves out what it missed: all at once it would not be Poisson. */
static bool missed(const struct stream *s)
{
	return s->source->pattern == PATTERN_POISSON &&
	       bench_now_ns() > s->next_ns + s->source->window_ns / 4;
}

static void *send_all(void *arg)
{
	struct sender *sender = arg;

	prctl(PR_SET_TIMERSLACK, 1);
	while (sender->heap[0]->next_ns < sender->end_ns) {
		struct stream *s = sender->heap[0];

		wait_until(s->next_ns);
		if (missed(s))
			s->next_ns = bench_now_ns();
		else if (s->source->hard != NULL)
			hard_send(sender->seg, sender->member, s->source->hard, s->thread);
		else
			send_one(sender, s);
		advance(s);
		sift_down(sender);
	}
	return NULL;
}

static int by_reading(const void *a, const void *b)
{
	const struct request *x = a, *y = b;

	if (x->now_ns != y->now_ns)
		return x->now_ns < y->now_ns ? -1 : 1;
	return (int)y->allowed - (int)x->allowed;
}

/* Put what the threads sent of source i into one log. */
static struct log merge(struct sender *sender, size_t i)
{
	struct log all = {0};
	size_t at = 0;

	for (int t = 0; t < TRAFFIC_THREADS; t++)
		all.count += sender[t].stream[i].log.count;
	all.request = malloc((all.count + 1) * sizeof(*all.request));
	if (all.request == NULL)
		bench_die("no memory for the records");
	for (int t = 0; t < TRAFFIC_THREADS; t++) {
		struct log *part = &sender[t].stream[i].log;

		if (part->count > 0)
			memcpy(all.request + at, part->request,
			       part->count * sizeof(*part->request));
		at += part->count;
		free(part->request);
	}
	qsort(all.request, all.count, sizeof(*all.request), by_reading);
	return all;
}

static void prepare(struct sender *sender, uint32_t thread, const struct source *source,
		    size_t count, uint64_t start_ns)
{
	sender->stream = calloc(count, sizeof(*sender->stream));
	sender->heap = calloc(count, sizeof(struct stream *));
	if (sender->stream == NULL || sender->heap == NULL)
		bench_die("no memory for the streams");
	sender->count = count;
	for (size_t i = 0; i < count; i++) {
		begin(&sender->stream[i], &source[i], thread, start_ns);
		sender->heap[i] = &sender->stream[i];
	}
	qsort(sender->heap, count, sizeof(struct stream *), by_next);
}

void traffic_run(struct rl_seg *seg, const struct source *source, size_t count,
		 uint64_t duration_ns, struct log *ret)
{
	struct sender sender[TRAFFIC_THREADS];
	uint64_t start_ns = bench_now_ns() + 10000000;

	for (uint32_t t = 0; t < TRAFFIC_THREADS; t++) {
		prepare(&sender[t], t, source, count, start_ns);
		sender[t].seg = seg;
		sender[t].member = &seg->member[t + 1];
		sender[t].end_ns = start_ns + duration_ns;
		if (pthread_create(&sender[t].thread, NULL, send_all, &sender[t]) != 0)
			bench_die("cannot start a thread");
	}
	for (int t = 0; t < TRAFFIC_THREADS; t++)
		pthread_join(sender[t].thread, NULL);
	for (size_t i = 0; i < count; i++)
		ret[i] = merge(sender, i);
	for (int t = 0; t < TRAFFIC_THREADS; t++) {
		free(sender[t].stream);
		free(sender[t].heap);
	}
}
