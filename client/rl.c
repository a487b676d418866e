#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_cold.h"
#include "shm/rl_error.h"
#include "shm/rl_hash.h"
#include "shm/rl_now.h"
#include "shm/rl_rules.h"
#include "shm/rl_terms.h"
#include "shm/rl_word.h"

static_assert(RL_ERR_SHORT == RL_E_SHORT && RL_ERR_NOT_READY == RL_E_NOT_READY &&
		      RL_ERR_MAGIC == RL_E_MAGIC && RL_ERR_ABI == RL_E_ABI &&
		      RL_ERR_SIZES == RL_E_SIZES && RL_ERR_CLOCKS == RL_E_CLOCKS,
	      "one value, two names");
static_assert(RL_ERR_RULE == RL_E_RULE && RL_ERR_COST == RL_E_COST && RL_ERR_FULL == RL_E_FULL &&
		      RL_ERR_BUSY == RL_E_BUSY && RL_ERR_ALGORITHM == RL_E_ALGORITHM &&
		      RL_ERR_TICKET == RL_E_TICKET && RL_ERR_HOLDERS == RL_E_HOLDERS,
	      "one value, two names");
static_assert(RL_ERR_GROWN == RL_E_GROWN, "one value, two names");
static_assert(RL_ERR_SHARED == RL_E_SHARED && RL_ERR_CLOCK == RL_E_CLOCK, "one value, two names");
static_assert(RL_STATE_FRESH == RL_FRESH && RL_STATE_STALE == RL_STALE &&
		      RL_STATE_ALONE == RL_ALONE && RL_MAY_WAIT == RL_CHECK_MAY_WAIT,
	      "one value, two names");
static_assert(RL_BY_WINDOW == RL_DECIDED_WINDOW && RL_BY_CREDIT == RL_DECIDED_CREDIT &&
		      RL_BY_NO_CREDIT == RL_DECIDED_NO_CREDIT &&
		      RL_BY_POLICY == RL_DECIDED_POLICY && RL_BY_BLOCK == RL_DECIDED_BLOCK &&
		      RL_BY_LIST == RL_DECIDED_LIST && RL_BY_POOL == RL_DECIDED_POOL &&
		      RL_BY_FULL == RL_DECIDED_FULL && RL_BY_SHADOW == RL_DECIDED_SHADOW &&
		      RL_BY_OFF == RL_DECIDED_OFF,
	      "one value, two names");
static_assert(RL_WHY_SIZE == RL_WHY_MAX && RL_KEY_MAX == RL_KEY_BYTES_MAX, "one size");

static const char *default_path(void)
{
	const char *path = secure_getenv("RL_SEGMENT");

	return path != NULL && *path != '\0' ? path : RL_SEGMENT_DEFAULT;
}

static int open_client(const char *path, bool may_be_absent, struct rl_client **ret_client,
		       char *ret_why)
{
	char why[RL_WHY_MAX] = "";
	int error;

	if (path == NULL)
		path = default_path();
	error = client_new(path, may_be_absent, ret_client, why);
	if (ret_why != NULL)
		*ret_why = '\0';
	if (why[0] != '\0')
		rl_refuse(error, ret_why, "cannot attach to %s: %s", path, why);
	return error;
}

int rl_attach(const char *path, struct rl_client **ret_client, char *ret_why)
{
	return open_client(path, false, ret_client, ret_why);
}

int rl_open(const char *path, struct rl_client **ret_client, char *ret_why)
{
	return open_client(path, true, ret_client, ret_why);
}

int rl_refresh(struct rl_client *client, char *ret_why)
{
	char why[RL_WHY_MAX] = "";
	int saved = errno, got;

	if (client == NULL)
		return -EINVAL;
	got = client_move(client, ret_why != NULL ? why : NULL);
	if (ret_why != NULL)
		*ret_why = '\0';
	if (got < 0)
		rl_refuse(got, ret_why, "cannot attach to %s: %s", client->path, why);
	errno = saved;
	return got;
}

/* It may be in a segment that the client has not seen yet. A name alone makes a handle. */
RL_COLD static int rule_elsewhere(struct rl_client *client, const char *name, uint64_t *ret_rule)
{
	struct mapped *mapped = client_mapped(client);

	client_look(client, mapped, RL_ERR_RULE);
	mapped = client_mapped(client);
	if (!mapped->absent)
		return rl_rules_find(&mapped->seg.view, name, ret_rule);
	if (rl_name_fault(name) != NULL)
		return RL_ERR_RULE;
	*ret_rule = rl_pair(rl_hash_rule(name), 0);
	return 0;
}

int rl_rule(struct rl_client *client, const char *name, uint64_t *ret_rule)
{
	int got;

	if (client == NULL || name == NULL || ret_rule == NULL)
		return -EINVAL;
	got = rl_rules_find(&client_mapped(client)->seg.view, name, ret_rule);
	return got == RL_ERR_RULE ? rule_elsewhere(client, name, ret_rule) : got;
}

