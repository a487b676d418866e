/*
 * Goal:   the window admits exactly what its rule says, at both sides of every border.
 * Method: one slot in ordinary memory, time given by the test. Random runs are judged by an
 *         exact log of the admits; SEED=n repeats one.
 */
#include "tests/t.h"

#include <string.h>
#include <sys/mman.h>

#include "shm/rl_clock.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define START (RL_CLOCK_BIAS_NS + 1000 * RL_SECOND_NS)
#define W     RL_SECOND_NS

static struct rl_slot slot;
static struct rl_window_answer answer;

static struct rl_window_terms terms_of(uint32_t limit)
{
	return (struct rl_window_terms){.limit = limit, .q = rl_window_q(limit), .span_ns = W + 1};
}

/* As rl_claim.c opens a slot: at the start of a group. */
static void fresh(const struct rl_window_terms *terms)
{
	memset(&slot, 0, sizeof(slot));
	slot.head = rl_head_open((RL_N_FIRST / terms->q + 1) * terms->q);
}

static int try(const struct rl_window_terms *terms, uint32_t cost, uint64_t now)
{
	return rl_window_try(&slot, slot.head, terms, cost, now, &answer);
}

static void test_window__group_size_lets_the_ring_remember_the_limit(void **state)
{
	(void)state;
	assert_int_equal(rl_window_q(1), 1);
	assert_int_equal(rl_window_q(23), 1);
	assert_int_equal(rl_window_q(24), 2);
	assert_int_equal(rl_window_q(46), 2);
	assert_int_equal(rl_window_q(47), 3);
	for (uint32_t limit = 1; limit < 100000; limit += 1 + limit / 7)
		assert_true((uint64_t)rl_window_q(limit) * (RL_RING - 1) >= limit);
	assert_int_equal(rl_window_q(RL_LIMIT_MAX), 93368855);
	assert_int_equal(rl_window_limit(100, 5), 100);
	assert_int_equal(rl_window_limit(100, 4), 92);
	assert_int_equal(rl_window_limit(RL_LIMIT_MAX, UINT32_MAX), RL_LIMIT_MAX);
}

static void test_window__exactly_limit_then_refused_until_a_window_after(void **state)
{
	static const uint32_t limits[] = {1, 2, 22, 23, 24, 45, 46, 47, 69, 70, 100, 1000, 10000};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rl_window_terms terms = terms_of(limits[i]);

		fresh(&terms);
		for (uint32_t e = 0; e < limits[i]; e++)
			assert_int_equal(try(&terms, 1, START), RL_TRY_ALLOWED);
		assert_int_equal(try(&terms, 1, START), RL_TRY_LIMITED);
		assert_int_equal(answer.wait_ns, W + 1);
		assert_int_equal(try(&terms, 1, START + W), RL_TRY_LIMITED);
		assert_int_equal(answer.wait_ns, 1);
		assert_int_equal(try(&terms, 1, START + W + 1), RL_TRY_ALLOWED);
	}
}

static void test_window__refusal_writes_nothing(void **state)
{
	struct rl_window_terms terms = terms_of(3);
	struct rl_slot before;

	(void)state;
	fresh(&terms);
	for (int i = 0; i < 3; i++)
		try(&terms, 1, START + (uint64_t)i);
	memcpy(&before, &slot, sizeof(slot));
	assert_int_equal(try(&terms, 1, START + W / 2), RL_TRY_LIMITED);
	assert_memory_equal(&before, &slot, sizeof(slot));
}

static void test_window__remaining_counts_down_to_zero(void **state)
{
	struct rl_window_terms terms = terms_of(23);

	(void)state;
	fresh(&terms);
	for (uint32_t e = 1; e <= 23; e++) {
		assert_int_equal(try(&terms, 1, START + e), RL_TRY_ALLOWED);
		assert_int_equal(answer.remaining, 23 - e);
	}
	try(&terms, 1, START + 24);
	assert_int_equal(answer.remaining, 0);
}

