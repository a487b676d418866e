/*
 * Goal:   a slot that counts in one word forgets no unit and takes none that is not its own,
 *         whoever is stopped or killed, also when its rule gets another limit, window or
 *         algorithm.
 * Method: checks and the agent's steps in the order a stop would make; and the agent's re-base
 *         killed after each instruction (PTRACE_SINGLESTEP), then taken over.
 */
#include "tests/t.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sweep.h"
#include "bench/fleet/load.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_count.h"
#include "shm/rl_gcra.h"
#include "shm/rl_rebase_image.h"
#include "shm/rl_table.h"

#define STRIDE 61 /* instructions between two kills, from a random first one; $STRIDE */

static struct t_seg t;
static struct sweep sweep;
static uint64_t rule;

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 4000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_seg_drop(&t);
	return 0;
}

static void publish(uint8_t algorithm, uint32_t limit, uint64_t window_ns)
{
	struct rl_rule_spec spec = {
		.name = "r", .terms = {limit, window_ns}, .algorithm = algorithm};
	size_t other;

	/* limit units at once, whatever the algorithm. */
	if (rl_algorithm_most(algorithm, limit, limit) != limit)
		spec.burst = limit - 1;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	assert_int_equal(rl_algorithm_most(algorithm, limit, spec.burst), limit);
	rule = t_rule(&t.seg.view, "r");
	sweep_init(&sweep, &t.seg);
}

static int spend(const char *key, uint32_t cost)
{
	struct rl_answer answer;

	return rl_check_spend(&t.seg, &t.seg.member[0], rule, key, strlen(key), cost, 0, &answer);
}

static uint32_t used(const char *key)
{
	struct rl_answer answer;
	uint32_t units = UINT32_MAX;
	int got = rl_check_look(&t.seg.view, rule, key, strlen(key), 1, &answer, &units);

	assert_true(got == 0 || got == 1);
	return units;
}

static uint64_t slot_of(const char *key, uint64_t *ret_head)
{
	struct rl_id id = rl_hash_key(t.seg.view.hash_key, rl_pair_high(rule), key, strlen(key));
	uint64_t index = rl_table_find(&t.seg.view, &id, ret_head);

	assert_true(index != RL_NO_SLOT);
	return index;
}

static void pass_over_all(void)
{
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_clock_precise_ns());
}

static void test_count__worker_stopped_on_an_old_key_spends_nothing_of_the_new_one(void **state)
{
	struct rl_count_answer answer;
	struct rl_count count;
	uint64_t head, index, now_ns;
	struct rl_slot *slot;

	(void)state;
	for (uint32_t a = 1; a < rl_algorithm_count(); a++) {
		publish((uint8_t)a, 5, RL_WINDOW_MIN_NS);
		assert_int_equal(spend("old", 1), 1);
		index = slot_of("old", &head);
		slot = &t.seg.slot[index];
		assert_true(rl_count_of(&t.seg.view, slot, NULL, &count));
		/* The agent frees it, and the slot goes to another key: the same words again. */
		sweep_slot(&sweep, index, rl_clock_precise_ns() + RL_SECOND_NS);
		assert_true(rl_head_is(slot->head, RL_KIND_FREE));
		assert_int_equal(rl_count_try(slot, head, &count, 1, &answer, &now_ns),
				 RL_TRY_AGAIN);
		assert_int_equal(spend("old", 1), 1);
		assert_int_equal(slot_of("old", &head), index);
		slot->state = rl_count_state(rl_head_n(head) - 1, slot->state & RL_COUNT_MAX);
		assert_int_equal(rl_count_try(slot, head, &count, 1, &answer, &now_ns),
				 RL_TRY_AGAIN);
		assert_int_equal(rl_count_held(slot, head, &count, rl_clock_precise_ns()),
				 RL_COUNT_NONE);
		assert_true(rl_table_wipe(&t.seg, index, slot->head));
	}
}

