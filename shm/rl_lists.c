#include "shm/rl_lists.h"

#include <string.h>

#include "shm/rl_clock.h"
#include "shm/rl_now.h"
#include "shm/rl_rules.h"
#include "shm/rl_side.h"
#include "shm/rl_window.h"
#include "shm/rl_word.h"

#define PROBES        64 /* entries looked at, at most; a table is never more than half full */
#define VERDICT_SHIFT 56 /* above any window */
#define WINDOW_MASK   ((UINT64_C(1) << VERDICT_SHIFT) - 1)
#define V6_WHOLE      (UINT64_C(1) << 63) /* in rl_lengths.v4: IPv6's length 0 */

static inline uint64_t take(const _Atomic uint64_t *word)
{
	/* pairs[rules_word.acq]: of a bank rewritten meanwhile, the newer generation is seen. */
	return atomic_load_explicit(word, memory_order_acquire);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
	/* pairs[rules_word.rel]: the generation that ended this bank's last use comes first. */
	atomic_store_explicit(word, value, memory_order_release);
}

/* Its end has come. The clock is read only for entries that have one. */
static bool has_ended(const struct rl_view *view, uint32_t verdict, uint32_t until_s)
{
	return verdict >= RL_VERDICT_BLOCK && until_s * RL_SECOND_NS <= rl_now_ns(view, false);
}

/* A damaged entry is none. */
static bool obey(const struct rl_view *view, const struct rl_list_entry *entry,
		 struct rl_rule *rule)
{
	uint64_t terms = take(&entry->terms), window = take(&entry->window);
	uint64_t window_ns = window & WINDOW_MASK;
	uint32_t verdict = (uint32_t)(window >> VERDICT_SHIFT), limit = rl_pair_high(terms);
	bool other = verdict == RL_VERDICT_OTHER || verdict == RL_VERDICT_UNTIL;

	if (has_ended(view, verdict, rl_pair_low(terms)))
		return false;
	if (verdict == RL_VERDICT_ALLOW || verdict == RL_VERDICT_DENY ||
	    verdict == RL_VERDICT_BLOCK) {
		rule->verdict = verdict;
		rule->until_s = rl_pair_low(terms);
		return true;
	}
	if (!other || limit < 1 || limit > RL_LIMIT_MAX || window_ns < RL_WINDOW_MIN_NS ||
	    window_ns > RL_WINDOW_MAX_NS)
		return false;
	if (verdict == RL_VERDICT_OTHER && rl_pair_low(terms) > RL_LIMIT_MAX)
		return false;
	rule->verdict = RL_VERDICT_OTHER;
	rule->limit = limit;
	rule->window_ns = window_ns;
	rule->burst = verdict == RL_VERDICT_OTHER ? rl_pair_low(terms) : 0;
	rule->q = rl_rules_q(rule);
	return true;
}

/* By the first entry of this identity that has something to say. */
static bool obey_of(const struct rl_view *view, uint64_t generation, const struct rl_id *id,
		    struct rl_rule *rule)
{
	const struct rl_list_entry *bank = view->lists + (generation & 1) * view->list_slots;

	for (uint64_t i = 0; i < PROBES; i++) {
		const struct rl_list_entry *entry =
			&bank[(id->word[0] + i) & (view->list_slots - 1)];
		uint64_t seen = take(&entry->id[0]);

		if (seen == 0)
			return false;
		if (seen == id->word[0] && take(&entry->id[1]) == id->word[1] &&
		    obey(view, entry, rule))
			return true;
	}
	return false;
}

/* A network's name: no text that parses as an address begins with a NUL. */
static struct rl_id net_id(const uint64_t hash_key[2], uint32_t rule_id, const struct rl_ip *net)
{
	uint8_t name[3 + sizeof(net->bytes)] = {0, net->bits, net->prefix};

	memcpy(name + 3, net->bytes, sizeof(net->bytes));
	return rl_hash_key(hash_key, ~rule_id, name, sizeof(name));
}

static bool has_length(const struct rl_rule *rule, uint32_t bits, uint32_t prefix)
{
	if (bits == RL_IP4_BITS)
		return (rule->lengths.v4 >> prefix & 1) != 0;
	if (prefix == 0)
		return (rule->lengths.v4 & V6_WHOLE) != 0;
	return (rule->lengths.v6[(prefix - 1) / 64] >> (prefix - 1) % 64 & 1) != 0;
}

/* Longest first. */
static void apply_nets(const struct rl_view *view, uint64_t generation, struct rl_ip *ip,
		       struct rl_rule *rule)
{
	for (uint32_t prefix = ip->prefix + 1u; prefix-- > 0;) {
		struct rl_id id;

		if (!has_length(rule, ip->bits, prefix))
			continue;
		rl_ip_mask(ip, prefix);
		id = net_id(view->hash_key, rule->id, ip);
		if (obey_of(view, generation, &id, rule))
			return;
	}
}

