#include "agent/sync/answer.h"

#include <string.h>

#include "agent/log.h"
#include "agent/sync/due.h"
#include "agent/sync/lost.h"
#include "agent/sync/slot.h"
#include "agent/sync/sync.h"
#include "agent/sync/waiters.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"

#define AGAIN_HINT "the call is repeated until Redis takes it"
#define LATER_NS   UINT64_C(5000000000)  /* a partition has been on its way for long */
#define TURNS_MAX  5u                    /* of one call, from server to server */
#define ALONE_NS   UINT64_C(10000000000) /* one key a call after that */

/*
 * Answers come again after so long that rules went by on_unreachable: they go on with that for
 * PART_GRACE_NS, while all hosts tell what they admitted. Else whoever comes back first would
 * find the window empty.
 */
static bool note_return(struct sync_part *part)
{
	uint64_t now_ns = rl_clock_precise_ns(), silent_ns = word_of(&sync_words(part)->silent_ns);

	if (part->back_ns == 0 && silent_ns != 0 &&
	    now_ns - silent_ns > word_of(&part->sync->seg->fleet->stale_after_ns))
		part->back_ns = now_ns, part->grace_ns = PART_GRACE_NS;
	return part_in_grace(part);
}

bool part_in_grace(const struct sync_part *part)
{
	return part->back_ns != 0 && rl_clock_precise_ns() - part->back_ns < part->grace_ns;
}

void part_end_grace(struct sync_part *part)
{
	if (part->back_ns == 0 || part->in_flight || part_in_grace(part))
		return;
	part->back_ns = 0;
	put(&sync_words(part)->silent_ns, 0);
}

/*
 * The last step: all slots are through, so this number is never needed again. Killed before
 * the number is raised: the next agent sends it again, with nothing in it, and Redis knows it.
 * After it: the next call goes by the old nonce and an old date, which is as good.
 */
