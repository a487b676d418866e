/*
 * window.c - what is in the window of a key: groups of units, each dated as the last of them.
 *
 * A group leaves when its last unit does, so none leaves early; a group is closed when it has its
 * share of L, so that few leave late. While a key is worked on its newest group is in
 * work->ticks and work->units, and key->group holds the others right.
 */
#include <math.h>
#include <string.h>

#include "agent/memory/inner.h"

static uint32_t saturated(double units)
{
	return units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

static double ticks_of(const struct memory_work *work, uint32_t i)
{
	return i + 1u == work->key->groups ? work->ticks : (double)work->key->group[i].ticks;
}

static double units_of(const struct memory_work *work, uint32_t i)
{
	return i + 1u == work->key->groups ? work->units : work->key->group[i].units;
}

void memory_window_store(struct memory_work *work)
{
	if (work->key->groups > 0)
		work->key->group[work->key->groups - 1] =
			(struct memory_group){(uint64_t)work->ticks, saturated(work->units)};
}

/* A time between two groups that is worth a group of its own. */
static bool is_pause(const struct memory_work *work, double ticks)
{
	return ticks > work->W / MEMORY_GROUPS * MEMORY_TICKS;
}

void memory_window_date_back(struct memory_work *work)
{
	double latest = ceil(work->now_ms * MEMORY_TICKS);

	for (uint32_t i = 0; i < work->key->groups; i++)
		if ((double)work->key->group[i].ticks > latest)
			work->key->group[i].ticks = (uint64_t)latest;
	work->ticks = fmin(work->ticks, latest);
}

void memory_window_expire(struct memory_work *work)
{
	double begin = work->begin_ms * MEMORY_TICKS;
	struct memory_key *key = work->key;
	uint32_t gone = 0;

	while (gone < key->groups && ticks_of(work, gone) <= begin)
		work->count -= units_of(work, gone++);
	if (gone > 0) {
		key->groups = (uint8_t)(key->groups - gone);
		memmove(key->group, key->group + gone, key->groups * sizeof(*key->group));
		work->changed = true;
	}
	if (key->groups == 0 || work->count < 0)
		work->count = 0;
}

double memory_window_ticks(const struct memory_work *work, double age_ms)
{
	return fmax(ceil((work->now_ms - age_ms) * MEMORY_TICKS), 0);
}

static void append(struct memory_work *work, double ticks, double units)
{
	struct memory_key *key = work->key;

	memory_window_store(work);
	work->anew = work->anew || key->groups > 0;
	key->groups++;
	work->ticks = ticks;
	work->units = units;
}

/*
 * A group is closed when it has its share of L. And after a pause, or what was spent before it
 * would leave with what comes after it: at each start of a flood a part of a group would be of
 * no use to anybody for W. That only in the upper half of L, where it matters, and while enough
 * groups are left for the rest of L. The last one takes all there is.
 */
static bool begins_group(const struct memory_work *work, double ticks)
{
	double share = ceil(work->L / (MEMORY_GROUPS - 2)),
	       left = MEMORY_GROUPS - work->key->groups;
	bool pause = is_pause(work, ticks - work->ticks) && work->count >= work->L / 2 &&
		     left > fmax(ceil((work->L - work->count) / share), 0);

	return left > 0 && (work->units >= share || pause);
}

void memory_window_add(struct memory_work *work, double ticks, double units)
{
	if (work->key->groups > 0 && ticks <= work->ticks) {
		work->units += units; /* dated later than spent, never earlier */
	} else if (work->key->groups == 0 || begins_group(work, ticks)) {
		append(work, ticks, units);
	} else {
		work->ticks = ticks;
		work->units += units;
	}
}

static void insert(struct memory_key *key, uint32_t at, double ticks, double units)
{
	memmove(key->group + at + 1, key->group + at, (key->groups - at) * sizeof(*key->group));
	key->group[at] = (struct memory_group){(uint64_t)ticks, saturated(units)};
	key->groups++;
}

/*
 * Units of before the newest group join the first one that leaves no earlier than they must, or
 * get one of their own where that one leaves much later.
 */
void memory_window_put_in(struct memory_work *work, double ticks, double units)
{
	struct memory_key *key = work->key;
	uint32_t at = key->groups;

	work->anew = true;
	if (key->groups == 0 || ticks > work->ticks) {
		memory_window_add(work, ticks, units);
		return;
	}
	at--;
	while (at > 0 && (double)key->group[at - 1].ticks >= ticks)
		at--;
	if (is_pause(work, ticks_of(work, at) - ticks) && key->groups < MEMORY_GROUPS)
		insert(key, at, ticks, units);
	else if (at + 1u == key->groups)
		work->units += units;
	else
		key->group[at].units = saturated(key->group[at].units + units);
}

/* More than the first group may have to leave, when an outage let hosts go above L. */
double memory_window_ms_to_room(const struct memory_work *work)
{
	uint32_t groups = work->key->groups;
	double count = work->count;

	for (uint32_t i = 0; i + 1 < groups; i++) {
		count -= units_of(work, i);
		if (work->L - count >= 1)
			return ticks_of(work, i) / MEMORY_TICKS + work->W - work->now_ms;
	}
	return groups > 0 ? work->ticks / MEMORY_TICKS + work->W - work->now_ms : work->W;
}

void memory_window_leaving(const struct memory_work *work, double *ret_first, double *ret_all)
{
	double first = ticks_of(work, 0) / MEMORY_TICKS, last = work->ticks / MEMORY_TICKS;

	*ret_first = fmax(ceil(first + work->W - work->now_ms), 1);
	*ret_all = fmax(ceil(last + work->W - work->now_ms), 1);
}
