#include "agent/sync/load.h"

#include "agent/log.h"
#include "agent/sync/part.h"
#include "agent/sync/word.h"

#define SMOOTH      32u                 /* answers: two of each partition */
#define OVER_BEST   4u                  /* so many times as long as the quickest is slow */
#define FORGET_BEST 4096u               /* the quickest is doubled in some five minutes of looks */
#define TOOK_MOST   UINT64_C(100000000) /* one call that an outage held up says no more */
#define MOST_NS     UINT64_C(1000000000)
#define WINDOW_PART 8u

void load_answered(struct load *load, uint64_t took_ns)
{
	if (took_ns > TOOK_MOST)
		took_ns = TOOK_MOST;
	if (load->best_ns == 0 || took_ns < load->best_ns)
		load->best_ns = took_ns;
	load->took_ns = (load->took_ns * (SMOOTH - 1) + took_ns) / SMOOTH;
}

static bool is_slow(struct load *load)
{
	load->best_ns += load->best_ns / FORGET_BEST;
	return load->took_ns > LOAD_SLOW_NS && load->took_ns > OVER_BEST * load->best_ns;
}

static bool is_behind(const struct sync *sync, uint64_t now_ns)
{
	for (uint32_t p = 0; p < RL_PARTS; p++)
		if (sync->part[p].full_since_ns != 0 &&
		    now_ns - sync->part[p].full_since_ns > LOAD_WORSE_NS)
			return true;
	return false;
}

static void say(struct sync *sync, uint64_t now_ns)
{
	struct load *load = &sync->load;

	if (load->said_ns != 0 && now_ns - load->said_ns < COMPLAIN_NS)
		return;
	load->said_ns = now_ns;
	log_event(LOG_WARNING, "sync_slowed",
		  "msg=\"%s (%u us a call): keys far from their limit are told less often, then "
		  "all\" hint=\"is Redis, or this agent, short of processor?\"",
		  load->slow ? "Redis answers slowly" : "more keys are due than calls can take",
		  (unsigned)(load->took_ns / 1000));
}

static void set_level(struct sync *sync, uint32_t level, uint64_t now_ns)
{
	sync->load.level = level;
	sync->load.bad_since_ns = sync->load.well_since_ns = now_ns;
	put(&sync->seg->fleet->slowed, level);
}

void load_look(struct sync *sync, uint64_t now_ns)
{
	struct load *load = &sync->load;
	bool behind, slow;

	if (now_ns - load->looked_ns < LOAD_LOOK_NS)
		return;
	load->looked_ns = now_ns;
	behind = is_behind(sync, now_ns);
	slow = is_slow(load);
	if (!slow && !behind) {
		load->bad_since_ns = 0;
		if (load->well_since_ns == 0)
			load->well_since_ns = now_ns;
		if (load->level > 0 && now_ns - load->well_since_ns >= LOAD_BETTER_NS)
			set_level(sync, load->level - 1, now_ns);
		return;
	}
	load->well_since_ns = 0;
	load->slow = slow;
	if (load->bad_since_ns == 0)
		load->bad_since_ns = now_ns;
	if (load->level < RL_SLOWED_MOST && now_ns - load->bad_since_ns >= LOAD_WORSE_NS) {
		set_level(sync, load->level + 1, now_ns);
		say(sync, now_ns);
	}
}

uint64_t load_interval_ns(const struct load *load, uint64_t interval_ns, uint64_t window_ns,
			  bool far)
{
	uint64_t slowed_ns =
		interval_ns * (far ? rl_slowed_far(load->level) : rl_slowed_all(load->level));
	uint64_t most_ns = window_ns / WINDOW_PART < MOST_NS ? window_ns / WINDOW_PART : MOST_NS;

	if (most_ns < interval_ns)
		most_ns = interval_ns;
	return slowed_ns < most_ns ? slowed_ns : most_ns;
}
