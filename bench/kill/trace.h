/*
 * trace.h - stop a traced child after an exact number of its instructions.
 *
 * Rooms:  bench/kill/ only.
 *
 * A child that does the same thing again takes the same path. Its first run is stepped one
 * instruction at a time (PTRACE_SINGLESTEP) and noted; the others get a breakpoint where the path
 * is after so many, which takes two stops and not thousands. x86-64; elsewhere all are stepped.
 */
#ifndef BENCH_KILL_TRACE_H
#define BENCH_KILL_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { KILL_PATH_MAX = 1 << 16 };

/* Where each instruction of a run lies: at[i] is the next one after i of them. */
struct kill_path {
	uint32_t count; /* 0: not known */
	uint64_t at[KILL_PATH_MAX];
};

/* The child's end of it: be traced, and stop here. */
void kill_trace_me(void);

/* Wait until the child has stopped for kill_trace_me(). */
void kill_trace_begin(pid_t child);

/* One instruction; false: the child is no more. */
bool kill_trace_step(pid_t child);

/* The next instruction's address; 0 where that cannot be told. */
uint64_t kill_trace_at(pid_t child);

/*
 * From its begin to where steps of the path's instructions are done, 1 <= steps < count. False:
 * this child took another path.
 */
bool kill_trace_run(pid_t child, const struct kill_path *path, uint32_t steps);

#endif
