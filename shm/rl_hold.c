#include "shm/rl_hold.h"

#include "shm/rl_error.h"
#include "shm/rl_word.h"

#define LINK_MASK  ((UINT64_C(1) << 44) - 1) /* of a word: the era and the index it leads to */
#define INDEX_MASK UINT64_C(0xffffff)
#define ERA_MASK   0xfffffu
#define NO_LINK    (UINT64_C(1) << 24) /* more: another word that leads nowhere */

#define CELL_TRIES 64   /* each failed one is another thread's of the same process, or an agent's */
#define POOL_LOOKS 1024 /* lines that a new one is looked for in */

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

static bool swap(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_seq_cst,
						       memory_order_seq_cst);
}

/* The line a link leads to; RL_HOLD_NONE when to none, or to one that has been freed since. */
static uint32_t follow(const struct rl_view *view, uint64_t link)
{
	uint64_t line = (link & INDEX_MASK) - 1; /* 0: past the end */

	if (line >= view->hold_count ||
	    rl_hold_era(load(&view->hold[line].next)) != (uint32_t)(link >> 24 & ERA_MASK))
		return RL_HOLD_NONE;
	return (uint32_t)line;
}

uint32_t rl_hold_first(const struct rl_view *view, uint64_t link)
{
	return follow(view, link & LINK_MASK);
}

static uint64_t link_to(const struct rl_view *view, uint32_t line)
{
	return (uint64_t)rl_hold_era(load(&view->hold[line].next)) << 24 | (line + 1);
}

static void add_cell(uint64_t cell, struct rl_hold_place place, uint32_t who,
		     const struct rl_hold_place *own, bool *passed, struct rl_hold_sum *sum)
{
	if (own != NULL && own->line == place.line && own->cell == place.cell)
		*passed = true;
	sum->held += rl_hold_held(cell);
	sum->asked += rl_hold_asked(cell);
	if (!*passed)
		sum->before += rl_hold_asked(cell);
	if (cell == 0 && sum->empty.line == RL_HOLD_NONE)
		sum->empty = place;
	if (who != 0 && rl_hold_who(cell) == who && sum->own.line == RL_HOLD_NONE)
		sum->own = place;
}

void rl_hold_sum(const struct rl_view *view, uint64_t state, uint32_t who,
		 const struct rl_hold_place *own, struct rl_hold_sum *ret)
{
	uint32_t line = follow(view, state & LINK_MASK);
	bool passed = false;

	*ret = (struct rl_hold_sum){.own = {.line = RL_HOLD_NONE},
				    .empty = {.line = RL_HOLD_NONE},
				    .last = RL_HOLD_NONE};
	for (uint32_t i = 0; i < RL_HOLD_CHAIN && line != RL_HOLD_NONE; i++) {
		for (uint32_t c = 0; c < RL_HOLD_CELLS; c++)
			add_cell(load(&view->hold[line].cell[c]), (struct rl_hold_place){line, c},
				 who, own, &passed, ret);
		ret->last = line;
		ret->last_next = load(&view->hold[line].next);
		line = follow(view, ret->last_next & LINK_MASK);
	}
}

bool rl_hold_ask(struct rl_seg *seg, const struct rl_hold_sum *seen, uint32_t who, uint32_t cost,
		 struct rl_hold_place *ret_place, bool *ret_first)
{
	struct rl_hold_place at = seen->own.line != RL_HOLD_NONE ? seen->own : seen->empty;
	_Atomic uint64_t *cell = &seg->hold[at.line].cell[at.cell];
	uint64_t was = load(cell);

	if ((was != 0 && rl_hold_who(was) != who) || rl_hold_asked(was) + cost > RL_HOLD_UNITS)
		return false;
	*ret_place = at;
	*ret_first = rl_hold_asked(was) == 0;
	return swap(cell, was, rl_hold_cell(who, rl_hold_asked(was) + cost, rl_hold_held(was)));
}

/* Move units in a cell: less asked, more or less held. False when they are not there. */
static bool move_units(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t asked,
		       uint32_t more, uint32_t less)
{
	_Atomic uint64_t *cell = &seg->hold[place.line].cell[place.cell];
	uint64_t was = load(cell);

	for (int i = 0; i < CELL_TRIES; i++) {
		uint64_t now;

		if (rl_hold_who(was) != who || rl_hold_asked(was) < asked ||
		    rl_hold_held(was) < less || rl_hold_held(was) + more > RL_HOLD_UNITS)
			return false;
		now = rl_hold_cell(who, rl_hold_asked(was) - asked,
				   rl_hold_held(was) + more - less);
		if (rl_hold_asked(now) == 0 && rl_hold_held(now) == 0)
			now = 0; /* nobody's again */
		if (atomic_compare_exchange_weak_explicit(cell, &was, now, memory_order_seq_cst,
							  memory_order_seq_cst))
			return true;
	}
	return false;
}

bool rl_hold_grant(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t cost)
{
	return move_units(seg, place, who, cost, cost, 0);
}

void rl_hold_withdraw(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t cost)
{
	move_units(seg, place, who, cost, 0, 0);
}

bool rl_hold_release(struct rl_seg *seg, struct rl_hold_place place, uint32_t who, uint32_t cost)
{
	return move_units(seg, place, who, 0, 0, cost);
}

/* A line's owner word: for a life of a slot, claimed by a holder. */
static uint64_t owner_word(uint64_t index, uint64_t state, uint32_t who)
{
	uint64_t life = state >> RL_COUNT_BITS & RL_LIFE_MASK;

	return UINT64_C(1) << 63 | (index & UINT32_MAX) << 31 | life << 22 |
	       (uint64_t)(rl_holder_number(who)) << 12 | who % RL_HOLDER_LIVES;
}

