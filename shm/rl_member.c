#include "shm/rl_member.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "shm/rl_clock.h"

static bool swap_owner(struct rl_member *member, uint64_t from, uint64_t to)
{
	/* Relaxed: owning a member gives no right but to be the usual writer of it. */
	return atomic_compare_exchange_strong_explicit(&member->owner, &from, to,
						       memory_order_relaxed, memory_order_relaxed);
}

struct rl_member *rl_member_take(struct rl_seg *seg, uint64_t pid)
{
	for (uint32_t i = 1; i < seg->view.member_count; i++)
		if (swap_owner(&seg->member[i], 0, pid))
			return &seg->member[i];
	return &seg->member[0]; /* never owned: shared by all who found the others taken */
}

void rl_member_give(struct rl_member *member, uint64_t pid)
{
	swap_owner(member, pid, 0);
}

bool rl_member_is_gone(uint64_t pid)
{
	return pid > INT32_MAX || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

uint32_t rl_member_sweep(struct rl_seg *seg)
{
	uint32_t given = 0;

	for (uint32_t i = 0; i < seg->view.member_count; i++) {
		/* Relaxed: as in swap_owner(). */
		uint64_t pid = atomic_load_explicit(&seg->member[i].owner, memory_order_relaxed);

		/* The first line is never owned: by whom it says was written there by a stranger.
		 */
		if (pid != 0 && (i == 0 || rl_member_is_gone(pid)) &&
		    swap_owner(&seg->member[i], pid, 0))
			given++;
	}
	return given;
}

uint32_t rl_member_living(const struct rl_view *view)
{
	uint32_t living = 0;

	for (uint32_t i = 0; i < view->member_count; i++) {
		/* Relaxed: as in swap_owner(). */
		uint64_t pid = atomic_load_explicit(&view->member[i].owner, memory_order_relaxed);

		living += pid != 0 && !rl_member_is_gone(pid);
	}
	return living;
}

static uint64_t read_count(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed); /* as rl_member_count */
}

static void add_counts(const struct rl_counts *counts, struct rl_rule_totals *ret)
{
	ret->allowed += read_count(&counts->allowed);
	ret->limited += read_count(&counts->limited);
	ret->shadowed += read_count(&counts->shadowed);
	ret->errors += read_count(&counts->errors);
	ret->near += read_count(&counts->near);
	ret->pooled += read_count(&counts->pooled);
	ret->refunded += read_count(&counts->refunded);
}

static void add_member(const struct rl_member *m, struct rl_totals *ret)
{
	ret->errors += read_count(&m->errors);
	ret->full += read_count(&m->full);
	ret->mended += read_count(&m->mended);
	ret->claims += read_count(&m->claims);
	ret->members += read_count(&m->owner) != 0;
	for (uint32_t r = 0; r < RL_RULES_MAX; r++)
		add_counts(&m->rule[r], &ret->rule);
	for (uint32_t b = 0; b < RL_LATENCY_BUCKETS; b++)
		ret->latency[b] += read_count(&m->latency[b]);
}

void rl_member_totals(const struct rl_view *view, struct rl_totals *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint32_t i = 0; i < view->member_count; i++)
		add_member(&view->member[i], ret);
	ret->allowed = ret->rule.allowed;
	ret->limited = ret->rule.limited;
}

static void sum_up(const struct rl_view *view, uint32_t index, struct rl_rule_totals *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint32_t i = 0; i < view->member_count; i++)
		add_counts(&view->member[i].rule[index], ret);
}

static uint64_t take(const _Atomic uint64_t *word)
{
	/* pairs[before_word.acq]: the members' numbers that are read afterwards are not older than
	 * those it was made of; and a word written for another rule shows that this one has gone.
	 */
	return atomic_load_explicit(word, memory_order_acquire);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
	/* pairs[before_word.rel]: the id was taken away before. */
	atomic_store_explicit(word, value, memory_order_release);
}

