/*
 * inner.h - how the counts lie in memory, and what the files of this room know of each other.
 * For these files only.
 *
 * In Redis a key is a string, here it is a struct; what the numbers mean, and where they are
 * rounded, is as rl_sync.lua has it: demands and two of the times are floats, as they are there,
 * so that both lend alike to the last unit.
 */
#ifndef MEMORY_INNER_H
#define MEMORY_INNER_H

#include <stdbool.h>
#include <sys/queue.h>

#include "agent/memory/memory.h"
#include "agent/store/control.h"
#include "agent/store/item.h"

#define MEMORY_GROUPS      32u        /* of a key: K in the script */
#define MEMORY_TICKS       16.0       /* of a millisecond */
#define MEMORY_LOOK_MS     1000.0     /* at most one look at all leases of a key in each of these */
#define MEMORY_TOUCH_MS    5000.0     /* leases are written again in each of these */
#define MEMORY_SEEN_MS     100.0      /* a row is noted as seen at most once in this time */
#define MEMORY_STEP_MS     2000.0     /* a clock that is set back by more is believed */
#define MEMORY_FORGET_MS   86400000.0 /* rows silent for longer are removed */
#define MEMORY_KEEP_MS     86400000.0 /* that nobody calls: a partition lives on for so long */
#define MEMORY_FORGET_SEQ  16u        /* one look for such in so many calls */
#define MEMORY_LIVE_MIN_MS 10000.0
#define MEMORY_EXACT       9007199254740992.0 /* 2^53: doubles count exactly up to here */
#define MEMORY_CLOCK_MAX   17592186044416.0   /* 2^44 ms: their ticks fit 48 bits */
#define MEMORY_PART_LISTS  64u

/* Units of about one time. */
struct memory_group {
	uint64_t ticks; /* of the last unit, not before it */
	uint32_t units; /* at UINT32_MAX the key's count alone knows how many */
};

struct memory_lease {
	uint64_t row;
	double at_ms;
	float demand;
	uint32_t held; /* credit the host holds or may still receive */
};

struct memory_key {
	struct memory_key *next;
	uint64_t id;    /* hash of the partition and the name */
	double ends_ms; /* by the clock that memory_sync() is given */
	double count;   /* units in the window */
	double out;     /* leases of all: their sum */
	double at_ms;
	float demand;
	int16_t looked; /* in which second the last look was; -1: never */
	uint16_t name_len;
	uint8_t groups, group_room;
	uint16_t leases, lease_room;
	struct memory_group *group; /* oldest first */
	struct memory_lease *lease;
	char name[];
};

/* One life of one host's segment, in one partition. */
struct memory_row {
	struct memory_row *next;
	TAILQ_ENTRY(memory_row) by_seen;
	uint64_t id;
	double seen_ms, noted_ms; /* noted: by a call that was applied, which counted live */
	long long live;
	bool has_batch; /* the three of its last batch */
	uint64_t seq, nonce;
	uint64_t report_life; /* what it goes by is of this life of the reports; 0: never told */
	char has[CONTROL_DOCUMENTS][CONTROL_TIP];
	unsigned char *answers;
	uint32_t answers_len, answers_room;
	uint16_t name_len;
	char name[MEMORY_ROW_MAX];
};

/* Who called last under a host id. */
struct memory_host {
	struct memory_host *next;
	uint64_t id;
	uint16_t name_len, row_len, words_len; /* row_len 0: nobody yet */
	char name[MEMORY_HOST_MAX], row[MEMORY_ROW_MAX], words[MEMORY_WORDS_MAX];
};

struct memory_document {
	char tip[CONTROL_TIP];
	char *text; /* NULL: there is none */
	size_t size;
};

struct memory_part {
	struct memory_part *next;
	uint64_t id;
	bool has_now;
	double now_ms;                            /* the newest time */
	double ends_ms;                           /* as of a key; none of its keys lives longer */
	TAILQ_HEAD(memory_rows, memory_row) rows; /* who was seen longest ago first */
	struct memory_document document[CONTROL_DOCUMENTS]; /* of partition 0 */
	double report_ends_ms; /* when nobody says any more what it goes by */
	uint64_t report_life;
	struct memory_row *row_list[MEMORY_PART_LISTS];
	struct memory_host *host_list[MEMORY_PART_LISTS];
	uint16_t name_len;
	char name[];
};

struct memory_total {
	struct memory_total *next;
	uint64_t id, units;
};

struct memory {
	uint64_t hash_key[2];
	uint64_t max_bytes, bytes, keys, rows, refused;
	struct memory_key **bucket;
	uint64_t bucket_count, swept; /* a power of two; the next one to be swept */
	struct memory_part *part_list[MEMORY_PART_LISTS];
	struct memory_total *total_list[MEMORY_PART_LISTS];
	unsigned char *control; /* the last answer of memory_control() */
	char error[160], other[MEMORY_WORDS_MAX];
	unsigned char missing[SYNC_ANSWER_SIZE]; /* of a reply that nothing was done for */
};

/* read.c: a call in pieces. */
struct memory_batch {
	const struct memory_call *call;
	struct sync_header header;
	uint64_t now_ms; /* of the header; 0: by the clock */
	uint32_t items;
	struct sync_item item[SYNC_BATCH_MAX];
	const unsigned char *pieces[SYNC_BATCH_MAX];
	uint32_t piece_count[SYNC_BATCH_MAX];
	uint64_t forget_ms[SYNC_BATCH_MAX]; /* what is older does not count any more */
	uint64_t id[SYNC_BATCH_MAX];
	struct memory_key *key[SYNC_BATCH_MAX];
};