static void test_window__remaining_is_what_is_then_admitted(void **state)
{
	uint64_t seed = t_seed(), now = START;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct rl_window_terms terms = terms_of(1 + (uint32_t)t_below(&seed, 300));
		uint32_t promised, got = 0;

		fresh(&terms);
		for (int i = 0; i < 50; i++) {
			try(&terms, 1 + (uint32_t)t_below(&seed, terms.limit), now);
			now += t_below(&seed, W / 3);
		}
		rl_window_look(&slot, slot.head, &terms, 1, now, &answer);
		promised = answer.remaining;
		while (try(&terms, 1, now) == RL_TRY_ALLOWED)
			got++;
		assert_int_equal(got, promised);
	}
}

static void test_window__idle_key_has_its_whole_limit_at_once(void **state)
{
	uint64_t seed = t_seed(), now = START;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct rl_window_terms terms = terms_of(1 + (uint32_t)t_below(&seed, 3000));
		uint32_t got = 0;

		fresh(&terms);
		for (uint32_t e = (uint32_t)t_below(&seed, terms.limit + 1); e > 0; e--)
			try(&terms, 1, now);
		now += terms.span_ns;
		rl_window_look(&slot, slot.head, &terms, 1, now, &answer);
		assert_int_equal(answer.remaining, terms.limit);
		if (t_below(&seed, 2) == 0) {
			got = 1 + (uint32_t)t_below(&seed, terms.limit);
			assert_int_equal(try(&terms, got, now), RL_TRY_ALLOWED);
		}
		while (try(&terms, 1, now) == RL_TRY_ALLOWED)
			got++;
		assert_int_equal(got, terms.limit);
		now += terms.span_ns - 1;
		assert_int_equal(try(&terms, 1, now), RL_TRY_LIMITED);
		now += 3 * W;
	}
}

/* The last L admits of an exact log. */
struct exact {
	uint64_t at[11000];
	uint64_t count;
};

static bool last_admits(struct exact *exact, uint32_t limit, uint64_t now)
{
	uint64_t *cell = &exact->at[exact->count % limit];

	if (exact->count >= limit && now - *cell < W + 1)
		return false;
	*cell = now;
	exact->count++;
	return true;
}

static void test_window__interpolated_uses_all_and_exceeds_by_less_than_a_group(void **state)
{
	static const uint32_t limits[] = {1, 23, 24, 47, 100, 1000, 10000};
	static const double loads[] = {0.9, 1.2, 2, 10};
	uint64_t seed = t_seed();

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		for (size_t l = 0; l < sizeof(loads) / sizeof(loads[0]); l++) {
			struct rl_window_terms terms = terms_of(limits[i]);
			uint64_t now = START, mean = (uint64_t)((double)W / limits[i] / loads[l]);
			static struct exact may, greedy;
			uint64_t admitted = 0;

			terms.interpolate = true;
			terms.q = rl_window_q_spread(limits[i]);
			may.count = greedy.count = 0;
			fresh(&terms);
			while (now < START + 6 * W) {
				bool got;

				now += t_below(&seed, 2 * mean + 1);
				last_admits(&greedy, limits[i], now);
				got = try(&terms, 1, now) == RL_TRY_ALLOWED;
				admitted += got;
				/* No more than the q - 1 others of a group above the limit. */
				if (got)
					assert_true(
						last_admits(&may, limits[i] + terms.q - 1, now));
			}
			/* After a pause a group is held for a moment: a unit of each window. */
			if ((admitted + 6) * 1000 < greedy.count * 985)
				fail_msg("%u at %gx: %llu of %llu", limits[i], loads[l],
					 (unsigned long long)admitted,
					 (unsigned long long)greedy.count);
			if (terms.q == 1)
				assert_int_equal(admitted, greedy.count);
		}
}

static void test_window__interpolated_group_leaves_one_by_one(void **state)
{
	struct rl_window_terms terms = terms_of(88);

	(void)state;
	terms.interpolate = true;
	terms.q = rl_window_q_spread(88);
	assert_int_equal(terms.q, 4);
	fresh(&terms);
	for (uint32_t e = 0; e < 88; e++) /* one each 4 ms: a group ends each 16 */
		assert_int_equal(try(&terms, 1, START + e * 4000000), RL_TRY_ALLOWED);
	/* The first group has none before it: taken for spread over 4 W / 23 until its 12 ms. */
	assert_int_equal(try(&terms, 1, START + W - 118434782), RL_TRY_LIMITED);
	for (uint32_t e = 0; e < 3; e++)
		assert_int_equal(try(&terms, 1, START + W + 11000000), RL_TRY_ALLOWED);
	assert_int_equal(try(&terms, 1, START + W + 12000000), RL_TRY_LIMITED);
	assert_int_equal(answer.wait_ns, 1);
	assert_int_equal(try(&terms, 1, START + W + 12000001), RL_TRY_ALLOWED);
	/* The second one by one: 16, 20, 24 and 28 ms. */
	for (uint32_t e = 4; e < 8; e++) {
		assert_int_equal(try(&terms, 1, START + W + e * 4000000), RL_TRY_LIMITED);
		assert_int_equal(answer.wait_ns, 1);
		assert_int_equal(try(&terms, 1, START + W + e * 4000000 + 1), RL_TRY_ALLOWED);
	}
}

