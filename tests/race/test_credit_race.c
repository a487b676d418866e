/*
 * Goal:   workers that admit by credit, by debt and by policy, and an agent that is killed at
 *         random between all of its steps, lose no unit, add no grant twice, and keep each limit.
 * Method: one mapping. The agent's thread runs the sync as it is (part.c, due.c, slot.c) against
 *         a Redis in its own memory, which answers as the script does: a number once, again from
 *         its record, leases restated. It dies by longjmp() wherever the sync asks for something;
 *         within the steps of one slot by putting back the words it has not written yet. The next
 *         agent has nothing but the segment. Of keys that admit by credit alone no call may say
 *         more than the lease that Redis has on record.
 */
#include "tests/sync_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "shm/rl_bell.h"
#include "shm/rl_check.h"

enum { WORKERS = 2, KEYS = 6, CREDIT_KEYS = 3, RECORD_MAX = SYNC_BATCH_MAX * SYNC_ANSWER_SIZE };

/* Rules and keys: the first three admit by credit alone, the second of them soon is full. */
static const struct {
	const char *name, *terms;
	struct rl_fleet_terms fleet;
} rules[] = {
	{"credit", "1000000000/h", {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 1000000}},
	{"small", "5000/h", {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 1000000}},
	{"debt", "1000000/h", {RL_BOUNDED, RL_NO_CREDIT_ALLOW, RL_CLOSED, 100, 0}},
	{"away", "1000000000/h", {RL_BOUNDED, RL_NO_CREDIT_DENY, RL_OPEN, 0, 0}},
};
static const uint32_t rule_of[KEYS] = {0, 1, 0, 2, 2, 3};

static struct t_seg t;
static uint64_t handle[KEYS], slot_of[KEYS], first_n[KEYS];
static uint32_t limit_of[KEYS];
static atomic_bool stop;
static uint64_t admitted[WORKERS][KEYS];
static _Atomic uint64_t errors, by[4];

/* The agent's thread alone: Redis, and what went wrong. */
static struct {
	uint64_t seq, nonce;
	size_t len;
	char record[RECORD_MAX];
} row[RL_PARTS];
static uint64_t count[KEYS], out[KEYS];
static uint64_t applied, repeated, kills, granted, beyond_lease, above_limit, refused_calls;
static uint64_t seed;
static bool draining;

static void *worker(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;
	uint64_t own = t_seed() * 31 + me;

	while (!atomic_load(&stop)) {
		uint32_t key = (uint32_t)t_below(&own, KEYS), cost = 1 + (uint32_t)t_below(&own, 2);
		uint32_t flags = t_below(&own, 200) == 0 ? RL_CHECK_MAY_WAIT : 0;
		struct rl_answer answer;
		int got = rl_check_spend(&t.seg, &t.seg.member[1 + me], handle[key], &key,
					 sizeof(key), cost, flags, &answer);

		if (got < 0)
			atomic_fetch_add(&errors, 1);
		if (got != 1)
			continue;
		admitted[me][key] += cost;
		atomic_fetch_add(&by[answer.by & 3], 1);
	}
	return NULL;
}

static uint32_t key_of(uint64_t index)
{
	for (uint32_t key = 0; key < KEYS; key++)
		if (slot_of[key] == index)
			return key;
	refused_calls++;
	return 0;
}

/* One key in a call, as rl_sync.lua does it without time. */
static uint32_t lend(const struct rig_item *item)
{
	uint32_t key = key_of(item->tag), units = 0;
	uint64_t room;

	if (key < CREDIT_KEYS && item->used + item->credit > out[key])
		beyond_lease++;
	count[key] += item->used;
	room = count[key] + item->credit < limit_of[key] ? limit_of[key] - count[key] - item->credit
							 : 0;
	if (!draining && (item->flags & SYNC_PUSH_ONLY) == 0)
		units = (uint32_t)t_below(&seed, 60);
	if (units > room)
		units = (uint32_t)room;
	out[key] = item->credit + units;
	granted += units;
	if (key < CREDIT_KEYS && count[key] + out[key] > limit_of[key])
		above_limit++;
	return units;
}

/* The call that was sent last reaches Redis. */
static long long arrive(void)
{
	uint32_t p = rig.part;

	if (rig.seq == row[p].seq) {
		repeated++;
		return rig.nonce == row[p].nonce ? SYNC_DUPLICATE : SYNC_CLASH;
	}
	if (rig.seq < row[p].seq)
		return SYNC_OLD;
	for (uint32_t i = 0; i < rig.items; i++) {
		struct sync_answer answer = {.tag = rig.item[i].tag, .grant = lend(&rig.item[i])};

		if (answer.grant == 0 && t_below(&seed, 20) == 0)
			answer.flags = SYNC_EXHAUSTED, answer.retry_ms = 2;
		rig_write_answer(&answer, row[p].record + i * SYNC_ANSWER_SIZE);
	}
	row[p].seq = rig.seq;
	row[p].nonce = rig.nonce;
	row[p].len = rig.items * SYNC_ANSWER_SIZE;
	applied++;
	return SYNC_APPLIED;
}

