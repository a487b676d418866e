/*
 * rl_verify_rules.c - both banks of rules, in a copy of one moment.
 */
#include <string.h>

#include "shm/rl_hash.h"
#include "shm/rl_rules.h"
#include "shm/rl_verify_steps.h"
#include "shm/rl_word.h"

#define LOOKS      16                        /* each failed one is a reload */
#define PACK_BITS  (RL_RULE_INTERPOLATE - 1) /* rl_fleet_pack() in a rule's flags */
#define BANK_WORDS (sizeof(struct rl_bank) / 8)
#define REC_WORDS  (sizeof(struct rl_rule_rec) / 8)

static uint64_t generation_of(const struct rl_view *view)
{
	/* pairs[rules_gen.acq]: the bank of this generation was complete before it was named. */
	return atomic_load_explicit(&view->live->generation, memory_order_acquire);
}

static void copy_banks(struct rl_verify *verify)
{
	const _Atomic uint64_t *from = (const _Atomic uint64_t *)(const void *)verify->view->bank;
	uint64_t *to = (uint64_t *)(void *)verify->bank;

	for (size_t i = 0; i < 2 * BANK_WORDS; i++)
		/* pairs[rules_word.acq]: a word that was written meanwhile shows the newer
		 * generation. */
		to[i] = atomic_load_explicit(&from[i], memory_order_acquire);
}

/* False when one reload followed the other. */
static bool take_banks(struct rl_verify *verify, uint64_t *ret_generation)
{
	for (int i = 0; i < LOOKS; i++) {
		*ret_generation = generation_of(verify->view);
		copy_banks(verify);
		if (generation_of(verify->view) == *ret_generation)
			return true;
	}
	return false;
}

/* One bank being looked at: the one in force, or the other. */
struct bank {
	struct rl_verify *verify;
	struct rl_view view; /* whose only bank it is */
	uint64_t generation;
	bool in_force;
};

static void say(const struct bank *bank, enum rl_fault fault, uint64_t index, const void *at,
		uint64_t found, uint64_t wanted)
{
	const void *there = (const char *)bank->verify->view->bank +
			    ((const char *)at - (const char *)bank->verify->bank);

	if (bank->in_force)
		rl_verify_say(bank->verify, fault, index, there, found, wanted);
	else /* one that is being written is another's of the next generation */
		rl_verify_say(bank->verify, RL_FAULT_RULE_OLD, index, there, bank->generation, 0);
}

static void check_terms(const struct bank *bank, uint64_t index, uint32_t id)
{
	const struct rl_rule_rec *rec = &bank->view.bank[0].rule[index];
	uint64_t wait_ns = rl_pair_low(rl_verify_word(&rec->rest));
	uint32_t flags = rl_pair_low(rl_verify_word(&rec->id_flags));
	struct rl_fleet_terms fleet;
	struct rl_rule rule;

	if (rl_rules_read(&bank->view, rl_pair(id, (uint32_t)index), &rule) != 0)
		say(bank, RL_FAULT_RULE_TERMS, index, &rec->shape, rl_verify_word(&rec->shape), 0);
	rl_fleet_unpack(flags & PACK_BITS, wait_ns, &fleet);
	if (((flags & RL_RULE_GIVEN) != 0) != bank->verify->view->given)
		say(bank, RL_FAULT_RULE_TERMS, index, &rec->id_flags, flags, RL_RULE_GIVEN);
	if (rl_fleet_pack(&fleet) != (flags & PACK_BITS))
		say(bank, RL_FAULT_RULE_TERMS, index, &rec->id_flags, flags & PACK_BITS,
		    rl_fleet_pack(&fleet));
	if (wait_ns > RL_WAIT_MAX_NS)
		say(bank, RL_FAULT_RULE_TERMS, index, &rec->rest, wait_ns, RL_WAIT_MAX_NS);
}

static void check_name(const struct bank *bank, uint64_t index, uint32_t id)
{
	const struct rl_rule_rec *rec = &bank->view.bank[0].rule[index];
	char name[RL_NAME_MAX + 1], padded[RL_NAME_MAX + 1] = {0};

	for (size_t i = 0; i < RL_NAME_WORDS; i++) {
		uint64_t bytes = rl_verify_word(&rec->name[i]);

		memcpy(name + 8 * i, &bytes, sizeof(bytes));
	}
	if (memchr(name, '\0', sizeof(name)) == NULL || rl_name_fault(name) != NULL ||
	    rl_hash_rule(name) != id) {
		say(bank, RL_FAULT_RULE_NAME, index, rec->name, id, 0);
		return;
	}
	memcpy(padded, name, strlen(name));
	if (memcmp(padded, name, sizeof(name)) != 0)
		say(bank, RL_FAULT_RULE_NAME, index, rec->name, id, 0);
}

static void check_left(const struct bank *bank, uint64_t index)
{
	const struct rl_rule_rec *rec = &bank->view.bank[0].rule[index];
	const uint64_t *word = (const uint64_t *)(const void *)rec;

	for (size_t i = 0; i < REC_WORDS; i++)
		if (word[i] != 0) {
			say(bank, RL_FAULT_RULE_LEFT, index, &word[i], word[i], 0);
			return;
		}
}

static uint32_t id_of(const struct bank *bank, uint64_t index)
{
	return rl_pair_high(rl_verify_word(&bank->view.bank[0].rule[index].id_flags));
}

static void check_rule(const struct bank *bank, uint64_t index)
{
	const struct rl_rule_rec *rec = &bank->view.bank[0].rule[index];
	uint32_t id = id_of(bank, index);

	if (id == 0) {
		check_left(bank, index);
		return;
	}
	bank->verify->rules += bank->in_force;
	check_terms(bank, index, id);
	check_name(bank, index, id);
	for (uint64_t other = 0; other < index; other++)
		if (id_of(bank, other) == id)
			say(bank, RL_FAULT_RULE_TWICE, index, &rec->id_flags, other, 0);
}

void rl_verify_rules(struct rl_verify *verify)
{
	static const struct rl_live first; /* generation 0: rl_rules_read() reads the first bank */
	uint64_t generation;

	verify->rules = 0;
	if (!take_banks(verify, &generation))
		return;
	for (uint64_t b = 0; b < 2; b++) {
		const struct bank bank = {
			.verify = verify,
			.view = {.live = &first, .bank = &verify->bank[b]},
			.generation = generation,
			.in_force = b == (generation & 1),
		};

		for (uint64_t i = 0; i < RL_RULES_MAX; i++)
			check_rule(&bank, i);
	}
}
