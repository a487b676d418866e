#include "agent/sync/sync.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/log.h"
#include "agent/store/store.h"
#include "agent/sync/bell.h"
#include "agent/sync/due.h"
#include "agent/sync/eventual.h"
#include "agent/sync/lost.h"
#include "agent/sync/part.h"
#include "agent/sync/share.h"
#include "agent/sync/slot.h"
#include "agent/sync/untold.h"
#include "agent/sync/waiters.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

#define HOLD_NS     RL_SECOND_NS
#define NODES_TICKS 50u
#define CLASH_NS    UINT64_C(1000000000) /* between two new identities that clash, too */

/* Somebody has run short, or is about to, and asking is of use. */
static bool runs_short(const struct sync *sync, uint64_t index)
{
	const struct rl_slot *slot = &sync->seg->slot[index];
	uint64_t hint = word_of(&slot->hint);

	if (rl_hint_again_ns(hint) > rl_clock_precise_ns())
		return false;
	return atomic_load_explicit(&slot->asked, memory_order_relaxed) != 0 ||
	       rl_head_credit(word_of(&slot->head)) <= rl_hint_low(hint);
}

/* It lives on its blind share, has enough of it, and told all that matters. */
static bool rests(const struct sync *sync, const struct rl_named_rule *named, uint64_t index)
{
	return due_is_quiet(sync, &named->rule, index) && !runs_short(sync, index);
}

/* A worker has marked this slot: it is active from now on. */
static void touch(uint64_t index, void *arg)
{
	struct sync *sync = arg;
	const struct rl_named_rule *named = sync_rule_of(sync, index);
	struct sync_entry *entry = sync_active_find(&sync->active, index);
	uint64_t now_ns = rl_clock_precise_ns();
	uint32_t part;

	if (named == NULL || rl_rule_is_local(&named->rule) ||
	    !rl_head_is_open(word_of(&sync->seg->slot[index].head)))
		return;
	part = sync_part_of(sync, index);
	if (entry != NULL && sync_active_part(&sync->active, index) != part) {
		if (entry->in_flight)
			return; /* the slot went to another key: when its call is over */
		sync_active_remove(&sync->active, entry);
		entry = NULL;
	}
	if (entry == NULL && rl_rule_is_eventual(&named->rule) && !eventual_wants(sync, index))
		return; /* refused while nothing can have changed */
	if (entry == NULL && !rl_rule_is_eventual(&named->rule) && rests(sync, named, index))
		return; /* what it admitted need not be told */
	if (entry == NULL) {
		entry = sync_active_add(&sync->active, part, index);
		if (entry == NULL)
			return; /* no memory: its next mark tries again */
		entry->busy_ns = entry->told_ns = now_ns;
		entry->due_ns = now_ns;
		if (!rl_rule_is_eventual(&named->rule)) /* else it does not know what others did */
			entry->due_ns = due_next_ns(sync, &named->rule, entry, part, now_ns);
	}
	if (!rl_rule_is_eventual(&named->rule) && runs_short(sync, index))
		part_want(&sync->part[part], index);
}

static void on_heard(void *arg)
{
	struct sync *sync = arg;

	rl_dirty_take(sync->seg, false, touch, sync);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (sync->part[p].wanted_count > 0)
			part_pump(&sync->part[p], false);
}

static void on_gap(evutil_socket_t unused, short events, void *arg)
{
	struct sync *sync = arg;

	(void)unused, (void)events;
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (sync->part[p].wanted_count > 0 || sync->part[p].backlog)
			part_pump(&sync->part[p], false);
}

static uint64_t boot_ns(void)
{
	return rl_clock_read_ns(CLOCK_BOOTTIME) - rl_clock_read_ns(CLOCK_MONOTONIC);
}

/* CLOCK_MONOTONIC stood still while the host was suspended; leases did not. */
static void count_suspend(struct sync *sync)
{
	uint64_t suspend_ns = boot_ns(), slept_ns = suspend_ns - sync->suspend_ns;

	if ((int64_t)slept_ns < 1000000)
		return;
	sync->suspend_ns = suspend_ns;
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		_Atomic uint64_t *until = &sync->seg->fleet->part[p].lease_until_ns;

		put(until, word_of(until) > slept_ns ? word_of(until) - slept_ns : 0);
	}
}

static void tick_part(struct sync *sync, struct sync_part *part)
{
	part_end_grace(part);
	if (!store_is_up(sync->store, part->number))
		part_silent(part);
	else if (!part->in_flight)
		part_pump(part, true);
	else if (part->refused && rl_clock_precise_ns() >= part->retry_ns)
		part_resend(part);
}