static void test_window__refunds_never_let_a_window_hold_more(void **state)
{
	static const uint32_t limits[] = {1, 5, 23, 24, 100, 1000};
	uint64_t seed = t_seed();
	uint32_t refunds = 0; /* of one round none may be possible */

	(void)state;
	for (int round = 0; round < 200; round++) {
		static struct {
			uint64_t at, event;
			uint32_t cost;
			bool gone;
		} log[4000];
		struct rl_window_terms terms = terms_of(limits[round % 6]);
		uint64_t now = START, mean = W / terms.limit / (1 + t_below(&seed, 4));
		size_t count = 0, oldest = 0;

		fresh(&terms);
		for (int i = 0; i < 3000; i++) {
			uint32_t cost =
				1 + (t_below(&seed, 4) == 0 ? (uint32_t)t_below(&seed, terms.limit)
							    : 0);
			uint64_t held = 0;

			now += t_below(&seed, 2 * mean + 1);
			if (count > 0 && t_below(&seed, 10) < 3) {
				size_t back = (size_t)t_below(&seed, count < 5 ? count : 5);
				size_t which = count - 1 - back;

				if (!log[which].gone &&
				    rl_window_refund(&slot, slot.head, &terms, log[which].cost,
						     log[which].event, now)) {
					log[which].gone = true;
					refunds++;
				}
				continue;
			}
			if (try(&terms, cost, now) != RL_TRY_ALLOWED)
				continue;
			log[count].at = now;
			log[count].cost = cost;
			log[count].gone = false;
			log[count++].event = answer.event;
			while (now - log[oldest].at >= W)
				oldest++;
			for (size_t e = oldest; e < count; e++)
				held += log[e].gone ? 0 : log[e].cost;
			assert_true(held <= terms.limit);
		}
	}
	assert_true(refunds > 0);
}

static void test_window__refund_gives_back_the_newest_group_only(void **state)
{
	struct rl_window_terms terms = terms_of(92); /* groups of four */
	uint64_t first;

	(void)state;
	fresh(&terms);
	assert_int_equal(try(&terms, 4, START), RL_TRY_ALLOWED);
	first = answer.event;
	assert_int_equal(try(&terms, 1, START + 1), RL_TRY_ALLOWED);
	assert_int_equal(try(&terms, 1, START + 2), RL_TRY_ALLOWED);
	/* Others came after the first four, in the next group. */
	assert_false(rl_window_refund(&slot, slot.head, &terms, 4, first, START + 3));
	assert_true(rl_window_refund(&slot, slot.head, &terms, 1, first + 4, START + 3));
	assert_int_equal(rl_head_n(slot.head), first + 5);
	assert_true(rl_window_refund(&slot, slot.head, &terms, 1, first + 4, START + 3));
	/* That group's stamp is in the ring: the one before it stays as it is. */
	assert_false(rl_window_refund(&slot, slot.head, &terms, 4, first, START + 3));
	assert_int_equal(rl_head_n(slot.head), first + 4);
	/* Nor after its window, nor of what is reported. */
	assert_int_equal(try(&terms, 1, START + 2), RL_TRY_ALLOWED);
	assert_false(rl_window_refund(&slot, slot.head, &terms, 1, answer.event, START + 3 + W));
	terms.counted = true;
	assert_false(rl_window_refund(&slot, slot.head, &terms, 1, answer.event, START + 1));
	terms.counted = false;
	assert_true(rl_window_refund(&slot, slot.head, &terms, 1, answer.event, START + 1));
}

