#include "agent/command.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "shm/rl_error.h"
#include "shm/rl_terms.h"

#define NAME_BYTES 256 /* of a pushed file's name, in messages */

/* One command, its parts checked, until it is answered. */
struct command {
	const struct kind *kind;
	struct orders_command what;
	char name[NAME_BYTES];
	struct command_caller caller;
	command_answer_fn *answer;
	void *arg;
};

/* What a command may have beside "do", "local" and "wait". */
#define HAS_RULE  1u /* perhaps a rule */
#define HAS_KEY   2u /* a rule and a key */
#define HAS_FOR   4u
#define HAS_LIMIT 8u
#define HAS_TEXT  16u

struct kind {
	const char *name;
	unsigned has;
	enum orders_verb verb;
	enum order_kind order;
};

static const struct kind kinds[] = {
	{"off", HAS_RULE, ORDERS_PUT, ORDER_OFF},
	{"on", HAS_RULE, ORDERS_DROP, ORDER_OFF},
	{"reset", HAS_KEY, ORDERS_PUT, ORDER_RESET},
	{"block", HAS_KEY | HAS_FOR, ORDERS_PUT, ORDER_BLOCK},
	{"override", HAS_KEY | HAS_FOR | HAS_LIMIT, ORDERS_PUT, ORDER_OVERRIDE},
	{"push", HAS_TEXT, ORDERS_PUSH, ORDER_OFF},
	{"clear", 0, ORDERS_CLEAR, ORDER_OFF},
	{"rollback", 0, ORDERS_ROLLBACK, ORDER_OFF},
};

/* A misspelt 'rule' would switch all of them. */
static bool is_known(json_t *line, unsigned has)
{
	static const struct {
		const char *name;
		unsigned has; /* one of them; 0: all have it */
	} known[] = {
		{"do", 0},
		{"local", 0},
		{"wait", 0},
		{"rule", HAS_RULE | HAS_KEY},
		{"key", HAS_KEY},
		{"for_s", HAS_FOR},
		{"limit", HAS_LIMIT},
		{"text", HAS_TEXT},
		{"name", HAS_TEXT},
	};
	size_t found = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].has == 0 || (known[i].has & has) != 0)
			found += json_object_get(line, known[i].name) != NULL;
	return found == json_object_size(line);
}

static const char *read_rule(json_t *line, struct command *ret)
{
	json_t *rule = json_object_get(line, "rule");
	const char *name = json_string_value(rule);

	if (rule == NULL)
		return (ret->kind->has & HAS_KEY) != 0 ? "'rule' is needed" : NULL;
	if (name == NULL)
		return "'rule' must be a rule's name";
	if (rl_name_fault(name) != NULL) /* it goes to the log: only one that could be a rule's */
		return rl_error_text(RL_E_RULE);
	memcpy(ret->what.order.rule, name, strlen(name) + 1);
	return NULL;
}

static const char *read_span(json_t *line, struct command *ret)
{
	json_t *for_s = json_object_get(line, "for_s");
	json_int_t seconds = json_integer_value(for_s);

	if (!json_is_integer(for_s) || seconds < 0 || (uint64_t)seconds > ORDERS_SPAN_MS / 1000)
		return "'for_s' must be seconds, 0 .. a century";
	ret->what.for_ms = (uint64_t)seconds * 1000;
	if (seconds == 0) /* no longer */
		ret->what.verb = ORDERS_DROP;
	return NULL;
}

static const char *read_limit(json_t *line, struct command *ret)
{
	const char *limit = json_string_value(json_object_get(line, "limit"));

	if (ret->what.verb == ORDERS_DROP && json_object_get(line, "limit") == NULL)
		return NULL;
	if (limit == NULL)
		return "'limit' must be a limit, e.g. 1000/minute";
	return order_limit_parse(limit, &ret->what.order.terms);
}

static const char *read_text(json_t *line, struct command *ret)
{
	const char *name = json_string_value(json_object_get(line, "name"));

	ret->what.text = json_string_value(json_object_get(line, "text"));
	if (ret->what.text == NULL)
		return "'text' must be a configuration's";
	snprintf(ret->name, sizeof(ret->name), "%s", name != NULL ? name : "pushed");
	ret->what.name = ret->name;
	return NULL;
}

static const char *read_flags(json_t *line, struct command *ret)
{
	json_t *local = json_object_get(line, "local"), *wait = json_object_get(line, "wait");

	if ((local != NULL && !json_is_boolean(local)) || (wait != NULL && !json_is_boolean(wait)))
		return "'local' and 'wait' are true or false";
	ret->what.local = json_is_true(local);
	ret->what.wait = json_is_true(wait);
	if (ret->what.local && (ret->kind->verb >= ORDERS_PUSH))
		return "rules are pushed to the fleet: there is no 'local' in that";
	return NULL;
}

