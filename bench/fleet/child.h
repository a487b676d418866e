/*
 * child.h - programs that a test starts and folders that it makes: none outlives it.
 *
 * Whatever ends this process - return, exit, SIGINT, SIGTERM, a failed test - the programs are
 * killed by pid and the folders removed; after a SIGKILL the kernel still kills the programs.
 * All of it is for the main thread. Other threads must block signals: child_block_signals().
 */
#ifndef BENCH_FLEET_CHILD_H
#define BENCH_FLEET_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { CHILD_PATH_MAX = 64 };

/* A new folder in parent, mode 0700. With $KEEP set it stays, and its name is printed. */
void child_folder(const char *parent, char ret_path[CHILD_PATH_MAX]);

/*
 * Start a program: argv ends in NULL; env too, "NAME=value" each, added to this process's. All
 * it prints goes to the end of the file log.
 */
pid_t child_start(char *const *argv, const char *const *env, const char *log);

/* Has it not ended? */
bool child_is_alive(pid_t pid);

/* SIGKILL, and see that this is what it died of: false when it had ended before. */
bool child_kill(pid_t pid);

/* SIGTERM: true when it then exits with status 0 within 10 s; else it is killed. */
bool child_stop(pid_t pid);

/* End everything that was started, remove every folder. Safe in a signal handler. */
void child_end_all(void);

/* The calling thread, and those it starts, leave all signals to the main thread. */
void child_block_signals(bool block);

#endif
