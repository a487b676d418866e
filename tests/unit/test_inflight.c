/*
 * Goal:   requests in flight of a key are counted exactly and never exceed the limit, whoever comes
 *         between two steps, and whatever becomes of the rule, the slot or the lines meanwhile.
 * Method: one process that is many holders (its locks never stand in its own way), and steps of
 *         others at an exact access (t_upon_access). Real deaths: tests/proc/test_inflight_kill.c.
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/inflight.h"
#include "agent/sweep.h"
#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_inflight.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

static struct t_seg t;
static struct sweep sweep;
static uint64_t rule;
static int fd;

static void publish(uint8_t algorithm, uint32_t limit)
{
	const struct rl_rule_spec spec[] = {
		{.name = "r", .terms = {limit, RL_WINDOW_MIN_NS}, .algorithm = algorithm},
		{.name = "other", .terms = {5, RL_WINDOW_MIN_NS}, .algorithm = RL_CONCURRENCY},
		{.name = "rate", .terms = {5, RL_DAY_NS}}};
	size_t other;

	assert_int_equal(rl_rules_publish(&t.seg, spec, 3, &other), 0);
	rule = t_rule(&t.seg.view, "r");
	sweep_init(&sweep, &t.seg);
}

static int setup(void **state)
{
	const struct rl_segment_spec spec = {.mode = 0660};

	(void)state;
	t_seg_make(&t, 400);
	fd = rl_alive_make(&t.seg, t.path, &spec, NULL);
	assert_true(fd >= 0);
	publish(RL_CONCURRENCY, 3);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(fd);
	t_seg_drop(&t);
	return 0;
}

static uint32_t holder(void)
{
	uint32_t who = 0;

	assert_int_equal(rl_holder_take(&t.seg, fd, 1, &who), 0);
	return who;
}

static int acquire(uint32_t who, const char *key, uint32_t cost, struct rl_answer *ret)
{
	return rl_inflight_acquire(&t.seg, &t.seg.member[0], who, rule, key, strlen(key), cost,
				   ret);
}

static int release(uint32_t who, const struct rl_answer *answer)
{
	return rl_inflight_release(&t.seg, who, rule, &answer->ticket);
}

static uint32_t used(const char *key)
{
	struct rl_answer answer;
	uint32_t units = 0;

	assert_true(rl_check_look(&t.seg.view, rule, key, strlen(key), 1, &answer, &units) >= 0);
	return units;
}

static uint64_t slot_of(const char *key, uint64_t *ret_head)
{
	struct rl_id id = rl_inflight_id(&t.seg.view, rule, key, strlen(key));
	uint64_t index = rl_table_find(&t.seg.view, &id, ret_head);

	assert_true(index != RL_NO_SLOT);
	return index;
}

static void pass_over_all(void)
{
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_clock_precise_ns());
}

static struct rl_hold_tidied tidy(void)
{
	struct rl_hold_tidied tidied;

	rl_hold_tidy(&t.seg, &tidied);
	return tidied;
}

static void test_inflight__limit_is_held_at_once_and_release_gives_one_back(void **state)
{
	struct rl_answer answer[4];
	uint32_t who = holder();

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(acquire(who, "k", 1, &answer[i]), 1);
		assert_int_equal(answer[i].remaining, 2 - i);
		assert_int_equal(answer[i].limit, 3);
		assert_int_equal(answer[i].window_ns, 0);
	}
	assert_int_equal(acquire(who, "k", 1, &answer[3]), 0);
	assert_int_equal(answer[3].remaining, 0);
	assert_int_equal(answer[3].ticket.place, 0);
	assert_int_equal(acquire(who, "else", 1, &answer[3]), 1);
	assert_int_equal(release(who, &answer[1]), 0);
	assert_int_equal(used("k"), 2);
	assert_int_equal(acquire(who, "k", 1, &answer[1]), 1);
	assert_int_equal(acquire(who, "k", 1, &answer[3]), 0);
}

static void test_inflight__cost_is_held_whole_and_given_back_whole(void **state)
{
	struct rl_answer two, one, no;
	uint32_t who = holder();

	(void)state;
	assert_int_equal(acquire(who, "k", 4, &no), RL_E_COST);
	assert_int_equal(acquire(who, "k", 2, &two), 1);
	assert_int_equal(acquire(who, "k", 2, &no), 0);
	assert_int_equal(no.remaining, 1);
	assert_int_equal(acquire(who, "k", 1, &one), 1);
	assert_int_equal(release(who, &two), 0);
	assert_int_equal(used("k"), 1);
	assert_int_equal(acquire(who, "k", 3, &no), 0);
	assert_int_equal(acquire(who, "k", 2, &two), 1);
}

static void test_inflight__ticket_is_good_once_for_its_holder_and_its_rule(void **state)
{
	struct rl_answer answer, other;
	uint32_t who = holder(), stranger = holder();

	(void)state;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	assert_int_equal(acquire(stranger, "k", 1, &other), 1);
	assert_int_equal(release(stranger, &answer), RL_E_TICKET);
	assert_int_equal(release(0, &answer), RL_E_TICKET);
	assert_int_equal(
		rl_inflight_release(&t.seg, who, t_rule(&t.seg.view, "other"), &answer.ticket),
		RL_E_RULE);
	assert_int_equal(rl_check_refund(&t.seg, &t.seg.member[0], rule, &answer.ticket), 0);
	assert_int_equal(used("k"), 2);
	assert_int_equal(release(who, &answer), 0);
	assert_int_equal(release(who, &answer), RL_E_TICKET);
	assert_int_equal(used("k"), 1);
}

static void test_inflight__any_words_are_no_ticket(void **state)
{
	uint64_t seed = t_seed();
	struct rl_answer answer;
	uint32_t who = holder();

	(void)state;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	for (int i = 0; i < 100000; i++) {
		struct rl_answer wrong = answer;
		uint64_t *word = &wrong.ticket.place + t_below(&seed, 3);

		*word ^= UINT64_C(1) << t_below(&seed, 64);
		assert_true(release(who, &wrong) < 0);
	}
	assert_int_equal(used("k"), 1);
}

static void test_inflight__changed_limit_is_obeyed_at_the_next_acquire(void **state)
{
	struct rl_answer answer[5];
	uint32_t who = holder();

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(acquire(who, "k", 1, &answer[i]), 1);
	publish(RL_CONCURRENCY, 5);
	assert_int_equal(acquire(who, "k", 1, &answer[3]), 1);
	assert_int_equal(acquire(who, "k", 1, &answer[4]), 1);
	publish(RL_CONCURRENCY, 2);
	pass_over_all();
	for (int i = 0; i < 4; i++) {
		struct rl_answer no;

		assert_int_equal(acquire(who, "k", 1, &no), 0);
		assert_int_equal(used("k"), 5 - i);
		assert_int_equal(release(who, &answer[i]), 0);
	}
	assert_int_equal(acquire(who, "k", 1, &answer[0]), 1);
	assert_int_equal(acquire(who, "k", 1, &answer[1]), 0);
}

static void test_inflight__thousand_holders_of_one_key_are_all_counted(void **state)
{
	static struct rl_answer answer[RL_HOLDERS_MAX];
	static uint32_t who[RL_HOLDERS_MAX];
	struct rl_answer no;
	uint64_t head;
	uint32_t none;

	(void)state;
	publish(RL_CONCURRENCY, RL_HOLDERS_MAX - 1);
	for (uint32_t i = 1; i < RL_HOLDERS_MAX; i++) {
		who[i] = holder();
		assert_int_equal(acquire(who[i], "k", 1, &answer[i]), 1);
	}
	assert_int_equal(rl_holder_take(&t.seg, fd, 1, &none), RL_E_HOLDERS);
	assert_int_equal(acquire(who[7], "k", 1, &no), 0);
	assert_int_equal(used("k"), RL_HOLDERS_MAX - 1);
	assert_int_equal(tidy().lines, (RL_HOLDERS_MAX - 1 + RL_HOLD_CELLS - 1) / RL_HOLD_CELLS);
	pass_over_all();
	for (uint32_t i = 1; i < RL_HOLDERS_MAX; i++)
		assert_int_equal(release(who[i], &answer[i]), 0);
	assert_int_equal(used("k"), 0);
	slot_of("k", &head);
	pass_over_all();
	assert_int_equal(t.seg.live->slots_freed, 1);
	assert_true(tidy().freed > 100);
	assert_int_equal(tidy().lines, 0);
}

static void test_inflight__what_left_is_given_back_and_nothing_else(void **state)
{
	struct rl_answer answer[3];
	uint32_t who = holder(), gone = holder();

	(void)state;
	assert_int_equal(acquire(who, "k", 1, &answer[0]), 1);
	assert_int_equal(acquire(gone, "k", 2, &answer[1]), 1);
	assert_int_equal(acquire(gone, "l", 1, &answer[2]), 1);
	rl_holder_leave(&t.seg, fd, gone);
	assert_int_equal(used("k"), 3);
	assert_int_equal(tidy().units, 3);
	assert_int_equal(used("k"), 1);
	assert_int_equal(used("l"), 0);
	assert_int_equal(release(gone, &answer[1]), RL_E_TICKET);
	assert_int_equal(acquire(gone, "k", 1, &answer[1]), RL_E_HOLDER);
	assert_int_equal(used("k"), 1);
	/* The number goes to another, who is not the one before. */
	rl_holder_free(&t.seg, rl_holder_number(gone));
	assert_int_equal(rl_holder_number(holder()), rl_holder_number(gone));
	assert_int_equal(acquire(gone, "k", 1, &answer[1]), RL_E_HOLDER);
	assert_int_equal(release(who, &answer[0]), 0);
}

