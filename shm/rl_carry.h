/*
 * rl_carry.h - all that a segment of an earlier release holds, into the one that takes its place.
 *
 * Rooms:  shm/, and agent/ for what it does when it finds such a segment.
 *
 * The new segment has the old one's hash key, rules in force, and nobody else has it yet: killed
 * anywhere, its file is a leftover that the next agent removes. In the old one processes go on
 * checking, by what their librl knows. What they admit after a slot was carried is not carried: the
 * caller has lowered their limits before.
 *
 * The two layouts have the same slots, sides and texts: rl_segment_attach_older().
 */
#ifndef RL_CARRY_H
#define RL_CARRY_H

#include <stdint.h>

#include "shm/rl_segment.h"

/*
 * Who this host is in its fleet, and the calls that are under way; and that no credit may be spent
 * in the old segment from now on. So the fleet's store knows the new one for the same host, in the
 * same life.
 */
void rl_carry_fleet(struct rl_seg *old, struct rl_seg *seg);

/* What was counted under each rule that is in force, and the rules that are switched off. */
void rl_carry_rules(const struct rl_view *old, struct rl_seg *seg);

/* What one slot is. */
enum rl_carried {
	RL_CARRY_NONE, /* of no key, or it holds nothing */
	RL_CARRY_POOL, /* of a rule's pool: to be carried before any key */
	RL_CARRY_KEY,
};
enum rl_carried rl_carry_kind(const struct rl_view *old, uint64_t index);

/*
 * Carry slot index: what it holds, who blocked it; of a rule that hosts share also what was not
 * told them yet and what a call under way says of it, without its credit, which is taken away in
 * the old segment as well. 1; 0: nothing, or of no rule that is in force, or in flight; or an error
 * of rl_table_claim().
 */
int rl_carry_slot(struct rl_seg *old, uint64_t index, struct rl_seg *seg);

#endif