/* On the coarse clock all groups of a moment have one stamp. */
static void test_window__what_was_refunded_is_there_to_be_used(void **state)
{
	static const uint32_t limits[] = {1, 13, 20, 23, 24, 46, 100, 230};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rl_window_terms terms = terms_of(limits[i]);
		static uint64_t event[300];
		uint32_t refunded = 0, again = 0;

		fresh(&terms);
		for (uint32_t e = 0; e < terms.limit; e++) {
			assert_int_equal(try(&terms, 1, START), RL_TRY_ALLOWED);
			event[e] = answer.event;
		}
		for (uint32_t e = terms.limit; e-- > 0;)
			refunded += rl_window_refund(&slot, slot.head, &terms, 1, event[e], START);
		assert_in_range(refunded, 1, terms.q);
		while (try(&terms, 1, START) == RL_TRY_ALLOWED)
			again++;
		assert_int_equal(again, refunded);
	}
}

static void test_window__newest_group_is_refunded_in_any_order(void **state)
{
	struct rl_window_terms terms = terms_of(230); /* groups of ten */
	uint64_t event[10];

	(void)state;
	fresh(&terms);
	for (int e = 0; e < 10; e++) {
		assert_int_equal(try(&terms, 1, START + (uint64_t)e), RL_TRY_ALLOWED);
		event[e] = answer.event;
	}
	for (int e = 0; e < 10; e++)
		assert_true(rl_window_refund(&slot, slot.head, &terms, 1, event[e], START + 10));
	assert_int_equal(rl_head_n(slot.head), event[0]);
	assert_false(rl_window_refund(&slot, slot.head, &terms, 1, event[0], START + 10));
}

static void test_window__skips_nothing_in_a_slot_that_is_reported(void **state)
{
	struct rl_window_terms terms = terms_of(100);
	uint64_t n;

	(void)state;
	fresh(&terms);
	assert_int_equal(try(&terms, 1, START), RL_TRY_ALLOWED);
	terms.counted = true;
	n = rl_head_n(slot.head);
	assert_int_equal(try(&terms, 1, START + 2 * W), RL_TRY_ALLOWED);
	assert_int_equal(rl_head_n(slot.head), n + 1);
}

/* A lowered limit keeps the large groups: the last L events may all lie in the newest one. */
static void test_window__remaining_of_a_lowered_limit_is_what_is_then_admitted(void **state)
{
	uint64_t seed = t_seed(), now = START;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint32_t q = 1 + (uint32_t)t_below(&seed, 60);
		struct rl_window_terms terms = {
			.limit = 1 + (uint32_t)t_below(&seed, q + 40), .q = q, .span_ns = W + 1};
		uint32_t promised, got = 0;

		if (terms.limit > rl_window_limit(terms.limit, q))
			continue;
		fresh(&terms);
		for (uint32_t e = (uint32_t)t_below(&seed, 2 * q); e > 0; e--)
			try(&terms, 1, now += t_below(&seed, 2 * W / terms.limit));
		now += t_below(&seed, W + W / 4);
		rl_window_look(&slot, slot.head, &terms, 1, now, &answer);
		promised = answer.remaining;
		assert_true(promised <= terms.limit);
		while (try(&terms, 1, now) == RL_TRY_ALLOWED) {
			got++;
			assert_int_equal(answer.remaining, promised > got ? promised - got : 0);
		}
		assert_true(got == promised);
		now += 3 * W;
	}
}

static void test_window__look_agrees_with_try_and_writes_nothing(void **state)
{
	struct rl_window_terms terms = terms_of(10);
	struct rl_slot before;

	(void)state;
	fresh(&terms);
	for (uint64_t t = 0; t < 40; t++) {
		int want;

		memcpy(&before, &slot, sizeof(slot));
		want = rl_window_look(&slot, slot.head, &terms, 1, START + t * W / 13, &answer);
		assert_memory_equal(&before, &slot, sizeof(slot));
		assert_int_equal(try(&terms, 1, START + t * W / 13), want);
	}
}

