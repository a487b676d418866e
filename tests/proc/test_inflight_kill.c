/*
 * Goal:   what a process held that is dead for certain goes back, all of it and nothing else,
 *         wherever it was killed; what a living one holds stays, also of one that is stopped, has
 *         forked, or had its descriptor closed.
 * Method: real processes and locks. The test is the agent: it makes the passes itself, so it knows
 *         when the dead have been found. Kills at random ($KILLS of them), and after each STRIDE
 *         instructions of an acquire and a release (PTRACE_SINGLESTEP; $STRIDE).
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/inflight.h"
#include "agent/sweep.h"
#include "bench/fleet/load.h"
#include "client/rl.h"
#include "shm/rl_algorithm.h"
#include "shm/rl_clock.h"
#include "shm/rl_inflight.h"
#include "shm/rl_word.h"

#define STRIDE 167

enum { WORKERS = 4, KEYS = 3, LIMIT = 6, HELD = 5 };

/* What outlives the children. */
struct notes {
	_Atomic int stage, go; /* where the child is, how far it may go */
	_Atomic int failed;    /* line of the child's first unmet condition */
	_Atomic bool hold;     /* workers: stand still with what you have */
	_Atomic bool still[WORKERS];
	_Atomic uint32_t held[WORKERS][KEYS];
	_Atomic uint64_t acquired;
};

static struct t_seg t;
static struct notes *notes;
static struct agent_config config;
static struct inflight inflight;
static uint64_t rule;

static int setup(void **state)
{
	size_t other;

	(void)state;
	t_seed();
	t_seg_make(&t, 400);
	config.rule_count = 1;
	config.rule[0] = (struct rl_rule_spec){
		.name = "r", .terms = {LIMIT, RL_WINDOW_MIN_NS}, .algorithm = RL_CONCURRENCY};
	inflight_init(&inflight, &t.seg);
	assert_true(inflight_prepare(&inflight, t.path, &config, 0660));
	assert_int_equal(rl_rules_publish(&t.seg, config.rule, 1, &other), 0);
	rule = t_rule(&t.seg.view, "r");
	notes = t_shared(sizeof(*notes));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(notes->failed, 0);
	munmap(notes, sizeof(*notes));
	close(inflight.fd);
	t_seg_drop(&t);
	return 0;
}

static void nap_ms(long ms)
{
	const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&nap, NULL);
}

static uint32_t used(const char *key)
{
	struct rl_answer answer;
	uint32_t units = 0;

	assert_true(rl_check_look(&t.seg.view, rule, key, strlen(key), 1, &answer, &units) >= 0);
	return units;
}

/* The dead are found at the second pass. */
static void two_passes(void)
{
	inflight_pass(&inflight);
	inflight_pass(&inflight);
}

/* Of a child: what must hold there. */
#define MUST(condition) must(condition, __LINE__)
static void must(bool condition, int line)
{
	int none = 0;

	if (!condition)
		atomic_compare_exchange_strong(&notes->failed, &none, line);
}

/* A child: here I am; wait to be told to go on. */
static void reach(int stage)
{
	atomic_store(&notes->stage, stage);
	while (atomic_load(&notes->go) < stage)
		nap_ms(1);
}

static void wait_until_reached(int stage)
{
	uint64_t deadline = t_now_ns() + 20 * RL_SECOND_NS;

	while (atomic_load(&notes->stage) < stage) {
		assert_true(t_now_ns() < deadline);
		nap_ms(1);
	}
	assert_int_equal(notes->failed, 0);
}

/* Let it go on from the stage it has reached to the next. */
static void go_to(int stage)
{
	atomic_store(&notes->go, stage - 1);
	wait_until_reached(stage);
}

static pid_t start(void (*role)(void))
{
	pid_t pid;

	fflush(stdout);
	atomic_store(&notes->stage, 0);
	atomic_store(&notes->go, 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nobody */
		role();
		_exit(0);
	}
	return pid;
}

static struct rl_client *attach(void)
{
	struct rl_client *client = NULL;

	MUST(rl_attach(t.path, &client, NULL) == 0);
	return client;
}

static int acquire(struct rl_client *client, const char *key, uint32_t cost, struct rl_result *ret)
{
	return rl_acquire(client, rule, key, strlen(key), cost, ret);
}

static void hold_two(void)
{
	struct rl_client *client = attach();
	struct rl_result result;

	MUST(acquire(client, "k", 2, &result) == RL_ALLOWED);
	reach(1);
	MUST(rl_release(client, rule, &result) == 0);
	reach(2);
}

