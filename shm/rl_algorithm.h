/*
 * rl_algorithm.h - the algorithms other than the sliding window: all a key's count in one word.
 *
 * Rooms:  shm/, and agent/ for the sweep. Arithmetic on values; rl_count.h has the CAS.
 *
 * A rule counts by the sliding window (rl_window.h), or by a row of this table. A row is a set
 * of pure functions over 54 bits of the slot's state word; what it does not know is which slot,
 * who else, and when the word is written. So a new algorithm is one file and one row below.
 *
 * The word counts by the slot's own scale: the limit and the window it was made for, since a
 * moment of its own (base_ns). A rule that changes is obeyed at the next check as to what may
 * pass; how fast a bucket drains follows when the agent has re-based the slot, within a second,
 * the units held carried over.
 *
 * All read the precise clock.
 */
#ifndef RL_ALGORITHM_H
#define RL_ALGORITHM_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_window.h"

/* The rows, in the order of their numbers: append only, segments hold them. */
#define RL_ALGORITHM_ROWS(X) \
	X(rl_fixed) \
	X(rl_token_bucket) \
	X(rl_leaky_bucket)

#define RL_SLIDING        0u /* of a rule or a slot: the sliding window */
#define RL_ALGORITHMS_MAX 32u

/*
 * Not a row, and not in the count: a rule that limits requests in flight (rl_inflight.h). It has
 * no window, its slots have another identity, and nothing goes from it to a row or back.
 */
#define RL_CONCURRENCY     31u
#define RL_CONCURRENCY_MAX 1048575u /* requests in flight of one key: 20 bits */

/* What a rule of the algorithm may say beside its limit. */
#define RL_OPTION_BURST       1u
#define RL_OPTION_DELAY       2u
#define RL_OPTION_INTERPOLATE 4u

#define RL_COUNT_BITS 54
#define RL_COUNT_MAX  ((UINT64_C(1) << RL_COUNT_BITS) - 1)

/* The terms one step goes by. */
struct rl_count_terms {
	uint32_t limit;     /* of the rule, units a window */
	uint32_t burst;     /* of the rule; 0: not given */
	uint32_t delay;     /* of the rule */
	uint32_t scale;     /* units a window that the word counts by, >= 1 */
	uint64_t window_ns; /* likewise, >= RL_WINDOW_MIN_NS */
	uint64_t base_ns;   /* moment the word counts from, on the precise clock */
	uint64_t wall_ns;   /* CLOCK_REALTIME less the precise clock, modulo 2^64 */
};

struct rl_count_answer {
	uint64_t next;      /* the word after it; limited: nearly always as it was */
	uint32_t remaining; /* units that could be admitted right after this answer */
	uint64_t wait_ns;   /* limited: until this cost could pass; > 0 */
	uint64_t delay_ns;  /* allowed: how long to hold it up; 0 = serve at once */
};

struct rl_algorithm {
	const char *name; /* in a configuration */
	uint32_t options; /* RL_OPTION_*: which its rules may have */
	uint64_t renew;   /* words above this are re-based to a new base_ns; 0: it has no end */

	/* Units that a rule could ever admit at once; more is RL_E_COST. */
	uint32_t (*most)(uint32_t limit, uint32_t burst);

	/* A word that holds so many units at now; of base_ns, now. 0 .. RL_COUNT_MAX. */
	uint64_t (*start)(const struct rl_count_terms *terms, uint32_t units, uint64_t now_ns);

	/* Units that a word holds at now, rounded up; 0 = the same as a new one. */
	uint32_t (*held)(uint64_t word, const struct rl_count_terms *terms, uint64_t now_ns);

	/*
	 * May cost units pass at now? RL_TRY_ALLOWED, RL_TRY_LIMITED, or RL_TRY_AGAIN when the
	 * word has no room for what it would count (the agent's re-base is long overdue).
	 * 1 <= cost <= most().
	 */
	int (*step)(uint64_t word, const struct rl_count_terms *terms, uint32_t cost,
		    uint64_t now_ns, struct rl_count_answer *ret);

	/*
	 * The word without what is still held of cost units, after whose admit it was then; the
	 * same word when that is nothing.
	 */
	uint64_t (*refund)(uint64_t word, uint64_t then, const struct rl_count_terms *terms,
			   uint32_t cost, uint64_t now_ns);
};

#define RL_ALGORITHM_DECLARE(row) extern const struct rl_algorithm row;
RL_ALGORITHM_ROWS(RL_ALGORITHM_DECLARE)

/* The row of a number, or NULL: RL_SLIDING, and what is none. */
const struct rl_algorithm *rl_algorithm(uint32_t number);

/* How many numbers there are: RL_SLIDING and the rows'. */
uint32_t rl_algorithm_count(void);

/* "sliding", the rows' names, "concurrency"; "?" for what is none. What a rule of it may say. */
const char *rl_algorithm_name(uint32_t number);
uint32_t rl_algorithm_options(uint32_t number);

/* Units that a rule could ever admit at once, by whichever algorithm. */
uint32_t rl_algorithm_most(uint32_t number, uint32_t limit, uint32_t burst);

/* Units that any interval as long as the window may hold. */
uint64_t rl_algorithm_bound(uint32_t number, uint32_t limit, uint32_t burst, bool interpolate);

#endif
