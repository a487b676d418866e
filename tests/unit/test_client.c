/*
 * Goal:   rl.h keeps what its comments say: answers, errors, and one limit for all who ask.
 * Method: the public functions on a segment made by the test, with the real clock; windows
 *         are hours where nothing may expire, and 20 ms where something must.
 */
#include "tests/t.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl.h"
#include "shm/rl_check.h"
#include "shm/rl_check_usual.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_member.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

struct fixture {
	struct t_seg t;
	struct rl_client *client;
	uint64_t hourly, brief; /* 5/h, 3/20ms */
};

static int setup(void **state)
{
	static struct fixture f;
	char why[RL_WHY_SIZE];

	t_seg_make(&f.t, 200);
	t_rules(&f.t.seg, 2, "hourly 5/h", "brief 3/20ms");
	if (rl_attach(f.t.path, &f.client, why) != 0)
		fail_msg("%s", why);
	assert_int_equal(rl_rule(f.client, "hourly", &f.hourly), 0);
	assert_int_equal(rl_rule(f.client, "brief", &f.brief), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rl_detach(f->client);
	t_seg_drop(&f->t);
	return 0;
}

static int ask(struct fixture *f, uint64_t rule, const char *key)
{
	return rl_check(f->client, rule, key, strlen(key), 1, 0, NULL);
}

static void admit_one_more(void *head)
{
	atomic_fetch_add((_Atomic uint64_t *)head, UINT64_C(1) << RL_HEAD_N_SHIFT);
}

/*
 * Another process is first between a check's look at the slot and its CAS. By the same steps it is
 * tried again: what leaves them starts over from the rule's lists, and loses to a process that
 * makes one check after the other.
 */
static void
test_client__a_check_that_another_one_overtook_is_tried_again_by_the_same_steps(void **state)
{
	struct fixture *f = *state;
	struct rl_id id = rl_hash_key(f->t.seg.view.hash_key, rl_pair_high(f->hourly), "k", 1);
	struct rl_answer answer;
	uint64_t index, head;

	if (t_under_tsan())
		return;
	assert_int_equal(ask(f, f->hourly, "k"), RL_ALLOWED);
	index = rl_table_find(&f->t.seg.view, &id, &head);
	assert_int_not_equal(index, RL_NO_SLOT);
	t_upon_access(&f->t.seg.slot[index], PROT_READ, admit_one_more, &f->t.seg.slot[index].head);
	assert_int_equal(rl_check_usual(&f->t.seg, rl_member_take(&f->t.seg, 1), f->hourly, &id,
					index, &answer),
			 1);
	assert_int_equal(answer.remaining, 5 - 3);
	assert_int_equal(rl_head_n(f->t.seg.slot[index].head), rl_head_n(head) + 2);
}

static void test_client__limit_holds_and_result_says_so(void **state)
{
	struct fixture *f = *state;
	struct rl_result result;

	for (uint32_t i = 0; i < 5; i++) {
		memset(&result, 0xff, sizeof(result));
		assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 1, 0, &result),
				 RL_ALLOWED);
		assert_int_equal(result.limit, 5);
		assert_int_equal(result.remaining, 4 - i);
		assert_int_equal(result.retry_after_ns, 0);
		assert_int_equal(result.state, RL_STATE_FRESH);
		assert_int_equal(result.window_ns, 3600 * RL_SECOND_NS);
		assert_int_equal(result.decided_by | result.delay_ns, 0);
	}
	assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 1, 0, &result), RL_LIMITED);
	assert_int_equal(result.remaining, 0);
	assert_true(result.retry_after_ns > 3599 * RL_SECOND_NS);
	assert_true(result.retry_after_ns <= 3600 * RL_SECOND_NS + RL_SECOND_NS / 10);
}

static void test_client__keys_and_rules_do_not_share(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	assert_int_equal(ask(f, f->hourly, "bob"), RL_LIMITED);
	assert_int_equal(ask(f, f->hourly, "alice"), RL_ALLOWED);
	assert_int_equal(ask(f, f->brief, "bob"), RL_ALLOWED);
	assert_int_equal(rl_check(f->client, f->hourly, "bob\0", 4, 1, 0, NULL), RL_ALLOWED);
}

static void test_client__refused_key_is_admitted_when_the_window_has_passed(void **state)
{
	struct fixture *f = *state;
	struct rl_result result = {0};
	uint64_t start = t_now_ns(), waited;

	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(f, f->brief, "bob"), RL_ALLOWED);
	while (rl_check(f->client, f->brief, "bob", 3, 1, 0, &result) == RL_LIMITED)
		assert_true(result.retry_after_ns <= 20000001);
	waited = t_now_ns() - start;
	assert_true(waited >= 20000000);
}

