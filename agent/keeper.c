#include "agent/keeper.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/migrate.h"
#include "agent/snapshot/snapshot.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_rebase.h"

#define SEGMENT_MODE 0660

static int take_lock(struct keeper *keeper)
{
	char why[RL_WHY_MAX];
	pid_t holder = 0;
	int error = rl_segment_lock(keeper->path, &keeper->lock_fd, &holder, why);

	if (error == RL_E_LOCKED)
		log_event(LOG_ERROR, "locked",
			  "segment=%s holder=%ld msg=\"another rl-agent keeps this segment (also "
			  "while "
			  "it is stopped): stop it first\"",
			  keeper->path, (long)holder);
	else if (error != 0)
		log_event(LOG_ERROR, "no_lock", "segment=%s msg=\"%s\"", keeper->path, why);
	return error;
}

static void note_size(const struct keeper *keeper, const struct agent_config *config)
{
	uint64_t buckets = keeper->seg.view.bucket_count;
	uint64_t wanted = rl_segment_buckets(config->segment_keys);

	if (wanted < buckets / 2)
		log_event(LOG_WARNING, "size_kept",
			  "segment=%s keys_held=%llu keys_configured=%llu msg=\"the segment keeps "
			  "its "
			  "size and counts; to make it smaller stop rl-agent, remove the file, "
			  "start it again: its users follow, counts begin at 0\"",
			  keeper->path, (unsigned long long)rl_segment_keys(buckets),
			  (unsigned long long)config->segment_keys);
}

/* Large enough for what is configured: nothing is lost, and nobody is stopped, when it grows. */
static int grow(struct keeper *keeper, const struct agent_config *config, char *why)
{
	int got = rl_segment_grow(keeper->path, config->segment_keys, why);

	if (got == 1)
		log_event(LOG_INFO, "grown", "segment=%s keys_configured=%llu", keeper->path,
			  (unsigned long long)config->segment_keys);
	else if (got < 0)
		log_event(LOG_WARNING, "size_kept",
			  "segment=%s keys_configured=%llu msg=\"the segment keeps its size and "
			  "counts: %s\"",
			  keeper->path, (unsigned long long)config->segment_keys, why);
	return got;
}

/* A segment that is taken over gets the configured group and mode as well. */
static void permit_again(const struct keeper *keeper, const struct agent_config *config)
{
	const struct rl_segment_spec spec = {.mode = config->segment_mode,
					     .set_group = config->set_group,
					     .group = config->segment_group};
	char why[RL_WHY_MAX];

	if (rl_segment_permit(keeper->path, &spec, why) != 0)
		log_event(LOG_WARNING, "permissions_kept", "segment=%s msg=\"%s\"", keeper->path,
			  why);
}

/* Stamps of one clock mean nothing on another. */
static bool clock_is_kept(const struct keeper *keeper, const struct agent_config *config)
{
	if (keeper->seg.view.given == config->clock_given)
		return true;
	log_event(LOG_ERROR, "other_clock",
		  "segment=%s msg=\"it was made with 'clock: %s': configure it so, or stop its "
		  "users, remove the file and start again\"",
		  keeper->path, keeper->seg.view.given ? "given" : "own");
	return false;
}

/* What the config's rules need beside the segment. */
static bool prepare(struct keeper *keeper, const struct agent_config *config)
{
	return inflight_prepare(&keeper->inflight, keeper->path, config,
				config->segment_mode != 0 ? config->segment_mode : SEGMENT_MODE);
}

/* The rules are put in force in a segment that is taken over as in a new one. */
static int take_over(struct keeper *keeper, const struct agent_config *config)
{
	if (rl_rebase_recover(&keeper->seg))
		log_event(LOG_INFO, "recovered", "msg=\"finished a slot the last agent left\"");
	note_size(keeper, config);
	permit_again(keeper, config);
	inflight_init(&keeper->inflight, &keeper->seg);
	if (clock_is_kept(keeper, config) && keeper_publish(keeper, config))
		return 0;
	rl_segment_detach(&keeper->seg);
	return RL_E_RULES;
}

