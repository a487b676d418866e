/*
 * shared_key.h - keys under a rule that hosts share, for the C tests: no agent, no Redis.
 *
 * The test is the agent: it says how old the heartbeat is, when the lease ends, and what the
 * slot's credit is. Times are the test's own where a function takes now_ns.
 */
#ifndef TESTS_SHARED_KEY_H
#define TESTS_SHARED_KEY_H

#include "tests/t.h"

#include <string.h>

#include "shm/rl_clock.h"
#include "shm/rl_shared.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

struct shared_key {
	struct t_seg t;
	uint64_t handle, index;
	struct rl_rule rule;
	struct rl_window_terms terms; /* of the last shared_ask() */
};

/* Put one rule "r" in force, e.g. "100/s" shared like this, and read it back. */
static inline void shared_rule(struct shared_key *k, const char *terms, struct rl_fleet_terms fleet)
{
	struct rl_rule_spec spec = {.name = "r", .fleet = fleet};
	size_t other;

	assert_null(rl_terms_parse(terms, &spec.terms));
	assert_int_equal(rl_rules_publish(&k->t.seg, &spec, 1, &other), 0);
	assert_int_equal(rl_rules_find(&k->t.seg.view, "r", &k->handle), 0);
	assert_int_equal(rl_rules_read(&k->t.seg.view, k->handle, &k->rule), 0);
}

static inline uint64_t shared_find(const struct shared_key *k, const void *key, size_t key_len)
{
	struct rl_id id = rl_hash_key(k->t.seg.view.hash_key, k->rule.id, key, key_len);
	uint64_t head;

	return rl_table_find(&k->t.seg.view, &id, &head);
}

/* A slot for this key that opens with no credit; k->index is then its. */
static inline void shared_open(struct shared_key *k, const void *key, size_t key_len)
{
	struct rl_id id = rl_hash_key(k->t.seg.view.hash_key, k->rule.id, key, key_len);
	struct rl_claim claim = {
		.rule_id = k->rule.id, .q = k->rule.q, .window_ns = k->rule.window_ns};

	rl_key_text(key, key_len, &claim.text);
	claim.hint = rl_hint(0, 0, rl_key_part(k->rule.id, &claim.text));
	assert_int_equal(rl_table_claim(&k->t.seg, &id, &claim), 1);
	k->index = shared_find(k, key, key_len);
	assert_int_not_equal(k->index, RL_NO_SLOT);
}

static inline struct rl_slot *shared_slot(const struct shared_key *k)
{
	return &k->t.seg.slot[k->index];
}

static inline struct rl_side *shared_side(const struct shared_key *k)
{
	return &k->t.seg.side[k->index];
}

static inline struct rl_part *shared_part(const struct shared_key *k)
{
	return &k->t.seg.fleet->part[rl_hint_part(shared_slot(k)->hint)];
}

/* One host of so many, whose agent has beaten and been answered just now; leases last 5 s. */
static inline void shared_fresh(struct shared_key *k, uint64_t hosts, uint64_t now_ns)
{
	struct rl_fleet *fleet = k->t.seg.fleet;

	k->t.seg.live->beat_ns = now_ns;
	fleet->hosts = hosts;
	fleet->stale_after_ns = RL_STALE_AFTER_NS;
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		fleet->part[p].silent_ns = 0;
		fleet->part[p].lease_until_ns = now_ns + 5 * RL_SECOND_NS;
	}
}

static inline uint64_t shared_n(const struct shared_key *k)
{
	return rl_head_n(shared_slot(k)->head);
}

static inline uint32_t shared_credit(const struct shared_key *k)
{
	return rl_head_credit(shared_slot(k)->head);
}

static inline void shared_give(struct shared_key *k, uint32_t credit)
{
	shared_slot(k)->head = rl_head_with_credit(shared_slot(k)->head, credit);
}

/* The terms that a check of this slot goes by. */
static inline struct rl_window_terms shared_terms(const struct shared_key *k)
{
	uint32_t q = rl_pair_low(shared_slot(k)->shape);

	return (struct rl_window_terms){
		.limit = rl_window_limit(k->rule.limit, q),
		.q = q,
		.span_ns = k->rule.window_ns + 1,
		.counted = true,
	};
}

/* What a check of the slot asks; one at a time. */
static inline struct rl_shared_ask shared_ask(struct shared_key *k, uint32_t cost, uint64_t now_ns)
{
	k->terms = shared_terms(k);
	return (struct rl_shared_ask){.index = k->index,
				      .head = shared_slot(k)->head,
				      .rule = &k->rule,
				      .terms = &k->terms,
				      .cost = cost,
				      .now_ns = now_ns,
				      .ring = true};
}

/* A segment with one key "k" under "r", fresh, one host, at now_ns; no credit. */
static inline void shared_key_make(struct shared_key *k, const char *terms,
				   struct rl_fleet_terms fleet, uint64_t now_ns)
{
	memset(k, 0, sizeof(*k));
	t_seg_make(&k->t, 200);
	shared_rule(k, terms, fleet);
	shared_open(k, "k", 1);
	shared_fresh(k, 1, now_ns);
}

static inline void shared_key_drop(struct shared_key *k)
{
	t_seg_drop(&k->t);
}

#endif