static void test_inflight_kill__stopped_holder_keeps_and_killed_one_gives_back(void **state)
{
	pid_t holder = start(hold_two);
	int status;

	(void)state;
	wait_until_reached(1);
	assert_int_equal(kill(holder, SIGSTOP), 0);
	assert_int_equal(waitpid(holder, &status, WUNTRACED), holder);
	for (int i = 0; i < 5; i++)
		two_passes();
	assert_int_equal(used("k"), 2);
	t_kill(holder);
	inflight_pass(&inflight);
	assert_int_equal(used("k"), 2);
	inflight_pass(&inflight);
	assert_int_equal(used("k"), 0);
}

static void test_inflight_kill__living_holder_releases_after_many_passes(void **state)
{
	pid_t holder = start(hold_two);

	(void)state;
	wait_until_reached(1);
	for (int i = 0; i < 5; i++)
		two_passes();
	assert_int_equal(used("k"), 2);
	go_to(2);
	assert_int_equal(used("k"), 0);
	t_kill(holder);
}

static void fork_and_release(void)
{
	struct rl_client *client = attach();
	struct rl_result result, own;

	MUST(acquire(client, "k", 2, &result) == RL_ALLOWED);
	if (fork() == 0) {
		MUST(rl_release(client, rule, &result) == RL_ERR_TICKET);
		MUST(acquire(client, "k", 1, &own) == RL_ALLOWED);
		MUST(rl_release(client, rule, &result) == RL_ERR_TICKET);
		rl_detach(client);
		client = attach();
		MUST(acquire(client, "k", 1, &own) == RL_ALLOWED);
		reach(1);
		_exit(0);
	}
	for (;;)
		pause();
}

static void test_inflight_kill__child_holds_for_itself_and_its_parent_for_itself(void **state)
{
	pid_t parent = start(fork_and_release);

	(void)state;
	wait_until_reached(1);
	two_passes();
	assert_int_equal(used("k"), 3); /* and not what the child left behind by detaching */
	t_kill(parent);
	two_passes();
	assert_int_equal(used("k"), 1);
	go_to(1);
	atomic_store(&notes->go, 1);
	nap_ms(50);
	for (int i = 0; i < 100 && used("k") > 0; i++) {
		two_passes();
		nap_ms(10);
	}
	assert_int_equal(used("k"), 0);
}

static void close_in_child(void)
{
	struct rl_client *client = attach();
	struct rl_result result;

	MUST(acquire(client, "k", 2, &result) == RL_ALLOWED);
	if (fork() == 0) {
		close_range(3, ~0U, 0);
		_exit(0);
	}
	waitpid(-1, NULL, 0);
	reach(1);
	for (;;)
		pause();
}

static void test_inflight_kill__descriptors_closed_in_a_child_are_the_childs(void **state)
{
	pid_t holder = start(close_in_child);

	(void)state;
	wait_until_reached(1);
	two_passes();
	assert_int_equal(used("k"), 2);
	t_kill(holder);
	two_passes();
	assert_int_equal(used("k"), 0);
}

static void close_all(void)
{
	struct rl_client *client = attach();
	struct rl_result first, second, third;

	MUST(acquire(client, "k", 1, &first) == RL_ALLOWED);
	nap_ms(150);
	close_range(3, ~0U, 0);
	MUST(open("/dev/null", O_RDONLY) == 3); /* nor is a new descriptor taken for ours */
	MUST(dup2(3, 512) == 512);
	MUST(acquire(client, "k", 1, &second) == RL_ALLOWED);
	MUST(fcntl(512, F_GETFD) >= 0);
	reach(1);
	close_range(3, ~0U, 0);
	reach(2); /* quiet for too long */
	nap_ms(150);
	MUST(rl_release(client, rule, &first) == RL_ERR_TICKET);
	MUST(acquire(client, "k", 1, &third) == RL_ALLOWED);
	MUST(rl_release(client, rule, &second) == RL_ERR_TICKET);
	reach(3);
	for (;;)
		pause();
}

static void test_inflight_kill__closed_descriptor_is_opened_again_by_the_next_call(void **state)
{
	pid_t holder = start(close_all);

	(void)state;
	wait_until_reached(1);
	for (int i = 0; i < 3; i++)
		two_passes();
	assert_int_equal(used("k"), 2);
	go_to(2);
	two_passes();
	assert_int_equal(used("k"), 0);
	go_to(3);
	two_passes();
	assert_int_equal(used("k"), 1);
	t_kill(holder);
	two_passes();
	assert_int_equal(used("k"), 0);
}

