/*
 * Goal:   what a store has answered and does not know any more is told again, once, with the age it
 *         has by then; credit of that time is given up, and nobody is lent anything until all hosts
 *         have had time to tell.
 * Method: the agent's part.c and due.c with the test in the place of Redis; words of the segment
 * set back where time must have passed.
 */
#include "tests/sync_rig.h"

static const struct rl_fleet_terms strict = {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 0};

static struct shared_key k;
static struct sync_part *part;
static struct rl_part *words; /* of the part, in the segment */

static void start(void)
{
	assert_true(rig_start(&k.t.seg));
	part = &rig.sync.part[rl_hint_part(shared_slot(&k)->hint)];
	words = shared_part(&k);
	part->in_flight = false; /* the call that a new agent always makes is not wanted here */
}

static int setup(void **state)
{
	(void)state;
	memset(&rig, 0, sizeof(rig));
	shared_key_make(&k, "100/s", strict, rl_clock_precise_ns());
	start();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_kill();
	shared_key_drop(&k);
	return 0;
}

static void admit(uint32_t units, uint64_t ago_ns)
{
	uint64_t now = rl_clock_now_ns(rl_clock_is_coarse(k.rule.window_ns));

	assert_int_equal(rl_window_add(shared_slot(&k), shared_slot(&k)->head,
				       rl_pair_low(shared_slot(&k)->shape), units, 0, now - ago_ns),
			 RL_TRY_ALLOWED);
	rl_dirty_mark(&k.t.seg, k.index);
}

static struct sync_entry *entry_of(void)
{
	return sync_active_find(&rig.sync.active, k.index);
}

/* The key's next call is made. */
static void pump(void)
{
	uint32_t before = rig.calls;

	rl_dirty_take(&k.t.seg, false, rig_touch, NULL);
	if (entry_of() != NULL)
		entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_int_equal(rig.calls, before + 1);
	assert_int_equal(rig.items, 1);
}

static void grant(uint32_t units)
{
	const struct sync_answer answer = {.tag = k.index, .grant = units};
	char bytes[SYNC_ANSWER_SIZE];

	rig_write_answer(&answer, bytes);
	rig_deliver(SYNC_APPLIED, 1, bytes, sizeof(bytes));
}

/* So many units are told of, and that is answered. */
static void tell(uint32_t units, uint64_t ago_ns)
{
	admit(units, ago_ns);
	pump();
	grant(0);
}

/* The store knows calls up to this one; the agent makes the next one at once, or when it may. */
static void lose(uint64_t known)
{
	const struct sync_answer answer = {.tag = known};
	char bytes[SYNC_ANSWER_SIZE];

	rig_write_answer(&answer, bytes);
	rig_deliver(SYNC_MISSING, 1, bytes, sizeof(bytes));
	assert_false(part->in_flight && rig.ticket == NULL);
	if (!part->in_flight)
		rig_pump(part->number, true);
	assert_true(part->in_flight);
}

static void test_lost__call_says_whether_the_one_before_was_answered(void **state)
{
	(void)state;
	admit(1, 0);
	pump();
	assert_int_equal(rig.seq, 1);
	assert_int_equal(rig.flags, 0);
	grant(0);
	admit(1, 0);
	pump();
	assert_int_equal(rig.seq, 2);
	assert_int_equal(rig.flags, SYNC_CHAINED);
	part_resend(part);
	assert_int_equal(rig.flags, SYNC_CHAINED);
}

static void test_lost__what_was_told_after_the_last_known_call_is_told_again_once(void **state)
{
	(void)state;
	tell(5, 0);
	tell(3, 0);
	admit(2, 0);
	pump();
	assert_int_equal(rig.item[0].used, 2);
	lose(1);
	assert_int_equal(rig.seq, 3);
	assert_int_equal(rig.flags, 0);
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].used, 5);
	grant(0);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 0);
	admit(1, 0);
	pump();
	assert_int_equal(rig.flags, SYNC_CHAINED);
	assert_int_equal(rig.item[0].used, 1);
}

static void test_lost__all_in_the_window_is_told_again_when_nothing_is_known(void **state)
{
	(void)state;
	tell(7, 1100000000); /* they have left it */
	tell(20, 300000000);
	tell(1, 0);
	admit(2, 0);
	pump();
	lose(0);
	/* With what shares a group with the first of them. */
	assert_in_range(rig.item[0].used, 23, 22 + rl_pair_low(shared_slot(&k)->shape));
	assert_int_equal(rig.item[0].piece_units, rig.item[0].used);
}

static void test_lost__of_a_host_that_was_silent_for_a_day_nothing_is_lost(void **state)
{
	(void)state;
	tell(7, 0);
	admit(2, 0);
	pump();
	words->lease_until_ns = rl_clock_precise_ns() - UINT64_C(13) * 3600 * 1000000000;
	lose(0);
	assert_int_equal(rig.item[0].used, 2 + 7); /* these the log has: since it began */
	grant(0);
	rig_kill();
	start();
	admit(1, 0);
	pump();
	words->lease_until_ns = rl_clock_precise_ns() - UINT64_C(13) * 3600 * 1000000000;
	lose(0);
	assert_int_equal(rig.item[0].used, 1);
}