static void test_inflight__wiped_slot_starts_anew_and_old_tickets_are_none(void **state)
{
	struct rl_answer before, after;
	uint32_t who = holder();
	uint64_t head, index;

	(void)state;
	assert_int_equal(acquire(who, "k", 3, &before), 1);
	index = slot_of("k", &head);
	t.seg.slot[index].state = 12345; /* damaged */
	pass_over_all();
	assert_int_equal(acquire(who, "k", 2, &after), 1);
	assert_int_equal(release(who, &before), RL_E_TICKET);
	assert_int_equal(tidy().freed, 1);
	assert_int_equal(used("k"), 2);
	assert_int_equal(release(who, &before), RL_E_TICKET);
	assert_int_equal(release(who, &after), 0);
}

static void test_inflight__rule_that_comes_back_finds_what_is_in_flight(void **state)
{
	struct rl_answer answer, no;
	uint32_t who = holder();

	(void)state;
	assert_int_equal(acquire(who, "k", 2, &answer), 1);
	publish(RL_SLIDING, 3);
	assert_int_equal(acquire(who, "k", 1, &no), RL_E_ALGORITHM);
	assert_int_equal(rl_check_spend(&t.seg, &t.seg.member[0], rule, "k", 1, 3, 0, &no), 1);
	pass_over_all();
	publish(RL_CONCURRENCY, 3);
	pass_over_all();
	assert_int_equal(used("k"), 2);
	assert_int_equal(acquire(who, "k", 2, &no), 0);
	publish(2, 3);
	pass_over_all();
	assert_int_equal(release(who, &answer), 0);
	pass_over_all();
	publish(RL_CONCURRENCY, 3);
	assert_int_equal(acquire(who, "k", 3, &answer), 1);
}

