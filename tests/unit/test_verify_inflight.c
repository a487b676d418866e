/*
 * Goal:   rl_verify() finds nothing wrong with requests in flight, however they come and go, and
 *         names each word of theirs that nobody writes.
 * Method: two keys under a concurrency rule, one of them in two lines; one damage planted at a
 *         time. Threads that acquire and release under it, and the agent's passes.
 */
#include "tests/t.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "agent/sweep.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_inflight.h"
#include "shm/rl_table.h"
#include "shm/rl_verify.h"
#include "shm/rl_word.h"

enum { HOLDERS = 8 }; /* more than cells in a line */

static struct t_seg t;
static uint64_t rule, slot, other_slot;
static uint32_t who[HOLDERS], line, second, other_line;
static int fd;
static struct rl_finding first;
static uint32_t count;

static uint64_t slot_of(const char *key)
{
	struct rl_id id = rl_inflight_id(&t.seg.view, rule, key, strlen(key));
	uint64_t head, index = rl_table_find(&t.seg.view, &id, &head);

	assert_int_not_equal(index, RL_NO_SLOT);
	return index;
}

static int acquire(uint32_t holder, const char *key, struct rl_answer *ret)
{
	return rl_inflight_acquire(&t.seg, &t.seg.member[0], holder, rule, key, strlen(key), 1,
				   ret);
}

static void hold_some(void)
{
	struct rl_answer answer;

	for (int i = 0; i < HOLDERS; i++) {
		assert_int_equal(rl_holder_take(&t.seg, fd, (uint32_t)getpid(), &who[i]), 0);
		assert_int_equal(acquire(who[i], "bob", &answer), 1);
	}
	assert_int_equal(acquire(who[0], "eve", &answer), 1);
	slot = slot_of("bob");
	other_slot = slot_of("eve");
	line = rl_hold_first(&t.seg.view, t.seg.slot[slot].state);
	second = rl_hold_first(&t.seg.view, t.seg.hold[line].next);
	other_line = rl_hold_first(&t.seg.view, t.seg.slot[other_slot].state);
	assert_true(line < t.seg.view.hold_count && second < t.seg.view.hold_count &&
		    other_line < t.seg.view.hold_count);
}

static int setup(void **state)
{
	const struct rl_segment_spec spec = {.mode = 0660};
	const struct rl_rule_spec r = {
		.name = "r", .terms = {HOLDERS, RL_WINDOW_MIN_NS}, .algorithm = RL_CONCURRENCY};
	size_t other;

	(void)state;
	t_seg_make(&t, 100);
	fd = rl_alive_make(&t.seg, t.path, &spec, NULL);
	assert_true(fd >= 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rl_rules_publish(&t.seg, &r, 1, &other), 0);
	rule = t_rule(&t.seg.view, "r");
	hold_some();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(fd);
	t_seg_drop(&t);
	return 0;
}

static void on_found(const struct rl_finding *finding, void *arg)
{
	(void)arg;
	if (count++ == 0)
		first = *finding;
	print_message("# %s %llu at byte %llu: 0x%llx, not 0x%llx\n",
		      rl_fault_info(finding->fault)->name, (unsigned long long)finding->index,
		      (unsigned long long)finding->at, (unsigned long long)finding->found,
		      (unsigned long long)finding->wanted);
}

static void verify(void)
{
	static struct rl_verify v;

	memset(&v, 0, sizeof(v));
	v.view = &t.seg.view;
	v.found = on_found;
	v.times_faster = 10;
	count = 0;
	rl_verify(&v);
	assert_int_equal(v.unsettled, 0);
}

static void nothing(void)
{
	verify();
	assert_int_equal(count, 0);
}

/* Exactly this while the word is so; nothing when it is as before. */
static void found_with(_Atomic uint64_t *word, uint64_t value, enum rl_fault fault, uint64_t index)
{
	uint64_t before = atomic_exchange(word, value);

	verify();
	atomic_store(word, before);
	assert_int_equal(count, 1);
	assert_string_equal(rl_fault_info(first.fault)->name, rl_fault_info(fault)->name);
	assert_int_equal(first.index, index);
	assert_int_equal(first.at, (uintptr_t)word - (uintptr_t)t.seg.view.hdr);
	assert_int_equal(first.found, value);
}

