/*
 * rlctl verify - is every word of the segment one that somebody writes? Maps read-only, and is
 * right about a live segment too: shm/rl_verify.h.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "shm/rl_verify.h"
#include "tools/tool.h"
#include "tools/verify.h"

#define SHOWN 20 /* of a kind */

struct report {
	const struct tool *tool;
	uint64_t all, count[RL_FAULT_COUNT];
	struct rl_finding first[RL_FAULT_COUNT][SHOWN];
};

static void on_found(const struct rl_finding *finding, void *arg)
{
	struct report *report = arg;
	uint64_t *count = &report->count[finding->fault];

	if (*count < SHOWN)
		report->first[finding->fault][*count] = *finding;
	(*count)++;
	report->all++;
}

static void on_waiting(uint32_t suspects, void *arg)
{
	(void)arg;
	fprintf(stderr,
		"rlctl: %" PRIu32
		" unfinished thing%s: waiting for the agent to take %s back (up to "
		"40 s)\n",
		suspects, suspects == 1 ? "" : "s", suspects == 1 ? "it" : "them");
}

static const char *place_name(enum rl_place place)
{
	static const char *const name[] = {"segment", "rule",   "member", "partition",
					   "slot",    "holder", "line"};

	return name[place];
}

static void print_finding(const struct rl_finding *finding)
{
	const struct rl_fault_info *info = rl_fault_info(finding->fault);
	const struct verify_words *words = verify_words(finding->fault);

	printf("%s: %s", info->name, place_name(info->place));
	if (info->place != RL_AT_SEGMENT)
		printf(" %" PRIu64, finding->index);
	printf(", byte %" PRIu64 ": %s (0x%" PRIx64, finding->at, words->what, finding->found);
	if (finding->wanted != 0)
		printf(", not 0x%" PRIx64, finding->wanted);
	printf("); %s; %s\n", words->effect, words->advice);
}

static void print_kind(const struct report *report, enum rl_fault fault)
{
	uint64_t count = report->count[fault];

	for (uint64_t i = 0; i < count && i < SHOWN; i++)
		print_finding(&report->first[fault][i]);
	if (count > SHOWN)
		printf("%s: and %" PRIu64 " more\n", rl_fault_info(fault)->name, count - SHOWN);
}

static void print_text(const struct report *report, const struct rl_verify *verify)
{
	for (int f = 0; f < RL_FAULT_COUNT; f++)
		print_kind(report, (enum rl_fault)f);
	if (verify->other_pids)
		puts("the agent's processes are in another pid namespace: members are not checked");
	if (verify->unsettled > 0)
		printf("%" PRIu64
		       " more things looked wrong at first and were left: verify again\n",
		       verify->unsettled);
	printf("verified %" PRIu64 " slots (%" PRIu64 " used, %" PRIu64 " too busy to look at), %u "
	       "rules, %u members, agent %s: ",
	       verify->slots, verify->used, verify->busy, verify->rules, verify->members,
	       verify->agent_lives ? "alive" : "not alive");
	if (report->all == 0)
		puts("fine");
	else
		printf("%" PRIu64 " finding%s\n", report->all, report->all == 1 ? "" : "s");
}

static json_t *json_finding(const struct rl_finding *finding)
{
	char found[32], wanted[32];

	snprintf(found, sizeof(found), "0x%" PRIx64, finding->found);
	snprintf(wanted, sizeof(wanted), "0x%" PRIx64, finding->wanted);
	return json_pack("{s:I, s:I, s:s, s:s}", "index", (json_int_t)finding->index, "byte",
			 (json_int_t)finding->at, "found", found, "wanted", wanted);
}

static json_t *json_kind(const struct report *report, enum rl_fault fault)
{
	const struct rl_fault_info *info = rl_fault_info(fault);
	const struct verify_words *words = verify_words(fault);
	json_t *at = json_array();

	for (uint64_t i = 0; i < report->count[fault] && i < SHOWN; i++)
		json_array_append_new(at, json_finding(&report->first[fault][i]));
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:o}", "kind", info->name, "place",
			 place_name(info->place), "count", (json_int_t)report->count[fault], "what",
			 words->what, "effect", words->effect, "advice", words->advice, "at", at);
}

static void print_json(const struct report *report, const struct rl_verify *verify)
{
	json_t *kinds = json_array();
	json_t *all;

	for (int f = 0; f < RL_FAULT_COUNT; f++)
		if (report->count[f] > 0)
			json_array_append_new(kinds, json_kind(report, (enum rl_fault)f));
	all = json_pack("{s:o, s:b, s:I, s:b, s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:o}", "segment",
			tool_json_text(report->tool->segment), "fine", report->all == 0, "findings",
			(json_int_t)report->all, "agent_alive", verify->agent_lives, "verified",
			"slots", (json_int_t)verify->slots, "used", (json_int_t)verify->used,
			"busy", (json_int_t)verify->busy, "rules", (json_int_t)verify->rules,
			"members", (json_int_t)verify->members, "left",
			(json_int_t)verify->unsettled, "kinds", kinds);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

int cmd_verify(const struct tool *tool, int argc, char **argv)
{
	static struct report report;
	static struct rl_verify verify;
	struct rl_view view;

	if (argc > 0)
		return tool_error("verify takes no argument, not '%s'", argv[0]);
	if (!tool_view(tool, &view))
		return TOOL_ERROR;
	report.tool = tool;
	verify.view = &view;
	verify.found = on_found;
	verify.waiting = on_waiting;
	verify.arg = &report;
	rl_verify(&verify);
	if (tool->json)
		print_json(&report, &verify);
	else
		print_text(&report, &verify);
	rl_segment_unview(&view);
	return report.all == 0 ? TOOL_FINE : TOOL_FINDING;
}
