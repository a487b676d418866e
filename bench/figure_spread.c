/*
 * Question: what does a check cost when the keys are many and none is in a cache, over the least
 *           that any such check must cost?
 *
 * spread: rl_check() through librl.so.1, as in figure_hit, of keys drawn uniformly from 1,000 to
 *         16 million that all have their slots, in a table that is made for as many.
 * floor:  the same SipHash over the same bytes, the same clock, and a CAS in each of as many
 *         cache lines as a check touches, in the same segment: at a slot that the hash says, its
 *         head's line and those of its ring; for as many calls as there are keys out of their
 *         home slot, also tags and the head of another slot. The CAS writes what it read, so the
 *         table stays as it is.
 * loads:  as floor, but with one CAS, at the head; the other lines are only read, so that a
 *         processor may fetch all of them at the same time. No check can do that (the ring's line
 *         follows from the head): shown, not judged by.
 *
 * The lines of a check are counted key by key, by where rl_table_find() and rl_window_try() look.
 * Those that all checks share (rules, heartbeat, statistics) stay in a cache and do not count.
 * Keys stand in an array in the order they are asked for: a server has them in its cache. Between
 * two uses of a key there are 500,000 others, which is 100 MB of lines.
 *
 * Short rounds of checks and floors in turn, by the processor time they take; medians. The
 * figures without a size are those of a million keys.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "client/rl.h"
#include "shm/rl_clock.h"
#include "shm/rl_hash.h"
#include "shm/rl_table.h"
#include "shm/rl_tags.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define MOST_OVER_FLOOR 1.8 /* more is exit status 1 */
#define BUSY            1.5 /* time over processor time */

enum {
	CALLS = 25000, /* of a round */
	BATCHES = 20,  /* of that many calls are drawn */
	ROUNDS_MAX = 60,
	LINE_CELLS = 8, /* stamps in a cache line */
	CLAIMED_AT_ONCE = 64,
	MILLION = 1000000,
};

struct size {
	const char *name; /* as the figures of a million have none */
	uint32_t keys, rounds;
};

static const struct size sizes[] = {
	{"_1k", 1000, 60},
	{"_100k", 100000, 60},
	{"", MILLION, 60},
	{"_16m", 16000000, 30},
};

/* One call: the key's text, and the lines of each kind that a check of it touches. */
struct ask {
	char text[16];
	uint8_t len, ring_lines, tag_lines, other_heads;
};

struct run {
	struct rl_client *client;
	const struct rl_seg *seg;
	uint64_t rule;
};

struct costs {
	double check[ROUNDS_MAX], floor[ROUNDS_MAX], loads[ROUNDS_MAX];
	double over_floor[ROUNDS_MAX], over_loads[ROUNDS_MAX];
	uint64_t floor_lines;
};

static struct ask asks[BATCHES * CALLS];

static void write_key(struct ask *a, uint32_t number)
{
	a->len = (uint8_t)snprintf(a->text, sizeof(a->text), "10.%u.%u.%u", number >> 16 & 255,
				   number >> 8 & 255, number & 255);
}

static uint32_t draw(uint64_t *seed, uint32_t bound)
{
	return (uint32_t)((bench_random(seed) >> 32) * bound >> 32);
}

static inline struct rl_id id_of(const struct run *run, const struct ask *a)
{
	return rl_hash_key(run->seg->view.hash_key, (uint32_t)(run->rule >> 32), a->text, a->len);
}

/* Lines of the ring that hold the next event's group, the one before and the oldest's. */
static uint8_t ring_lines(const struct rl_slot *slot, uint64_t head)
{
	uint32_t q = rl_shape_q(atomic_load_explicit(&slot->shape, memory_order_relaxed));
	uint64_t group = rl_head_n(head) / q, line = group % RL_RING / LINE_CELLS;

	return (uint8_t)(1 + ((group - 1) % RL_RING / LINE_CELLS != line ||
			      (group + 1) % RL_RING / LINE_CELLS != line));
}

static void count_lines(const struct run *run, struct ask *a)
{
	const struct rl_view *view = &run->seg->view;
	struct rl_id id = id_of(run, a);
	uint64_t bucket[RL_CHOICES], head, index = rl_table_find(view, &id, &head);

	if (index == RL_NO_SLOT)
		bench_die("a key has no slot");
	rl_tag_buckets(&id, &view->newest, bucket);
	a->ring_lines = ring_lines(&view->slot[index], head);
	a->other_heads = index != bucket[0] * RL_LANES + rl_tag_home(&id);
	a->tag_lines = 0;
	for (uint32_t b = 0; a->other_heads != 0 && b < RL_CHOICES; b++) {
		a->tag_lines++;
		if (bucket[b] == index / RL_LANES)
			break;
	}
}