static void test_window__cost_needs_every_spanned_group_expired(void **state)
{
	struct rl_window_terms terms = terms_of(92); /* q = 4: groups of exactly four */

	(void)state;
	fresh(&terms);
	for (int i = 0; i < 88; i++)
		assert_int_equal(try(&terms, 1, START), RL_TRY_ALLOWED);
	for (int i = 0; i < 4; i++)
		assert_int_equal(try(&terms, 1, START + 9 * W / 10), RL_TRY_ALLOWED);
	assert_int_equal(try(&terms, 89, START + W + 1), RL_TRY_LIMITED);
	assert_int_equal(answer.wait_ns, 9 * W / 10);
	assert_int_equal(try(&terms, 92, START + 9 * W / 10 + W), RL_TRY_LIMITED);
	assert_int_equal(try(&terms, 92, START + 9 * W / 10 + W + 1), RL_TRY_ALLOWED);
}

static void test_window__whole_limit_as_one_cost(void **state)
{
	struct rl_window_terms terms = terms_of(RL_LIMIT_MAX);

	(void)state;
	fresh(&terms);
	assert_int_equal(try(&terms, RL_LIMIT_MAX, START), RL_TRY_ALLOWED);
	assert_int_equal(answer.remaining, 0);
	assert_int_equal(try(&terms, 1, START + W), RL_TRY_LIMITED);
	assert_int_equal(try(&terms, RL_LIMIT_MAX, START + W + 1), RL_TRY_ALLOWED);
}

static void test_window__changed_head_is_never_overwritten(void **state)
{
	struct rl_window_terms terms = terms_of(5);
	uint64_t old;

	(void)state;
	fresh(&terms);
	old = slot.head;
	try(&terms, 1, START);
	assert_int_equal(rl_window_try(&slot, old, &terms, 1, START, &answer), RL_TRY_AGAIN);
	slot.head = rl_head_closed(rl_head_n(slot.head), RL_KIND_REBASE);
	assert_int_equal(rl_window_try(&slot, old, &terms, 1, START, &answer), RL_TRY_AGAIN);
}

static void test_window__refusal_by_a_reused_cell_starts_over(void **state)
{
	/* q (K - 1) = L: event n - L and event n + q share a cell. A worker that read head before
	 * newer events went in must not refuse because of their stamp. */
	struct rl_window_terms terms = terms_of(23);
	uint64_t old;

	(void)state;
	fresh(&terms);
	for (int i = 0; i < 23; i++)
		try(&terms, 1, START);
	old = slot.head;
	for (int i = 0; i < 3; i++)
		assert_int_equal(try(&terms, 1, START + W + 1), RL_TRY_ALLOWED);
	assert_int_equal(rl_window_try(&slot, old, &terms, 1, START + 5, &answer), RL_TRY_AGAIN);
}

static void test_window__late_worker_never_lowers_a_stamp(void **state)
{
	struct rl_window_terms terms = terms_of(100);
	uint64_t newest;

	(void)state;
	fresh(&terms);
	try(&terms, 1, START + 500);
	newest = rl_window_newest(&slot);
	assert_int_equal(try(&terms, 1, START), RL_TRY_ALLOWED); /* an older clock reading */
	assert_int_equal(rl_window_newest(&slot), newest);
}

static uint64_t newest_at_the_count;

static void note_newest(void *split)
{
	newest_at_the_count = rl_window_newest(split);
}

static void test_window__stamp_is_raised_before_the_count(void **state)
{
	struct rl_window_terms terms = terms_of(100);

	(void)state;
	if (t_under_tsan())
		return;
	for (uint32_t cost = 1; cost <= 7; cost += 6) {
		/* Only the page of the head traps: who is killed at the count has stamped already.
		 */
		struct rl_slot *split = t_split_slot();
		uint64_t head;

		fresh(&terms);
		split->head = head = slot.head;
		newest_at_the_count = 0;
		t_upon_access(split, PROT_READ, note_newest, split);
		assert_int_equal(rl_window_try(split, head, &terms, cost, START, &answer),
				 RL_TRY_ALLOWED);
		assert_int_equal(newest_at_the_count, START);
	}
}

static void test_window__damaged_count_is_not_used(void **state)
{
	struct rl_window_terms terms = terms_of(100);

	(void)state;
	fresh(&terms);
	slot.head = rl_head_open(99);
	assert_int_equal(try(&terms, 1, START), RL_TRY_AGAIN);
	slot.head = rl_head_open(RL_N_MAX);
	assert_int_equal(try(&terms, 1, START), RL_TRY_AGAIN);
	slot.head = rl_head_open(RL_N_MAX - 1);
	assert_int_equal(try(&terms, 1, START), RL_TRY_ALLOWED);
}

