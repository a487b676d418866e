#include "shm/rl_rules.h"

#include <stdbool.h>
#include <string.h>

#include "shm/rl_algorithm.h"
#include "shm/rl_cold.h"
#include "shm/rl_hash.h"
#include "shm/rl_member.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define ON_FULL_SHIFT  32 /* in rl_rule_rec.rest: 2 bits */
#define AUDIT_SHIFT    34 /* likewise: 5 bits */
#define SHADOW_SHIFT   44 /* of ppm in rl_rule_rec.rest: 20 bits */
#define RL_RULES_TRIES 16 /* each failed try is a reload that happened during it */

static_assert(RL_NAME_WORDS * 8 == RL_NAME_MAX + 1, "a name and its NUL fill the words");

/* The words are acquired so that the generation cannot be read again before them. */
static inline uint64_t take(const _Atomic uint64_t *word)
{
	/* pairs[rules_word.acq]: a word of a bank rewritten meanwhile shows the newer generation.
	 */
	return atomic_load_explicit(word, memory_order_acquire);
}

uint64_t rl_rules_generation(const struct rl_view *view)
{
	/* pairs[rules_gen.acq]: as below. */
	return atomic_load_explicit(&view->live->generation, memory_order_acquire);
}

static inline uint64_t generation_of(const struct rl_view *view)
{
	/* pairs[rules_gen.acq]: the bank of this generation was complete before it was named. */
	return atomic_load_explicit(&view->live->generation, memory_order_acquire);
}

/* What a plain rule does not have. */
RL_COLD static void read_rest(const struct rl_rule_rec *rec, struct rl_rule *ret)
{
	uint64_t bucket = take(&rec->bucket), rest = take(&rec->rest);

	ret->wait_ns = rl_pair_low(rest);
	ret->shadow_ppm = (uint32_t)(rest >> SHADOW_SHIFT);
	ret->lengths.v4 = take(&rec->net4);
	ret->lengths.v6[0] = take(&rec->net6[0]);
	ret->lengths.v6[1] = take(&rec->net6[1]);
	ret->verdict = RL_VERDICT_NONE;
	ret->burst = rl_pair_high(bucket);
	ret->delay = rl_pair_low(bucket);
}

static inline bool read_rec(const struct rl_rule_rec *rec, struct rl_rule *ret)
{
	uint64_t shape = take(&rec->shape), id_flags = take(&rec->id_flags);

	ret->id = rl_pair_high(id_flags);
	ret->fleet = rl_pair_low(id_flags);
	ret->limit = rl_pair_high(shape);
	ret->q = rl_pair_low(shape);
	ret->window_ns = take(&rec->window_ns);
	ret->wait_ns = 0;
	ret->burst = ret->delay = 0;
	if (RL_RARELY(!rl_rule_is_plain(ret)))
		read_rest(rec, ret);
	return ret->id != 0;
}

static inline bool sound_rest(const struct rl_rule *rule)
{
	if (rl_rule_in_flight(rule))
		return rl_rule_is_local(rule) && rule->limit <= RL_CONCURRENCY_MAX;
	return rl_rule_algorithm(rule) == RL_SLIDING ||
	       (rl_algorithm(rl_rule_algorithm(rule)) != NULL && rl_rule_is_local(rule) &&
		rule->burst <= RL_LIMIT_MAX && rule->delay <= RL_LIMIT_MAX);
}

static inline uint32_t q_of(uint32_t limit, bool interpolate)
{
	return interpolate ? rl_window_q_spread(limit) : rl_window_q(limit);
}

uint32_t rl_rules_q(const struct rl_rule *rule)
{
	return q_of(rule->limit, (rule->fleet & RL_RULE_INTERPOLATE) != 0);
}

/* What a damaged segment could make of a rule must not reach a division or an index. */
static inline bool sound(const struct rl_rule *rule)
{
	return rule->limit >= 1 && rule->limit <= RL_LIMIT_MAX &&
	       rule->q == q_of(rule->limit, (rule->fleet & RL_RULE_INTERPOLATE) != 0) &&
	       rule->window_ns >= RL_WINDOW_MIN_NS && rule->window_ns <= RL_WINDOW_MAX_NS &&
	       (rl_rule_is_plain(rule) || sound_rest(rule));
}

