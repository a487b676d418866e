/*
 * tally.h - what kills did: counted the same way by figure_kill and by tests/proc.
 *
 * Rooms:  bench/kill/, bench/figure_kill.c, tests/proc/.
 */
#ifndef BENCH_KILL_TALLY_H
#define BENCH_KILL_TALLY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct kill_tally {
	uint64_t workers, agents; /* that died of our SIGKILL: waitpid has said so */
	uint64_t steps;           /* of the workers: after a counted instruction */
	uint64_t calls, begun;    /* checks and refunds; those under way when their worker died */
	uint64_t busy;            /* of them: the slot was closed by an agent that had died */
	uint64_t lost;            /* units admitted, and not held by their key */
	uint64_t excess;          /* units recorded above a limit */
	uint64_t hung;            /* keys that answer busy or wrongly, slots left closed, waits */
	uint64_t unexplained;     /* answers that are errors, keys with two slots */
	uint64_t uncertain;       /* units held above what was recorded */
	double uncertain_max; /* the most of them, over what the killed calls asked of that key */
};

/*
 * A key holds so many units; recorded are at least low, at most high: between them lies what
 * was under way when somebody died. limit: of the rule; exact: its window can tell every unit.
 */
void kill_judge(struct kill_tally *tally, uint64_t held, int64_t low, int64_t high, uint32_t limit,
		bool exact);

/* SIGKILL a child and reap it. True: that is what it died of. Else it ended by itself: *ret_status.
 */
bool kill_and_reap(pid_t pid, int *ret_status);

/* fork(); the child dies with its parent. Exits with a message when there is no process. */
pid_t kill_fork(void);

#endif