bool rl_hold_owner(const struct rl_view *view, uint32_t line, uint64_t *ret_index,
		   uint32_t *ret_life)
{
	uint64_t owner = load(&view->hold[line].owner);

	*ret_index = owner >> 31 & UINT32_MAX;
	*ret_life = (uint32_t)(owner >> 22 & RL_LIFE_MASK);
	return owner != 0 && *ret_index < view->slot_count;
}

/* Take a line of nobody's from the pool. */
static uint32_t claim_line(struct rl_seg *seg, uint64_t mine)
{
	uint32_t count = seg->view.hold_count;
	uint64_t start = (mine >> 31) * UINT64_C(0x9e3779b97f4a7c15) >> 32;

	for (uint32_t i = 0; i < POOL_LOOKS && i < count; i++) {
		uint32_t line = (uint32_t)((start + i) % count);

		if (load(&seg->hold[line].owner) == 0 && swap(&seg->hold[line].owner, 0, mine))
			return line;
	}
	return RL_HOLD_NONE;
}

int rl_hold_extend(struct rl_seg *seg, uint64_t index, uint64_t state,
		   const struct rl_hold_sum *seen, uint32_t who)
{
	uint64_t mine = owner_word(index, state, who), link;
	uint32_t line = claim_line(seg, mine);
	bool linked;

	if (line == RL_HOLD_NONE)
		return RL_E_FULL;
	/* Killed here: the line is in no chain, and its claimant dead: the agent sets it free. */
	link = link_to(&seg->view, line);
	if (seen->last == RL_HOLD_NONE)
		linked = swap(&seg->slot[index].state, state, (state & ~LINK_MASK) | link);
	else
		linked = swap(&seg->hold[seen->last].next, seen->last_next,
			      (seen->last_next & ~LINK_MASK) | link);
	if (!linked)
		swap(&seg->hold[line].owner, mine, 0); /* as it was found */
	return 0;
}

/* Do the words of the slot say that it is the one, and in the life, that the line belongs to? */
static bool is_current(const struct rl_view *view, uint64_t index, uint32_t life)
{
	const struct rl_slot *slot = &view->slot[index];
	uint64_t head = load(&slot->head), shape = load(&slot->shape);

	return rl_head_is_open(head) && (rl_head_n(head) & RL_LIFE_MASK) == life &&
	       rl_shape_algorithm(shape) == RL_CONCURRENCY &&
	       rl_count_is(load(&slot->state), rl_head_n(head));
}

/*
 * Is the line in the chain of the slot? If not, change the word that the chain ends with, so that
 * a claimant that was taken for dead, and is only stopped before its CAS, cannot link it any more.
 */
static bool is_chained(struct rl_seg *seg, uint64_t index, uint32_t wanted)
{
	_Atomic uint64_t *end = &seg->slot[index].state;

	for (uint32_t i = 0; i < RL_HOLD_CHAIN; i++) {
		uint64_t link = load(end);
		uint32_t line = follow(&seg->view, link & LINK_MASK);

		if (line == wanted)
			return true;
		if (line == RL_HOLD_NONE) /* it moved: as if chained, until the next pass */
			return !swap(end, link,
				     (link & ~LINK_MASK) |
					     ((link & ~INDEX_MASK) + NO_LINK) % (LINK_MASK + 1));
		end = &seg->hold[line].next;
	}
	return true;
}

/* Is nobody going to use the line any more for what it was claimed for? */
static bool is_over(struct rl_seg *seg, uint32_t line)
{
	uint64_t index;
	uint32_t life;

	if (!rl_hold_owner(&seg->view, line, &index, &life) || !is_current(&seg->view, index, life))
		return true;
	return !rl_holder_is(&seg->view, rl_hold_claimant(load(&seg->hold[line].owner))) &&
	       !is_chained(seg, index, line);
}

/* Empty a cell; units that it held. Whoever still writes there finds it is not his any more. */
static uint64_t empty_cell(_Atomic uint64_t *cell)
{
	return rl_hold_held(atomic_exchange_explicit(cell, 0, memory_order_seq_cst));
}

/*
 * The era last but one: from there on no link leads here, and the line is nobody's. Killed in
 * between: it still has an owner, and is over.
 */
static void free_line(struct rl_hold *line)
{
	for (uint32_t c = 0; c < RL_HOLD_CELLS; c++)
		empty_cell(&line->cell[c]);
	atomic_store_explicit(&line->next, (load(&line->next) & ~LINK_MASK) + RL_HOLD_ERA,
			      memory_order_seq_cst);
	atomic_store_explicit(&line->owner, 0, memory_order_seq_cst);
}

/* The cells whose holders have left. */
static uint64_t tidy_cells(struct rl_seg *seg, struct rl_hold *line)
{
	uint64_t units = 0;

	for (uint32_t c = 0; c < RL_HOLD_CELLS; c++) {
		uint64_t cell = load(&line->cell[c]);

		if (cell != 0 && !rl_holder_is(&seg->view, rl_hold_who(cell)))
			units += swap(&line->cell[c], cell, 0) ? rl_hold_held(cell) : 0;
	}
	return units;
}

void rl_hold_tidy(struct rl_seg *seg, struct rl_hold_tidied *ret)
{
	*ret = (struct rl_hold_tidied){0};
	for (uint32_t i = 0; i < seg->view.hold_count; i++) {
		struct rl_hold *line = &seg->hold[i];

		if (load(&line->owner) == 0)
			continue;
		ret->units += tidy_cells(seg, line);
		if (is_over(seg, i)) {
			free_line(line);
			ret->freed++;
		} else {
			ret->lines++;
		}
	}
}
