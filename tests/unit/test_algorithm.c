/*
 * Goal:   the algorithms that count in one word admit what they promise, at every limit and
 *         window, and hold what they are told to hold.
 * Method: a row's pure functions against an exact count in 128 bits, with random traffic; and
 *         the edges one by one. Time is given.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>

#include "shm/rl_bucket.h"
#include "shm/rl_clock.h"

#define MS     UINT64_C(1000000)
#define START  (RL_CLOCK_BIAS_NS + 12345 * RL_SECOND_NS + 678)
#define WALL   (UINT64_C(1800000000) * RL_SECOND_NS - START) /* START is at a whole second */
#define SLACK  2 /* ns and parts that readings may be apart */
#define MOST_L RL_LIMIT_MAX

__extension__ typedef unsigned __int128 wide;

static const uint64_t windows[] = {RL_WINDOW_MIN_NS,  333 * MS + 7, RL_SECOND_NS,
				   60 * RL_SECOND_NS, RL_DAY_NS,    RL_WINDOW_MAX_NS};
static const uint32_t limits[] = {1, 2, 7, 23, 100, 1000, 999983, 1000000000, MOST_L};

#define EACH(i, list) (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)

static struct rl_count_terms terms_of(uint32_t limit, uint64_t window_ns)
{
	return (struct rl_count_terms){.limit = limit,
				       .scale = limit,
				       .window_ns = window_ns,
				       .base_ns = START,
				       .wall_ns = WALL};
}

/* One key. */
struct key {
	const struct rl_algorithm *row;
	struct rl_count_terms terms;
	uint64_t word;
	struct rl_count_answer answer;
};

static struct key key_of(const struct rl_algorithm *row, uint32_t limit, uint64_t window_ns)
{
	struct key k = {.row = row, .terms = terms_of(limit, window_ns)};

	k.word = row->start(&k.terms, 0, START);
	return k;
}

static bool spend(struct key *k, uint32_t cost, uint64_t now_ns)
{
	int got = k->row->step(k->word, &k->terms, cost, now_ns, &k->answer);

	assert_true(got == RL_TRY_ALLOWED || got == RL_TRY_LIMITED);
	assert_true(k->answer.next <= RL_COUNT_MAX);
	assert_int_equal(k->answer.wait_ns > 0, got == RL_TRY_LIMITED);
	k->word = k->answer.next;
	return got == RL_TRY_ALLOWED;
}

static uint64_t spend_all(struct key *k, uint64_t most, uint64_t now_ns)
{
	uint64_t spent = 0;

	while (spent < most && spend(k, 1, now_ns))
		spent++;
	return spent;
}

static uint32_t held(const struct key *k, uint64_t now_ns)
{
	return k->row->held(k->word, &k->terms, now_ns);
}

/*
 * What a bucket that drains all the time holds, exactly: in units of a unit's time, times the
 * limit. Readings that are SLACK apart may be taken for one.
 */
struct exact {
	wide level;
	uint64_t at_ns;
};

static void drain(struct exact *exact, const struct rl_count_terms *terms, uint64_t now_ns)
{
	wide out = (wide)(now_ns - exact->at_ns) * terms->limit;

	exact->level = exact->level > out ? exact->level - out : 0;
	exact->at_ns = now_ns;
}

/* The most that a level may be above what is allowed: a part's worth. */
static wide slack(const struct rl_count_terms *terms)
{
	uint64_t a_unit_ns = terms->window_ns / terms->limit;

	return terms->window_ns / (1 << 21) +
	       (wide)terms->limit * (a_unit_ns < 32 ? a_unit_ns + 1 : 32);
}

static uint64_t random_step(uint64_t *seed, const struct rl_count_terms *terms, uint32_t size)
{
	uint64_t a_unit_ns = terms->window_ns / terms->limit + 1;

	switch (t_below(seed, 8)) {
	case 0:
		return 0;
	case 1:
		return t_below(seed, 4);
	case 2:
		return t_below(seed, 1 + a_unit_ns * (size < 100 ? size : 100));
	default:
		return t_below(seed, 1 + 2 * a_unit_ns);
	}
}

