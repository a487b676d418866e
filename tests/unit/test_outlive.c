/*
 * Goal:   a client outlives its segment: it may be there before it, and follows when it is made
 *         anew, of another size too; what it holds of the old one stays harmless.
 * Method: rl.h on segments made, removed and replaced by the test. Where a moment matters the
 *         client's own times are set. test_outlive_steps.c moves it in the middle of a check.
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_member.h"

static struct t_seg t;
static struct rl_client *client;

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 200);
	t_rules(&t.seg, 2, "five 5/h", "other 7/h");
	client = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

/* As the next agent does when the file has been removed. The last mapping stays with the client. */
static void make_anew(uint64_t keys)
{
	const struct rl_segment_spec spec = {.keys = keys, .mode = 0660};
	char why[RL_WHY_MAX] = "";

	rl_segment_detach(&t.seg);
	if (rl_segment_create(t.path, &spec, &t.seg, why) != 0)
		fail_msg("%s", why);
}

static void remove_it(void)
{
	assert_int_equal(unlink(t.path), 0);
}

static void silence(struct rl_seg *seg)
{
	seg->live->beat_ns = rl_clock_precise_ns() - 2 * RL_SECOND_NS;
}

static void open_client(void)
{
	char why[RL_WHY_SIZE];

	if (rl_open(t.path, &client, why) != 0)
		fail_msg("%s", why);
}

static uint64_t rule_of(const char *name)
{
	uint64_t rule = 0;

	assert_int_equal(rl_rule(client, name, &rule), 0);
	return rule;
}

static int ask(uint64_t rule, const char *key)
{
	return rl_check(client, rule, key, strlen(key), 1, 0, NULL);
}

static void expect_five(uint64_t rule, const char *key)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(rule, key), RL_ALLOWED);
	assert_int_equal(ask(rule, key), RL_LIMITED);
}

/* The client may look again now. */
static void let_look(void)
{
	client->look_ns = 0;
}

static void end_grace(void)
{
	client_mapped(client)->since_ns = rl_clock_precise_ns() - GRACE_NS;
}

/* Mappings of this process's that are of a segment, or of one that was removed. */
static int mappings(const char *what)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	int count = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		count += strstr(line, t.dir) != NULL && strstr(line, what) != NULL;
	fclose(maps);
	return count;
}

static void test_outlive__without_a_segment_nothing_is_decided_and_the_reason_told(void **state)
{
	char why[RL_WHY_SIZE], other[RL_WHY_SIZE];
	struct rl_client *none = NULL;
	struct rl_result result;
	struct rl_key key;
	uint64_t rule;

	(void)state;
	remove_it();
	assert_int_equal(rl_attach(t.path, &none, why), -ENOENT);
	assert_null(none);
	assert_int_equal(rl_open(t.path, &client, other), 0);
	assert_string_equal(why, other);
	rule = rule_of("five");
	memset(&result, 0xff, sizeof(result));
	assert_int_equal(rl_check(client, rule, "bob", 3, 1, 0, &result), RL_ERR_ABSENT);
	assert_int_equal(result.limit | result.state | result.remaining, 0);
	assert_int_equal(rl_check(client, rule, "bob", 3, 1, RL_MAY_WAIT, NULL), RL_ERR_ABSENT);
	assert_int_equal(rl_check(client, rule, "bob", 0, 1, 0, NULL), -EINVAL);
	assert_int_equal(rl_peek(client, rule, "bob", 3, 1, &result), RL_ERR_ABSENT);
	assert_int_equal(rl_key_make(client, rule, "bob", 3, &key), RL_ERR_ABSENT);
	assert_int_equal(rl_refund(client, rule, &result), RL_KEPT);
	assert_int_equal(rl_reset(client, rule, "bob", 3), RL_ERR_ABSENT);
	assert_int_equal(rl_block(client, rule, "bob", 3, RL_SECOND_NS), RL_ERR_ABSENT);
	assert_int_equal(rl_check_at(client, rule, "bob", 3, 1, 1, NULL), RL_ERR_ABSENT);
	assert_true(rl_agent_age_ms(client) == UINT64_MAX);
	assert_int_equal(rl_refresh(client, other), -ENOENT);
	assert_string_equal(why, other);
	assert_int_equal(rl_refresh(NULL, NULL), -EINVAL);
	assert_string_not_equal(rl_strerror(RL_ERR_ABSENT), "unknown error");
}