static void read_before(const struct rl_before *before, struct rl_rule_totals *ret)
{
	ret->allowed = take(&before->allowed);
	ret->limited = take(&before->limited);
	ret->shadowed = take(&before->shadowed);
	ret->errors = take(&before->errors);
	ret->near = take(&before->near);
	ret->pooled = take(&before->pooled);
	ret->refunded = take(&before->refunded);
}

uint32_t rl_member_rule_at(const struct rl_view *view, uint32_t index)
{
	/* pairs[before_id.acq]: what was before this rule is written. */
	return (uint32_t)atomic_load_explicit(&view->before[index].id, memory_order_acquire);
}

void rl_member_rule_comes(struct rl_seg *seg, uint32_t index, uint32_t id)
{
	struct rl_before *before = &seg->before[index];
	struct rl_rule_totals now;

	if (rl_member_rule_at(&seg->view, index) == id)
		return;
	sum_up(&seg->view, index, &now);
	/* Killed from here on: no rule has these numbers, and the next publish does it again.
	 * Relaxed: each word below releases it. */
	atomic_store_explicit(&before->id, 0, memory_order_relaxed);
	put(&before->allowed, now.allowed);
	put(&before->limited, now.limited);
	put(&before->shadowed, now.shadowed);
	put(&before->errors, now.errors);
	put(&before->near, now.near);
	put(&before->pooled, now.pooled);
	put(&before->refunded, now.refunded);
	/* pairs[before_id.rel]: all above is written. */
	atomic_store_explicit(&before->id, id, memory_order_release);
}

/* Never below 0, whatever a damaged segment says. */
static uint64_t since(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

void rl_member_rule_totals(const struct rl_view *view, uint32_t index, uint32_t id,
			   struct rl_rule_totals *ret)
{
	struct rl_rule_totals before, now;

	memset(ret, 0, sizeof(*ret));
	if (rl_member_rule_at(view, index) != id)
		return;
	read_before(&view->before[index], &before);
	if (rl_member_rule_at(view, index) != id)
		return; /* another one came meanwhile */
	sum_up(view, index, &now);
	ret->allowed = since(now.allowed, before.allowed);
	ret->limited = since(now.limited, before.limited);
	ret->shadowed = since(now.shadowed, before.shadowed);
	ret->errors = since(now.errors, before.errors);
	ret->near = since(now.near, before.near);
	ret->pooled = since(now.pooled, before.pooled);
	ret->refunded = since(now.refunded, before.refunded);
}

RL_COLD uint64_t rl_member_time(struct rl_seg *seg)
{
	/* Relaxed: one of those who see it, or two, are timed. */
	atomic_store_explicit(&seg->timed, 0, memory_order_relaxed);
	return rl_clock_precise_ns();
}

RL_COLD void rl_member_timed(struct rl_member *member, uint64_t begun_ns)
{
	uint64_t took_ns = rl_clock_precise_ns() - begun_ns;
	uint32_t bucket = 63 - (uint32_t)__builtin_clzll(took_ns | 1);

	rl_member_count(
		&member->latency[bucket < RL_LATENCY_BUCKETS ? bucket : RL_LATENCY_BUCKETS - 1], 1);
}

uint64_t rl_member_timings(const struct rl_totals *totals)
{
	uint64_t timed = 0;

	for (uint32_t i = 0; i < RL_LATENCY_BUCKETS; i++)
		timed += totals->latency[i];
	return timed;
}

uint64_t rl_member_latency(const struct rl_totals *totals, double part)
{
	uint64_t timed = rl_member_timings(totals), seen;
	uint32_t b = 0;

	if (timed == 0)
		return 0;
	/* Rounded up: of three checks half are two. The last bucket that holds any ends it. */
	for (seen = totals->latency[0];
	     b < RL_LATENCY_BUCKETS - 1 && (double)seen < part * (double)timed;
	     seen += totals->latency[b])
		b++;
	return UINT64_C(2) << b;
}
