/*
 * item.c - one key of one call: what the host reports is taken, what it may spend is returned.
 */
#include <math.h>
#include <string.h>

#include "agent/memory/inner.h"

#define SECONDS_ROUND 250 /* a look is known by its second among so many */

/* The key as it is now. */
static void open_key(struct memory_work *work)
{
	struct memory_key *key = work->key;

	work->stored = !memory_key_is_empty(key);
	work->looked = -1;
	work->second = (int16_t)fmod(floor(work->now_ms / MEMORY_LOOK_MS), SECONDS_ROUND);
	work->touched_ms = work->now_ms - fmod(work->now_ms, MEMORY_TOUCH_MS);
	if (!work->stored) {
		work->at_ms = work->now_ms;
		work->anew = true;
		return;
	}
	work->count = key->count;
	work->out = key->out;
	work->demand = key->demand;
	work->at_ms = key->at_ms;
	work->looked = key->looked;
	if (key->groups > 0) {
		work->ticks = (double)key->group[key->groups - 1].ticks;
		work->units = key->group[key->groups - 1].units;
	}
}

/* Its writer's clock was ahead of us: what it wrote would stay longer by as much. */
static void catch_up(struct memory_work *work)
{
	if (work->at_ms <= work->now_ms)
		return;
	memory_window_date_back(work);
	work->at_ms = work->now_ms;
	work->looked = -1;
	work->changed = work->anew = true;
}

static void find_mine(struct memory_work *work)
{
	struct memory_key *key = work->key;

	for (uint16_t i = 0; i < key->leases && work->mine == NULL; i++)
		if (key->lease[i].row == work->row)
			work->mine = &key->lease[i];
	work->others = work->out;
	if (work->mine == NULL)
		return;
	work->own = work->mine->demand;
	work->own_at_ms = work->mine->at_ms;
	work->others = fmax(work->out - work->mine->held, 0);
}

static void count_units(struct memory_work *work, double units, double age_ms)
{
	memory_window_add(work, memory_window_ticks(work, age_ms), units);
	work->count += units;
	work->changed = true;
}

static void count_pieces(struct memory_work *work, const unsigned char *bytes, uint32_t count)
{
	work->anew = true;
	for (uint32_t i = 0; i < count; i++) {
		struct sync_piece piece;

		sync_piece_read(bytes + i * SYNC_PIECE_SIZE, &piece);
		if (piece.units == 0 || (double)piece.age_ms >= work->W)
			continue;
		memory_window_put_in(work, memory_window_ticks(work, (double)piece.age_ms),
				     (double)piece.units);
		work->count += (double)piece.units;
		work->changed = true;
	}
}

/*
 * What the host admitted counts, above L too: it has happened. What is older than the window by
 * the host's own word (and ages are never too old) is over.
 */
static void take_reported(struct memory_work *work, const unsigned char *pieces, uint32_t count)
{
	if (work->item->used == 0)
		return;
	if (count > 0)
		count_pieces(work, pieces, count);
	else if ((double)work->item->age_ms < work->W)
		count_units(work, (double)work->item->used, (double)work->item->age_ms);
}

/* Demand fades with 3 T: slow enough to be smooth, fast enough to follow a moving client. */
static void take_demand(struct memory_work *work)
{
	double tau = work->T > 1 ? 3 * work->T : 3, asked = (double)work->item->demand;

	if (work->demand > 0)
		work->demand = work->demand * exp((work->at_ms - work->now_ms) / tau) + asked;
	else
		work->demand = asked;
	if (work->mine == NULL)
		work->own = asked;
	else if (work->own_at_ms < work->now_ms)
		work->own = work->own * exp((work->own_at_ms - work->now_ms) / tau) + asked;
	else
		work->own += asked;
}

static void drop_mine(struct memory_work *work)
{
	struct memory_key *key = work->key;

	if (work->mine == NULL)
		return;
	*work->mine = key->lease[--key->leases];
	work->mine = NULL;
}

static void keep_mine(struct memory_work *work, double held)
{
	if (work->mine == NULL)
		work->mine = &work->key->lease[work->key->leases++];
	*work->mine =
		(struct memory_lease){work->row, work->now_ms, (float)work->own, (uint32_t)held};
}

double memory_key_ends_ms(double window_ms, double lease_ms, double clock_ms)
{
	return clock_ms + 2 * window_ms + fmax(lease_ms, MEMORY_LIVE_MIN_MS) + MEMORY_TOUCH_MS;
}

static void write_key(struct memory_work *work, double held, bool whole, double clock_ms)
{
	struct memory_key *key = work->key;

	memory_window_store(work);
	key->count = work->count;
	key->out = work->others + held;
	key->demand = (float)fmin(work->demand, MEMORY_EXACT);
	key->at_ms = work->now_ms;
	key->looked = work->looked;
	if (whole)
		key->ends_ms = memory_key_ends_ms(work->W, work->lease_ms, clock_ms);
}

/* Only when something is new, as the script does. */
static void close_key(struct memory_work *work, const struct memory_loan *loan, double clock_ms)
{
	double held = loan->held, since = work->mine != NULL ? work->own_at_ms : work->now_ms;
	bool had = work->mine != NULL;
	/* It keeps a lease while it holds something, or asks for so much that its part matters. */
	bool keep = held > 0 || (loan->flags != SYNC_BLIND && work->item->flags < SYNC_REPORT &&
				 work->own >= 1);
	bool old = held > 0 && since < work->touched_ms;
	bool whole;

	if (!work->changed && !old && work->item->demand == 0 && keep == had &&
	    held == (had ? work->mine->held : 0))
		return;
	whole = work->anew || work->at_ms < work->touched_ms || keep != had ||
		work->key->groups == 0;
	if (keep)
		keep_mine(work, held);
	else
		drop_mine(work);
	write_key(work, held, whole, clock_ms);
}

static uint32_t at_most(double number)
{
	return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

void memory_item(struct memory_work *work, const unsigned char *pieces, uint32_t piece_count,
		 double clock_ms, unsigned char out[SYNC_ANSWER_SIZE])
{
	struct memory_loan loan = {.held = work->item->credit};
	double ends = 0;

	open_key(work);
	catch_up(work);
	memory_window_expire(work);
	find_mine(work);
	take_reported(work, pieces, piece_count);
	take_demand(work);
	if ((work->item->flags & SYNC_PUSH_ONLY) == 0)
		memory_lend(work, &loan);
	close_key(work, &loan, clock_ms);
	if (work->item->flags >= SYNC_REPORT && work->key->groups > 0)
		memory_window_leaving(work, &loan.retry_ms, &ends);
	sync_answer_write(&(struct sync_answer){.tag = work->item->tag,
						.grant = at_most(loan.grant),
						.flags = loan.flags,
						.retry_ms = at_most(loan.retry_ms),
						.count = at_most(work->count),
						.others_out = at_most(work->others),
						.ends_ms = at_most(ends)},
			  out);
}