/* One unit is spent; the next one's wait ends the window and its clock's hold after it. */
static void assert_held(struct rl_seg *seg, const char *rule, uint64_t held_ns)
{
	uint64_t handle = t_rule(&seg->view, rule);
	struct rl_answer spent, refused;

	assert_int_equal(rl_check_spend(seg, &seg->member[0], handle, "bob", 3, 1, 0, &spent), 1);
	assert_int_equal(rl_check_spend(seg, &seg->member[0], handle, "bob", 3, 1, 0, &refused), 0);
	assert_int_equal(refused.now_ns + refused.wait_ns, spent.now_ns + held_ns);
}

static void test_client__unit_is_held_for_its_window_and_the_error_of_its_clock(void **state)
{
	struct rl_seg *seg = &((struct fixture *)*state)->t.seg;

	t_rules(seg, 2, "precise 1/9999ms", "coarse 1/10s");
	assert_held(seg, "precise", 10 * RL_SECOND_NS - 1000000 + 1);
	assert_held(seg, "coarse", 10 * RL_SECOND_NS + 2 * seg->view.tick_ns + 1);
}

static void test_client__slot_keeps_its_clock_until_it_is_rebased(void **state)
{
	struct rl_seg *seg = &((struct fixture *)*state)->t.seg;
	struct rl_answer spent, refused;
	uint64_t rule;

	t_rules(seg, 1, "login 1/10s");
	rule = t_rule(&seg->view, "login");
	assert_int_equal(rl_check_spend(seg, &seg->member[0], rule, "bob", 3, 1, 0, &spent), 1);
	t_rules(seg, 1, "login 1/9s"); /* precise, but the stamp is of the coarse clock */
	assert_int_equal(rl_check_spend(seg, &seg->member[0], rule, "bob", 3, 1, 0, &refused), 0);
	assert_int_equal(refused.now_ns + refused.wait_ns,
			 spent.now_ns + 9 * RL_SECOND_NS + 2 * seg->view.tick_ns + 1);
}

static void test_client__cost_is_taken_whole_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	struct rl_result result;

	assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 3, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 3, 0, &result), RL_LIMITED);
	assert_int_equal(result.remaining, 2);
	assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 2, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check(f->client, f->hourly, "eve", 3, 5, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check(f->client, f->hourly, "eve", 3, 6, 0, NULL), RL_ERR_COST);
	assert_int_equal(rl_check(f->client, f->hourly, "eve", 3, UINT32_MAX, 0, NULL),
			 RL_ERR_COST);
}

static void test_client__bad_arguments_are_einval_and_zero_the_result(void **state)
{
	struct fixture *f = *state;
	struct rl_result result;
	char key[RL_KEY_MAX + 1] = {0};

	memset(&result, 0xff, sizeof(result));
	assert_int_equal(rl_check(f->client, f->hourly, key, 0, 1, 0, &result), -EINVAL);
	assert_int_equal(result.limit | result.state | result.remaining, 0);
	assert_int_equal(rl_check(f->client, f->hourly, key, RL_KEY_MAX + 1, 1, 0, NULL), -EINVAL);
	assert_int_equal(rl_check(f->client, f->hourly, key, RL_KEY_MAX, 1, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check(f->client, f->hourly, key, 1, 0, 0, NULL), -EINVAL);
	assert_int_equal(rl_check(f->client, f->hourly, NULL, 1, 1, 0, NULL), -EINVAL);
	assert_int_equal(rl_check(NULL, f->hourly, key, 1, 1, 0, NULL), -EINVAL);
	assert_int_equal(rl_rule(f->client, NULL, &f->hourly), -EINVAL);
}

static void test_client__unknown_and_removed_rules_are_errors_not_limits(void **state)
{
	struct fixture *f = *state;
	uint64_t handle = 4711;

	assert_int_equal(rl_rule(f->client, "nobody", &handle), RL_ERR_RULE);
	assert_int_equal(handle, 4711);
	t_rules(&f->t.seg, 1, "brief 3/20ms");
	assert_int_equal(ask(f, f->hourly, "bob"), RL_ERR_RULE);
}

static void test_client__full_table_is_an_error_for_new_keys_only(void **state)
{
	struct fixture *f = *state;
	struct rl_totals totals;
	char key[32];
	int got = 0;

	assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	for (int i = 0; got >= 0 && i < 100000; i++)
		got = rl_check(f->client, f->hourly, key, (size_t)snprintf(key, 32, "k%d", i), 1, 0,
			       NULL);
	assert_int_equal(got, RL_ERR_FULL);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	assert_int_equal(ask(f, f->hourly, "bob"), RL_LIMITED);
	rl_member_totals(&f->t.seg.view, &totals);
	assert_true(totals.full >= 1); /* some had a slot of the rule's pool yet */
	assert_int_equal(totals.errors, 1);
}

static void test_client__lowered_limit_counts_at_the_next_check(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	t_rules(&f->t.seg, 1, "hourly 3/h");
	assert_int_equal(ask(f, f->hourly, "bob"), RL_LIMITED);
	t_rules(&f->t.seg, 1, "hourly 4/h");
	assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	assert_int_equal(ask(f, f->hourly, "bob"), RL_LIMITED);
}

static void test_client__raise_beyond_the_ring_admits_what_the_ring_remembers(void **state)
{
	/* q = 1 remembers 23; the rest of the raise comes when the agent has re-based the slot. */
	struct fixture *f = *state;
	int admitted = 0;

	for (int i = 0; i < 5; i++)
		ask(f, f->hourly, "bob");
	t_rules(&f->t.seg, 1, "hourly 1000/h");
	while (admitted < 2000 && ask(f, f->hourly, "bob") == RL_ALLOWED)
		admitted++;
	assert_int_equal(admitted, 18);
	assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 500, 0, NULL), RL_LIMITED);
	assert_int_equal(ask(f, f->hourly, "new"), RL_ALLOWED);
}

