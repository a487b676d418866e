/*
 * keeper.h - one agent keeps one segment: take it over or make it, and publish into it.
 */
#ifndef AGENT_KEEPER_H
#define AGENT_KEEPER_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/config/config.h"
#include "agent/inflight.h"
#include "agent/split.h"
#include "shm/rl_segment.h"

struct keeper {
	const char *path;
	int lock_fd;
	struct rl_seg seg;
	bool anew;              /* the segment was not there */
	uint32_t pools_missing; /* slots that pools lack */
	dev_t dev;              /* of the file that is mapped */
	ino_t ino;
	struct inflight inflight;
	struct split split;
};

/*
 * Take the lock, then the segment that is there, counts and all, or a new one, with the config's
 * rules in force. 0, or a negative error after logging what is wrong and what to do. path must
 * outlive the keeper.
 */
int keeper_open(struct keeper *keeper, const char *path, const struct agent_config *config);

/* Put another config's rules in force; false after logging why not. */
bool keeper_publish(struct keeper *keeper, const struct agent_config *config);

/* Once a second: true when rules of an upgrade that is over have their whole limits again. */
bool keeper_split(struct keeper *keeper);

/* See that each rule has its pool. */
void keeper_pools(struct keeper *keeper);

/* Heartbeat. */
void keeper_beat(struct keeper *keeper);

/* Is the file at the path still the one that is mapped, and whole? False after logging. */
bool keeper_still_there(const struct keeper *keeper);

/* It is not: its users need not wait for the heartbeat to grow old before they look for another. */
void keeper_abandon(struct keeper *keeper);

/* A page of the segment is gone: whoever truncates the file under us gets a last line. */
void keeper_catch_truncation(void);

/* Clean stop: the segment and its counts stay for the workers and for the next agent. */
void keeper_close(struct keeper *keeper);

#endif
