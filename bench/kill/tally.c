#include "bench/kill/tally.h"

#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

void kill_judge(struct kill_tally *tally, uint64_t held, int64_t low, int64_t high, uint32_t limit,
		bool exact)
{
	int64_t above = (int64_t)held - low;
	double share;

	if (low > (int64_t)limit)
		tally->excess += (uint64_t)(low - (int64_t)limit);
	if (above < 0)
		tally->lost += (uint64_t)-above;
	if (above <= 0 || !exact)
		return;
	tally->uncertain += (uint64_t)above;
	/* Held, and nobody was asking for it: more than any share. */
	share = high > low ? (double)above / (double)(high - low) : 1.0 + (double)above;
	if (share > tally->uncertain_max)
		tally->uncertain_max = share;
}

bool kill_and_reap(pid_t pid, int *ret_status)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) != pid)
		;
	return WIFSIGNALED(*ret_status) && WTERMSIG(*ret_status) == SIGKILL;
}

pid_t kill_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		bench_die("no process to kill");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(3);
	}
	return pid;
}