static const struct kind *find_kind(json_t *line)
{
	const char *name = json_string_value(json_object_get(line, "do"));

	for (size_t i = 0; name != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_command(json_t *line, struct command *ret)
{
	const char *key = json_string_value(json_object_get(line, "key")), *wrong;

	ret->kind = find_kind(line);
	if (ret->kind == NULL)
		return "'do' must be off, on, reset, block, override, push, clear, rollback, "
		       "orders or rules";
	if (!is_known(line, ret->kind->has))
		return "a command has 'do' and what belongs to it, and nothing else";
	ret->what.verb = ret->kind->verb;
	ret->what.order.kind = ret->kind->order;
	wrong = read_flags(line, ret);
	if (wrong == NULL && (ret->kind->has & (HAS_RULE | HAS_KEY)) != 0)
		wrong = read_rule(line, ret);
	if (wrong == NULL && (ret->kind->has & HAS_KEY) != 0 &&
	    (key == NULL || !order_key_read(key, &ret->what.order)))
		wrong = "'key' must be 1 to 1024 bytes in hex";
	if (wrong == NULL && (ret->kind->has & HAS_FOR) != 0)
		wrong = read_span(line, ret);
	if (wrong == NULL && (ret->kind->has & HAS_LIMIT) != 0)
		wrong = read_limit(line, ret);
	if (wrong == NULL && (ret->kind->has & HAS_TEXT) != 0)
		wrong = read_text(line, ret);
	return wrong;
}

/* Keys are not logged: they may be what nobody else should read. */
static void log_command(const struct command *command, const struct orders_result *result,
			const char *error)
{
	bool ruled = (command->kind->has & (HAS_RULE | HAS_KEY)) != 0;
	char span[64] = "", limit[RL_TERMS_TEXT + 16] = "", fleet[64] = "", terms[RL_TERMS_TEXT];

	if ((command->kind->has & HAS_FOR) != 0)
		snprintf(span, sizeof(span), " for_s=%llu",
			 (unsigned long long)(command->what.for_ms / 1000));
	if (command->what.order.terms.window_ns != 0)
		snprintf(limit, sizeof(limit), " limit=%s",
			 rl_terms_format(&command->what.order.terms, terms));
	else if (command->what.order.terms.limit != 0)
		snprintf(limit, sizeof(limit), " limit=%u", command->what.order.terms.limit);
	if (result->fleet)
		snprintf(fleet, sizeof(fleet), " version=%llu",
			 (unsigned long long)result->version);
	log_event(error == NULL ? LOG_INFO : LOG_WARNING, "command",
		  "do=%s%s%s%s%s%s%s %s result=\"%.400s\"", command->kind->name,
		  ruled ? " rule=" : "",
		  !ruled                                ? ""
		  : command->what.order.rule[0] != '\0' ? command->what.order.rule
							: "(all)",
		  span, limit, command->what.local ? " local=yes" : "", fleet, command->caller.by,
		  error == NULL ? "done" : error);
}

static char *dump(json_t *object)
{
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	return text;
}

static char *refusal(const char *error, int code)
{
	return dump(json_pack("{s:b, s:s, s:i}", "ok", 0, "error", error, "code", code));
}

static char *done_text(const struct orders_result *result)
{
	json_t *object = json_pack("{s:b}", "ok", 1);

	if (result->fleet) {
		json_object_set_new(object, "fleet", json_true());
		json_object_set_new(object, "version", json_integer((json_int_t)result->version));
		json_object_set_new(object, "hosts", json_integer(result->live));
		json_object_set_new(object, "have", json_integer(result->have));
	}
	if (result->note != NULL)
		json_object_set_new(object, "note", json_string(result->note));
	return dump(object);
}

static void on_done(void *arg, const struct orders_result *result)
{
	struct command *command = arg;
	const char *error = result->error;

	if (error == NULL && result->code != 0)
		error = rl_error_text(result->code);
	log_command(command, result, error);
	command->answer(command->arg,
			error == NULL ? done_text(result) : refusal(error, result->code));
	free(command);
}

/* Questions, which change nothing; NULL: it is none. */
static char *tell(struct orders *orders, json_t *line)
{
	const char *name = json_string_value(json_object_get(line, "do"));

	if (name == NULL || json_object_size(line) != 1)
		return NULL;
	if (strcmp(name, "orders") == 0)
		return dump(json_pack("{s:b, s:o}", "ok", 1, "orders", orders_list(orders)));
	if (strcmp(name, "rules") == 0)
		return dump(json_pack("{s:b, s:o}", "ok", 1, "rules", orders_rules(orders)));
	return NULL;
}

static void run_object(struct orders *orders, json_t *line, const struct command_caller *caller,
		       command_answer_fn *answer, void *arg)
{
	char *told = tell(orders, line);
	struct command *command = told == NULL ? calloc(1, sizeof(*command)) : NULL;
	const char *wrong;

	if (command == NULL) {
		answer(arg, told);
		return;
	}
	command->caller = *caller;
	command->what.uid = caller->uid;
	command->answer = answer;
	command->arg = arg;
	wrong = read_command(line, command);
	if (wrong == NULL) {
		orders_command(orders, &command->what, on_done, command);
		return;
	}
	answer(arg, refusal(wrong, strcmp(wrong, rl_error_text(RL_E_RULE)) == 0 ? RL_E_RULE : 0));
	free(command);
}

void command_run(struct orders *orders, const char *line, size_t len,
		 const struct command_caller *caller, command_answer_fn *answer, void *arg)
{
	json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(object))
		run_object(orders, object, caller, answer, arg);
	else
		answer(arg, refusal("a command is one JSON object a line", 0));
	json_decref(object);
}
