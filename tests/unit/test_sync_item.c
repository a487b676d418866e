/*
 * Goal:   a call to Redis says of each key what it must, is sent again as it was, and its answer
 *         is applied in the order that a kill at any moment needs; after an outage hosts tell
 *         first, and no grant of before it is taken.
 * Method: the agent's part.c and due.c with the test in the place of Redis; real clock, and the
 *         words of the segment and of the part set back where time must have passed.
 */
#include "tests/sync_rig.h"

#include "agent/sync/forget.h"

#define MS UINT64_C(1000000)

static const struct rl_fleet_terms strict = {RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 0};

static struct shared_key k;
static struct sync_part *part;
static struct rl_part *words; /* of the part, in the segment */

static void make(const char *terms, struct rl_fleet_terms fleet)
{
	memset(&rig, 0, sizeof(rig));
	shared_key_make(&k, terms, fleet, rl_clock_precise_ns());
	assert_true(rig_start(&k.t.seg));
	part = &rig.sync.part[rl_hint_part(shared_slot(&k)->hint)];
	words = shared_part(&k);
	part->in_flight = false; /* the call that a new agent always makes is not wanted here */
}

static void drop(void)
{
	rig_kill();
	shared_key_drop(&k);
}

static int setup(void **state)
{
	(void)state;
	make("100/s", strict);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	drop();
	return 0;
}

static void admit(uint32_t units, uint32_t from_credit, uint64_t ago_ns)
{
	uint64_t now = rl_clock_now_ns(rl_clock_is_coarse(k.rule.window_ns));

	assert_int_equal(rl_window_add(shared_slot(&k), shared_slot(&k)->head,
				       rl_pair_low(shared_slot(&k)->shape), units, from_credit,
				       now - ago_ns),
			 RL_TRY_ALLOWED);
	rl_dirty_mark(&k.t.seg, k.index);
}

static struct sync_entry *entry_of(void)
{
	return sync_active_find(&rig.sync.active, k.index);
}

/* Its interval has passed. */
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

static long long live_hosts = 1;

static void answer_with(struct sync_answer answer)
{
	char bytes[SYNC_ANSWER_SIZE];

	answer.tag = k.index;
	rig_write_answer(&answer, bytes);
	rig_deliver(SYNC_APPLIED, live_hosts, bytes, sizeof(bytes));
}

static void grant(uint32_t units)
{
	answer_with((struct sync_answer){.grant = units});
}

static void test_sync_item__call_says_what_was_used_refused_and_asked_for(void **state)
{
	(void)state;
	admit(7, 0, 0);
	shared_give(&k, 3);
	shared_side(&k)->refused = 5;
	shared_slot(&k)->asked = 4;
	pump();
	assert_int_equal(rig.part, part->number);
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].tag, k.index);
	assert_int_equal(rig.item[0].limit, 100);
	assert_int_equal(rig.item[0].window_ms, 1000);
	assert_int_equal(rig.item[0].interval_ms, 20);
	assert_int_equal(rig.item[0].used, 7);
	assert_int_equal(rig.item[0].credit, 3);
	assert_int_equal(rig.item[0].demand, 12);
	assert_int_equal(rig.item[0].waiting, 4);
	assert_int_equal(rig.item[0].flags, 0);
	assert_int_equal(rig.item[0].pieces, 0);
	assert_int_equal(shared_side(&k)->refused, 0);
	assert_int_equal(shared_slot(&k)->asked, 0);
}

/* Nobody writes such words; the key would not be in any call again, or its units in none. */
static void test_sync_item__words_of_no_call_keep_no_key_out_of_the_next(void **state)
{
	(void)state;
	admit(7, 0, 0);
	shared_side(&k)->infl = 4711;
	pump();
	assert_int_equal(rig.item[0].used, 7);
	grant(0);
	shared_side(&k)->acked += UINT64_C(1000) << 22;
	admit(5, 0, 0);
	shared_slot(&k)->asked = 1;
	pump();
	assert_true(rig.item[0].used >= 5); /* what is in the window, rounded up to groups of 5 */
	assert_true(rig.item[0].used <= 20);
}

static void test_sync_item__lease_that_lasts_too_long_is_cut(void **state)
{
	(void)state;
	words->lease_until_ns = rl_clock_precise_ns() + RL_DAY_NS;
	admit(1, 0, 0);
	pump();
	grant(5);
	assert_true(words->lease_until_ns <= rl_clock_precise_ns() + SYNC_LEASE_NS);
	assert_true(words->lease_until_ns > rl_clock_precise_ns());
}

static void test_sync_item__whoever_waits_is_asked_for_in_full(void **state)
{
	(void)state;
	shared_slot(&k)->asked = 4;
	shared_side(&k)->waiters = 4;
	rl_dirty_mark(&k.t.seg, k.index);
	pump();
	assert_int_equal(rig.item[0].waiting, 4);
}

/* Units that were refused and taken back by a waiter that was admitted: not below zero. */
static void test_sync_item__demand_taken_back_twice_does_not_wrap(void **state)
{
	(void)state;
	admit(2, 0, 0);
	shared_side(&k)->refused = (uint32_t)-5;
	pump();
	assert_int_equal(rig.item[0].demand, 0);
	assert_int_equal(rig.item[0].used, 2);
}

static void test_sync_item__blind_share_of_a_bounded_rule_is_told(void **state)
{
	(void)state;
	drop();
	make("100/s", (struct rl_fleet_terms){RL_BOUNDED, 0, 0, 100000, 0});
	k.t.seg.fleet->hosts = 2;
	admit(2, 0, 0);
	pump();
	assert_int_equal(rig.item[0].blind, 5);
}

