#include "agent/watch/tally.h"

#include <string.h>

#include "shm/rl_watch.h"

#define PPM 1000000u

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Relaxed, both: numbers for people; the agent is the only writer. */
static void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static void raise(_Atomic uint64_t *word, uint64_t value)
{
	if (value > atomic_load_explicit(word, memory_order_relaxed))
		put(word, value);
}

/* The rule's parts; another rule's that lay at its index are gone. */
static struct tally_part *parts_of(struct tally *tally, const struct rl_rule *rule)
{
	uint32_t at = rule->index % RL_RULES_MAX;

	if (tally->rule[at].id != rule->id)
		memset(&tally->rule[at], 0, sizeof(tally->rule[at]));
	tally->rule[at].id = rule->id;
	return tally->rule[at].part;
}

void tally_window(struct tally *tally, const struct rl_rule *rule, uint64_t limit, uint64_t most,
		  uint64_t now_ns)
{
	struct rl_watch_rule *of = rl_watch_of(tally->seg, rule);
	uint64_t number = now_ns / TALLY_PART_NS;
	struct tally_part *part = &parts_of(tally, rule)[number % TALLY_PARTS];
	uint64_t excess = most > limit ? most - limit : 0;
	uint64_t ppm = (uint64_t)((double)excess * PPM / (double)(limit > 0 ? limit : 1));

	if (part->number != number)
		*part = (struct tally_part){.number = number};
	part->excess = larger(part->excess, excess);
	part->ppm = larger(part->ppm, ppm);
	raise(&of->excess, excess);
	raise(&of->excess_ppm, ppm);
}

void tally_lately(struct tally *tally, const struct rl_rule *rule, uint64_t now_ns)
{
	struct rl_watch_rule *of = rl_watch_of(tally->seg, rule);
	const struct tally_part *part = parts_of(tally, rule);
	uint64_t number = now_ns / TALLY_PART_NS, excess = 0, ppm = 0;

	for (uint32_t i = 0; i < TALLY_PARTS; i++) {
		if (part[i].number + TALLY_PARTS <= number)
			continue;
		excess = larger(excess, part[i].excess);
		ppm = larger(ppm, part[i].ppm);
	}
	put(&of->lately, excess);
	put(&of->lately_ppm, ppm);
}