static void test_lost__credit_is_given_up_and_none_is_taken_until_all_have_told(void **state)
{
	(void)state;
	tell(5, 0);
	admit(1, 0);
	pump();
	grant(30);
	assert_int_equal(rl_head_credit(shared_slot(&k)->head), 30);
	admit(1, 0);
	pump();
	lose(1);
	assert_int_equal(rl_head_credit(shared_slot(&k)->head), 0);
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].used, 2);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY);
	grant(9); /* whatever Redis says */
	assert_int_equal(rl_head_credit(shared_slot(&k)->head), 0);
	assert_true(rl_clock_precise_ns() - words->silent_ns > rig.seg->fleet->stale_after_ns);
	part->back_ns -= LOST_GRACE_NS - 20000000;
	part_end_grace(part);
	assert_int_not_equal(words->silent_ns, 0);
	part->back_ns -= 30000000;
	part_end_grace(part);
	assert_int_equal(words->silent_ns, 0);
	shared_slot(&k)->asked = 4;
	admit(1, 0);
	pump();
	assert_int_equal(rig.item[0].flags, 0);
	grant(9);
	assert_int_equal(rl_head_credit(shared_slot(&k)->head), 9);
}

/* The call that is lost has given a lease back: the store believes that we have it. */
static void test_lost__key_that_has_nothing_to_tell_states_its_lease(void **state)
{
	(void)state;
	admit(1, 0);
	pump();
	grant(30);
	entry_of()->busy_ns = 0;
	pump(); /* gives back */
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].used, 0);
	grant(0);
	sync_active_remove(&rig.sync.active, entry_of());
	part->sent_ns = 0;
	rig.up = true;
	part->sent_ns = 1; /* long ago: the partition says that it is there */
	part_pump(part, true);
	assert_int_equal(rig.items, 0);
	lose(1);
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].used, 0);
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY);
}

static void test_lost__slot_that_is_another_keys_by_now_is_left_alone(void **state)
{
	(void)state;
	tell(5, 0);
	tell(3, 0);
	shared_slot(&k)->id[0] ^= 1;
	admit(2, 0);
	pump();
	lose(1);
	assert_int_equal(rig.item[0].used, 2);
}

static void test_lost__what_another_agent_was_told_is_not_known(void **state)
{
	(void)state;
	tell(5, 0);
	tell(3, 0);
	rig_kill();
	start();
	tell(4, 0);
	admit(2, 0);
	pump();
	rig.logged = 0;
	lose(1);
	assert_int_equal(rig.item[0].used, 2 + 4);
	assert_true(rig.sync.lost.in_part);
	assert_int_equal(rig.sync.lost.units, 4);
	assert_int_equal(rig.sync.lost.calls, 2);
	lost_say(&rig.sync);
	assert_int_equal(rig.logged, 0); /* others may find it yet */
	rig.sync.lost.since_ns -= LOST_GRACE_NS;
	lost_say(&rig.sync);
	lost_say(&rig.sync);
	assert_int_equal(rig.logged, 1);
}

static void test_lost__log_forgets_the_oldest_and_says_so(void **state)
{
	enum { NOTES = 32768 };

	(void)state;
	tell(1, 0);
	tell(1, 0);
	for (int i = 0; i < NOTES; i++) /* their notes are written over */
		lost_note(part, &(struct sync_entry){.index = k.index});
	admit(2, 0);
	pump();
	lose(1);
	assert_int_equal(rig.item[0].used, 2);
	assert_true(rig.sync.lost.in_part);
}

static void test_lost__answer_of_another_size_is_none(void **state)
{
	char bytes[2 * SYNC_ANSWER_SIZE] = {0};

	(void)state;
	tell(5, 0);
	admit(2, 0);
	pump();
	rig_deliver(SYNC_MISSING, 1, bytes, sizeof(bytes));
	assert_true(part->in_flight && part->refused);
	rig_pump(part->number, true);
	part_resend(part);
	assert_int_equal(rig.item[0].used, 2);
}

static void test_lost__only_what_is_told_and_in_the_window_is_taken_for_untold(void **state)
{
	const struct rl_rule *rule = &k.rule;

	(void)state;
	admit(10, 0);
	assert_int_equal(sync_slot_untell(&k.t.seg, k.index, rule, 5), 0); /* never told */
	pump();
	assert_int_equal(sync_slot_untell(&k.t.seg, k.index, rule, 5), 0); /* amid a call */
	grant(0);
	assert_int_equal(sync_slot_untell(&k.t.seg, k.index, rule, 0), 0);
	assert_int_equal(sync_slot_untell(&k.t.seg, k.index, rule, 4), 4);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 4);
	/* The rest of the first of them is in its group. */
	assert_in_range(sync_slot_untell(&k.t.seg, k.index, rule, UINT64_MAX), 6,
			5 + rl_pair_low(shared_slot(&k)->shape));
	assert_int_equal(sync_slot_untell(&k.t.seg, k.index, rule, UINT64_MAX), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lost__call_says_whether_the_one_before_was_answered),
		TEST(test_lost__what_was_told_after_the_last_known_call_is_told_again_once),
		TEST(test_lost__all_in_the_window_is_told_again_when_nothing_is_known),
		TEST(test_lost__of_a_host_that_was_silent_for_a_day_nothing_is_lost),
		TEST(test_lost__credit_is_given_up_and_none_is_taken_until_all_have_told),
		TEST(test_lost__key_that_has_nothing_to_tell_states_its_lease),
		TEST(test_lost__slot_that_is_another_keys_by_now_is_left_alone),
		TEST(test_lost__what_another_agent_was_told_is_not_known),
		TEST(test_lost__log_forgets_the_oldest_and_says_so),
		TEST(test_lost__answer_of_another_size_is_none),
		TEST(test_lost__only_what_is_told_and_in_the_window_is_taken_for_untold),
	};

	return cmocka_run_group_tests_name("lost", tests, NULL, NULL);
}
