/*
 * sync_slot.h - what the sync takes from one slot and gives to it, so that a kill between any
 * two steps loses nothing and counts nothing twice.
 *
 * Rooms:  agent/sync/, under the segment's lock. Touches the segment only; no Redis here.
 *
 * A CALL, AS FAR AS ONE SLOT IS IN IT
 *   take    lower the credit to what is kept (CAS of head: what is left cannot have been spent),
 *           then infl = [n | valid | grant xor 1 | credit] of that very head
 *   send    used = infl.n - acked, credit = infl.credit; again after a loss: the same numbers
 *   apply   1. head.grant still differs from infl.grant: add the grant and turn grant over, CAS
 *           2. acked = infl.n
 *           3. infl = 0
 *   Killed before 1: the same call is sent again, Redis answers it from its record, applied
 *   then. After 1: grant says that it was added. After 2: used is 0 in a call that Redis
 *   answers from its record. The partition's seq is raised only when all slots are through 3.
 */
#ifndef AGENT_SYNC_SLOT_H
#define AGENT_SYNC_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/store/item.h"
#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

/* What is to be done with a slot's credit when it is taken into a call. */
#define SYNC_KEEP_ALL UINT32_MAX

/*
 * Begin: lower the credit to at most keep, and record infl. False when the slot is closed,
 * another call has it, or it changed under every try. On true *ret_credit_before holds the
 * credit it had. The first time for this slot it becomes tracked: of what was admitted before,
 * only what is still in its window is reported.
 */
bool sync_slot_take(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule, uint32_t keep,
		    uint32_t *ret_credit_before);

/* Is the slot part of a call under way? Its numbers; used, age_ms, credit and tag are filled. */
bool sync_slot_infl(const struct rl_view *view, uint64_t index, struct sync_item *ret);

/*
 * The units of the call under way by the groups of the slot's ring they lie in, oldest first:
 * those that are in the window still, at most SYNC_PIECES_MAX. Units of before the ring's
 * oldest group count with it. Returns how many; 0 and 1 say no more than the item itself.
 */
uint32_t sync_slot_pieces(const struct rl_view *view, uint64_t index, uint64_t window_ms,
			  struct sync_piece ret[SYNC_PIECES_MAX]);

/*
 * Apply an answer's grant, at most what fits into the credit bits; 0 when its lease has lapsed
 * meanwhile. Nothing happens when no call is under way.
 */
void sync_slot_apply(struct rl_seg *seg, uint64_t index, uint32_t grant);

/*
 * Forget the call under way and report its units again in the next: only when this segment's
 * identity is given up, as the call may have been counted under the old one.
 */
void sync_slot_forget(struct rl_seg *seg, uint64_t index);

/*
 * So many of the units that were acknowledged count as unreported again, as far as they are in the
 * window: nobody knows of them any more. No call has the slot. Returns how many.
 */
uint64_t sync_slot_untell(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule,
			  uint64_t units);

/* Take all credit away; its lease is over, or its rule is no longer shared. Units taken. */
uint32_t sync_slot_take_credit(struct rl_seg *seg, uint64_t index);

/* The slot is no longer reported, its rule is local now: no credit, no call. */
void sync_slot_retire(struct rl_seg *seg, uint64_t index);

/* Leave it no more credit than that. */
void sync_slot_lower_credit(struct rl_seg *seg, uint64_t index, uint32_t keep);

/* Units admitted that Redis has not acknowledged. */
uint64_t sync_slot_unsent(const struct rl_view *view, uint64_t index);

/*
 * Is one of them still in such a window? Also of a slot that was never told of. The newest says
 * so, as they are acknowledged in order. False of a damaged slot.
 */
bool sync_slot_owes(const struct rl_view *view, uint64_t index, uint64_t window_ns);

#endif