static void test_count__key_that_spends_while_it_is_seen_idle_is_not_freed(void **state)
{
	struct rl_count count;
	uint64_t head, index, later_ns, taken;
	struct rl_slot *slot;

	(void)state;
	for (uint32_t a = 1; a < rl_algorithm_count(); a++) {
		publish((uint8_t)a, 5, 3600 * RL_SECOND_NS);
		assert_int_equal(spend("k", 1), 1);
		index = slot_of("k", &head);
		slot = &t.seg.slot[index];
		later_ns = rl_clock_precise_ns() + 2 * 3600 * RL_SECOND_NS;
		assert_true(rl_count_of(&t.seg.view, slot, NULL, &count));
		assert_false(rl_count_take_idle(slot, head, &count, rl_clock_precise_ns(), &taken));
		assert_true(slot->state != 0);
		/* Seen idle, then taken: who spends in between makes the taking fail; after it none
		 * can spend until the slot is free. */
		assert_true(rl_count_take_idle(slot, head, &count, later_ns, &taken));
		assert_int_equal(slot->state, 0);
		assert_int_equal(spend("k", 1), RL_E_BUSY);
		/* As if the agent was killed there. */
		sweep_slot(&sweep, index, rl_clock_precise_ns());
		assert_true(rl_head_is(slot->head, RL_KIND_FREE));
		assert_int_equal(spend("k", 1), 1);
		assert_int_equal(used("k"), 1);
		index = slot_of("k", &head);
		assert_true(rl_table_wipe(&t.seg, index, head));
	}
}

static void test_count__units_held_go_from_any_algorithm_to_any_other(void **state)
{
	uint64_t head, index;
	char key[32];

	(void)state;
	for (uint32_t from = 0; from < rl_algorithm_count(); from++)
		for (uint32_t to = 0; to < rl_algorithm_count(); to++) {
			snprintf(key, sizeof(key), "%u-%u", from, to);
			publish((uint8_t)from, 23, RL_DAY_NS);
			assert_int_equal(spend(key, 7), 1);
			publish((uint8_t)to, 20, RL_DAY_NS / 2);
			/* At the next check, before the agent has come by. */
			assert_true(spend(key, 14) != 1);
			pass_over_all();
			assert_int_equal(used(key), 7);
			assert_int_equal(spend(key, 14), 0);
			assert_int_equal(spend(key, 13), 1);
			assert_int_equal(spend(key, 1), 0);
			/* And back, with nothing else changed. */
			publish((uint8_t)from, 20, RL_DAY_NS / 2);
			pass_over_all();
			index = slot_of(key, &head);
			assert_int_equal(rl_shape_algorithm(t.seg.slot[index].shape), from);
			assert_int_equal(used(key), 20);
		}
}

static void test_count__removed_rule_keeps_its_slots_until_they_hold_nothing(void **state)
{
	struct rl_rule_spec other = {.name = "other", .terms = {1, RL_SECOND_NS}};
	uint64_t head, index;
	size_t repeated;

	(void)state;
	publish(1, 5, RL_DAY_NS);
	assert_int_equal(spend("k", 2), 1);
	index = slot_of("k", &head);
	assert_int_equal(rl_rules_publish(&t.seg, &other, 1, &repeated), 0);
	sweep_init(&sweep, &t.seg);
	pass_over_all();
	assert_true(rl_head_is_open(t.seg.slot[index].head));
	assert_int_equal(spend("k", 1), RL_E_RULE);
	publish(1, 5, RL_DAY_NS);
	assert_int_equal(used("k"), 2);
	sweep_slot(&sweep, index, rl_clock_precise_ns() + 3 * RL_DAY_NS);
	assert_true(rl_head_is(t.seg.slot[index].head, RL_KIND_FREE));
}

static void test_count__word_near_its_end_starts_anew_and_holds_the_same(void **state)
{
	struct rl_count count;
	uint64_t head, index;
	struct rl_slot *slot;

	(void)state;
	publish(2, 1000000000, RL_SECOND_NS); /* a part is 1 ns */
	assert_int_equal(spend("k", 1), 1);
	index = slot_of("k", &head);
	slot = &t.seg.slot[index];
	/* As after four months: in the upper half of its bits, most of its limit held. */
	slot->hint = rl_count_hint(1000000000, rl_clock_precise_ns() - 120 * RL_DAY_NS, 0);
	assert_true(rl_count_of(&t.seg.view, slot, NULL, &count));
	slot->state =
		rl_count_state(rl_head_n(head), count.algorithm->start(&count.terms, 900000000,
								       rl_clock_precise_ns()));
	assert_true((slot->state & RL_COUNT_MAX) > RL_COUNT_MAX / 2);
	pass_over_all();
	assert_true((slot->state & RL_COUNT_MAX) < RL_COUNT_MAX / 2);
	assert_in_range(used("k"), 1, 900000000);
	assert_int_equal(spend("k", 1000000000), 0);
}