/* Random traffic is never admitted above burst + rate, and a bucket is never refused below it. */
static void check_bucket(const struct rl_algorithm *row, uint32_t limit, uint64_t window_ns,
			 uint32_t burst, uint32_t size, uint64_t *seed)
{
	struct key k = key_of(row, limit, window_ns);
	struct exact exact = {.at_ns = START};
	uint64_t now_ns = START;

	k.terms.burst = burst;
	for (int i = 0; i < 3000 && now_ns - START < 4 * RL_WINDOW_MAX_NS; i++) {
		if (k.word > RL_COUNT_MAX / 2) /* the agent would re-base it */
			return;
		uint32_t cost = t_below(seed, 4) != 0 ? 1 : 1 + (uint32_t)t_below(seed, size);
		wide room = (wide)size * window_ns, need = (wide)cost * window_ns;
		bool got;

		now_ns += random_step(seed, &k.terms, size);
		drain(&exact, &k.terms, now_ns);
		got = spend(&k, cost, now_ns);
		if (got && exact.level + need > room + slack(&k.terms))
			fail_msg("%s %u/%llu burst %u: %u admitted above it", row->name, limit,
				 (unsigned long long)window_ns, burst, cost);
		if (!got && exact.level + need + slack(&k.terms) < room)
			fail_msg("%s %u/%llu burst %u: %u refused below it", row->name, limit,
				 (unsigned long long)window_ns, burst, cost);
		if (got)
			exact.level += need;
		if (!got && k.answer.wait_ns < RL_WINDOW_MAX_NS &&
		    t_below(seed, 4) == 0) { /* what it says to wait is enough */
			now_ns += k.answer.wait_ns;
			drain(&exact, &k.terms, now_ns);
			assert_true(spend(&k, cost, now_ns));
			exact.level += need;
		}
	}
}

static void test_algorithm__token_bucket_keeps_to_burst_and_rate_at_all_terms(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for
		EACH(w, windows)
		for
			EACH(l, limits)
			{
				check_bucket(&rl_token_bucket, limits[l], windows[w], 0, limits[l],
					     &seed);
				check_bucket(&rl_token_bucket, limits[l], windows[w], 1, 1, &seed);
				check_bucket(&rl_token_bucket, limits[l], windows[w], 20, 20,
					     &seed);
				check_bucket(&rl_token_bucket, limits[l], windows[w], MOST_L,
					     MOST_L, &seed);
			}
}

static void test_algorithm__idle_token_bucket_has_its_burst_at_once_and_then_the_rate(void **state)
{
	(void)state;
	for
		EACH(w, windows)
		{
			struct key k = key_of(&rl_token_bucket, 7, windows[w]);
			uint64_t now_ns = START + 5 * windows[w], a_unit_ns = windows[w] / 7;

			k.terms.burst = 10;
			assert_int_equal(spend_all(&k, 100, now_ns), 10);
			assert_int_equal(k.answer.remaining, 0);
			assert_in_range(k.answer.wait_ns, a_unit_ns - windows[w] / 1000,
					a_unit_ns + 1);
			now_ns += k.answer.wait_ns;
			assert_false(spend(&k, 1, now_ns - windows[w] / 1000));
			assert_int_equal(spend_all(&k, 100, now_ns), 1);
			assert_int_equal(
				spend_all(&k, 100, now_ns + windows[w] + windows[w] / 1000), 7);
		}
}

static void test_algorithm__token_bucket_idle_for_years_is_full_and_no_more(void **state)
{
	struct key k = key_of(&rl_token_bucket, 100, RL_SECOND_NS);
	uint64_t now_ns = START + 7 * 365 * RL_DAY_NS;

	(void)state;
	assert_int_equal(spend_all(&k, 1000, START), 100);
	assert_int_equal(held(&k, now_ns), 0);
	assert_int_equal(spend_all(&k, 1000, now_ns), 100);
	assert_int_equal(held(&k, now_ns), 100);
}

