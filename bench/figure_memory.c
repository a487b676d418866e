/*
 * Question: what does a key cost in memory, and how full is the table when the first one finds
 *           no slot?
 *
 * Keys of a rule (addresses, one after the other) are claimed in new segments, each with its own
 * random hash key, until one gets RL_E_FULL. Load: slots taken then, of all slots. Bytes per key:
 * the whole segment over those keys, so tags, side records, texts, rules, statistics and what is
 * never used count as well. The worst of all runs of a size; the figures without a size are those
 * of a million slots.
 *
 * turnover: in a table for 100,000 keys there are just as many; each time one goes, a new one
 * comes, 3 million times. How many found no slot.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/bench.h"
#include "shm/rl_hash.h"
#include "shm/rl_table.h"

#define LEAST_LOAD_PERCENT 90  /* less is exit status 1 */
#define MOST_BYTES_PER_KEY 384 /* likewise */

enum { TURNOVER_KEYS = 100000, TURNOVERS = 30 };

struct size {
	const char *name;
	uint64_t slots;
	int runs;
};

static const struct size sizes[] = {
	{"1k_slots", 1024, 300},  {"32k_slots", 32768, 100}, {"128k_slots", 131072, 20},
	{"1m_slots", 1048576, 6}, {"4m_slots", 4194304, 1},
};

struct worst {
	double load_percent, bytes_per_key;
};

static int claim(struct rl_seg *seg, const char *text, struct rl_id *ret_id)
{
	struct rl_claim terms = {.rule_id = 7, .q = 1, .window_ns = 1000000000};

	*ret_id = rl_hash_key(seg->view.hash_key, terms.rule_id, text, strlen(text));
	rl_key_text(text, strlen(text), &terms.text);
	return rl_table_claim(seg, ret_id, &terms);
}

static int claim_number(struct rl_seg *seg, uint64_t number, struct rl_id *ret_id)
{
	char text[32];

	snprintf(text, sizeof(text), "%u.%u.%u.%u", (unsigned)(number >> 24),
		 (unsigned)(number >> 16 & 255), (unsigned)(number >> 8 & 255),
		 (unsigned)(number & 255));
	return claim(seg, text, ret_id);
}

/* Claim until one finds no slot: how many did. */
static uint64_t fill(struct rl_seg *seg)
{
	uint64_t number = UINT64_C(10) << 24, placed = 0;
	struct rl_id id;
	int got;

	while ((got = claim_number(seg, number++, &id)) == 1)
		placed++;
	if (got != RL_E_FULL || rl_table_used(&seg->view) != placed)
		bench_die("a claim ended otherwise than by a full table");
	return placed;
}

/* What its file takes: the rest of its last chunk is not allocated (rl_extent.h). */
static double file_bytes(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		bench_die("cannot stat the segment");
	return (double)st.st_blocks * 512;
}

static struct worst measure(const struct size *size)
{
	struct worst worst = {100, 0};

	for (int run = 0; run < size->runs; run++) {
		struct bench_seg bench;
		double placed, bytes, load;

		bench_seg_make(&bench, rl_segment_keys(size->slots / RL_LANES));
		if (bench.seg.view.slot_count != size->slots)
			bench_die("not the size that was asked for");
		placed = (double)fill(&bench.seg);
		bytes = file_bytes(bench.path) / placed;
		load = placed * 100 / (double)size->slots;
		if (size->runs <= 8)
			printf("%s: %.0f keys, %.2f %% of the slots, %.1f bytes a key\n",
			       size->name, placed, load, bytes);
		worst.load_percent = load < worst.load_percent ? load : worst.load_percent;
		worst.bytes_per_key = bytes > worst.bytes_per_key ? bytes : worst.bytes_per_key;
		bench_seg_drop(&bench);
	}
	return worst;
}

static void print_size(const struct size *size, const struct worst *worst)
{
	char name[64];

	snprintf(name, sizeof(name), "load_before_pool_%s_percent", size->name);
	bench_figure(name, worst->load_percent, "percent");
	snprintf(name, sizeof(name), "bytes_per_key_%s", size->name);
	bench_figure(name, worst->bytes_per_key, "bytes");
}

static void free_slot_of(struct rl_seg *seg, const struct rl_id *id)
{
	uint64_t head, index = rl_table_find(&seg->view, id, &head);

	if (index == RL_NO_SLOT || !rl_table_free(seg, index, head))
		bench_die("a key lost its slot");
}

/* A new key, and another one for each that finds no slot: how many did not. */
static uint64_t place(struct rl_seg *seg, uint64_t *number, struct rl_id *ret_id)
{
	uint64_t refused = 0;

	while (claim_number(seg, (*number)++, ret_id) != 1)
		refused++;
	return refused;
}

/* Keys come and go in a table that holds as many as it was made for: how many were refused. */
static uint64_t turn_over(void)
{
	static struct rl_id live[TURNOVER_KEYS];
	uint64_t seed = bench_now_ns() | 1, refused = 0, number = 0;
	struct bench_seg bench;

	bench_seg_make(&bench, TURNOVER_KEYS);
	for (uint32_t i = 0; i < TURNOVER_KEYS; i++)
		refused += place(&bench.seg, &number, &live[i]);
	for (uint64_t i = 0; i < (uint64_t)TURNOVERS * TURNOVER_KEYS; i++) {
		struct rl_id *id = &live[(bench_random(&seed) >> 32) % TURNOVER_KEYS];

		free_slot_of(&bench.seg, id);
		refused += place(&bench.seg, &number, id);
	}
	bench_seg_drop(&bench);
	return refused;
}

int main(void)
{
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), MILLION = 3 };
	struct worst worst[SIZES];
	uint64_t refused;

	bench_machine();
	for (int s = 0; s < SIZES; s++)
		worst[s] = measure(&sizes[s]);
	refused = turn_over();
	for (int s = 0; s < SIZES; s++)
		if (s != MILLION)
			print_size(&sizes[s], &worst[s]);
	bench_figure("turnover_refused", (double)refused, "keys");
	bench_figure("load_before_pool_percent", worst[MILLION].load_percent, "percent");
	bench_figure("bytes_per_key", worst[MILLION].bytes_per_key, "bytes");
	return refused > 0 || worst[MILLION].load_percent < LEAST_LOAD_PERCENT ||
	       worst[MILLION].bytes_per_key > MOST_BYTES_PER_KEY;
}
