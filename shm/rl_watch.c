#include "shm/rl_watch.h"

#include <string.h>

#include "shm/rl_audit.h"
#include "shm/rl_clock.h"
#include "shm/rl_side.h"
#include "shm/rl_word.h"

/* Relaxed, all: numbers for people, of which each stands for itself. */
static uint64_t number(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t age(uint64_t since_ns, uint64_t now_ns)
{
	return now_ns > since_ns ? now_ns - since_ns : 0;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void read_part(const struct rl_view *view, uint32_t p, uint64_t now_ns,
		      struct rl_watch_part *ret)
{
	const struct rl_part *part = &view->fleet->part[p];
	uint64_t silent_ns = number(&part->silent_ns), answered_ns = number(&part->answered_ns);

	ret->state = rl_shared_state(view, p, now_ns);
	ret->silent_ns = silent_ns == 0 ? 0 : age(silent_ns, now_ns);
	ret->answered_ns = answered_ns == 0 ? UINT64_MAX : age(answered_ns, now_ns);
	ret->lease_ns = age(now_ns, number(&part->lease_until_ns));
}

static void read_parts(const struct rl_view *view, struct rl_watch_host *ret)
{
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		read_part(view, p, ret->now_ns, &ret->part[p]);
		if (ret->part[p].state > ret->state)
			ret->state = ret->part[p].state;
		ret->silent_ns = larger(ret->silent_ns, ret->part[p].silent_ns);
		ret->answered_ns = larger(ret->answered_ns, ret->part[p].answered_ns);
	}
}

static void read_clocks(const struct rl_watch *watch, struct rl_watch_host *ret)
{
	uint64_t at_ns = number(&watch->skew_at_ns);

	ret->skew_known = at_ns != 0;
	ret->skew_ns = (int64_t)number(&watch->skew_ns);
	ret->skew_by_ns = number(&watch->skew_by_ns);
	ret->skew_age_ns = age(at_ns, ret->now_ns);
	ret->steps = number(&watch->steps);
	ret->step_ns = (int64_t)number(&watch->step_ns);
	ret->step_age_ns = age(number(&watch->step_at_ns), ret->now_ns);
}

void rl_watch_read_host(const struct rl_view *view, struct rl_watch_host *ret)
{
	uint32_t hosts = rl_shared_hosts(view);

	*ret = (struct rl_watch_host){.now_ns = rl_clock_precise_ns()};
	ret->noted = number(&view->watch->put);
	ret->missed = number(&view->watch->missed);
	ret->unkept = number(&view->watch->unkept);
	ret->shared = number(&view->fleet->redis) != RL_REDIS_NONE;
	ret->hosts = hosts == 0 ? 1 : hosts;
	if (ret->shared) {
		read_parts(view, ret);
		read_clocks(view->watch, ret);
	} else if (age(number(&view->live->beat_ns), ret->now_ns) > RL_ALONE_NS) {
		ret->state = RL_ALONE;
	}
}

static void read_audit(const struct rl_watch_rule *from, struct rl_watch_audit *ret)
{
	ret->keys = number(&from->audited);
	ret->admits = number(&from->admits);
	ret->windows = number(&from->windows);
	ret->fleet_windows = number(&from->fleet);
	ret->excess = number(&from->excess);
	ret->excess_ppm = number(&from->excess_ppm);
	ret->lately = number(&from->lately);
	ret->lately_ppm = number(&from->lately_ppm);
}

void rl_watch_read_rule(const struct rl_view *view, const struct rl_watch_host *host,
			const struct rl_rule *rule, struct rl_watch_rule_now *ret)
{
	const struct rl_watch_rule *from = &view->watch->rule[rule->index % RL_RULES_MAX];
	uint64_t made_ns = number(&view->watch->made_ns);

	*ret = (struct rl_watch_rule_now){.age_ns = UINT64_MAX};
	ret->bound = rl_bound_in_force(rule, host->hosts, host->state);
	ret->audit.one_in = rl_audit_of_code(rl_rules_audit(view, rule->index, rule->id));
	if (number(&from->id) != rule->id)
		return;
	read_audit(from, &ret->audit);
	ret->slots = number(&from->keys);
	if (made_ns == 0 || rl_rule_is_local(rule))
		return;
	ret->age_ns = age(made_ns, host->now_ns);
	ret->sum = (struct rl_watch_sum){
		.active = number(&from->active),
		.credit = number(&from->credit),
		.untold = number(&from->untold),
		.untold_ns = number(&from->untold_ns),
		.stale_ns = number(&from->stale_ns),
	};
	/* Nothing has been told since. */
	if (ret->sum.untold > 0)
		ret->sum.untold_ns += ret->age_ns;
	if (ret->sum.active > 0)
		ret->sum.stale_ns += ret->age_ns;
}

void rl_watch_add(const struct rl_view *view, uint64_t index, uint64_t head,
		  const struct rl_rule *rule, uint64_t now_ns, struct rl_watch_sum *sum)
{
	uint64_t acked = number(&view->side[index].acked), n = rl_head_n(head);
	uint64_t untold = n > rl_acked_n(acked) ? n - rl_acked_n(acked) : 0;
	uint32_t part = rl_hint_part(number(&view->slot[index].hint));
	bool lent = number(&view->fleet->part[part].lease_until_ns) > now_ns;

	/* Of one whose rule was local until now only what is in its window will be told. */
	if ((acked & RL_TRACKED) == 0 && untold > rule->limit)
		untold = rule->limit;
	sum->untold += untold;
	if (lent)
		sum->credit += rl_head_credit(head);
}

static const struct rl_named_rule *rule_of(const struct rl_named_rule *rule, uint32_t count,
					   uint32_t id)
{
	for (uint32_t i = 0; i < count; i++)
		if (rule[i].rule.id == id)
			return &rule[i];
	return NULL;
}

void rl_watch_count(const struct rl_view *view, const struct rl_named_rule *rule, uint32_t count,
		    struct rl_watch_sum *sum)
{
	uint64_t now_ns = rl_clock_precise_ns();

	memset(sum, 0, count * sizeof(sum[0]));
	for (uint64_t i = 0; i < view->slot_count; i++) {
		/* pairs[slot_head.acq]: as any reader of a slot. */
		uint64_t head = atomic_load_explicit(&view->slot[i].head, memory_order_acquire);
		uint64_t shape = number(&view->slot[i].shape);
		const struct rl_named_rule *named;
		struct rl_watch_sum *of;
		uint64_t before;

		if (!rl_head_is_open(head) || rl_shape_algorithm(shape) != RL_SLIDING)
			continue;
		named = rule_of(rule, count, rl_pair_high(shape));
		if (named == NULL || rl_rule_is_local(&named->rule))
			continue;
		of = &sum[named - rule];
		before = of->untold + of->credit;
		rl_watch_add(view, i, head, &named->rule, now_ns, of);
		of->active += of->untold + of->credit > before;
	}
}

/*
 * Killed in between: the numbers of the rule that was there before stand under no id, and nobody
 * shows them.
 */
struct rl_watch_rule *rl_watch_of(struct rl_seg *seg, const struct rl_rule *rule)
{
	struct rl_watch_rule *of = &seg->watch->rule[rule->index % RL_RULES_MAX];
	_Atomic uint64_t *word = &of->id;

	if (number(&of->id) == rule->id)
		return of;
	for (size_t i = 0; i < sizeof(*of) / sizeof(*word); i++)
		put(&word[i], 0);
	put(&of->id, rule->id);
	return of;
}

void rl_watch_keys(struct rl_seg *seg, const struct rl_rule *rule, uint64_t slots)
{
	put(&rl_watch_of(seg, rule)->keys, slots);
}

void rl_watch_publish(struct rl_seg *seg, const struct rl_watch_host *host,
		      const struct rl_rule *rule, const struct rl_watch_sum *sum)
{
	struct rl_bound bound = rl_bound_in_force(rule, host->hosts, host->state);
	struct rl_watch_rule *of = rl_watch_of(seg, rule);

	put(&of->active, sum->active);
	put(&of->credit, sum->credit);
	put(&of->untold, sum->untold);
	put(&of->untold_ns, sum->untold_ns);
	put(&of->stale_ns, sum->stale_ns);
	put(&of->bound, bound.units);
	put(&of->bound_by, bound.by);
}

void rl_watch_made(struct rl_seg *seg, uint64_t now_ns)
{
	put(&seg->watch->made_ns, now_ns);
}
