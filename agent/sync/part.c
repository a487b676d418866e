#include "agent/sync/part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/sync/due.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "shm/rl_clock.h"
#include "shm/rl_side.h"

#define KEY_SIZE      256 /* of a Redis name: three names of 63 bytes, a key, and the marks between */
#define RETRY_NS      UINT64_C(100000000) /* after an error of the server */
#define COMPLAIN_NS   UINT64_C(60000000000)
#define ANSWER_PARTS  5
#define CALL_IS_WRONG "ERR rl_sync:"
#define ALONE_NS      UINT64_C(10000000000) /* one key a call after that */
#define PIECES_OVER   4 /* intervals: an item of less is said by its last age well enough */

/* Relaxed, all: the agent is the only writer; clients read single words. */
static uint64_t word_of(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static void add(_Atomic uint64_t *counter, uint64_t units)
{
	atomic_fetch_add_explicit(counter, units, memory_order_relaxed);
}

static struct rl_part *shared_part(const struct sync_part *part)
{
	return &part->sync->seg->fleet->part[part->number];
}

void part_silent(struct sync_part *part)
{
	if (word_of(&shared_part(part)->silent_ns) == 0)
		put(&shared_part(part)->silent_ns, rl_clock_precise_ns());
}

/* The arguments of one call; every pointer is into this struct. */
struct call {
	const char *argv[2 + 2 * SYNC_BATCH_MAX + 4 + SYNC_BATCH_MAX];
	size_t len[2 + 2 * SYNC_BATCH_MAX + 4 + SYNC_BATCH_MAX];
	size_t count, keys;
	char name[2 + 2 * SYNC_BATCH_MAX][KEY_SIZE];
	unsigned char header[SYNC_HEADER_SIZE];
	unsigned char item[SYNC_BATCH_MAX][SYNC_ITEM_MOST];
};

static void push(struct call *call, const void *bytes, size_t len)
{
	call->argv[call->count] = bytes;
	call->len[call->count++] = len;
}

/* "{rl:FLEET:p}:k:RULE" and the slot's name, which may hold any bytes. */
static void push_key(struct call *call, const struct sync_part *part, const char *kind,
		     const char *rule, const char *name, size_t name_len)
{
	char *text = call->name[call->keys++];
	int len = snprintf(text, KEY_SIZE, "{rl:%s:%u}:%s%s", part->sync->identity.fleet,
			   part->number, kind, rule);

	memcpy(text + len, name, name_len);
	push(call, text, (size_t)len + name_len);
}

static void push_slot(struct call *call, const struct sync_part *part, uint64_t index)
{
	const struct rl_named_rule *named = sync_rule_of(part->sync, index);
	char name[RL_NAME_BYTES];
	size_t len = rl_side_name(&part->sync->seg->view, index, name);

	push_key(call, part, "k:", named == NULL ? "?" : named->name, name, len);
	push_key(call, part, "l:", named == NULL ? "?" : named->name, name, len);
}

static void push_header(struct call *call, const struct sync_part *part)
{
	const struct identity *identity = &part->sync->identity;
	const struct sync_header header = {
		.seq = word_of(&shared_part(part)->seq),
		.nonce = word_of(&shared_part(part)->nonce),
		.lease_ms = SYNC_RECLAIM_MS,
		.flags = part->sync->totals ? SYNC_TOTALS : 0,
	};

	push(call, identity->host, strlen(identity->host));
	push(call, identity->row, strlen(identity->row));
	push(call, identity->about, strlen(identity->about));
	sync_header_write(&header, call->header);
	push(call, call->header, sizeof(call->header));
}

/*
 * An item as it is now: its age grows while it waits to be sent again. After an outage, when it
 * is of many intervals, the times within it go along.
 */
static size_t write_item(const struct sync_part *part, struct sync_entry *entry,
			 unsigned char out[SYNC_ITEM_MOST])
{
	const struct rl_view *view = &part->sync->seg->view;
	struct sync_piece piece[SYNC_PIECES_MAX];
	struct sync_item *item = &entry->item;
	uint32_t count;

	sync_slot_infl(view, entry->index, item);
	count = sync_slot_pieces(view, entry->index, item->window_ms, piece);
	sync_item_write(item, out);
	if (count < 2 ||
	    piece[0].age_ms - piece[count - 1].age_ms <= PIECES_OVER * item->interval_ms)
		return SYNC_ITEM_SIZE;
	for (uint32_t i = 0; i < count; i++)
		sync_piece_write(&piece[i], out + SYNC_ITEM_SIZE + i * SYNC_PIECE_SIZE);
	return SYNC_ITEM_SIZE + count * SYNC_PIECE_SIZE;
}

/*
 * A slot may have been emptied (damaged words) since it was taken, or its rule removed: what it
 * had to say is gone, and its name may be nobody's or another's.
 */
static void drop_emptied(struct sync_part *part)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < part->count; i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->batch[i]);
		char name[RL_NAME_BYTES];

		if (entry == NULL)
			continue;
		if (sync_slot_infl(&part->sync->seg->view, entry->index, &entry->item) &&
		    sync_rule_of(part->sync, entry->index) != NULL &&
		    rl_side_name(&part->sync->seg->view, entry->index, name) > 0)
			part->batch[kept++] = entry->index;
		else
			entry->in_flight = false;
	}
	part->count = kept;
}

