/*
 * documents.c - two texts that agents swap for others, and which row goes by which: what
 * rl_control.lua keeps. They have no end but the hub's.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/memory/inner.h"

#define REPORTS_KEEP_MS 60000.0 /* of a fleet that is gone */

struct control {
	struct memory *memory;
	struct memory_part *part;
	struct memory_row *row;
	double clock_ms;
	struct control_ask ask;
	struct control_answer answer;
};

static bool is_tip(const char *a, const char *b)
{
	return memcmp(a, b, CONTROL_TIP) == 0;
}

void memory_documents_free(struct memory *memory, struct memory_part *part)
{
	for (int d = 0; d < CONTROL_DOCUMENTS; d++) {
		memory_give(memory, part->document[d].text, part->document[d].size + 1);
		part->document[d] = (struct memory_document){.text = NULL};
	}
}

static const char *tip_of(const struct memory_document *document)
{
	return document->text != NULL ? document->tip : CONTROL_NO_TIP;
}

/* False: no room. */
static bool swap(struct control *control, enum control_document which)
{
	struct memory_document *document = &control->part->document[which];
	struct control_ask *ask = &control->ask;

	if (is_tip(tip_of(document), ask->expected)) {
		char *text = memory_take(control->memory, ask->text_size + 1);

		if (text == NULL)
			return false;
		memcpy(text, ask->text, ask->text_size);
		memory_give(control->memory, document->text, document->size + 1);
		*document = (struct memory_document){.text = text, .size = ask->text_size};
		memcpy(document->tip, ask->tip, CONTROL_TIP);
		memcpy(ask->known[which], ask->tip, CONTROL_TIP);
	}
	control->answer.swapped =
		is_tip(tip_of(document), ask->tip) ? CONTROL_SWAPPED : CONTROL_UNSWAPPED;
	return true;
}

static void answer_texts(struct control *control)
{
	for (int d = 0; d < CONTROL_DOCUMENTS; d++) {
		const struct memory_document *document = &control->part->document[d];

		memcpy(control->answer.tip[d], tip_of(document), CONTROL_TIP);
		if (is_tip(tip_of(document), CONTROL_NO_TIP) ||
		    is_tip(document->tip, control->ask.known[d]))
			continue;
		control->answer.text[d] = document->text;
		control->answer.text_size[d] = document->size;
	}
}

/* Reports end all together, when nobody has made one for long. */
static void report(struct control *control)
{
	struct memory_part *part = control->part;

	if (control->clock_ms >= part->report_ends_ms)
		part->report_life++;
	part->report_ends_ms = control->clock_ms + REPORTS_KEEP_MS;
	control->row->report_life = part->report_life;
	memcpy(control->row->has, control->ask.has, sizeof(control->row->has));
}

/* A row that calls goes by what it says, told before or not. */
static void count_row(struct control *control, const struct memory_row *row)
{
	bool told = row->report_life == control->part->report_life &&
		    control->clock_ms < control->part->report_ends_ms;
	char(*has)[CONTROL_TIP] = control->ask.has;

	control->answer.live++;
	for (int d = 0; d < CONTROL_DOCUMENTS; d++)
		if (row == control->row)
			control->answer.with[d] += is_tip(has[d], control->answer.tip[d]);
		else if (told)
			control->answer.with[d] += is_tip(row->has[d], control->answer.tip[d]);
}

static void count(struct control *control)
{
	double since_ms = control->clock_ms - control->ask.silence_ms;
	struct memory_row *row;

	TAILQ_FOREACH(row, &control->part->rows, by_seen)
	{
		if (row == control->row || row->seen_ms >= since_ms)
			count_row(control, row);
		else
			row->report_life = 0;
	}
}

static bool has(const struct control *control, uint32_t flag)
{
	return (control->ask.flags & flag) != 0;
}

/* NULL, or why not: then nothing is changed. */
static const char *run(struct control *control, const struct memory_call *call)
{
	control->part = memory_part_of(control->memory, call->part, true);
	if (control->part != NULL)
		control->row = memory_row_of(control->memory, control->part, call->row, true);
	if (control->row == NULL)
		return "OOM rl_control: the counts in memory take all that they may";
	if (has(control, CONTROL_SWAP | CONTROL_SWAP << 1) &&
	    !swap(control, has(control, CONTROL_SWAP) ? CONTROL_ORDERS : CONTROL_RULES))
		return "OOM rl_control: no room for the text";
	answer_texts(control);
	if (has(control, CONTROL_REPORT))
		report(control);
	if (has(control, CONTROL_COUNT))
		count(control);
	return NULL;
}

void memory_control(struct memory *memory, double clock_ms, const struct memory_call *call,
		    struct memory_text request, struct memory_reply *ret)
{
	struct control control = {.memory = memory, .clock_ms = clock_ms};

	*ret = (struct memory_reply){.other = "", .now_ms = (long long)clock_ms};
	if (!control_ask_read((const unsigned char *)request.at, request.len, &control.ask))
		ret->error = "ERR rl_control: the request has a wrong length";
	else if (call->part.len > MEMORY_NAME_MAX || call->row.len > MEMORY_ROW_MAX)
		ret->error = "ERR rl_control: a name is too long";
	else
		ret->error = run(&control, call);
	if (ret->error != NULL)
		return;
	control.answer.now_ms = (uint64_t)clock_ms;
	free(memory->control);
	memory->control = control_answer_write(&control.answer, &ret->answers_len);
	ret->answers = memory->control;
	if (memory->control == NULL)
		ret->error = "OOM rl_control: no memory";
}
