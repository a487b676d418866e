#include "bench/kill/steps.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/sweep.h"
#include "bench/bench.h"
#include "bench/kill/trace.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_member.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

enum action { SPEND, SPEND_TWO, GIVE_BACK };

/* A key with so many units, and what is then killed. */
static const struct operation {
	const char *name;
	enum action action;
	enum kill_rule rule, second; /* second: of SPEND_TWO */
	uint32_t before, cost;
} operation[] = {
	{"admit", SPEND, KILL_GROUPS, 0, 5, 1},
	{"admit into two groups", SPEND, KILL_GROUPS, 0, 41, 7},
	{"admit into a group for each unit", SPEND, KILL_FEW, 0, 5, 4},
	{"admit as many units as are left", SPEND, KILL_FULL_RING, 0, 16, 7},
	{"admit into the oldest groups' cells", SPEND, KILL_FULL_RING, 0, 5, 7},
	{"refusal", SPEND, KILL_FEW, 0, 18, 3},
	{"new key", SPEND, KILL_FEW, 0, 0, 3},
	{"new key of a word", SPEND, KILL_TOKEN, 0, 0, 3},
	{"fixed window", SPEND, KILL_FIXED, 0, 5, 3},
	{"token bucket", SPEND, KILL_TOKEN, 0, 5, 3},
	{"leaky bucket", SPEND, KILL_LEAKY, 0, 5, 3},
	{"full fixed window", SPEND, KILL_FIXED, 0, 49, 3},
	{"two rules", SPEND_TWO, KILL_GROUPS, KILL_FEW, 5, 3},
	{"two rules, new key", SPEND_TWO, KILL_TOKEN, KILL_GROUPS, 0, 3},
	{"two rules, the second refuses", SPEND_TWO, KILL_GROUPS, KILL_FEW, 18, 3},
	{"refund", GIVE_BACK, KILL_GROUPS, 0, 5, 3},
	{"refund of a single unit", GIVE_BACK, KILL_FEW, 0, 5, 1},
	{"refund that is kept", GIVE_BACK, KILL_FEW, 0, 5, 3},
	{"refund of a fixed window", GIVE_BACK, KILL_FIXED, 0, 5, 3},
	{"refund of a bucket", GIVE_BACK, KILL_TOKEN, 0, 5, 3},
};

/* One of them on a key of its own. */
struct attempt {
	const struct kill_scene *scene;
	const struct operation *op;
	struct kill_key key;
	bool agent_first;
	struct rl_result result; /* of what is to be given back */
};

uint32_t kill_steps_count(void)
{
	return sizeof(operation) / sizeof(operation[0]);
}

const char *kill_steps_name(uint32_t number)
{
	return operation[number].name;
}

static int spend(struct attempt *a, enum kill_rule rule, uint32_t cost)
{
	return rl_check(a->scene->client, a->scene->rule[rule], &a->key, sizeof(a->key), cost, 0,
			&a->result);
}

static void prepare(struct attempt *a)
{
	bool two = a->op->action == SPEND_TWO;
	int got = RL_ALLOWED;

	if (a->op->before > 0)
		got = spend(a, a->op->rule, a->op->before);
	if (got == RL_ALLOWED && two && a->op->before > 0)
		got = spend(a, a->op->second, a->op->before);
	if (got == RL_ALLOWED && a->op->action == GIVE_BACK)
		got = spend(a, a->op->rule, a->op->cost);
	if (got != RL_ALLOWED)
		bench_die("a fresh key refuses");
}

static struct rl_ask ask_of(const struct attempt *a, enum kill_rule rule)
{
	return (struct rl_ask){.rule = a->scene->rule[rule],
			       .key = &a->key,
			       .key_len = sizeof(a->key),
			       .cost = a->op->cost};
}

static void act(struct attempt *a)
{
	struct rl_ask ask[2] = {ask_of(a, a->op->rule), ask_of(a, a->op->second)};

	if (a->op->action == SPEND)
		rl_check(a->scene->client, ask[0].rule, &a->key, sizeof(a->key), a->op->cost, 0,
			 &a->result);
	else if (a->op->action == SPEND_TWO)
		rl_check_all(a->scene->client, ask, 2);
	else
		rl_refund(a->scene->client, ask[0].rule, &a->result);
}

/* A process's first check takes it a line of statistics: that is not what is looked at. */
static void take_line(const struct attempt *a)
{
	rl_check(a->scene->client, a->scene->rule[KILL_BRIEF], "first", 5, 1, 0, NULL);
}

/* Raised by the child when the operation is over; in memory that outlives it. */
static _Atomic uint32_t *over;

static void make_flag(void)
{
	void *at = mmap(NULL, sizeof(*over), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			0);

	if (at == MAP_FAILED)
		bench_die("no memory for a flag");
	over = at;
}

static _Noreturn void be_killed(struct attempt *a)
{
	take_line(a);
	kill_trace_me();
	act(a);
	atomic_store(over, 1);
	for (;;)
		raise(SIGSTOP);
}

static pid_t start(struct attempt *a)
{
	pid_t child;

	atomic_store(over, 0);
	child = kill_fork();
	if (child == 0)
		be_killed(a);
	kill_trace_begin(child);
	return child;
}

static void end(pid_t child)
{
	int status;

	if (!kill_and_reap(child, &status))
		bench_die("a stopped child ended by itself");
}