/* Where a rule was found last that is not where its handle says; by its id. A hint. */
static _Atomic uint8_t found_at[RL_RULES_MAX];
static_assert(RL_RULES_MAX - 1 <= UINT8_MAX, "an index is a byte");

/*
 * The rule moved to another index: its name left the configuration and came back, another agent has
 * the rules in another order, or the handle was made before there was a segment. The 50th rule
 * is then found 3 ns later than with its index, not 150.
 */
RL_COLD static bool read_elsewhere(const struct rl_bank *bank, uint32_t id, struct rl_rule *ret)
{
	_Atomic uint8_t *hint = &found_at[id % RL_RULES_MAX];
	/* Relaxed, both: what lies there says whether it is the rule. */
	uint32_t index = atomic_load_explicit(hint, memory_order_relaxed);

	ret->index = index;
	if (read_rec(&bank->rule[index], ret) && ret->id == id)
		return true;
	for (uint32_t i = 0; i < RL_RULES_MAX; i++)
		if (read_rec(&bank->rule[i], ret) && ret->id == id) {
			atomic_store_explicit(hint, (uint8_t)i, memory_order_relaxed);
			ret->index = i;
			return true;
		}
	return false;
}

/* One read: 0, RL_E_RULE, or RL_E_BUSY when a reload came in between. */
static inline int read_once(const struct rl_view *view, uint32_t index, uint32_t id,
			    struct rl_rule *ret)
{
	uint64_t generation = generation_of(view);
	const struct rl_bank *bank = &view->bank[generation & 1];
	bool found = read_rec(&bank->rule[index], ret) && ret->id == id;

	ret->index = index;
	if (!found)
		found = read_elsewhere(bank, id, ret);
	if (generation_of(view) != generation)
		return RL_E_BUSY;
	return found && sound(ret) ? 0 : RL_E_RULE;
}

RL_COLD static int read_again(const struct rl_view *view, uint32_t index, uint32_t id,
			      struct rl_rule *ret)
{
	int got = RL_E_BUSY;

	for (int i = 0; i < RL_RULES_TRIES && got == RL_E_BUSY; i++)
		got = read_once(view, index, id, ret);
	return got;
}

int rl_rules_read(const struct rl_view *view, uint64_t handle, struct rl_rule *ret)
{
	uint32_t id = rl_pair_high(handle), index = rl_pair_low(handle);
	int got;

	if (index >= RL_RULES_MAX || id == 0)
		return RL_E_RULE;
	got = read_once(view, index, id, ret);
	return got != RL_E_BUSY ? got : read_again(view, index, id, ret);
}

/* One word of the bank in force: whatever a reload does meanwhile, it is one of the two. */
uint32_t rl_rules_on_full(const struct rl_view *view, uint32_t id)
{
	const struct rl_bank *bank = &view->bank[generation_of(view) & 1];

	for (uint32_t i = 0; i < RL_RULES_MAX; i++)
		if (rl_pair_high(take(&bank->rule[i].id_flags)) == id)
			return take(&bank->rule[i].rest) >> ON_FULL_SHIFT & 3;
	return RL_FULL_DENY;
}

/* One word of the bank in force, as above. */
uint32_t rl_rules_audit(const struct rl_view *view, uint32_t index, uint32_t id)
{
	const struct rl_rule_rec *rec =
		&view->bank[generation_of(view) & 1].rule[index % RL_RULES_MAX];

	return rl_pair_high(take(&rec->id_flags)) == id ? take(&rec->rest) >> AUDIT_SHIFT & 31 : 0;
}

const char *rl_on_full_name(unsigned on_full)
{
	static const char *const name[RL_FULLS] = {"pool", "allow", "deny"};

	return on_full < RL_FULLS ? name[on_full] : "?";
}

