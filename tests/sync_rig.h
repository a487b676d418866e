/*
 * sync_rig.h - the agent's sync with the test in the place of Redis and of the event loop.
 *
 * For one test program each: it defines what part.c and due.c call of sync.c, store.c and
 * identity.c, so those are not linked. A call that is sent is taken to pieces into rig.item and
 * answered when the test says so. rig.step, if set, is called wherever the sync asks for
 * something: the places at which an agent may be killed.
 */
#ifndef TESTS_SYNC_RIG_H
#define TESTS_SYNC_RIG_H

#include "tests/shared_key.h"

#include <stdlib.h>

#include "agent/log.h"
#include "agent/sync/due.h"
#include "agent/sync/lost.h"
#include "agent/sync/part.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "shm/rl_clock_check.h"

struct rig_item {
	uint64_t tag, window_ms, used, age_ms, demand;
	uint32_t limit, interval_ms, credit, waiting, blind, flags, pieces;
	uint64_t piece_units;  /* of all pieces */
	uint64_t piece_age_ms; /* of the last */
};

static struct {
	struct rl_seg *seg;
	struct sync sync;
	struct event_base *base;
	void (*step)(void);
	bool up;
	/* The call that was sent last. */
	store_fn *fn;
	void *ticket; /* NULL: answered */
	uint32_t calls, part, items, renewed, logged;
	uint64_t seq, nonce;
	uint32_t flags; /* of the call */
	struct rig_item item[SYNC_BATCH_MAX];
	uint64_t random; /* what identity_random() gave last */
} rig;

static inline void rig_step(void)
{
	if (rig.step != NULL)
		rig.step();
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	(void)level, (void)event, (void)format;
	rig.logged++;
}

uint64_t identity_random(void)
{
	rig_step();
	return ++rig.random;
}

bool store_is_up(const struct store *store, uint32_t part)
{
	(void)store, (void)part;
	rig_step();
	return rig.up;
}

const char *store_where(const struct store *store)
{
	(void)store;
	return "rig";
}

uint32_t store_nodes(const struct store *store, struct store_node ret[RL_PARTS])
{
	(void)store, (void)ret;
	return 0;
}

void sync_renew(struct sync *sync)
{
	(void)sync;
	rig.renewed++;
}

const struct rl_named_rule *sync_rule_of(const struct sync *sync, uint64_t index)
{
	uint32_t id = rl_pair_high(sync->seg->slot[index].shape);

	rig_step();
	for (uint32_t i = 0; i < sync->rule_count; i++)
		if (sync->rule[i].rule.id == id)
			return &sync->rule[i];
	return NULL;
}

uint32_t sync_part_of(const struct sync *sync, uint64_t index)
{
	return rl_hint_part(sync->seg->slot[index].hint);
}

static inline uint64_t rig_number(const char **at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)(uint8_t)(*at)[i] << (8 * i);
	*at += bytes;
	return value;
}

/* ITEM and PIECE of rl_sync.lua. */
static inline void rig_read_item(const char *at, size_t len, struct rig_item *ret)
{
	ret->limit = (uint32_t)rig_number(&at, 4);
	ret->window_ms = rig_number(&at, 8);
	ret->interval_ms = (uint32_t)rig_number(&at, 4);
	ret->blind = (uint32_t)rig_number(&at, 4);
	ret->tag = rig_number(&at, 8);
	ret->used = rig_number(&at, 8);
	ret->age_ms = rig_number(&at, 8);
	ret->credit = (uint32_t)rig_number(&at, 4);
	ret->demand = rig_number(&at, 8);
	ret->waiting = (uint32_t)rig_number(&at, 4);
	ret->flags = (uint32_t)rig_number(&at, 4);
	ret->pieces = ret->flags >> SYNC_PIECES_AT;
	ret->flags &= (1u << SYNC_PIECES_AT) - 1;
	assert_int_equal(len, SYNC_ITEM_SIZE + ret->pieces * SYNC_PIECE_SIZE);
	ret->piece_units = 0;
	for (uint32_t i = 0; i < ret->pieces; i++) {
		ret->piece_units += rig_number(&at, 8);
		ret->piece_age_ms = rig_number(&at, 8);
	}
}

int store_sync(struct store *store, uint32_t part, const struct store_call *call, store_fn *fn,
	       void *arg)
{
	const char *header = (const char *)call->header;

	(void)store;
	free(rig.ticket); /* as a lost connection, without its NULL */
	rig.fn = fn;
	rig.ticket = arg;
	rig.calls++;
	rig.part = part;
	rig.seq = rig_number(&header, 8);
	rig.nonce = rig_number(&header, 8);
	rig_number(&header, 4); /* the time after which a lease is charged */
	rig.flags = (uint32_t)rig_number(&header, 4);
	rig.items = call->count;
	for (uint32_t i = 0; i < rig.items; i++)
		rig_read_item((const char *)call->item[i].bytes, call->item[i].size, &rig.item[i]);
	rig_step();
	return 0;
}

/* Somebody has marked this slot: what sync.c does then. */
static inline void rig_touch(uint64_t index, void *unused)
{
	uint32_t part = rl_hint_part(rig.seg->slot[index].hint);
	struct sync_entry *entry = sync_active_find(&rig.sync.active, index);

	(void)unused;
	if (entry == NULL) {
		entry = sync_active_add(&rig.sync.active, part, index);
		entry->busy_ns = entry->due_ns = rl_clock_precise_ns();
	}
	if (rig.seg->slot[index].asked != 0)
		part_want(&rig.sync.part[part], index);
}

