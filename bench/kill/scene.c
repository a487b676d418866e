#include "bench/kill/scene.h"

#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "bench/bench.h"
#include "shm/rl_check.h"
#include "shm/rl_error.h"
#include "shm/rl_table.h"
#include "shm/rl_word.h"

/* More workers would wait for a processor to die on. */
enum { WORKERS = 2, WORKER_LIFE_NS = 400000, AGENT_LIFE_NS = 1500000, WORKER_EACH = 5 };

/* Those that are alive, and what they note. */
static struct crew {
	pid_t pid[WORKERS];
	struct kill_notes *notes[WORKERS];
	int count;
} crew;

static struct kill_ledger ledger;

void kill_scene_make(struct kill_scene *scene, const char *path, struct rl_seg *seg)
{
	*scene = (struct kill_scene){.path = path, .seg = seg};
	kill_rules_publish(seg, 0);
	kill_rule_handles(&seg->view, scene->rule);
	if (rl_attach(path, &scene->client, NULL) != 0)
		bench_die("cannot attach");
	for (int w = 0; w < WORKERS && crew.notes[w] == NULL; w++)
		crew.notes[w] = kill_notes_make();
}

void kill_scene_drop(struct kill_scene *scene)
{
	rl_detach(scene->client);
}

static void start_worker(const struct kill_scene *scene, int w, uint64_t *seed)
{
	uint64_t own_seed = bench_random(seed) | 1;

	crew.pid[w] = kill_fork();
	if (crew.pid[w] == 0)
		kill_work(scene, crew.notes[w], own_seed);
}

static void kill_worker(int w, struct kill_tally *tally)
{
	int status;

	if (!kill_and_reap(crew.pid[w], &status))
		bench_die("a worker ended by itself");
	tally->workers++;
	kill_notes_close(crew.notes[w], &ledger);
}

static void kill_another(const struct kill_scene *scene, int w, uint64_t *seed,
			 struct kill_tally *tally)
{
	kill_worker(w, tally);
	start_worker(scene, w, seed);
}

static void begin(struct kill_scene *scene, int workers, uint64_t *seed)
{
	memset(&ledger, 0, sizeof(ledger));
	scene->batch++;
	crew.count = workers;
	for (int w = 0; w < workers; w++)
		start_worker(scene, w, seed);
}

static void nap_below(uint64_t ns, uint64_t *seed)
{
	const struct timespec nap = {.tv_nsec = (long)((bench_random(seed) >> 32) % ns)};

	nanosleep(&nap, NULL);
}

/* Once a live agent has passed. Its loops are bounded: the caller's alarm says if they are not. */
static void mend(const struct kill_scene *scene)
{
	pid_t pid = kill_fork();
	int status;

	if (pid == 0)
		kill_mend(scene);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bench_die("the agent that takes over failed");
}

static void judge_key(const struct kill_scene *scene, int r, uint32_t number,
		      struct kill_tally *tally)
{
	const struct kill_account *account = &ledger.of[r][number];
	struct kill_key key = {scene->batch, number};
	enum kill_rule rule = (enum kill_rule)r;
	uint32_t limit = kill_rule_limit(rule), used;
	struct rl_answer answer;
	int got = rl_check_look(&scene->seg->view, scene->rule[r], &key, sizeof(key), 1, &answer,
				&used);

	if (got >= 0 && rule != KILL_BRIEF)
		kill_judge(tally, used, account->sure - account->may_be_less,
			   account->sure + account->may_be_more, limit, kill_rule_exact(rule));
	/* And the next check is answered, by what is held. */
	if (got >= 0)
		got = rl_check(scene->client, scene->rule[r], &key, sizeof(key), 1, 0, NULL);
	if (got != RL_ALLOWED && got != RL_LIMITED)
		tally->hung++;
	else if (rule != KILL_BRIEF && got != (used < limit ? RL_ALLOWED : RL_LIMITED))
		tally->hung++;
}

static bool same_key(const struct rl_slot *a, const struct rl_slot *b)
{
	return a->id[0] == b->id[0] && a->id[1] == b->id[1];
}

/* Every slot is open or free, and no key has two. */
static void judge_slots(const struct rl_view *view, struct kill_tally *tally)
{
	for (uint64_t i = 0; i < view->slot_count; i++) {
		uint64_t head = view->slot[i].head;

		if (!rl_head_is_open(head)) {
			tally->hung += !rl_head_is(head, RL_KIND_FREE);
			continue;
		}
		for (uint64_t j = i + 1; j < view->slot_count; j++)
			tally->unexplained += rl_head_is_open(view->slot[j].head) &&
					      same_key(&view->slot[i], &view->slot[j]);
	}
}

/* Nobody lives: the next batch begins with an empty table. */
static void wipe_all(struct rl_seg *seg, struct kill_tally *tally)
{
	for (uint64_t i = 0; i < seg->view.slot_count; i++)
		if (!rl_head_is(seg->slot[i].head, RL_KIND_FREE) &&
		    !rl_table_wipe(seg, i, seg->slot[i].head))
			tally->hung++;
}

static void end(struct kill_scene *scene, struct kill_tally *tally)
{
	for (int w = 0; w < crew.count; w++)
		kill_worker(w, tally);
	mend(scene);
	for (int r = 0; r < KILL_RULES; r++)
		for (uint32_t key = 0; key < KILL_KEYS; key++)
			judge_key(scene, r, key, tally);
	judge_slots(&scene->seg->view, tally);
	wipe_all(scene->seg, tally);
	tally->calls += ledger.calls;
	tally->begun += ledger.begun;
	tally->unexplained += ledger.mistakes;
}

void kill_workers(struct kill_scene *scene, uint64_t kills, uint64_t *seed,
		  struct kill_tally *tally)
{
	begin(scene, WORKERS, seed);
	for (uint64_t k = WORKERS; k < kills; k++) {
		int w = (int)((bench_random(seed) >> 32) % WORKERS);

		nap_below(WORKER_LIFE_NS, seed);
		kill_another(scene, w, seed, tally);
	}
	nap_below(WORKER_LIFE_NS, seed);
	end(scene, tally);
	tally->hung += ledger.busy; /* no agent closes a slot here: nobody may be kept waiting */
}

void kill_agents(struct kill_scene *scene, uint64_t kills, uint64_t *seed, struct kill_tally *tally)
{
	begin(scene, WORKERS, seed);
	for (uint64_t k = 0; k < kills; k++) {
		uint64_t own_seed = bench_random(seed) | 1;
		pid_t pid = kill_fork();
		int status;

		if (pid == 0)
			kill_keep(scene, own_seed);
		nap_below(AGENT_LIFE_NS, seed);
		if (!kill_and_reap(pid, &status))
			bench_die("an agent ended by itself");
		tally->agents++;
		if (k % WORKER_EACH == 0)
			kill_another(scene, (int)(k / WORKER_EACH % WORKERS), seed, tally);
	}
	end(scene, tally);
	tally->busy += ledger.busy;
}
