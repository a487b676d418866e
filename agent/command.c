#include "agent/command.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_rules.h"

#define BLOCK_MAX_S UINT64_C(3155760000) /* a century */

/* One command, its parts checked. */
struct command {
	struct rl_seg *seg;
	const char *name, *rule; /* rule NULL: all of them */
	unsigned char key[RL_KEY_BYTES_MAX];
	size_t key_len; /* 0: none given */
	json_int_t for_s;
	bool has_for;
};

struct kind {
	const char *name;
	bool needs_key;
	int (*run)(const struct command *command);
};

/* A claim that a block makes is counted by no process's line. */
static struct rl_member nobody;

static int find(const struct command *command, uint64_t *ret_handle)
{
	return rl_rules_find(&command->seg->view, command->rule, ret_handle);
}

static int run_switch(const struct command *command, bool on)
{
	uint64_t handle = 0;
	int error = command->rule == NULL ? 0 : find(command, &handle);

	return error != 0 ? error : rl_rules_switch(command->seg, (uint32_t)(handle >> 32), on);
}

static int run_off(const struct command *command)
{
	return run_switch(command, false);
}

static int run_on(const struct command *command)
{
	return run_switch(command, true);
}

static int run_reset(const struct command *command)
{
	struct rl_check_key key;
	uint64_t handle;
	int error = find(command, &handle);

	if (error != 0)
		return error;
	rl_check_hash(&command->seg->view, handle, command->key, command->key_len, &key);
	return rl_check_reset(command->seg, handle, &key);
}

static int run_block(const struct command *command)
{
	struct rl_check_key key;
	uint64_t handle;
	int error = find(command, &handle);

	if (error != 0)
		return error;
	rl_check_hash(&command->seg->view, handle, command->key, command->key_len, &key);
	return rl_check_block(command->seg, &nobody, handle, &key,
			      (uint64_t)command->for_s * RL_SECOND_NS);
}

static const struct kind kinds[] = {
	{"off", false, run_off},
	{"on", false, run_on},
	{"reset", true, run_reset},
	{"block", true, run_block},
};

static bool read_hex(const char *hex, struct command *ret)
{
	size_t len = strlen(hex);

	if (len < 2 || len % 2 != 0 || len / 2 > sizeof(ret->key) ||
	    strspn(hex, "0123456789abcdefABCDEF") != len)
		return false;
	for (size_t i = 0; i < len / 2; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &ret->key[i]) != 1)
			return false;
	ret->key_len = len / 2;
	return true;
}

/* A misspelt 'rule' would switch all of them. */
static bool is_known(json_t *line)
{
	static const char *const known[] = {"do", "rule", "key", "for_s"};
	size_t found = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		found += json_object_get(line, known[i]) != NULL;
	return found == json_object_size(line);
}

/* NULL, or what is wrong with it. */
static const char *read_command(json_t *line, const struct kind **ret_kind, struct command *ret)
{
	json_t *name = json_object_get(line, "do"), *rule = json_object_get(line, "rule");
	json_t *key = json_object_get(line, "key"), *for_s = json_object_get(line, "for_s");

	*ret_kind = NULL;
	for (size_t i = 0; json_is_string(name) && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, json_string_value(name)) == 0)
			*ret_kind = &kinds[i];
	if (*ret_kind == NULL)
		return "'do' must be off, on, reset or block";
	if (!is_known(line))
		return "a command has 'do', 'rule', 'key' and 'for_s', and nothing else";
	if (rule != NULL && !json_is_string(rule))
		return "'rule' must be a rule's name";
	ret->name = (*ret_kind)->name;
	ret->rule = json_string_value(rule);
	if ((*ret_kind)->needs_key && ret->rule == NULL)
		return "'rule' is needed";
	if ((*ret_kind)->needs_key &&
	    (!json_is_string(key) || !read_hex(json_string_value(key), ret)))
		return "'key' must be 1 to 1024 bytes in hex";
	if ((*ret_kind)->run != run_block)
		return NULL;
	ret->for_s = json_integer_value(for_s);
	if (!json_is_integer(for_s) || ret->for_s < 0 || (uint64_t)ret->for_s > BLOCK_MAX_S)
		return "'for_s' must be seconds, 0 .. a century";
	return NULL;
}

/* Keys are not logged: they may be what nobody else should read. */
static void log_command(const struct command *command, const char *by, int error)
{
	char span[64] = "";

	if (command->key_len > 0 && strcmp(command->name, "block") == 0)
		snprintf(span, sizeof(span), " for_s=%lld", (long long)command->for_s);
	log_event(error == 0 ? LOG_INFO : LOG_WARNING, "command",
		  "do=%s rule=%s%s %s result=\"%s\"", command->name,
		  command->rule != NULL ? command->rule : "(all)", span, by,
		  error == 0 ? "done" : rl_error_text(error));
}

static char *answer(const char *error, int code)
{
	json_t *object =
		error == NULL ? json_pack("{s:b}", "ok", 1)
			      : json_pack("{s:b, s:s, s:i}", "ok", 0, "error", error, "code", code);
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	return text;
}

/* A rule's name comes from outside: only one that could be a rule's goes to the log. */
static char *run_known(const struct kind *kind, const struct command *command, const char *by)
{
	int error = command->rule != NULL && rl_name_fault(command->rule) != NULL ? RL_E_RULE : 0;

	if (error != 0)
		return answer(rl_error_text(error), error);
	error = kind->run(command);
	log_command(command, by, error);
	return answer(error == 0 ? NULL : rl_error_text(error), error);
}

char *command_run(struct rl_seg *seg, const char *line, size_t len, const char *by)
{
	json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	struct command command = {.seg = seg};
	const struct kind *kind;
	const char *wrong = "a command is one JSON object a line";
	char *text;

	if (json_is_object(object))
		wrong = read_command(object, &kind, &command);
	text = wrong != NULL ? answer(wrong, 0) : run_known(kind, &command, by);
	json_decref(object);
	return text;
}
