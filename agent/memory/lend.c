/*
 * lend.c - what a host may spend from now on without asking.
 *
 * Nothing is lent that is not there: with what all others hold, what the host keeps and what is in
 * the window it is at most L. Only a blind share, which the rule allows for, is not counted.
 */
#include <math.h>

#include "agent/memory/inner.h"

/* What the host should get: before it is cut to the room there is. */
struct wish {
	double grant, need, room;
	bool blind; /* takes no room */
};

/*
 * Half as much again as it will ask for in T (demand fades with 3 T, so that is a third of it);
 * nothing when that is less than one.
 */
static double need_of(const struct memory_work *work, bool cold)
{
	double need = work->own >= 3 ? 0.5 * work->own : 0;

	if (cold)
		need *= 2;
	return need < work->item->waiting ? work->item->waiting : need;
}

/*
 * Half of the fair part: the rest is for those who call next, if there are any. Near the limit
 * there is little to give but what leaves the window just now, and what is kept back is of no use
 * to anybody: more of it, and all to who is nearly alone.
 */
static double want_of(const struct memory_work *work, double need)
{
	double want = work->L - work->count;

	if (work->live > 1 && want > work->L / 8)
		want *= 0.5;
	else if (work->live > 1 && work->own < 0.9 * work->demand)
		want *= 0.8;
	if (work->own < work->demand)
		want *= work->own / work->demand;
	return (need < want ? need : want) - work->item->credit;
}

static void wish_of(const struct memory_work *work, struct wish *ret)
{
	double credit = work->item->credit, waiting = work->item->waiting, want;
	bool cold = work->count + work->others < 0.6 * work->L;

	*ret = (struct wish){.need = need_of(work, cold)};
	if (work->item->blind > 0 && cold && ret->need <= work->item->blind &&
	    credit <= work->item->blind) {
		ret->blind = true;
		ret->grant = work->item->blind - credit;
		return;
	}
	ret->room = work->L - work->count - work->others - credit;
	want = want_of(work, ret->need);
	ret->grant = want > 0 ? floor(want) : 0;
	if (work->coin < want - ret->grant)
		ret->grant++;
	if (ret->grant < waiting - credit) /* whoever waits takes it at once */
		ret->grant = waiting - credit;
}

/*
 * Is the host to deny for a while, instead of asking again at once? When it has not one unit, or
 * too few for who asks; or was cut short of what a steady demand needs with nothing to hope for
 * within T. Never when it asked for nothing: it would deny whoever comes next.
 */
static bool is_short(const struct memory_work *work, const struct wish *wish)
{
	double credit = work->item->credit, asked = wish->need - credit;
	double soon = work->L * work->T / work->W;

	if (asked <= 0)
		return false;
	if (wish->grant < 1 && (credit < 1 || credit < work->item->waiting))
		return true;
	return wish->grant < asked - 0.5 && work->own >= 3 && work->live > 1 &&
	       (wish->room < 1 || work->L - work->count < soon);
}

/* Still the host's, as far as we know: seen of late, and restated once in W. */
static bool is_held(const struct memory_work *work, const struct memory_lease *lease)
{
	return memory_row_is_awake(work->part, lease->row, work->now_ms - work->lease_ms) &&
	       lease->at_ms >= work->now_ms - work->W - work->lease_ms;
}

/* Take those that nobody holds any more out of the key; the sum of them. */
static double take_silent(struct memory_work *work)
{
	struct memory_key *key = work->key;
	uint16_t kept = 0;
	double silent = 0;

	work->others = 0;
	work->mine = NULL;
	for (uint16_t i = 0; i < key->leases; i++) {
		bool is_mine = key->lease[i].row == work->row;

		if (!is_mine && !is_held(work, &key->lease[i])) {
			silent += key->lease[i].held;
			continue;
		}
		if (!is_mine)
			work->others += key->lease[i].held;
		key->lease[kept] = key->lease[i];
		if (is_mine)
			work->mine = &key->lease[kept];
		kept++;
	}
	key->leases = kept;
	return silent;
}

/*
 * A look at what others hold. Nobody knows when a silent host spent its leases, so they count from
 * now. They make no room yet: they become units that leave in W, and nobody waits for them then.
 */
static void look(struct memory_work *work)
{
	double silent = take_silent(work);

	if (silent > 0) {
		memory_window_put_in(work, ceil(work->now_ms * MEMORY_TICKS), silent);
		work->count += silent;
	}
	work->looked = work->second;
	work->changed = work->anew = true;
}

/* Leases may be back within T; a full window says when it has room. */
static double retry_ms(const struct memory_work *work)
{
	double retry = work->L - work->count >= 1 ? fmin(0.9 * work->T, work->W / 64)
						  : memory_window_ms_to_room(work);

	return fmax(ceil(retry), 1);
}

void memory_lend(struct memory_work *work, struct memory_loan *ret)
{
	struct wish wish;

	wish_of(work, &wish);
	if (!wish.blind && wish.need > work->item->credit &&
	    (wish.grant > wish.room || wish.room < 1) && work->others > 0 &&
	    work->looked != work->second) {
		look(work);
		wish_of(work, &wish);
	}
	*ret = (struct memory_loan){.grant = wish.grant, .flags = SYNC_BLIND};
	if (wish.blind)
		return;
	if (wish.grant > wish.room)
		wish.grant = wish.room >= 1 ? floor(wish.room) : 0;
	wish.room -= wish.grant;
	*ret = (struct memory_loan){.grant = wish.grant, .held = work->item->credit + wish.grant};
	if (!is_short(work, &wish))
		return;
	ret->flags = SYNC_EXHAUSTED;
	ret->retry_ms = retry_ms(work);
}