static void test_inflight__pool_of_lines_is_an_error_when_it_is_used_up(void **state)
{
	static struct rl_answer answer[RL_HOLDS_MIN + 1];
	uint32_t who = holder();
	char key[16];

	(void)state;
	assert_int_equal(t.seg.view.hold_count, RL_HOLDS_MIN);
	for (uint32_t i = 0; i <= RL_HOLDS_MIN; i++) {
		snprintf(key, sizeof(key), "%u", i);
		assert_int_equal(acquire(who, key, 1, &answer[i]),
				 i < RL_HOLDS_MIN ? 1 : RL_E_FULL);
	}
	assert_int_equal(acquire(who, "0", 1, &answer[RL_HOLDS_MIN]), 1);
	assert_int_equal(release(who, &answer[9]), 0);
	pass_over_all();
	assert_int_equal(tidy().freed, 1);
	assert_int_equal(acquire(who, "one more", 1, &answer[9]), 1);
}

static struct rl_hold *line_of(const struct rl_answer *answer)
{
	return &t.seg.hold[(answer->ticket.place >> 34) - 1];
}

static uint64_t busy_index;
static bool step_done;

static void free_the_slot(void *unused)
{
	(void)unused;
	step_done = rl_inflight_free_idle(&t.seg, busy_index, t.seg.slot[busy_index].head);
}