int rl_rules_read_of(const struct rl_view *view, uint64_t handle, const struct rl_id *id,
		     const void *bytes, size_t len, struct rl_rule *ret)
{
	for (int i = 0; i < RL_RULES_TRIES; i++) {
		uint64_t generation = generation_of(view);
		int error = rl_rules_read(view, handle, ret);

		if (error != 0)
			return error;
		if ((ret->fleet & RL_RULE_LISTED) != 0)
			rl_lists_apply(view, generation, id, bytes, len, ret);
		if (generation_of(view) == generation)
			return 0;
	}
	return RL_E_BUSY;
}

static void read_name(const struct rl_rule_rec *rec, char name[RL_NAME_MAX + 1])
{
	for (size_t i = 0; i < RL_NAME_WORDS; i++) {
		uint64_t word = take(&rec->name[i]);

		memcpy(name + 8 * i, &word, sizeof(word));
	}
	name[RL_NAME_MAX] = '\0';
}

int rl_rules_list(const struct rl_view *view, struct rl_named_rule ret[RL_RULES_MAX],
		  uint64_t *ret_generation)
{
	for (int i = 0; i < RL_RULES_TRIES; i++) {
		uint64_t generation = generation_of(view);
		const struct rl_bank *bank = &view->bank[generation & 1];
		int count = 0;

		for (uint32_t r = 0; r < RL_RULES_MAX; r++) {
			struct rl_named_rule *out = &ret[count];

			if (!read_rec(&bank->rule[r], &out->rule) || !sound(&out->rule))
				continue;
			read_name(&bank->rule[r], out->name);
			out->index = out->rule.index = r;
			count++;
		}
		if (generation_of(view) != generation)
			continue;
		*ret_generation = generation;
		return count;
	}
	return RL_E_BUSY;
}

int rl_rules_find(const struct rl_view *view, const char *name, uint64_t *ret_handle)
{
	uint32_t id = rl_hash_rule(name);
	struct rl_rule rule;
	int error = rl_rules_read(view, rl_pair(id, 0), &rule);

	if (error != 0)
		return error;
	for (uint32_t i = 0; i < RL_RULES_MAX; i++)
		if (read_rec(&view->bank[generation_of(view) & 1].rule[i], &rule) &&
		    rule.id == id) {
			*ret_handle = rl_pair(id, i);
			return 0;
		}
	*ret_handle = rl_pair(id, 0); /* moved while we looked: the id alone finds it */
	return 0;
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
	/* pairs[rules_word.rel]: the generation that ended this bank's last use comes first. */
	atomic_store_explicit(word, value, memory_order_release);
}

static uint32_t flags_of(const struct rl_rule_spec *spec)
{
	return rl_fleet_pack(&spec->fleet) | (spec->interpolate ? RL_RULE_INTERPOLATE : 0) |
	       (spec->shadow_ppm > 0 ? RL_RULE_SHADOW : 0) |
	       (spec->list_count > 0 ? RL_RULE_LISTED : 0) |
	       (uint32_t)spec->algorithm << RL_RULE_ALGORITHM_AT;
}

static void write_rec(struct rl_rule_rec *rec, const struct rl_rule_spec *spec, uint32_t id,
		      uint32_t flags)
{
	/* Who has which of them nobody could tell under a key that others share. */
	uint8_t on_full = spec->algorithm == RL_CONCURRENCY ? RL_FULL_DENY : spec->on_full;
	char name[RL_NAME_MAX + 1] = {0};
	struct rl_lengths lengths;

	memcpy(name, spec->name, strlen(spec->name));
	rl_lists_lengths(spec, &lengths);
	put(&rec->id_flags, rl_pair(id, flags));
	put(&rec->bucket, rl_pair(spec->burst, spec->delay));
	put(&rec->shape, rl_pair(spec->terms.limit, q_of(spec->terms.limit, spec->interpolate)));
	put(&rec->window_ns, spec->terms.window_ns);
	put(&rec->rest, (uint64_t)spec->shadow_ppm << SHADOW_SHIFT |
				(uint64_t)(spec->audit & 31) << AUDIT_SHIFT |
				(uint64_t)on_full << ON_FULL_SHIFT | (uint32_t)spec->fleet.wait_ns);
	put(&rec->net4, lengths.v4);
	put(&rec->net6[0], lengths.v6[0]);
	put(&rec->net6[1], lengths.v6[1]);
	for (size_t i = 0; i < RL_NAME_WORDS; i++) {
		uint64_t word;

		memcpy(&word, name + 8 * i, sizeof(word));
		put(&rec->name[i], word);
	}
}

