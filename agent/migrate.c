#include "agent/migrate.h"

#include <errno.h>
#include <time.h>

#include "agent/log.h"
#include "shm/rl_carry.h"
#include "shm/rl_check.h"
#include "shm/rl_error.h"
#include "shm/rl_member.h"
#include "shm/rl_rebase.h"

#define CHECK_MS 10 /* a check in its middle has ended, or its process is stopped */

struct migration {
	struct rl_seg old;
	uint32_t abi;
	const struct agent_config *config;
	uint64_t carried, no_room;
};

static void carry(struct migration *migration, struct rl_seg *seg, enum rl_carried kind)
{
	for (uint64_t i = 0; i < migration->old.view.slot_count; i++) {
		int got;

		if (rl_carry_kind(&migration->old.view, i) != kind)
			continue;
		got = rl_carry_slot(&migration->old, i, seg);
		migration->carried += got == 1 && kind == RL_CARRY_KEY;
		migration->no_room += got < 0;
	}
}

/* Whoever checks there from now on does so by what is left to it. Relaxed: the beat stands alone.
 */
static void leave_old(struct migration *migration)
{
	const struct timespec check = {.tv_nsec = CHECK_MS * 1000000};

	rl_rebase_recover(&migration->old);
	atomic_store_explicit(&migration->old.live->beat_ns, 0, memory_order_relaxed);
	split_leave(&migration->old, migration->config->rule, migration->config->rule_count);
	nanosleep(&check, NULL);
}

static int carry_over(struct rl_seg *seg, void *arg)
{
	struct migration *migration = arg;

	leave_old(migration);
	rl_carry_fleet(&migration->old, seg);
	rl_carry_rules(&migration->old.view, seg);
	carry(migration, seg, RL_CARRY_POOL);
	rl_pool_ensure(seg);
	carry(migration, seg, RL_CARRY_KEY);
	return 0;
}

static void report(const struct migration *migration, const char *path)
{
	log_event(migration->no_room > 0 ? LOG_WARNING : LOG_INFO, "migrated",
		  "segment=%s from_abi=%u to_abi=%u keys=%llu no_room=%llu "
		  "processes=%u",
		  path, migration->abi, RL_ABI_MAJOR, (unsigned long long)migration->carried,
		  (unsigned long long)migration->no_room, rl_member_living(&migration->old.view));
}

/* At least as many keys as it could hold: none is to be without a slot. */
static void fit(const struct migration *migration, struct rl_segment_spec *spec)
{
	uint64_t keys = rl_segment_keys(migration->old.view.bucket_count);

	if (spec->keys < keys)
		spec->keys = keys;
}

int migrate(const char *path, const struct agent_config *config, struct rl_segment_spec *spec,
	    struct split *split, struct rl_seg *ret, char *why)
{
	struct migration migration = {.config = config, .abi = rl_segment_abi(path)};
	int error;

	if (migration.abi < RL_ABI_OLDEST || migration.abi >= RL_ABI_MAJOR)
		return RL_E_ABI;
	error = split_begin(split, path, why); /* asks who has it, so before we do */
	if (error != 0)
		return error;
	error = rl_segment_attach_older(path, &migration.old, why);
	if (error != 0) {
		split_cancel(split);
		return error;
	}
	fit(&migration, spec);
	spec->rule = split_halve(split, config->rule, config->rule_count);
	spec->hash_key = migration.old.view.hash_key;
	spec->restore = carry_over;
	spec->restore_arg = &migration;
	if (migration.old.view.given != config->clock_given)
		error = rl_refuse(RL_E_CLOCK, why, "it was made with another 'clock'");
	else
		error = rl_segment_create(path, spec, ret, why);
	if (error == 0)
		report(&migration, path);
	else
		split_cancel(split);
	rl_segment_detach(&migration.old);
	return error;
}

const char *migrate_advice(const char *path, int error)
{
	uint32_t abi = rl_segment_abi(path);

	if (error != RL_E_ABI)
		return abi >= RL_ABI_OLDEST && abi < RL_ABI_MAJOR
			       ? "; the earlier release's segment is as it was, and its servers "
				 "go on by it"
			       : "";

	if (abi > RL_ABI_MAJOR)
		return "; a newer release made it, and its counts are all there: start that "
		       "release's rl-agent. To go back to this one, let the newer write them to a "
		       "file, rl-agent --config FILE --export SNAPSHOT, name that file as "
		       "'snapshot', remove the segment and start this one";
	if (abi != 0 && abi < RL_ABI_OLDEST)
		return "; it is too old to be carried over: start the release that made it once "
		       "more, with a 'snapshot', and stop it; remove the segment and start this "
		       "one, with that snapshot";
	return "";
}
