/*
 * hostile - the two sides of tests/sys/test_hostile.py: a worker that asks everything rl.h has,
 * and a writer that puts anything anywhere into the segment.
 *
 *	hostile work SEGMENT SECONDS SEED    its last line: how many calls, and the longest of them
 *	hostile write SEGMENT SECONDS SEED   the segment's header is as it was at the end
 *
 * The worker knows no more than rl.h says and takes any answer for good, but for one: that a call
 * does not end. The same worker is the load of healthy tests.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_segment.h"
#include "shm/rl_word.h"
#include "tests/t.h"

#define KEYS    150   /* known ones; more of them are made up */
#define RULES   9     /* r0 .. r8 in the test's configuration */
#define FLIGHT  8     /* r8 limits requests in flight */
#define HELD    20    /* results of it */
#define MOST_MS 1000  /* of processor time in one call, under a sanitizer, on a busy machine */
#define WAIT_MS 10000 /* and of time, of one that may wait for a second */

static uint64_t seed;

static uint64_t below(uint64_t bound)
{
	return t_below(&seed, bound);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The worker. */

struct worker {
	struct rl_client *client;
	const char *path;
	uint64_t until_ns;
	uint64_t rule[RULES];
	struct rl_result last[RULES]; /* the last admit of each, to give it back */
	struct rl_result held[HELD];  /* of rl_acquire() */
	struct rl_key key;
	uint64_t calls, allowed, limited, errors, longest_ns, longest_wait_ns;
};

static const char *key_of(char text[40])
{
	uint64_t number = below(8) > 0 ? below(KEYS) : below(UINT64_MAX);

	snprintf(text, 40, "key-%" PRIu64, number);
	return text;
}

static int call_check(struct worker *w, size_t r, uint32_t flags)
{
	uint32_t cost = below(10) > 0 ? 1 : 1 + (uint32_t)below(200);
	bool is_long = below(8) == 0;
	char key[100] = "";

	key_of(key);
	return rl_check(w->client, w->rule[r], key, is_long ? sizeof(key) : strlen(key), cost,
			flags, &w->last[r]);
}

static int call_peek(struct worker *w, size_t r)
{
	struct rl_result result;
	char key[40];

	key_of(key);
	return rl_peek(w->client, w->rule[r], key, strlen(key), 1, &result);
}

static int call_many(struct worker *w, bool all)
{
	struct rl_ask ask[8];
	char key[8][40];

	memset(ask, 0, sizeof(ask));
	for (size_t i = 0; i < 8; i++) {
		ask[i].rule = w->rule[below(RULES)];
		ask[i].key = key_of(key[i]);
		ask[i].key_len = strlen(key[i]);
		ask[i].cost = 1;
	}
	return all ? rl_check_all(w->client, ask, 1 + below(8))
		   : rl_check_batch(w->client, ask, 1 + below(8));
}

static int call_key(struct worker *w, size_t r)
{
	char key[40];

	if (below(4) == 0)
		rl_key_make(w->client, w->rule[r], key_of(key), strlen(key), &w->key);
	return rl_check_key(w->client, &w->key, 1, 0, NULL);
}

static int call_said(struct worker *w, size_t r)
{
	char key[40];

	key_of(key);
	if (below(2) == 0)
		return rl_reset(w->client, w->rule[r], key, strlen(key));
	return rl_block(w->client, w->rule[r], key, strlen(key), below(3) * 100000000);
}

/* What it holds it mostly gives back, in any order, once, twice, or under another rule. */
static int call_flight(struct worker *w, size_t r)
{
	struct rl_result *held = &w->held[below(HELD)];
	char key[40];

	if (below(2) == 0)
		return rl_release(w->client, w->rule[below(8) > 0 ? FLIGHT : r], held);
	key_of(key);
	return rl_acquire(w->client, w->rule[below(8) > 0 ? FLIGHT : r], key, strlen(key),
			  1 + (uint32_t)below(3), held);
}

/*
 * A segment that refuses us now is tried again: whatever a header says for a moment. When the time
 * is over nobody mends it any more.
 */
static void attach(struct worker *w)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	char name[8];

	while (rl_attach(w->path, &w->client, NULL) != 0) {
		if (clock_ns(CLOCK_MONOTONIC) > w->until_ns)
			return;
		nanosleep(&nap, NULL);
	}
	for (size_t r = 0; r < RULES; r++) {
		snprintf(name, sizeof(name), "r%zu", r);
		if (rl_rule(w->client, name, &w->rule[r]) != 0 && w->rule[r] == 0)
			w->rule[r] = 1; /* of nobody, until it is found */
	}
}

