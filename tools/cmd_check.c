/*
 * rlctl check RULE KEY [--cost N] - ask and spend through librl, as any client does. Under a rule
 * that limits requests in flight: acquire, and release at once.
 */
#include <string.h>

#include "client/rl.h"
#include "tools/answer.h"

static int rule_missing(const struct tool *tool, const char *rule)
{
	struct rl_view view;
	int code = TOOL_ERROR;

	if (tool_view(tool, &view)) {
		code = tool_no_rule(tool, &view, rule);
		rl_segment_unview(&view);
	}
	return code;
}

static int ask(struct rl_client *client, uint64_t handle, const char *key, uint32_t cost,
	       struct rl_result *ret)
{
	int got = rl_peek(client, handle, key, strlen(key), cost, ret);

	if (got < 0 || ret->window_ns != 0)
		return rl_check(client, handle, key, strlen(key), cost, RL_MAY_WAIT, ret);
	got = rl_acquire(client, handle, key, strlen(key), cost, ret);
	if (got == RL_ALLOWED)
		rl_release(client, handle, ret);
	return got;
}

static int check(const struct tool *tool, struct rl_client *client, const char *rule,
		 const char *key, uint32_t cost)
{
	struct rl_result result;
	uint64_t handle;
	int got;

	if (rl_rule(client, rule, &handle) != 0)
		return rule_missing(tool, rule);
	got = ask(client, handle, key, cost, &result);
	if (got < 0 && got > RL_ERR_SHORT) /* an errno: of the file that rl_acquire() locks */
		return tool_error("could not decide: %s.alive: %s", tool->segment,
				  rl_strerror(got));
	if (got < 0)
		return tool_error("could not decide: %s", rl_strerror(got));
	return answer_print(tool, &(struct answer){
					  .rule = rule,
					  .key = key,
					  .allowed = got == RL_ALLOWED,
					  .limit = result.limit,
					  .remaining = result.remaining,
					  .window_ns = result.window_ns,
					  .in_flight = result.limit - result.remaining,
					  .retry_after_ns = result.retry_after_ns,
					  .delay_ns = result.delay_ns,
					  .state = result.state,
					  .by = result.decided_by,
				  });
}

int cmd_check(const struct tool *tool, int argc, char **argv)
{
	struct rl_client *client;
	char why[RL_WHY_SIZE];
	unsigned long cost = 1;
	int code;

	if (argc != 2)
		return tool_error("check needs RULE and KEY, e.g. rlctl check login 192.0.2.7");
	if (strlen(argv[1]) < 1 || strlen(argv[1]) > RL_KEY_MAX)
		return tool_error("a key is 1 .. %d bytes long", RL_KEY_MAX);
	if (tool->cost_text != NULL && !tool_number(tool->cost_text, 1, 0x7fffffff, &cost))
		return tool_error("--cost must be a whole number 1 .. 2147483647, not '%s'",
				  tool->cost_text);
	if (rl_attach(tool->segment, &client, why) != 0)
		return tool_error("%s", why);
	code = check(tool, client, argv[0], argv[1], (uint32_t)cost);
	rl_detach(client);
	return code;
}