static void agent_is_alive(void)
{
	t.seg.live->agent_pid = (uint64_t)getpid();
	rl_clock_beat(t.seg.live);
}

static void test_verify_inflight__what_is_held_is_fine(void **state)
{
	(void)state;
	nothing();
	agent_is_alive();
	nothing();
}

static void test_verify_inflight__damaged_words_of_a_slot_are_found(void **state)
{
	struct rl_slot *s = &t.seg.slot[slot];

	(void)state;
	found_with(&s->shape, s->shape | 1, RL_FAULT_SLOT_SHAPE, slot);
	found_with(&s->window_ns, RL_WINDOW_MIN_NS + 1, RL_FAULT_SLOT_SHAPE, slot);
	found_with(&s->state, t.seg.slot[other_slot].state, RL_FAULT_SLOT_STATE, slot);
	found_with(&s->state, 0, RL_FAULT_SLOT_STATE, slot);
	nothing();
}

static void test_verify_inflight__text_of_another_key_is_found(void **state)
{
	_Atomic uint64_t *word = &t.seg.text[slot].word[0];

	(void)state;
	*word ^= 1;
	verify();
	assert_int_equal(count, 1);
	assert_int_equal(first.fault, RL_FAULT_TEXT_KEY);
	*word ^= 1;
	nothing();
}

static void test_verify_inflight__slot_that_nobody_finished_freeing_is_found(void **state)
{
	struct rl_slot *s = &t.seg.slot[slot];

	(void)state;
	s->state |= RL_HOLD_CLOSING;
	verify();
	assert_int_equal(count, 1);
	assert_int_equal(first.fault, RL_FAULT_SLOT_TAKEN);
}

static void test_verify_inflight__holders_that_are_none_are_found(void **state)
{
	_Atomic uint64_t *word = t.seg.holders->word;
	uint32_t mine = rl_holder_number(who[0]);

	(void)state;
	found_with(&word[0], rl_holder_word(RL_HOLDER_TAKEN, 1, 1, 1), RL_FAULT_HOLDER, 0);
	found_with(&word[mine], rl_holder_word(RL_HOLDER_LEFT + 1, 1, 1, 1), RL_FAULT_HOLDER, mine);
	found_with(&word[mine], rl_holder_word(RL_HOLDER_TAKEN, 1, 1, 0), RL_FAULT_HOLDER, mine);
	found_with(&word[900], rl_holder_word(RL_HOLDER_FREE, 0, 7, 1), RL_FAULT_HOLDER, 900);
	found_with(&word[900], rl_holder_word(RL_HOLDER_FREE, 1, 7, 0), RL_FAULT_HOLDER, 900);
	word[900] = rl_holder_word(RL_HOLDER_FREE, 0, 7, 0); /* whoever it was has left */
	nothing();
}

static void test_verify_inflight__lines_of_nobody_are_found(void **state)
{
	struct rl_hold *hold = &t.seg.hold[second];
	uint64_t slots = t.seg.view.slot_count, free_line = 0;

	(void)state;
	while (t.seg.hold[free_line].owner != 0)
		free_line++;
	t.seg.hold[free_line].owner = hold->owner; /* claimed, and not linked yet */
	nothing();
	found_with(&t.seg.hold[free_line].owner,
		   UINT64_C(1) << 63 | slots << 31 | (uint64_t)rl_holder_number(who[0]) << 12,
		   RL_FAULT_HOLD_OWNER, free_line);
	found_with(&t.seg.hold[free_line].owner, hold->owner & ~(UINT64_C(0x3ff) << 12),
		   RL_FAULT_HOLD_OWNER, free_line);
	found_with(&t.seg.hold[free_line].owner, hold->owner & INT64_MAX, RL_FAULT_HOLD_OWNER,
		   free_line);
}

static void test_verify_inflight__links_to_lines_of_others_are_found(void **state)
{
	struct rl_hold *hold = &t.seg.hold[line];
	uint64_t own_era = hold->next & ~(RL_HOLD_ERA - 1);
	uint64_t to_other = t.seg.slot[other_slot].state & (RL_HOLD_ERA - 1);

	(void)state;
	found_with(&hold->next, own_era | to_other, RL_FAULT_HOLD_LINK, line);
	found_with(&hold->next, own_era | (t.seg.slot[slot].state & (RL_HOLD_ERA - 1)),
		   RL_FAULT_HOLD_LINK, line); /* itself */
	hold->next += RL_HOLD_ERA / 2;        /* of an era that is over: it leads nowhere */
	nothing();
}