static double lines_of(const struct ask *a)
{
	return 1 + a->ring_lines + a->tag_lines + a->other_heads;
}

static void draw_asks(const struct run *run, uint32_t keys)
{
	uint64_t seed = 20261122;

	for (uint32_t i = 0; i < BATCHES * CALLS; i++) {
		write_key(&asks[i], draw(&seed, keys));
		count_lines(run, &asks[i]);
	}
}

/* Of this thread: others may want the processor as well. */
static uint64_t spent_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double time_checks(const struct run *run, const struct ask *ask)
{
	uint64_t start = spent_ns(), other = 0;
	struct rl_result result;

	for (uint32_t i = 0; i < CALLS; i++)
		other += rl_check(run->client, run->rule, ask[i].text, ask[i].len, 1, 0, &result) !=
			 RL_ALLOWED;
	if (other != 0)
		bench_die("a check was not admitted");
	return (double)(spent_ns() - start) / CALLS;
}

/* What is read, and with cas written again. */
static inline uint64_t touch(_Atomic uint64_t *word, bool cas)
{
	/* Relaxed: for the line, not for what is in it; nobody else is here. */
	uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);

	if (cas && !atomic_compare_exchange_strong_explicit(word, &seen, seen, memory_order_release,
							    memory_order_relaxed))
		bench_die("a CAS failed with nobody else there");
	return seen;
}

/* The lines of one call, at places that the hash says; its first bucket's tags, then others'. */
static inline uint64_t touch_lines(const struct rl_seg *seg, const struct rl_id *id,
				   const struct ask *a, bool cas)
{
	uint64_t count = seg->view.bucket_count, bucket = rl_tag_bucket(id, &seg->view.newest),
		 sum = 0;
	struct rl_slot *slot = &seg->slot[bucket * RL_LANES + rl_tag_home(id)];
	struct rl_slot *other = &seg->slot[bucket * RL_LANES + (id->word[1] >> 59)];
	uint32_t cell = (uint32_t)(id->word[1] >> 58) % 2 * LINE_CELLS;

	for (uint32_t r = 0; r < a->ring_lines; r++)
		sum += touch(&slot->ring[cell + r * LINE_CELLS], cas);
	for (uint32_t t = 0; t < a->tag_lines; t++) {
		sum += touch(&seg->tags[bucket].word[0], cas);
		bucket = ((id->word[t % 2] & UINT64_C(0xffffffff)) * count) >> 32;
	}
	if (a->other_heads != 0)
		sum += touch(&other->head, cas);
	return sum + touch(&slot->head, true);
}

/* Inlined twice: no branch of one is in the other. */
static inline __attribute__((always_inline)) double floor_of(const struct run *run,
							     const struct ask *ask, bool cas)
{
	uint64_t start = spent_ns(), sum = 0;

	for (uint32_t i = 0; i < CALLS; i++) {
		struct rl_id id = id_of(run, &ask[i]);

		sum += rl_clock_now_ns(true);
		sum += touch_lines(run->seg, &id, &ask[i], cas);
	}
	if (sum == 0)
		bench_die("nothing was read");
	return (double)(spent_ns() - start) / CALLS;
}

static double time_floor(const struct run *run, const struct ask *ask)
{
	return floor_of(run, ask, true);
}

static double time_loads(const struct run *run, const struct ask *ask)
{
	return floor_of(run, ask, false);
}

/* Every second key from first on, in batches that fetch ahead; false when one found no slot. */
static bool claim_half(const struct run *run, uint32_t first, uint32_t keys)
{
	static struct ask key[CLAIMED_AT_ONCE];
	static struct rl_ask ask[CLAIMED_AT_ONCE];

	for (uint32_t k = first; k < keys;) {
		uint32_t count = 0;

		for (; count < CLAIMED_AT_ONCE && k < keys; count++, k += 2) {
			write_key(&key[count], k);
			ask[count] = (struct rl_ask){.rule = run->rule,
						     .key = key[count].text,
						     .key_len = key[count].len,
						     .cost = 1};
		}
		rl_check_batch(run->client, ask, count);
		for (uint32_t i = 0; i < count; i++)
			if (ask[i].answer != RL_ALLOWED)
				return false;
	}
	return true;
}

/* A slot for every key. By two processes: for 16 million one needs long. */
static void claim_all(const struct run *run, uint32_t keys)
{
	int status, bad = 0;

	fflush(stdout);
	for (uint32_t first = 0; first < 2; first++)
		if (fork() == 0)
			_exit(claim_half(run, first, keys) ? 0 : 1);
	while (wait(&status) > 0)
		bad += status != 0;
	if (bad != 0)
		bench_die("a key found no slot");
}