static void test_sync_item__resent_call_says_the_same_whatever_came_since(void **state)
{
	uint64_t seq = words->seq, nonce = words->nonce, sent;

	(void)state;
	admit(7, 0, 0);
	pump();
	sent = words->sent_ns;
	assert_true(rig.seq == seq && rig.nonce == nonce && nonce != 0 && sent != 0);
	admit(4, 0, 0);
	part_resend(part);
	assert_int_equal(rig.calls, 2);
	assert_true(rig.seq == seq && rig.nonce == nonce);
	assert_int_equal(rig.item[0].used, 7);
	assert_true(words->sent_ns == sent); /* the lease is counted from the first one */
	assert_int_equal(k.t.seg.fleet->resends, 1);
	grant(10);
	assert_true(words->seq == seq + 1 && words->nonce != nonce && words->sent_ns == 0);
	assert_true(words->lease_until_ns == sent + SYNC_LEASE_NS ||
		    words->lease_until_ns > sent + SYNC_LEASE_NS);
	assert_int_equal(shared_credit(&k), 10);
	pump();
	assert_int_equal(rig.item[0].used, 4);
}

static void test_sync_item__lease_lasts_from_when_the_call_was_first_sent(void **state)
{
	uint64_t sent;

	(void)state;
	words->lease_until_ns = 5;
	admit(1, 0, 0);
	pump();
	sent = words->sent_ns;
	grant(1);
	assert_true(words->lease_until_ns == sent + SYNC_LEASE_NS);
}

static void test_sync_item__answer_to_an_earlier_sending_is_not_taken(void **state)
{
	store_fn *fn;
	void *first;

	(void)state;
	admit(1, 0, 0);
	pump();
	fn = rig.fn;
	first = rig.ticket;
	rig.ticket = NULL;
	part_resend(part);
	fn(&(struct store_answer){STORE_REFUSED, .why = "no"}, first);
	assert_true(part->in_flight && !part->refused);
	grant(2);
	assert_false(part->in_flight);
}

static void test_sync_item__error_of_the_server_keeps_the_call(void **state)
{
	uint64_t seq = words->seq;

	(void)state;
	admit(3, 0, 0);
	pump();
	rig_tell(STORE_REFUSED, "OOM command not allowed");
	assert_true(part->in_flight && part->refused);
	assert_int_equal(rig.logged, 1);
	part_resend(part);
	assert_true(rig.seq == seq);
	assert_int_equal(rig.item[0].used, 3);
}

static void
test_sync_item__call_that_belongs_elsewhere_goes_there_at_once_but_not_for_ever(void **state)
{
	uint64_t seq = words->seq;

	(void)state;
	admit(3, 0, 0);
	pump();
	for (uint32_t round = 1; round <= 2; round++) {
		for (uint32_t turn = 0; turn < 5; turn++) {
			uint32_t calls = rig.calls;

			rig_tell(STORE_AGAIN, "MOVED 1 other:7000");
			assert_int_equal(rig.calls, calls + 1);
			assert_true(part->in_flight && !part->refused);
		}
		rig_tell(STORE_AGAIN, "MOVED 1 other:7000"); /* in turns, it seems */
		assert_int_equal(rig.calls, 1 + 5 * round + round - 1);
		assert_true(part->in_flight && part->refused && part->retry_ns > 0);
		part_resend(part); /* when that time has come */
	}
	assert_int_equal(rig.logged, 0);
	assert_true(rig.seq == seq);
	assert_int_equal(rig.item[0].used, 3);
	grant(1);
	assert_true(words->seq == seq + 1);
}

static void test_sync_item__partition_being_moved_is_waited_for_without_a_word(void **state)
{
	(void)state;
	admit(3, 0, 0);
	pump();
	rig_tell(STORE_LATER, "TRYAGAIN");
	assert_true(part->in_flight && part->refused && words->silent_ns != 0);
	assert_int_equal(rig.calls, 1);
	assert_int_equal(rig.logged, 0);
	part_resend(part);
	words->silent_ns -= 6 * RL_SECOND_NS; /* but not for ever */
	rig_tell(STORE_LATER, "TRYAGAIN");
	assert_true(part->in_flight && part->refused);
	assert_int_equal(rig.logged, 1);
	part_resend(part);
	rig_tell(STORE_LOST, "");
	assert_true(part->in_flight && !part->refused); /* until it is up again */
	part_resend(part);
	assert_int_equal(rig.item[0].used, 3);
}

static void test_sync_item__identity_of_another_host_is_given_up(void **state)
{
	char none[1] = "";

	(void)state;
	admit(3, 0, 0);
	pump();
	rig_deliver(SYNC_OLD, 1, none, 0);
	assert_int_equal(rig.renewed, 1);
	part_resend(part);
	rig_deliver(SYNC_CLASH, 1, none, 0);
	assert_int_equal(rig.renewed, 2);
}

static void test_sync_item__answer_that_does_not_name_the_key_ends_its_call(void **state)
{
	struct sync_answer other = {.tag = k.index + 1, .grant = 50};
	char bytes[SYNC_ANSWER_SIZE];

	(void)state;
	admit(3, 0, 0);
	pump();
	rig_write_answer(&other, bytes);
	rig_deliver(SYNC_APPLIED, 1, bytes, sizeof(bytes));
	assert_int_equal(shared_credit(&k), 0);
	assert_true(shared_side(&k)->infl == 0);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 3); /* the next one tells */
	assert_false(part->in_flight);
	assert_false(entry_of()->in_flight);
}

static uint64_t seq_then;
static uint32_t late_slots, early_numbers;

static void look_at_the_order(void)
{
	if (words->seq != seq_then && shared_side(&k)->infl != 0)
		late_slots++;
	if (words->seq == seq_then && shared_side(&k)->infl == 0)
		early_numbers++;
}

/* The next number is drawn by a random one: then all of the slots must be through. */
static void test_sync_item__number_is_raised_after_the_last_slot(void **state)
{
	(void)state;
	admit(3, 0, 0);
	pump();
	seq_then = words->seq;
	late_slots = early_numbers = 0;
	rig.step = look_at_the_order;
	grant(2);
	rig.step = NULL;
	assert_int_equal(late_slots, 0);
	assert_int_equal(early_numbers, 0); /* nor a nonce drawn for the old number */
	assert_true(words->seq == seq_then + 1);
}