static void test_count__damaged_words_answer_busy_and_are_emptied(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 300; i++) {
		uint64_t head, index;
		struct rl_slot *slot;
		_Atomic uint64_t *word[4];

		publish((uint8_t)(1 + t_below(&seed, rl_algorithm_count() - 1)), 5, RL_DAY_NS);
		assert_int_equal(spend("k", 1), 1);
		index = slot_of("k", &head);
		slot = &t.seg.slot[index];
		word[0] = &slot->state;
		word[1] = &slot->hint;
		word[2] = &slot->window_ns;
		word[3] = &slot->shape;
		*word[t_below(&seed, 4)] = t_random(&seed) >> t_below(&seed, 64);
		spend("k", 1);
		pass_over_all();
		pass_over_all();
		head = slot->head;
		if (!rl_head_is(head, RL_KIND_FREE))
			rl_table_wipe(&t.seg, index, head);
	}
}

/* A worker that was stopped in on_unreachable: share wakes when its slot counts in a word. */
static void test_count__late_rate_of_a_shared_rule_changes_no_word(void **state)
{
	uint64_t head, index, before, taken = 0;
	struct rl_slot *slot;

	(void)state;
	publish(2, 100, RL_DAY_NS);
	assert_int_equal(spend("k", 97), 1);
	index = slot_of("k", &head);
	slot = &t.seg.slot[index];
	before = slot->state;
	assert_true(rl_gcra_take(&slot->state, 1000, 5000, rl_clock_precise_ns(), &taken) > 0);
	rl_gcra_return(&slot->state, rl_clock_precise_ns(), 1000);
	for (uint64_t life = 0; life <= RL_LIFE_MASK; life++) {
		_Atomic uint64_t word = rl_count_state(life, 1000);

		assert_true(rl_gcra_take(&word, 1000, 5000, rl_clock_precise_ns(), &taken) > 0);
		assert_int_equal(word, rl_count_state(life, 1000));
	}
	assert_int_equal(slot->state, before);
	assert_int_equal(used("k"), 97);
}

/* No head of a life that refunds have lowered comes back in the next one. */
static void test_count__head_of_before_a_refund_never_comes_back(void **state)
{
	static const uint32_t limits[] = {5, 230, 100000};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		for (int freed = 0; freed < 2; freed++) {
			struct rl_ticket ticket[3];
			uint64_t head, index, highest;

			publish(RL_SLIDING, limits[i], RL_DAY_NS);
			for (int e = 0; e < 3; e++) {
				struct rl_answer answer;

				assert_int_equal(rl_check_spend(&t.seg, &t.seg.member[0], rule, "k",
								1, 1, 0, &answer),
						 1);
				ticket[e] = answer.ticket;
			}
			index = slot_of("k", &highest);
			for (int e = 3; e-- > 0;)
				rl_check_refund(&t.seg, &t.seg.member[0], rule, &ticket[e]);
			if (freed == 1) {
				assert_true(rl_table_wipe(&t.seg, index, t.seg.slot[index].head));
				publish(2, 7, RL_DAY_NS);
				assert_int_equal(spend("k", 1), 1);
			} else {
				publish(2, 7, RL_DAY_NS);
				pass_over_all();
			}
			index = slot_of("k", &head);
			assert_true(rl_head_n(head) > rl_head_n(highest));
			assert_true(rl_table_wipe(&t.seg, index, head));
		}
}