static void test_algorithm__word_that_ran_out_of_bits_is_no_answer(void **state)
{
	struct key k = key_of(&rl_token_bucket, MOST_L, RL_WINDOW_MIN_NS);

	(void)state; /* the fastest there is: the agent re-bases it when half the bits are used */
	assert_int_equal(k.row->step(k.word, &k.terms, 1, START + 40000 * RL_SECOND_NS, &k.answer),
			 RL_TRY_ALLOWED);
	assert_int_equal(k.row->step(k.word, &k.terms, 1, START + RL_WINDOW_MAX_NS, &k.answer),
			 RL_TRY_AGAIN);
}

static void test_algorithm__lowered_or_raised_burst_is_in_force_at_the_next_check(void **state)
{
	struct key k = key_of(&rl_token_bucket, 100, RL_SECOND_NS);

	(void)state;
	assert_int_equal(spend_all(&k, 60, START), 60);
	k.terms.limit = 50; /* the slot's scale stays until the agent comes by */
	assert_int_equal(spend_all(&k, 100, START), 0);
	k.terms.limit = 150;
	assert_int_equal(spend_all(&k, 1000, START), 90);
}

/* What nginx answers to 10 r/s, burst=5 delay=2. */
static void test_algorithm__leaky_bucket_queues_as_nginx_does(void **state)
{
	static const uint64_t delay_ms[] = {0, 0, 0, 100, 200, 300};
	struct key k = key_of(&rl_leaky_bucket, 10, RL_SECOND_NS);

	(void)state;
	k.terms.burst = 5;
	k.terms.delay = 2;
	for
		EACH(i, delay_ms)
		{
			assert_true(spend(&k, 1, START));
			assert_in_range(k.answer.delay_ns, delay_ms[i] * MS,
					delay_ms[i] * MS + MS / 1000);
			assert_int_equal(k.answer.remaining, 5 - i);
		}
	assert_false(spend(&k, 1, START));
	assert_in_range(k.answer.wait_ns, 100 * MS, 100 * MS + MS / 1000);
	assert_false(spend(&k, 1, START + 99 * MS));
	assert_true(spend(&k, 1, START + 101 * MS));
	assert_in_range(k.answer.delay_ns, 299 * MS, 299 * MS + MS / 1000);
	assert_true(spend(&k, 3, START + 600 * MS)); /* its three units behind one another */
	assert_in_range(k.answer.delay_ns, 100 * MS, 100 * MS + MS / 1000);
}

static void test_algorithm__leaky_bucket_without_burst_lets_through_one_at_a_time(void **state)
{
	(void)state;
	for
		EACH(w, windows)
		for
			EACH(l, limits)
			{
				struct key k = key_of(&rl_leaky_bucket, limits[l], windows[w]);
				uint64_t a_unit_ns = windows[w] / limits[l];

				assert_true(spend(&k, 1, START));
				assert_int_equal(k.answer.delay_ns, 0);
				if (a_unit_ns < 100)
					continue;
				assert_false(spend(&k, 1, START + a_unit_ns - a_unit_ns / 3));
				assert_true(spend(&k, 1, START + a_unit_ns + 1));
				assert_int_equal(k.answer.delay_ns, 0);
			}
}

static void test_algorithm__leaky_bucket_that_delays_none_of_its_burst_is_nodelay(void **state)
{
	struct key k = key_of(&rl_leaky_bucket, 10, RL_SECOND_NS);

	(void)state;
	k.terms.burst = k.terms.delay = 20;
	for (int i = 0; i < 21; i++) {
		assert_true(spend(&k, 1, START));
		assert_int_equal(k.answer.delay_ns, 0);
	}
	assert_false(spend(&k, 1, START));
}

static void test_algorithm__leaky_bucket_keeps_to_burst_and_rate_at_all_terms(void **state)
{
	static const uint32_t bursts[] = {0, 1, 20, MOST_L};
	uint64_t seed = t_seed();

	(void)state;
	for
		EACH(w, windows)
		for
			EACH(l, limits)
			for
				EACH(b, bursts)
			check_bucket(&rl_leaky_bucket, limits[l], windows[w], bursts[b],
				     bursts[b] < MOST_L ? bursts[b] + 1 : MOST_L, &seed);
}

