#include "shm/rl_verify.h"

#include <string.h>
#include <time.h>

#include "shm/rl_shared.h"
#include "shm/rl_verify_steps.h"

#define MOMENT_NS  UINT64_C(50000000)
#define TIDY_NS    UINT64_C(2500000000)  /* the agent tidies up once a second */
#define ALONE_NS   UINT64_C(1100000000)  /* nobody tidies up */
#define PASSES_NS  UINT64_C(40000000000) /* at most, for RL_VERIFY_PASSES of 10 s */
#define UPDATED_NS UINT64_C(100000000)   /* between two looks at the agent */

#define INFO(fault, name, place, patience) {name, RL_AT_##place, RL_##patience},

const struct rl_fault_info *rl_fault_info(enum rl_fault fault)
{
	static const struct rl_fault_info info[RL_FAULT_COUNT] = {RL_FAULTS(INFO)};

	return &info[fault];
}

static bool same_place(const struct rl_finding *a, const struct rl_finding *b)
{
	return a->fault == b->fault && a->index == b->index && a->at == b->at;
}

/* What is the agent's to take back must be the very same: claims come and go at one place. */
static bool same(const struct rl_finding *a, const struct rl_finding *b)
{
	return same_place(a, b) &&
	       (rl_fault_info(a->fault)->patience == RL_NOW || a->found == b->found);
}

static void sleep_ns(uint64_t span_ns)
{
	const struct timespec nap = {.tv_sec = (time_t)(span_ns / RL_SECOND_NS),
				     .tv_nsec = (long)(span_ns % RL_SECOND_NS)};

	nanosleep(&nap, NULL);
}

static void wait_ns(const struct rl_verify *verify, uint64_t span_ns)
{
	if (verify->times_faster > 1)
		span_ns /= verify->times_faster;
	sleep_ns(span_ns);
}

static bool agent_lives(const struct rl_view *view)
{
	uint64_t beat_ns = rl_verify_word(&view->live->beat_ns), now_ns = rl_clock_precise_ns();

	return rl_verify_word(&view->live->agent_pid) != 0 &&
	       (beat_ns > now_ns || now_ns - beat_ns <= RL_ALONE_NS);
}

/* Look there again. */
static bool is_still_so(struct rl_verify *verify, const struct rl_finding *suspect)
{
	verify->seen = false;
	verify->asked = suspect;
	if (rl_fault_info(suspect->fault)->place == RL_AT_SLOT)
		rl_verify_slot(verify, suspect->index);
	else if (rl_fault_info(suspect->fault)->place == RL_AT_HOLD)
		rl_verify_hold(verify, suspect->index);
	else
		rl_verify_host(verify);
	verify->asked = NULL;
	return verify->seen;
}

static void keep_patient(struct rl_verify *verify, const struct rl_finding *suspect)
{
	if (verify->patients < RL_VERIFY_SUSPECTS)
		verify->patient[verify->patients++] = *suspect;
	else
		verify->unsettled++;
}

/* Look at the suspects again: those of the impatient kind that still are so are findings. */
static void settle(struct rl_verify *verify)
{
	if (verify->suspects > 0)
		wait_ns(verify, MOMENT_NS);
	for (uint32_t i = 0; i < verify->suspects; i++) {
		const struct rl_finding *suspect = &verify->suspect[i];

		if (!is_still_so(verify, suspect))
			continue;
		if (rl_fault_info(suspect->fault)->patience == RL_NOW)
			verify->found(suspect, verify->arg);
		else
			keep_patient(verify, suspect);
	}
	verify->suspects = 0;
}

void rl_verify_say(struct rl_verify *verify, enum rl_fault fault, uint64_t index, const void *at,
		   uint64_t found, uint64_t wanted)
{
	const struct rl_finding finding = {
		.fault = fault,
		.index = index,
		.at = (uint64_t)((const char *)at - (const char *)verify->view->hdr),
		.found = found,
		.wanted = wanted,
	};

	if (verify->asked != NULL)
		verify->seen = verify->seen || same(&finding, verify->asked);
	else if (verify->suspects < RL_VERIFY_SUSPECTS)
		verify->suspect[verify->suspects++] = finding;
	else
		verify->unsettled++;
}

/* A live agent is given the time to take back what is its to take back. */
static void wait_for_agent(const struct rl_verify *verify, bool sweep)
{
	const struct rl_live *live = verify->view->live;
	uint64_t passes = rl_verify_word(&live->sweep_passes) + RL_VERIFY_PASSES + 1;
	uint64_t until_ns = rl_clock_precise_ns() + PASSES_NS;

	if (!verify->agent_lives) {
		wait_ns(verify, ALONE_NS);
		return;
	}
	wait_ns(verify, TIDY_NS);
	/* The pass that is under way may have been there already: one more. */
	while (sweep && rl_verify_word(&live->sweep_passes) < passes && agent_lives(verify->view) &&
	       rl_clock_precise_ns() < until_ns)
		wait_ns(verify, UPDATED_NS);
}

static void settle_patients(struct rl_verify *verify)
{
	bool sweep = false;

	if (verify->patients == 0)
		return;
	for (uint32_t i = 0; i < verify->patients; i++)
		sweep = sweep || rl_fault_info(verify->patient[i].fault)->patience == RL_SWEEP;
	if (verify->waiting != NULL)
		verify->waiting(verify->patients, verify->arg);
	wait_for_agent(verify, sweep);
	for (uint32_t i = 0; i < verify->patients; i++)
		if (is_still_so(verify, &verify->patient[i]))
			verify->found(&verify->patient[i], verify->arg);
}

/* One slot, or line, has a few dozen words that can be wrong. */
static void settle_in_time(struct rl_verify *verify)
{
	if (verify->suspects + 64 > RL_VERIFY_SUSPECTS)
		settle(verify);
}

void rl_verify(struct rl_verify *verify)
{
	verify->agent_lives = agent_lives(verify->view);
	rl_verify_host(verify);
	settle(verify);
	for (uint64_t i = 0; i < verify->view->slot_count; i++) {
		settle_in_time(verify);
		rl_verify_slot(verify, i);
	}
	for (uint64_t i = 0; i < verify->view->hold_count; i++) {
		settle_in_time(verify);
		rl_verify_hold(verify, i);
	}
	settle(verify);
	settle_patients(verify);
}