static void test_sync_item__new_agent_repeats_the_call_under_way(void **state)
{
	uint64_t seq = words->seq, nonce = words->nonce;

	(void)state;
	shared_give(&k, 20);
	admit(7, 7, 0);
	pump();
	admit(2, 2, 0);
	rig_kill();
	assert_true(rig_start(&k.t.seg));
	part_resend(part);
	assert_true(rig.seq == seq && rig.nonce == nonce);
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].used, 7);
	assert_int_equal(rig.item[0].credit, 13);
	grant(5);
	assert_int_equal(shared_credit(&k), 11 + 5);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 2);
}

/* The slots were through, the number was not raised: only Redis knows. */
static void test_sync_item__new_agent_repeats_the_number_with_nothing_in_it(void **state)
{
	uint64_t seq = words->seq, nonce = words->nonce;
	char none[1] = "";

	(void)state;
	admit(7, 0, 0);
	pump();
	sync_slot_apply(&k.t.seg, k.index, 3);
	rig_kill();
	assert_true(rig_start(&k.t.seg));
	assert_true(part->in_flight);
	part_resend(part);
	assert_true(rig.seq == seq && rig.nonce == nonce);
	assert_int_equal(rig.items, 0);
	rig_deliver(SYNC_DUPLICATE, 1, none, 0);
	assert_true(words->seq == seq + 1);
	assert_int_equal(shared_credit(&k), 3);
}

static void test_sync_item__grant_of_before_an_outage_is_not_taken(void **state)
{
	(void)state;
	admit(7, 0, 0);
	pump();
	words->sent_ns -= RL_STALE_AFTER_NS + MS;
	grant(9);
	assert_int_equal(shared_credit(&k), 0);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 0); /* it was told, though */
	admit(1, 0, 0);
	pump();
	assert_int_equal(rig.item[0].credit, 0); /* and this is how Redis learns of it */
	grant(4);
	assert_int_equal(shared_credit(&k), 4);
}

static void test_sync_item__after_an_outage_hosts_tell_and_ask_for_nothing(void **state)
{
	(void)state;
	admit(7, 0, 0);
	pump();
	words->silent_ns -= RL_STALE_AFTER_NS + MS;
	grant(0);
	assert_true(words->silent_ns != 0); /* on_unreachable goes on */
	assert_true(part_in_grace(part));
	admit(1, 0, 0);
	pump();
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY);
	part_end_grace(part);
	assert_true(words->silent_ns != 0);
	grant(0);
	assert_true(words->silent_ns != 0);
	part->back_ns -= PART_GRACE_NS;
	part_end_grace(part);
	assert_true(words->silent_ns == 0);
	admit(1, 0, 0);
	pump();
	assert_int_equal(rig.item[0].flags, 0);
	assert_true(words->silent_ns != 0);
	grant(0);
	assert_true(words->silent_ns == 0);
}

static void test_sync_item__slow_answer_is_no_outage(void **state)
{
	(void)state;
	k.t.seg.fleet->stale_after_ns = 10 * RL_SECOND_NS;
	admit(7, 0, 0);
	pump();
	words->silent_ns -= RL_SECOND_NS;
	words->sent_ns -= RL_SECOND_NS;
	grant(3);
	assert_true(words->silent_ns == 0);
	assert_int_equal(shared_credit(&k), 3);
}

static void test_sync_item__credit_of_a_lapsed_lease_is_given_up_before_the_next_call(void **state)
{
	(void)state;
	admit(1, 0, 0);
	pump();
	grant(9);
	words->lease_until_ns = rl_clock_precise_ns() + RL_SECOND_NS;
	part_drop_lapsed(part);
	assert_int_equal(shared_credit(&k), 9);
	admit(1, 1, 0);
	words->lease_until_ns = rl_clock_precise_ns() - 1;
	pump();
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].used, 1);
	assert_int_equal(shared_credit(&k), 0);
}

/* Redis has it on record still, and would keep it from the others for 2 W. */
static void test_sync_item__redis_is_told_of_a_lapsed_lease_also_when_the_key_rests(void **state)
{
	(void)state;
	admit(1, 0, 0);
	pump();
	grant(9);
	words->lease_until_ns = rl_clock_precise_ns() - 1;
	entry_of()->busy_ns -= RL_SECOND_NS;
	pump();
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY);
}

/* Likewise, and here nothing of it ever was in the slot. */
static void test_sync_item__redis_is_told_of_a_grant_that_came_too_late(void **state)
{
	(void)state;
	admit(1, 0, 0);
	pump();
	words->sent_ns -= RL_SECOND_NS;
	grant(9);
	assert_int_equal(shared_credit(&k), 0);
	words->silent_ns = 0;
	entry_of()->busy_ns -= RL_SECOND_NS;
	pump();
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY);
}

static void test_sync_item__unused_credit_goes_back_and_the_key_rests(void **state)
{
	(void)state;
	admit(1, 0, 0);
	pump();
	grant(9);
	entry_of()->busy_ns -= RL_SECOND_NS;
	pump();
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY);
	assert_int_equal(shared_credit(&k), 0);
	assert_int_equal(k.t.seg.fleet->returned, 9);
	grant(0);
	entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_null(entry_of());
}

/* As much as the rate will need until the next answer: the rest is of use to others. */
static void test_sync_item__credit_above_the_need_goes_back(void **state)
{
	(void)state;
	admit(1, 0, 0);
	pump();
	grant(90);
	admit(1, 1, 0);
	pump();
	assert_in_range(rig.item[0].credit, 1, 20);
	assert_int_equal(rig.item[0].credit, shared_credit(&k));
}