static void close_call(struct sync_part *part)
{
	struct rl_part *shared = sync_words(part);
	uint64_t first_ns = word_of(&shared->sent_ns), until_ns = word_of(&shared->lease_until_ns);

	/* One that lasts longer than any can is not ours: it would never be over. */
	if (first_ns != 0 && (first_ns + SYNC_LEASE_NS > until_ns ||
			      until_ns > rl_clock_precise_ns() + SYNC_LEASE_NS))
		put(&shared->lease_until_ns, first_ns + SYNC_LEASE_NS);
	if (!note_return(part)) {
		part->back_ns = 0;
		put(&shared->silent_ns, 0);
	}
	/* pairs[side.rel]: after the last slot's record of the call is gone. */
	atomic_store_explicit(&shared->seq, word_of(&shared->seq) + 1, memory_order_release);
	put(&shared->sent_ns, 0);
	put(&shared->nonce, identity_random());
	part->in_flight = part->unchained = false;
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

static void drop_call(struct sync_part *part)
{
	forget_call(part);
	part->refused = false;
	part->count = 0;
	part->in_flight = false;
}

static void apply_answers(struct sync_part *part, const unsigned char *bytes, size_t len)
{
	uint64_t now_ns = rl_clock_precise_ns();
	uint64_t first_ns = word_of(&sync_words(part)->sent_ns);
	/*
	 * A grant that comes out of an outage is not taken: Redis has given it before any host
	 * could tell what it admitted meanwhile. The next call restates the credit.
	 */
	bool lapsed = first_ns == 0 || part_in_grace(part) ||
		      now_ns - first_ns > word_of(&part->sync->seg->fleet->stale_after_ns);

	for (size_t at = 0; at + SYNC_ANSWER_SIZE <= len; at += SYNC_ANSWER_SIZE) {
		struct sync_answer answer;
		struct sync_entry *entry;

		sync_answer_read(bytes + at, &answer);
		entry = sync_active_find(&part->sync->active, answer.tag);
		if (entry == NULL || !entry->in_flight ||
		    sync_active_part(&part->sync->active, answer.tag) != part->number)
			continue;
		lost_note(part, entry);
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
	put_text(fleet->other, sizeof(padded) / 8, text, len);
	put(&fleet->other_seen_ns, now_ns);
	if (now_ns - sync->told_other_ns < COMPLAIN_NS)
		return;
	sync->told_other_ns = now_ns;
	log_event(LOG_ERROR, "duplicate_host",
		  "host=%s this=\"%s\" other=\"%s\" msg=\"two live hosts use one host id: the "
		  "limit holds, but give each its own 'host'\"",
		  sync->identity.host, sync->identity.about, padded);
}

static void wait_to_resend(struct sync_part *part)
{
	part->refused = true;
	part->retry_ns = rl_clock_precise_ns() + RETRY_NS;
	part->turns = 0;
}

/*
 * What is no answer comes from a server that has applied nothing (LOADING, READONLY, OOM) or
 * whose answer is spoilt: the same call is sent again.
 */
static void complain(struct sync_part *part, const char *what, const char *hint)
{
	struct sync *sync = part->sync;
	uint64_t now_ns = rl_clock_precise_ns();

	wait_to_resend(part);
	if (sync->told_error_ns != 0 && now_ns - sync->told_error_ns < COMPLAIN_NS)
		return;
	sync->told_error_ns = now_ns;
	log_event(LOG_ERROR, "redis_refuses", "msg=\"%s\" hint=\"%s\"", what, hint);
}

static void count_answer(struct sync_part *part, const struct store_answer *answer)
{
	struct rl_fleet *fleet = part->sync->seg->fleet;
	uint64_t now_ns = rl_clock_precise_ns(), took_ns = now_ns - part->sent_ns;
	uint64_t hosts = answer->live_rows;

	part->sync->round_trip_ns = (part->sync->round_trip_ns * 7 + took_ns) / 8;
	put(&fleet->round_trip_ns, part->sync->round_trip_ns);
	load_answered(&part->sync->load, took_ns);
	put(&sync_words(part)->answered_ns, now_ns);
	if (part->sync->watch != NULL)
		watch_answer(part->sync->watch, part->sent_ns, now_ns, answer->now_ms);
	if (word_of(&fleet->hosts) != 0 || now_ns - part->sync->began_ns >= SYNC_SETTLE_NS)
		put(&fleet->hosts, hosts < 1 ? 1 : hosts > UINT16_MAX ? UINT16_MAX : hosts);
	add(&fleet->syncs, part->count > 0);
	add(&fleet->keys_synced, part->count);
	if (answer->other_size > 0)
		note_other(part->sync, answer->other, answer->other_size);
}

/*
 * The script finds the call itself wrong (two keys of one name, in a damaged segment), and has
 * applied nothing: it would say so for ever. Its units go into other calls, for a while of one
 * key each, so that no two can contradict each other.
 */
static void give_call_up(struct sync_part *part, const char *why)
{
	complain(part, why,
		 "is the segment damaged? its keys go in calls of their own for a while");
	drop_call(part);
	part->alone_until_ns = rl_clock_precise_ns() + ALONE_NS;
}

/* One answer for each key, and of a call that was applied before at least those that are left. */
static bool is_complete(const struct sync_part *part, const struct store_answer *answer)
{
	size_t len = answer->answers_size, want = part->count * SYNC_ANSWER_SIZE;

	switch (answer->status) {
	case SYNC_APPLIED:
		return len == want;
	case SYNC_DUPLICATE:
		return len >= want;
	case SYNC_MISSING:
		return len == SYNC_ANSWER_SIZE;
	default:
		return answer->status == SYNC_OLD || answer->status == SYNC_CLASH;
	}
}

/* Applied, now or before. */
static void take(struct sync_part *part, const struct store_answer *answer)
{
	say_works(part->sync);
	part->turns = 0;
	count_answer(part, answer);
	apply_answers(part, answer->answers, answer->answers_size);
	close_call(part);
	waiters_tell(part->sync->waiters, part->number);
	if (part->wanted_count > 0 || part->backlog)
		part_pump(part, false);
}

/* Nothing was applied: what it told goes into other calls, with what is missing there. */
static void take_loss(struct sync_part *part, const struct store_answer *answer)
{
	struct sync_answer known;

	sync_answer_read(answer->answers, &known);
	drop_call(part);
	lost_take(part, known.tag);
}

/*
 * The call belongs elsewhere by now: it goes there at once. But a store whose servers send us from
 * one to the other for ever is asked no more often than one that refuses.
 */
static void turn_to(struct sync_part *part)
{
	if (part->turns++ < TURNS_MAX)
		part_resend(part);
	else
		wait_to_resend(part);
}

/* A partition is moved in moments; one that is not is said, as whoever moves it has stopped. */
static void wait_or_complain(struct sync_part *part, const char *why)
{
	uint64_t silent_ns = word_of(&sync_words(part)->silent_ns);

	if (silent_ns != 0 && rl_clock_precise_ns() - silent_ns > LATER_NS)
		complain(part, why, "a slot of a cluster is being moved: is that still under way?");
	else
		wait_to_resend(part);
}

void answer_take(struct sync_part *part, const struct store_answer *answer)
{
	switch (answer->outcome) {
	case STORE_ANSWERED:
		if (!is_complete(part, answer))
			complain(part, "an answer of another form", AGAIN_HINT);
		else if (answer->status == SYNC_OLD || answer->status == SYNC_CLASH)
			sync_renew(part->sync);
		else if (answer->status == SYNC_MISSING)
			take_loss(part, answer);
		else
			take(part, answer);
		break;
	case STORE_LOST: /* sent again when the partition is up */
		break;
	case STORE_REFUSED:
		complain(part, answer->why, AGAIN_HINT);
		break;
	case STORE_WRONG:
		give_call_up(part, answer->why);
		break;
	case STORE_AGAIN:
		turn_to(part);
		break;
	case STORE_LATER:
		wait_or_complain(part, answer->why);
		break;
	}
}
