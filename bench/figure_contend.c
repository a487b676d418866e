/*
 * Question: what do two processes that check at the same time cost each other?
 *
 * same key:   both admit on one key. Over two processes that add to one shared word by load and
 *             CAS, each counting only the CAS that succeeded: the least that any shared count
 * costs. other keys: each process admits on keys of its own. denied:     both ask for one key that
 * is used up; a refusal writes nothing that they share.
 *
 * For the last two: the speed-up of two processes over one, over the speed-up that the floor of
 * figure_hit (same hash, same clock, one CAS on a line of the process's own; for denied, one load
 * of a line that both read) has in the same round. So what the machine does not give, two vCPUs of
 * one core for instance, is not counted against the check.
 *
 * Rounds of 25 ms, in turn, medians. Each process times itself by the wall clock and is pinned
 * to a processor of its own: left to the scheduler, both start on one now and then, and then do not
 * contend at all. A round in which one of them had its processor for less than 98 % of the time
 * (other programs) is run again, at most twice.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "client/rl.h"
#include "shm/rl_clock.h"
#include "shm/rl_hash.h"

enum { WORKERS = 2, KEYS = 512, ORDER = 4096, BATCH = 512, ROUNDS = 50, AGAIN = 2, LIFE_S = 300 };

#define ROUND_NS    UINT64_C(25000000)
#define BUSY_LEAST  0.98
#define PATIENCE_NS UINT64_C(20000000000) /* no round is run again after that */

struct key {
	char text[16];
	size_t len;
};

/* A word alone in its cache line. */
struct line {
	_Alignas(64) _Atomic uint64_t word;
};

/* What the processes share. */
struct meeting {
	struct line counted; /* by the raw loop */
	struct line denied;  /* read by the floor of denied */
	struct line arrived;
	struct {
		_Alignas(64) double rate; /* a second */
		double busy;              /* part of the round that it had a processor */
	} result[WORKERS];
};

struct worker {
	uint32_t number;
	uint64_t hash_key[2];
	uint64_t wide, narrow; /* rules */
	struct rl_client *client;
	struct meeting *meeting;
	struct key *key; /* its own */
	uint32_t at;     /* in order */
};

static struct key key[WORKERS][KEYS];
static uint32_t order[ORDER];
static struct line line[KEYS]; /* of its own in each process, once written to */
static const struct key shared_key = {"10.0.0.1", 8};
static uint32_t run_again;
static uint64_t patient_until_ns;

static const struct key *next_key(struct worker *w)
{
	return &w->key[order[w->at++ % ORDER]];
}

static uint64_t expect(const struct worker *w, uint64_t rule, const struct key *k, int expected)
{
	struct rl_result result;

	if (rl_check(w->client, rule, k->text, k->len, 1, 0, &result) != expected)
		bench_die("a check gave another answer than the round is about");
	return 1;
}

static uint64_t check_same(struct worker *w)
{
	return expect(w, w->wide, &shared_key, RL_ALLOWED);
}

static uint64_t check_own(struct worker *w)
{
	return expect(w, w->wide, next_key(w), RL_ALLOWED);
}

static uint64_t check_denied(struct worker *w)
{
	return expect(w, w->narrow, &shared_key, RL_LIMITED);
}

static uint64_t raw_cas(struct worker *w)
{
	_Atomic uint64_t *word = &w->meeting->counted.word;
	uint64_t seen = atomic_load_explicit(word, memory_order_acquire);

	/* pairs[none]: a count alone; the order a limiter would need. */
	return atomic_compare_exchange_strong_explicit(word, &seen, seen + 1, memory_order_release,
						       memory_order_relaxed);
}

static uint64_t hash_of(const struct worker *w, uint64_t rule, const struct key *k)
{
	return rl_hash_key(w->hash_key, (uint32_t)(rule >> 32), k->text, k->len).word[0];
}

