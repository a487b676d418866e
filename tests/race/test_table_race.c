/*
 * Goal:   a key that four threads meet for the first time at once gets exactly one slot, also
 *         while other keys come and the agent frees and wipes around it.
 * Method: one mapping. In each round the threads meet at a barrier and claim the same fresh
 *         key; then one of them counts its open slots and frees it. A small table, a thread
 *         that claims other keys and one in the agent's part keep it churning.
 */
#include "tests/t.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "shm/rl_table.h"
#include "shm/rl_word.h"

enum { THREADS = 4, ROUNDS = 20000, RULE = 7, OTHER_RULE = 8, OTHERS_MAX = 84 };

static struct t_seg t;
static pthread_barrier_t barrier;
static atomic_bool stop;
static struct rl_id round_id; /* written before the barrier by thread 0 */
static atomic_int told;       /* claims of this round that said "it has a slot" */
static atomic_int others;     /* slots of the churner's keys: most of the table, never all */
static uint64_t rounds_with_two, rounds_with_none, rounds_full;

static uint64_t head_of(uint64_t index)
{
	/* pairs[slot_head.acq]: as any reader of a slot. */
	return atomic_load_explicit(&t.seg.slot[index].head, memory_order_acquire);
}

static bool belongs_to(uint64_t index, uint32_t rule)
{
	return rl_pair_high(atomic_load_explicit(&t.seg.slot[index].shape, memory_order_relaxed)) ==
	       rule;
}

/* Count the open slots of the round's key, and free them. */
static void judge_round(void)
{
	int open = 0;

	for (uint64_t i = 0; i < t.seg.view.slot_count; i++) {
		uint64_t head = head_of(i);

		if (rl_head_is_open(head) && belongs_to(i, RULE)) {
			open++;
			assert_true(rl_table_free(&t.seg, i, head));
		}
	}
	rounds_with_two += open > 1;
	rounds_full += atomic_load(&told) == 0;
	rounds_with_none += open == 0 && atomic_load(&told) > 0;
	atomic_store(&told, 0);
}

static void *claimant(void *arg)
{
	const struct rl_claim claim = {.rule_id = RULE, .q = 1, .window_ns = 1000000000};
	uint64_t seed = t_seed() * 77 + 1;

	for (int round = 0; round < ROUNDS; round++) {
		if (arg == NULL)
			round_id = (struct rl_id){{t_random(&seed) | 1, t_random(&seed) | 1}};
		pthread_barrier_wait(&barrier);
		if (rl_table_claim(&t.seg, &round_id, &claim) >= 0)
			atomic_fetch_add(&told, 1);
		pthread_barrier_wait(&barrier);
		if (arg == NULL)
			judge_round();
	}
	return NULL;
}

static void *churner(void *unused)
{
	const struct rl_claim claim = {.rule_id = OTHER_RULE, .q = 1, .window_ns = 1000000000};
	uint64_t seed = t_seed() * 55 + 1;

	(void)unused;
	while (!atomic_load(&stop)) {
		struct rl_id id = {{t_random(&seed) | 1, t_random(&seed) | 1}};

		if (atomic_load(&others) >= OTHERS_MAX)
			sched_yield();
		else if (rl_table_claim(&t.seg, &id, &claim) == 1)
			atomic_fetch_add(&others, 1);
	}
	return NULL;
}

/* The agent's part: wipe what was given up, free the churner's keys. */
static void *janitor(void *unused)
{
	uint64_t seed = t_seed() * 99 + 1;

	(void)unused;
	while (!atomic_load(&stop)) {
		uint64_t i = t_below(&seed, t.seg.view.slot_count), head = head_of(i);

		if (rl_head_is(head, RL_KIND_SPOILED))
			rl_table_wipe(&t.seg, i, head);
		else if (rl_head_is_open(head) && belongs_to(i, OTHER_RULE) &&
			 rl_table_free(&t.seg, i, head))
			atomic_fetch_sub(&others, 1);
	}
	return NULL;
}

static void test_table_race__key_met_by_four_at_once_gets_one_slot(void **state)
{
	pthread_t thread[THREADS], aside[2];

	(void)state;
	t_seed(); /* before there are threads */
	t_seg_make(&t, 40);
	pthread_barrier_init(&barrier, NULL, THREADS);
	pthread_create(&aside[0], NULL, churner, NULL);
	pthread_create(&aside[1], NULL, janitor, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, claimant, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(aside[i], NULL);
	printf("# %d rounds, %llu full\n", ROUNDS, (unsigned long long)rounds_full);
	assert_int_equal(rounds_with_two, 0);
	assert_int_equal(rounds_with_none, 0);
	assert_true(rounds_full < ROUNDS / 2); /* it tried */
	pthread_barrier_destroy(&barrier);
	t_seg_drop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_race__key_met_by_four_at_once_gets_one_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