static void two_clients(void)
{
	struct rl_client *one = attach(), *two = attach();
	struct rl_result first, second;

	MUST(acquire(one, "k", 2, &first) == RL_ALLOWED);
	MUST(acquire(two, "k", 1, &second) == RL_ALLOWED);
	MUST(rl_release(two, rule, &first) == RL_ERR_TICKET);
	rl_detach(two);
	rl_detach(attach());
	reach(1);
	MUST(rl_release(one, rule, &first) == 0);
	reach(2);
}

static void test_inflight_kill__client_that_detaches_leaves_the_other_its_lock(void **state)
{
	pid_t holder = start(two_clients);

	(void)state;
	wait_until_reached(1);
	two_passes();
	assert_int_equal(used("k"), 2);
	go_to(2);
	assert_int_equal(used("k"), 0);
	t_kill(holder);
}

static void become_another_program(void)
{
	struct rl_client *client = attach();
	struct rl_result result;

	MUST(acquire(client, "k", 2, &result) == RL_ALLOWED);
	reach(1);
	execl("/bin/sleep", "sleep", "60", (char *)NULL);
}

static void test_inflight_kill__program_that_takes_the_process_over_holds_nothing(void **state)
{
	pid_t holder = start(become_another_program);

	(void)state;
	wait_until_reached(1);
	two_passes();
	assert_int_equal(used("k"), 2);
	atomic_store(&notes->go, 1);
	for (int i = 0; i < 500 && used("k") > 0; i++) {
		two_passes();
		nap_ms(10);
	}
	assert_int_equal(used("k"), 0);
	t_kill(holder);
}

static void new_agent(void)
{
	close(inflight.fd);
	inflight_init(&inflight, &t.seg);
	assert_true(inflight_prepare(&inflight, t.path, &config, 0660));
}

static void test_inflight_kill__next_agent_finds_who_died_without_one(void **state)
{
	pid_t holder = start(hold_two);

	(void)state;
	wait_until_reached(1);
	inflight_pass(&inflight);
	t_kill(holder);
	inflight_pass(&inflight);
	new_agent();
	inflight_pass(&inflight);
	assert_int_equal(used("k"), 2);
	inflight_pass(&inflight);
	assert_int_equal(used("k"), 0);
}

static void hold_again(void)
{
	struct rl_client *client = attach();
	struct rl_result result, more;

	MUST(acquire(client, "k", 2, &result) == RL_ALLOWED);
	reach(1);
	nap_ms(150);
	MUST(acquire(client, "k", 1, &more) == RL_ALLOWED);
	reach(2);
	for (;;)
		pause();
}

static void test_inflight_kill__file_made_anew_takes_nobody_for_dead(void **state)
{
	pid_t holder = start(hold_again);
	char name[sizeof(t.path) + 8];

	(void)state;
	wait_until_reached(1);
	snprintf(name, sizeof(name), "%s.alive", t.path);
	assert_int_equal(unlink(name), 0);
	new_agent();
	for (int i = 0; i < 3; i++)
		two_passes();
	assert_int_equal(used("k"), 2);
	go_to(2); /* locks the new file as well */
	two_passes();
	assert_int_equal(used("k"), 3);
	t_kill(holder);
	two_passes();
	assert_int_equal(used("k"), 0);
}

static const char *const key_name[KEYS] = {"a", "b", "c"};
static int worker_number;
static uint64_t worker_seed;

struct held {
	struct rl_result result;
	uint32_t key, cost;
};

/* Stand still when told to; what is noted is then what is held. */
static void stand_still(void)
{
	while (atomic_load(&notes->hold)) {
		atomic_store(&notes->still[worker_number], true);
		nap_ms(1);
	}
	atomic_store(&notes->still[worker_number], false);
}

static void begin(struct rl_client *client, struct held *held, size_t *count)
{
	int got;

	held->key = (uint32_t)t_below(&worker_seed, KEYS);
	held->cost = 1 + (uint32_t)t_below(&worker_seed, 2);
	got = acquire(client, key_name[held->key], held->cost, &held->result);
	MUST(got == RL_ALLOWED || got == RL_LIMITED);
	if (got != RL_ALLOWED)
		return;
	notes->held[worker_number][held->key] += held->cost;
	notes->acquired++;
	++*count;
}