static void test_count__smaller_rule_neither_locks_out_nor_forgets(void **state)
{
	struct rl_answer answer;

	(void)state;
	/* A million held, then ten a minute: as long as a full bucket takes, not months. */
	publish(RL_SLIDING, 1000000, 10 * RL_SECOND_NS);
	assert_int_equal(spend("many", 1000000), 1);
	publish(2, 10, 60 * RL_SECOND_NS);
	pass_over_all();
	assert_int_equal(rl_check_spend(&t.seg, &t.seg.member[0], rule, "many", 4, 1, 0, &answer),
			 0);
	assert_true(answer.wait_ns <= 7 * RL_SECOND_NS);
	/* A thousand held, then ten a day, then a thousand again: what was held is. */
	publish(1, 1000, RL_DAY_NS);
	assert_int_equal(spend("back", 1000), 1);
	publish(RL_SLIDING, 10, RL_DAY_NS);
	pass_over_all();
	pass_over_all();
	publish(RL_SLIDING, 1000, RL_DAY_NS);
	pass_over_all();
	assert_int_equal(spend("back", 1), 0);
}

static void test_count__shared_rule_spends_nothing_of_an_old_word(void **state)
{
	struct rl_rule_spec spec = {.name = "r",
				    .terms = {10, RL_DAY_NS},
				    .fleet = {.consistency = RL_STRICT,
					      .no_credit = RL_NO_CREDIT_DENY,
					      .on_unreachable = RL_CLOSED}};
	struct rl_answer answer;
	size_t other;

	(void)state;
	publish(2, 10, RL_DAY_NS);
	assert_int_equal(spend("k", 1), 1);
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	for (int alone = 0; alone < 2; alone++) {
		assert_int_equal(
			rl_check_spend(&t.seg, &t.seg.member[0], rule, "k", 1, 1, 0, &answer), 0);
		assert_true(answer.wait_ns > 0);
		t.seg.live->beat_ns -= 10 * RL_SECOND_NS;
	}
}

enum { HAMMERS = 4 };
static atomic_bool over;
static _Atomic uint64_t per_window[HAMMERS][2000];
static uint64_t first_window;

static void *hammer(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;

	while (!atomic_load(&over)) {
		struct rl_answer answer;
		uint64_t window;

		if (rl_check_spend(&t.seg, &t.seg.member[0], rule, "k", 1, 1, 0, &answer) != 1)
			continue;
		window = (answer.now_ns + RL_CLOCK_BIAS_NS + t.seg.live->wall_ns) / 10000000 -
			 first_window;
		if (window < 2000)
			per_window[me][window]++;
	}
	return NULL;
}

/* More threads than processors: some are always late by windows of 10 ms. */
static void test_count__late_threads_do_not_begin_a_fixed_window_again(void **state)
{
	const struct timespec run = {.tv_sec = 1, .tv_nsec = 500000000};
	pthread_t thread[HAMMERS];
	uint64_t most = 0;

	(void)state;
	publish(1, 50, 10000000);
	first_window = (rl_clock_precise_ns() + t.seg.live->wall_ns) / 10000000;
	atomic_store(&over, false);
	for (uintptr_t i = 0; i < HAMMERS; i++)
		pthread_create(&thread[i], NULL, hammer, (void *)i);
	nanosleep(&run, NULL);
	atomic_store(&over, true);
	for (int i = 0; i < HAMMERS; i++)
		pthread_join(thread[i], NULL);
	for (int w = 0; w < 2000; w++) {
		uint64_t sum = 0;

		for (int i = 0; i < HAMMERS; i++)
			sum += per_window[i][w];
		most = sum > most ? sum : most;
	}
	printf("# %llu of 50 in a window at most\n", (unsigned long long)most);
	assert_int_equal(most, 50);
}

/* A hostile writer may change the entry after it was found to be good. */
static void test_count__journal_of_any_words_is_never_divided_by(void **state)
{
	struct rl_journal *journal = &t.seg.live->journal;
	uint64_t seed = t_seed(), head, index, word;
	struct rl_slot *slot;

	(void)state;
	publish(2, 100, RL_DAY_NS);
	assert_int_equal(spend("k", 40), 1);
	index = slot_of("k", &head);
	slot = &t.seg.slot[index];
	word = slot->state;
	for (int i = 0; i < 20000; i++) {
		uint32_t algorithm = (uint32_t)t_below(&seed, 5); /* one of them is none */

		slot->state = word;
		journal->taken = 0;
		journal->closed_head = rl_head_closed(rl_head_n(head), RL_KIND_REBASE);
		journal->shape = t_below(&seed, 4) == 0
					 ? t_random(&seed)
					 : rl_shape(1, algorithm, (uint32_t)t_below(&seed, 3));
		journal->window_ns =
			t_below(&seed, 2) ? RL_DAY_NS : t_random(&seed) >> t_below(&seed, 64);
		journal->hint = t_below(&seed, 2) ? rl_count_hint(7, 0, 3) : t_below(&seed, 9);
		if (rl_rebase_count_take(&t.seg, index))
			assert_true(journal->valid == RL_JOURNAL_WHOLE);
	}
}