static int call(struct worker *w)
{
	size_t r = below(RULES);

	switch (below(16)) {
	case 0:
		return call_peek(w, r);
	case 1:
		return call_many(w, true);
	case 2:
		return call_many(w, false);
	case 3:
		return call_key(w, r);
	case 4:
		return rl_refund(w->client, w->rule[r], &w->last[r]);
	case 5:
		if (below(100) == 0)
			return call_check(w, r, RL_MAY_WAIT);
		return (int)(rl_agent_age_ms(w->client) & 1);
	case 6:
		if (below(2000) == 0) {
			rl_detach(w->client);
			w->client = NULL;
			attach(w);
		}
		return 0;
	case 7:
		return below(4) == 0 ? call_said(w, r) : 0;
	case 8:
	case 9:
		return call_flight(w, r);
	default:
		return call_check(w, r, 0);
	}
}

static void must_end(const struct worker *w, const char *what, uint64_t took_ns, uint64_t most_ms)
{
	if (took_ns <= most_ms * 1000000)
		return;
	printf("call %" PRIu64 " took %.1f ms of %s\n", w->calls, (double)took_ns / 1e6, what);
	fflush(stdout);
	_exit(3);
}

static void timed_call(struct worker *w)
{
	uint64_t used_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), now_ns = clock_ns(CLOCK_MONOTONIC);
	int got = call(w);

	used_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - used_ns;
	now_ns = clock_ns(CLOCK_MONOTONIC) - now_ns;
	w->calls++;
	w->allowed += got == RL_ALLOWED;
	w->limited += got == RL_LIMITED;
	w->errors += got < 0;
	if (used_ns > w->longest_ns)
		w->longest_ns = used_ns;
	if (now_ns > w->longest_wait_ns)
		w->longest_wait_ns = now_ns;
	must_end(w, "processor time", used_ns, MOST_MS);
	must_end(w, "time", now_ns, WAIT_MS);
}

static int work(const char *path, uint64_t until_ns)
{
	static struct worker w;

	w.path = path;
	w.until_ns = until_ns;
	attach(&w);
	while (clock_ns(CLOCK_MONOTONIC) < until_ns)
		timed_call(&w);
	if (w.client != NULL)
		rl_detach(w.client);
	printf("worker: %" PRIu64 " calls, allowed %" PRIu64 ", limited %" PRIu64
	       ", errors %" PRIu64 ", longest %.3f ms of processor, %.3f ms of time\n",
	       w.calls, w.allowed, w.limited, w.errors, (double)w.longest_ns / 1e6,
	       (double)w.longest_wait_ns / 1e6);
	return 0;
}

/* The writer. */

struct writer {
	char *base;
	uint64_t size;
	const struct rl_view *view;
	struct rl_hdr hdr;      /* as it was */
	struct rl_live live;    /* likewise */
	struct rl_bank bank[2]; /* likewise */
	struct rl_fleet fleet;  /* likewise */
	uint64_t writes, phases;
};

/* A part of the segment to write into. */
struct target {
	uint64_t from, len;
};

static uint64_t offset_of(const struct writer *w, const void *at)
{
	return (uint64_t)((const char *)at - (const char *)w->view->hdr);
}

static struct target one_slot(const struct writer *w)
{
	uint64_t index = below(w->view->slot_count);

