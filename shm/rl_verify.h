/*
 * rl_verify.h - look at every word of a segment, live or dead, and say which ones nobody writes.
 *
 * Rooms:  shm/, tools/ and tests/. Reads only; never on the way of a check.
 *
 * In a live segment everything moves. What looks wrong is looked at again, as one of
 *	NOW    a moment later: it contradicts itself whatever happens
 *	SOON   when an agent that lives has tidied up: it does so once a second
 *	SWEEP  when an agent that lives has walked over the table RL_VERIFY_PASSES times: what
 *	       killed or stopped workers leave is its to take back, within 30 s. The same claim
 *	       must stand there
 * and is a finding only when it still is so. Without a live agent nobody tidies up: SOON and SWEEP
 * then mean a little over a second, which no claim of a process that runs takes.
 */
#ifndef RL_VERIFY_H
#define RL_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

/* Where a finding is: what its index counts. */
enum rl_place {
	RL_AT_SEGMENT,
	RL_AT_RULE,
	RL_AT_MEMBER,
	RL_AT_PART,
	RL_AT_SLOT,
	RL_AT_HOLDER,
	RL_AT_HOLD
};

enum rl_patience { RL_NOW, RL_SOON, RL_SWEEP };

/* Name, as printed; place; patience. tools/verify_words.c says what each means. */
#define RL_FAULTS(X) \
	X(HEADER, "header", SEGMENT, NOW)         /* a word of the header */ \
	X(LIVE, "live", SEGMENT, SOON)            /* heartbeat, clocks */ \
	X(JOURNAL, "journal", SEGMENT, NOW)       /* an entry that is none */ \
	X(RULE_TERMS, "rule_terms", RULE, NOW)    /* limit, groups, window, flags */ \
	X(RULE_NAME, "rule_name", RULE, NOW)      /* no name, or the id is not its hash */ \
	X(RULE_TWICE, "rule_twice", RULE, NOW)    /* an id of another rule */ \
	X(RULE_LEFT, "rule_left", RULE, NOW)      /* words where no rule is */ \
	X(RULE_OLD, "rule_old", RULE, SOON)       /* any of these in the bank not in force */ \
	X(FLEET, "fleet", SEGMENT, NOW)           /* a word of this host in its fleet */ \
	X(PART, "partition", PART, NOW)           /* a word of a partition's call */ \
	X(MEMBER, "member", MEMBER, SOON)         /* a line of a process that is gone */ \
	X(DIRTY, "dirty", SEGMENT, NOW)           /* a mark of a slot that is none */ \
	X(SLOT_KIND, "slot_kind", SLOT, NOW)      /* closed for no reason there is */ \
	X(SLOT_COUNT, "slot_count", SLOT, NOW)    /* a count nobody counts to */ \
	X(SLOT_CLOSED, "slot_closed", SLOT, NOW)  /* closed for a re-base nobody knows of */ \
	X(SLOT_REBASE, "slot_rebase", SLOT, SOON) /* closed for one that was not finished */ \
	X(SLOT_CLAIM, "slot_claim", SLOT, SWEEP)  /* a claim nobody has finished */ \
	X(SLOT_TAKEN, "slot_taken", SLOT, SWEEP)  /* its word was taken, and nothing came after */ \
	X(SLOT_LEFT, "slot_left", SLOT, SWEEP)    /* free, with a tag or words left */ \
	X(SLOT_ID, "slot_id", SLOT, NOW)          /* open, without an identity */ \
	X(SLOT_TAG, "slot_tag", SLOT, NOW)        /* the tag is not that of its identity */ \
	X(SLOT_BUCKET, "slot_bucket", SLOT, NOW)  /* in no bucket of its identity */ \
	X(SLOT_TWICE, "slot_twice", SLOT, NOW)    /* another one of this identity is open */ \
	X(SLOT_SHAPE, "slot_shape", SLOT, NOW)    /* algorithm, group size, window */ \
	X(SLOT_STATE, "slot_state", SLOT, NOW)    /* a state word of another life or algorithm */ \
	X(SLOT_STAMP, "slot_stamp", SLOT, NOW)    /* a stamp ahead of the clock */ \
	X(SLOT_PART, "slot_partition", SLOT, NOW) /* not the partition of its key */ \
	X(SIDE_ACKED, "side_acked", SLOT, NOW)    /* more acknowledged than admitted */ \
	X(SIDE_INFL, "side_infl", SLOT, NOW)      /* no record of a call */ \
	X(TEXT, "text", SLOT, NOW)                /* no key is there */ \
	X(TEXT_KEY, "text_key", SLOT, NOW)        /* the key is not the slot's */ \
	X(HOLDER, "holder", HOLDER, SOON)         /* a word that no holder has */ \
	X(HOLD_OWNER, "hold_owner", HOLD, NOW)    /* a line of a slot or claimant that is none */ \
	X(HOLD_LINK, "hold_link", HOLD, NOW)      /* it leads to a line of another slot */ \
	X(HOLD_CELL, "hold_cell", HOLD, NOW)      /* a cell of nobody, or with nothing in it */ \
	X(HOLD_LEFT, "hold_left", HOLD, SOON)     /* a line, a cell of the gone, not taken back */

#define RL_FAULT_OF(fault, name, place, patience) RL_FAULT_##fault,
enum rl_fault { RL_FAULTS(RL_FAULT_OF) RL_FAULT_COUNT };

struct rl_fault_info {
	const char *name;
	enum rl_place place;
	enum rl_patience patience;
};
const struct rl_fault_info *rl_fault_info(enum rl_fault fault);

struct rl_finding {
	enum rl_fault fault;
	uint64_t index;         /* of the slot, rule, ... by the fault's place */
	uint64_t at;            /* bytes from the start of the file */
	uint64_t found, wanted; /* the word, and what it should be or may not be above */
};

#define RL_VERIFY_PASSES   3 /* of the sweep: sees it, sees it a second later, takes it back */
#define RL_VERIFY_SUSPECTS 1024

struct rl_verify {
	/* Given. */
	const struct rl_view *view;
	void (*found)(const struct rl_finding *finding, void *arg);
	void (*waiting)(uint32_t suspects, void *arg); /* for longer than a moment; may be NULL */
	void *arg;
	uint32_t times_faster; /* of tests: every wait is so many times shorter; 0: as it is */

	/* What was looked at. */
	bool agent_lives;     /* its heartbeat is at most a second old */
	uint64_t slots, used; /* used: not free */
	uint64_t busy;        /* slots that never held still for a look at some of their words */
	uint32_t rules, members;
	bool other_pids; /* owners of members cannot be told: they are of another pid namespace */
	uint64_t unsettled; /* suspects there was no room for, of SOON and SWEEP: not looked at */

	/* Its own. */
	const struct rl_finding *asked; /* is this one still so? NULL: everything is looked at */
	bool seen;
	uint32_t suspects, patients;
	struct rl_finding suspect[RL_VERIFY_SUSPECTS]; /* to be looked at again in a moment */
	struct rl_finding patient[RL_VERIFY_SUSPECTS]; /* later */
	struct rl_bank bank[2];                        /* both, of one moment */
};

/*
 * Look at the whole segment and call found() for each finding. Not quick (0.2 s for a million
 * slots), sleeps when something looks wrong (40 s at most for the agent). The struct is large: not
 * for a stack.
 */
void rl_verify(struct rl_verify *verify);

#endif