static void test_window__stamp_ahead_of_the_clock_is_found_and_mended(void **state)
{
	struct rl_window_terms terms = terms_of(1);
	uint64_t future = START + 40 * RL_DAY_NS;

	(void)state;
	fresh(&terms);
	try(&terms, 1, future);
	assert_int_equal(try(&terms, 1, START), RL_TRY_AHEAD);
	assert_int_equal(rl_window_mend(&slot, answer.cell, START), 1);
	assert_int_equal(try(&terms, 1, START + W), RL_TRY_LIMITED);
	assert_int_equal(try(&terms, 1, START + W + 1), RL_TRY_ALLOWED);
}

static void test_window__two_ticks_ahead_are_not_damage(void **state)
{
	struct rl_window_terms terms = terms_of(1);

	(void)state;
	fresh(&terms);
	try(&terms, 1, START + 8000000); /* a precise stamp seen by the coarse clock */
	assert_int_equal(try(&terms, 1, START), RL_TRY_LIMITED);
	assert_int_equal(rl_window_mend(&slot, answer.cell, START), 0);
}

/* A log of admits: at most this many stay within any (t - W, t]. */
struct log {
	uint64_t at[200000];
	uint32_t cost[200000];
	size_t len;
};
static struct log admits;

static uint64_t largest_window(const struct log *log)
{
	uint64_t sum = 0, largest = 0;

	for (size_t i = 0, j = 0; i < log->len; i++) {
		sum += log->cost[i];
		while (log->at[i] - log->at[j] >= W)
			sum -= log->cost[j++];
		if (sum > largest)
			largest = sum;
	}
	return largest;
}

/* What an exact log would admit, for the use of the limit. */
static bool exact_admits(struct log *exact, size_t *from, uint64_t *held, uint32_t limit,
			 uint32_t cost, uint64_t now)
{
	while (*from < exact->len && now - exact->at[*from] >= W)
		*held -= exact->cost[(*from)++];
	if (*held + cost > limit)
		return false;
	exact->at[exact->len] = now;
	exact->cost[exact->len++] = cost;
	*held += cost;
	return true;
}
static struct log exact;

static void run_random(uint64_t *seed, uint32_t limit, uint32_t cost_max, uint64_t load_percent)
{
	struct rl_window_terms terms = terms_of(limit);
	uint64_t now = START, held = 0, ours = 0, theirs = 0;
	uint64_t mean = W * (1 + cost_max) / 2 * 100 / (limit * load_percent);
	size_t from = 0;

	fresh(&terms);
	admits.len = exact.len = 0;
	for (uint32_t i = 0; i < 30 * limit && i < 100000; i++) {
		uint32_t cost = 1 + (uint32_t)t_below(seed, cost_max);

		now += t_below(seed, 2 * mean + 1);
		if (try(&terms, cost, now) == RL_TRY_ALLOWED) {
			admits.at[admits.len] = now;
			admits.cost[admits.len++] = cost;
			ours += cost;
		}
		if (exact_admits(&exact, &from, &held, limit, cost, now))
			theirs += cost;
	}
	assert_true(largest_window(&admits) <= limit);
	if (cost_max == 1 && load_percent >= 200)
		assert_true(ours * 1000 >= theirs * 955); /* >= 95.5 % of an exact log */
	if (limit < RL_RING && cost_max == 1)
		assert_int_equal(ours, theirs); /* below K the log is exact */
}

static void test_window__random_traffic_never_exceeds_and_uses_95_percent(void **state)
{
	static const uint32_t limits[] = {1, 2, 7, 22, 23, 24, 45, 46, 47, 69, 70, 100, 1000};
	static const uint64_t loads[] = {50, 90, 120, 200, 1000};
	uint64_t seed = t_seed();

	(void)state;
	for (size_t l = 0; l < sizeof(limits) / sizeof(limits[0]); l++)
		for (size_t p = 0; p < sizeof(loads) / sizeof(loads[0]); p++) {
			run_random(&seed, limits[l], 1, loads[p]);
			if (limits[l] >= 7)
				run_random(&seed, limits[l], 7, loads[p]);
		}
}

