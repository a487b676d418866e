#include "tools/run_share.h"

#include <poll.h>
#include <stdbool.h>
#include <string.h>

#include "shm/rl_rules.h"
#include "tools/run_agent.h"
#include "tools/tool.h"

#define LOOK_MS 10

/* Is run's rule the only one? Then an earlier `rlctl run` made the segment. */
static bool made_by_run(const struct rl_view *view, uint64_t *ret_generation)
{
	static struct rl_named_rule list[RL_RULES_MAX];

	return rl_rules_list(view, list, ret_generation) == 1 &&
	       strcmp(list[0].name, RUN_RULE) == 0;
}

static bool has_limit(const struct rl_view *view, const struct rl_terms *terms)
{
	struct rl_rule rule;
	uint64_t handle;

	return rl_rules_find(view, RUN_RULE, &handle) == 0 &&
	       rl_rules_read(view, handle, &rule) == 0 && rule.limit == terms->limit &&
	       rule.window_ns == terms->window_ns;
}

/* One look. RUN_SHARE_SILENT: somebody holds the lock and has not published anything. */
static enum run_share look(const char *segment, const struct rl_terms *terms)
{
	bool kept = rl_segment_lock_holder(segment) != 0, ours;
	struct tool_agent agent;
	struct rl_view view;
	uint64_t generation = 0;
	enum run_share found;

	if (rl_segment_view(segment, &view, NULL) != 0)
		return kept ? RUN_SHARE_SILENT : RUN_SHARE_NOBODY;
	tool_agent(&view, &agent);
	ours = made_by_run(&view, &generation);
	if (agent.alive && generation > 0)
		found = has_limit(&view, terms) ? RUN_SHARE_SAME : RUN_SHARE_OTHER;
	else if (kept)
		found = RUN_SHARE_SILENT;
	else /* one that was killed before it published has no rules to respect */
		found = ours || generation == 0 ? RUN_SHARE_NOBODY : RUN_SHARE_DEAD;
	rl_segment_unview(&view);
	return found;
}

enum run_share run_share_settle(const char *segment, const struct rl_terms *terms)
{
	enum run_share found = look(segment, terms);

	for (int ms = 0; found == RUN_SHARE_SILENT && ms < RUN_SHARE_WAIT_MS; ms += LOOK_MS) {
		poll(NULL, 0, LOOK_MS);
		found = look(segment, terms);
	}
	return found;
}