void rl_lists_apply(const struct rl_view *view, uint64_t generation, const struct rl_id *id,
		    const void *bytes, size_t len, struct rl_rule *rule)
{
	struct rl_ip ip;

	rule->verdict = RL_VERDICT_NONE;
	if (obey_of(view, generation, id, rule))
		return;
	if ((rule->lengths.v4 | rule->lengths.v6[0] | rule->lengths.v6[1]) != 0 &&
	    rl_ip_parse(bytes, len, &ip))
		apply_nets(view, generation, &ip, rule);
}

void rl_lists_apply_slot(const struct rl_view *view, uint64_t index, struct rl_rule *rule)
{
	const struct rl_slot *slot = &view->slot[index];
	char name[RL_NAME_BYTES];
	size_t len;
	/* Relaxed: under a head that was acquired. */
	const struct rl_id id = {{atomic_load_explicit(&slot->id[0], memory_order_relaxed),
				  atomic_load_explicit(&slot->id[1], memory_order_relaxed)}};

	if ((rule->fleet & RL_RULE_LISTED) == 0)
		return;
	len = rl_side_name(view, index, name);
	if (len < 1 || name[0] != ':') /* a long key is no address */
		len = 1;
	rl_lists_apply(view, rl_rules_generation(view), &id, name + 1, len - 1, rule);
}

static struct rl_id item_id(const uint64_t hash_key[2], uint32_t rule_id,
			    const struct rl_list_item *item)
{
	if (item->key == NULL)
		return net_id(hash_key, rule_id, &item->net);
	return rl_hash_key(hash_key, rule_id, item->key, item->key_len);
}

static bool write_item(struct rl_seg *seg, struct rl_list_entry *bank, uint32_t rule_id,
		       const struct rl_list_item *item)
{
	struct rl_id id = item_id(seg->view.hash_key, rule_id, item);

	for (uint64_t i = 0; i < PROBES; i++) {
		struct rl_list_entry *entry = &bank[(id.word[0] + i) & (seg->view.list_slots - 1)];

		if (take(&entry->id[0]) != 0)
			continue;
		put(&entry->id[1], id.word[1]);
		put(&entry->terms,
		    rl_pair(item->terms.limit,
			    item->verdict >= RL_VERDICT_BLOCK ? item->until_s : item->burst));
		put(&entry->window,
		    (uint64_t)item->verdict << VERDICT_SHIFT | item->terms.window_ns);
		put(&entry->id[0], id.word[0]);
		return true;
	}
	return false;
}

int rl_lists_write(struct rl_seg *seg, uint64_t generation, const struct rl_rule_spec *spec,
		   size_t count)
{
	struct rl_list_entry *bank = seg->lists + (generation & 1) * seg->view.list_slots;
	uint64_t left = seg->view.list_slots / 2;

	for (uint64_t i = 0; i < seg->view.list_slots; i++)
		put(&bank[i].id[0], 0);
	for (size_t r = 0; r < count; r++)
		for (size_t i = 0; i < spec[r].list_count; i++)
			if (left-- == 0 ||
			    !write_item(seg, bank, rl_hash_rule(spec[r].name), &spec[r].list[i]))
				return RL_E_LISTS;
	return 0;
}

void rl_lists_lengths(const struct rl_rule_spec *spec, struct rl_lengths *ret)
{
	*ret = (struct rl_lengths){0};
	for (size_t i = 0; i < spec->list_count; i++) {
		const struct rl_ip *net = &spec->list[i].net;

		if (spec->list[i].key != NULL)
			continue;
		if (net->bits == RL_IP4_BITS)
			ret->v4 |= UINT64_C(1) << net->prefix;
		else if (net->prefix == 0)
			ret->v4 |= V6_WHOLE;
		else
			ret->v6[(net->prefix - 1) / 64] |= UINT64_C(1) << (net->prefix - 1) % 64;
	}
}

static uint32_t half(uint32_t units)
{
	return units > 1 ? units / 2 : units;
}

void rl_lists_halve(struct rl_seg *seg, uint64_t generation)
{
	struct rl_list_entry *bank = seg->lists + (generation & 1) * seg->view.list_slots;

	for (uint64_t i = 0; i < seg->view.list_slots; i++) {
		uint64_t terms = take(&bank[i].terms);
		uint64_t verdict = take(&bank[i].window) >> VERDICT_SHIFT;

		if (take(&bank[i].id[0]) == 0)
			continue;
		if (verdict == RL_VERDICT_OTHER)
			put(&bank[i].terms,
			    rl_pair(half(rl_pair_high(terms)), half(rl_pair_low(terms))));
		else if (verdict == RL_VERDICT_UNTIL)
			put(&bank[i].terms, rl_pair(half(rl_pair_high(terms)), rl_pair_low(terms)));
	}
}
