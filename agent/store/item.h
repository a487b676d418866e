/*
 * item.h - one key in one call, and the bytes of a call and of its answer.
 *
 * Rooms:  agent/store/, agent/sync/, agent/memory/. Pure; rl_sync.lua has the other side of every
 *         format.
 */
#ifndef AGENT_STORE_ITEM_H
#define AGENT_STORE_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYNC_BATCH_MAX   64u /* keys in a call: keeps Redis from being held up for over 1 ms */
#define SYNC_HEADER_SIZE 32u
#define SYNC_ITEM_SIZE   64u
#define SYNC_ANSWER_SIZE 32u
#define SYNC_PIECES_MAX  24u /* behind an item: RL_RING */
#define SYNC_PIECE_SIZE  16u
#define SYNC_ITEM_MOST   (SYNC_ITEM_SIZE + (SYNC_PIECES_MAX + 1) * SYNC_PIECE_SIZE)

#define SYNC_PUSH_ONLY 1u /* item flag: take what was used, grant nothing */
#define SYNC_REPORT    2u /* item flag: nothing is lent; say when what is counted leaves */
#define SYNC_FORGET    4u /* item flag: its last piece says since when units count */
#define SYNC_PIECES_AT 8  /* in an item's flags from this bit on: how many pieces are behind it */
#define SYNC_TOTALS    1u /* header flag: keep never-expiring totals, for tests */
#define SYNC_PIECES    2u /* header flag: some items have pieces */
#define SYNC_CHAINED   4u /* header flag: the call before this one was answered */

#define SYNC_BLIND     1u /* answer flag: the grant is not recorded as a lease */
#define SYNC_EXHAUSTED 2u /* answer flag: asking again is useless until retry_ms */

#define SYNC_APPLIED   0
#define SYNC_DUPLICATE 1
#define SYNC_MISSING \
	2 /* SYNC_CHAINED, and the call before is not known: nothing is done. The answer is one \
	   * whose tag is the number of the last call that is known, or 0 */
#define SYNC_OLD   (-1) /* another host with this identity is ahead of us */
#define SYNC_CLASH (-2) /* another host with this identity sent this number */

struct sync_header {
	uint64_t seq;   /* below 2^53 */
	uint64_t nonce; /* any bits */
	uint32_t lease_ms;
	uint32_t flags;
};

struct sync_item {
	uint32_t limit;
	uint64_t window_ms;
	uint32_t interval_ms;
	uint32_t blind;   /* the host's blind share; all up to here is often the rule's */
	uint64_t tag;     /* below 2^53: the slot's index, comes back with the answer */
	uint64_t used;    /* units admitted since the last acknowledged call */
	uint64_t age_ms;  /* since the last of them; never too old */
	uint32_t credit;  /* units still held */
	uint64_t demand;  /* units requested since the last call, admitted or not */
	uint32_t waiting; /* units asked for by callers without credit */
	uint32_t flags;
};

/* Units of an item that were admitted at about one time: for one that spans an outage. */
struct sync_piece {
	uint64_t units;
	uint64_t age_ms; /* since the last of them; never too old */
};

struct sync_answer {
	uint64_t tag;
	uint32_t grant;
	uint32_t flags;
	uint32_t retry_ms;   /* of SYNC_REPORT: until the first units of count leave */
	uint32_t count;      /* units in the fleet's window */
	uint32_t others_out; /* units of credit the other hosts hold */
	uint32_t ends_ms;    /* of SYNC_REPORT: until all units of count have left; else 0 */
};

void sync_header_write(const struct sync_header *header, unsigned char out[SYNC_HEADER_SIZE]);
void sync_item_write(const struct sync_item *item, unsigned char out[SYNC_ITEM_SIZE]);
void sync_piece_write(const struct sync_piece *piece, unsigned char out[SYNC_PIECE_SIZE]);
void sync_answer_read(const unsigned char in[SYNC_ANSWER_SIZE], struct sync_answer *ret);

/* The script's side of the same bytes, for who does its work (agent/memory). */
void sync_header_read(const unsigned char in[SYNC_HEADER_SIZE], struct sync_header *ret,
		      uint64_t *ret_now_ms);
void sync_item_read(const unsigned char in[SYNC_ITEM_SIZE], struct sync_item *ret);
void sync_piece_read(const unsigned char in[SYNC_PIECE_SIZE], struct sync_piece *ret);
void sync_answer_write(const struct sync_answer *answer, unsigned char out[SYNC_ANSWER_SIZE]);

#endif