static void on_tick(evutil_socket_t unused, short events, void *arg)
{
	struct sync *sync = arg;

	(void)unused, (void)events;
	rl_clock_beat(sync->seg->live);
	count_suspend(sync);
	lost_say(sync);
	rl_dirty_take(sync->seg, sync->whole, touch, sync);
	sync->whole = false;
	untold_tick(sync, rl_clock_precise_ns());
	if (sync->ticks++ % NODES_TICKS == 0)
		say_nodes(sync); /* they may change places without a word */
	if (store_up(sync->store) == STORE_ALL)
		say_up(sync); /* when it came too soon after the last word of the connection */
	for (uint32_t p = 0; p < RL_PARTS; p++)
		tick_part(sync, &sync->part[p]);
	load_look(sync, rl_clock_precise_ns());
	observe_some(sync, rl_clock_precise_ns());
	share_some(sync, rl_clock_precise_ns());
}

static void note_redis(struct sync *sync, uint64_t state)
{
	if (word_of(&sync->seg->fleet->redis) == state)
		return;
	put(&sync->seg->fleet->redis, state);
	put(&sync->seg->fleet->redis_since_ns, rl_clock_precise_ns());
}

static void on_server(void *arg, const char *where, const struct store_server *server)
{
	say_server(arg, where, server);
}

/*
 * What the fleet was told goes first: its answer is here before that of any call that is sent
 * behind it, and so before the next one is put together.
 */
static void control_up(struct sync *sync)
{
	uint64_t now_ns = rl_clock_precise_ns();

	if (sync->listener == NULL)
		return;
	if (sync->lost_ns != 0 && now_ns - sync->lost_ns > HOLD_NS)
		sync->hold_ns = now_ns + HOLD_NS;
	sync->lost_ns = 0;
	sync->listener(sync->listener_arg);
}

/* It is up when all of it is: what is missing is of some keys, and nobody knows which he will ask.
 */
static void on_up(void *arg, uint32_t parts)
{
	struct sync *sync = arg;

	say_nodes(sync);
	if (store_up(sync->store) == STORE_ALL) {
		say_up(sync);
		note_redis(sync, RL_REDIS_UP);
	}
	if ((parts & 1) != 0)
		control_up(sync);
	if (lost_is_elsewhere(sync))
		for (uint32_t p = 0; p < RL_PARTS; p++)
			lost_wait(&sync->part[p]);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (parts >> p & 1) {
			part_reached(&sync->part[p]);
			part_resend(&sync->part[p]);
		}
}

static void on_down(void *arg, uint32_t parts, const char *where, const char *why)
{
	struct sync *sync = arg;

	if (why != NULL)
		say_down(sync, where, why);
	say_nodes(sync);
	note_redis(sync, RL_REDIS_DOWN);
	if ((parts & 1) != 0 && sync->lost_ns == 0)
		sync->lost_ns = rl_clock_precise_ns();
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (parts >> p & 1) {
			part_silent(&sync->part[p]);
			waiters_tell(sync->waiters, p);
		}
}

void sync_renew(struct sync *sync)
{
	uint64_t now_ns = rl_clock_precise_ns(), since_ns = now_ns - sync->told_clash_ns;

	if (sync->told_clash_ns == 0 || since_ns > COMPLAIN_NS)
		log_event(
			LOG_ERROR, "identity_clash",
			"host=%s row=%s msg=\"another live host uses this segment's identity (a "
			"copy of its memory or file?): taking a new one, its credit is given up\"",
			sync->identity.host, sync->identity.row);
	sync->told_clash_ns = now_ns;
	atomic_fetch_add_explicit(&sync->seg->fleet->clashes, 1, memory_order_relaxed);
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		struct sync_list *list = &sync->active.part[p];

		for (uint32_t i = 0; i < list->count; i++) {
			sync_slot_forget(sync->seg, list->entry[i].index);
			sync_slot_take_credit(sync->seg, list->entry[i].index);
			list->entry[i].in_flight = list->entry[i].recorded = false;
		}
		sync->part[p].in_flight = false;
		if (since_ns < CLASH_NS) /* what answers there is no Redis of ours */
			sync->part[p].retry_ns = now_ns + CLASH_NS;
	}
	if (!identity_renew(sync->seg, &sync->identity))
		log_event(LOG_ERROR, "no_random", "msg=\"the kernel gives no random numbers\"");
}

/* Units that nobody is to be told of any more. */
static void drop_unsent(struct sync *sync, uint64_t index)
{
	if ((word_of(&sync->seg->side[index].acked) & RL_TRACKED) != 0)
		atomic_fetch_add_explicit(&sync->seg->fleet->dropped,
					  sync_slot_unsent(&sync->seg->view, index),
					  memory_order_relaxed);
}

bool sync_may_free(struct sync *sync, uint64_t index)
{
	struct sync_entry *entry = sync == NULL ? NULL : sync_active_find(&sync->active, index);
	const struct rl_named_rule *named = sync == NULL ? NULL : sync_rule_of(sync, index);

	if (sync == NULL)
		return true;
	if (entry != NULL && (entry->in_flight || entry->forget_ns != 0))
		return false;
	if (store_is_up(sync->store, sync_part_of(sync, index)) && named != NULL &&
	    !rl_rule_is_local(&named->rule)) {
		if (entry != NULL)
			return false; /* it is given back within three intervals, or a window */
		if ((word_of(&sync->seg->side[index].acked) & RL_TRACKED) != 0 &&
		    sync_slot_unsent(&sync->seg->view, index) > 0 &&
		    !due_is_quiet(sync, &named->rule, index)) {
			rl_dirty_mark(sync->seg, index);
			return false;
		}
	}
	/* Nobody to tell, and its window has passed: it would not count any more. */
	drop_unsent(sync, index);
	if (entry != NULL)
		sync_active_remove(&sync->active, entry);
	return true;
}

