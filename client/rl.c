#include "client/rl.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_cold.h"
#include "shm/rl_error.h"
#include "shm/rl_rules.h"

static_assert(RL_ERR_SHORT == RL_E_SHORT && RL_ERR_NOT_READY == RL_E_NOT_READY &&
		      RL_ERR_MAGIC == RL_E_MAGIC && RL_ERR_ABI == RL_E_ABI &&
		      RL_ERR_SIZES == RL_E_SIZES && RL_ERR_CLOCKS == RL_E_CLOCKS,
	      "one value, two names");
static_assert(RL_ERR_RULE == RL_E_RULE && RL_ERR_COST == RL_E_COST && RL_ERR_FULL == RL_E_FULL &&
		      RL_ERR_BUSY == RL_E_BUSY,
	      "one value, two names");
static_assert(RL_STATE_FRESH == RL_FRESH && RL_STATE_STALE == RL_STALE &&
		      RL_STATE_ALONE == RL_ALONE && RL_MAY_WAIT == RL_CHECK_MAY_WAIT,
	      "one value, two names");
static_assert(RL_BY_WINDOW == RL_DECIDED_WINDOW && RL_BY_CREDIT == RL_DECIDED_CREDIT &&
		      RL_BY_NO_CREDIT == RL_DECIDED_NO_CREDIT && RL_BY_POLICY == RL_DECIDED_POLICY,
	      "one value, two names");
static_assert(RL_WHY_SIZE == RL_WHY_MAX && RL_KEY_MAX == RL_KEY_BYTES_MAX, "one size");

/*
 * Two pages of our own, not malloc's: attaching must work inside a process whose allocator
 * is not up yet. The second page is emptied by the kernel in every child (MADV_WIPEONFORK),
 * however it was forked, so that a child counts in a line of its own.
 */
struct own {
	struct rl_member *_Atomic member; /* NULL until the first check of this process */
	_Atomic uint64_t pid;
};

struct rl_client {
	struct rl_seg seg;
	struct own *own; /* the second page */
	size_t page_size;
};

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
	/* Relaxed: as in take_member(). */
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
RL_COLD static struct rl_member *take_member(struct rl_client *client)
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

static inline struct rl_member *member_of(struct rl_client *client)
{
	struct rl_member *member = atomic_load_explicit(&client->own->member, memory_order_relaxed);

	return member != NULL ? member : take_member(client);
}

int rl_rule(struct rl_client *client, const char *name, uint64_t *ret_rule)
{
	if (client == NULL || name == NULL || ret_rule == NULL)
		return -EINVAL;
	return rl_rules_find(&client->seg.view, name, ret_rule);
}

static void fill_result(const struct rl_answer *answer, struct rl_result *ret)
{
	*ret = (struct rl_result){
		.state = answer->state,
		.limit = answer->limit,
		.remaining = answer->remaining,
		.decided_by = answer->by,
		.window_ns = answer->window_ns,
		.retry_after_ns = answer->wait_ns,
		.delay_ns = answer->delay_ns,
	};
}

int rl_check(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
	     uint32_t cost, uint32_t flags, struct rl_result *ret_result)
{
	struct rl_answer answer;
	int got;

	if (client == NULL || key == NULL || key_len < 1 || key_len > RL_KEY_MAX || cost < 1 ||
	    (flags & ~RL_MAY_WAIT) != 0) {
		if (ret_result != NULL)
			*ret_result = (struct rl_result){0};
		return -EINVAL;
	}
	got = rl_check_spend(&client->seg, member_of(client), rule, key, key_len, cost, flags,
			     &answer);
	if (ret_result != NULL)
		fill_result(&answer, ret_result);
	if (got < 0)
		return got;
	return got == 1 ? RL_ALLOWED : RL_LIMITED;
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
