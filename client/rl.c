#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_cold.h"
#include "shm/rl_error.h"
#include "shm/rl_now.h"
#include "shm/rl_rules.h"

static_assert(RL_ERR_SHORT == RL_E_SHORT && RL_ERR_NOT_READY == RL_E_NOT_READY &&
		      RL_ERR_MAGIC == RL_E_MAGIC && RL_ERR_ABI == RL_E_ABI &&
		      RL_ERR_SIZES == RL_E_SIZES && RL_ERR_CLOCKS == RL_E_CLOCKS,
	      "one value, two names");
static_assert(RL_ERR_RULE == RL_E_RULE && RL_ERR_COST == RL_E_COST && RL_ERR_FULL == RL_E_FULL &&
		      RL_ERR_BUSY == RL_E_BUSY,
	      "one value, two names");
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

static struct rl_client *make_client(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct rl_client *client =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (client == MAP_FAILED)
		return NULL;
	client->page_size = page;
	client->own = (struct own *)(void *)((char *)client + page);
	/* On a kernel before 4.14 children would share their parent's line: slower, not wrong. */
	madvise(client->own, page, MADV_WIPEONFORK);
	return client;
}

static const char *default_path(void)
{
	const char *path = secure_getenv("RL_SEGMENT");

	return path != NULL && *path != '\0' ? path : RL_SEGMENT_DEFAULT;
}

int rl_attach(const char *path, struct rl_client **ret_client, char *ret_why)
{
	struct rl_client *client;
	char why[RL_WHY_MAX];
	int error;

	if (path == NULL)
		path = default_path();
	client = make_client();
	if (client == NULL)
		return rl_refuse(-errno, ret_why, "cannot attach to %s: %s", path, strerror(errno));
	error = rl_segment_attach(path, &client->seg, why);
	if (error != 0) {
		munmap(client, 2 * client->page_size);
		return rl_refuse(error, ret_why, "cannot attach to %s: %s", path, why);
	}
	*ret_client = client;
	return 0;
}

void rl_detach(struct rl_client *client)
{
	struct rl_member *member;

	if (client == NULL)
		return;
	/* Relaxed: as in client_take_member(). */
	member = atomic_load_explicit(&client->own->member, memory_order_relaxed);
	if (member != NULL)
		rl_member_give(member,
			       atomic_load_explicit(&client->own->pid, memory_order_relaxed));
	rl_segment_detach(&client->seg);
	munmap(client, 2 * client->page_size);
}

/*
 * This process's statistics line. Two threads may both take one at the first check: the
 * loser gives his back. Relaxed: the line is shared memory, valid for whoever has a pointer.
 */
RL_COLD struct rl_member *client_take_member(struct rl_client *client)
{
	struct own *own = client->own;
	uint64_t pid = (uint64_t)getpid();
	struct rl_member *mine = rl_member_take(&client->seg, pid), *seen = NULL;

	atomic_store_explicit(&own->pid, pid, memory_order_relaxed);
	if (atomic_compare_exchange_strong_explicit(&own->member, &seen, mine, memory_order_relaxed,
						    memory_order_relaxed))
		return mine;
	rl_member_give(mine, pid);
	return seen;
}

int rl_rule(struct rl_client *client, const char *name, uint64_t *ret_rule)
{
	if (client == NULL || name == NULL || ret_rule == NULL)
		return -EINVAL;
	return rl_rules_find(&client->seg.view, name, ret_rule);
}

int rl_check(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
	     uint32_t cost, uint32_t flags, struct rl_result *ret_result)
{
	struct rl_answer own;

	if (client_refuses(client, key, key_len, cost, flags))
		return client_error(-EINVAL, ret_result);
	return client_verdict(rl_check_spend(&client->seg, client_member(client), rule, key,
					     key_len, cost, flags, client_into(ret_result, &own)));
}

int rl_check_at(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		uint32_t cost, uint64_t now_ns, struct rl_result *ret_result)
{
	struct rl_check_key asked;
	struct rl_answer own;

	if (client_refuses(client, key, key_len, cost, 0) || now_ns > RL_GIVEN_MAX_NS)
		return client_error(-EINVAL, ret_result);
	if (!client->seg.view.given)
		return client_error(RL_ERR_CLOCK, ret_result);
	rl_check_hash(&client->seg.view, rule, key, key_len, &asked);
	asked.given = true;
	rl_now_given(client->seg.live, now_ns + RL_CLOCK_BIAS_NS);
	return client_verdict(rl_check_spend_key(&client->seg, client_member(client), rule, &asked,
						 cost, 0, client_into(ret_result, &own)));
}

int rl_peek(struct rl_client *client, uint64_t rule, const void *key, size_t key_len, uint32_t cost,
	    struct rl_result *ret_result)
{
	struct rl_answer own;
	uint32_t used;

	if (client_refuses(client, key, key_len, cost, 0))
		return client_error(-EINVAL, ret_result);
	return client_verdict(rl_check_look(&client->seg.view, rule, key, key_len, cost,
					    client_into(ret_result, &own), &used));
}

uint64_t rl_agent_age_ms(const struct rl_client *client)
{
	/* Relaxed: the beat stands for itself. */
	uint64_t beat = atomic_load_explicit(&client->seg.view.live->beat_ns, memory_order_relaxed);
	uint64_t now = rl_clock_precise_ns();

	return now > beat ? (now - beat) / 1000000 : 0;
}

const char *rl_strerror(int error)
{
	return rl_error_text(error);
}
