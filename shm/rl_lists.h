/*
 * rl_lists.h - keys and networks that a rule treats in their own way: let pass, refused, counted by
 * another limit.
 *
 * Rooms:  shm/ and above. Only the agent (holder of the segment's lock) writes, as part of
 *         rl_rules_publish().
 *
 * Two banks beside those of the rules, used in turn by the same generation. Each is a hash table
 * with open addressing. An entry's identity is the keyed hash of the rule and the key, or of the
 * rule, a network's length and its bytes: so nobody outside can make a key collide, and what looks
 * like an address is looked up once for each length that the rule has a network of. The most
 * specific entry decides: the key itself, then the longest network.
 *
 * A rule without entries never comes here; one with them reads this for each check.
 *
 * An entry may have an end. From then on it is as if it were not there, whether or not an agent is
 * alive to take it out; what stands behind it of the same key decides then.
 */
#ifndef RL_LISTS_H
#define RL_LISTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_hash.h"
#include "shm/rl_ip.h"
#include "shm/rl_segment.h"
#include "shm/rl_terms.h"

#define RL_LISTS_DEFAULT 4096u /* entries that a segment has room for, unless configured */
#define RL_LISTS_MAX     1000000u

enum rl_verdict {
	RL_VERDICT_NONE = 0,
	RL_VERDICT_ALLOW = 1, /* passes, and is not counted */
	RL_VERDICT_DENY = 2,  /* refused */
	RL_VERDICT_OTHER = 3, /* counted by another limit */
	RL_VERDICT_BLOCK = 4, /* refused until its end */
	RL_VERDICT_UNTIL = 5, /* counted by another limit until its end */
};

/* One entry of a rule's lists, as a configuration has it. */
struct rl_list_item {
	enum rl_verdict verdict;
	const char *key; /* 1 .. 1024 bytes; NULL: the network */
	size_t key_len;
	struct rl_ip net;
	struct rl_terms terms; /* RL_VERDICT_OTHER, RL_VERDICT_UNTIL */
	uint32_t burst;        /* RL_VERDICT_OTHER; 0: none given */
	uint32_t until_s; /* RL_VERDICT_BLOCK, RL_VERDICT_UNTIL: seconds of the segment's clock */
};

struct rl_rule;      /* rl_rules.h */
struct rl_rule_spec; /* rl_rules.h */

/*
 * What the lists of generation's bank say of a key whose identity is id: *rule gets the verdict,
 * and the terms of an override. bytes and len are the key, or as much of it as is at hand.
 * Wait-free, bounded, async-signal-safe.
 */
void rl_lists_apply(const struct rl_view *view, uint64_t generation, const struct rl_id *id,
		    const void *bytes, size_t len, struct rl_rule *rule);

/* The same of the key that the slot at index is of; its head has been read. */
void rl_lists_apply_slot(const struct rl_view *view, uint64_t index, struct rl_rule *rule);

/*
 * The agent: fill the bank of the next generation. RL_E_LISTS: more entries than the segment has
 * room for, and nobody has seen any of them. Killed inside: nobody reads that bank. Of several
 * entries of one key the first that has not ended decides.
 */
int rl_lists_write(struct rl_seg *seg, uint64_t generation, const struct rl_rule_spec *spec,
		   size_t count);

/* The agent: half the limits, and bursts, of the overrides in generation's bank, in place. */
void rl_lists_halve(struct rl_seg *seg, uint64_t generation);

/* The lengths of networks that a rule has entries of, for its record: bit i = length i. */
struct rl_lengths {
	uint64_t v4;    /* 0 .. 32; bit 63: IPv6's length 0 */
	uint64_t v6[2]; /* bit i = length i + 1 */
};
void rl_lists_lengths(const struct rl_rule_spec *spec, struct rl_lengths *ret);

#endif