/* What an agent before this one left, as sync.c looks for it. */
static inline void rig_take_over(void)
{
	static uint64_t left[RL_PARTS][SYNC_BATCH_MAX];
	uint32_t count[RL_PARTS] = {0};

	for (uint64_t i = 0; i < rig.seg->view.slot_count; i++) {
		uint32_t part = rl_hint_part(rig.seg->slot[i].hint);
		uint64_t head = rig.seg->slot[i].head;

		if (!rl_head_is_open(head) ||
		    (rl_head_credit(head) == 0 && rig.seg->side[i].infl == 0 &&
		     sync_slot_unsent(&rig.seg->view, i) == 0))
			continue;
		rig.seg->side[i].debt = 0;
		rig.seg->side[i].waiters = 0;
		rig_touch(i, NULL);
		sync_active_find(&rig.sync.active, i)->recorded = rl_head_credit(head) > 0;
		if (rig.seg->side[i].infl == 0)
			continue;
		if (due_recover(&rig.sync.part[part], sync_active_find(&rig.sync.active, i)))
			left[part][count[part]++] = i;
		else
			sync_slot_forget(rig.seg, i);
	}
	for (uint32_t p = 0; p < RL_PARTS; p++)
		part_recover(&rig.sync.part[p], left[p], count[p]);
}

/* All that an agent has in its own memory is gone. */
static inline void rig_kill(void)
{
	free(rig.ticket);
	rig.ticket = NULL;
	rig.step = NULL;
	sync_active_free(&rig.sync.active);
	lost_free(&rig.sync);
	if (rig.sync.gap != NULL)
		event_free(rig.sync.gap);
	if (rig.base != NULL)
		event_base_free(rig.base);
	rig.sync.gap = NULL;
	rig.base = NULL;
}

static inline void rig_on_gap(evutil_socket_t fd, short events, void *arg)
{
	(void)fd, (void)events, (void)arg;
}

/* A new agent that has nothing but the segment. Its calls under way are not sent again yet. */
static inline bool rig_start(struct rl_seg *seg)
{
	uint64_t generation;

	memset(&rig.sync, 0, sizeof(rig.sync));
	rig.seg = rig.sync.seg = seg;
	rig.up = true;
	rig.base = event_base_new();
	if (rig.base == NULL || !sync_active_init(&rig.sync.active, seg->view.slot_count))
		return false;
	rig.sync.gap = evtimer_new(rig.base, rig_on_gap, NULL);
	rig.sync.round_trip_ns = 100000;
	rig.sync.rule_count = (uint32_t)rl_rules_list(&seg->view, rig.sync.rule, &generation);
	memcpy(rig.sync.identity.host, "h", 2);
	memcpy(rig.sync.identity.row, "h:1", 4);
	memcpy(rig.sync.identity.fleet, "f", 2);
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		if (seg->fleet->part[p].seq == 0)
			seg->fleet->part[p].seq = 1;
		part_init(&rig.sync, p);
	}
	if (!lost_init(&rig.sync))
		return false;
	rig_take_over();
	return true;
}

/* Put together and send, as soon as a tick or a ring would; all: as a tick. */
static inline void rig_pump(uint32_t part, bool all)
{
	struct sync_list *list = &rig.sync.active.part[part];

	rl_dirty_take(rig.seg, false, rig_touch, NULL);
	for (uint32_t i = 0; i < list->count; i++) /* tests say themselves when a key is due */
		sync_active_sooner(&rig.sync.active, &list->entry[i], list->entry[i].due_ns);
	rig.sync.part[part].sent_ns = 0; /* the last one was long ago */
	part_pump(&rig.sync.part[part], all);
}

static inline void rig_write_answer(const struct sync_answer *answer, char out[SYNC_ANSWER_SIZE])
{
	const uint32_t small[6] = {answer->grant, answer->flags,      answer->retry_ms,
				   answer->count, answer->others_out, answer->ends_ms};

	for (size_t i = 0; i < 8; i++)
		out[i] = (char)(answer->tag >> (8 * i));
	for (size_t i = 0; i < 24; i++)
		out[8 + i] = (char)(small[i / 4] >> (8 * (i % 4)));
}

/* The call that was sent last came to nothing. */
static inline void rig_tell(enum store_outcome outcome, const char *why)
{
	void *ticket = rig.ticket;

	rig.ticket = NULL;
	rig.fn(&(struct store_answer){.outcome = outcome, .why = why}, ticket);
}

/* Deliver an answer to the call that was sent last. */
static inline void rig_deliver(long long status, long long hosts, char *answers, size_t len)
{
	const struct store_answer answer = {
		.status = status,
		.now_ms = 1,
		.live_rows = (uint64_t)hosts,
		.other = "",
		.answers = (const unsigned char *)answers,
		.answers_size = len,
	};
	void *ticket = rig.ticket;

	rig.ticket = NULL; /* freed by the receiver, whatever happens in it */
	if (ticket != NULL)
		rig.fn(&answer, ticket);
}

#endif
