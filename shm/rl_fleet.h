/*
 * rl_fleet.h - how the hosts of a fleet share one rule's limit: its terms and their arithmetic.
 *
 * Rooms:  everywhere. Pure; no memory but the caller's.
 *
 * A limit of L units a window is kept by N hosts through credit that Redis hands out. Far from
 * the limit a host may admit a few units blind: c0 = floor(beta L / N) of each key. An eventual
 * rule has no credit at all: each host counts, tells, and is told the sum.
 */
#ifndef RL_FLEET_H
#define RL_FLEET_H

#include <stdint.h>

/* What is promised of any window; rl_fleet_bound() says it as a number. */
enum rl_consistency {
	RL_LOCAL = 0,    /* L on each host; nothing is shared */
	RL_BOUNDED = 1,  /* L and the blind shares */
	RL_STRICT = 2,   /* L */
	RL_EVENTUAL = 3, /* L and what other hosts admit before this one is told of it */
};

/* The answer to a caller that may not wait when its host is out of credit. */
enum rl_no_credit {
	RL_NO_CREDIT_ALLOW = 0, /* yes, as a bounded debt */
	RL_NO_CREDIT_DENY = 1,
};

/* What a host goes by while Redis does not answer. */
enum rl_unreachable {
	RL_SHARE = 0,  /* its fair share of L */
	RL_OWN = 1,    /* "local": L on this host alone */
	RL_OPEN = 2,   /* everything passes */
	RL_CLOSED = 3, /* what credit is left, then nothing */
};

#define RL_CONSISTENCIES 4u /* how many words each enum has */
#define RL_NO_CREDITS    2u
#define RL_UNREACHABLES  4u

#define RL_BETA_ALL_PPM  1000000u /* the blind share when it is the whole limit */
#define RL_BETA_STEP_PPM 100u     /* what rl_fleet_pack() keeps of it: 0.01 % */
#define RL_CREDIT_MAX    1048575u /* credit has 20 bits in a slot's head word */
#define RL_WAIT_MAX_NS   UINT64_C(1000000000)

#define RL_BLIND_LOW_PARTS 4u /* of a blind share: when so much of it is left a worker rings */

#define RL_INTERVAL_MIN_NS UINT64_C(5000000) /* between two syncs of a key, as configured */
#define RL_INTERVAL_MAX_NS UINT64_C(1000000000)

/* What rl_fleet.slowed says: keys far from their limit first, then all, 2, 4, 8 times as seldom. */
#define RL_SLOWED_STEP 3u
#define RL_SLOWED_MOST (2 * RL_SLOWED_STEP)

static inline uint32_t rl_slowed_far(uint64_t level)
{
	return 1u << (level < RL_SLOWED_MOST ? level : RL_SLOWED_MOST);
}

static inline uint32_t rl_slowed_all(uint64_t level)
{
	return rl_slowed_far(level) >> RL_SLOWED_STEP > 1 ? rl_slowed_far(level) >> RL_SLOWED_STEP
							  : 1;
}

/*
 * All zero is a local rule. Terms are valid when each field is in range and
 *	local:  every other field is 0, as none of them is used
 *	strict: beta is 0 and no_credit is deny, as anything else would break the promise
 *	eventual: beta, no_credit and wait_ns are 0, as none of them is used
 */
struct rl_fleet_terms {
	uint8_t consistency;    /* enum rl_consistency */
	uint8_t no_credit;      /* enum rl_no_credit */
	uint8_t on_unreachable; /* enum rl_unreachable */
	uint32_t beta_ppm;      /* blind share of L, 0 .. RL_BETA_ALL_PPM */
	uint64_t wait_ns;       /* how long a caller with RL_MAY_WAIT may, 0 .. RL_WAIT_MAX_NS */
};

#define RL_FLEET_CONSISTENCY 3u /* the bits of rl_fleet_pack() that hold it */

/*
 * The terms as 32 bits, beta rounded down to RL_BETA_STEP_PPM. wait_ns has no room here:
 * keep it in a word of its own.
 */
uint32_t rl_fleet_pack(const struct rl_fleet_terms *terms);

/*
 * The terms of such a pair of words. Valid whatever the words hold. Valid terms come back as they
 * were, beta at its step.
 */
void rl_fleet_unpack(uint32_t flags, uint64_t wait_ns, struct rl_fleet_terms *ret);

/*
 * Units of one key that each of so many hosts may admit blind, 0 .. RL_CREDIT_MAX. 0 hosts: how
 * many there are is not known yet, so none.
 */
uint32_t rl_fleet_blind(uint32_t limit, const struct rl_fleet_terms *terms, uint32_t hosts);

/*
 * The most units that any window of one key may hold, of all hosts together, while Redis
 * answers; of a local rule, on each host. Of an eventual one N L, when all hosts admit L before
 * any is told of the others; in general L and what N - 1 hosts admit in two intervals.
 */
uint64_t rl_fleet_bound(uint32_t limit, const struct rl_fleet_terms *terms, uint32_t hosts);

/* Time between two syncs of an active key of such a window: 10 ms .. 100 ms. */
uint64_t rl_fleet_interval_ns(uint64_t window_ns);

/* The words of a configuration: "bounded", "deny", "share". "?" for what is none. */
const char *rl_consistency_name(unsigned consistency);
const char *rl_no_credit_name(unsigned no_credit);
const char *rl_unreachable_name(unsigned on_unreachable);

#endif
