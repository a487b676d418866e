#include "agent/memory/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/memory/inner.h"

#define BYTES_PER_KEY 256u /* of max_bytes: so many lists */
#define BUCKETS_MIN   1024u
#define COIN_STEP     40503u /* 2^16 by the golden ratio */
#define COIN_ITEM     2531u

struct memory *memory_new(uint64_t max_bytes)
{
	struct memory *memory = calloc(1, sizeof(*memory));

	if (memory == NULL)
		return NULL;
	memory->max_bytes = max_bytes;
	memory->bucket_count = BUCKETS_MIN;
	while (memory->bucket_count < max_bytes / BYTES_PER_KEY)
		memory->bucket_count *= 2;
	memory->bucket = calloc(memory->bucket_count, sizeof(struct memory_key *));
	if (memory->bucket != NULL && getrandom(memory->hash_key, sizeof(memory->hash_key),
						GRND_NONBLOCK) == (ssize_t)sizeof(memory->hash_key))
		return memory;
	memory_free(memory);
	return NULL;
}

void memory_flush(struct memory *memory)
{
	memory_keys_free(memory);
	memory_parts_sweep(memory, HUGE_VAL);
	memory_totals_free(memory);
}

void memory_free(struct memory *memory)
{
	if (memory == NULL)
		return;
	if (memory->bucket != NULL)
		memory_flush(memory);
	free(memory->control);
	free(memory->bucket);
	free(memory);
}

void memory_use(const struct memory *memory, struct memory_use *ret)
{
	*ret = (struct memory_use){memory->keys, memory->rows, memory->bytes, memory->max_bytes,
				   memory->refused};
}

/* Who calls, and in which partition. */
struct caller {
	struct memory_part *part;
	struct memory_row *row;
	struct memory_host *host;
	double now_ms, clock_ms;
};

/*
 * The time of the partition never goes back: groups wait for the clock instead of leaving early.
 * One that is further behind than that was ahead and has been set right: that is believed.
 */
static double time_of(const struct memory_part *part, const struct memory_batch *batch,
		      double clock_ms)
{
	double now_ms = batch->now_ms != 0 ? (double)batch->now_ms : clock_ms;
	bool is_behind = part != NULL && part->has_now && part->now_ms > now_ms &&
			 part->now_ms < now_ms + MEMORY_STEP_MS;

	return is_behind ? part->now_ms : now_ms;
}

/* Who else uses this host id: they are called last in turns. A row of before a reboot calls never
 * again, so the new one is not taken for a second host. */
static void find_other(struct memory *memory, const struct caller *caller, struct memory_reply *ret)
{
	const struct memory_host *host = caller->host;
	const struct memory_row *row = caller->row;

	ret->other = memory->other;
	if (host == NULL || host->row_len == 0 || row == NULL || !row->has_batch ||
	    memory_same((struct memory_text){row->name, row->name_len}, host->row, host->row_len))
		return;
	memcpy(memory->other, host->words, host->words_len);
	ret->other_len = host->words_len;
}

/* A copied segment: one row for two hosts, told apart by their words alone. */
static void find_clone(struct memory *memory, const struct caller *caller,
		       const struct memory_batch *batch, struct memory_reply *ret)
{
	const struct memory_host *host = caller->host;

	if (host == NULL || host->row_len == 0 || ret->other_len > 0 ||
	    memory_same(batch->call->words, host->words, host->words_len))
		return;
	memcpy(memory->other, host->words, host->words_len);
	ret->other_len = host->words_len;
}

/* A batch that was there before: nothing is changed. False: it is a new one. */
static bool is_over(struct memory *memory, const struct caller *caller,
		    const struct memory_batch *batch, struct memory_reply *ret)
{
	struct memory_row *row = caller->row;

	if (row == NULL || !row->has_batch || batch->header.seq > row->seq)
		return false;
	if (batch->header.seq < row->seq) {
		ret->status = SYNC_OLD;
	} else if (batch->header.nonce != row->nonce) {
		ret->status = SYNC_CLASH;
		find_clone(memory, caller, batch, ret);
	} else {
		ret->status = SYNC_DUPLICATE;
		memory_row_seen(caller->part, row, caller->now_ms);
		ret->answers = row->answers;
		ret->answers_len = row->answers_len;
	}
	ret->live = memory_rows_since(caller->part, caller->now_ms - batch->header.lease_ms);
	return true;
}