/* Seen, then freed, then asked for: what was asked of the old line holds nothing. */
static void test_inflight__slot_freed_before_one_asks_is_not_held_in(void **state)
{
	struct rl_answer answer;
	uint32_t who = holder();
	uint64_t head;

	(void)state;
	if (t_under_tsan())
		return;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	assert_int_equal(release(who, &answer), 0);
	busy_index = slot_of("k", &head);
	t_upon_access(line_of(&answer), PROT_READ, free_the_slot, NULL);
	assert_int_equal(acquire(who, "k", 2, &answer), 1);
	assert_true(step_done);
	assert_int_equal(used("k"), 2);
	tidy();
	assert_int_equal(used("k"), 2);
	assert_int_equal(release(who, &answer), 0);
}

static struct rl_answer late_answer;

static void acquire_late(void *who)
{
	step_done = acquire(*(uint32_t *)who, "k", 1, &late_answer) == 1;
}

/* Seen to be idle, then acquired, then marked as closing: it is not freed. */
static void test_inflight__slot_acquired_before_it_is_closed_is_not_freed(void **state)
{
	struct rl_answer answer;
	uint32_t who = holder();
	uint64_t head, index;

	(void)state;
	if (t_under_tsan())
		return;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	assert_int_equal(release(who, &answer), 0);
	index = slot_of("k", &head);
	step_done = false;
	t_upon_access(&t.seg.slot[index], PROT_READ, acquire_late, &who);
	assert_false(rl_inflight_free_idle(&t.seg, index, head));
	assert_true(step_done);
	assert_int_equal(used("k"), 1);
	assert_int_equal(acquire(who, "k", 2, &answer), 1);
	assert_int_equal(release(who, &late_answer), 0);
}

static void test_inflight__agent_killed_while_closing_leaves_what_is_held(void **state)
{
	struct rl_answer answer, more;
	uint32_t who = holder();
	uint64_t head, index;

	(void)state;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	index = slot_of("k", &head);
	t.seg.slot[index].state |= RL_HOLD_CLOSING;
	assert_int_equal(acquire(who, "k", 1, &more), RL_E_BUSY);
	pass_over_all();
	assert_int_equal(used("k"), 1);
	assert_int_equal(acquire(who, "k", 1, &more), 1);
	assert_int_equal(release(who, &answer), 0);
	assert_int_equal(release(who, &more), 0);
	t.seg.slot[index].state |= RL_HOLD_CLOSING;
	pass_over_all();
	assert_true(rl_head_is(t.seg.slot[index].head, RL_KIND_FREE));
}

static void leave_now(void *who)
{
	rl_holder_leave(&t.seg, fd, *(uint32_t *)who);
	tidy();
	step_done = true;
}

/* Taken for dead, and its cells emptied, just before it asks. */
static void test_inflight__holder_taken_for_dead_before_it_asks_holds_nothing(void **state)
{
	struct rl_answer answer;
	uint32_t who = holder(), other = holder();

	(void)state;
	if (t_under_tsan())
		return;
	assert_int_equal(acquire(other, "k", 1, &answer), 1);
	step_done = false;
	t_upon_access(line_of(&answer), PROT_READ, leave_now, &who);
	assert_int_equal(acquire(who, "k", 1, &answer), RL_E_HOLDER);
	assert_true(step_done);
	assert_int_equal(used("k"), 1);
}