static void test_verify_inflight__cells_that_nobody_writes_are_found(void **state)
{
	_Atomic uint64_t *cell = &t.seg.hold[second].cell[RL_HOLD_CELLS - 1];

	(void)state;
	assert_int_equal(*cell, 0);
	found_with(cell, rl_hold_cell(who[3], 0, 0), RL_FAULT_HOLD_CELL, second);
	found_with(cell, rl_hold_cell(0, 1, 0), RL_FAULT_HOLD_CELL, second);
	found_with(cell, rl_hold_cell(rl_holder(0, 3), 0, 1), RL_FAULT_HOLD_CELL, second);
	*cell = rl_hold_cell(who[3], 1, 0); /* in the middle of an acquire */
	nothing();
}

static void test_verify_inflight__what_the_gone_hold_is_found_under_a_live_agent(void **state)
{
	uint32_t gone = rl_holder(rl_holder_number(who[0]), 77);

	(void)state;
	t.seg.hold[second].cell[5] = rl_hold_cell(gone, 0, 1);
	nothing(); /* without an agent nobody takes it back */
	agent_is_alive();
	found_with(&t.seg.hold[second].cell[5], rl_hold_cell(gone, 0, 2), RL_FAULT_HOLD_LEFT,
		   second);
	t.seg.hold[second].cell[5] = 0;
	nothing();
	assert_int_equal(rl_table_wipe(&t.seg, other_slot, t.seg.slot[other_slot].head), 1);
	agent_is_alive();
	verify();
	assert_int_equal(count, 1);
	assert_int_equal(first.fault, RL_FAULT_HOLD_LEFT);
	assert_int_equal(first.index, other_line);
}

/* Threads that hold and give back; one that is the agent. */

static atomic_bool stop;

static void *work(void *arg)
{
	static const char *const key[] = {"a", "b", "c", "d", "e"};
	uint32_t holder = *(uint32_t *)arg;
	struct rl_answer answer;

	for (size_t i = 0; !atomic_load(&stop); i++)
		if (acquire(holder, key[i % 5], &answer) == 1)
			rl_inflight_release(&t.seg, holder, rule, &answer.ticket);
	return NULL;
}

static void *keep(void *arg)
{
	static struct sweep sweep;
	struct rl_hold_tidied tidied;

	sweep_init(&sweep, &t.seg);
	while (!atomic_load(&stop)) {
		rl_clock_beat(t.seg.live);
		for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
			sweep_slot(&sweep, i, rl_clock_precise_ns());
		atomic_fetch_add(&t.seg.live->sweep_passes, 1);
		rl_hold_tidy(&t.seg, &tidied);
		usleep(1000);
	}
	return arg;
}

static void test_verify_inflight__nothing_is_found_while_they_come_and_go(void **state)
{
	pthread_t thread[4];

	(void)state;
	atomic_store(&stop, false);
	agent_is_alive();
	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, work, &who[i]);
	pthread_create(&thread[3], NULL, keep, NULL);
	for (int i = 0; i < 20; i++)
		nothing();
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	print_message("# %llu slots freed meanwhile\n",
		      (unsigned long long)t.seg.live->slots_freed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_verify_inflight__what_is_held_is_fine),
		TEST(test_verify_inflight__damaged_words_of_a_slot_are_found),
		TEST(test_verify_inflight__text_of_another_key_is_found),
		TEST(test_verify_inflight__slot_that_nobody_finished_freeing_is_found),
		TEST(test_verify_inflight__holders_that_are_none_are_found),
		TEST(test_verify_inflight__lines_of_nobody_are_found),
		TEST(test_verify_inflight__links_to_lines_of_others_are_found),
		TEST(test_verify_inflight__cells_that_nobody_writes_are_found),
		TEST(test_verify_inflight__what_the_gone_hold_is_found_under_a_live_agent),
		TEST(test_verify_inflight__nothing_is_found_while_they_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
