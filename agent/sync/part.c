#include "agent/sync/part.h"

#include <stdlib.h>

#include "agent/sync/answer.h"
#include "agent/sync/call.h"
#include "agent/sync/due.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"

#define EARLY_LOOKS 256u /* for one call: some 5 us */

void part_silent(struct sync_part *part)
{
	if (word_of(&sync_words(part)->silent_ns) == 0)
		put(&sync_words(part)->silent_ns, rl_clock_precise_ns());
}

void part_reached(struct sync_part *part)
{
	uint64_t silent_ns = word_of(&sync_words(part)->silent_ns);

	if (!part->in_flight && part->back_ns == 0 && silent_ns != 0 &&
	    rl_clock_precise_ns() - silent_ns < word_of(&part->sync->seg->fleet->stale_after_ns))
		put(&sync_words(part)->silent_ns, 0);
}

static void on_answer(const struct store_answer *answer, void *arg);

/* Whose answer a reply is: the call may have been given up, or sent again since. */
struct ticket {
	struct sync_part *part;
	uint32_t serial;
};

/* What cannot be sent now is sent when the connection is up again. */
static void hand_over(struct sync_part *part, struct call *call)
{
	struct ticket *ticket = malloc(sizeof(*ticket));

	part->refused = true; /* no memory: again in a while */
	part->retry_ns = rl_clock_precise_ns() + RETRY_NS;
	if (ticket == NULL)
		return;
	*ticket = (struct ticket){part, ++part->serial};
	if (store_sync(part->sync->store, part->number, &call->store, on_answer, ticket) != 0) {
		free(ticket);
		return;
	}
	part->refused = false;
	part->retry_ns = 0;
}

static void send_call(struct sync_part *part)
{
	static struct call call; /* too large for a stack; the loop has one thread */
	uint64_t now_ns = rl_clock_precise_ns();

	call_write(&call, part);
	part_silent(part);
	if (word_of(&sync_words(part)->sent_ns) == 0)
		put(&sync_words(part)->sent_ns, now_ns);
	part->sent_ns = now_ns;
	part->in_flight = true;
	hand_over(part, &call);
}

void part_init(struct sync *sync, uint32_t number)
{
	struct sync_part *part = &sync->part[number];

	*part = (struct sync_part){.sync = sync, .number = number};
	if (word_of(&sync_words(part)->nonce) == 0)
		put(&sync_words(part)->nonce, identity_random());
}

void part_resend(struct sync_part *part)
{
	if (!part->in_flight)
		return;
	if (part->sent_ns != 0)
		add(&part->sync->seg->fleet->resends, 1);
	part_drop_lapsed(part);
	send_call(part);
}

void part_recover(struct sync_part *part, const uint64_t *slot, uint32_t count)
{
	part->count = count;
	for (uint32_t i = 0; i < count; i++)
		part->batch[i] = slot[i];
	part->in_flight = true; /* sent by part_resend() when the connection is up */
}

/* More run short than one call takes: due at once, where calls that are full have their turns. */
static void want_later(struct sync_part *part, uint64_t index)
{
	struct sync_entry *entry = sync_active_find(&part->sync->active, index);
	uint64_t now_ns = rl_clock_precise_ns();

	part->backlog = true;
	if (entry != NULL && !entry->in_flight && entry->due_ns > now_ns && entry->nothing_ns == 0)
		sync_active_sooner(&part->sync->active, entry, now_ns);
}

void part_want(struct sync_part *part, uint64_t index)
{
	if (part->wanted_count < SYNC_BATCH_MAX)
		part->wanted[part->wanted_count++] = index;
	else
		want_later(part, index);
}

static bool take(struct sync_part *part, struct sync_entry *entry, bool all, uint64_t now_ns)
{
	bool gone;

	if (due_take(part, entry, all, now_ns, &gone))
		part->batch[part->count++] = entry->index;
	if (gone)
		sync_active_remove(&part->sync->active, entry);
	return gone;
}

static void collect_wanted(struct sync_part *part, uint32_t most, uint64_t now_ns)
{
	for (uint32_t i = 0; i < part->wanted_count && part->count < most; i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->wanted[i]);

		if (entry == NULL || entry->in_flight ||
		    sync_active_part(&part->sync->active, entry->index) != part->number)
			continue;
		entry->urgent = true;
		take(part, entry, false, now_ns);
	}
	part->wanted_count = 0;
}