/* A unit short: of two that ask at once, the one in the first cell gets it. */
static void test_inflight__of_two_that_ask_the_first_gets_it(void **state)
{
	uint32_t first = holder(), second = holder();
	struct rl_hold_place place;
	struct rl_answer a[2], no;
	struct rl_hold_sum seen;
	uint64_t head, index;
	bool alone;

	(void)state;
	assert_int_equal(acquire(first, "k", 1, &a[0]), 1);
	assert_int_equal(acquire(second, "k", 1, &a[1]), 1);
	index = slot_of("k", &head);
	/* The first is stopped between asking and looking. */
	rl_hold_sum(&t.seg.view, t.seg.slot[index].state, first, NULL, &seen);
	assert_true(rl_hold_ask(&t.seg, &seen, first, 1, &place, &alone));
	assert_true(alone);
	assert_int_equal(acquire(second, "k", 1, &no), 0);
	assert_int_equal(used("k"), 2);
	assert_true(rl_hold_grant(&t.seg, place, first, 1));
	assert_int_equal(used("k"), 3);
	assert_false(rl_hold_grant(&t.seg, place, first, 1));
	assert_int_equal(acquire(second, "k", 1, &no), 0);
}

static void test_inflight__line_of_a_dead_claimant_is_found_and_of_a_living_left(void **state)
{
	uint32_t who = holder(), gone = holder();
	struct rl_answer answer;
	uint64_t head, index;

	(void)state;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	index = slot_of("k", &head);
	for (int dead = 0; dead < 2; dead++) {
		uint64_t owner = UINT64_C(1) << 63 | index << 31 |
				 (rl_head_n(head) & RL_LIFE_MASK) << 22 |
				 (uint64_t)rl_holder_number(gone) << 12 | gone % RL_HOLDER_LIVES;

		t.seg.hold[77].owner = owner; /* claimed, and not linked */
		if (dead == 1)
			rl_holder_leave(&t.seg, fd, gone);
		assert_int_equal(tidy().freed, dead);
		assert_int_equal(t.seg.hold[77].owner != 0, dead == 0);
	}
	assert_int_equal(used("k"), 1);
	assert_int_equal(acquire(who, "k", 2, &answer), 1);
}

static void test_inflight__late_link_to_a_freed_line_counts_as_none(void **state)
{
	uint32_t who = holder(), late = holder();
	struct rl_answer answer[8];
	struct rl_hold_sum seen;
	uint64_t head, index, state_word;

	(void)state;
	publish(RL_CONCURRENCY, 100);
	assert_int_equal(acquire(who, "k", 1, &answer[0]), 1);
	index = slot_of("k", &head);
	state_word = t.seg.slot[index].state;
	rl_hold_sum(&t.seg.view, state_word, late, NULL, &seen);
	/* Its link: line 77 as it was before it was freed. */
	t.seg.hold[77].owner = 1; /* of no slot */
	tidy();
	assert_int_equal(t.seg.hold[77].owner, 0);
	t.seg.hold[seen.last].next = (seen.last_next & ~((UINT64_C(1) << 44) - 1)) | 78;
	for (uint32_t i = 1; i < 8; i++)
		assert_int_equal(acquire(holder(), "k", 1, &answer[i]), 1);
	assert_int_equal(used("k"), 8);
	assert_int_equal(t.seg.hold[77].cell[0], 0);
}