/* What a worker leaves that is killed between its stamps and its count. */
static void try_killed(const struct rl_window_terms *terms, uint32_t cost, uint64_t now)
{
	uint64_t head = slot.head;

	try(terms, cost, now);
	slot.head = head;
}

static uint32_t remaining_at(const struct rl_window_terms *terms, uint64_t now)
{
	assert_int_not_equal(rl_window_look(&slot, slot.head, terms, 1, now, &answer),
			     RL_TRY_AGAIN);
	return answer.remaining;
}

static void kill_one(uint32_t limit, uint32_t used, uint32_t cost)
{
	struct rl_window_terms terms = terms_of(limit);
	uint32_t left, first = used % 2 == 0 ? 1 + cost / 2 : 1; /* to be spent after the kill */
	uint64_t now = START + W / 2;

	fresh(&terms);
	for (uint32_t i = 0; i < used; i++)
		assert_int_equal(try(&terms, 1, START + i), RL_TRY_ALLOWED);
	left = remaining_at(&terms, now);
	assert_int_equal(left, limit - used);
	try_killed(&terms, cost, now);
	try_killed(&terms, 1 + cost / 2, now + 1);
	assert_int_equal(remaining_at(&terms, now + 2), left);
	assert_int_equal(try(&terms, first, now + 2), RL_TRY_ALLOWED);
	assert_int_equal(answer.remaining, left - first);
	assert_true(left == first || try(&terms, left - first, now + 3) == RL_TRY_ALLOWED);
	assert_int_equal(try(&terms, 1, now + 4), RL_TRY_LIMITED);
}

/* A cost of many units used to lock its key for a window, however little of it was used. */
static void test_window__killed_before_the_count_holds_nothing_more(void **state)
{
	static const uint32_t limits[] = {1, 2, 20, 22, 23, 24, 45, 46, 47, 69, 100, 230, 1000};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		for (uint32_t used = 0; used < limits[i]; used += 1 + limits[i] / 9)
			for (uint32_t cost = 1; cost <= limits[i] - used;
			     cost += 1 + limits[i] / 29)
				kill_one(limits[i], used, cost);
}

static void run_killed(uint64_t *seed, uint32_t limit, uint32_t cost_max)
{
	struct rl_window_terms terms = terms_of(limit);
	uint64_t now = START, mean = W * (1 + cost_max) / 4 / limit, held = 0, ours = 0, theirs = 0;
	size_t from = 0;

	fresh(&terms);
	admits.len = exact.len = 0;
	for (uint32_t i = 0; i < 30 * limit && i < 20000; i++) {
		uint32_t cost = 1 + (uint32_t)t_below(seed, cost_max);

		now += t_below(seed, 2 * mean + 1);
		if (t_below(seed, 5) == 0) {
			try_killed(&terms, cost, now);
			continue;
		}
		if (try(&terms, cost, now) == RL_TRY_ALLOWED) {
			admits.at[admits.len] = now;
			admits.cost[admits.len++] = cost;
			ours += cost;
		}
		if (exact_admits(&exact, &from, &held, limit, cost, now))
			theirs += cost;
	}
	assert_true(largest_window(&admits) <= limit);
	assert_true(ours * 100 >= theirs * 85);
}

static void test_window__random_kills_never_exceed_and_leave_the_limit_usable(void **state)
{
	static const uint32_t limits[] = {1, 7, 20, 22, 23, 24, 45, 46, 47, 69, 70, 100, 230, 1000};
	uint64_t seed = t_seed();

	(void)state;
	for (int round = 0; round < 5; round++)
		for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
			run_killed(&seed, limits[i], 1);
			run_killed(&seed, limits[i], 1 + limits[i] / 4);
			run_killed(&seed, limits[i], limits[i]);
		}
}