/* What the caller has been answered is not here: nothing is changed, it is told what is. */
static bool is_missing(struct memory *memory, const struct caller *caller,
		       const struct memory_batch *batch, struct memory_reply *ret)
{
	const struct memory_row *row = caller->row;
	uint64_t known = row != NULL && row->has_batch ? row->seq : 0;

	if ((batch->header.flags & SYNC_CHAINED) == 0 || batch->header.seq == known + 1)
		return false;
	sync_answer_write(&(struct sync_answer){.tag = known}, memory->missing);
	ret->status = SYNC_MISSING;
	ret->answers = memory->missing;
	ret->answers_len = SYNC_ANSWER_SIZE;
	if (caller->part != NULL)
		ret->live =
			memory_rows_since(caller->part, caller->now_ms - batch->header.lease_ms);
	return true;
}

static bool reserve_item(struct memory *memory, struct memory_batch *batch, uint32_t i,
			 double clock_ms)
{
	uint32_t pieces = batch->piece_count[i], groups = (pieces > 0 ? pieces : 1) + 1;

	if ((batch->header.flags & SYNC_TOTALS) != 0 && !memory_total_reserve(memory, batch->id[i]))
		return false;
	batch->key[i] = memory_key_reserve(memory, batch->call->item[i].name, batch->id[i], groups,
					   clock_ms);
	return batch->key[i] != NULL;
}

static void drop_empty(struct memory *memory, struct memory_batch *batch, uint32_t items)
{
	for (uint32_t i = 0; i < items; i++)
		memory_key_drop_empty(memory, batch->key[i]);
}

/*
 * All that the call may need, before it changes anything: from here on it cannot fail. A row that
 * was made for a call which is then refused has never been seen: nobody counts it.
 */
static bool reserve(struct memory *memory, struct caller *caller, struct memory_batch *batch)
{
	uint32_t done = 0;

	caller->part = memory_part_of(memory, batch->call->part, true);
	if (caller->part == NULL)
		return false;
	caller->host = memory_host_of(memory, caller->part, batch->call->host, true);
	caller->row = memory_row_of(memory, caller->part, batch->call->row, true);
	if (caller->host == NULL || caller->row == NULL ||
	    !memory_row_reserve(memory, caller->row, batch->items * SYNC_ANSWER_SIZE))
		return false;
	while (done < batch->items && reserve_item(memory, batch, done, caller->clock_ms))
		done++;
	if (done == batch->items)
		return true;
	drop_empty(memory, batch, done);
	return false;
}

/* Fractions are rounded at random, by the golden ratio: alike for the same batch. */
static double coin_of(uint64_t seq, uint32_t i)
{
	return (double)((seq % 65536 * COIN_STEP + (i + 1) * COIN_ITEM) % 65536) / 65536;
}

static void apply_item(struct memory *memory, const struct caller *caller,
		       struct memory_batch *batch, uint32_t i, double live)
{
	const struct sync_item *item = &batch->item[i];
	struct memory_work work = {
		.key = batch->key[i],
		.part = caller->part,
		.item = item,
		.row = caller->row->id,
		.now_ms = caller->now_ms,
		.lease_ms = batch->header.lease_ms,
		.live = live,
		.coin = coin_of(batch->header.seq, i),
		.L = item->limit,
		.W = (double)item->window_ms,
		.begin_ms =
			caller->now_ms - fmin((double)item->window_ms, (double)batch->forget_ms[i]),
		.T = item->interval_ms,
	};

