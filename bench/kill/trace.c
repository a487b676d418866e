#include "bench/kill/trace.h"

#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "bench/bench.h"

void kill_trace_me(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
}

/* Let it go on, until it stops: by which signal. 0: it does not stop any more. */
static int go_on(pid_t child, enum __ptrace_request how)
{
	int status;

	if (ptrace(how, child, NULL, NULL) != 0 || waitpid(child, &status, 0) != child)
		bench_die("cannot trace a child");
	return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

void kill_trace_begin(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		bench_die("cannot trace a child");
}

bool kill_trace_step(pid_t child)
{
	return go_on(child, PTRACE_SINGLESTEP) == SIGTRAP;
}

#ifdef __x86_64__

#define BREAKPOINT UINT64_C(0xcc) /* int3: it stops behind it */

static const size_t ip_offset = offsetof(struct user, regs.rip);

uint64_t kill_trace_at(pid_t child)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, child, ip_offset, NULL);
}

static void poke(pid_t child, uint64_t at, uint64_t word)
{
	if (ptrace(PTRACE_POKETEXT, child, at, word) != 0)
		bench_die("cannot set a breakpoint");
}

static uint32_t times(const struct kill_path *path, uint32_t steps)
{
	uint32_t count = 0;

	for (uint32_t i = 1; i <= steps; i++)
		count += path->at[i] == path->at[steps];
	return count;
}

/* The first instruction is stepped: a breakpoint may lie on it as well. */
bool kill_trace_run(pid_t child, const struct kill_path *path, uint32_t steps)
{
	uint64_t at = path->at[steps], word;

	if (!kill_trace_step(child))
		return false;
	word = (uint64_t)ptrace(PTRACE_PEEKTEXT, child, at, NULL);
	for (uint32_t left = times(path, steps); left > 0; left--) {
		poke(child, at, (word & ~UINT64_C(0xff)) | BREAKPOINT);
		if (go_on(child, PTRACE_CONT) != SIGTRAP || kill_trace_at(child) != at + 1)
			return false;
		ptrace(PTRACE_POKEUSER, child, ip_offset, at);
		poke(child, at, word);
		if (left > 1 && !kill_trace_step(child))
			return false;
	}
	return true;
}

#else

uint64_t kill_trace_at(pid_t child)
{
	(void)child;
	return 0;
}

bool kill_trace_run(pid_t child, const struct kill_path *path, uint32_t steps)
{
	(void)path;
	for (uint32_t i = 0; i < steps; i++)
		if (!kill_trace_step(child))
			return false;
	return true;
}

#endif
