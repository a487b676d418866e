/*
 * restore.c - a snapshot into a new segment.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/log.h"
#include "agent/snapshot/boot.h"
#include "agent/snapshot/file.h"
#include "agent/snapshot/snapshot.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_terms.h"

struct snapshot_restore {
	char path[PATH_MAX];
	struct snapshot snapshot;
	struct rl_saved_terms terms;
	uint64_t age_ns;
};

/*
 * Of another boot nobody can have the old segment any more: then the new one takes its hash key,
 * and long keys are known again. In the same boot it must be another: a client that has both
 * tells them apart by it.
 */
static bool is_other_boot(const struct snapshot_head *head)
{
	char boot[SNAPSHOT_BOOT_BYTES];

	snapshot_boot(boot);
	return boot[0] != '\0' && head->boot[0] != '\0' && strcmp(boot, head->boot) != 0;
}

static void reckon(struct snapshot_restore *restore)
{
	const struct snapshot_head *head = &restore->snapshot.head;
	uint64_t wall_ns = rl_clock_read_ns(CLOCK_REALTIME), now_ns = rl_clock_precise_ns();

	if (wall_ns < head->wall_ns)
		log_event(LOG_WARNING, "snapshot_ahead",
			  "snapshot=%s ahead_s=%llu msg=\"the clock is behind it: what it holds is "
			  "taken for as young as it was then\"",
			  restore->path,
			  (unsigned long long)((head->wall_ns - wall_ns) / RL_SECOND_NS));
	else
		restore->age_ns = wall_ns - head->wall_ns;
	restore->terms = (struct rl_saved_terms){
		.now_ns = now_ns,
		.shift_ns = (int64_t)(now_ns - restore->age_ns - head->clock_ns),
		.same_hash = is_other_boot(head),
	};
}

static bool is_too_old(const struct snapshot_restore *restore)
{
	if (restore->age_ns <= RL_WINDOW_MAX_NS)
		return false;
	log_event(
		LOG_WARNING, "snapshot_old",
		"snapshot=%s age_s=%llu msg=\"older than the longest window there can be: nothing "
		"in it counts any more\"",
		restore->path, (unsigned long long)(restore->age_ns / RL_SECOND_NS));
	return true;
}

struct snapshot_restore *snapshot_restore_open(const char *path)
{
	struct snapshot_restore *restore = calloc(1, sizeof(*restore)); /* 65 KiB */
	char why[RL_WHY_MAX] = "";
	int error;

	if (restore == NULL)
		return NULL;
	restore->snapshot.fd = -1;
	strcpy(restore->path, path);
	error = snapshot_read(path, &restore->snapshot, why);
	if (error == 0) {
		reckon(restore);
		if (!is_too_old(restore))
			return restore;
	} else if (error == -ENOENT) {
		log_event(LOG_INFO, "no_snapshot", "snapshot=%s msg=\"counts begin at 0\"", path);
	} else {
		log_event(
			LOG_ERROR, "snapshot_refused",
			"snapshot=%s msg=\"%s; counts begin at 0, and the next snapshot takes its "
			"place\"",
			path, why);
	}
	snapshot_restore_close(restore);
	return NULL;
}

const uint64_t *snapshot_restore_hash_key(const struct snapshot_restore *restore)
{
	return restore->terms.same_hash ? restore->snapshot.head.hash_key : NULL;
}

struct tally {
	uint64_t put, left_out, no_room;
};

static void put_keys(struct rl_seg *seg, struct snapshot_restore *restore, bool pools,
		     struct tally *tally)
{
	struct rl_saved saved;

	snapshot_rewind(&restore->snapshot);
	while (snapshot_next(&restore->snapshot, &saved)) {
		int got;

		if (rl_pool_is_text(&saved.text) != pools)
			continue;
		got = rl_saved_put(seg, &saved, &restore->terms);
		tally->put += got == 1;
		tally->left_out += got == 0;
		tally->no_room += got < 0;
	}
}

static int refuse_changed(const struct snapshot_restore *restore)
{
	log_event(LOG_ERROR, "snapshot_refused",
		  "snapshot=%s msg=\"it was written over while it was read; counts begin at 0, and "
		  "the next snapshot takes its place\"",
		  restore->path);
	return -EBADMSG;
}

/* The rules' pools first, with their counts or without: keys for which there is no room need them.
 */
int snapshot_restore_into(struct rl_seg *seg, void *arg)
{
	struct snapshot_restore *restore = arg;
	struct tally tally = {0};

	if (restore->snapshot.pools > 0)
		put_keys(seg, restore, true, &tally);
	rl_pool_ensure(seg);
	put_keys(seg, restore, false, &tally);
	if (restore->snapshot.changed)
		return refuse_changed(restore);
	log_event(tally.no_room > 0 ? LOG_WARNING : LOG_INFO, "restored",
		  "snapshot=%s keys=%llu left_out=%llu no_room=%llu age_s=%llu", restore->path,
		  (unsigned long long)tally.put, (unsigned long long)tally.left_out,
		  (unsigned long long)tally.no_room,
		  (unsigned long long)(restore->age_ns / RL_SECOND_NS));
	return 0;
}

void snapshot_restore_close(struct snapshot_restore *restore)
{
	if (restore == NULL)
		return;
	snapshot_free(&restore->snapshot);
	free(restore);
}