static void clear_rec(struct rl_rule_rec *rec)
{
	put(&rec->id_flags, 0);
	put(&rec->shape, 0);
	put(&rec->window_ns, 0);
	put(&rec->rest, 0);
	put(&rec->bucket, 0);
	put(&rec->net4, 0);
	put(&rec->net6[0], 0);
	put(&rec->net6[1], 0);
	for (size_t i = 0; i < RL_NAME_WORDS; i++)
		put(&rec->name[i], 0);
}

static size_t first_repeated_id(const uint32_t *id, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			if (id[i] == id[j])
				return i;
	return count;
}

/* Redis has a clock of its own. */
static size_t first_shared(const struct rl_rule_spec *spec, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (spec[i].fleet.consistency != RL_LOCAL)
			return i;
	return count;
}

/*
 * How good a place is for a rule that the last generation does not have: where it was before, as
 * its statistics still are there; where none was; where none is now.
 */
static int rank_of(const struct rl_seg *seg, const struct rl_bank *last, uint32_t r, uint32_t id)
{
	uint64_t before = rl_member_rule_at(&seg->view, r);

	if (before == id)
		return 0;
	if (rl_pair_high(take(&last->rule[r].id_flags)) != 0)
		return 3;
	return before == 0 ? 1 : 2;
}

/* There are more places than rules. */
static uint32_t place_new(const struct rl_seg *seg, const struct rl_bank *last, const bool *taken,
			  uint32_t id)
{
	uint32_t best = 0;
	int best_rank = 4;

	for (uint32_t r = 0; r < RL_RULES_MAX; r++) {
		int rank = taken[r] ? 4 : rank_of(seg, last, r, id);

		if (rank < best_rank) {
			best = r;
			best_rank = rank;
		}
	}
	return best;
}

/* index[i] = where rule i lies: where the last generation has it, else a free place. */
static void place(const struct rl_seg *seg, const struct rl_bank *last, const uint32_t *id,
		  size_t count, uint32_t *index)
{
	bool taken[RL_RULES_MAX] = {false};

	for (size_t i = 0; i < count; i++) {
		index[i] = RL_RULES_MAX;
		for (uint32_t r = 0; r < RL_RULES_MAX; r++)
			if (rl_pair_high(take(&last->rule[r].id_flags)) == id[i])
				index[i] = r;
		if (index[i] < RL_RULES_MAX)
			taken[index[i]] = true;
	}
	for (size_t i = 0; i < count; i++) {
		if (index[i] < RL_RULES_MAX)
			continue;
		index[i] = place_new(seg, last, taken, id[i]);
		taken[index[i]] = true;
	}
}

/* What the configuration does not say: the switches, and the segment's clock. */
static uint32_t kept_flags(const struct rl_seg *seg, const struct rl_rule_rec *last, uint32_t id)
{
	uint64_t id_flags = take(&last->id_flags);
	uint32_t flags = seg->view.given ? RL_RULE_GIVEN : 0;

	/* Relaxed: this agent's, or the last one's. */
	if (atomic_load_explicit(&seg->live->off_all, memory_order_relaxed) == 1)
		flags |= RL_RULE_OFF_ALL;
	if (rl_pair_high(id_flags) == id)
		flags |= rl_pair_low(id_flags) & RL_RULE_OFF;
	return flags;
}