/* One re-base to be killed. */
struct rebase {
	uint64_t index, head;
	struct rl_rule rule;
};

static void do_rebase(const struct rebase *r)
{
	rl_rebase_slot(&t.seg, r->index, r->head, &r->rule, r->rule.q);
}

/* Run it in a child that is killed after so many instructions. True: it came to its end. */
static bool killed_after(uint32_t steps, const struct rebase *r)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		do_rebase(r);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	for (uint32_t i = 0; i < steps && !WIFEXITED(status); i++) {
		if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0)
			break;
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	if (WIFEXITED(status))
		return true;
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	return false;
}

/* Kill the re-base of a key with 7 of 20 units after each STRIDE instructions. */
static uint32_t kill_each_step(uint32_t from, uint32_t to, uint64_t *seed)
{
	const char *wanted = getenv("STRIDE");
	uint32_t stride = wanted != NULL ? (uint32_t)atoi(wanted) : STRIDE;
	uint32_t steps = (uint32_t)t_below(seed, stride), kills = 0;
	bool finished = false;

	for (; !finished; steps += stride, kills++) {
		struct rebase r = {0};
		char key[32];

		snprintf(key, sizeof(key), "%u-%u-%u", from, to, steps);
		publish((uint8_t)from, 20, RL_DAY_NS);
		assert_int_equal(spend(key, 7), 1);
		r.index = slot_of(key, &r.head);
		publish((uint8_t)to, 30, RL_DAY_NS / 2);
		assert_int_equal(rl_rules_read(&t.seg.view, rule, &r.rule), 0);
		finished = killed_after(steps, &r);
		rl_rebase_recover(&t.seg);
		assert_int_equal(t.seg.live->journal.valid, 0);
		sweep_slot(&sweep, r.index, rl_clock_precise_ns());
		assert_true(rl_head_is_open(t.seg.slot[r.index].head));
		assert_int_equal(used(key), 7);
		assert_int_equal(spend(key, 24), 0);
		assert_int_equal(spend(key, 23), 1);
		assert_true(rl_table_wipe(&t.seg, r.index, t.seg.slot[r.index].head));
	}
	return kills;
}

static void test_count__rebase_killed_after_any_instruction_forgets_nothing(void **state)
{
	uint32_t kills = 0;
	uint64_t seed = t_seed();

	(void)state;
	if (fleet_is_slow_build()) {
		printf("# not in this build: most instructions are the sanitizer's\n");
		return;
	}
	kills += kill_each_step(RL_SLIDING, 1, &seed);
	kills += kill_each_step(1, RL_SLIDING, &seed);
	kills += kill_each_step(2, 1, &seed);
	kills += kill_each_step(1, 2, &seed);
	printf("# %u kills\n", kills);
	assert_true(kills > 50);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_count__worker_stopped_on_an_old_key_spends_nothing_of_the_new_one),
		TEST(test_count__key_that_spends_while_it_is_seen_idle_is_not_freed),
		TEST(test_count__units_held_go_from_any_algorithm_to_any_other),
		TEST(test_count__removed_rule_keeps_its_slots_until_they_hold_nothing),
		TEST(test_count__word_near_its_end_starts_anew_and_holds_the_same),
		TEST(test_count__damaged_words_answer_busy_and_are_emptied),
		TEST(test_count__late_rate_of_a_shared_rule_changes_no_word),
		TEST(test_count__head_of_before_a_refund_never_comes_back),
		TEST(test_count__smaller_rule_neither_locks_out_nor_forgets),
		TEST(test_count__shared_rule_spends_nothing_of_an_old_word),
		TEST(test_count__late_threads_do_not_begin_a_fixed_window_again),
		TEST(test_count__journal_of_any_words_is_never_divided_by),
		TEST(test_count__rebase_killed_after_any_instruction_forgets_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
