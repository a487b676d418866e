/*
 * rl_verify_host.c - everything in a segment but the slots and the rules.
 */
#include <string.h>

#include "shm/rl_fleet.h"
#include "shm/rl_member.h"
#include "shm/rl_rebase.h"
#include "shm/rl_shared.h"
#include "shm/rl_verify_steps.h"
#include "shm/rl_word.h"

#define WALL_OFF_NS INT64_C(1000000000) /* the agent follows the wall clock, beat by beat */
#define LEASE_MOST  (60 * RL_SECOND_NS) /* credit lives for 5 s */
#define STALE_MOST  (60 * RL_SECOND_NS) /* configured: 5 s at most */
#define EXACT       (UINT64_C(1) << 53) /* the script counts in doubles */
#define HOSTS_MOST  UINT64_C(65535)

static void say(struct rl_verify *verify, enum rl_fault fault, const void *at, uint64_t found,
		uint64_t wanted)
{
	rl_verify_say(verify, fault, 0, at, found, wanted);
}

static void check_header(struct rl_verify *verify)
{
	const struct rl_hdr *hdr = verify->view->hdr;

	/* Attaching has said so already, unless it was written since. */
	if (rl_segment_usable(hdr, verify->view->size, NULL) != 0)
		say(verify, RL_FAULT_HEADER, hdr, hdr->magic, RL_MAGIC);
	if ((hdr->clock == RL_CLOCK_GIVEN) != verify->view->given)
		say(verify, RL_FAULT_HEADER, &hdr->clock, hdr->clock, verify->view->given);
	if (memcmp(hdr->hash_key, verify->view->hash_key, sizeof(hdr->hash_key)) != 0 ||
	    (hdr->hash_key[0] | hdr->hash_key[1]) == 0)
		say(verify, RL_FAULT_HEADER, &hdr->hash_key, 0, 1);
	if (hdr->tick_ns != rl_clock_tick_ns()) /* coarse stamps would not be held long enough */
		say(verify, RL_FAULT_HEADER, &hdr->tick_ns, hdr->tick_ns, rl_clock_tick_ns());
	for (size_t i = 0; hdr->abi_minor == RL_ABI_MINOR && i < sizeof(hdr->pad1); i++)
		if (hdr->pad1[i] != 0) {
			say(verify, RL_FAULT_HEADER, &hdr->pad1[i], hdr->pad1[i], 0);
			break;
		}
}

/* A moment that has been written down must have been. */
static void check_past(struct rl_verify *verify, enum rl_fault fault, uint64_t index,
		       const _Atomic uint64_t *at)
{
	uint64_t then_ns = rl_verify_word(at), now_ns = rl_clock_precise_ns();

	if (then_ns > now_ns + RL_VERIFY_AHEAD_NS)
		rl_verify_say(verify, fault, index, at, then_ns, now_ns);
}

static void check_live(struct rl_verify *verify)
{
	const struct rl_live *live = verify->view->live;
	uint64_t wall_ns = rl_verify_word(&live->wall_ns);
	int64_t off_ns =
		(int64_t)(rl_clock_read_ns(CLOCK_REALTIME) - rl_clock_precise_ns() - wall_ns);

	check_past(verify, RL_FAULT_LIVE, 0, &live->beat_ns);
	check_past(verify, RL_FAULT_LIVE, 0, &live->agent_start_ns);
	if (verify->agent_lives && (off_ns > WALL_OFF_NS || off_ns < -WALL_OFF_NS))
		say(verify, RL_FAULT_LIVE, &live->wall_ns, wall_ns, wall_ns + (uint64_t)off_ns);
}

/* Would a new agent drop it? Each word is sound by itself, also while the next entry is written. */
static void check_journal(struct rl_verify *verify)
{
	const struct rl_journal *journal = &verify->view->live->journal;
	/* pairs[journal.acq]: an entry that counts is whole. */
	uint64_t valid = atomic_load_explicit(&journal->valid, memory_order_acquire);
	uint64_t n = rl_head_n(rl_verify_word(&journal->open_head));
	uint64_t shape = rl_verify_word(&journal->shape);
	uint64_t window_ns = rl_verify_word(&journal->window_ns);

	if (valid == 0)
		return;
	if (valid > 2)
		say(verify, RL_FAULT_JOURNAL, &journal->valid, valid, 2);
	else if (rl_verify_word(&journal->slot) >= verify->view->slot_count)
		say(verify, RL_FAULT_JOURNAL, &journal->slot, rl_verify_word(&journal->slot),
		    verify->view->slot_count - 1);
	else if (!rl_head_is(rl_verify_word(&journal->closed_head), RL_KIND_REBASE))
		say(verify, RL_FAULT_JOURNAL, &journal->closed_head,
		    rl_verify_word(&journal->closed_head), RL_HEAD_CLOSED | RL_KIND_REBASE);
	else if (!rl_rebase_sound(n, shape, window_ns) &&
		 !rl_rebase_sound_count(n, shape, window_ns))
		say(verify, RL_FAULT_JOURNAL, &journal->shape, shape, 0);
}