static uint64_t floor_own(struct worker *w)
{
	_Atomic uint64_t *word = &line[hash_of(w, w->wide, next_key(w)) % KEYS].word;
	uint64_t now = rl_clock_now_ns(true);
	uint64_t seen = atomic_load_explicit(word, memory_order_acquire);

	/* pairs[none]: as raw_cas(). */
	return atomic_compare_exchange_strong_explicit(word, &seen, now, memory_order_release,
						       memory_order_relaxed);
}

/* As raw_cas(), at the pace of a check. */
static uint64_t floor_same(struct worker *w)
{
	uint64_t hash = hash_of(w, w->wide, &shared_key), now = rl_clock_now_ns(true);
	_Atomic uint64_t *word = &w->meeting->counted.word;
	uint64_t seen = atomic_load_explicit(word, memory_order_acquire);

	/* pairs[none]: as raw_cas(). The hash must be used. */
	return atomic_compare_exchange_strong_explicit(word, &seen, now + hash % 2,
						       memory_order_release, memory_order_relaxed);
}

static uint64_t floor_denied(struct worker *w)
{
	uint64_t hash = hash_of(w, w->narrow, &shared_key), now = rl_clock_now_ns(true);

	/* pairs[none]: the order a limiter would need. Never above now; the hash must be used. */
	return atomic_load_explicit(&w->meeting->denied.word, memory_order_acquire) + hash % 2 <
	       now;
}

enum job { CHECK_SAME, RAW_CAS, FLOOR_SAME, CHECK_OWN, FLOOR_OWN, CHECK_DENIED, FLOOR_DENIED };

/* Each loop is compiled for itself: nothing of one is in the other. */
#define LOOP(step) \
	{ \
		for (uint32_t i = 0; i < BATCH; i++) \
			done += step(w); \
		break; \
	}

static uint64_t batch(struct worker *w, enum job job)
{
	uint64_t done = 0;

	switch (job) {
	case CHECK_SAME:
		LOOP(check_same)
	case RAW_CAS:
		LOOP(raw_cas)
	case FLOOR_SAME:
		LOOP(floor_same)
	case CHECK_OWN:
		LOOP(check_own)
	case FLOOR_OWN:
		LOOP(floor_own)
	case CHECK_DENIED:
		LOOP(check_denied)
	case FLOOR_DENIED:
		LOOP(floor_denied)
	}
	return done;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Begin together with the others of the round. Relaxed: nothing is handed over by it. */
static void meet(struct meeting *meeting, uint32_t workers)
{
	atomic_fetch_add_explicit(&meeting->arrived.word, 1, memory_order_relaxed);
	while (atomic_load_explicit(&meeting->arrived.word, memory_order_relaxed) < workers)
		;
}

static void take_part(struct worker *w, enum job job, uint32_t workers)
{
	uint64_t done = 0, start, cpu, now;

	batch(w, job); /* the caches */
	meet(w->meeting, workers);
	cpu = cpu_ns();
	start = now = bench_now_ns();
	for (; now - start < ROUND_NS; now = bench_now_ns())
		done += batch(w, job);
	w->meeting->result[w->number].rate = (double)done * 1e9 / (double)(now - start);
	w->meeting->result[w->number].busy = (double)(cpu_ns() - cpu) / (double)(now - start);
}

/* The number-th processor that this program may use, from the first on again. */
static void pin(uint32_t number)
{
	cpu_set_t may, only;

	CPU_ZERO(&only);
	if (sched_getaffinity(0, sizeof(may), &may) != 0)
		return;
	number %= (uint32_t)CPU_COUNT(&may);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &may) && number-- == 0)
			CPU_SET(cpu, &only);
	sched_setaffinity(0, sizeof(only), &only);
}

/* An order from the parent, a byte when done; until the parent closes the pipe. */
struct order {
	enum job job;
	uint32_t workers;
};

