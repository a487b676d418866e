/*
 * rl_many.c - the calls of rl.h for more than one check: hashed keys, several rules, batches; and
 * what is said of a key without one: give back, reset, block.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "client/rl_client.h"
#include "shm/rl_error.h"
#include "shm/rl_inflight.h"

static_assert(RL_ERR_KEY == RL_E_KEY, "one value, two names");

int rl_key_make(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		struct rl_key *ret_key)
{
	struct hashed hashed = {.of.rule = rule};
	struct rl_check_key asked;
	struct mapped *mapped;

	if (ret_key == NULL || client_refuses(client, key, key_len, 1, 0))
		return -EINVAL;
	mapped = client_mapped(client);
	if (mapped->absent)
		return client_look(client, mapped, RL_ERR_ABSENT);
	rl_check_hash(&mapped->seg.view, rule, key, key_len, &asked);
	hashed.of.segment = mapped->seg.view.hash_key[0];
	hashed.of.id = asked.id;
	hashed.of.guess = usual_guess(&mapped->seg.view, &asked.id);
	rl_key_text(key, key_len, &hashed.text);
	*ret_key = (struct rl_key){0};
	memcpy(ret_key, &hashed, sizeof(hashed));
	return 0;
}

/* might_be_usual: of cost 1, with an answer asked for. */
static int key_once(struct mapped *mapped, uint64_t rule, const struct rl_check_key *asked,
		    uint32_t cost, uint32_t flags, bool might_be_usual, struct rl_answer *answer)
{
	uint64_t begun_ns = client_begin(mapped);
	struct rl_member *member = client_member(mapped);
	int got;

	if (might_be_usual && begun_ns == 0) /* it is not, as was just seen */
		got = rl_check_unusual(&mapped->seg, member, rule, asked, 1, flags, answer);
	else
		got = rl_check_spend_key(&mapped->seg, member, rule, asked, cost, flags, answer);
	client_end(mapped, begun_ns);
	return got;
}

static __attribute__((noinline)) int check_key_other(struct rl_client *client,
						     const struct rl_key *key, uint32_t cost,
						     uint32_t flags, struct rl_result *ret_result)
{
	struct hashed hashed;
	struct rl_check_key asked;
	struct rl_answer own, *answer;
	struct mapped *mapped;
	int got;

	if (client_refuses(client, key, 1, cost, flags))
		return client_error(-EINVAL, ret_result);
	memcpy(&hashed, key, sizeof(hashed));
	answer = client_into(ret_result, &own);
	asked = (struct rl_check_key){.id = hashed.of.id, .text = &hashed.text};
	do {
		mapped = client_mapped(client);
		if (hashed.of.segment != mapped->seg.view.hash_key[0])
			return client_error(client_look(client, mapped, RL_ERR_KEY), ret_result);
		got = key_once(mapped, hashed.of.rule, &asked, cost, flags,
			       cost == 1 && ret_result != NULL, answer);
	} while (client_again(client, mapped, got));
	return client_verdict(client, mapped, got, answer);
}

/* As rl_check(). Of the key only one line is read; its identity is in no other segment. */
int rl_check_key(struct rl_client *client, const struct rl_key *key, uint32_t cost, uint32_t flags,
		 struct rl_result *ret_result)
{
	if (!client_refuses(client, key, 1, cost, flags) && cost == 1 && ret_result != NULL) {
		struct mapped *mapped = client_mapped(client);
		struct whose of;

		memcpy(&of, key, sizeof(of));
		if (of.guess < mapped->seg.view.slot_count) {
			int got = client_check_usual(mapped, of.rule, &of.id, of.guess, ret_result);

			if (got != RL_NOT_USUAL)
				return client_verdict(client, mapped, got,
						      client_into(ret_result, NULL));
		}
	}
	return check_key_other(client, key, cost, flags, ret_result);
}

static bool ask_is_wrong(const struct rl_client *client, const struct rl_ask *ask)
{
	return client_refuses(client, ask->key, ask->key_len, ask->cost, ask->flags);
}

/* In place: a struct built elsewhere and copied is read in other words than it was written. */
static inline void begin_part(const struct mapped *mapped, struct rl_ask *ask,
			      struct rl_check_part *ret)
{
	ret->handle = ask->rule;
	rl_check_hash(&mapped->seg.view, ask->rule, ask->key, ask->key_len, &ret->key);
	ret->cost = ask->cost;
	ret->flags = ask->flags;
	ret->answer = client_into(&ask->result, NULL);
	ret->got = 0;
}

/* Nothing was spent; and what one of them says, if not all of them, takes the rest of the table. */
static bool all_again(struct rl_client *client, struct mapped *mapped,
		      const struct rl_check_part *part, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (part[i].got == RL_E_GROWN)
			return client_follow(client, mapped);
	return false;
}