static void test_outlive__several_rules_and_batches_are_absent_one_by_one(void **state)
{
	struct rl_ask all[2] = {{.key = "bob", .key_len = 3, .cost = 1},
				{.key = "eve", .key_len = 3, .cost = 1}};

	(void)state;
	remove_it();
	open_client();
	all[0].rule = all[1].rule = rule_of("five");
	assert_int_equal(rl_check_all(client, all, 2), RL_ERR_ABSENT);
	assert_int_equal(all[0].answer, RL_ERR_ABSENT);
	all[0].answer = all[1].answer = 0;
	assert_int_equal(rl_check_batch(client, all, 2), 0);
	assert_int_equal(all[0].answer, RL_ERR_ABSENT);
	assert_int_equal(all[1].answer, RL_ERR_ABSENT);
}

static void test_outlive__handle_of_before_the_segment_is_good_in_it(void **state)
{
	uint64_t five, other, none, early;

	(void)state;
	remove_it();
	open_client();
	five = rule_of("five");
	other = rule_of("other");
	none = rule_of("nobody");
	assert_int_equal(rl_rule(client, "no name", &early), RL_ERR_RULE);
	assert_int_equal(rl_rule(client, "", &early), RL_ERR_RULE);
	make_anew(200);
	t_rules(&t.seg, 3, "first 1/h", "other 7/h", "five 5/h");
	assert_int_equal(rl_refresh(client, NULL), 1);
	assert_int_equal(rl_refresh(client, NULL), 0);
	expect_five(five, "bob");
	for (int i = 0; i < 7; i++)
		assert_int_equal(ask(other, "bob"), RL_ALLOWED);
	assert_int_equal(ask(other, "bob"), RL_LIMITED);
	assert_int_equal(ask(none, "bob"), RL_ERR_RULE);
	assert_int_equal(rl_rule(client, "nobody", &early), RL_ERR_RULE);
	assert_true(rule_of("five") >> 32 == five >> 32);
}

static void test_outlive__absent_client_attaches_by_itself(void **state)
{
	uint64_t five, start, waited;
	int got;

	(void)state;
	remove_it();
	open_client();
	five = rule_of("five");
	assert_int_equal(ask(five, "bob"), RL_ERR_ABSENT);
	make_anew(200);
	t_rules(&t.seg, 1, "five 5/h");
	start = t_now_ns();
	do {
		got = ask(five, "bob");
		waited = t_now_ns() - start;
	} while (got == RL_ERR_ABSENT && waited < 10 * RL_SECOND_NS);
	printf("# attached after %.0f ms\n", (double)waited / 1e6);
	assert_int_equal(got, RL_ALLOWED);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
}

static void test_outlive__path_is_the_one_of_the_start_wherever_the_process_goes(void **state)
{
	char here[PATH_MAX];
	uint64_t five;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	remove_it();
	assert_int_equal(chdir(t.dir), 0);
	assert_int_equal(rl_open("seg", &client, NULL), 0);
	assert_int_equal(chdir("/"), 0);
	five = rule_of("five");
	make_anew(200);
	t_rules(&t.seg, 1, "five 5/h");
	assert_int_equal(rl_refresh(client, NULL), 1);
	expect_five(five, "bob");
	assert_int_equal(chdir(here), 0);
}

static void test_outlive__path_too_long_makes_no_client(void **state)
{
	char path[PATH_MAX + 8], why[RL_WHY_SIZE];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[PATH_MAX] = '\0';
	assert_int_equal(rl_open(path, &client, why), -ENAMETOOLONG);
	assert_null(client);
	path[PATH_MAX - 1] = '\0';
	assert_int_equal(rl_attach(path, &client, why), -ENAMETOOLONG); /* the kernel says so */
}

static void test_outlive__silent_agent_makes_checks_look_and_a_fresh_one_does_not(void **state)
{
	struct rl_seg old;
	uint64_t five;

	(void)state;
	open_client();
	five = rule_of("five");
	assert_int_equal(rl_segment_attach(t.path, &old, NULL), 0);
	expect_five(five, "bob");
	remove_it();
	make_anew(200);
	t_rules(&t.seg, 1, "five 5/h");
	assert_int_equal(ask(five, "bob"), RL_LIMITED); /* the old agent is alive: no look */
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
	silence(&old);
	assert_int_equal(ask(five, "bob"), RL_LIMITED); /* the old one's answer; now it looks */
	expect_five(five, "bob");
	rl_segment_detach(&old);
}