static void test_client__old_heartbeat_is_alone(void **state)
{
	struct fixture *f = *state;
	struct rl_result result;

	f->t.seg.live->beat_ns = rl_clock_precise_ns() - RL_SECOND_NS / 2;
	rl_check(f->client, f->hourly, "bob", 3, 1, 0, &result);
	assert_int_equal(result.state, RL_STATE_FRESH);
	f->t.seg.live->beat_ns = rl_clock_precise_ns() - 2 * RL_SECOND_NS;
	assert_int_equal(rl_check(f->client, f->hourly, "bob", 3, 1, 0, &result), RL_ALLOWED);
	assert_int_equal(result.state, RL_STATE_ALONE);
	assert_true(rl_agent_age_ms(f->client) >= 2000);
	rl_clock_beat(f->t.seg.live);
	assert_true(rl_agent_age_ms(f->client) < 1000);
}

static void test_client__two_handles_share_one_limit(void **state)
{
	struct fixture *f = *state;
	struct rl_client *second;
	uint64_t rule;

	assert_int_equal(rl_attach(f->t.path, &second, NULL), 0);
	assert_int_equal(rl_rule(second, "hourly", &rule), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(
			rl_check(i % 2 == 0 ? f->client : second, rule, "bob", 3, 1, 0, NULL),
			RL_ALLOWED);
	assert_int_equal(ask(f, f->hourly, "bob"), RL_LIMITED);
	assert_int_equal(rl_check(second, rule, "bob", 3, 1, 0, NULL), RL_LIMITED);
	rl_detach(second);
	rl_detach(NULL);
}

/* qemu's user mode says that it does MADV_WIPEONFORK, and does not. */
static bool kernel_wipes_on_fork(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *at = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status = 1;
	pid_t child;

	assert_true(at != MAP_FAILED);
	madvise(at, page, MADV_WIPEONFORK);
	*at = 1;
	child = fork();
	if (child == 0)
		_exit(*at);
	assert_int_equal(waitpid(child, &status, 0), child);
	munmap(at, page);
	return status == 0;
}

static void test_client__child_goes_on_with_its_parents_handle_in_a_line_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct rl_totals totals;
	int status;
	pid_t child;

	if (!kernel_wipes_on_fork()) {
		printf("# left out: a forked child keeps its parent's pages here\n");
		return;
	}
	assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	child = fork();
	if (child == 0) {
		int got = ask(f, f->hourly, "bob");

		rl_member_totals(&f->t.seg.view, &totals);
		_exit(got == RL_ALLOWED && totals.members == 2 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	rl_member_totals(&f->t.seg.view, &totals);
	assert_int_equal(totals.members, 2);
	f->t.seg.member[0].owner = (uint64_t)getpid();   /* nobody's line, whatever it says */
	assert_int_equal(rl_member_sweep(&f->t.seg), 2); /* the child is gone, its numbers stay */
	rl_member_totals(&f->t.seg.view, &totals);
	assert_int_equal(totals.members, 1);
	assert_int_equal(totals.allowed, 2);
}

static void test_client__detached_handle_gives_its_line_back(void **state)
{
	struct fixture *f = *state;
	struct rl_client *second;
	struct rl_totals totals;

	assert_int_equal(rl_attach(f->t.path, &second, NULL), 0);
	assert_int_equal(rl_check(second, f->hourly, "bob", 3, 1, 0, NULL), RL_ALLOWED);
	rl_member_totals(&f->t.seg.view, &totals);
	assert_int_equal(totals.members, 1);
	rl_detach(second);
	rl_member_totals(&f->t.seg.view, &totals);
	assert_int_equal(totals.members, 0);
	assert_int_equal(totals.allowed, 1);
}

static void test_client__more_processes_than_lines_share_one_and_lose_nothing(void **state)
{
	struct fixture *f = *state;
	struct rl_totals totals;

	for (uint64_t i = 0; i < f->t.seg.view.member_count; i++)
		rl_member_take(&f->t.seg, 1000000 + i);
	assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	rl_member_totals(&f->t.seg.view, &totals);
	assert_int_equal(totals.allowed, 1);
	assert_int_equal(totals.members, f->t.seg.view.member_count - 1);
}

static void test_client__stamp_ahead_of_the_clock_costs_denial_not_excess(void **state)
{
	struct fixture *f = *state;
	struct rl_totals totals;
	uint64_t i;

	assert_int_equal(ask(f, f->brief, "bob"), RL_ALLOWED);
	for (i = 0; !rl_head_is_open(f->t.seg.slot[i].head); i++)
		;
	for (int r = 0; r < 24; r++)
		f->t.seg.slot[i].ring[r] = rl_clock_precise_ns() + RL_DAY_NS;
	while (ask(f, f->brief, "bob") == RL_LIMITED)
		;
	rl_member_totals(&f->t.seg.view, &totals);
	assert_true(totals.mended >= 1);
}

static void test_client__slot_closed_for_good_is_busy_not_a_limit(void **state)
{
	struct fixture *f = *state;
	uint64_t i;

	assert_int_equal(ask(f, f->hourly, "bob"), RL_ALLOWED);
	for (i = 0; !rl_head_is_open(f->t.seg.slot[i].head); i++)
		;
	f->t.seg.slot[i].head = rl_head_closed(rl_head_n(f->t.seg.slot[i].head), RL_KIND_REBASE);
	assert_int_equal(ask(f, f->hourly, "bob"), RL_ERR_BUSY);
}

static void test_client__attach_says_where_and_why(void **state)
{
	struct rl_client *client = NULL;
	char why[RL_WHY_SIZE];

	(void)state;
	assert_int_equal(rl_attach("/dev/shm/rl-none/seg", &client, why), -ENOENT);
	assert_string_equal(why, "cannot attach to /dev/shm/rl-none/seg: there is no such file: is "
				 "rl-agent running?");
	assert_null(client);
}

static void test_client__every_error_has_a_text(void **state)
{
	(void)state;
	for (int error = RL_ERR_SHORT; error >= RL_ERR_BUSY; error--)
		assert_string_not_equal(rl_strerror(error), "unknown error");
	assert_string_equal(rl_strerror(-EINVAL), "Invalid argument");
	assert_string_equal(rl_strerror(-99999), "unknown error");
	assert_string_equal(rl_strerror(5), "unknown error");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_client__a_check_that_another_one_overtook_is_tried_again_by_the_same_steps),
		TEST(test_client__limit_holds_and_result_says_so),
		TEST(test_client__keys_and_rules_do_not_share),
		TEST(test_client__refused_key_is_admitted_when_the_window_has_passed),
		TEST(test_client__unit_is_held_for_its_window_and_the_error_of_its_clock),
		TEST(test_client__slot_keeps_its_clock_until_it_is_rebased),
		TEST(test_client__cost_is_taken_whole_or_not_at_all),
		TEST(test_client__bad_arguments_are_einval_and_zero_the_result),
		TEST(test_client__unknown_and_removed_rules_are_errors_not_limits),
		TEST(test_client__full_table_is_an_error_for_new_keys_only),
		TEST(test_client__lowered_limit_counts_at_the_next_check),
		TEST(test_client__raise_beyond_the_ring_admits_what_the_ring_remembers),
		TEST(test_client__old_heartbeat_is_alone),
		TEST(test_client__two_handles_share_one_limit),
		TEST(test_client__child_goes_on_with_its_parents_handle_in_a_line_of_its_own),
		TEST(test_client__detached_handle_gives_its_line_back),
		TEST(test_client__more_processes_than_lines_share_one_and_lose_nothing),
		TEST(test_client__stamp_ahead_of_the_clock_costs_denial_not_excess),
		TEST(test_client__slot_closed_for_good_is_busy_not_a_limit),
		TEST(test_client__attach_says_where_and_why),
		TEST(test_client__every_error_has_a_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