	memory_item(&work, batch->pieces[i], batch->piece_count[i], caller->clock_ms,
		    caller->row->answers + (size_t)i * SYNC_ANSWER_SIZE);
	if ((batch->header.flags & SYNC_TOTALS) != 0 && item->used > 0)
		memory_total_add(memory, batch->id[i], item->used);
}

static void note_caller(const struct caller *caller, const struct memory_batch *batch)
{
	struct memory_row *row = caller->row;
	struct memory_host *host = caller->host;

	row->seq = batch->header.seq;
	row->nonce = batch->header.nonce;
	row->has_batch = (double)row->seq < MEMORY_EXACT;
	row->answers_len = batch->items * SYNC_ANSWER_SIZE;
	memcpy(host->row, row->name, row->name_len);
	host->row_len = row->name_len;
	memcpy(host->words, batch->call->words.at, batch->call->words.len);
	host->words_len = (uint16_t)batch->call->words.len;
	caller->part->now_ms = caller->now_ms;
	caller->part->has_now = true;
}

/* What is known of a partition outlives its keys, and its rows, which are removed after a day. */
static void keep_part(const struct caller *caller, const struct memory_batch *batch)
{
	double ends_ms = caller->clock_ms + MEMORY_KEEP_MS;

	for (uint32_t i = 0; i < batch->items; i++)
		ends_ms =
			fmax(ends_ms, memory_key_ends_ms((double)batch->item[i].window_ms,
							 batch->header.lease_ms, caller->clock_ms));
	caller->part->ends_ms = fmax(caller->part->ends_ms, ends_ms);
}

/* How many are live is not asked with each call, nor said. A clock may be set back. */
static long long count_live(const struct caller *caller, const struct memory_batch *batch)
{
	struct memory_row *row = caller->row;

	if (row->has_batch && caller->now_ms >= row->noted_ms &&
	    caller->now_ms - row->noted_ms < MEMORY_SEEN_MS)
		return row->live;
	memory_row_seen(caller->part, row, caller->now_ms);
	row->noted_ms = caller->now_ms;
	row->live = memory_rows_since(caller->part, caller->now_ms - batch->header.lease_ms);
	return row->live;
}

static void apply(struct memory *memory, const struct caller *caller, struct memory_batch *batch,
		  struct memory_reply *ret)
{
	ret->live = count_live(caller, batch);
	for (uint32_t i = 0; i < batch->items; i++)
		apply_item(memory, caller, batch, i, (double)ret->live);
	drop_empty(memory, batch, batch->items);
	keep_part(caller, batch);
	note_caller(caller, batch);
	if (batch->header.seq % MEMORY_FORGET_SEQ == 0)
		memory_rows_forget(memory, caller->part, caller->now_ms);
	ret->status = SYNC_APPLIED;
	ret->answers = caller->row->answers;
	ret->answers_len = caller->row->answers_len;
}

void memory_sync(struct memory *memory, double clock_ms, const struct memory_call *call,
		 struct memory_reply *ret)
{
	static const unsigned char none[1];
	static struct memory_batch batch; /* too large for a stack; one thread at a time */
	struct caller caller = {.clock_ms = clock_ms};

	*ret = (struct memory_reply){.answers = none};
	ret->error = memory_read(memory, call, &batch);
	if (ret->error != NULL)
		return;
	caller.part = memory_part_of(memory, call->part, false);
	if (caller.part != NULL) {
		caller.row = memory_row_of(memory, caller.part, call->row, false);
		caller.host = memory_host_of(memory, caller.part, call->host, false);
	}
	caller.now_ms = time_of(caller.part, &batch, clock_ms);
	ret->now_ms = (long long)caller.now_ms;
	find_other(memory, &caller, ret);
	if (is_over(memory, &caller, &batch, ret) || is_missing(memory, &caller, &batch, ret))
		return;
	if (reserve(memory, &caller, &batch)) {
		apply(memory, &caller, &batch, ret);
		return;
	}
	memory->refused++;
	ret->error = "OOM rl_sync: the counts in memory take all that they may";
}
