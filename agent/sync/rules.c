/*
 * rules.c - the rules as the sync knows them, and what a change of them does to credit.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/sync/part.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "agent/sync/untold.h"
#include "agent/sync/word.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct rl_named_rule *)a)->rule.id;
	uint32_t y = ((const struct rl_named_rule *)b)->rule.id;

	return x < y ? -1 : x > y;
}

static const struct rl_named_rule *find_rule(const struct rl_named_rule *rule, uint32_t count,
					     uint32_t id)
{
	const struct rl_named_rule key = {.rule.id = id};

	return bsearch(&key, rule, count, sizeof(rule[0]), by_id);
}

uint32_t sync_part_of(const struct sync *sync, uint64_t index)
{
	char name[RL_NAME_BYTES];
	size_t len = rl_side_name(&sync->seg->view, index, name);

	return rl_side_part(rl_pair_high(word_of(&sync->seg->slot[index].shape)), name, len);
}

static bool same_terms(const struct rl_rule *a, const struct rl_rule *b)
{
	return a->limit == b->limit && a->window_ns == b->window_ns && a->fleet == b->fleet;
}

/*
 * The slots of changed rules start afresh with their credit: what was lent, or opened with,
 * under the old terms might break the new ones, and a time to ask again may be too late. Their
 * counts stay. One look at each slot: 20 ms for a million.
 */
static void apply_changes(struct sync *sync, const struct rl_named_rule *old, uint32_t old_count)
{
	const struct rl_view *view = &sync->seg->view;

	for (uint64_t i = 0; i < view->slot_count; i++) {
		const struct rl_named_rule *named, *before;

		if (!rl_head_is_open(word_of(&view->slot[i].head)) ||
		    rl_shape_algorithm(word_of(&view->slot[i].shape)) != RL_SLIDING)
			continue; /* one that counts in a word gets its hint when it is re-based */
		named = sync_rule_of(sync, i);
		before = find_rule(old, old_count, rl_pair_high(word_of(&view->slot[i].shape)));
		if (named == NULL || rl_rule_is_local(&named->rule) ||
		    (before != NULL && same_terms(&named->rule, &before->rule)))
			continue;
		sync_slot_take_credit(sync->seg, i);
		if (before == NULL || rl_rule_is_local(&before->rule))
			put(&sync->seg->side[i].total, 0); /* rl_mark.h's until now */
		put(&sync->seg->slot[i].hint, rl_hint(0, 0, sync_part_of(sync, i)));
		untold_tell(sync, i);
	}
}

void rules_read(struct sync *sync)
{
	uint64_t generation;
	int count = rl_rules_list(&sync->seg->view, sync->rule, &generation);

	sync->rule_count = count > 0 ? (uint32_t)count : 0;
	qsort(sync->rule, sync->rule_count, sizeof(sync->rule[0]), by_id);
}

void sync_rules_changed(struct sync *sync)
{
	static struct rl_named_rule old[RL_RULES_MAX];
	uint32_t old_count = sync->rule_count;

	memcpy(old, sync->rule, old_count * sizeof(old[0]));
	rules_read(sync);
	apply_changes(sync, old, old_count);
	untold_send(sync);
	store_ask_again(sync->store); /* who reloads has changed something, there too perhaps */
}

void sync_lists_changed(struct sync *sync)
{
	rules_read(sync);
}

const struct rl_named_rule *sync_rule_of(const struct sync *sync, uint64_t index)
{
	/* More than anybody holds at a time. One thread. */
	static struct rl_named_rule copy[4];
	static unsigned next;
	const struct rl_named_rule *named = find_rule(
		sync->rule, sync->rule_count, rl_pair_high(word_of(&sync->seg->slot[index].shape)));
	struct rl_named_rule *own;

	if (named == NULL || (named->rule.fleet & RL_RULE_LISTED) == 0)
		return named;
	own = &copy[next++ % 4];
	*own = *named;
	rl_lists_apply_slot(&sync->seg->view, index, &own->rule);
	return own;
}
