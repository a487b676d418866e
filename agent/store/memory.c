/*
 * memory.c - the counts in the memory of one of a machine's agents: no Redis, and no other machine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/memory/link.h"
#include "agent/store/backend.h"
#include "shm/rl_terms.h"

#define SCHEME        "memory:"
#define CALL_IS_WRONG "ERR rl_" /* a call that will always be refused */

enum { NOTICE_KEPT_HERE, NOTICE_KEPT_THERE };

struct backend {
	struct store *store;
	struct link *link;
	char fleet[RL_NAME_MAX + 1];
};

/* A call on its way: whose answer it is. */
struct ticket {
	store_fn *fn;
	void *arg;
};

static void put_text(struct frame_out *out, const char *text)
{
	frame_put_text(out, text, strlen(text));
}

static void put_caller(struct frame_out *out, const struct backend *self,
		       const struct store_call *call)
{
	put_text(out, self->fleet);
	put_text(out, call->host);
	put_text(out, call->row);
	put_text(out, call->words);
}

static void write_sync(struct frame_out *out, const struct backend *self, uint32_t part,
		       const struct store_call *call)
{
	frame_begin(out, FRAME_SYNC);
	frame_put4(out, part);
	put_caller(out, self, call);
	frame_put_text(out, call->header, SYNC_HEADER_SIZE);
	frame_put4(out, call->count);
	for (uint32_t i = 0; i < call->count; i++) {
		frame_put_text(out, call->item[i].name, call->item[i].name_size);
		frame_put_text(out, call->item[i].bytes, call->item[i].size);
	}
}

static void give_refusal(const struct ticket *ticket, struct memory_text why)
{
	char text[192];
	bool wrong;

	snprintf(text, sizeof(text), "%.*s", (int)why.len, why.at);
	wrong = strncmp(text, CALL_IS_WRONG, strlen(CALL_IS_WRONG)) == 0;
	store_give(ticket->fn, ticket->arg, wrong ? STORE_WRONG : STORE_REFUSED, text);
}

static void on_answer(const struct link_answer *answer, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;

	free(arg);
	if (answer == NULL) {
		store_give(ticket.fn, ticket.arg, STORE_LOST, "the connection was lost");
		return;
	}
	if (answer->refused) {
		give_refusal(&ticket, answer->why);
		return;
	}
	ticket.fn(&(struct store_answer){.outcome = STORE_ANSWERED,
					 .status = answer->status,
					 .now_ms = answer->now_ms,
					 .live_rows = answer->live,
					 .other = answer->other.at,
					 .other_size = answer->other.len,
					 .answers = (const unsigned char *)answer->answers.at,
					 .answers_size = answer->answers.len},
		  ticket.arg);
}

static int ask(struct backend *self, struct frame_out *out, struct ticket from)
{
	struct ticket *ticket = malloc(sizeof(*ticket));
	int wrong = -ENOMEM;

	if (ticket == NULL)
		return wrong;
	*ticket = from;
	wrong = link_ask(self->link, out, on_answer, ticket);
	if (wrong != 0)
		free(ticket);
	return wrong;
}

static int send_sync(void *arg, uint32_t part, const struct store_call *call, store_fn *fn,
		     void *fn_arg)
{
	static struct frame_out out; /* too large for a stack; the loop has one thread */

	write_sync(&out, arg, part, call);
	return ask(arg, &out, (struct ticket){fn, fn_arg});
}

static int send_control(void *arg, const struct store_call *call, const void *bytes, size_t size,
			store_fn *fn, void *fn_arg)
{
	static struct frame_out out;

	frame_begin(&out, FRAME_CONTROL);
	put_caller(&out, arg, call);
	frame_put_text(&out, bytes, size);
	return ask(arg, &out, (struct ticket){fn, fn_arg});
}

/* Said by each agent when it changes: where the counts are, and so what loses them. */
static void tell_keeper(struct backend *self, pid_t keeper, bool is_us)
{
	struct store_server server = {.name = "memory"};

	if (is_us)
		snprintf(server.version, sizeof(server.version), "of this agent");
	else
		snprintf(server.version, sizeof(server.version), "of pid %ld", (long)keeper);
	server.notice[NOTICE_KEPT_HERE].is = is_us;
	snprintf(server.notice[NOTICE_KEPT_HERE].text, sizeof(server.notice[0].text),
		 "this agent keeps the counts of all agents of this machine, in its memory: they "
		 "begin empty, and are lost when it ends");
	server.notice[NOTICE_KEPT_THERE].is = !is_us;
	snprintf(
		server.notice[NOTICE_KEPT_THERE].text, sizeof(server.notice[0].text),
		"the agent of pid %ld keeps the counts, in its memory: they are lost when it ends, "
		"and another one goes on",
		(long)keeper);
	store_report_server(self->store, self->store->where, &server);
}

static void on_up(void *arg, pid_t keeper, bool is_us)
{
	struct backend *self = arg;

	tell_keeper(self, keeper, is_us);
	store_report_up(self->store, STORE_ALL);
}

static void on_down(void *arg, const char *why)
{
	struct backend *self = arg;

	store_report_down(self->store, STORE_ALL, self->store->where, why);
}

static const char *fault(const char *url, bool *ret_tls)
{
	(void)ret_tls;
	return link_path_fault(url + strlen(SCHEME));
}

static void close_memory(void *arg)
{
	struct backend *self = arg;

	link_free(self->link);
	free(self);
}

static void *open_memory(struct store *store, const struct store_setup *setup, const char **ret_why)
{
	static const struct link_events events = {.up = on_up, .down = on_down};
	const char *path = setup->url + strlen(SCHEME);
	struct backend *self;

	*ret_why = link_path_fault(path);
	if (*ret_why != NULL)
		return NULL;
	*ret_why = "out of memory";
	self = calloc(1, sizeof(*self));
	if (self == NULL)
		return NULL;
	self->store = store;
	snprintf(self->fleet, sizeof(self->fleet), "%s", setup->fleet);
	snprintf(store->where, sizeof(store->where), "%s", setup->url);
	self->link = link_new(setup->base, path, setup->timeout_ms, &events, self);
	if (self->link != NULL)
		return self;
	free(self);
	return NULL;
}

const struct store_backend store_memory = {
	.local = true,
	.fault = fault,
	.open = open_memory,
	.close = close_memory,
	.sync = send_sync,
	.control = send_control,
};