/* Callers that do not wait: the next one finds what the last asked for, for a window. */
static void test_sync_item__stock_is_kept_for_callers_that_do_not_wait(void **state)
{
	char none[1] = "";

	(void)state;
	shared_slot(&k)->asked = 3;
	rl_dirty_mark(&k.t.seg, k.index);
	pump();
	assert_int_equal(rig.item[0].waiting, 3);
	grant(5);
	entry_of()->busy_ns -= RL_SECOND_NS / 2;
	pump(); /* idle: the rest goes back */
	assert_int_equal(rig.item[0].credit, 3);
	grant(0);
	entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_int_equal(rig.items, 0); /* it only says that it is there */
	rig_deliver(SYNC_APPLIED, 1, none, 0);
	assert_int_equal(shared_credit(&k), 3);
	entry_of()->busy_ns -= RL_SECOND_NS;
	pump();
	assert_int_equal(rig.item[0].credit, 0);
}

/* Others want it: half of the limit is in use. */
static void test_sync_item__stock_is_given_up_near_the_limit_when_others_live(void **state)
{
	(void)state;
	live_hosts = 2;
	shared_slot(&k)->asked = 3;
	rl_dirty_mark(&k.t.seg, k.index);
	pump();
	answer_with((struct sync_answer){.grant = 3, .count = 43, .others_out = 8});
	entry_of()->busy_ns -= RL_SECOND_NS / 2;
	pump();
	live_hosts = 1;
	assert_int_equal(rig.item[0].credit, 0);
}

/* Nobody else can want it. */
static void test_sync_item__stock_stays_near_the_limit_when_the_host_is_alone(void **state)
{
	(void)state;
	shared_slot(&k)->asked = 3;
	rl_dirty_mark(&k.t.seg, k.index);
	pump();
	answer_with((struct sync_answer){.grant = 3, .count = 43, .others_out = 8});
	entry_of()->busy_ns -= RL_SECOND_NS / 2;
	entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_int_equal(rig.items, 0); /* nothing goes back */
	assert_int_equal(shared_credit(&k), 3);
}

/* Its slot was wiped, and perhaps claimed for another key, while its call was under way. */
static void test_sync_item__emptied_slot_is_left_out_of_a_resent_call(void **state)
{
	(void)state;
	admit(7, 0, 0);
	pump();
	shared_side(&k)->infl = 0;
	part_resend(part);
	assert_int_equal(rig.items, 0);
	assert_false(entry_of()->in_flight);
	assert_true(part->in_flight); /* the number is still to be used up */
}

/* Counted, but nobody of them has asked: they were killed while they waited. */
static void test_sync_item__dead_waiters_are_forgotten(void **state)
{
	(void)state;
	shared_side(&k)->waiters = 3;
	shared_slot(&k)->asked = 1;
	rl_dirty_mark(&k.t.seg, k.index);
	pump();
	grant(0);
	assert_int_equal(shared_side(&k)->waiters, 3);
	admit(1, 0, 0);
	pump();
	grant(0);
	assert_int_equal(shared_side(&k)->waiters, 0);
}

static void test_sync_item__hint_says_when_to_ask_again(void **state)
{
	uint64_t again;

	(void)state;
	admit(1, 0, 0);
	pump();
	answer_with((struct sync_answer){.flags = SYNC_EXHAUSTED, .retry_ms = 50000});
	again = rl_hint_again_ns(shared_slot(&k)->hint);
	assert_in_range(again - rl_clock_precise_ns(), 40 * RL_SECOND_NS, 50 * RL_SECOND_NS);
	assert_int_equal(rl_hint_part(shared_slot(&k)->hint), part->number);
	admit(1, 0, 0);
	pump();
	grant(0); /* says nothing of it */
	assert_true(rl_hint_again_ns(shared_slot(&k)->hint) == again);
	admit(1, 0, 0);
	pump();
	grant(1);
	assert_int_equal(rl_hint_again_ns(shared_slot(&k)->hint), 0);
}

static void test_sync_item__answer_raises_the_turn_and_notes_the_total(void **state)
{
	uint32_t turn = rl_pair_low(shared_slot(&k)->turn);

	(void)state;
	admit(1, 0, 0);
	pump();
	answer_with((struct sync_answer){.count = 30, .others_out = 12});
	assert_int_equal(shared_slot(&k)->turn, turn + 1);
	assert_int_equal(rl_pair_low(shared_side(&k)->total), 42);
	assert_int_equal(k.t.seg.fleet->keys_synced, 1);
}

static void test_sync_item__answer_settles_the_debt_it_was_told_of(void **state)
{
	(void)state;
	drop();
	make("100/s", (struct rl_fleet_terms){RL_BOUNDED, 0, 0, 100000, 0});
	admit(4, 0, 0);
	shared_side(&k)->debt = 4;
	pump();
	shared_side(&k)->debt = 6; /* two more, meanwhile */
	grant(0);
	assert_int_equal(shared_side(&k)->debt, 2);
}

static void test_sync_item__blind_grant_is_no_lease(void **state)
{
	(void)state;
	drop();
	make("100/s", (struct rl_fleet_terms){RL_BOUNDED, 0, 0, 100000, 0});
	admit(4, 0, 0);
	pump();
	answer_with((struct sync_answer){.grant = 10, .flags = SYNC_BLIND});
	assert_false(entry_of()->recorded);
	assert_int_equal(shared_credit(&k), 10);
	assert_int_equal(rl_hint_low(shared_slot(&k)->hint), 10 / 4);
	words->lease_until_ns = 0;
	part_drop_lapsed(part);
	assert_int_equal(shared_credit(&k), 10);
}

static const struct rl_fleet_terms eventual = {.consistency = RL_EVENTUAL};

