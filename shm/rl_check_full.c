/*
 * rl_check_full.c - a new key for which the table has no slot: its rule's on_full decides.
 *
 * A rule whose on_full is pool has RL_POOL_KEYS slots of its own, under keys that nobody asks by;
 * the agent sees to it that they are there and never frees them. A new key without a slot is
 * counted by one of them, so the keys that share it have together what each would have alone: a
 * flood of made-up keys buys nothing. When there is room again, a new key's own slot begins with
 * what its pool holds (no more of that can be its own); the slot of a rule that hosts share, which
 * cannot begin so, is not made before its pool is idle.
 */
#include <string.h>

#include "shm/rl_check_steps.h"
#include "shm/rl_cold.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"

static const char pool_name[] = "\0pool"; /* and a digit */
#define NAME_BYTES (sizeof(pool_name))

void rl_pool_key(const struct rl_view *view, uint64_t handle, uint32_t number, char *ret_name,
		 struct rl_check_key *ret)
{
	memcpy(ret_name, pool_name, NAME_BYTES - 1);
	ret_name[NAME_BYTES - 1] = (char)('0' + number);
	rl_check_hash(view, handle, ret_name, NAME_BYTES, ret);
}

static bool is_pool_name(const char *name, size_t len)
{
	return len == NAME_BYTES && memcmp(name, pool_name, NAME_BYTES - 1) == 0 &&
	       name[NAME_BYTES - 1] >= '0' && name[NAME_BYTES - 1] < '0' + (int)RL_POOL_KEYS;
}

static bool is_pool_key(const struct rl_check_key *key)
{
	return key->bytes != NULL && is_pool_name(key->bytes, key->len);
}

bool rl_pool_is(const struct rl_view *view, uint64_t index)
{
	char name[RL_NAME_BYTES];
	size_t len = rl_side_name(view, index, name);

	return len > 1 && name[0] == ':' && is_pool_name(name + 1, len - 1);
}

bool rl_pool_is_text(const struct rl_key_text *text)
{
	return is_pool_name((const char *)text->word, rl_key_text_len(text));
}

/* Which pool: the same for a key whenever it asks, on every host of a fleet. */
static void pool_of(const struct rl_view *view, uint64_t handle, const struct rl_check_key *key,
		    char *ret_name, struct rl_check_key *ret)
{
	struct rl_key_text text;

	rl_check_text(key, &text);
	rl_pool_key(view, handle, rl_key_part(rl_pair_high(handle), &text) % RL_POOL_KEYS, ret_name,
		    ret);
	ret->given = key->given;
}

/* Has the slot admitted within the window? What its groups round up to is no sign of that. */
static bool is_used(const struct rl_view *view, uint64_t index, const struct rl_rule *rule)
{
	uint64_t now_ns = rl_now_ns(view, rl_clock_is_coarse(rule->window_ns));
	uint64_t age_ns = now_ns - rl_window_newest(&view->slot[index]);

	return (int64_t)age_ns < (int64_t)(rule->window_ns + rl_hold_ns(view, true));
}

uint32_t rl_pool_held(const struct rl_view *view, const struct rl_rule *rule,
		      const struct rl_check_key *key)
{
	struct rl_check_key pool;
	struct rl_answer answer;
	char name[RL_POOL_NAME];
	uint32_t used = 0;
	uint64_t head, index;

	if (rl_rules_on_full(view, rule->id) != RL_FULL_POOL || is_pool_key(key))
		return 0;
	pool_of(view, rl_pair(rule->id, 0), key, name, &pool);
	index = rl_table_find(view, &pool.id, &head);
	if (index != RL_NO_SLOT && !rl_rule_is_local(rule))
		return is_used(view, index, rule) ? 1 : 0;
	if (index != RL_NO_SLOT)
		rl_check_look_key(view, rl_pair(rule->id, 0), &pool, 1, &answer, &used);
	return used;
}

/* Without a count, as no slot is free. */
static int answer_full(struct rl_seg *seg, struct rl_member *member, const struct rl_rule *rule,
		       uint32_t cost, bool passes, struct rl_answer *ret)
{
	const struct rl_window_answer answer = {.wait_ns = passes ? 0 : rule->window_ns};
	struct rl_counts *counts = &member->rule[rule->index];

	fill_answer(&seg->view, rule, &answer, rl_now_ns(&seg->view, false), ret);
	given_state(&seg->view, ret);
	ret->by = RL_DECIDED_FULL;
	rl_member_count(&member->full, 1);
	rl_member_count(&counts->pooled, 1);
	if (passes)
		rl_member_answered(seg, &counts->allowed, cost);
	else
		rl_member_limited(seg, counts);
	return passes ? 1 : 0;
}

static int spend_pool(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
		      const struct rl_rule *rule, const struct rl_check_key *key, uint32_t cost,
		      uint32_t flags, struct rl_answer *ret)
{
	struct rl_check_key pool;
	char name[RL_POOL_NAME];
	int got;

	pool_of(&seg->view, handle, key, name, &pool);
	flags &= ~RL_CHECK_PENDING; /* that goes by the key that asked: the pool's does not wait */
	/* Not by its lists and shadow: those are for the key that asked. */
	got = rl_rule_is_local(rule)
		      ? rl_check_spend_other(seg, member, handle, &pool, cost, flags, ret)
		      : rl_check_spend_shared(seg, member, handle, &pool, cost, flags, ret);
	if (got < 0)
		return got;
	rl_member_count(&member->full, 1);
	rl_member_count(&member->rule[rule->index].pooled, 1);
	ret->by = RL_DECIDED_POOL;
	return got;
}

RL_COLD int rl_check_unfit(struct rl_seg *seg, struct rl_member *member, uint64_t handle,
			   const struct rl_check_key *key, uint32_t cost, uint32_t flags, int error,
			   struct rl_answer *ret)
{
	struct rl_rule rule;
	uint32_t on_full;

	if (error != RL_E_FULL || is_pool_key(key) ||
	    read_rule_of(&seg->view, handle, key, &rule) != 0)
		return rl_check_failed(seg, member, handle, error, ret);
	on_full = rl_rules_on_full(&seg->view, rule.id);
	if (on_full == RL_FULL_POOL)
		return spend_pool(seg, member, handle, &rule, key, cost, flags, ret);
	return answer_full(seg, member, &rule, cost, on_full == RL_FULL_ALLOW, ret);
}

uint32_t rl_pool_ensure(struct rl_seg *seg)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	static struct rl_member nobody; /* these claims are no process's */
	uint64_t generation, head;
	int count = rl_rules_list(&seg->view, list, &generation);
	uint32_t missing = 0;

	for (int r = 0; r < count; r++)
		for (uint32_t i = 0; i < RL_POOL_KEYS; i++) {
			uint64_t handle = rl_pair(list[r].rule.id, list[r].index);
			struct rl_check_key key;
			char name[RL_POOL_NAME];

			if (rl_rule_in_flight(&list[r].rule) ||
			    rl_rules_on_full(&seg->view, list[r].rule.id) != RL_FULL_POOL)
				continue;
			rl_pool_key(&seg->view, handle, i, name, &key);
			if (rl_table_find(&seg->view, &key.id, &head) == RL_NO_SLOT &&
			    rl_check_claim(seg, &nobody, &key, &list[r].rule) < 0)
				missing++;
		}
	return missing;
}