static void test_algorithm__fixed_window_begins_with_the_wall_clock(void **state)
{
	struct key k = key_of(&rl_fixed, 5, 10 * RL_SECOND_NS);

	(void)state; /* the wall clock stands at ..00 s */
	assert_int_equal(spend_all(&k, 9, START + 9 * RL_SECOND_NS), 5);
	assert_int_equal(k.answer.wait_ns, RL_SECOND_NS);
	assert_false(spend(&k, 1, START + 10 * RL_SECOND_NS - 1));
	assert_int_equal(k.answer.wait_ns, 1);
	assert_int_equal(spend_all(&k, 9, START + 10 * RL_SECOND_NS), 5);
	assert_int_equal(k.answer.wait_ns, 10 * RL_SECOND_NS);
	assert_int_equal(held(&k, START + 20 * RL_SECOND_NS - 1), 5);
	assert_int_equal(held(&k, START + 20 * RL_SECOND_NS), 0);
}

static void test_algorithm__fixed_window_counts_cost_exactly(void **state)
{
	(void)state;
	for
		EACH(w, windows)
		for
			EACH(l, limits)
			{
				struct key k = key_of(&rl_fixed, limits[l], windows[w]);
				uint64_t now_ns = START + 3 * windows[w];

				assert_true(spend(&k, limits[l], now_ns));
				assert_int_equal(k.answer.remaining, 0);
				assert_false(spend(&k, 1, now_ns));
				now_ns += windows[w];
				if (limits[l] > 1)
					assert_true(spend(&k, limits[l] - 1, now_ns));
				assert_int_equal(limits[l] > 1 ? k.answer.remaining : 1, 1);
				assert_false(spend(&k, 2, now_ns) && limits[l] > 1);
				assert_true(spend(&k, 1, now_ns));
			}
}

static void test_algorithm__fixed_window_forgets_nothing_when_the_clock_is_set(void **state)
{
	struct key k = key_of(&rl_fixed, 5, 10 * RL_SECOND_NS);
	uint64_t now_ns = START + 10 * RL_SECOND_NS;

	(void)state;
	assert_int_equal(spend_all(&k, 9, now_ns), 5);
	k.terms.wall_ns -= RL_SECOND_NS; /* back, over the beginning of the window */
	assert_false(spend(&k, 1, now_ns));
	assert_int_equal(k.answer.wait_ns, 11 * RL_SECOND_NS);
	assert_int_equal(held(&k, now_ns), 5);
	k.terms.wall_ns -= 3600 * RL_SECOND_NS; /* far back: no longer than that either */
	assert_false(spend(&k, 1, now_ns));
	assert_true(k.answer.wait_ns <= 10 * RL_SECOND_NS);
	k.terms.limit = 6;
	assert_int_equal(spend_all(&k, 9, now_ns), 1); /* it goes along */
	assert_int_equal(spend_all(&k, 9, now_ns + 10 * RL_SECOND_NS), 6);
}

static void test_algorithm__fixed_key_idle_for_years_has_its_limit(void **state)
{
	(void)state;
	for
		EACH(w, windows)
		{
			struct key k = key_of(&rl_fixed, 5, windows[w]);
			uint64_t later_ns = START + 10 * 365 * RL_DAY_NS + windows[w];

			assert_int_equal(spend_all(&k, 9, START), 5);
			spend_all(&k, 9, later_ns); /* may look like a clock that was set back */
			assert_int_equal(spend_all(&k, 9, later_ns + windows[w]), 5);
		}
}