static void write_call(struct call *call, const struct sync_part *part)
{
	call->count = call->keys = 0;
	push_key(call, part, "s", "", "", 0);
	push_key(call, part, "h", "", "", 0);
	for (uint32_t i = 0; i < part->count; i++)
		push_slot(call, part, part->batch[i]);
	push_header(call, part);
	for (uint32_t i = 0; i < part->count; i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->batch[i]);

		push(call, call->item[i], write_item(part, entry, call->item[i]));
	}
}

static void on_answer(struct redis *redis, redisReply *reply, void *arg);

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
	if (redis_script(part->sync->redis, call->keys, call->count, call->argv, call->len,
			 on_answer, ticket) != 0) {
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

	part_drop_lapsed(part);
	drop_emptied(part);
	write_call(&call, part);
	part_silent(part);
	if (word_of(&shared_part(part)->sent_ns) == 0)
		put(&shared_part(part)->sent_ns, now_ns);
	part->sent_ns = now_ns;
	part->in_flight = true;
	hand_over(part, &call);
}

void part_init(struct sync *sync, uint32_t number)
{
	struct sync_part *part = &sync->part[number];

	*part = (struct sync_part){.sync = sync, .number = number};
	if (word_of(&shared_part(part)->nonce) == 0)
		put(&shared_part(part)->nonce, identity_random());
}

void part_resend(struct sync_part *part)
{
	if (!part->in_flight)
		return;
	if (part->sent_ns != 0)
		add(&part->sync->seg->fleet->resends, 1);
	send_call(part);
}

void part_recover(struct sync_part *part, const uint64_t *slot, uint32_t count)
{
	part->count = count;
	for (uint32_t i = 0; i < count; i++)
		part->batch[i] = slot[i];
	part->in_flight = true; /* sent by part_resend() when the connection is up */
}

void part_want(struct sync_part *part, uint64_t index)
{
	if (part->wanted_count < SYNC_BATCH_MAX)
		part->wanted[part->wanted_count++] = index;
	else
		part->backlog = true;
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

/* Keys in the next call. */
static uint32_t most(const struct sync_part *part)
{
	return rl_clock_precise_ns() < part->alone_until_ns ? 1 : SYNC_BATCH_MAX;
}

static void collect_wanted(struct sync_part *part, uint64_t now_ns)
{
	for (uint32_t i = 0; i < part->wanted_count && part->count < most(part); i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->wanted[i]);

		if (entry == NULL || entry->in_flight ||
		    sync_active_part(&part->sync->active, entry->index) != part->number)
			continue;
		entry->urgent = true;
		take(part, entry, false, now_ns);
	}
	part->wanted_count = 0;
}

static void collect_due(struct sync_part *part, uint64_t now_ns)
{
	struct sync_list *list = &part->sync->active.part[part->number];

	for (uint32_t left = list->count; left > 0 && part->count < most(part); left--) {
		if (part->cursor >= list->count)
			part->cursor = 0;
		if (list->entry[part->cursor].in_flight ||
		    !take(part, &list->entry[part->cursor], true, now_ns))
			part->cursor++;
	}
}

static bool must_say_something(const struct sync_part *part, uint64_t now_ns)
{
	/* An idle partition is stale after an outage until it hears from Redis: at once. */
	bool young = now_ns - part->sync->began_ns < SYNC_YOUNG_NS;

	return now_ns - part->sent_ns >= (young ? SYNC_HELLO_NS : SYNC_ALIVE_NS) ||
	       (word_of(&shared_part(part)->silent_ns) != 0 && part->back_ns == 0);
}

static void set_gap(struct sync *sync)
{
	const struct timeval gap = {.tv_usec = SYNC_GAP_NS / 1000};

	if (!evtimer_pending(sync->gap, NULL))
		evtimer_add(sync->gap, &gap);
}

void part_pump(struct sync_part *part, bool all)
{
	uint64_t now_ns = rl_clock_precise_ns();

	if (part->in_flight || !redis_is_up(part->sync->redis) || now_ns < part->retry_ns)
		return;
	if (now_ns - part->sent_ns < SYNC_GAP_NS) {
		set_gap(part->sync);
		return;
	}
	part->count = 0;
	all = all || part->backlog;
	part->backlog = false;
	part_drop_lapsed(part);
	collect_wanted(part, now_ns);
	if (all)
		collect_due(part, now_ns);
	if (part->count == most(part))
		part->backlog = true;
	if (part->count > 0 || must_say_something(part, now_ns))
		send_call(part);
}

