/*
 * run_leftovers.h - take away the private segments of `rlctl run`s that were killed.
 *
 * Memory that nobody gives back until the next boot. A segment goes when its rlctl is dead,
 * no agent holds its lock and no process that is attached to it lives.
 */
#ifndef TOOLS_RUN_LEFTOVERS_H
#define TOOLS_RUN_LEFTOVERS_H

void run_leftovers_remove(const char *dir);

#endif