static void end(struct rl_client *client, struct held *held)
{
	notes->held[worker_number][held->key] -= held->cost;
	MUST(rl_release(client, rule, &held->result) == 0);
}

static void work(void)
{
	struct rl_client *client = attach();
	struct held held[HELD];
	size_t count = 0;

	for (;;) {
		stand_still();
		if (count < HELD && t_below(&worker_seed, 2) == 0)
			begin(client, &held[count], &count);
		else if (count > 0)
			end(client, &held[--count]);
	}
}

static pid_t start_worker(int number, uint64_t *seed)
{
	worker_number = number;
	worker_seed = t_random(seed) | 1;
	atomic_store(&notes->still[number], false);
	for (uint32_t key = 0; key < KEYS; key++)
		notes->held[number][key] = 0;
	return start(work);
}

static void freeze(void)
{
	uint64_t deadline = t_now_ns() + 20 * RL_SECOND_NS;

	atomic_store(&notes->hold, true);
	for (int i = 0; i < WORKERS; i++)
		while (!atomic_load(&notes->still[i])) {
			assert_true(t_now_ns() < deadline);
			nap_ms(1);
		}
}

static void judge_living(void)
{
	for (uint32_t key = 0; key < KEYS; key++) {
		uint32_t sum = 0;

		for (int i = 0; i < WORKERS; i++)
			sum += notes->held[i][key];
		assert_true(sum <= LIMIT);
		assert_int_equal(used(key_name[key]), sum);
	}
	assert_int_equal(notes->failed, 0);
}

static void test_inflight_kill__after_kills_at_random_the_living_hold_what_is_held(void **state)
{
	static struct sweep sweep;
	const char *text = getenv("KILLS");
	uint64_t wanted = text != NULL ? strtoull(text, NULL, 10) : 400, kills = 0;
	uint64_t seed = t_seed();
	pid_t worker[WORKERS];

	(void)state;
	sweep_init(&sweep, &t.seg);
	for (int i = 0; i < WORKERS; i++)
		worker[i] = start_worker(i, &seed);
	while (kills < wanted) {
		atomic_store(&notes->hold, false);
		for (int i = 0; i < 20; i++, kills++) {
			const struct timespec nap = {.tv_nsec = (long)t_below(&seed, 2000000)};
			int victim = (int)t_below(&seed, WORKERS);

			nanosleep(&nap, NULL);
			t_kill(worker[victim]);
			worker[victim] = start_worker(victim, &seed);
			if (i % 7 == 0)
				inflight_pass(&inflight);
			for (uint64_t s = 0; i % 5 == 0 && s < t.seg.view.slot_count; s++)
				sweep_slot(&sweep, s, rl_clock_precise_ns());
		}
		freeze();
		two_passes();
		judge_living();
	}
	for (int i = 0; i < WORKERS; i++)
		t_kill(worker[i]);
	two_passes();
	for (uint32_t key = 0; key < KEYS; key++)
		assert_int_equal(used(key_name[key]), 0);
	for (uint64_t s = 0; s < t.seg.view.slot_count; s++)
		sweep_slot(&sweep, s, rl_clock_precise_ns());
	inflight.busy = true;
	inflight_pass(&inflight);
	for (uint32_t i = 0; i < t.seg.view.hold_count; i++)
		assert_int_equal(t.seg.hold[i].owner, 0);
	printf("# %llu kills, %llu acquired\n", (unsigned long long)kills,
	       (unsigned long long)notes->acquired);
	assert_true(notes->acquired > kills);
}

/* Acquire a new key and one in use, release one: all of it stepped through. */
static void be_stepped(void)
{
	struct rl_client *client = attach();
	struct rl_result first, second, third;

	MUST(acquire(client, "held", 1, &first) == RL_ALLOWED);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	MUST(acquire(client, "held", 2, &second) == RL_ALLOWED);
	MUST(acquire(client, "new", 1, &third) == RL_ALLOWED);
	MUST(rl_release(client, rule, &first) == 0);
}