/* One key of one call, as it is now. */
struct memory_work {
	struct memory_key *key;
	struct memory_part *part;
	const struct sync_item *item;
	uint64_t row;
	double now_ms, lease_ms, live; /* rows that are awake */
	double begin_ms;               /* of what counts: the window's, or later */
	double coin;

	double L, W, T;
	double count, out, demand, at_ms, touched_ms; /* touched: what is older is written again */
	int16_t looked, second;                       /* of the last look, and now */
	double ticks, units; /* of the newest group, which key->group has only in the end */
	bool stored, changed, anew;

	struct memory_lease *mine; /* NULL: it holds none */
	double own, own_at_ms, others;
};

/* --- alloc.c: memory, within max_bytes --- */

/* Zeroed; NULL: that would be too much. */
void *memory_take(struct memory *memory, size_t size);
void memory_give(struct memory *memory, void *block, size_t size);

/* A larger block with what is in the old one, which is freed; NULL: that one stays. */
void *memory_regrow(struct memory *memory, void *block, size_t old_size, size_t size);

/* Elements to make room for, so that vectors grow by doubling. */
uint32_t memory_room(uint32_t have, uint32_t want);

/* Hash of a text, or of one within another: the key of a partition. */
uint64_t memory_id(const struct memory *memory, uint64_t within, struct memory_text text);

static inline bool memory_same(struct memory_text a, const char *b, size_t b_len)
{
	return a.len == b_len && __builtin_memcmp(a.at, b, b_len) == 0;
}

/* --- read.c --- */

/* NULL, or what is wrong with it. */
const char *memory_read(struct memory *memory, const struct memory_call *call,
			struct memory_batch *ret);

/* --- rows.c --- */

struct memory_part *memory_part_of(struct memory *memory, struct memory_text name, bool make);
struct memory_row *memory_row_of(struct memory *memory, struct memory_part *part,
				 struct memory_text name, bool make);
struct memory_host *memory_host_of(struct memory *memory, struct memory_part *part,
				   struct memory_text name, bool make);

/* Room for the answers of its next batch. */
bool memory_row_reserve(struct memory *memory, struct memory_row *row, uint32_t answers_len);

void memory_row_seen(struct memory_part *part, struct memory_row *row, double now_ms);

/* Rows seen since then. */
long long memory_rows_since(const struct memory_part *part, double since_ms);

/* Has the row of this id been seen since then? */
bool memory_row_is_awake(const struct memory_part *part, uint64_t id, double since_ms);

/* Rows of hosts that are gone for good, two at a time. */
void memory_rows_forget(struct memory *memory, struct memory_part *part, double now_ms);

/* Those that have ended. */
void memory_parts_sweep(struct memory *memory, double clock_ms);

/* --- documents.c --- */

static inline bool memory_has_documents(const struct memory_part *part)
{
	return part->document[0].text != NULL || part->document[1].text != NULL;
}

void memory_documents_free(struct memory *memory, struct memory_part *part);

/* --- keys.c --- */

/*
 * The key of a name, made when there is none, with room for so many more groups and for one more
 * lease. NULL: no room. One that has ended is empty; one that stays empty is to be dropped.
 */
struct memory_key *memory_key_reserve(struct memory *memory, struct memory_text name, uint64_t id,
				      uint32_t more_groups, double clock_ms);
void memory_key_drop_empty(struct memory *memory, struct memory_key *key);

static inline bool memory_key_is_empty(const struct memory_key *key)
{
	return key->groups == 0 && key->leases == 0;
}

/* All of them. */
void memory_keys_free(struct memory *memory);

/* --- totals.c: room for a key's total; and to it --- */
bool memory_total_reserve(struct memory *memory, uint64_t id);
void memory_total_add(struct memory *memory, uint64_t id, uint64_t units);
void memory_totals_free(struct memory *memory);

/* --- window.c: the groups of a key --- */

/* What was written by a clock ahead of ours is dated now. */
void memory_window_date_back(struct memory_work *work);

/* What has left the window. */
void memory_window_expire(struct memory_work *work);

/* The tick of units that were spent so long ago; never before it. */
double memory_window_ticks(const struct memory_work *work, double age_ms);

/* Units that are the newest; and units of any time. */
void memory_window_add(struct memory_work *work, double ticks, double units);
void memory_window_put_in(struct memory_work *work, double ticks, double units);

double memory_window_ms_to_room(const struct memory_work *work);

/* ms until the first and until all units have left, not below 1. There are some. */
void memory_window_leaving(const struct memory_work *work, double *ret_first, double *ret_all);

/* The newest group into the key. */
void memory_window_store(struct memory_work *work);

/* --- lend.c: what the host may have --- */

struct memory_loan {
	double grant, held, retry_ms;
	uint32_t flags;
};

void memory_lend(struct memory_work *work, struct memory_loan *ret);

/* --- item.c: one key of one call --- */

/*
 * A key lives on for 2 W and the silence that costs a host its leases after it was last written:
 * until then a host may spend what it was lent, and that stays in the window for W. The rest is
 * because not every call writes, and as the script has it.
 */
double memory_key_ends_ms(double window_ms, double lease_ms, double clock_ms);

/* Units reported, and lent; the answer goes to out. */
void memory_item(struct memory_work *work, const unsigned char *pieces, uint32_t piece_count,
		 double clock_ms, unsigned char out[SYNC_ANSWER_SIZE]);

#endif