static _Noreturn void work(struct worker *w, const char *path, int orders, int done)
{
	struct order todo;
	char why[RL_WHY_SIZE];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(LIFE_S);
	pin(w->number);
	if (rl_attach(path, &w->client, why) != 0)
		bench_die(why);
	while (read(orders, &todo, sizeof(todo)) == (ssize_t)sizeof(todo)) {
		take_part(w, todo.job, todo.workers);
		if (write(done, "", 1) != 1)
			break;
	}
	_exit(0);
}

struct crew {
	struct meeting *meeting;
	int orders[WORKERS], done[WORKERS];
};

static void start_worker(struct crew *crew, struct worker *w, const char *path)
{
	int orders[2], done[2];

	if (pipe(orders) != 0 || pipe(done) != 0)
		bench_die("no pipe");
	fflush(stdout);
	switch (fork()) {
	case -1:
		bench_die("cannot fork");
	case 0:
		for (uint32_t i = 0; i < w->number; i++)
			close(crew->orders[i]);
		close(orders[1]);
		work(w, path, orders[0], done[1]);
	default:
		close(orders[0]);
		close(done[1]);
		crew->orders[w->number] = orders[1];
		crew->done[w->number] = done[0];
	}
}

/* Steps a second of so many processes together; ret_busy: the least that one had. */
static double round_of(struct crew *crew, enum job job, uint32_t workers, double *ret_busy)
{
	struct order todo = {job, workers};
	double rate = 0;
	char byte;

	*ret_busy = 1;
	atomic_store_explicit(&crew->meeting->arrived.word, 0, memory_order_relaxed); /* by pipe */
	for (uint32_t i = 0; i < workers; i++)
		if (write(crew->orders[i], &todo, sizeof(todo)) != (ssize_t)sizeof(todo))
			bench_die("a process is gone");
	for (uint32_t i = 0; i < workers; i++) {
		if (read(crew->done[i], &byte, 1) != 1)
			bench_die("a process is gone");
		rate += crew->meeting->result[i].rate;
		if (crew->meeting->result[i].busy < *ret_busy)
			*ret_busy = crew->meeting->result[i].busy;
	}
	return rate;
}

static double rate(struct crew *crew, enum job job, uint32_t workers)
{
	double busy, got = round_of(crew, job, workers, &busy);

	for (int i = 0; i < AGAIN && busy < BUSY_LEAST && bench_now_ns() < patient_until_ns;
	     i++, run_again++)
		got = round_of(crew, job, workers, &busy);
	return got;
}

static double speed_up(struct crew *crew, enum job job)
{
	double one = rate(crew, job, 1);

	return rate(crew, job, 2) / one;
}

struct rounds {
	double check[ROUNDS], floor[ROUNDS], ratio[ROUNDS];
};

static void scale(struct crew *crew, enum job check, enum job floor, struct rounds *ret, int round)
{
	ret->check[round] = speed_up(crew, check);
	ret->floor[round] = speed_up(crew, floor);
	ret->ratio[round] = ret->check[round] / ret->floor[round];
}

static void contend(struct crew *crew, struct rounds *raw, struct rounds *floor, int round)
{
	double check = 1e9 / rate(crew, CHECK_SAME, 2);

	raw->check[round] = floor->check[round] = check;
	raw->floor[round] = 1e9 / rate(crew, RAW_CAS, 2);
	raw->ratio[round] = check / raw->floor[round];
	floor->floor[round] = 1e9 / rate(crew, FLOOR_SAME, 2);
	floor->ratio[round] = check / floor->floor[round];
}

static void show(struct rounds *rounds, const char *const name[3], const char *unit)
{
	if (name[0] != NULL)
		bench_figure(name[0], bench_median(rounds->check, ROUNDS), unit);
	bench_figure(name[1], bench_median(rounds->floor, ROUNDS), unit);
	bench_figure(name[2], bench_median(rounds->ratio, ROUNDS), "x");
}

