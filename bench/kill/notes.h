/*
 * notes.h - what a worker was about to do and what came of it, in memory that outlives it.
 *
 * Rooms:  bench/kill/ and bench/figure_kill.c.
 *
 * One word for each check or refund: stored before the call as begun, and after it as what was
 * answered. So whenever a worker dies, at most one call is begun and not answered.
 */
#ifndef BENCH_KILL_NOTES_H
#define BENCH_KILL_NOTES_H

#include <stdatomic.h>
#include <stdint.h>

#include "bench/kill/rules.h"
#include "bench/kill/tally.h"

enum { KILL_KEYS = 64, KILL_NOTES_MAX = 1 << 18 };

/* What a note says. */
enum kill_what { KILL_SPEND = 1, KILL_REFUND };
enum kill_came {
	KILL_BEGUN = 1,
	KILL_DONE,    /* allowed; given back */
	KILL_NOT,     /* refused; kept: nothing has changed */
	KILL_BUSY,    /* no answer in the given tries */
	KILL_MISTAKE, /* another error */
};

struct kill_note {
	enum kill_what what;
	uint32_t rules; /* bit r: of rule r. Two of them: rl_check_all() */
	uint32_t key, cost;
};

struct kill_notes {
	_Atomic uint64_t word[KILL_NOTES_MAX]; /* 0: none yet */
};

/* Shared with all children that are forked later. */
struct kill_notes *kill_notes_make(void);

/* The worker's: store note number at. */
void kill_note(struct kill_notes *notes, uint32_t at, const struct kill_note *note,
	       enum kill_came came);

/* What is known of each key: units surely admitted and not given back; what may be, or not. */
struct kill_ledger {
	struct kill_account {
		int64_t sure, may_be_more, may_be_less;
	} of[KILL_RULES][KILL_KEYS];
	uint64_t calls, busy, mistakes, begun;
};

/* Of a worker that is dead: add its notes to the ledger, and make them empty. */
void kill_notes_close(struct kill_notes *notes, struct kill_ledger *ledger);

#endif