/* What a slot's side said before an answer was applied to it. */
static struct {
	uint64_t infl[KEYS], acked[KEYS], seq;
	bool on;
} before;

static void photograph(uint32_t p)
{
	for (uint32_t key = 0; key < KEYS; key++) {
		before.infl[key] = t.seg.side[slot_of[key]].infl;
		before.acked[key] = t.seg.side[slot_of[key]].acked;
	}
	before.seq = t.seg.fleet->part[p].seq;
	before.on = true;
}

/* The agent died within the steps of the slot that it went through last. */
static void die_within_the_last_slot(uint32_t p)
{
	uint32_t last = KEYS;

	if (!before.on || before.seq != t.seg.fleet->part[p].seq)
		return;
	for (size_t at = 0; at < row[p].len; at += SYNC_ANSWER_SIZE) {
		const char *tag = row[p].record + at;
		uint32_t key = key_of(rig_number(&tag, 8));

		if (before.infl[key] != 0 && t.seg.side[slot_of[key]].infl == 0)
			last = key;
	}
	if (last == KEYS || t_below(&seed, 3) == 0)
		return;
	t.seg.side[slot_of[last]].infl = before.infl[last];
	if (t_below(&seed, 2) == 0)
		t.seg.side[slot_of[last]].acked = before.acked[last];
}

static jmp_buf dead;

static void die_at_random(void)
{
	if (t_below(&seed, 40) == 0)
		longjmp(dead, 1);
}

static void answer(uint32_t p)
{
	long long status = arrive();

	if (t_below(&seed, 8) == 0)
		return; /* the answer is lost: it is sent again */
	photograph(p);
	rig_deliver(status, 1, row[p].record, row[p].len);
	before.on = false;
}

/* An outage, as workers see it; or a lease that has lapsed. */
static void upset(uint32_t p)
{
	struct rl_part *part = &t.seg.fleet->part[p];

	if (t_below(&seed, 2000) == 0)
		part->silent_ns = rl_clock_precise_ns() - RL_SECOND_NS;
	if (t_below(&seed, 500) == 0)
		part->lease_until_ns = 1;
	if (rig.sync.part[p].back_ns != 0) /* the grace, in a fraction of its time */
		rig.sync.part[p].back_ns -= PART_GRACE_NS / 50;
}

/* What the host holds and has not told is never more than the lease that is on record. */
static void hold_against_the_leases(void)
{
	for (uint32_t key = 0; key < CREDIT_KEYS; key++) {
		uint64_t head = atomic_load(&t.seg.slot[slot_of[key]].head);

		if (rl_head_credit(head) + rl_head_n(head) - first_n[key] > out[key] + count[key])
			beyond_lease++;
	}
}

static void sync_once(uint32_t p)
{
	struct sync_part *part = &rig.sync.part[p];

	upset(p);
	part_end_grace(part);
	if (part->in_flight)
		part_resend(part);
	else
		rig_pump(p, true);
	if (rig.ticket != NULL && rig.part == p)
		answer(p);
	hold_against_the_leases();
}

static uint32_t part_of(uint32_t key)
{
	return rl_hint_part(t.seg.slot[slot_of[key]].hint);
}

/* One agent's life; it ends by die_at_random(), or when the workers have stopped. */
static void live(void)
{
	if (setjmp(dead) != 0) {
		kills++;
		rig.step = NULL;
		die_within_the_last_slot(rig.part);
		before.on = false;
		hold_against_the_leases();
		return;
	}
	rig.step = die_at_random;
	if (!rig_start(&t.seg))
		abort();
	while (!atomic_load(&stop)) {
		uint32_t key = (uint32_t)t_below(&seed, KEYS);

		rl_clock_beat(t.seg.live);
		sync_once(part_of(key));
	}
	rig.step = NULL;
}

static void *agent(void *unused)
{
	while (!atomic_load(&stop)) {
		live();
		rig_kill();
	}
	return unused;
}

static bool all_is_told(void)
{
	for (uint32_t key = 0; key < KEYS; key++)
		if (t.seg.side[slot_of[key]].infl != 0 || out[key] != 0 ||
		    rl_head_credit(t.seg.slot[slot_of[key]].head) != 0 ||
		    sync_slot_unsent(&t.seg.view, slot_of[key]) != 0)
			return false;
	return true;
}