static void test_inflight__damaged_words_neither_crash_nor_hang(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 2000; i++) {
		_Atomic uint64_t *lines = &t.seg.hold[0].owner;
		struct rl_answer answer[3];
		uint32_t who = holder();
		uint64_t head, index;

		for (int a = 0; a < 3; a++)
			acquire(who, "k", 1, &answer[a]);
		for (int w = 0; w < 40; w++)
			lines[t_below(&seed, t.seg.view.hold_count * 8)] =
				t_random(&seed) >> t_below(&seed, 64);
		index = slot_of("k", &head);
		if (t_below(&seed, 2) == 0)
			t.seg.slot[index].state = t_random(&seed) >> t_below(&seed, 64);
		for (int a = 0; a < 3; a++)
			release(who, &answer[a]);
		acquire(who, "k", 1, &answer[0]);
		rl_holder_leave(&t.seg, fd, who);
		tidy();
		rl_holder_free(&t.seg, rl_holder_number(who));
		pass_over_all();
		rl_table_wipe(&t.seg, index, t.seg.slot[index].head);
		tidy();
	}
}

static void test_inflight__other_calls_say_that_they_are_the_wrong_ones(void **state)
{
	struct rl_client *client;
	struct rl_result result;
	struct rl_ask ask = {.key = "k", .key_len = 1, .cost = 1};
	struct rl_key key;
	uint64_t rate;

	(void)state;
	client = t_attach(&t);
	rate = t_client_rule(client, "rate");
	ask.rule = rule;
	assert_int_equal(rl_check(client, rule, "k", 1, 1, 0, NULL), RL_ERR_ALGORITHM);
	assert_int_equal(rl_check_all(client, &ask, 1), RL_ERR_ALGORITHM);
	assert_int_equal(rl_check_batch(client, &ask, 1), 0);
	assert_int_equal(ask.answer, RL_ERR_ALGORITHM);
	assert_int_equal(rl_key_make(client, rule, "k", 1, &key), 0);
	assert_int_equal(rl_check_key(client, &key, 1, 0, NULL), RL_ERR_ALGORITHM);
	assert_int_equal(rl_acquire(client, rate, "k", 1, 1, &result), RL_ERR_ALGORITHM);
	assert_int_equal(rl_acquire(client, rule, "k", 1, 4, &result), RL_ERR_COST);
	assert_int_equal(rl_acquire(client, rule, "k", 1, 1, NULL), -EINVAL);
	assert_int_equal(rl_acquire(client, rule, "k", 0, 1, &result), -EINVAL);
	assert_int_equal(rl_release(client, rule, NULL), -EINVAL);
	assert_int_equal(rl_peek(client, rule, "k", 1, 1, &result), RL_ALLOWED);
	assert_int_equal(result.remaining, 3);
	assert_int_equal(rl_release(client, rule, &result), RL_ERR_TICKET);
	assert_int_equal(rl_check(client, rate, "k", 1, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(rl_release(client, rate, &result), RL_ERR_TICKET);
	assert_int_equal(rl_refund(client, rate, &result), RL_REFUNDED);
	assert_int_equal(rl_acquire(client, rule, "k", 1, 2, &result), RL_ALLOWED);
	assert_int_equal(rl_refund(client, rule, &result), RL_ERR_ALGORITHM);
	assert_int_equal(rl_reset(client, rule, "k", 1), RL_ERR_ALGORITHM);
	assert_int_equal(rl_block(client, rule, "k", 1, 1000), RL_ERR_ALGORITHM);
	assert_int_equal(rl_release(client, rate, &result), RL_ERR_RULE);
	assert_int_equal(rl_release(client, rule, &result), 0);
	assert_int_equal(rl_release(client, rule, &result), RL_ERR_TICKET);
	rl_detach(client);
}

static void test_inflight__shadow_and_lists_let_pass_or_refuse_whatever_is_held(void **state)
{
	const struct rl_list_item item[] = {
		{.key = "friend", .key_len = 6, .verdict = RL_VERDICT_ALLOW},
		{.key = "foe", .key_len = 3, .verdict = RL_VERDICT_DENY}};
	struct rl_rule_spec spec = {.name = "r",
				    .terms = {1, RL_WINDOW_MIN_NS},
				    .algorithm = RL_CONCURRENCY,
				    .list = item,
				    .list_count = 2};
	struct rl_answer answer, second;
	uint32_t who = holder();
	size_t other;

	(void)state;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	assert_int_equal(acquire(who, "foe", 1, &answer), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(acquire(who, "friend", 1, &answer), 1);
		assert_int_equal(release(who, &answer), 0);
	}
	spec.shadow_ppm = 1000000;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	assert_int_equal(acquire(who, "k", 1, &second), 1);
	assert_int_equal(second.window_ns, 0);
	assert_int_equal(used("k"), 1);
	assert_int_equal(release(who, &second), 0);
	assert_int_equal(used("k"), 1);
	assert_int_equal(release(who, &answer), 0);
	assert_int_equal(used("k"), 0);
}

static void test_inflight__missing_or_foreign_file_is_an_error(void **state)
{
	struct rl_client *client;
	struct rl_result result;
	char name[sizeof(t.path) + 8];
	int other;

	(void)state;
	snprintf(name, sizeof(name), "%s.alive", t.path);
	assert_int_equal(unlink(name), 0);
	client = t_attach(&t);
	assert_int_equal(rl_acquire(client, rule, "k", 1, 1, &result), -ENOENT);
	other = open(name, O_CREAT | O_RDWR, 0600);
	assert_true(other >= 0);
	assert_int_equal(rl_acquire(client, rule, "k", 1, 1, &result), -ESTALE);
	close(other);
	rl_detach(client);
}

static void test_inflight__agent_mends_holders_that_are_none(void **state)
{
	struct rl_answer answer;
	struct inflight agent;
	uint32_t who = holder();

	(void)state;
	inflight_init(&agent, &t.seg);
	agent.fd = fd;
	assert_int_equal(acquire(who, "k", 1, &answer), 1);
	t.seg.holders->word[0] = 1;
	for (uint32_t i = 2; i < RL_HOLDERS_MAX; i++)
		t.seg.holders->word[i] = UINT64_MAX - i;
	assert_int_equal(rl_holder_take(&t.seg, fd, 1, &who), RL_E_HOLDERS);
	inflight_pass(&agent);
	assert_int_equal(t.seg.holders->word[0], 0);
	for (uint32_t i = 2; i < RL_HOLDERS_MAX; i++)
		assert_int_equal(rl_holder_state(t.seg.holders->word[i]), RL_HOLDER_FREE);
	holder();
	assert_int_equal(used("k"), 1); /* a sound one is left alone */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inflight__limit_is_held_at_once_and_release_gives_one_back),
		TEST(test_inflight__cost_is_held_whole_and_given_back_whole),
		TEST(test_inflight__ticket_is_good_once_for_its_holder_and_its_rule),
		TEST(test_inflight__any_words_are_no_ticket),
		TEST(test_inflight__changed_limit_is_obeyed_at_the_next_acquire),
		TEST(test_inflight__thousand_holders_of_one_key_are_all_counted),
		TEST(test_inflight__what_left_is_given_back_and_nothing_else),
		TEST(test_inflight__wiped_slot_starts_anew_and_old_tickets_are_none),
		TEST(test_inflight__rule_that_comes_back_finds_what_is_in_flight),
		TEST(test_inflight__pool_of_lines_is_an_error_when_it_is_used_up),
		TEST(test_inflight__slot_freed_before_one_asks_is_not_held_in),
		TEST(test_inflight__slot_acquired_before_it_is_closed_is_not_freed),
		TEST(test_inflight__agent_killed_while_closing_leaves_what_is_held),
		TEST(test_inflight__holder_taken_for_dead_before_it_asks_holds_nothing),
		TEST(test_inflight__of_two_that_ask_the_first_gets_it),
		TEST(test_inflight__line_of_a_dead_claimant_is_found_and_of_a_living_left),
		TEST(test_inflight__late_link_to_a_freed_line_counts_as_none),
		TEST(test_inflight__damaged_words_neither_crash_nor_hang),
		TEST(test_inflight__other_calls_say_that_they_are_the_wrong_ones),
		TEST(test_inflight__shadow_and_lists_let_pass_or_refuse_whatever_is_held),
		TEST(test_inflight__missing_or_foreign_file_is_an_error),
		TEST(test_inflight__agent_mends_holders_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