/* True: it came to its end before. */
static bool killed_after(uint32_t steps, void (*role)(void))
{
	pid_t child = start(role);
	int status = 0;

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

static uint32_t stride(void)
{
	const char *wanted = getenv("STRIDE");

	return wanted != NULL ? (uint32_t)atoi(wanted) : STRIDE;
}

static void hold_one_for_ever(void)
{
	struct rl_client *client = attach();
	struct rl_result result;

	MUST(acquire(client, "held", 1, &result) == RL_ALLOWED);
	reach(1);
	for (;;)
		pause();
}

static bool left_out(void)
{
	if (fleet_is_slow_build())
		printf("# not in this build: most instructions are the sanitizer's\n");
	return fleet_is_slow_build();
}

/* Claims that were killed in the middle are taken back when they have stood still for a second. */
static void reap(struct sweep *sweep, uint32_t round)
{
	uint64_t now_ns = rl_clock_precise_ns() + 2 * round * RL_SECOND_NS;

	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(sweep, i, now_ns);
}

static void test_inflight_kill__after_any_instruction_only_the_living_hold(void **state)
{
	static struct sweep sweep;
	uint64_t seed = t_seed();
	uint32_t steps = (uint32_t)t_below(&seed, stride()), kills = 0;
	bool finished = false;
	pid_t other;

	(void)state;
	if (left_out())
		return;
	sweep_init(&sweep, &t.seg);
	other = start(hold_one_for_ever);
	wait_until_reached(1);
	for (; !finished; steps += stride(), kills++) {
		finished = killed_after(steps, be_stepped);
		assert_int_equal(notes->failed, 0);
		two_passes();
		assert_int_equal(used("held"), 1);
		assert_int_equal(used("new"), 0);
		reap(&sweep, kills);
	}
	t_kill(other);
	printf("# %u kills\n", kills);
	assert_true(kills > 20);
}

static void be_a_stepped_agent(void)
{
	static struct sweep sweep;

	sweep_init(&sweep, &t.seg);
	inflight_init(&inflight, &t.seg);
	inflight_prepare(&inflight, t.path, &config, 0660);
	inflight_pass(&inflight);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	/* Bury, tidy and free one slot: the parts of a pass that change anything. */
	rl_holder_bury(&t.seg, inflight.fd, 2);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++) {
		uint64_t head = t.seg.slot[i].head;

		if (rl_head_is_open(head))
			rl_inflight_free_idle(&t.seg, i, head);
	}
}

static void hold_and_die(void)
{
	struct rl_client *client = attach();
	struct rl_result result;

	MUST(acquire(client, "gone", 1, &result) == RL_ALLOWED);
	MUST(acquire(client, "held", 1, &result) == RL_ALLOWED);
	MUST(acquire(client, "idle", 1, &result) == RL_ALLOWED);
	MUST(rl_release(client, rule, &result) == 0);
}

static void test_inflight_kill__agent_killed_after_any_instruction_loses_nothing(void **state)
{
	static struct sweep sweep;
	uint64_t seed = t_seed();
	uint32_t steps = (uint32_t)t_below(&seed, stride()), kills = 0;
	bool finished = false;
	pid_t other;

	(void)state;
	if (left_out())
		return;
	other = start(hold_one_for_ever);
	wait_until_reached(1);
	for (; !finished && kills < 400; steps += stride(), kills++) {
		int status;

		assert_int_equal(waitpid(start(hold_and_die), &status, 0) > 0, 1);
		finished = killed_after(steps, be_a_stepped_agent);
		new_agent();
		sweep_init(&sweep, &t.seg);
		two_passes();
		for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
			sweep_slot(&sweep, i, rl_clock_precise_ns());
		assert_int_equal(used("held"), 1);
		assert_int_equal(used("gone"), 0);
		assert_int_equal(used("idle"), 0);
		assert_int_equal(notes->failed, 0);
	}
	t_kill(other);
	printf("# %u kills\n", kills);
	assert_true(kills > 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inflight_kill__stopped_holder_keeps_and_killed_one_gives_back),
		TEST(test_inflight_kill__living_holder_releases_after_many_passes),
		TEST(test_inflight_kill__child_holds_for_itself_and_its_parent_for_itself),
		TEST(test_inflight_kill__descriptors_closed_in_a_child_are_the_childs),
		TEST(test_inflight_kill__closed_descriptor_is_opened_again_by_the_next_call),
		TEST(test_inflight_kill__client_that_detaches_leaves_the_other_its_lock),
		TEST(test_inflight_kill__program_that_takes_the_process_over_holds_nothing),
		TEST(test_inflight_kill__next_agent_finds_who_died_without_one),
		TEST(test_inflight_kill__file_made_anew_takes_nobody_for_dead),
		TEST(test_inflight_kill__after_kills_at_random_the_living_hold_what_is_held),
		TEST(test_inflight_kill__after_any_instruction_only_the_living_hold),
		TEST(test_inflight_kill__agent_killed_after_any_instruction_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
