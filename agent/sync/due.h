/*
 * due.h - which keys go into a call now, with how much of their credit.
 *
 * Rooms:  agent/sync/ only.
 */
#ifndef SYNC_DUE_H
#define SYNC_DUE_H

#include "agent/sync/part.h"

#define DUE_BLIND_PARTS 50u /* of W: how long a key that lives on its blind share may wait */
#define DUE_QUIET_PARTS 5u  /* of the blind share: so many units need not be told of */

/* How often an active key is synced by its rule. */
uint64_t due_interval_ns(const struct sync *sync, const struct rl_rule *rule);

/* How long a key may wait for a call when nobody runs short. */
uint64_t due_wait_ns(const struct sync *sync, const struct rl_rule *rule,
		     const struct sync_entry *entry);

/*
 * When its next call is due. Keys that wait long are told on one beat of their partition, each
 * after half of its time or later: so their calls are full.
 */
uint64_t due_next_ns(const struct sync *sync, const struct rl_rule *rule,
		     const struct sync_entry *entry, uint32_t part, uint64_t now_ns);

/* Units of a key that this host may admit blind, by the hosts there are now. */
uint32_t due_blind(const struct sync *sync, const struct rl_rule *rule);

/*
 * Has it, of a slot without a lease, nothing to tell that anybody need know? So few units that
 * those of all hosts are a fifth of what the rule may be exceeded by anyhow; and nobody asked.
 */
bool due_is_quiet(const struct sync *sync, const struct rl_rule *rule, uint64_t index);

/*
 * Not due yet, but it has something to say and waited for half of its time: in a call that is made
 * anyway it costs Redis a fraction of what a call of its own would. It is due now.
 */
bool due_early(const struct sync *sync, struct sync_entry *entry, uint64_t now_ns);

/*
 * Take an active key into the call that is being put together, if it is due: entry->item and
 * the slot's infl are filled. Returns false when it is not. *ret_gone: it need not be synced
 * any more, remove it from the list.
 */
bool due_take(struct sync_part *part, struct sync_entry *entry, bool all, uint64_t now_ns,
	      bool *ret_gone);

/* What a call that an agent before us began says of this key. False: its rule is not shared. */
bool due_recover(struct sync_part *part, struct sync_entry *entry);

/*
 * The key's answer. lapsed: too late for its grant, the lease is over. entry->urgent then says
 * whether somebody has run short meanwhile.
 */
void due_apply(struct sync_part *part, struct sync_entry *entry, const struct sync_answer *answer,
	       bool lapsed);

#endif