/* In place: one word, which readers take as it was or as it is. */
static void set_flag(struct rl_rule_rec *rec, uint32_t flag, bool set)
{
	uint64_t id_flags = take(&rec->id_flags);

	if (rl_pair_high(id_flags) != 0)
		put(&rec->id_flags, set ? id_flags | flag : id_flags & ~(uint64_t)flag);
}

int rl_rules_switch(struct rl_seg *seg, uint32_t id, bool on)
{
	struct rl_bank *bank = &seg->bank[generation_of(&seg->view) & 1];
	bool found = id == 0;

	/* Relaxed: one writer. Killed after it: rules that are published next go by it. */
	if (id == 0)
		atomic_store_explicit(&seg->live->off_all, on ? 0 : 1, memory_order_relaxed);
	for (uint32_t r = 0; r < RL_RULES_MAX; r++)
		if (id == 0) {
			set_flag(&bank->rule[r], RL_RULE_OFF_ALL, !on);
		} else if (rl_pair_high(take(&bank->rule[r].id_flags)) == id) {
			set_flag(&bank->rule[r], RL_RULE_OFF, !on);
			found = true;
		}
	return found ? 0 : RL_E_RULE;
}

static uint32_t lower_of(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Two words: a check between them goes by the old limit and the new burst, or the reverse. */
int rl_rules_lower(struct rl_seg *seg, uint32_t id, const struct rl_bucket_terms *most)
{
	struct rl_bank *bank = &seg->bank[generation_of(&seg->view) & 1];
	struct rl_rule rule;

	for (uint32_t r = 0; r < RL_RULES_MAX; r++) {
		if (!read_rec(&bank->rule[r], &rule) || rule.id != id || !sound(&rule))
			continue;
		if (rl_rule_is_plain(&rule))
			read_rest(&bank->rule[r], &rule);
		rule.limit = lower_of(rule.limit, most->limit);
		put(&bank->rule[r].bucket,
		    rl_pair(lower_of(rule.burst, most->burst), lower_of(rule.delay, most->delay)));
		put(&bank->rule[r].shape, rl_pair(rule.limit, rl_rules_q(&rule)));
		return 0;
	}
	return RL_E_RULE;
}

void rl_rules_halve_overrides(struct rl_seg *seg)
{
	rl_lists_halve(seg, generation_of(&seg->view));
}

int rl_rules_publish(struct rl_seg *seg, const struct rl_rule_spec *spec, size_t count,
		     size_t *ret_other)
{
	uint64_t generation = generation_of(&seg->view);
	struct rl_bank *next = &seg->bank[(generation + 1) & 1];
	uint32_t id[RL_RULES_MAX], index[RL_RULES_MAX];
	int error;

	*ret_other = RL_RULES_MAX;
	if (count > RL_RULES_MAX)
		return RL_E_RULES;
	for (size_t i = 0; i < count; i++)
		id[i] = rl_hash_rule(spec[i].name);
	*ret_other = first_repeated_id(id, count);
	if (*ret_other < count)
		return RL_E_RULES;
	*ret_other = seg->view.given ? first_shared(spec, count) : count;
	if (*ret_other < count)
		return RL_E_CLOCK;

	error = rl_lists_write(seg, generation + 1, spec, count);
	if (error != 0)
		return error;
	place(seg, &seg->bank[generation & 1], id, count, index);
	/* Killed here: the numbers of rules that are to go may be taken for their successors'. */
	for (size_t i = 0; i < count; i++)
		rl_member_rule_comes(seg, index[i], id[i]);
	for (uint32_t r = 0; r < RL_RULES_MAX; r++)
		clear_rec(&next->rule[r]);
	for (size_t i = 0; i < count; i++)
		write_rec(
			&next->rule[index[i]], &spec[i], id[i],
			flags_of(&spec[i]) |
				kept_flags(seg, &seg->bank[generation & 1].rule[index[i]], id[i]));
	/* pairs[rules_gen.rel]: the bank is complete before its generation is named. */
	atomic_store_explicit(&seg->live->generation, generation + 1, memory_order_release);
	return 0;
}
