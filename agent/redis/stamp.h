/*
 * stamp.h - a file as it was when it was read: has it changed since?
 *
 * Rooms:  agent/redis/.
 */
#ifndef AGENT_REDIS_STAMP_H
#define AGENT_REDIS_STAMP_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

/* All zero: it was not there. */
struct redis_stamp {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed;
};

/* Is the file another than when *stamp was taken? *stamp is taken anew. Path "" is no file. */
bool redis_stamp_take(const char *path, struct redis_stamp *stamp);

#endif
