/*
 * rl_hash.h - keyed identity of a key under a rule: SipHash-1-3 with 128 bits of result.
 *
 * Rooms:  shm/ and above. Pure; thread- and async-signal-safe.
 *
 * Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF" (2012), with the 128-bit
 * output of the reference code. One compression and three finalisation rounds: enough for a
 * hash table under a secret random key, not for a signature. A fast unkeyed or seeded hash
 * is not: known pairs collide under one seed in 1,434 for the best of them.
 */
#ifndef RL_HASH_H
#define RL_HASH_H

#include <stddef.h>
#include <stdint.h>

struct rl_id {
	uint64_t word[2]; /* never 0, so that 0 can mean "none" in a slot */
};

/* SipHash-1-3-128 of len bytes under key. out[0] is the first half of the digest. */
void rl_hash128(const uint64_t key[2], const void *bytes, size_t len, uint64_t out[2]);

/*
 * Identity of the key under a rule: SipHash-1-3-128 of (rule id as 8 little-endian bytes,
 * then the key's bytes), with a zero half replaced by 1.
 */
struct rl_id rl_hash_key(const uint64_t key[2], uint32_t rule_id, const void *bytes, size_t len);

/* A rule's stable id: 32 bits of the name's hash under a fixed key, never 0. */
uint32_t rl_hash_rule(const char *name);

#endif