static void test_sync_item__eventual_key_tells_and_gives_back_and_asks_for_nothing(void **state)
{
	(void)state;
	drop();
	make("100/s", eventual);
	admit(7, 0, 0);
	shared_give(&k, 3); /* of before, when the rule was another one */
	shared_side(&k)->refused = 5;
	shared_slot(&k)->asked = 4;
	pump();
	assert_int_equal(rig.item[0].used, 7);
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].demand, 0);
	assert_int_equal(rig.item[0].waiting, 0);
	assert_int_equal(rig.item[0].blind, 0);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY | SYNC_REPORT);
	assert_int_equal(shared_credit(&k), 0);
	answer_with((struct sync_answer){.grant = 50, .count = 40});
	assert_int_equal(shared_credit(&k), 0); /* whatever Redis says */
}

static void test_sync_item__eventual_answer_says_what_is_held_and_when_it_leaves(void **state)
{
	uint64_t hint, now;

	(void)state;
	drop();
	make("100/s", eventual);
	admit(7, 0, 0);
	pump();
	now = rl_clock_precise_ns();
	answer_with((struct sync_answer){
		.count = 40, .others_out = 0, .retry_ms = 300, .ends_ms = 750});
	hint = shared_slot(&k)->hint;
	assert_int_equal(rl_pair_low(shared_side(&k)->total), 40);
	assert_in_range(rl_hint_again_ns(hint), now + 298 * MS, now + 400 * MS);
	assert_in_range(rl_hint_low(hint), 0x3ff0, 0x4010); /* a quarter of W early */
	assert_int_equal(rl_hint_part(hint), part->number);
	assert_int_equal(sync_slot_unsent(&k.t.seg.view, k.index), 0);
	/* Leases of hosts that have the rule as it was: nobody knows when they leave. */
	admit(1, 0, 0);
	pump();
	answer_with((struct sync_answer){
		.count = 40, .others_out = 2, .retry_ms = 300, .ends_ms = 750});
	assert_int_equal(rl_pair_low(shared_side(&k)->total), 42);
	assert_int_equal(rl_hint_low(shared_slot(&k)->hint), 0);
}

/* The rule was eventual when the call was sent: its times mean nothing to a strict one. */
static void test_sync_item__times_of_an_eventual_answer_are_not_kept_for_another_rule(void **state)
{
	uint64_t generation;

	(void)state;
	drop();
	make("100/s", eventual);
	admit(7, 0, 0);
	pump();
	shared_rule(&k, "100/s", strict);
	rl_rules_list(&k.t.seg.view, rig.sync.rule, &generation);
	answer_with((struct sync_answer){.count = 40, .retry_ms = 300, .ends_ms = 750});
	assert_int_equal(rl_hint_again_ns(shared_slot(&k)->hint), 0);
	assert_int_equal(rl_pair_low(shared_side(&k)->total), 40);
}

/* A full window: nobody can be told anything new before the first of it leaves. */
static void test_sync_item__refused_flood_of_an_eventual_key_is_not_synced(void **state)
{
	uint32_t calls;

	(void)state;
	drop();
	make("100/s", eventual);
	admit(7, 0, 0);
	pump();
	answer_with((struct sync_answer){.count = 100, .retry_ms = 60000, .ends_ms = 60000});
	calls = rig.calls;
	shared_side(&k)->refused = 5;
	entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_int_equal(rig.items * (rig.calls - calls), 0);
	part->in_flight = false;                             /* one that says that it lives */
	shared_slot(&k)->hint = rl_hint(1, 0, part->number); /* it leaves */
	entry_of()->due_ns = 0;
	pump();
	assert_int_equal(rig.item[0].used, 0);
}

/* Killed before it was applied: the next agent sends it as it was, and asks for nothing either. */
static void test_sync_item__eventual_call_of_a_killed_agent_asks_for_nothing(void **state)
{
	(void)state;
	drop();
	make("100/s", eventual);
	admit(7, 0, 0);
	pump();
	rig_kill();
	assert_true(rig_start(&k.t.seg));
	part = &rig.sync.part[part->number];
	part_resend(part);
	assert_int_equal(rig.item[0].used, 7);
	assert_int_equal(rig.item[0].demand, 0);
	assert_int_equal(rig.item[0].flags, SYNC_PUSH_ONLY | SYNC_REPORT);
}

static void test_sync_item__units_of_an_outage_go_with_their_times(void **state)
{
	(void)state;
	drop();
	make("100/m", strict);
	admit(5, 0, 30 * RL_SECOND_NS);
	admit(9, 0, 20 * RL_SECOND_NS);
	admit(3, 0, 0);
	pump();
	assert_int_equal(rig.item[0].used, 17);
	assert_true(rig.item[0].pieces >= 2);
	assert_int_equal(rig.item[0].piece_units, 17);
}

static void test_sync_item__key_whose_rule_is_local_now_is_out_of_it(void **state)
{
	uint64_t generation;

	(void)state;
	admit(1, 0, 0);
	pump();
	grant(9);
	shared_rule(&k, "100/s", (struct rl_fleet_terms){0});
	rl_rules_list(&k.t.seg.view, rig.sync.rule, &generation);
	entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_null(entry_of());
	assert_int_equal(shared_credit(&k), 0);
	assert_true((shared_side(&k)->acked & RL_TRACKED) == 0);
}

static void test_sync_item__call_takes_64_keys_and_the_next_one_the_rest(void **state)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop";
	uint32_t made = 0;
	bool seen[2000] = {false};

	(void)state;
	shared_key_drop(&k);
	rig_kill();
	make("100/s", strict);
	for (uint32_t i = 0; made < 70; i++) {
		char key[8];
		struct rl_key_text text;

		key[0] = letters[i % 26], key[1] = letters[i / 26 % 26], key[2] = letters[i / 676];
		rl_key_text(key, 3, &text);
		if (rl_key_part(k.rule.id, &text) != part->number)
			continue;
		shared_open(&k, key, 3);
		admit(1, 0, 0);
		made++;
	}
	for (uint32_t left = 70, count; left > 0; left -= count) {
		char bytes[SYNC_BATCH_MAX * SYNC_ANSWER_SIZE];

		if (rig.ticket == NULL) /* else the answer was late, and the rest went at once */
			rig_pump(part->number, true);
		count = rig.items;
		assert_int_equal(count, left < SYNC_BATCH_MAX ? left : SYNC_BATCH_MAX);
		for (uint32_t i = 0; i < count; i++) {
			struct sync_answer answer = {.tag = rig.item[i].tag};

			assert_false(seen[answer.tag]);
			seen[answer.tag] = true;
			rig_write_answer(&answer, bytes + i * SYNC_ANSWER_SIZE);
		}
		rig_deliver(SYNC_APPLIED, 1, bytes, count * SYNC_ANSWER_SIZE);
	}
}