/* A last agent that nobody kills; Redis lends nothing any more. */
static void drain(void)
{
	uint64_t deadline = t_now_ns() + 20 * RL_SECOND_NS;

	draining = true;
	for (uint32_t key = 0; key < KEYS; key++) {
		t.seg.slot[slot_of[key]].asked = 0; /* else credit is kept in stock for W */
		/* An agent that died right after a lapse has told Redis nothing of it: the key's
		 * next demand does. */
		t.seg.side[slot_of[key]].refused = 1;
		rl_dirty_mark(&t.seg, slot_of[key]);
	}
	assert_true(rig_start(&t.seg));
	while (!all_is_told() && t_now_ns() < deadline)
		for (uint32_t key = 0; key < KEYS; key++) {
			rl_dirty_take(&t.seg, true, rig_touch, NULL);
			sync_once(part_of(key));
		}
	rig_kill();
	assert_true(all_is_told());
}

static void open_keys(void)
{
	struct rl_rule_spec spec[4] = {0};
	size_t other;

	for (size_t r = 0; r < 4; r++) {
		snprintf(spec[r].name, sizeof(spec[r].name), "%s", rules[r].name);
		assert_null(rl_terms_parse(rules[r].terms, &spec[r].terms));
		spec[r].fleet = rules[r].fleet;
	}
	assert_int_equal(rl_rules_publish(&t.seg, spec, 4, &other), 0);
	for (uint32_t key = 0; key < KEYS; key++) {
		struct shared_key k = {.t = t};

		handle[key] = t_rule(&t.seg.view, rules[rule_of[key]].name);
		assert_int_equal(rl_rules_read(&t.seg.view, handle[key], &k.rule), 0);
		shared_open(&k, &key, sizeof(key));
		slot_of[key] = k.index;
		first_n[key] = shared_n(&k);
		limit_of[key] = k.rule.limit;
	}
	t.seg.fleet->stale_after_ns = RL_STALE_AFTER_NS;
	t.seg.fleet->hosts = 1;
	t.seg.fleet->interval_ns = 1000000;
	rl_clock_beat(t.seg.live);
}

static void judge(void)
{
	for (uint32_t key = 0; key < KEYS; key++) {
		uint64_t sum = 0;

		for (size_t w = 0; w < WORKERS; w++)
			sum += admitted[w][key];
		assert_int_equal(count[key], sum);
		assert_int_equal(rl_head_n(t.seg.slot[slot_of[key]].head) - first_n[key], sum);
		assert_true(sum > 0);
		if (key < CREDIT_KEYS)
			assert_true(sum <= limit_of[key]);
	}
	assert_int_equal(beyond_lease, 0);
	assert_int_equal(above_limit, 0);
	assert_int_equal(refused_calls, 0);
	assert_int_equal(rig.renewed, 0);
	assert_int_equal(errors, 0);
	assert_true(by[RL_DECIDED_CREDIT] > 0 && by[RL_DECIDED_NO_CREDIT] > 0 &&
		    by[RL_DECIDED_POLICY] > 0);
}

static bool has_happened(void)
{
	return atomic_load(&by[RL_DECIDED_POLICY]) > 100 &&
	       atomic_load(&by[RL_DECIDED_CREDIT]) > 100 &&
	       atomic_load(&by[RL_DECIDED_NO_CREDIT]) > 100;
}

/* 2 s; with other work on the machine until enough has happened: 60 s at most. */
static void run_long_enough(void)
{
	const struct timespec nap = {.tv_nsec = 100000000};

	for (int naps = 0; naps < 20 || (naps < 600 && !has_happened()); naps++)
		nanosleep(&nap, NULL);
}

static void test_credit_race__killed_agents_lose_no_unit_and_grant_none_twice(void **state)
{
	pthread_t thread[WORKERS + 1];

	(void)state;
	seed = t_seed(); /* before there are threads */
	t_seg_make(&t, 200);
	open_keys();
	for (uintptr_t i = 0; i < WORKERS; i++)
		pthread_create(&thread[i], NULL, worker, (void *)i);
	pthread_create(&thread[WORKERS], NULL, agent, NULL);
	run_long_enough();
	atomic_store(&stop, true);
	for (int i = 0; i <= WORKERS; i++)
		pthread_join(thread[i], NULL);
	drain();
	printf("# %llu calls, %llu repeated, %llu kills; admits by credit %llu, debt %llu, "
	       "policy %llu\n",
	       (unsigned long long)applied, (unsigned long long)repeated, (unsigned long long)kills,
	       (unsigned long long)by[RL_DECIDED_CREDIT],
	       (unsigned long long)by[RL_DECIDED_NO_CREDIT],
	       (unsigned long long)by[RL_DECIDED_POLICY]);
	assert_true(kills > 20 && repeated > 20 && applied > 100);
	judge();
	t_seg_drop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_credit_race__killed_agents_lose_no_unit_and_grant_none_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