static bool open_store(struct sync *sync, const struct agent_config *config)
{
	static const struct store_events events = {
		.server = on_server, .up = on_up, .down = on_down};
	const struct store_setup setup = {
		.base = sync->base,
		.url = config->redis_url,
		.fleet = sync->identity.fleet,
		.timeout_ms = (unsigned)(config->redis_timeout_ns / 1000000),
		.trust = &config->redis_trust,
		.login = &config->redis_login,
		.sentinels = &config->redis_sentinels,
		.seeds = &config->redis_seeds,
	};

	sync->store = store_new(&setup, &events, sync, &sync->why);
	return sync->store != NULL;
}

static bool wire(struct sync *sync, const struct agent_config *config)
{
	const struct timeval tick = {.tv_usec = SYNC_TICK_MS * 1000};

	sync->tick = event_new(sync->base, -1, EV_PERSIST, on_tick, sync);
	sync->gap = evtimer_new(sync->base, on_gap, sync);
	sync->bell = bell_new(sync->base, sync->seg, on_heard, sync);
	return sync->tick != NULL && sync->gap != NULL && sync->bell != NULL &&
	       open_store(sync, config) && event_add(sync->tick, &tick) == 0;
}

static void publish(struct sync *sync, const struct agent_config *config)
{
	struct rl_fleet *fleet = sync->seg->fleet;

	put(&fleet->stale_after_ns, config->stale_after_ns);
	put(&fleet->interval_ns, config->interval_ns);
	put(&fleet->slowed, 0);
	note_redis(sync, RL_REDIS_DOWN); /* until the first connection */
	for (uint32_t p = 0; p < RL_PARTS; p++)
		part_silent(&sync->part[p]);
}

/* Identity, rules, and what was left: everything before the loop. */
static bool prepare(struct sync *sync, const char *path, const struct agent_config *config)
{
	bool good, fresh;

	if (!sync_active_init(&sync->active, sync->seg->view.slot_count))
		return false;
	fresh = identity_open(sync->seg, config->fleet, config->host, path, &sync->identity, &good);
	if (!good)
		return false;
	for (uint32_t p = 0; p < RL_PARTS; p++)
		part_init(sync, p);
	if (!lost_init(sync))
		return false;
	sync->whole = true;
	sync->totals = getenv("RL_TEST_TOTALS") != NULL;
	sync->suspend_ns = boot_ns();
	sync->began_ns = sync->lost_ns = rl_clock_precise_ns();
	rules_read(sync);
	publish(sync, config);
	takeover(sync, fresh);
	return true;
}

struct sync *sync_new(struct event_base *base, struct rl_seg *seg, const char *path,
		      const struct agent_config *config)
{
	struct sync *sync = calloc(1, sizeof(*sync));

	if (sync == NULL)
		return NULL;
	sync->base = base;
	sync->seg = seg;
	sync->why = "out of memory, threads or descriptors";
	if (prepare(sync, path, config) && wire(sync, config)) {
		sync->waiters = waiters_new(base, seg, path);
		return sync;
	}
	log_event(LOG_ERROR, "no_sync", "msg=\"cannot begin to sync with Redis: %s\"", sync->why);
	sync_free(sync);
	return NULL;
}

void sync_watched_by(struct sync *sync, struct watch *watch)
{
	sync->watch = watch;
}

const char *sync_host(const struct sync *sync)
{
	return sync->identity.host;
}

void sync_listen(struct sync *sync, void (*up)(void *arg), void *arg)
{
	sync->listener = up;
	sync->listener_arg = arg;
}

bool sync_can_control(const struct sync *sync)
{
	return store_is_up(sync->store, 0);
}

int sync_control(struct sync *sync, const void *bytes, size_t size, store_fn *fn, void *arg)
{
	const struct store_call call = {.host = sync->identity.host,
					.row = sync->identity.row,
					.words = sync->identity.about};

	return store_control(sync->store, &call, bytes, size, fn, arg);
}

void sync_heard(struct sync *sync)
{
	sync->hold_ns = 0;
}

void sync_free(struct sync *sync)
{
	if (sync == NULL)
		return;
	bell_free(sync->bell);
	waiters_free(sync->waiters);
	store_free(sync->store);
	if (sync->tick != NULL)
		event_free(sync->tick);
	if (sync->gap != NULL)
		event_free(sync->gap);
	sync_active_free(&sync->active);
	lost_free(sync);
	free(sync);
}
