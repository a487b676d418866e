/*
 * rl_verify_hold.c - who holds requests in flight, and how many: holders, lines, cells.
 */
#include "shm/rl_hold.h"
#include "shm/rl_verify_steps.h"
#include "shm/rl_word.h"

/* Of one line, what was seen of it in this order, and is compared with what is there then. */
struct line {
	uint64_t index, owner, next;
	uint64_t slot; /* that it belongs to */
	uint32_t life; /* of that slot */
};

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst); /* as all who go over the lines */
}

/* What it belongs to does not change while it has this owner and this era. */
static bool is_as_seen(const struct rl_view *view, const struct line *line)
{
	const struct rl_hold *hold = &view->hold[line->index];

	return load(&hold->next) == line->next && load(&hold->owner) == line->owner;
}

static bool take_line(const struct rl_view *view, uint64_t index, struct line *ret)
{
	ret->index = index;
	ret->owner = load(&view->hold[index].owner);
	ret->next = load(&view->hold[index].next);
	return rl_hold_owner(view, (uint32_t)index, &ret->slot, &ret->life) &&
	       is_as_seen(view, ret);
}

static void check_owner(struct rl_verify *verify, uint64_t index)
{
	const struct rl_view *view = verify->view;
	uint64_t owner = load(&view->hold[index].owner);

	if (owner != 0 && (owner >> 63 == 0 || (owner >> 31 & UINT32_MAX) >= view->slot_count ||
			   rl_holder_number(rl_hold_claimant(owner)) == 0))
		rl_verify_say(verify, RL_FAULT_HOLD_OWNER, index, &view->hold[index].owner, owner,
			      0);
}

/* Lines of one slot and life are chained; a link to one that was freed leads nowhere. */
static void check_link(struct rl_verify *verify, const struct line *line)
{
	const struct rl_view *view = verify->view;
	uint32_t other = rl_hold_first(view, line->next), life;
	uint64_t slot;

	if (other == RL_HOLD_NONE ||
	    (rl_hold_owner(view, other, &slot, &life) && slot == line->slot && life == line->life &&
	     other != line->index))
		return;
	if (rl_hold_first(view, line->next) == other && is_as_seen(view, line))
		rl_verify_say(verify, RL_FAULT_HOLD_LINK, line->index,
			      &view->hold[line->index].next, line->next, other);
}

static void check_cell(struct rl_verify *verify, const struct line *line, uint32_t c)
{
	const _Atomic uint64_t *at = &verify->view->hold[line->index].cell[c];
	uint64_t cell = load(at);

	if (cell == 0)
		return;
	if (rl_holder_number(rl_hold_who(cell)) == 0 ||
	    rl_hold_asked(cell) + rl_hold_held(cell) == 0)
		rl_verify_say(verify, RL_FAULT_HOLD_CELL, line->index, at, cell, 0);
	else if (verify->agent_lives && !rl_holder_is(verify->view, rl_hold_who(cell)))
		rl_verify_say(verify, RL_FAULT_HOLD_LEFT, line->index, at, cell, 0);
}

/* Without an agent nobody frees a slot, nor its lines; the next one begins with that. */
static void check_slot(struct rl_verify *verify, const struct line *line)
{
	const struct rl_view *view = verify->view;
	uint64_t head = load(&view->slot[line->slot].head);

	if (verify->agent_lives &&
	    (!rl_head_is_open(head) || (rl_head_n(head) & RL_LIFE_MASK) != line->life))
		rl_verify_say(verify, RL_FAULT_HOLD_LEFT, line->index,
			      &view->hold[line->index].owner, line->owner, 0);
}

void rl_verify_hold(struct rl_verify *verify, uint64_t index)
{
	struct line line;

	check_owner(verify, index);
	if (!take_line(verify->view, index, &line))
		return;
	check_slot(verify, &line);
	check_link(verify, &line);
	for (uint32_t c = 0; c < RL_HOLD_CELLS; c++)
		check_cell(verify, &line, c);
}

void rl_verify_holders(struct rl_verify *verify)
{
	const struct rl_holders *holders = verify->view->holders;

	for (uint64_t i = 0; i < RL_HOLDERS_MAX; i++) {
		uint64_t word = load(&holders->word[i]);

		if (!rl_holder_sound((uint32_t)i, word))
			rl_verify_say(verify, RL_FAULT_HOLDER, i, &holders->word[i], word, 0);
	}
}