	switch (below(6)) {
	case 0:
		return (struct target){offset_of(w, &w->view->side[index]), sizeof(struct rl_side)};
	case 1:
		return (struct target){offset_of(w, &w->view->text[index]), sizeof(struct rl_text)};
	case 2:
		return (struct target){offset_of(w, &w->view->slot[index]), 8}; /* its head */
	default:
		return (struct target){offset_of(w, &w->view->slot[index]), 64};
	}
}

static struct target pick_target(const struct writer *w)
{
	const struct rl_view *v = w->view;

	switch (below(14)) {
	case 0:
		return (struct target){0, sizeof(struct rl_hdr)};
	case 1:
		return (struct target){offset_of(w, v->live), 64};
	case 2:
		return (struct target){offset_of(w, &v->live->journal), sizeof(v->live->journal)};
	case 3:
		return (struct target){offset_of(w, v->bank), RULES * sizeof(struct rl_rule_rec)};
	case 4:
		return (struct target){offset_of(w, v->bank + 1),
				       RULES * sizeof(struct rl_rule_rec)};
	case 5:
		return (struct target){offset_of(w, v->fleet), sizeof(struct rl_fleet)};
	case 6:
		return (struct target){offset_of(w, v->member),
				       v->member_count * sizeof(struct rl_member)};
	case 7:
		return (struct target){offset_of(w, v->tags),
				       v->bucket_count * sizeof(struct rl_tags)};
	case 8:
		return (struct target){offset_of(w, v->slot),
				       v->slot_count * sizeof(struct rl_slot)};
	case 9:
		return (struct target){0, w->size};
	case 10: /* the file, and the first of the processes */
		return (struct target){offset_of(w, v->holders), 128};
	case 11:
		return (struct target){offset_of(w, v->hold),
				       v->hold_count * sizeof(struct rl_hold)};
	default:
		return one_slot(w);
	}
}

static uint64_t near_max(void)
{
	static const uint64_t edge[] = {UINT64_MAX,
					INT64_MAX,
					UINT64_C(1) << 63,
					UINT32_MAX,
					UINT64_C(1) << 32,
					RL_N_MAX << RL_HEAD_N_SHIFT,
					RL_N_REBASE << RL_HEAD_N_SHIFT,
					RL_N_FIRST << RL_HEAD_N_SHIFT};

	return edge[below(sizeof(edge) / sizeof(edge[0]))] + below(5) - 2;
}

/* A word somebody has written: of another slot, of the bank, of anywhere. */
static uint64_t word_at(const struct writer *w, uint64_t at)
{
	return atomic_load_explicit((_Atomic uint64_t *)(void *)(w->base + at / 8 * 8),
				    memory_order_relaxed);
}

static uint64_t pick_value(const struct writer *w, uint64_t at)
{
	uint64_t seen = word_at(w, at), slot = offset_of(w, w->view->slot);

	switch (below(8)) {
	case 0:
		return t_random(&seed);
	case 1:
		return below(300);
	case 2:
		return near_max();
	case 3:
		return seen ^ UINT64_C(1) << below(64);
	case 4: /* the same word of another slot */
		return at < slot ? word_at(w, below(w->size))
				 : word_at(w, (slot + below(w->view->slot_count) * 256 + at % 256) %
						      w->size);
	case 5:
		return seen + below(5) - 2;
	case 6: /* one half of it */
		return below(2) == 0 ? seen >> 32 << 32 : seen & UINT32_MAX;
	default:
		return clock_ns(CLOCK_MONOTONIC) + UINT64_C(400) * 86400 * 1000000000 +
		       below(2000000000) - 1000000000;
	}
}

static void store(struct writer *w, uint64_t at, uint64_t value)
{
	w->writes++;
	if (below(4) == 0) /* a byte, of a writer that knows no words */
		atomic_store_explicit((_Atomic uint8_t *)(void *)(w->base + at), (uint8_t)value,
				      memory_order_relaxed);
	else
		atomic_store_explicit((_Atomic uint64_t *)(void *)(w->base + at / 8 * 8), value,
				      memory_order_relaxed);
}