static const struct rl_fleet_terms bounded = {RL_BOUNDED, RL_NO_CREDIT_DENY, RL_SHARE, 100000, 0};

/* 10 of 100 blind, and the key is touched. */
static uint64_t wait_of_a_new_key(const char *terms)
{
	drop();
	make(terms, bounded);
	shared_fresh(&k, 1, rl_clock_precise_ns());
	admit(3, 0, 0);
	rl_dirty_take(&k.t.seg, false, rig_touch, NULL);
	return due_wait_ns(&rig.sync, &k.rule, entry_of());
}

static void test_sync_item__key_on_its_blind_share_is_told_seldom(void **state)
{
	(void)state;
	assert_int_equal(wait_of_a_new_key("100/60s"), 1000 * MS);
	pump();
	answer_with((struct sync_answer){.grant = 1, .flags = SYNC_BLIND});
	admit(3, 0, 0);
	pump();
	assert_in_range(entry_of()->due_ns - rl_clock_precise_ns(), 400 * MS, 1000 * MS);
	/* Not when it has a lease, is near its limit, has no blind share, or an interval is said.
	 */
	answer_with((struct sync_answer){.grant = 1});
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 100 * MS);
	admit(2, 2, 0);
	pump();
	answer_with((struct sync_answer){.flags = SYNC_EXHAUSTED});
	assert_false(entry_of()->recorded);
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 100 * MS);
	shared_fresh(&k, 1000, rl_clock_precise_ns());
	entry_of()->close = entry_of()->recorded = false;
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 100 * MS);
	assert_int_equal(wait_of_a_new_key("100/60s"), 1000 * MS);
	k.t.seg.fleet->interval_ns = 50 * MS;
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 50 * MS);
}

/* A fifth of the blind share, of all hosts, is 2 % of the limit. */
static void test_sync_item__few_units_of_a_blind_share_are_not_told(void **state)
{
	(void)state;
	wait_of_a_new_key("100/60s");
	assert_false(due_is_quiet(&rig.sync, &k.rule, k.index));
	pump();
	assert_int_equal(rig.item[0].used, 3);
	answer_with((struct sync_answer){.grant = 3, .flags = SYNC_BLIND});
	admit(2, 0, 0);
	assert_true(due_is_quiet(&rig.sync, &k.rule, k.index));
	entry_of()->due_ns = 0;
	rig_pump(part->number, true); /* at most it says that it lives */
	assert_int_equal(part->count, 0);
	if (part->in_flight)
		rig_deliver(SYNC_APPLIED, live_hosts, "", 0);
	admit(1, 0, 0);
	pump();
	assert_int_equal(rig.item[0].used, 3); /* with those that were kept back */
	/* Who asks, or is refused, is heard; and a key that has a lease says all. */
	answer_with((struct sync_answer){.grant = 3, .flags = SYNC_BLIND});
	shared_slot(&k)->asked = 1;
	assert_false(due_is_quiet(&rig.sync, &k.rule, k.index));
	shared_slot(&k)->asked = 0;
	shared_side(&k)->refused = 1;
	assert_false(due_is_quiet(&rig.sync, &k.rule, k.index));
	pump();
	answer_with((struct sync_answer){.grant = 3});
	admit(1, 0, 0);
	pump();
	assert_int_equal(rig.item[0].used, 1);
	/* Where totals are kept, and where nobody may admit blind. */
	shared_side(&k)->refused = 0;
	answer_with((struct sync_answer){.grant = 0, .flags = SYNC_BLIND});
	admit(1, 0, 0);
	rig.sync.totals = true;
	assert_false(due_is_quiet(&rig.sync, &k.rule, k.index));
	rig.sync.totals = false;
	assert_true(due_is_quiet(&rig.sync, &k.rule, k.index));
	k.t.seg.fleet->hosts = 3; /* 3 of 100 each */
	assert_false(due_is_quiet(&rig.sync, &k.rule, k.index));
}

/* agent/sync/load.h: far from the limit first; who asks, not at all before the others. */
static void test_sync_item__overload_slows_keys_far_from_their_limit_first(void **state)
{
	(void)state;
	wait_of_a_new_key("100/60s");
	rig.sync.load.level = 3;
	pump();
	answer_with((struct sync_answer){.grant = 1, .count = 50});
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 800 * MS);
	shared_slot(&k)->asked = 1;
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 100 * MS);
	shared_slot(&k)->asked = 0;
	admit(1, 1, 0);
	pump();
	assert_int_equal(rig.item[0].interval_ms, 100); /* Redis goes by the rule */
	answer_with((struct sync_answer){.grant = 1, .count = 51});
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 100 * MS);
	rig.sync.load.level = 5;
	assert_int_equal(due_wait_ns(&rig.sync, &k.rule, entry_of()), 400 * MS);
}

/* A call of so many keys as it takes is full; the next that is not ends that. */
static void test_sync_item__full_calls_are_noted_until_one_is_not(void **state)
{
	(void)state;
	admit(1, 0, 0);
	part->alone_until_ns = UINT64_MAX;
	pump();
	assert_int_not_equal(part->full_since_ns, 0);
	part->alone_until_ns = 0;
	grant(1);
	admit(1, 1, 0);
	pump();
	assert_int_equal(part->full_since_ns, 0);
}

