#include "agent/watch/audit.h"

#include <stdlib.h>
#include <string.h>

#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_watch.h"
#include "shm/rl_word.h"

#define PLACES  (sizeof(((struct audit *)0)->where) / sizeof(uint16_t))
#define KEEP_NS UINT64_C(20000000000) /* for hosts that tell every so often: fleet.h */

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	/* Relaxed: a number for people. */
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

uint64_t audit_keep_ns(uint64_t window_ns)
{
	return window_ns + (window_ns < KEEP_NS ? window_ns : KEEP_NS) + KEEP_NS / 4;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct rl_named_rule *)a)->rule.id;
	uint32_t y = ((const struct rl_named_rule *)b)->rule.id;

	return x < y ? -1 : x > y;
}

static const struct rl_named_rule *rule_of(const struct audit *audit, uint32_t id)
{
	const struct rl_named_rule key = {.rule.id = id};

	return bsearch(&key, audit->rule, audit->rule_count, sizeof(key), by_id);
}

/* Keys by their slot: a table of open addresses, which is half empty at least. */
static uint32_t place_of(const struct audit *audit, uint64_t index)
{
	uint32_t at = (uint32_t)((index * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % PLACES;

	while (audit->where[at] != 0 && audit->key[audit->where[at] - 1].index != index)
		at = (at + 1) % PLACES;
	return at;
}

struct audit_key *audit_find(struct audit *audit, uint64_t index)
{
	uint32_t where = audit->where[place_of(audit, index)];

	return where == 0 ? NULL : &audit->key[where - 1];
}

/* After some key went: rare, and there are few. */
static void index_anew(struct audit *audit)
{
	memset(audit->where, 0, sizeof(audit->where));
	for (uint32_t i = 0; i < audit->key_count; i++)
		audit->where[place_of(audit, audit->key[i].index)] = (uint16_t)(i + 1);
}

static void forget(struct audit *audit, struct audit_key *key)
{
	log_free(&key->log);
	*key = audit->key[--audit->key_count];
	memset(&audit->key[audit->key_count], 0, sizeof(*key));
	index_anew(audit);
}

/* Its rule, as it is now. False: it has none, or the slot is another key's. */
static bool read_rule(const struct audit *audit, uint64_t index, struct rl_rule *ret)
{
	const struct rl_view *view = &audit->seg->view;
	/* Relaxed: a slot that goes to another key meanwhile has another id. */
	uint64_t shape = atomic_load_explicit(&view->slot[index].shape, memory_order_relaxed);
	const struct rl_named_rule *named = rule_of(audit, rl_pair_high(shape));

	if (named == NULL || rl_shape_algorithm(shape) != RL_SLIDING)
		return false;
	*ret = named->rule;
	rl_lists_apply_slot(view, index, ret);
	return true;
}

static void begin(struct audit_key *key, const struct rl_rule *rule, uint64_t now_ns)
{
	key->rule = *rule;
	key->since_ns = now_ns;
	key->young_ns = 0;
	key->fleet_until_us = 0;
	log_begin(&key->log, rule->window_ns, now_ns);
}

/* The key of a note, a new one if need be; NULL: no room, or the slot has gone to another. */
static struct audit_key *key_of(struct audit *audit, const struct rl_audit_entry *note)
{
	struct audit_key *key = audit_find(audit, note->index);
	struct rl_rule rule;

	if (key != NULL && key->id == note->id)
		return key;
	if (rl_audit_id(&audit->seg->view, note->index) != note->id ||
	    !read_rule(audit, note->index, &rule))
		return NULL;
	if (key == NULL && audit->key_count == AUDIT_KEYS)
		return NULL;
	if (key == NULL) {
		key = &audit->key[audit->key_count++];
		key->index = note->index;
		audit->where[place_of(audit, note->index)] = (uint16_t)audit->key_count;
	}
	key->id = note->id;
	key->made = ++audit->made;
	key->asked = key->reset = false;
	key->told_ns = key->fleet_since_us = key->fleet_until_us = 0;
	begin(key, &rule, note->begun_ns);
	return key;
}

static void admitted(struct audit *audit, struct audit_key *key, const struct rl_audit_entry *note)
{
	struct rl_watch_rule *of = rl_watch_of(audit->seg, &key->rule);

	if (note->begun_ns < key->since_ns)
		return;
	if (!log_add(&key->log, note->begun_ns, note->ended_ns, note->units)) {
		count(&audit->seg->watch->unkept, 1);
		return;
	}
	if (key->young_ns == 0 || note->ended_ns < key->young_ns)
		key->young_ns = note->ended_ns;
	if (note->ended_ns > key->seen_ns)
		key->seen_ns = note->ended_ns;
	count(&of->admits, note->units);
	count(&of->windows, 1);
}

static void reset(struct audit_key *key, uint64_t before_ns)
{
	log_forget(&key->log, before_ns);
	key->reset = true;
	if (key->since_ns < before_ns)
		key->since_ns = before_ns;
}

static void take(struct audit *audit, const struct rl_audit_entry *note)
{
	struct audit_key *key = key_of(audit, note);

	if (key == NULL)
		count(&audit->seg->watch->unkept, 1);
	else if (note->kind == RL_AUDIT_ADMIT)
		admitted(audit, key, note);
	else if (note->kind == RL_AUDIT_REFUND)
		log_give_back(&key->log, note->units);
	else
		reset(key, note->begun_ns);
}

static bool same_terms(const struct rl_rule *a, const struct rl_rule *b)
{
	return a->id == b->id && a->index == b->index && a->limit == b->limit &&
	       a->window_ns == b->window_ns && a->fleet == b->fleet;
}

/* What a window may hold without any excess. */
static uint64_t allowance(const struct rl_rule *rule)
{
	if (!rl_rule_is_local(rule))
		return rule->limit;
	return rl_algorithm_bound(RL_SLIDING, rule->limit, 0,
				  (rule->fleet & RL_RULE_INTERPOLATE) != 0);
}

/*
 * By the terms that are in force now: an entry of a list may have ended since, without any reload.
 * Then what was noted may be of before, and is not judged.
 */
static bool has_terms(const struct audit *audit, struct audit_key *key, uint64_t now_ns)
{
	struct rl_rule rule;

	if (rl_audit_id(&audit->seg->view, key->index) != key->id ||
	    !read_rule(audit, key->index, &rule))
		return true; /* it is gone: what is known of it is all there is */
	if (same_terms(&rule, &key->rule))
		return true;
	begin(key, &rule, now_ns);
	return false;
}

static void judge(struct audit *audit, struct audit_key *key, uint64_t now_ns)
{
	uint64_t most;

	if (!has_terms(audit, key, now_ns))
		return;
	most = log_most(key->log.span, key->log.count, key->log.window_ns, key->young_ns,
			audit->scratch);
	tally_window(&audit->tally, &key->rule, allowance(&key->rule), most, now_ns);
	key->young_ns = 0;
	key->judged_ns = now_ns;
	log_drop(&key->log, now_ns - audit_keep_ns(key->log.window_ns));
}

void audit_fleet(struct audit *audit, const struct audit_key *key, uint64_t judged, uint64_t most)
{
	count(&rl_watch_of(audit->seg, &key->rule)->fleet, judged);
	if (most > 0)
		tally_window(&audit->tally, &key->rule, allowance(&key->rule), most,
			     rl_clock_precise_ns());
}

static bool is_over(const struct audit_key *key, uint64_t now_ns)
{
	return now_ns - key->seen_ns > audit_keep_ns(key->log.window_ns) && !key->asked;
}

static void judge_some(struct audit *audit, uint64_t now_ns)
{
	for (uint32_t left = AUDIT_LOOKS; left > 0 && audit->key_count > 0; left--) {
		struct audit_key *key;

		if (audit->next >= audit->key_count)
			audit->next = 0;
		key = &audit->key[audit->next];
		if (key->young_ns != 0 && now_ns - key->judged_ns >= AUDIT_JUDGE_NS)
			judge(audit, key, now_ns);
		if (is_over(key, now_ns))
			forget(audit, key);
		else
			audit->next++;
	}
}

/*
 * Before anything is taken that was noted since: by the rules that are in force now. What they
 * change begins anew.
 */
static void follow_rules(struct audit *audit, uint64_t now_ns)
{
	uint64_t generation = rl_rules_generation(&audit->seg->view);
	int count;

	if (generation == audit->generation)
		return;
	count = rl_rules_list(&audit->seg->view, audit->rule, &audit->generation);
	audit->rule_count = count > 0 ? (uint32_t)count : 0;
	qsort(audit->rule, audit->rule_count, sizeof(audit->rule[0]), by_id);
	for (uint32_t i = 0; i < audit->key_count;) {
		struct audit_key *key = &audit->key[i];
		struct rl_rule rule;

		if (rl_audit_id(&audit->seg->view, key->index) != key->id ||
		    !read_rule(audit, key->index, &rule)) {
			forget(audit, key);
			continue;
		}
		if (!same_terms(&rule, &key->rule))
			begin(key, &rule, now_ns);
		i++;
	}
}

static void publish(struct audit *audit, uint64_t now_ns)
{
	static uint64_t keys[RL_RULES_MAX];

	if (now_ns - audit->lately_ns < AUDIT_TELL_NS)
		return;
	audit->lately_ns = now_ns;
	memset(keys, 0, sizeof(keys));
	for (uint32_t i = 0; i < audit->key_count; i++)
		keys[audit->key[i].rule.index % RL_RULES_MAX]++;
	for (uint32_t i = 0; i < audit->rule_count; i++) {
		const struct rl_rule *rule = &audit->rule[i].rule;

		tally_lately(&audit->tally, rule, now_ns);
		/* Relaxed: as above. */
		atomic_store_explicit(&rl_watch_of(audit->seg, rule)->audited,
				      keys[rule->index % RL_RULES_MAX], memory_order_relaxed);
	}
}

struct audit *audit_new(struct rl_seg *seg)
{
	struct audit *audit = calloc(1, sizeof(*audit));

	if (audit == NULL)
		return NULL;
	audit->seg = audit->tally.seg = seg;
	audit->generation = UINT64_MAX;
	rl_audit_begin(seg);
	return audit;
}

void audit_free(struct audit *audit)
{
	if (audit == NULL)
		return;
	for (uint32_t i = 0; i < audit->key_count; i++)
		log_free(&audit->key[i].log);
	free(audit);
}

void audit_tick(struct audit *audit)
{
	uint64_t now_ns = rl_clock_precise_ns();
	struct rl_audit_entry note;

	follow_rules(audit, now_ns);
	for (uint32_t left = RL_AUDIT_CELLS; left > 0; left--) {
		if (!rl_audit_take(audit->seg, &audit->reader, &note))
			break;
		take(audit, &note);
	}
	judge_some(audit, now_ns);
	publish(audit, now_ns);
}