static void test_outlive__looks_are_a_quarter_of_a_second_apart(void **state)
{
	uint64_t five, first;

	(void)state;
	open_client();
	five = rule_of("five");
	silence(&t.seg);
	first = rl_clock_read_ns(CLOCK_MONOTONIC_COARSE);
	assert_int_equal(ask(five, "bob"), RL_ALLOWED); /* looks: it is there */
	assert_true(client->look_ns >= first + LOOK_NS);
	assert_true(client->look_ns <= rl_clock_precise_ns() + LOOK_NS);
	remove_it();
	make_anew(200);
	t_rules(&t.seg, 1, "five 5/h");
	client->look_ns = rl_clock_precise_ns() + 3600 * RL_SECOND_NS;
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
	let_look();
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
	expect_five(five, "bob");
}

static void test_outlive__rule_that_is_only_in_the_new_segment_is_found(void **state)
{
	uint64_t rule;

	(void)state;
	open_client();
	remove_it();
	make_anew(200);
	t_rules(&t.seg, 1, "fresh 5/h");
	rule = rule_of("fresh"); /* the old agent is not silent yet: the error made it look */
	expect_five(rule, "bob");
}

/* The file at the path, as another release would have made it. */
static void spoil(uint32_t abi_major)
{
	int fd = open(t.path, O_RDWR);
	off_t at = offsetof(struct rl_hdr, abi_major);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &abi_major, sizeof(abi_major), at), sizeof(abi_major));
	close(fd);
}

static void test_outlive__segment_of_another_release_is_not_followed_but_the_next_is(void **state)
{
	char why[RL_WHY_SIZE];
	uint64_t five;

	(void)state;
	open_client();
	five = rule_of("five");
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	silence(&t.seg);
	remove_it();
	make_anew(200);
	spoil(RL_ABI_MAJOR + 1);
	for (int i = 0; i < 4; i++, let_look())
		assert_int_equal(ask(five, "bob"), RL_ALLOWED); /* by what it has */
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
	assert_int_equal(rl_refresh(client, why), RL_ERR_ABI);
	assert_non_null(strstr(why, "cannot attach to "));
	assert_non_null(strstr(why, t.path));
	assert_non_null(strstr(why, "its layout is version"));

	remove_it();
	make_anew(5000); /* another size as well */
	t_rules(&t.seg, 1, "five 5/h");
	let_look();
	assert_int_equal(ask(five, "bob"), RL_LIMITED);
	expect_five(five, "bob");
	assert_int_equal(client_mapped(client)->seg.view.slot_count, t.seg.view.slot_count);
	assert_int_equal(rl_refresh(client, why), 0);
	assert_string_equal(why, "");
}

static void test_outlive__absent_client_waits_for_a_segment_that_it_can_read(void **state)
{
	uint64_t five;

	(void)state;
	spoil(RL_ABI_MAJOR + 1);
	open_client();
	five = rule_of("five");
	assert_int_equal(rl_refresh(client, NULL), RL_ERR_ABI);
	assert_int_equal(ask(five, "bob"), RL_ERR_ABSENT);
	spoil(RL_ABI_MAJOR);
	let_look();
	assert_int_equal(ask(five, "bob"), RL_ERR_ABSENT); /* this one made it look */
	expect_five(five, "bob");
}