static void check_name(struct rl_verify *verify, const _Atomic uint64_t word[RL_NAME_WORDS])
{
	char name[RL_NAME_WORDS * 8];

	for (size_t i = 0; i < RL_NAME_WORDS; i++) {
		uint64_t bytes = rl_verify_word(&word[i]);

		memcpy(name + 8 * i, &bytes, sizeof(bytes));
	}
	if (name[0] != '\0' &&
	    (memchr(name, '\0', sizeof(name)) == NULL || rl_name_fault(name) != NULL))
		say(verify, RL_FAULT_FLEET, word, rl_verify_word(&word[0]), 0);
}

static void check_most(struct rl_verify *verify, enum rl_fault fault, uint64_t index,
		       const _Atomic uint64_t *at, uint64_t most)
{
	uint64_t value = rl_verify_word(at);

	if (value > most)
		rl_verify_say(verify, fault, index, at, value, most);
}

static void check_fleet(struct rl_verify *verify)
{
	const struct rl_fleet *fleet = verify->view->fleet;
	uint64_t interval_ns = rl_verify_word(&fleet->interval_ns);

	check_name(verify, fleet->host);
	check_name(verify, fleet->fleet);
	check_most(verify, RL_FAULT_FLEET, 0, &fleet->stale_after_ns, STALE_MOST);
	check_most(verify, RL_FAULT_FLEET, 0, &fleet->hosts, HOSTS_MOST);
	check_most(verify, RL_FAULT_FLEET, 0, &fleet->epoch, EXACT - 1);
	check_most(verify, RL_FAULT_FLEET, 0, &fleet->redis, RL_REDIS_DOWN);
	if (interval_ns != 0 &&
	    (interval_ns < RL_INTERVAL_MIN_NS || interval_ns > RL_INTERVAL_MAX_NS))
		say(verify, RL_FAULT_FLEET, &fleet->interval_ns, interval_ns, RL_INTERVAL_MAX_NS);
	if (atomic_load_explicit(&fleet->asleep, memory_order_relaxed) > 1)
		say(verify, RL_FAULT_FLEET, &fleet->asleep,
		    atomic_load_explicit(&fleet->asleep, memory_order_relaxed), 1);
	check_past(verify, RL_FAULT_FLEET, 0, &fleet->redis_since_ns);
	check_past(verify, RL_FAULT_FLEET, 0, &fleet->other_seen_ns);
}

static void check_part(struct rl_verify *verify, uint64_t index)
{
	const struct rl_part *part = &verify->view->fleet->part[index];
	uint64_t lease_ns = rl_verify_word(&part->lease_until_ns), now_ns = rl_clock_precise_ns();

	check_past(verify, RL_FAULT_PART, index, &part->silent_ns);
	check_past(verify, RL_FAULT_PART, index, &part->sent_ns);
	check_most(verify, RL_FAULT_PART, index, &part->seq, EXACT - 1);
	if (rl_verify_word(&part->seq) == 0)
		rl_verify_say(verify, RL_FAULT_PART, index, &part->seq, 0, 1);
	if (lease_ns > now_ns + LEASE_MOST)
		rl_verify_say(verify, RL_FAULT_PART, index, &part->lease_until_ns, lease_ns,
			      now_ns + LEASE_MOST);
}

static void check_members(struct rl_verify *verify)
{
	const struct rl_view *view = verify->view;

	verify->members = 0;
	verify->other_pids =
		verify->agent_lives && rl_member_is_gone(rl_verify_word(&view->live->agent_pid));
	for (uint64_t i = 0; i < view->member_count; i++) {
		uint64_t pid = rl_verify_word(&view->member[i].owner);

		verify->members += pid != 0;
		if (pid == 0)
			continue;
		/* The first line is nobody's. */
		if (i == 0 || pid > INT32_MAX || (!verify->other_pids && rl_member_is_gone(pid)))
			rl_verify_say(verify, RL_FAULT_MEMBER, i, &view->member[i].owner, pid, 0);
	}
}

/* Marks behind the last of count things, in the last word. */
static void check_marks(struct rl_verify *verify, const _Atomic uint64_t *word, uint64_t count)
{
	uint64_t bits = rl_verify_word(&word[count / 64]) >> count % 64;

	if (count % 64 != 0 && bits != 0)
		say(verify, RL_FAULT_DIRTY, &word[count / 64], bits, 0);
}

static void check_dirty(struct rl_verify *verify)
{
	const struct rl_view *view = verify->view;

	for (uint32_t e = 0; e < view->extents; e++) {
		uint64_t slots = view->extent[e].count * RL_LANES, words = (slots + 63) / 64;
		const _Atomic uint64_t *sum =
			(const void *)((const char *)view->hdr + view->dirty_at[e]);

		check_marks(verify, sum, words);
		check_marks(verify, sum + (words + 63) / 64, slots);
	}
}

void rl_verify_host(struct rl_verify *verify)
{
	check_header(verify);
	check_live(verify);
	check_journal(verify);
	rl_verify_rules(verify);
	check_fleet(verify);
	for (uint64_t p = 0; p < RL_PARTS; p++)
		check_part(verify, p);
	check_members(verify);
	rl_verify_holders(verify);
	check_dirty(verify);
}