void part_drop_lapsed(struct sync_part *part)
{
	struct sync_list *list = &part->sync->active.part[part->number];

	if (word_of(&shared_part(part)->lease_until_ns) > rl_clock_precise_ns())
		return;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->entry[i].recorded) /* in Redis it stays so until a call restates it */
			sync_slot_take_credit(part->sync->seg, list->entry[i].index);
}

/*
 * Answers come again after so long that rules went by on_unreachable: they go on with that for
 * PART_GRACE_NS, while all hosts tell what they admitted. Else whoever comes back first would
 * find the window empty.
 */
static bool note_return(struct sync_part *part)
{
	uint64_t now_ns = rl_clock_precise_ns(), silent_ns = word_of(&shared_part(part)->silent_ns);

	if (part->back_ns == 0 && silent_ns != 0 &&
	    now_ns - silent_ns > word_of(&part->sync->seg->fleet->stale_after_ns))
		part->back_ns = now_ns;
	return part_in_grace(part);
}

bool part_in_grace(const struct sync_part *part)
{
	return part->back_ns != 0 && rl_clock_precise_ns() - part->back_ns < PART_GRACE_NS;
}

void part_end_grace(struct sync_part *part)
{
	if (part->back_ns == 0 || part->in_flight || part_in_grace(part))
		return;
	part->back_ns = 0;
	put(&shared_part(part)->silent_ns, 0);
}

/*
 * The last step: all slots are through, so this number is never needed again. Killed before
 * the number is raised: the next agent sends it again, with nothing in it, and Redis knows it.
 * After it: the next call goes by the old nonce and an old date, which is as good.
 */
static void close_call(struct sync_part *part)
{
	struct rl_part *shared = shared_part(part);
	uint64_t first_ns = word_of(&shared->sent_ns);

	if (first_ns != 0 && first_ns + SYNC_LEASE_NS > word_of(&shared->lease_until_ns))
		put(&shared->lease_until_ns, first_ns + SYNC_LEASE_NS);
	if (!note_return(part)) {
		part->back_ns = 0;
		put(&shared->silent_ns, 0);
	}
	/* pairs[side.rel]: after the last slot's record of the call is gone. */
	atomic_store_explicit(&shared->seq, word_of(&shared->seq) + 1, memory_order_release);
	put(&shared->sent_ns, 0);
	put(&shared->nonce, identity_random());
	part->in_flight = false;
}

/* The slots of the call report again in the next one. */
static void forget_call(struct sync_part *part)
{
	for (uint32_t i = 0; i < part->count; i++) {
		struct sync_entry *entry = sync_active_find(&part->sync->active, part->batch[i]);

		if (entry == NULL || !entry->in_flight)
			continue;
		sync_slot_forget(part->sync->seg, entry->index);
		entry->in_flight = false;
	}
}

static void apply_answers(struct sync_part *part, const char *bytes, size_t len)
{
	uint64_t now_ns = rl_clock_precise_ns();
	uint64_t first_ns = word_of(&shared_part(part)->sent_ns);
	/*
	 * A grant that comes out of an outage is not taken: Redis has given it before any host
	 * could tell what it admitted meanwhile. The next call restates the credit.
	 */
	bool lapsed = first_ns == 0 ||
		      now_ns - first_ns > word_of(&part->sync->seg->fleet->stale_after_ns);

	for (size_t at = 0; at + SYNC_ANSWER_SIZE <= len; at += SYNC_ANSWER_SIZE) {
		struct sync_answer answer;
		struct sync_entry *entry;

		sync_answer_read((const unsigned char *)bytes + at, &answer);
		entry = sync_active_find(&part->sync->active, answer.tag);
		if (entry == NULL || !entry->in_flight ||
		    sync_active_part(&part->sync->active, answer.tag) != part->number)
			continue;
		due_apply(part, entry, &answer, lapsed);
		if (entry->urgent)
			part_want(part, entry->index);
	}
	forget_call(part); /* what the answer does not name was not part of what Redis applied */
}

/* Somebody else calls themselves as we do: said on both hosts, once a minute. */
static void note_other(struct sync *sync, const char *text, size_t len)
{
	struct rl_fleet *fleet = sync->seg->fleet;
	char padded[sizeof(fleet->other)] = {0};
	uint64_t now_ns = rl_clock_precise_ns();

	memcpy(padded, text, len < sizeof(padded) ? len : sizeof(padded) - 1);
	for (size_t i = 0; i < sizeof(padded) / 8; i++) {
		uint64_t word;

		memcpy(&word, padded + 8 * i, sizeof(word));
		put(&fleet->other[i], word);
	}
	put(&fleet->other_seen_ns, now_ns);
	if (now_ns - sync->told_other_ns < COMPLAIN_NS)
		return;
	sync->told_other_ns = now_ns;
	log_event(LOG_ERROR, "duplicate_host",
		  "host=%s this=\"%s\" other=\"%s\" msg=\"two live hosts use one host id: the "
		  "limit holds, but give each its own 'host'\"",
		  sync->identity.host, sync->identity.about, padded);
}

