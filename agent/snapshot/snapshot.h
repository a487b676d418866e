/*
 * snapshot.h - what this host has counted, on disk: for when the segment is gone, after a reboot.
 *
 * Rooms:  agent/. A thread of its own, so that a slow disk holds up nobody.
 *
 * Every interval, and at a clean stop, all keys of local rules that hold anything are written to
 * PATH.tmp, which then takes PATH's place: it is the old snapshot or the new one, whole. After a
 * crash of the host what was admitted since the last one is not known; after a clean stop nothing
 * is missing that came before it. Rules that hosts share are Redis' to remember.
 *
 * An agent that finds no segment makes one and puts the snapshot's keys into it before anybody can
 * see it. Stamps are told by the wall clock: if that is behind the snapshot's, no time has passed.
 */
#ifndef AGENT_SNAPSHOT_H
#define AGENT_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

/* Write one now, from any thread. 0 and the number of keys, or -errno and why. */
int snapshot_save(const struct rl_view *view, const char *path, uint64_t *ret_keys, char *why);

/* Could one be written there? Said before the first interval is over. 0, or -errno and why. */
int snapshot_check_place(const char *path, char *why);

/*
 * What rl_segment_create() is given, from the snapshot at path; logs what it did, or why not. A
 * block of it is in memory at a time. -EBADMSG, logged: it changed since it was opened, and the
 * segment is not to be used.
 */
struct snapshot_restore;
struct snapshot_restore *snapshot_restore_open(const char *path);
const uint64_t *snapshot_restore_hash_key(const struct snapshot_restore *restore);
int snapshot_restore_into(struct rl_seg *seg, void *restore);
void snapshot_restore_close(struct snapshot_restore *restore);

/* The thread; NULL when it could not be started. Stopping it writes one more, if last. */
struct snapshot_thread;
struct snapshot_thread *snapshot_start(const struct rl_view *view, const char *path,
				       uint64_t interval_ns);
void snapshot_stop(struct snapshot_thread *thread, bool last);

#endif
