#include "bench/fleet/child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

enum { CHILDREN_MAX = 128, FOLDERS_MAX = 16, ENV_MAX = 512 };

/* Read by the signal handler; lock-free, written by the main thread with signals blocked. */
static _Atomic pid_t children[CHILDREN_MAX];
static char folders[FOLDERS_MAX][CHILD_PATH_MAX];
static _Atomic int folder_count;

extern char **environ;

void child_block_signals(bool block)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &all, NULL);
}

static void forget(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (atomic_load(&children[i]) == pid)
			atomic_store(&children[i], 0);
}

static void remember(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (atomic_load(&children[i]) == 0) {
			atomic_store(&children[i], pid);
			return;
		}
	kill(pid, SIGKILL);
	bench_die("too many programs at once");
}

/* Nothing but system calls: it runs in a signal handler, too. */
static void remove_folder(const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", "--", path, (char *)NULL);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void child_end_all(void)
{
	for (int i = 0; i < CHILDREN_MAX; i++) {
		pid_t pid = atomic_exchange(&children[i], 0);

		if (pid == 0)
			continue;
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	for (int i = atomic_exchange(&folder_count, 0); i > 0; i--)
		remove_folder(folders[i - 1]);
}

static void on_signal(int number)
{
	child_end_all();
	signal(number, SIG_DFL);
	raise(number);
}

/* Once: whatever ends this process ends what it started. */
static void clean_up_at_the_end(void)
{
	static const int number[] = {SIGINT, SIGTERM, SIGHUP};
	static bool done;

	if (done)
		return;
	done = true;
	atexit(child_end_all);
	signal(SIGPIPE, SIG_IGN); /* hiredis writes to connections that are cut */
	for (size_t i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
		struct sigaction action = {.sa_handler = on_signal};

		sigfillset(&action.sa_mask);
		sigaction(number[i], &action, NULL);
	}
}

void child_folder(const char *parent, char ret_path[CHILD_PATH_MAX])
{
	int at = atomic_load(&folder_count);

	clean_up_at_the_end();
	snprintf(ret_path, CHILD_PATH_MAX, "%s/rl-fleet-XXXXXX", parent);
	if (at == FOLDERS_MAX || mkdtemp(ret_path) == NULL)
		bench_die("cannot make a folder for the fleet");
	if (getenv("KEEP") != NULL) {
		printf("# kept: %s\n", ret_path);
		return;
	}
	memcpy(folders[at], ret_path, CHILD_PATH_MAX);
	atomic_store(&folder_count, at + 1);
}

/* This process's environment and more; malloc() would not do after the fork. */
static void make_environment(const char *const *more, char *ret[ENV_MAX])
{
	size_t count = 0;

	for (char **e = environ; *e != NULL && count < ENV_MAX - 16; e++)
		ret[count++] = *e;
	for (; more != NULL && *more != NULL && count < ENV_MAX - 1; more++) {
		union { /* execve() takes the strings as char *, and changes none */
			const char *text;
			char *plain;
		} add = {*more};

		ret[count++] = add.plain;
	}
	ret[count] = NULL;
}

_Noreturn static void become(char *const *argv, char **env, const char *log, pid_t parent)
{
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	signal(SIGPIPE, SIG_DFL);
	child_block_signals(false);
	execve(argv[0], argv, env);
	_exit(127);
}

pid_t child_start(char *const *argv, const char *const *env, const char *log)
{
	char *environment[ENV_MAX];
	pid_t parent = getpid(), pid;

	clean_up_at_the_end();
	make_environment(env, environment);
	fflush(NULL);
	child_block_signals(true);
	pid = fork();
	if (pid == 0)
		become(argv, environment, log, parent);
	if (pid > 0)
		remember(pid);
	child_block_signals(false);
	if (pid < 0)
		bench_die("cannot fork");
	return pid;
}

bool child_is_alive(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

/* Of a child that ends now. No signal between: its pid must not be killed once it is free. */
static int reap(pid_t pid)
{
	int status = -1;

	child_block_signals(true);
	waitpid(pid, &status, 0);
	forget(pid);
	child_block_signals(false);
	return status;
}

bool child_kill(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	status = reap(pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool child_stop(pid_t pid)
{
	const struct timespec nap = {.tv_nsec = 2000000};
	uint64_t deadline = bench_now_ns() + UINT64_C(10000000000);
	int status;

	kill(pid, SIGTERM);
	while (child_is_alive(pid) && bench_now_ns() < deadline)
		nanosleep(&nap, NULL);
	if (child_is_alive(pid)) {
		child_kill(pid);
		return false;
	}
	status = reap(pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
