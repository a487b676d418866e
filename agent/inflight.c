#include "agent/inflight.h"

#include <string.h>

#include "agent/log.h"
#include "shm/rl_hold.h"
#include "shm/rl_holder.h"

void inflight_init(struct inflight *inflight, struct rl_seg *seg)
{
	memset(inflight, 0, sizeof(*inflight));
	inflight->seg = seg;
	inflight->fd = -1;
	inflight->busy = true; /* an agent before us may have left something */
}

static bool is_wanted(const struct agent_config *config)
{
	for (size_t i = 0; i < config->rule_count; i++)
		if (config->rule[i].algorithm == RL_CONCURRENCY)
			return true;
	return false;
}

bool inflight_prepare(struct inflight *inflight, const char *path,
		      const struct agent_config *config, mode_t mode)
{
	const struct rl_segment_spec spec = {
		.mode = mode, .set_group = config->set_group, .group = config->segment_group};
	/* Relaxed: we alone write it. */
	bool known = atomic_load_explicit(&inflight->seg->holders->file, memory_order_relaxed) != 0;
	char why[RL_WHY_MAX];

	/* Once there was one, processes may hold something still, whatever the rules are now. */
	if (inflight->fd >= 0 || (!known && !is_wanted(config)))
		return true;
	inflight->fd = rl_alive_make(inflight->seg, path, &spec, why);
	if (inflight->fd < 0)
		log_event(LOG_ERROR, "no_alive_file", "segment=%s msg=\"%s\"", path, why);
	return inflight->fd >= 0;
}

static uint64_t word_of(const struct inflight *inflight, uint32_t number)
{
	return atomic_load_explicit(&inflight->seg->holders->word[number], memory_order_seq_cst);
}

/* Who is dead for certain leaves. False: the number is nobody's. */
static bool see_holder(struct inflight *inflight, uint32_t number)
{
	uint64_t word = word_of(inflight, number), before = inflight->seen_free[number];

	inflight->seen_free[number] = 0;
	if (!rl_holder_sound(number, word)) {
		rl_holder_mend(inflight->seg, number, word);
		return true;
	}
	if (rl_holder_state(word) == RL_HOLDER_FREE)
		return false;
	if (rl_holder_state(word) != RL_HOLDER_TAKEN || !rl_holder_is_gone(inflight->fd, number))
		return true;
	if (before != word)
		inflight->seen_free[number] = word;
	else
		rl_holder_bury(inflight->seg, inflight->fd, number);
	return true;
}

void inflight_pass(struct inflight *inflight)
{
	bool left[RL_HOLDERS_MAX] = {false}, any = false;
	struct rl_hold_tidied tidied;

	if (inflight->fd < 0)
		return;
	for (uint32_t i = 0; i < RL_HOLDERS_MAX; i++) {
		any |= see_holder(inflight, i);
		left[i] = rl_holder_state(word_of(inflight, i)) == RL_HOLDER_LEFT;
	}
	if (!any && !inflight->busy)
		return;
	rl_hold_tidy(inflight->seg, &tidied);
	/* Only who had left before: no cell of it has been written since. Killed before this: the
	 * next agent finds nothing more of it, and does the same. */
	for (uint32_t i = 1; i < RL_HOLDERS_MAX; i++)
		if (left[i])
			rl_holder_free(inflight->seg, i);
	inflight->busy = any || tidied.lines > 0;
	inflight->is_short = tidied.lines > inflight->seg->view.hold_count / 4;
	/* Relaxed: for people. */
	atomic_fetch_add_explicit(&inflight->seg->holders->given_back, tidied.units,
				  memory_order_relaxed);
}
