/*
 * rlctl get RULE KEY - what a request of this key would be answered now. Maps read-only.
 */
#include <string.h>

#include "shm/rl_check.h"
#include "shm/rl_rules.h"
#include "tools/answer.h"

/* Of a shared rule's key that has no slot yet there is no credit, rather than a window. */
static unsigned decided(const struct rl_view *view, uint64_t handle, unsigned by)
{
	struct rl_rule rule;

	if (by == RL_DECIDED_WINDOW && rl_rules_read(view, handle, &rule) == 0 &&
	    !rl_rule_is_local(&rule))
		return RL_DECIDED_CREDIT;
	return by;
}

static int get(const struct tool *tool, const struct rl_view *view, const char *rule,
	       const char *key)
{
	struct rl_answer got;
	uint64_t handle;
	uint32_t used;
	int allowed;

	if (rl_rules_find(view, rule, &handle) != 0)
		return tool_no_rule(tool, view, rule);
	allowed = rl_check_look(view, handle, key, strlen(key), 1, &got, &used);
	if (allowed < 0)
		return tool_error("cannot tell: %s", rl_error_text(allowed));
	return answer_print(tool, &(struct answer){
					  .rule = rule,
					  .key = key,
					  .allowed = allowed == 1,
					  .limit = got.limit,
					  .remaining = got.remaining,
					  .window_ns = got.window_ns,
					  .in_flight = used,
					  .retry_after_ns = got.wait_ns,
					  .delay_ns = got.delay_ns,
					  .state = got.state,
					  .by = decided(view, handle, got.by),
				  });
}

int cmd_get(const struct tool *tool, int argc, char **argv)
{
	struct rl_view view;
	int code;

	if (argc != 2)
		return tool_error("get needs RULE and KEY, e.g. rlctl get login 192.0.2.7");
	if (strlen(argv[1]) < 1 || strlen(argv[1]) > RL_KEY_BYTES_MAX)
		return tool_error("a key is 1 .. %d bytes long", RL_KEY_BYTES_MAX);
	if (!tool_view(tool, &view))
		return TOOL_ERROR;
	code = get(tool, &view, argv[0], argv[1]);
	rl_segment_unview(&view);
	return code;
}