/* The places from .. to of the list. Returns where the call was full, or to. */
static uint32_t collect_range(struct sync_part *part, uint32_t from, uint32_t to, uint32_t most,
			      uint64_t now_ns)
{
	struct sync_list *list = &part->sync->active.part[part->number];
	uint32_t at = sync_list_due(list, from, now_ns);

	while (at < to && at < list->count && part->count < most) {
		if (!list->entry[at].in_flight && take(part, &list->entry[at], true, now_ns))
			continue; /* it is gone: the last one is in its place */
		if (++at % SYNC_BLOCK == 0 || at == list->count) {
			sync_list_looked(list, at);
			at = sync_list_due(list, at, now_ns);
		}
	}
	return at;
}

/* From where the last call was full: each has its turn. */
static void collect_due(struct sync_part *part, uint32_t most, uint64_t now_ns)
{
	uint32_t from = part->cursor;

	part->cursor = collect_range(part, from, UINT32_MAX, most, now_ns);
	if (part->count < most)
		part->cursor = collect_range(part, 0, from, most, now_ns);
}

/*
 * What would need a call of its own soon; each time others are looked at, and not all: a call for
 * one key must not cost a look at all that are active.
 */
static void collect_early(struct sync_part *part, uint32_t most, uint64_t now_ns)
{
	struct sync_list *list = &part->sync->active.part[part->number];

	for (uint32_t looks = 0; looks < EARLY_LOOKS && looks < list->count && part->count < most;
	     looks++) {
		if (part->early >= list->count)
			part->early = 0;
		if (!due_early(part->sync, &list->entry[part->early], now_ns) ||
		    !take(part, &list->entry[part->early], false, now_ns))
			part->early++; /* else it is gone: the last one is in its place */
	}
}

static bool must_say_something(const struct sync_part *part, uint64_t now_ns)
{
	/* An idle partition is stale after an outage until it hears from Redis: at once. */
	bool young = now_ns - part->sync->began_ns < SYNC_YOUNG_NS;

	return now_ns - part->sent_ns >= (young ? SYNC_HELLO_NS : SYNC_ALIVE_NS) ||
	       (word_of(&sync_words(part)->silent_ns) != 0 && part->back_ns == 0);
}

static void set_gap(struct sync *sync)
{
	const struct timeval gap = {.tv_usec = SYNC_GAP_NS / 1000};

	if (!evtimer_pending(sync->gap, NULL))
		evtimer_add(sync->gap, &gap);
}

/* Full calls one after the other are more than can be told in time: load.h. */
static void note_full(struct sync_part *part, bool full, uint64_t now_ns)
{
	part->backlog = part->backlog || full;
	if (!full)
		part->full_since_ns = 0;
	else if (part->full_since_ns == 0)
		part->full_since_ns = now_ns;
}

void part_pump(struct sync_part *part, bool all)
{
	uint64_t now_ns = rl_clock_precise_ns();
	uint32_t most = now_ns < part->alone_until_ns ? 1 : SYNC_BATCH_MAX; /* keys in this call */

	if (part->in_flight || !store_is_up(part->sync->store, part->number) ||
	    now_ns < part->retry_ns || now_ns < part->sync->hold_ns)
		return;
	if (now_ns - part->sent_ns < SYNC_GAP_NS) {
		set_gap(part->sync);
		return;
	}
	part->count = 0;
	all = all || part->backlog;
	part->backlog = false;
	part_drop_lapsed(part);
	collect_wanted(part, most, now_ns);
	if (all)
		collect_due(part, most, now_ns);
	if (part->count > 0)
		collect_early(part, most, now_ns);
	note_full(part, part->count == most, now_ns);
	if (part->count > 0 || must_say_something(part, now_ns))
		send_call(part);
}

void part_drop_lapsed(struct sync_part *part)
{
	struct sync_list *list = &part->sync->active.part[part->number];

	if (word_of(&sync_words(part)->lease_until_ns) > rl_clock_precise_ns())
		return;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->entry[i].recorded) /* in Redis it stays so until a call restates it */
			sync_slot_take_credit(part->sync->seg, list->entry[i].index);
}

static void on_answer(const struct store_answer *answer, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;

	free(arg);
	if (ticket.part->in_flight && ticket.serial == ticket.part->serial)
		answer_take(ticket.part, answer);
}