/* Each round has batches of its own: what one has touched is no longer in a cache for another. */
static void compare(const struct run *run, uint32_t rounds, struct costs *ret)
{
	ret->floor_lines = 0;
	for (uint32_t r = 0; r < rounds; r++) {
		const struct ask *batch[3];

		for (uint32_t i = 0; i < 3; i++)
			batch[i] = asks + (3 * r + i) % BATCHES * CALLS;
		ret->check[r] = time_checks(run, batch[0]);
		ret->floor[r] = time_floor(run, batch[1]);
		ret->loads[r] = time_loads(run, batch[2]);
		ret->over_floor[r] = ret->check[r] / ret->floor[r];
		ret->over_loads[r] = ret->check[r] / ret->loads[r];
	}
}

static void print_one(const char *name, const struct size *size, double value, const char *unit)
{
	char full[64];

	snprintf(full, sizeof(full), "spread%s_%s", size->name, name);
	bench_figure(full, value, unit);
}

/* Batches are used equally often, or nearly: the lines of all of them stand for each. */
static void print_lines(const struct size *size)
{
	double lines = 0, home = 0;

	for (uint32_t i = 0; i < BATCHES * CALLS; i++) {
		lines += lines_of(&asks[i]);
		home += asks[i].other_heads == 0;
	}
	print_one("home_percent", size, home * 100 / (BATCHES * CALLS), "percent");
	print_one("lines", size, lines / (BATCHES * CALLS), "lines");
	print_one("floor_lines", size, lines / (BATCHES * CALLS), "lines");
}

static double print_costs(const struct size *size, struct costs *costs)
{
	double over_floor = bench_median(costs->over_floor, size->rounds);

	print_lines(size);
	print_one("ns", size, bench_median(costs->check, size->rounds), "ns");
	print_one("floor_ns", size, bench_median(costs->floor, size->rounds), "ns");
	print_one("loads_ns", size, bench_median(costs->loads, size->rounds), "ns");
	print_one("over_loads", size, bench_median(costs->over_loads, size->rounds), "x");
	print_one("over_floor", size, over_floor, "x");
	return over_floor;
}

/* 16 million keys are 6.3 GB, on a tmpfs that may not have them, nor the memory behind it. */
static bool has_room(const struct size *size)
{
	uint64_t need = (uint64_t)size->keys * 400, have = 0;
	struct statvfs fs;

	if (statvfs("/dev/shm", &fs) == 0)
		have = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (have > bench_memory_bytes())
		have = bench_memory_bytes();
	if (have >= need + need / 4)
		return true;
	printf("left out: %u keys need %llu MB of /dev/shm and memory, a quarter to spare; there "
	       "are %llu\n",
	       size->keys, (unsigned long long)(need >> 20), (unsigned long long)(have >> 20));
	return false;
}

static double measure(const struct size *size)
{
	static const char *const rules[] = {"minute 1000000000/60s", "other 1000000000/60s"};
	static struct costs costs;
	char why[RL_WHY_SIZE];
	struct bench_seg bench;
	struct run run;

	bench_seg_make(&bench, size->keys);
	bench_rules(&bench.seg, 2, rules);
	run = (struct run){.seg = &bench.seg, .rule = bench_rule(&bench.seg.view, "minute")};
	if (rl_attach(bench.path, &run.client, why) != 0)
		bench_die(why);
	claim_all(&run, size->keys);
	draw_asks(&run, size->keys);
	compare(&run, size->rounds, &costs);
	rl_detach(run.client);
	bench_seg_drop(&bench);
	return print_costs(size, &costs);
}

/* Of this process and those it has waited for, seconds. */
static double processor_s(void)
{
	double sum = 0;

	for (int who = 0; who < 2; who++) {
		struct rusage used;

		if (getrusage(who == 0 ? RUSAGE_SELF : RUSAGE_CHILDREN, &used) != 0)
			bench_die("getrusage");
		sum += (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	}
	return sum;
}

/* The large one takes half a minute of two processors: not where others want them. */
static bool has_time(const struct size *size, uint64_t start_ns)
{
	double took_s = (double)(bench_now_ns() - start_ns) / 1e9, used_s = processor_s();

	if (size->keys <= MILLION || took_s < BUSY * used_s)
		return true;
	printf("left out: %u keys; what came before had a processor for %.1f of %.1f s: this "
	       "machine is busy\n",
	       size->keys, used_s, took_s);
	return false;
}

int main(void)
{
	uint64_t start_ns = bench_now_ns();
	double over_floor = 0;

	bench_machine();
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		if (has_room(&sizes[s]) && has_time(&sizes[s], start_ns)) {
			double ratio = measure(&sizes[s]);

			over_floor = sizes[s].keys == MILLION ? ratio : over_floor;
			fflush(stdout);
		}
	return over_floor > MOST_OVER_FLOOR;
}