/* Between two values as fast as it goes: what is read twice is two things. */
static void flip(struct writer *w, uint64_t at, uint64_t until_ns)
{
	_Atomic uint64_t *word = (_Atomic uint64_t *)(void *)(w->base + at / 8 * 8);
	uint64_t before = word_at(w, at), other = pick_value(w, at);

	while (clock_ns(CLOCK_MONOTONIC) < until_ns)
		for (int i = 0; i < 1000; i++, w->writes++)
			atomic_store_explicit(word, (i & 1) != 0 ? before : other,
					      memory_order_relaxed);
}

static void scatter(struct writer *w, const struct target *target, uint64_t pause_ns,
		    uint64_t until_ns)
{
	const struct timespec nap = {.tv_nsec = (long)pause_ns};

	do {
		uint64_t at = target->from + below(target->len);

		store(w, at, pick_value(w, at));
		if (pause_ns > 0)
			nanosleep(&nap, NULL);
	} while (clock_ns(CLOCK_MONOTONIC) < until_ns);
}

/* What was there: else there would soon be no rule left, and nobody would get anywhere. */
static void restore(struct writer *w)
{
	memcpy(w->base, &w->hdr, sizeof(w->hdr));
	if (below(2) == 0)
		return;
	memcpy(w->base + offset_of(w, w->view->bank), w->bank, sizeof(w->bank));
	atomic_store_explicit(
		(_Atomic uint64_t *)(void *)(w->base + offset_of(w, &w->view->live->generation)),
		w->live.generation, memory_order_relaxed);
	if (below(4) == 0)
		memcpy(w->base + offset_of(w, w->view->fleet), (const void *)&w->fleet, 128);
}

static void phase(struct writer *w)
{
	struct target target = pick_target(w);
	uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + 1000000 + below(10000000);

	if (below(3) == 0)
		flip(w, target.from + below(target.len), until_ns);
	else
		scatter(w, &target, below(2) == 0 ? 0 : below(1000000), until_ns);
	restore(w);
	w->phases++;
}

static int write_all_over(const char *path, uint64_t until_ns)
{
	const struct timespec nap = {.tv_nsec = 2000000};
	static struct writer w;
	struct rl_seg seg;
	char why[RL_WHY_MAX];

	if (rl_segment_attach(path, &seg, why) != 0) {
		fprintf(stderr, "%s: %s\n", path, why);
		return 1;
	}
	w.view = &seg.view;
	w.size = seg.view.size;
	w.base = (char *)seg.live - sizeof(struct rl_hdr);
	memcpy(&w.hdr, w.base, sizeof(w.hdr));
	memcpy((void *)&w.live, (const void *)seg.live, sizeof(w.live));
	memcpy((void *)w.bank, (const void *)seg.bank, sizeof(w.bank));
	memcpy((void *)&w.fleet, (const void *)seg.fleet, sizeof(w.fleet));
	while (clock_ns(CLOCK_MONOTONIC) < until_ns) {
		phase(&w);
		nanosleep(&nap, NULL);
	}
	memcpy(w.base, &w.hdr, sizeof(w.hdr));
	printf("writer: %" PRIu64 " writes in %" PRIu64 " phases\n", w.writes, w.phases);
	rl_segment_detach(&seg);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t until_ns;

	if (argc != 5 || (strcmp(argv[1], "work") != 0 && strcmp(argv[1], "write") != 0)) {
		fputs("usage: hostile work|write SEGMENT SECONDS SEED\n", stderr);
		return 2;
	}
	seed = strtoull(argv[4], NULL, 10) | 1;
	until_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(strtod(argv[3], NULL) * 1e9);
	alarm((unsigned)strtod(argv[3], NULL) + 20); /* a call that does not end: SIGALRM */
	return argv[1][1] == 'o' ? work(argv[2], until_ns) : write_all_over(argv[2], until_ns);
}