static void test_sync_item__keys_that_wait_long_are_told_on_one_beat(void **state)
{
	uint64_t now = UINT64_C(123456789012), first;

	(void)state;
	assert_int_equal(wait_of_a_new_key("100/60s"), 1000 * MS);
	first = due_next_ns(&rig.sync, &k.rule, entry_of(), 3, now);
	for (uint64_t later = 0; later < 1500 * MS; later += 7 * MS) {
		uint64_t due = due_next_ns(&rig.sync, &k.rule, entry_of(), 3, now + later);

		assert_in_range(due - (now + later), 500 * MS + 1, 1000 * MS);
		assert_int_equal((due - first) % (500 * MS), 0);
	}
	/* Partitions one after the other, and a key that does not wait in T. */
	assert_int_not_equal(due_next_ns(&rig.sync, &k.rule, entry_of(), 4, now) % (500 * MS),
			     first % (500 * MS));
	entry_of()->close = true;
	assert_int_equal(due_next_ns(&rig.sync, &k.rule, entry_of(), 3, now), now + 100 * MS);
}

static void test_sync_item__who_runs_short_of_a_blind_share_is_told_at_once(void **state)
{
	(void)state;
	wait_of_a_new_key("100/60s");
	entry_of()->due_ns = rl_clock_precise_ns() + 1000 * MS;
	shared_slot(&k)->asked = 1;
	part_want(part, k.index);
	rig_pump(part->number, false);
	assert_int_equal(rig.calls, 1);
	assert_int_equal(rig.item[0].waiting, 1);
}

/* A call is made for the first key; the second one is due in so long. */
static uint32_t items_with_another_due_in(uint64_t ns, bool has_demand)
{
	uint64_t first, second;

	assert_int_equal(wait_of_a_new_key("100/10s"), 200 * MS);
	first = k.index;
	for (uint32_t i = 0;; i++) { /* one of the same partition */
		char key[16];
		int len = snprintf(key, sizeof(key), "other%u", i);

		shared_open(&k, key, (size_t)len);
		if (rl_hint_part(shared_slot(&k)->hint) == part->number)
			break;
	}
	second = k.index;
	if (has_demand)
		admit(3, 0, 0);
	rig_touch(second, NULL);
	entry_of()->due_ns = rl_clock_precise_ns() + ns;
	k.index = first;
	entry_of()->due_ns = 0;
	rig_pump(part->number, true);
	assert_int_equal(rig.calls, 1);
	return rig.items;
}

static void test_sync_item__key_that_waited_half_its_time_goes_along(void **state)
{
	(void)state;
	assert_int_equal(items_with_another_due_in(95 * MS, true), 2);
	assert_int_equal(items_with_another_due_in(120 * MS, true), 1);
	assert_int_equal(items_with_another_due_in(95 * MS, false), 1);
}

static uint32_t left_here(void)
{
	struct rl_window_terms terms = shared_terms(&k);
	struct rl_window_answer answer;

	rl_window_look(shared_slot(&k), shared_slot(&k)->head, &terms, 1, rl_clock_precise_ns(),
		       &answer);
	return answer.remaining;
}

static void test_sync_item__forgotten_units_are_not_told_and_redis_is_told_to_forget(void **state)
{
	(void)state;
	admit(60, 0, 300 * MS);
	shared_give(&k, 9);
	shared_side(&k)->total = 77;
	assert_true(sync_forget(&rig.sync, k.index, rl_clock_precise_ns() - 100 * MS,
				rl_clock_precise_ns()));
	assert_int_equal(rig.calls, 1);
	assert_int_equal(rig.items, 1);
	assert_int_equal(rig.item[0].flags, SYNC_FORGET);
	assert_int_equal(rig.item[0].used, 0);
	assert_int_equal(rig.item[0].credit, 0);
	assert_int_equal(rig.item[0].pieces, 1);
	assert_int_equal(rig.item[0].piece_units, 0);
	assert_int_equal(left_here(), 100);
	assert_int_equal(shared_side(&k)->total, 0);
	assert_true(sync_forget_waits(&rig.sync, k.index));
	grant(5);
	assert_false(sync_forget_waits(&rig.sync, k.index));
	admit(2, 0, 0);
	pump(); /* what comes after it is told as ever, and nothing is forgotten again */
	assert_int_equal(rig.item[0].used, 2);
	assert_int_equal(rig.item[0].flags & SYNC_FORGET, 0);
	assert_int_equal(rig.item[0].pieces, 0);
}

static void test_sync_item__units_since_the_moment_are_not_forgotten(void **state)
{
	(void)state;
	admit(60, 0, 300 * MS);
	admit(7, 0, 0);
	assert_true(sync_forget(&rig.sync, k.index, rl_clock_precise_ns() - 100 * MS, 0));
	assert_int_equal(rig.calls, 0);
	assert_false(sync_forget_waits(&rig.sync, k.index));
	/* 5 to a group: that of the 61st unit has all of 56 .. 60 as well, or none. */
	assert_in_range(left_here(), 100 - 7 - 5, 100 - 7);
	pump();
	assert_in_range(rig.item[0].used, 7, 7 + 4);
	assert_int_equal(rig.item[0].flags & SYNC_FORGET, 0);
}

static void test_sync_item__nothing_is_forgotten_amid_a_call(void **state)
{
	(void)state;
	admit(60, 0, 300 * MS);
	pump();
	assert_false(sync_forget(&rig.sync, k.index, rl_clock_precise_ns(), rl_clock_precise_ns()));
	assert_in_range(left_here(), 40 - 4, 40);
	grant(0);
	assert_true(sync_forget(&rig.sync, k.index, rl_clock_precise_ns(), rl_clock_precise_ns()));
	assert_int_equal(left_here(), 100);
}