int rl_check_all(struct rl_client *client, struct rl_ask *ask, size_t count)
{
	struct rl_check_part part[RL_ALL_MAX];
	struct mapped *mapped;
	uint64_t begun_ns;
	int got;

	if (client == NULL || ask == NULL || count < 1 || count > RL_ALL_MAX)
		return -EINVAL;
	do {
		mapped = client_mapped(client);
		begun_ns = client_begin(mapped);
		for (size_t i = 0; i < count; i++) {
			if (ask_is_wrong(client, &ask[i]))
				return -EINVAL;
			begin_part(mapped, &ask[i], &part[i]);
		}
		got = rl_check_parts(&mapped->seg, client_member(mapped), part, count);
		client_end(mapped, begun_ns);
	} while (got != 1 && all_again(client, mapped, part, count));
	for (size_t i = 0; i < count; i++)
		ask[i].answer = client_verdict(client, mapped, part[i].got, part[i].answer);
	if (got < 0)
		return client_look(client, mapped, got);
	return got == 1 ? RL_ALLOWED : RL_LIMITED;
}

static int check_one(struct rl_client *client, struct mapped *mapped,
		     const struct rl_check_key *key, struct rl_ask *ask)
{
	struct rl_answer *answer = client_into(&ask->result, NULL);
	uint64_t begun_ns;
	int got;

	if (ask_is_wrong(client, ask))
		return client_error(-EINVAL, &ask->result);
	begun_ns = client_begin(mapped);
	got = rl_check_spend_key(&mapped->seg, client_member(mapped), ask->rule, key, ask->cost,
				 ask->flags, answer);
	client_end(mapped, begun_ns);
	if (client_again(client, mapped, got))
		return rl_check(client, ask->rule, ask->key, ask->key_len, ask->cost, ask->flags,
				&ask->result);
	return client_verdict(client, mapped, got, answer);
}

int rl_check_batch(struct rl_client *client, struct rl_ask *ask, size_t count)
{
	struct rl_check_key key[RL_ALL_MAX];
	int allowed = 0;

	if (client == NULL || ask == NULL)
		return -EINVAL;
	for (size_t from = 0; from < count; from += RL_ALL_MAX) {
		size_t some = count - from < RL_ALL_MAX ? count - from : RL_ALL_MAX;
		struct mapped *mapped = client_mapped(client);

		for (size_t i = 0; i < some; i++) {
			if (ask_is_wrong(client, &ask[from + i]))
				continue;
			rl_check_hash(&mapped->seg.view, ask[from + i].rule, ask[from + i].key,
				      ask[from + i].key_len, &key[i]);
			rl_check_prefetch(&mapped->seg.view, &key[i].id);
		}
		for (size_t i = 0; i < some; i++) {
			ask[from + i].answer = check_one(client, mapped, &key[i], &ask[from + i]);
			allowed += ask[from + i].answer == RL_ALLOWED;
		}
	}
	return allowed;
}

int rl_refund(struct rl_client *client, uint64_t rule, struct rl_result *result)
{
	struct rl_ticket ticket;
	struct mapped *mapped;
	int got;

	if (client == NULL || result == NULL)
		return -EINVAL;
	if (rl_inflight_is_ticket(result->ticket[0]))
		return RL_ERR_ALGORITHM; /* rl_release() gives it back: it stays good for that */
	ticket = (struct rl_ticket){result->ticket[0], result->ticket[1], result->ticket[2]};
	memset(result->ticket, 0, sizeof(result->ticket));
	do {
		mapped = client_mapped(client);
		got = rl_check_refund(&mapped->seg, client_member(mapped), rule, &ticket);
	} while (client_again(client, mapped, got));
	return got == 1 ? RL_REFUNDED : RL_KEPT;
}

/* What is said of a key: blocked for so long, or forgotten. */
static int say(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
	       const uint64_t *block_ns)
{
	struct rl_check_key asked;
	struct mapped *mapped;
	int error;

	if (client_refuses(client, key, key_len, 1, 0))
		return -EINVAL;
	do {
		mapped = client_mapped(client);
		rl_check_hash(&mapped->seg.view, rule, key, key_len, &asked);
		error = block_ns == NULL ? rl_check_reset(&mapped->seg, rule, &asked)
					 : rl_check_block(&mapped->seg, client_member(mapped), rule,
							  &asked, *block_ns);
	} while (client_again(client, mapped, error));
	return error < 0 ? client_look(client, mapped, error) : error;
}

int rl_reset(struct rl_client *client, uint64_t rule, const void *key, size_t key_len)
{
	return say(client, rule, key, key_len, NULL);
}

int rl_block(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
	     uint64_t for_ns)
{
	return say(client, rule, key, key_len, &for_ns);
}