static void test_algorithm__word_begins_with_the_units_it_is_told_to_hold(void **state)
{
	static const uint32_t units[] = {0, 1, 5, 99, 100};

	(void)state;
	for (uint32_t a = 1; a < rl_algorithm_count(); a++)
		for
			EACH(w, windows)
			for
				EACH(u, units)
				{
					struct key k = key_of(rl_algorithm(a), 100, windows[w]);

					k.terms.burst = 100;
					k.word = k.row->start(&k.terms, units[u], START);
					assert_int_equal(held(&k, START), units[u]);
					assert_int_equal(held(&k, START + windows[w]), 0);
					if (units[u] < 100)
						assert_true(spend(&k, 1, START));
				}
}

static void test_algorithm__most_is_what_passes_at_once_and_not_one_more(void **state)
{
	(void)state;
	for (uint32_t a = 1; a < rl_algorithm_count(); a++)
		for (uint32_t burst = 0; burst < 3; burst++) {
			struct key k = key_of(rl_algorithm(a), 100, RL_SECOND_NS);
			uint32_t most;

			k.terms.burst = rl_algorithm_options(a) & RL_OPTION_BURST ? burst * 70 : 0;
			most = rl_algorithm_most(a, 100, k.terms.burst);
			assert_false(spend(&k, most + 1, START));
			assert_true(spend(&k, most, START));
			assert_false(spend(&k, 1, START));
		}
}

static void test_algorithm__refund_gives_back_what_is_still_held_and_no_more(void **state)
{
	(void)state;
	for (uint32_t a = 1; a < rl_algorithm_count(); a++) {
		struct key k = key_of(rl_algorithm(a), 10, RL_SECOND_NS);
		uint64_t then[4], next;

		k.terms.burst = 10;
		for (int i = 0; i < 4; i++) {
			assert_true(spend(&k, 2, START));
			then[i] = k.word;
		}
		for (int i = 3; i > 0; i--) { /* the last one first */
			next = k.row->refund(k.word, then[i], &k.terms, 2, START);
			assert_true(next != k.word);
			k.word = next;
			assert_int_equal(held(&k, START), 2 * i);
		}
		/* A window later it holds nothing, and gives nothing back. */
		next = START + RL_SECOND_NS;
		assert_true(spend(&k, 2, next));
		assert_int_equal(k.row->refund(k.word, then[0], &k.terms, 2, next), k.word);
		assert_int_equal(held(&k, next), 2);
	}
}

/* What is left after refunds keeps to burst and rate. */
static void test_algorithm__refunded_buckets_keep_to_burst_and_rate(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int round = 0; round < 500; round++) {
		uint32_t limit = 1 + (uint32_t)t_below(&seed, 50);
		struct key k = key_of(&rl_token_bucket, limit, RL_SECOND_NS);
		static struct {
			uint64_t at, then, left; /* left: of the unit, in parts */
			bool gone;
		} log[600];
		uint64_t a_unit = UINT64_C(1) << rl_bucket_shift(&k.terms);
		uint64_t now_ns = START;
		size_t count = 0;

		for (int i = 0; i < 600; i++) {
			struct exact exact = {.at_ns = START};

			now_ns += t_below(&seed, 2 * RL_SECOND_NS / limit);
			if (count > 0 && t_below(&seed, 3) == 0) {
				size_t which =
					count - 1 - (size_t)t_below(&seed, count < 9 ? count : 9);
				uint64_t next =
					k.row->refund(k.word, log[which].then, &k.terms, 1, now_ns);

				if (log[which].gone || next == k.word)
					continue;
				k.word = next;
				/* What has drained is not given back. */
				log[which].left -= log[which].then - next;
				log[which].gone = true;
				continue;
			}
			if (!spend(&k, 1, now_ns))
				continue;
			log[count].at = now_ns;
			log[count].gone = false;
			log[count].left = a_unit;
			log[count++].then = k.word;
			for (size_t e = 0; e < count; e++) {
				drain(&exact, &k.terms, log[e].at);
				exact.level += (wide)RL_SECOND_NS * log[e].left / a_unit;
			}
			assert_true(exact.level <= (wide)limit * RL_SECOND_NS + slack(&k.terms));
		}
	}
}

