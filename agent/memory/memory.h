/*
 * memory.h - what rl_sync.lua keeps in Redis, kept in this process: the counts of a fleet whose
 * hosts are all on one machine.
 *
 * Rooms:  agent/memory/, tests/. Pure: no clock, no I/O, no log; one thread at a time.
 *
 * memory_sync() is told what the script is told, and answers what the script answers, byte for
 * byte (tests/sys/test_memory.py has them side by side). The promise is the same: a lease
 * is given only while
 *
 *	units in the window + credit that any host holds or may still receive  <=  L
 *
 * What is stored is bounded: at max_bytes whatever is new is refused, as by a Redis with
 * noeviction, and nothing is changed by a call that is refused. What had its time to live
 * (2 W + the time after which a silent host's leases are charged + 5 s, from when it was last
 * written) reads as absent, and memory_sweep() frees it.
 */
#ifndef AGENT_MEMORY_H
#define AGENT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define MEMORY_NAME_MAX   256u /* bytes of a key's name */
#define MEMORY_HOST_MAX   64u
#define MEMORY_ROW_MAX    96u
#define MEMORY_WORDS_MAX  256u
#define MEMORY_SWEEP_MOST 4096u /* buckets in one call of memory_sweep(): some 0.1 ms */

struct memory;

struct memory_text {
	const char *at;
	size_t len;
};

struct memory_entry {
	struct memory_text name;  /* of the key, without the partition's */
	struct memory_text bytes; /* an ITEM of the script, and PIECEs */
};

/* One call; what each is stands at the head of rl_sync.lua. */
struct memory_call {
	struct memory_text part; /* its name: of the fleet, and a number */
	struct memory_text host, row, words, header;
	uint32_t count;
	const struct memory_entry *item;
};

/* error NULL: the script's five answers. All that is pointed to lives until the next call. */
struct memory_reply {
	const char *error; /* what the script would answer with, its code first */
	long long status;
	long long now_ms;
	long long live;
	const char *other;
	size_t other_len;
	const unsigned char *answers;
	size_t answers_len;
};

struct memory_use {
	uint64_t keys, rows, bytes, max_bytes;
	uint64_t refused; /* calls, for want of room */
};

/* NULL: no memory, or no random numbers. max_bytes holds for all there will ever be. */
struct memory *memory_new(uint64_t max_bytes);

/* NULL is fine. */
void memory_free(struct memory *memory);

/*
 * One call. clock_ms is the time by which keys end, and that of a call whose header has none; it
 * never goes back.
 */
void memory_sync(struct memory *memory, double clock_ms, const struct memory_call *call,
		 struct memory_reply *ret);

/*
 * What the whole fleet is told, as rl_control.lua has it: request and answer are those of
 * agent/store/control.h, the answer in ret->answers. call has the partition and who calls.
 */
void memory_control(struct memory *memory, double clock_ms, const struct memory_call *call,
		    struct memory_text request, struct memory_reply *ret);

/* Units ever reported of a key in calls with SYNC_TOTALS; they never end. For tests. */
uint64_t memory_total(const struct memory *memory, struct memory_text part,
		      struct memory_text name);

/* Free what has ended, in the next MEMORY_SWEEP_MOST buckets. */
void memory_sweep(struct memory *memory, double clock_ms);

/* As FLUSHALL. */
void memory_flush(struct memory *memory);

void memory_use(const struct memory *memory, struct memory_use *ret);

#endif
