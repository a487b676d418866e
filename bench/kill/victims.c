#include "bench/kill/victims.h"

#include <unistd.h>

#include "agent/sweep.h"
#include "bench/bench.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_rebase.h"

enum { BATCH = 4, PASSES = 4 };

/* One worker, and the last check of its that it may still give back. */
struct worker {
	const struct kill_scene *scene;
	struct kill_notes *notes;
	uint64_t seed;
	uint32_t at; /* next note */
	bool has_ticket;
	struct kill_note spent;
	struct rl_result result;
};

static uint32_t below(struct worker *w, uint32_t bound)
{
	return (uint32_t)(bench_random(&w->seed) >> 32) % bound;
}

static enum kill_came came_of(int answer, int done, int not_done)
{
	if (answer == done)
		return KILL_DONE;
	if (answer == not_done)
		return KILL_NOT;
	return answer == RL_ERR_BUSY ? KILL_BUSY : KILL_MISTAKE;
}

static uint32_t one_rule(const struct kill_note *note)
{
	return (uint32_t)__builtin_ctz(note->rules);
}

static struct kill_note draw(struct worker *w)
{
	return (struct kill_note){.what = KILL_SPEND,
				  .rules = 1u << below(w, KILL_RULES),
				  .key = below(w, KILL_KEYS),
				  .cost = below(w, 2) == 0 ? 1 : 1 + below(w, KILL_COST_MAX)};
}

static struct kill_key key_of(const struct worker *w, const struct kill_note *note)
{
	return (struct kill_key){w->scene->batch, note->key};
}

static void spend(struct worker *w)
{
	struct kill_note note = draw(w);
	struct kill_key key = key_of(w, &note);
	enum kill_came came;

	kill_note(w->notes, w->at, &note, KILL_BEGUN);
	came = came_of(rl_check(w->scene->client, w->scene->rule[one_rule(&note)], &key,
				sizeof(key), note.cost, 0, &w->result),
		       RL_ALLOWED, RL_LIMITED);
	kill_note(w->notes, w->at++, &note, came);
	w->has_ticket = came == KILL_DONE;
	w->spent = note;
}

static void give_back(struct worker *w)
{
	struct kill_note note = w->spent;

	if (!w->has_ticket)
		return;
	w->has_ticket = false;
	note.what = KILL_REFUND;
	kill_note(w->notes, w->at, &note, KILL_BEGUN);
	kill_note(w->notes, w->at, &note,
		  came_of(rl_refund(w->scene->client, w->scene->rule[one_rule(&note)], &w->result),
			  RL_REFUNDED, RL_KEPT));
	w->at++;
}

static struct rl_ask ask_of(const struct worker *w, uint32_t rule, const struct kill_key *key,
			    uint32_t cost)
{
	return (struct rl_ask){
		.rule = w->scene->rule[rule], .key = key, .key_len = sizeof(*key), .cost = cost};
}

/* A rule that may refuse before one that never does: no refusal leaves anything to give back. */
static void spend_two(struct worker *w)
{
	struct kill_note note = draw(w);
	struct kill_key key = key_of(w, &note);
	uint32_t first = 1 + below(w, KILL_RULES - 1);
	struct rl_ask ask[2] = {ask_of(w, first, &key, note.cost),
				ask_of(w, KILL_MANY, &key, note.cost)};

	note.rules = 1u << first | 1u << KILL_MANY;
	kill_note(w->notes, w->at, &note, KILL_BEGUN);
	kill_note(w->notes, w->at, &note,
		  came_of(rl_check_all(w->scene->client, ask, 2), RL_ALLOWED, RL_LIMITED));
	w->at++;
}

static void spend_batch(struct worker *w)
{
	struct kill_note note[BATCH];
	struct kill_key key[BATCH];
	struct rl_ask ask[BATCH];

	for (uint32_t i = 0; i < BATCH; i++) {
		note[i] = draw(w);
		key[i] = key_of(w, &note[i]);
		ask[i] = ask_of(w, one_rule(&note[i]), &key[i], note[i].cost);
		kill_note(w->notes, w->at + i, &note[i], KILL_BEGUN);
	}
	rl_check_batch(w->scene->client, ask, BATCH);
	for (uint32_t i = 0; i < BATCH; i++)
		kill_note(w->notes, w->at++, &note[i],
			  came_of(ask[i].answer, RL_ALLOWED, RL_LIMITED));
}

static void peek(struct worker *w)
{
	struct kill_note note = draw(w);
	struct kill_key key = key_of(w, &note);
	struct rl_result unused;

	rl_peek(w->scene->client, w->scene->rule[one_rule(&note)], &key, sizeof(key), note.cost,
		&unused);
}

_Noreturn void kill_work(const struct kill_scene *scene, struct kill_notes *notes, uint64_t seed)
{
	struct worker w = {.scene = scene, .notes = notes, .seed = seed};

	while (w.at + BATCH <= KILL_NOTES_MAX) {
		uint32_t dice = below(&w, 100);

		if (dice < 55)
			spend(&w);
		else if (dice < 65)
			spend_two(&w);
		else if (dice < 85)
			give_back(&w);
		else if (dice < 95)
			spend_batch(&w);
		else
			peek(&w);
	}
	for (;;)
		pause();
}

/* As keeper_open() of a segment that is there. The lock of one that was killed is the kernel's. */
static void take_over(const struct kill_scene *scene, struct sweep *sweep, uint32_t variant)
{
	char why[RL_WHY_MAX];
	pid_t holder;
	int fd;

	if (rl_segment_lock(scene->path, &fd, &holder, why) != 0)
		_exit(4);
	rl_rebase_recover(scene->seg);
	kill_rules_publish(scene->seg, variant);
	sweep_init(sweep, scene->seg);
}

static void pass(struct sweep *sweep, uint64_t now_ns)
{
	for (uint64_t i = 0; i < sweep->seg->view.slot_count; i++)
		sweep_slot(sweep, i, now_ns);
}

_Noreturn void kill_keep(const struct kill_scene *scene, uint64_t seed)
{
	static struct sweep sweep;

	take_over(scene, &sweep, (uint32_t)(bench_random(&seed) >> 32) % KILL_VARIANTS);
	for (;;) {
		pass(&sweep, rl_clock_precise_ns());
		kill_rules_publish(scene->seg,
				   (uint32_t)(bench_random(&seed) >> 32) % KILL_VARIANTS);
		sweep_rules_changed(&sweep);
	}
}

/* Each pass as if seconds had gone by: what nobody finishes is taken back, and short keys go. */
_Noreturn void kill_mend(const struct kill_scene *scene)
{
	static struct sweep sweep;
	uint64_t now_ns = rl_clock_precise_ns();

	take_over(scene, &sweep, 0);
	for (uint64_t i = 0; i < PASSES; i++)
		pass(&sweep, now_ns + i * 2000000000);
	_exit(0);
}