static void
test_sync_item__what_was_to_be_forgotten_is_said_again_when_the_call_is_lost(void **state)
{
	(void)state;
	admit(60, 0, 300 * MS);
	assert_true(sync_forget(&rig.sync, k.index, rl_clock_precise_ns(), rl_clock_precise_ns()));
	part_resend(part);
	assert_int_equal(rig.calls, 2);
	assert_int_equal(rig.item[0].flags, SYNC_FORGET);
	answer_with((struct sync_answer){.tag = 0});
	assert_false(sync_forget_waits(&rig.sync, k.index));
}

/* By a clock that is known to some milliseconds only; and of before this host was started. */
static void test_sync_item__moment_to_come_is_told_as_now_and_any_other_as_it_is(void **state)
{
	uint64_t now_ns = rl_clock_precise_ns(), long_ns = now_ns + 3600 * RL_SECOND_NS;

	(void)state;
	admit(60, 0, 300 * MS);
	assert_true(sync_forget(&rig.sync, k.index, rl_clock_precise_ns(),
				rl_clock_precise_ns() + 500 * MS));
	assert_int_equal(rig.item[0].flags, SYNC_FORGET);
	assert_int_equal(rig.item[0].piece_age_ms, 0);
	grant(0);
	assert_true(sync_forget(&rig.sync, k.index, now_ns, now_ns - long_ns));
	pump();
	assert_int_equal(rig.item[0].flags, SYNC_FORGET);
	assert_in_range(rig.item[0].piece_age_ms, long_ns / MS, long_ns / MS + 10000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sync_item__call_says_what_was_used_refused_and_asked_for),
		TEST(test_sync_item__words_of_no_call_keep_no_key_out_of_the_next),
		TEST(test_sync_item__lease_that_lasts_too_long_is_cut),
		TEST(test_sync_item__whoever_waits_is_asked_for_in_full),
		TEST(test_sync_item__demand_taken_back_twice_does_not_wrap),
		TEST(test_sync_item__blind_share_of_a_bounded_rule_is_told),
		TEST(test_sync_item__resent_call_says_the_same_whatever_came_since),
		TEST(test_sync_item__lease_lasts_from_when_the_call_was_first_sent),
		TEST(test_sync_item__answer_to_an_earlier_sending_is_not_taken),
		TEST(test_sync_item__error_of_the_server_keeps_the_call),
		TEST(test_sync_item__call_that_belongs_elsewhere_goes_there_at_once_but_not_for_ever),
		TEST(test_sync_item__partition_being_moved_is_waited_for_without_a_word),
		TEST(test_sync_item__identity_of_another_host_is_given_up),
		TEST(test_sync_item__answer_that_does_not_name_the_key_ends_its_call),
		TEST(test_sync_item__number_is_raised_after_the_last_slot),
		TEST(test_sync_item__new_agent_repeats_the_call_under_way),
		TEST(test_sync_item__new_agent_repeats_the_number_with_nothing_in_it),
		TEST(test_sync_item__grant_of_before_an_outage_is_not_taken),
		TEST(test_sync_item__after_an_outage_hosts_tell_and_ask_for_nothing),
		TEST(test_sync_item__slow_answer_is_no_outage),
		TEST(test_sync_item__credit_of_a_lapsed_lease_is_given_up_before_the_next_call),
		TEST(test_sync_item__redis_is_told_of_a_lapsed_lease_also_when_the_key_rests),
		TEST(test_sync_item__redis_is_told_of_a_grant_that_came_too_late),
		TEST(test_sync_item__unused_credit_goes_back_and_the_key_rests),
		TEST(test_sync_item__credit_above_the_need_goes_back),
		TEST(test_sync_item__stock_is_kept_for_callers_that_do_not_wait),
		TEST(test_sync_item__stock_is_given_up_near_the_limit_when_others_live),
		TEST(test_sync_item__stock_stays_near_the_limit_when_the_host_is_alone),
		TEST(test_sync_item__emptied_slot_is_left_out_of_a_resent_call),
		TEST(test_sync_item__dead_waiters_are_forgotten),
		TEST(test_sync_item__hint_says_when_to_ask_again),
		TEST(test_sync_item__answer_raises_the_turn_and_notes_the_total),
		TEST(test_sync_item__answer_settles_the_debt_it_was_told_of),
		TEST(test_sync_item__blind_grant_is_no_lease),
		TEST(test_sync_item__eventual_key_tells_and_gives_back_and_asks_for_nothing),
		TEST(test_sync_item__eventual_answer_says_what_is_held_and_when_it_leaves),
		TEST(test_sync_item__times_of_an_eventual_answer_are_not_kept_for_another_rule),
		TEST(test_sync_item__refused_flood_of_an_eventual_key_is_not_synced),
		TEST(test_sync_item__eventual_call_of_a_killed_agent_asks_for_nothing),
		TEST(test_sync_item__units_of_an_outage_go_with_their_times),
		TEST(test_sync_item__key_whose_rule_is_local_now_is_out_of_it),
		TEST(test_sync_item__call_takes_64_keys_and_the_next_one_the_rest),
		TEST(test_sync_item__key_on_its_blind_share_is_told_seldom),
		TEST(test_sync_item__few_units_of_a_blind_share_are_not_told),
		TEST(test_sync_item__overload_slows_keys_far_from_their_limit_first),
		TEST(test_sync_item__full_calls_are_noted_until_one_is_not),
		TEST(test_sync_item__keys_that_wait_long_are_told_on_one_beat),
		TEST(test_sync_item__who_runs_short_of_a_blind_share_is_told_at_once),
		TEST(test_sync_item__key_that_waited_half_its_time_goes_along),
		TEST(test_sync_item__forgotten_units_are_not_told_and_redis_is_told_to_forget),
		TEST(test_sync_item__units_since_the_moment_are_not_forgotten),
		TEST(test_sync_item__nothing_is_forgotten_amid_a_call),
		TEST(test_sync_item__moment_to_come_is_told_as_now_and_any_other_as_it_is),
		TEST(test_sync_item__what_was_to_be_forgotten_is_said_again_when_the_call_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