static void test_algorithm__no_word_and_no_terms_crash_or_wait_for_ever(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct key k = {.row = rl_algorithm(
					1 + (uint32_t)t_below(&seed, rl_algorithm_count() - 1))};

		k.terms.limit = 1 + (uint32_t)t_below(&seed, MOST_L);
		k.terms.scale = 1 + (uint32_t)(t_below(&seed, 2) ? t_below(&seed, MOST_L)
								 : t_below(&seed, 9));
		k.terms.burst = (uint32_t)t_below(&seed, MOST_L);
		k.terms.delay = (uint32_t)t_below(&seed, MOST_L);
		k.terms.window_ns =
			RL_WINDOW_MIN_NS + t_random(&seed) % (RL_WINDOW_MAX_NS - RL_WINDOW_MIN_NS);
		k.terms.base_ns = t_random(&seed);
		k.terms.wall_ns = t_random(&seed);
		k.word = t_random(&seed) & RL_COUNT_MAX;
		if (k.row->step(k.word, &k.terms, 1, t_random(&seed) >> 1, &k.answer) !=
		    RL_TRY_AGAIN)
			assert_true(k.answer.next <= RL_COUNT_MAX);
		k.row->held(k.word, &k.terms, t_random(&seed) >> 1);
	}
}

static void test_algorithm__numbers_that_are_none_have_no_row(void **state)
{
	(void)state;
	assert_null(rl_algorithm(RL_SLIDING));
	assert_null(rl_algorithm(rl_algorithm_count()));
	assert_null(rl_algorithm(RL_ALGORITHMS_MAX - 1));
	assert_string_equal(rl_algorithm_name(RL_SLIDING), "sliding");
	assert_string_equal(rl_algorithm_name(RL_ALGORITHMS_MAX), "?");
	assert_int_equal(rl_algorithm_options(RL_ALGORITHMS_MAX), 0);
	assert_int_equal(rl_algorithm_most(RL_SLIDING, 7, 0), 7);
	assert_int_equal(rl_algorithm_bound(RL_SLIDING, 1000, 0, false), 1000);
	assert_int_equal(rl_algorithm_bound(RL_SLIDING, 1000, 0, true), 1045);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_algorithm__token_bucket_keeps_to_burst_and_rate_at_all_terms),
		cmocka_unit_test(
			test_algorithm__idle_token_bucket_has_its_burst_at_once_and_then_the_rate),
		cmocka_unit_test(test_algorithm__token_bucket_idle_for_years_is_full_and_no_more),
		cmocka_unit_test(test_algorithm__word_that_ran_out_of_bits_is_no_answer),
		cmocka_unit_test(
			test_algorithm__lowered_or_raised_burst_is_in_force_at_the_next_check),
		cmocka_unit_test(test_algorithm__leaky_bucket_queues_as_nginx_does),
		cmocka_unit_test(
			test_algorithm__leaky_bucket_without_burst_lets_through_one_at_a_time),
		cmocka_unit_test(
			test_algorithm__leaky_bucket_that_delays_none_of_its_burst_is_nodelay),
		cmocka_unit_test(test_algorithm__leaky_bucket_keeps_to_burst_and_rate_at_all_terms),
		cmocka_unit_test(test_algorithm__fixed_window_begins_with_the_wall_clock),
		cmocka_unit_test(test_algorithm__fixed_window_counts_cost_exactly),
		cmocka_unit_test(
			test_algorithm__fixed_window_forgets_nothing_when_the_clock_is_set),
		cmocka_unit_test(test_algorithm__fixed_key_idle_for_years_has_its_limit),
		cmocka_unit_test(test_algorithm__word_begins_with_the_units_it_is_told_to_hold),
		cmocka_unit_test(test_algorithm__most_is_what_passes_at_once_and_not_one_more),
		cmocka_unit_test(test_algorithm__refund_gives_back_what_is_still_held_and_no_more),
		cmocka_unit_test(test_algorithm__refunded_buckets_keep_to_burst_and_rate),
		cmocka_unit_test(test_algorithm__no_word_and_no_terms_crash_or_wait_for_ever),
		cmocka_unit_test(test_algorithm__numbers_that_are_none_have_no_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