static void show_all(struct crew *crew)
{
	static const char *const same[] = {"contend_ns", "contend_rawcas_ns",
					   "contend_over_rawcas"};
	static const char *const floor[] = {NULL, "contend_floor_ns", "contend_over_floor"};
	static const char *const own[] = {"disjoint_speedup", "disjoint_floor_speedup",
					  "disjoint_scaling"};
	static const char *const denied[] = {"denied_speedup", "denied_floor_speedup",
					     "denied_scaling"};
	static struct rounds rounds[4];

	patient_until_ns = bench_now_ns() + PATIENCE_NS;
	for (int r = 0; r < ROUNDS; r++) {
		contend(crew, &rounds[0], &rounds[1], r);
		scale(crew, CHECK_OWN, FLOOR_OWN, &rounds[2], r);
		scale(crew, CHECK_DENIED, FLOOR_DENIED, &rounds[3], r);
	}
	printf("%u of the rounds were run again: other programs had a processor\n", run_again);
	show(&rounds[0], same, "ns");
	show(&rounds[1], floor, "ns");
	show(&rounds[2], own, "x");
	show(&rounds[3], denied, "x");
}

static void make_keys(void)
{
	uint64_t seed = 20261121;

	for (uint32_t w = 0; w < WORKERS; w++)
		for (uint32_t k = 0; k < KEYS; k++)
			key[w][k].len = (size_t)snprintf(key[w][k].text, sizeof(key[w][k].text),
							 "10.%u.%u.%u", w + 1, k / 256, k % 256);
	for (uint32_t i = 0; i < ORDER; i++)
		order[i] = (uint32_t)(bench_random(&seed) >> 32) % KEYS;
}

static struct crew start_crew(const struct bench_seg *bench)
{
	struct crew crew = {.meeting = mmap(NULL, sizeof(*crew.meeting), PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_ANONYMOUS, -1, 0)};

	if (crew.meeting == MAP_FAILED)
		bench_die("no memory");
	for (uint32_t i = 0; i < WORKERS; i++) {
		struct worker w = {.number = i,
				   .meeting = crew.meeting,
				   .wide = bench_rule(&bench->seg.view, "wide"),
				   .narrow = bench_rule(&bench->seg.view, "narrow"),
				   .key = key[i]};

		memcpy(w.hash_key, bench->seg.view.hash_key, sizeof(w.hash_key));
		start_worker(&crew, &w, bench->path);
	}
	return crew;
}

/* Make the slots, and spend the denied key's whole limit of one. */
static void fill(const struct bench_seg *bench)
{
	struct worker w = {.wide = bench_rule(&bench->seg.view, "wide"),
			   .narrow = bench_rule(&bench->seg.view, "narrow")};
	char why[RL_WHY_SIZE];

	if (rl_attach(bench->path, &w.client, why) != 0)
		bench_die(why);
	for (uint32_t i = 0; i < WORKERS; i++)
		for (uint32_t k = 0; k < KEYS; k++)
			expect(&w, w.wide, &key[i][k], RL_ALLOWED);
	expect(&w, w.narrow, &shared_key, RL_ALLOWED);
	rl_detach(w.client);
}

int main(void)
{
	static const char *const rules[] = {"wide 1000000000/60s", "narrow 1/1h"};
	struct bench_seg bench;
	struct crew crew;

	make_keys();
	bench_seg_make(&bench, UINT64_C(16) * KEYS);
	bench_rules(&bench.seg, 2, rules);
	fill(&bench);
	bench_machine();
	printf("%d rounds of %d ms for each, two processes, each pinned to a processor\n", ROUNDS,
	       (int)(ROUND_NS / 1000000));
	crew = start_crew(&bench);
	show_all(&crew);
	for (uint32_t i = 0; i < WORKERS; i++)
		close(crew.orders[i]);
	while (wait(NULL) > 0)
		;
	bench_seg_drop(&bench);
	return 0;
}