static void test_window__adversary_at_the_window_end_gets_no_more(void **state)
{
	/* One early, L - 1 just before the end, then a flood: the two-bucket window lets 2 L pass.
	 */
	static const uint32_t limits[] = {7, 23, 24, 100, 1000};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		struct rl_window_terms terms = terms_of(limits[i]);

		fresh(&terms);
		admits.len = 0;
		for (uint64_t t = 0; t < 3000; t++) {
			uint32_t burst = t == 0 ? 1 : t == 990 ? limits[i] - 1 : t > 990 ? 3 : 0;

			for (uint32_t b = 0; b < burst; b++)
				if (try(&terms, 1, START + t * W / 1000) == RL_TRY_ALLOWED) {
					admits.at[admits.len] = START + t * W / 1000;
					admits.cost[admits.len++] = 1;
				}
		}
		assert_int_equal(largest_window(&admits), limits[i]);
	}
}

static void test_window__count_near_its_end_keeps_the_limit(void **state)
{
	/* No test "fewer than L ever" and no jump of the ring: the promise holds past 2^41. */
	struct rl_window_terms terms = terms_of(100);

	(void)state;
	fresh(&terms);
	slot.head = rl_head_open(RL_N_REBASE - 50);
	admits.len = 0;
	for (uint64_t t = 0; t < 20000; t++)
		if (try(&terms, 1, START + t * W / 1000) == RL_TRY_ALLOWED) {
			admits.at[admits.len] = START + t * W / 1000;
			admits.cost[admits.len++] = 1;
		}
	assert_true(largest_window(&admits) <= 100);
	assert_true(admits.len > 1900);
}

static void test_window__idle_for_a_year_is_just_empty(void **state)
{
	struct rl_window_terms terms = terms_of(10);

	(void)state;
	fresh(&terms);
	for (int i = 0; i < 10; i++)
		try(&terms, 1, START);
	assert_int_equal(try(&terms, 10, START + 365 * RL_DAY_NS), RL_TRY_ALLOWED);
	assert_int_equal(try(&terms, 1, START + 365 * RL_DAY_NS), RL_TRY_LIMITED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window__group_size_lets_the_ring_remember_the_limit),
		cmocka_unit_test(test_window__exactly_limit_then_refused_until_a_window_after),
		cmocka_unit_test(test_window__refusal_writes_nothing),
		cmocka_unit_test(test_window__remaining_counts_down_to_zero),
		cmocka_unit_test(test_window__remaining_is_what_is_then_admitted),
		cmocka_unit_test(test_window__idle_key_has_its_whole_limit_at_once),
		cmocka_unit_test(
			test_window__interpolated_uses_all_and_exceeds_by_less_than_a_group),
		cmocka_unit_test(test_window__interpolated_group_leaves_one_by_one),
		cmocka_unit_test(test_window__refunds_never_let_a_window_hold_more),
		cmocka_unit_test(test_window__refund_gives_back_the_newest_group_only),
		cmocka_unit_test(test_window__what_was_refunded_is_there_to_be_used),
		cmocka_unit_test(test_window__newest_group_is_refunded_in_any_order),
		cmocka_unit_test(test_window__skips_nothing_in_a_slot_that_is_reported),
		cmocka_unit_test(
			test_window__remaining_of_a_lowered_limit_is_what_is_then_admitted),
		cmocka_unit_test(test_window__look_agrees_with_try_and_writes_nothing),
		cmocka_unit_test(test_window__cost_needs_every_spanned_group_expired),
		cmocka_unit_test(test_window__whole_limit_as_one_cost),
		cmocka_unit_test(test_window__changed_head_is_never_overwritten),
		cmocka_unit_test(test_window__refusal_by_a_reused_cell_starts_over),
		cmocka_unit_test(test_window__late_worker_never_lowers_a_stamp),
		cmocka_unit_test(test_window__stamp_is_raised_before_the_count),
		cmocka_unit_test(test_window__damaged_count_is_not_used),
		cmocka_unit_test(test_window__stamp_ahead_of_the_clock_is_found_and_mended),
		cmocka_unit_test(test_window__two_ticks_ahead_are_not_damage),
		cmocka_unit_test(test_window__random_traffic_never_exceeds_and_uses_95_percent),
		cmocka_unit_test(test_window__killed_before_the_count_holds_nothing_more),
		cmocka_unit_test(test_window__random_kills_never_exceed_and_leave_the_limit_usable),
		cmocka_unit_test(test_window__adversary_at_the_window_end_gets_no_more),
		cmocka_unit_test(test_window__count_near_its_end_keeps_the_limit),
		cmocka_unit_test(test_window__idle_for_a_year_is_just_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