static __attribute__((noinline)) int check_other(struct rl_client *client, uint64_t rule,
						 const void *key, size_t key_len, uint32_t cost,
						 uint32_t flags, struct rl_result *ret_result)
{
	struct mapped *mapped;
	struct rl_answer own, *answer;
	uint64_t begun_ns;
	int got;

	if (client_refuses(client, key, key_len, cost, flags))
		return client_error(-EINVAL, ret_result);
	answer = client_into(ret_result, &own);
	do {
		mapped = client_mapped(client);
		begun_ns = client_begin(mapped);
		got = rl_check_spend(&mapped->seg, client_member(mapped), rule, key, key_len, cost,
				     flags, answer);
		client_end(mapped, begun_ns);
	} while (client_again(client, mapped, got));
	return client_verdict(client, mapped, got, answer);
}

/* What turned out not to be usual, or is to be timed: then all of it, the hash too. */
static __attribute__((noinline)) int check_unusual(struct rl_client *client, struct mapped *mapped,
						   uint64_t rule, const struct rl_check_key *key,
						   uint32_t flags, struct rl_result *ret_result)
{
	struct rl_answer *answer = client_into(ret_result, NULL);
	uint64_t begun_ns = client_begin(mapped);
	struct rl_member *member = client_member(mapped);
	int got;

	if (begun_ns != 0)
		got = rl_check_spend(&mapped->seg, member, rule, key->bytes, key->len, 1, flags,
				     answer);
	else
		got = rl_check_unusual(&mapped->seg, member, rule, key, 1, flags, answer);
	client_end(mapped, begun_ns);
	if (client_again(client, mapped, got))
		return check_other(client, rule, key->bytes, key->len, 1, flags, ret_result);
	return client_verdict(client, mapped, got, answer);
}

/* The usual case in one piece. */
int rl_check(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
	     uint32_t cost, uint32_t flags, struct rl_result *ret_result)
{
	struct rl_check_key hashed;
	struct mapped *mapped;
	int got;

	if (client_refuses(client, key, key_len, cost, flags) || cost > 1 || ret_result == NULL)
		return check_other(client, rule, key, key_len, cost, flags, ret_result);
	mapped = client_mapped(client);
	rl_check_hash(&mapped->seg.view, rule, key, key_len, &hashed);
	got = client_check_usual(mapped, rule, &hashed.id,
				 usual_home(&mapped->seg.view, &hashed.id), ret_result);
	if (RL_RARELY(got == RL_NOT_USUAL))
		return check_unusual(client, mapped, rule, &hashed, flags, ret_result);
	return client_verdict(client, mapped, got, client_into(ret_result, NULL));
}

int rl_check_at(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		uint32_t cost, uint64_t now_ns, struct rl_result *ret_result)
{
	struct rl_check_key asked;
	struct mapped *mapped;
	struct rl_answer own, *answer;
	uint64_t begun_ns;
	int got;

	if (client_refuses(client, key, key_len, cost, 0) || now_ns > RL_GIVEN_MAX_NS)
		return client_error(-EINVAL, ret_result);
	answer = client_into(ret_result, &own);
	do {
		mapped = client_mapped(client);
		if (!mapped->seg.view.given)
			return client_error(client_look(client, mapped, RL_ERR_CLOCK), ret_result);
		begun_ns = client_begin(mapped);
		rl_check_hash(&mapped->seg.view, rule, key, key_len, &asked);
		asked.given = true;
		rl_now_given(mapped->seg.live, now_ns + RL_CLOCK_BIAS_NS);
		got = rl_check_spend_key(&mapped->seg, client_member(mapped), rule, &asked, cost, 0,
					 answer);
		client_end(mapped, begun_ns);
	} while (client_again(client, mapped, got));
	return client_verdict(client, mapped, got, answer);
}

int rl_peek(struct rl_client *client, uint64_t rule, const void *key, size_t key_len, uint32_t cost,
	    struct rl_result *ret_result)
{
	struct mapped *mapped;
	struct rl_answer own, *answer;
	uint32_t used;
	int got;

	if (client_refuses(client, key, key_len, cost, 0))
		return client_error(-EINVAL, ret_result);
	answer = client_into(ret_result, &own);
	do {
		mapped = client_mapped(client);
		got = rl_check_look(&mapped->seg.view, rule, key, key_len, cost, answer, &used);
	} while (client_again(client, mapped, got));
	return client_verdict(client, mapped, got, answer);
}

uint64_t rl_agent_age_ms(const struct rl_client *client)
{
	/* Relaxed: the beat stands for itself. */
	uint64_t beat = atomic_load_explicit(&client_mapped(client)->seg.view.live->beat_ns,
					     memory_order_relaxed);
	uint64_t now = rl_clock_precise_ns();

	if (beat == 0)
		return UINT64_MAX; /* there is none, or it has left this segment for good */
	return now > beat ? (now - beat) / 1000000 : 0;
}

const char *rl_strerror(int error)
{
	return rl_error_text(error);
}