/* The whole operation, instruction by instruction, and killed when it is over. */
static void note_path(struct attempt *a, struct kill_path *path)
{
	pid_t child = start(a);

	for (path->count = 0; atomic_load(over) == 0; path->count++) {
		if (path->count == KILL_PATH_MAX)
			bench_die("an operation does not end");
		path->at[path->count] = kill_trace_at(child);
		if (!kill_trace_step(child))
			bench_die("cannot step a child");
	}
	end(child);
}

/* Killed after so many instructions; now and then the path is another one, and all was done. */
static bool kill_after(uint32_t steps, struct attempt *a, const struct kill_path *path)
{
	pid_t child = start(a);
	bool there = steps == 0 || kill_trace_run(child, path, steps);

	end(child);
	return there;
}

static uint32_t held_by(const struct attempt *a, enum kill_rule rule, struct kill_tally *tally)
{
	struct rl_answer answer;
	uint32_t used = 0;
	int got = rl_check_look(&a->scene->seg->view, a->scene->rule[rule], &a->key, sizeof(a->key),
				1, &answer, &used);

	tally->hung += got < 0;
	return used;
}

/* A key's next checks are answered by what it holds: the first one, the rest, none above. */
static void go_on(struct attempt *a, enum kill_rule rule, uint32_t held, struct kill_tally *tally)
{
	uint32_t limit = kill_rule_limit(rule), room = limit - held;

	if (room > 0)
		tally->hung += spend(a, rule, room) != RL_ALLOWED;
	tally->hung += spend(a, rule, 1) != RL_LIMITED;
}

/* As an agent does, and again when what nobody finishes has stood still for a second. */
static void pass_twice(const struct kill_scene *scene, struct kill_tally *tally)
{
	static struct sweep sweep;
	uint64_t now_ns = rl_clock_precise_ns();

	sweep_init(&sweep, scene->seg);
	for (int again = 0; again < 2; again++, now_ns += 2000000000)
		for (uint64_t i = 0; i < scene->seg->view.slot_count; i++)
			sweep_slot(&sweep, i, now_ns);
	for (uint64_t i = 0; i < scene->seg->view.slot_count; i++)
		tally->hung += !rl_head_is_open(scene->seg->slot[i].head) &&
			       !rl_head_is(scene->seg->slot[i].head, RL_KIND_FREE);
}

/* Is the operation one that changes what the rule's key holds? */
static bool changes(const struct operation *op, enum kill_rule rule)
{
	uint32_t after = op->before + op->cost;

	if (op->action == GIVE_BACK) /* in a group of one: the last unit only */
		return rule != KILL_FEW || op->cost == 1;
	return after <= kill_rule_limit(rule) &&
	       (op->action != SPEND_TWO || after <= kill_rule_limit(op->second));
}

/*
 * A quarter of all keys is first seen by an agent, the others first by a check: what a killed
 * worker leaves must not need an agent.
 */
static void judge(struct attempt *a, enum kill_rule rule, struct kill_tally *tally)
{
	const struct operation *op = a->op;
	int64_t low = op->before, high = low + (changes(op, rule) ? (int64_t)op->cost : 0);
	uint32_t held;

	if (op->action == GIVE_BACK && !changes(op, rule))
		low = high = (int64_t)op->before + op->cost;
	if (atomic_load(over) != 0 && op->action == GIVE_BACK)
		high = low;
	if (atomic_load(over) != 0 && op->action != GIVE_BACK)
		low = high;
	if (a->agent_first)
		pass_twice(a->scene, tally);
	held = held_by(a, rule, tally);
	kill_judge(tally, held, low, high, kill_rule_limit(rule), true);
	if (held < kill_rule_limit(rule)) {
		tally->hung += spend(a, rule, 1) != RL_ALLOWED;
		held++;
	}
	pass_twice(a->scene, tally);
	tally->lost += held > held_by(a, rule, tally);
	go_on(a, rule, held, tally);
}

static void wipe_all(struct rl_seg *seg)
{
	for (uint64_t i = 0; i < seg->view.slot_count; i++)
		if (!rl_head_is(seg->slot[i].head, RL_KIND_FREE))
			rl_table_wipe(seg, i, seg->slot[i].head);
}

/* Tracer and child take turns: on one processor that is several times as fast. */
static void stay_here(cpu_set_t *ret_before)
{
	cpu_set_t here;

	sched_getaffinity(0, sizeof(*ret_before), ret_before);
	CPU_ZERO(&here);
	CPU_SET((size_t)sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
}

static void judge_all(struct attempt *a, struct kill_tally *tally)
{
	judge(a, a->op->rule, tally);
	if (a->op->action == SPEND_TWO)
		judge(a, a->op->second, tally);
	wipe_all(a->scene->seg);
	tally->workers++;
}

uint32_t kill_steps_run(const struct kill_scene *scene, uint32_t number, uint32_t stride,
			uint64_t *seed, struct kill_tally *tally)
{
	struct attempt a = {.scene = scene, .op = &operation[number], .key = {number, 1}};
	static struct kill_path path;
	cpu_set_t before;

	if (over == NULL)
		make_flag();
	stay_here(&before);
	prepare(&a);
	note_path(&a, &path);
	judge_all(&a, tally);
	for (uint32_t steps = (uint32_t)(bench_random(seed) >> 32) % stride; steps < path.count;
	     steps += stride) {
		a.agent_first = steps / stride % 4 == 0;
		rl_member_sweep(scene->seg); /* the dead one's line: or the path ends elsewhere */
		prepare(&a);
		tally->steps += kill_after(steps, &a, &path);
		judge_all(&a, tally);
	}
	sched_setaffinity(0, sizeof(before), &before);
	return path.count;
}