static struct rl_segment_spec spec_of(const struct agent_config *config)
{
	return (struct rl_segment_spec){
		.keys = config->segment_keys,
		.mode = config->segment_mode != 0 ? config->segment_mode : SEGMENT_MODE,
		.set_group = config->set_group,
		.group = config->segment_group,
		.list_entries = config->list_entries,
		.clock_given = config->clock_given,
		.rule = config->rule,
		.rule_count = config->rule_count,
	};
}

/* With what the snapshot holds, if there is one. */
static int create(struct keeper *keeper, const struct agent_config *config, char *why)
{
	struct snapshot_restore *restore = config->snapshot_path[0] != '\0'
						   ? snapshot_restore_open(config->snapshot_path)
						   : NULL;
	struct rl_segment_spec spec = spec_of(config);
	int error;

	spec.rule = split_halve(&keeper->split, config->rule, config->rule_count);

	if (restore != NULL) {
		spec.hash_key = snapshot_restore_hash_key(restore);
		spec.restore = snapshot_restore_into;
		spec.restore_arg = restore;
	}
	error = rl_segment_create(keeper->path, &spec, &keeper->seg, why);
	if (error == -EBADMSG && restore != NULL) { /* as of a damaged one, found out late */
		spec.hash_key = NULL;
		spec.restore = NULL;
		error = rl_segment_create(keeper->path, &spec, &keeper->seg, why);
	}
	snapshot_restore_close(restore);
	return error;
}

/* Another release's: an earlier one's is carried over, with all it holds. */
static int succeed(struct keeper *keeper, const struct agent_config *config, char *why)
{
	struct rl_segment_spec spec = spec_of(config);
	char other[RL_WHY_MAX] = "";
	int error = migrate(keeper->path, config, &spec, &keeper->split, &keeper->seg, other);

	return error == RL_E_ABI ? error : rl_refuse(error, why, "%s", other);
}

static int take_over_or_create(struct keeper *keeper, const struct agent_config *config)
{
	char why[RL_WHY_MAX];
	int error = rl_segment_attach(keeper->path, &keeper->seg, why);

	if (error == 0 && grow(keeper, config, why) == 1) {
		rl_segment_detach(&keeper->seg);
		error = rl_segment_attach(keeper->path, &keeper->seg, why);
	}
	if (error == 0)
		return take_over(keeper, config);
	keeper->anew = error == -ENOENT;
	if (error == -ENOENT)
		error = create(keeper, config, why);
	else if (error == RL_E_ABI)
		error = succeed(keeper, config, why);
	if (error != 0) {
		log_event(LOG_ERROR, "no_segment", "segment=%s msg=\"%s%s\"", keeper->path, why,
			  migrate_advice(keeper->path, error));
		return error;
	}
	split_settle(&keeper->split, true);
	inflight_init(&keeper->inflight, &keeper->seg);
	return prepare(keeper, config) ? 0 : -EIO;
}

/* Which file it is, in the directory where nobody else may put another. */
static void note_file(struct keeper *keeper)
{
	struct stat st = {0};

	stat(keeper->path, &st);
	keeper->dev = st.st_dev;
	keeper->ino = st.st_ino;
}

static bool is_same_file(const struct keeper *keeper)
{
	struct stat st;

	return stat(keeper->path, &st) == 0 && st.st_dev == keeper->dev && st.st_ino == keeper->ino;
}

static void sign_in(struct keeper *keeper)
{
	struct rl_live *live = keeper->seg.live;

	/* Relaxed: for tools to show. */
	atomic_store_explicit(&live->agent_start_ns, rl_clock_precise_ns(), memory_order_relaxed);
	atomic_store_explicit(&live->agent_pid, (uint64_t)getpid(), memory_order_relaxed);
}

int keeper_open(struct keeper *keeper, const char *path, const struct agent_config *config)
{
	int error;

	keeper->path = path;
	error = take_lock(keeper);
	if (error != 0)
		return error;
	split_open(&keeper->split, path);
	error = take_over_or_create(keeper, config);
	if (error != 0) {
		rl_segment_unlock(keeper->path, keeper->lock_fd, true);
		return error;
	}
	note_file(keeper);
	sign_in(keeper);
	keeper_pools(keeper);
	keeper_split(keeper);
	return 0;
}

