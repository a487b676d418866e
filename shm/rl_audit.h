/*
 * rl_audit.h - one key in N is audited: each admit of it is noted by whoever made it, at the moment
 * the caller is told, with the times around it. The agent keeps these notes and measures what any
 * window really held.
 *
 * Rooms:  shm/, and agent/ for who takes the notes.
 *
 * Nothing that decides is read: not the count, not the ring, not credit. So a check that admits and
 * does not count, or credit that was given twice, shows.
 *
 * WHICH KEYS. One in 2^k, by a hash that all hosts agree on. A key that is audited has two marks,
 * put there by who claims its slot, or later by the agent's sweep: RL_MARK_AUDIT in the slot's
 * state (of a local sliding window: rl_mark.h), which sends its checks round by the path of unusual
 * ones; RL_TEXT_AUDIT in rl_side.acked, which a check by credit reads anyway. So keys that are not
 * audited pay nothing, or one test of a bit.
 *
 * NOTES are in cells that are used in turn:
 *
 *   0  [ tag:16 | when the check began:48 ]   ns of the precise clock: its reading after the head
 *   1  [ tag:16 | how long it took:48 ]       ns: the admit was somewhere in between
 *   2  [ tag:16 | id:16 | slot:32 ]
 *   3  [ tag:16 | id:15 | kind:2 | units:31 ]
 *
 * A writer takes the next number of rl_watch.put; that picks the cell, and the tag: 1 + how often
 * the cells have been gone through. Each word says by its tag whose it is, so a note is good if and
 * only if all four have its tag. Nobody waits: who is faster than the agent writes over what was
 * not read. KILLED between the number and the last word, or stopped there until its cell is
 * another's: a cell without the right tags. The agent counts such ones, and those that were
 * overwritten, as missed: what is not measured is never silent.
 */
#ifndef RL_AUDIT_H
#define RL_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_cold.h"
#include "shm/rl_mark.h"
#include "shm/rl_rules.h"
#include "shm/rl_side.h"

#define RL_AUDIT_MOST UINT32_C(1048576) /* one key in so many, at most */

/* A rule's audit, as it is kept: 0: none, else 1 + log2 of N. */
static inline uint32_t rl_audit_of_code(uint32_t code)
{
	return code == 0 || code > 21 ? 0 : UINT32_C(1) << (code - 1);
}

/* The code of one key in n; n is 0, or a power of two up to RL_AUDIT_MOST. */
uint32_t rl_audit_code(uint32_t n);

/* Is n one of these? */
bool rl_audit_can_be(uint64_t n);

/*
 * Is this key of the rule one that is audited? Of rules by the sliding window and of those that
 * hosts share; not of a pool, and not where the clock is given.
 */
bool rl_audit_picks(const struct rl_view *view, const struct rl_rule *rule,
		    const struct rl_key_text *text);

/*
 * The agent: give the open slot the marks that its key should have under its rule (NULL: none);
 * killed in between, a later pass does it. True when they were other ones.
 */
bool rl_audit_settle(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule);

enum rl_audit_kind {
	RL_AUDIT_ADMIT = 1,
	RL_AUDIT_REFUND = 2, /* so many units of the key were given back */
	RL_AUDIT_RESET = 3,  /* what it had spent before begun_ns was forgotten, by command */
};

/*
 * Note it; begun_ns of an admit: a reading after the head was read. Wait-free, async-signal-safe.
 * The slot is still the key's: what it was just asked for is in its window.
 */
RL_COLD void rl_audit_note(struct rl_seg *seg, uint64_t index, uint64_t begun_ns, uint32_t units,
			   enum rl_audit_kind kind);

/* Under a local rule: is this slot's key audited? */
static inline bool rl_audit_marked(const struct rl_slot *slot)
{
	return (rl_mark_of(slot) & RL_MARK_AUDIT) != 0;
}

struct rl_audit_entry {
	uint64_t index; /* below the view's slot_count */
	uint32_t id;    /* of the key: rl_audit_id() */
	enum rl_audit_kind kind;
	uint64_t begun_ns, ended_ns; /* precise clock */
	uint32_t units;
};

/* What the agent remembers from one look to the next. */
struct rl_audit_reader {
	uint64_t waits_at; /* 1 + number of a cell that was taken and is not written yet; 0: none */
	uint64_t since_ns;
};

/* 31 bits of the identity of a slot's key. */
uint32_t rl_audit_id(const struct rl_view *view, uint64_t index);

/* The agent, when it starts: nothing that was noted before is taken. It is counted as missed. */
void rl_audit_begin(struct rl_seg *seg);

/*
 * The agent: the next note. False when there is none (now): at most RL_AUDIT_CELLS times true for
 * what has been noted at a moment. A cell that stays unwritten for RL_AUDIT_PATIENCE_NS is missed.
 */
#define RL_AUDIT_PATIENCE_NS UINT64_C(50000000)
bool rl_audit_take(struct rl_seg *seg, struct rl_audit_reader *reader, struct rl_audit_entry *ret);

#endif