static void complain(struct sync_part *part, const char *what, const char *hint)
{
	struct sync *sync = part->sync;
	uint64_t now_ns = rl_clock_precise_ns();

	part->refused = true;
	part->retry_ns = now_ns + RETRY_NS;
	if (sync->told_error_ns != 0 && now_ns - sync->told_error_ns < COMPLAIN_NS)
		return;
	sync->told_error_ns = now_ns;
	log_event(LOG_ERROR, "redis_refuses", "msg=\"%s\" hint=\"%s\"", what, hint);
}

static bool is_answer(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == ANSWER_PARTS &&
	       reply->element[0]->type == REDIS_REPLY_INTEGER &&
	       reply->element[2]->type == REDIS_REPLY_INTEGER &&
	       reply->element[3]->type == REDIS_REPLY_STRING &&
	       reply->element[4]->type == REDIS_REPLY_STRING &&
	       reply->element[4]->len % SYNC_ANSWER_SIZE == 0;
}

static void count_answer(struct sync_part *part, const redisReply *reply)
{
	struct rl_fleet *fleet = part->sync->seg->fleet;
	uint64_t took_ns = rl_clock_precise_ns() - part->sent_ns;
	long long hosts = reply->element[2]->integer;

	part->sync->round_trip_ns = (part->sync->round_trip_ns * 7 + took_ns) / 8;
	put(&fleet->round_trip_ns, part->sync->round_trip_ns);
	put(&fleet->hosts, hosts < 1 ? 1 : hosts > UINT16_MAX ? UINT16_MAX : (uint64_t)hosts);
	add(&fleet->syncs, part->count > 0);
	add(&fleet->keys_synced, part->count);
	if (reply->element[3]->len > 0)
		note_other(part->sync, reply->element[3]->str, (size_t)reply->element[3]->len);
}

/*
 * An error may come from a server that has applied nothing (LOADING, READONLY, OOM), so the
 * same call is sent again.
 */
/*
 * The script finds the call itself wrong (two keys of one name, in a damaged segment), and has
 * applied nothing: it would say so for ever. Its units go into other calls, for a while of one
 * key each, so that no two can contradict each other.
 */
static void give_call_up(struct sync_part *part, const char *why)
{
	complain(part, why,
		 "is the segment damaged? its keys go in calls of their own for a while");
	part->refused = false;
	forget_call(part);
	part->count = 0;
	part->alone_until_ns = rl_clock_precise_ns() + ALONE_NS;
	part->in_flight = false;
}

/* One answer for each key, and of a call that was applied before at least those that are left. */
static bool is_complete(const struct sync_part *part, const redisReply *reply)
{
	size_t len = (size_t)reply->element[4]->len, want = part->count * SYNC_ANSWER_SIZE;

	switch (reply->element[0]->integer) {
	case SYNC_APPLIED:
		return len == want;
	case SYNC_DUPLICATE:
		return len >= want;
	default:
		return reply->element[0]->integer == SYNC_OLD ||
		       reply->element[0]->integer == SYNC_CLASH;
	}
}

static void take_answer(struct sync_part *part, const redisReply *reply)
{
	long long status;

	if (reply->type == REDIS_REPLY_ERROR &&
	    strncmp(reply->str, CALL_IS_WRONG, strlen(CALL_IS_WRONG)) == 0) {
		give_call_up(part, reply->str);
		return;
	}
	if (!is_answer(reply) || !is_complete(part, reply)) {
		complain(part,
			 reply->type == REDIS_REPLY_ERROR ? reply->str
							  : "an answer of another form",
			 "the call is repeated until Redis takes it");
		return;
	}
	status = reply->element[0]->integer;
	if (status == SYNC_OLD || status == SYNC_CLASH) {
		sync_renew(part->sync);
		return;
	}
	count_answer(part, reply);
	apply_answers(part, reply->element[4]->str, (size_t)reply->element[4]->len);
	close_call(part);
	if (part->wanted_count > 0 || part->backlog)
		part_pump(part, false);
}

/* reply NULL: the connection is gone; the call is sent again when there is another. */
static void on_answer(struct redis *redis, redisReply *reply, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;

	(void)redis;
	free(arg);
	if (reply != NULL && ticket.part->in_flight && ticket.serial == ticket.part->serial)
		take_answer(ticket.part, reply);
}