void keeper_pools(struct keeper *keeper)
{
	uint32_t missing = rl_pool_ensure(&keeper->seg);

	if (missing > 0 && keeper->pools_missing == 0)
		log_event(
			LOG_WARNING, "no_pool",
			"slots=%u msg=\"the table is full: new keys of some rules are refused with "
			"RL_ERR_FULL until it has room for their pools\"",
			missing);
	keeper->pools_missing = missing;
}

bool keeper_split(struct keeper *keeper)
{
	const struct rl_rule_spec *rule;
	size_t count, other;

	if (!split_look(&keeper->split))
		return false;
	rule = split_due(&keeper->split, &count);
	if (rl_rules_publish(&keeper->seg, rule, count, &other) != 0)
		return false; /* as many as were in force */
	keeper_pools(keeper);
	return true;
}

bool keeper_publish(struct keeper *keeper, const struct agent_config *config)
{
	const struct rl_rule_spec *rule;
	size_t other;
	int error;

	if (!prepare(keeper, config))
		return false;
	rule = split_halve(&keeper->split, config->rule, config->rule_count);
	error = rl_rules_publish(&keeper->seg, rule, config->rule_count, &other);
	split_settle(&keeper->split, error == 0);
	if (error == RL_E_LISTS)
		log_event(LOG_ERROR, "rules_refused",
			  "room=%llu msg=\"allow, deny and overrides have more entries than the "
			  "segment "
			  "has room for: make it with a larger 'lists'\"",
			  (unsigned long long)keeper->seg.view.list_slots / 2);
	else if (error != 0)
		log_event(LOG_ERROR, "rules_refused",
			  "msg=\"the segment cannot take these rules: %s\"", rl_error_text(error));
	if (error == 0)
		keeper_pools(keeper);
	return error == 0;
}

void keeper_beat(struct keeper *keeper)
{
	rl_clock_beat(keeper->seg.live);
}

bool keeper_still_there(const struct keeper *keeper)
{
	char why[RL_WHY_MAX] = "another segment took its place";
	struct rl_view view;
	int error = rl_segment_view(keeper->path, &view, why);
	bool same = false;

	if (error == 0) {
		/* The random key is the segment's name; two that were made from one snapshot after
		 * a reboot share it, but not the file. */
		same = memcmp(view.hash_key, keeper->seg.view.hash_key, sizeof(view.hash_key)) ==
			       0 &&
		       rl_segment_is_at(&keeper->seg.view, keeper->path);
		rl_segment_unview(&view);
	} else if (error == RL_E_CLOCKS) {
		/* Somebody wrote over the heartbeat: the next one sets it right. */
		same = is_same_file(keeper);
	}
	if (!same)
		log_event(LOG_ERROR, "segment_gone",
			  "segment=%s msg=\"%s: removed or replaced under this agent: exiting\"",
			  keeper->path, error == -ENOENT ? "the file is not there" : why);
	return same;
}

void keeper_abandon(struct keeper *keeper)
{
	/* Relaxed: the beat stands for itself. Whose check reads this looks at the path. */
	atomic_store_explicit(&keeper->seg.live->beat_ns, 0, memory_order_relaxed);
}

/* Async-signal-safe; the page that is missing may be any, so nothing more can be done. */
static void on_bus_error(int signal_number)
{
	static const char line[] =
		"level=error event=segment_truncated msg=\"the segment's file was truncated or "
		"damaged under this agent: remove it, then start rl-agent and the servers "
		"again\"\n";

	ssize_t written = write(STDERR_FILENO, line, sizeof(line) - 1);

	(void)signal_number, (void)written;
	_exit(2);
}

void keeper_catch_truncation(void)
{
	const struct sigaction action = {.sa_handler = on_bus_error, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGBUS, &action, NULL);
}

void keeper_close(struct keeper *keeper)
{
	/* Relaxed: for people; the lock says who may write. */
	atomic_store_explicit(&keeper->seg.live->agent_pid, 0, memory_order_relaxed);
	split_close(&keeper->split);
	rl_segment_detach(&keeper->seg);
	rl_segment_unlock(keeper->path, keeper->lock_fd, false);
}
