/*
 * rl_check.h - one check from key to answer: table, rule, clock and window put together.
 *
 * Rooms:  shm/ and above. What client/rl.c publishes.
 */
#ifndef RL_CHECK_H
#define RL_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "shm/rl_member.h"
#include "shm/rl_segment.h"
#include "shm/rl_shared.h"

#define RL_KEY_BYTES_MAX  1024 /* of a key */
#define RL_CHECK_MAY_WAIT 1u   /* flag: this caller may sleep for credit */

struct rl_answer {
	uint32_t limit;     /* of the rule, units a window */
	uint32_t remaining; /* units that could be admitted at once after this */
	uint64_t wait_ns;   /* refused: until this cost could pass; else 0 */
	uint64_t delay_ns;  /* allowed: hold the request up for so long; 0 = serve at once */
	uint64_t window_ns; /* of the rule */
	uint64_t age_ns;    /* since the agent's last heartbeat */
	uint64_t now_ns;    /* the clock reading the answer was made with, on the slot's clock */
	uint32_t state;     /* enum rl_state */
	uint32_t by;        /* enum rl_decided */
};

/*
 * May the key spend cost units under the rule now? Returns 1 and spends them, or 0 and
 * changes nothing, or a negative error and nothing is spent: RL_E_RULE, RL_E_COST, RL_E_FULL
 * (new key, no slot), RL_E_BUSY. *ret is filled with the answer, with zeros on error.
 *
 *   key_len  0 .. RL_KEY_BYTES_MAX, cost 1 .. : checked by the caller
 *   flags    0 or RL_CHECK_MAY_WAIT: sleep for credit, at most the rule's wait_ns, only under a
 *            rule that hosts share and only while Redis answers
 *
 * Lock-free: every failed try is another process's success, and there are at most
 * RL_CHECK_TRIES. No allocation, and but for waiting and for waking a sleeping agent no system
 * call; async-signal-safe.
 */
int rl_check_spend(struct rl_seg *seg, struct rl_member *member, uint64_t handle, const void *key,
		   size_t key_len, uint32_t cost, uint32_t flags, struct rl_answer *ret);

/*
 * What a check would answer, and writes nothing. Returns as above; a key that has no slot
 * yet may spend the whole limit, or would ask for credit. *ret_used: units of this host now
 * held in the window.
 */
int rl_check_look(const struct rl_view *view, uint64_t handle, const void *key, size_t key_len,
		  uint32_t cost, struct rl_answer *ret, uint32_t *ret_used);

#endif
