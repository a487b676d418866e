/*
 * rl_word.h - the head word of a slot: its whole state in 64 bits, changed by CAS only.
 *
 * Rooms:  shm/ only. Pure arithmetic on values; touches no memory.
 *
 *   [ n:42 | closed:1 | grant:1 | credit:20 ]
 *
 * n counts every unit of cost ever admitted through this slot, and its lives. It never goes back
 * to a number of an earlier life or shape while a process may still hold an old head (the agent's
 * re-base near 2^41 apart, which happens after 2 * 10^12 admits), so a head of those can never
 * match again: each begins 2 groups above the last number. Within one a refund lowers it by what it
 * gives back; a worker that was stopped with such a head then admits what it had judged: nothing
 * that came since was judged otherwise.
 *
 * credit is what this host may still admit of a limit that it shares with others, without
 * asking. A worker moves units from credit to n in one CAS; only the agent gives and takes
 * them. grant is turned over by the CAS that adds a grant, so that a grant whose answer is
 * seen twice is added once; workers copy it. rl_side (rl_layout.h) has the other half.
 *
 * While closed is 1 nobody may admit, grant is 0 and the credit bits say why:
 */
#ifndef RL_WORD_H
#define RL_WORD_H

#include <stdbool.h>
#include <stdint.h>

#define RL_KIND_FREE    UINT64_C(0) /* nobody's; all other words of the slot are zero */
#define RL_KIND_CLAIM   UINT64_C(1) /* a worker is filling in a new key */
#define RL_KIND_TENT    UINT64_C(2) /* filled in, waiting to become the key's only slot */
#define RL_KIND_SPOILED UINT64_C(3) /* given up by a claimant; only the agent may clean it */
#define RL_KIND_WIPE    UINT64_C(4) /* the agent is setting its words back to zero */
#define RL_KIND_REBASE  UINT64_C(5) /* the agent is rewriting it from the journal */

#define RL_HEAD_CREDIT  UINT64_C(0xfffff)
#define RL_HEAD_GRANT   (UINT64_C(1) << 20)
#define RL_HEAD_CLOSED  (UINT64_C(1) << 21)
#define RL_HEAD_N_SHIFT 22
#define RL_HEAD_LOW     ((UINT64_C(1) << RL_HEAD_N_SHIFT) - 1)

#define RL_N_FIRST  (UINT64_C(1) << 32) /* above every limit: event n - L always exists */
#define RL_N_REBASE (UINT64_C(1) << 41) /* past this the agent re-bases the slot */
#define RL_N_MAX    ((UINT64_C(1) << 42) - 1)

static inline uint64_t rl_head_open(uint64_t n)
{
	return n << RL_HEAD_N_SHIFT;
}

static inline uint64_t rl_head_closed(uint64_t n, uint64_t kind)
{
	return n << RL_HEAD_N_SHIFT | RL_HEAD_CLOSED | kind;
}

static inline uint64_t rl_head_n(uint64_t head)
{
	return head >> RL_HEAD_N_SHIFT;
}

static inline uint32_t rl_head_credit(uint64_t head)
{
	return (uint32_t)(head & RL_HEAD_CREDIT);
}

/* The same head with another credit; 0 .. RL_CREDIT_MAX. */
static inline uint64_t rl_head_with_credit(uint64_t head, uint32_t credit)
{
	return (head & ~RL_HEAD_CREDIT) | credit;
}

static inline bool rl_head_is_open(uint64_t head)
{
	return (head & RL_HEAD_CLOSED) == 0;
}

static inline bool rl_head_is(uint64_t head, uint64_t kind)
{
	return (head & RL_HEAD_LOW) == (RL_HEAD_CLOSED | kind);
}

/* The two halves of a pair of numbers: id and flags, limit and q, burst and delay. */
static inline uint64_t rl_pair(uint32_t high, uint32_t low)
{
	return (uint64_t)high << 32 | low;
}

static inline uint32_t rl_pair_high(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

static inline uint32_t rl_pair_low(uint64_t word)
{
	return (uint32_t)word;
}

/* A slot's shape: rule:32 | algorithm:5 | q:27. q is 0 unless the algorithm is 0. */
#define RL_SHAPE_Q_BITS 27

static inline uint64_t rl_shape(uint32_t rule_id, uint32_t algorithm, uint32_t q)
{
	return rl_pair(rule_id, algorithm << RL_SHAPE_Q_BITS | q);
}

static inline uint32_t rl_shape_algorithm(uint64_t shape)
{
	return rl_pair_low(shape) >> RL_SHAPE_Q_BITS;
}

/* Of a sliding window's slot; of another's more than any. */
static inline uint32_t rl_shape_q(uint64_t shape)
{
	return rl_pair_low(shape);
}

#endif