static void test_outlive__key_and_ticket_of_the_old_segment_are_told_apart(void **state)
{
	struct rl_result spent = {0};
	struct rl_key key;
	uint64_t five;

	(void)state;
	open_client();
	five = rule_of("five");
	assert_int_equal(rl_key_make(client, five, "bob", 3, &key), 0);
	assert_int_equal(rl_check_key(client, &key, 1, 0, &spent), RL_ALLOWED);
	remove_it();
	make_anew(200);
	t_rules(&t.seg, 1, "five 5/h");
	assert_int_equal(rl_refresh(client, NULL), 1);
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(rl_check_key(client, &key, 1, 0, NULL), RL_ERR_KEY);
	assert_int_equal(rl_refund(client, five, &spent), RL_KEPT);
	assert_int_equal(rl_key_make(client, five, "bob", 3, &key), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(rl_check_key(client, &key, 1, 0, NULL), RL_ALLOWED);
	assert_int_equal(rl_check_key(client, &key, 1, 0, NULL), RL_LIMITED);
}

static void test_outlive__old_memory_is_given_back_after_the_grace_and_not_before(void **state)
{
	struct mapped *old;
	struct rl_totals totals;
	uint64_t five;

	(void)state;
	open_client();
	five = rule_of("five");
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	old = client_mapped(client);
	remove_it();
	make_anew(200);
	t_rules(&t.seg, 1, "five 5/h");
	assert_int_equal(rl_refresh(client, NULL), 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(mappings("(deleted)"), 1);
	assert_true(old->seg.live->beat_ns > 0); /* somebody may still be in the middle of it */
	end_grace();
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(mappings("(deleted)"), 0);
	assert_int_equal(old->seg.live->beat_ns, 0);
	assert_non_null(own_of(client_mapped(client))->member); /* the hot path has its line */
	rl_member_totals(&t.seg.view, &totals);
	assert_int_equal(totals.allowed, 4); /* also of those in the grace */
	assert_int_equal(totals.members, 1);
}

static void test_outlive__many_moves_cost_address_space_and_detach_gives_that_back_too(void **state)
{
	struct mapped *old;
	void *was_at[20];
	uint64_t five;
	int before = mappings("");

	(void)state;
	open_client();
	five = rule_of("five");
	for (int i = 0; i < 20; i++) {
		was_at[i] = client_mapped(client)->seg.live;
		remove_it();
		make_anew(200);
		t_rules(&t.seg, 1, "five 5/h");
		assert_int_equal(rl_refresh(client, NULL), 1);
		end_grace();
		expect_five(five, "bob");
		assert_int_equal(mappings("(deleted)"), 0);
	}
	old = client_mapped(client)->before->before;
	assert_int_equal(rl_check_spend(&old->seg, old->seg.member, five, "bob", 3, 1, 0,
					&(struct rl_answer){0}),
			 RL_E_RULE);
	assert_int_equal(mappings(""), before + 1);
	rl_detach(client);
	client = NULL;
	assert_int_equal(mappings(""), before);
	for (int i = 0; i < 20; i++) /* not mapped any more, any of it */
		assert_int_equal(msync(was_at[i], 4096, MS_ASYNC), -1);
}

/* How many lines are taken where the child ends up; it looks with its first check. */
static int child_asks(uint64_t rule)
{
	struct rl_totals totals;

	let_look();
	for (int i = 0; i < 3; i++)
		if (ask(rule, "bob") != RL_ALLOWED && i > 0)
			return 99;
	rl_member_totals(&client_mapped(client)->seg.view, &totals);
	return (int)totals.members;
}

static int in_a_child(uint64_t rule)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(child_asks(rule));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_outlive__parent_and_child_move_each_for_themselves(void **state)
{
	struct mapped *mine;
	uint64_t five;

	(void)state;
	remove_it();
	open_client();
	five = rule_of("five");
	make_anew(200);
	t_rules(&t.seg, 1, "five 100/h");
	assert_int_equal(in_a_child(five), 1); /* the child attached, and is alone in it */
	mine = client_mapped(client);
	assert_true(mine->absent);
	assert_int_equal(rl_refresh(client, NULL), 1);
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(rl_member_sweep(&t.seg), 1);
	assert_int_equal(in_a_child(five), 2); /* goes on with ours, in a line of its own */

	silence(&t.seg);
	remove_it();
	make_anew(200);
	t_rules(&t.seg, 1, "five 100/h");
	assert_int_equal(in_a_child(five), 1); /* forked before the move, and moves */
	assert_int_equal(rl_refresh(client, NULL), 1);
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	assert_int_equal(in_a_child(five), 3); /* forked in the grace */
	end_grace();
	assert_int_equal(ask(five, "bob"), RL_ALLOWED);
	rl_member_sweep(&t.seg);
	assert_int_equal(in_a_child(five), 2);
	assert_int_equal(mappings("(deleted)"), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_outlive__without_a_segment_nothing_is_decided_and_the_reason_told),
		TEST(test_outlive__several_rules_and_batches_are_absent_one_by_one),
		TEST(test_outlive__handle_of_before_the_segment_is_good_in_it),
		TEST(test_outlive__absent_client_attaches_by_itself),
		TEST(test_outlive__path_is_the_one_of_the_start_wherever_the_process_goes),
		TEST(test_outlive__path_too_long_makes_no_client),
		TEST(test_outlive__silent_agent_makes_checks_look_and_a_fresh_one_does_not),
		TEST(test_outlive__looks_are_a_quarter_of_a_second_apart),
		TEST(test_outlive__rule_that_is_only_in_the_new_segment_is_found),
		TEST(test_outlive__segment_of_another_release_is_not_followed_but_the_next_is),
		TEST(test_outlive__absent_client_waits_for_a_segment_that_it_can_read),
		TEST(test_outlive__key_and_ticket_of_the_old_segment_are_told_apart),
		TEST(test_outlive__old_memory_is_given_back_after_the_grace_and_not_before),
		TEST(test_outlive__many_moves_cost_address_space_and_detach_gives_that_back_too),
		TEST(test_outlive__parent_and_child_move_each_for_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
