/*
 * rl_client.h - what is behind a handle of rl.h, and what all its calls begin and end with.
 *
 * Rooms:  client/ only.
 */
#ifndef RL_CLIENT_H
#define RL_CLIENT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/rl.h"
#include "shm/rl_check.h"
#include "shm/rl_cold.h"

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

#define SAME_PLACE(result, answer) \
	static_assert(offsetof(struct rl_result, result) == offsetof(struct rl_answer, answer) && \
			      sizeof(((struct rl_result *)0)->result) == \
				      sizeof(((struct rl_answer *)0)->answer), \
		      "a result is an answer")
SAME_PLACE(state, state);
SAME_PLACE(limit, limit);
SAME_PLACE(remaining, remaining);
SAME_PLACE(decided_by, by);
SAME_PLACE(window_ns, window_ns);
SAME_PLACE(retry_after_ns, wait_ns);
SAME_PLACE(delay_ns, delay_ns);
SAME_PLACE(now_ns, now_ns);
SAME_PLACE(ticket, ticket);
static_assert(sizeof(struct rl_result) == sizeof(struct rl_answer), "a result is an answer");

/* This process's statistics line, taken at its first check. */
struct rl_member *client_take_member(struct rl_client *client);

static inline struct rl_member *client_member(struct rl_client *client)
{
	/* Relaxed: the line is shared memory, valid for whoever has a pointer. */
	struct rl_member *member = atomic_load_explicit(&client->own->member, memory_order_relaxed);

	return member != NULL ? member : client_take_member(client);
}

/* Not what a check may be asked. */
static inline bool client_refuses(const struct rl_client *client, const void *key, size_t key_len,
				  uint32_t cost, uint32_t flags)
{
	return client == NULL || key == NULL || key_len < 1 || key_len > RL_KEY_MAX || cost < 1 ||
	       (flags & ~RL_MAY_WAIT) != 0;
}

static inline int client_error(int error, struct rl_result *ret_result)
{
	if (ret_result != NULL)
		*ret_result = (struct rl_result){0};
	return error;
}

/* Where an answer goes: the caller's result is one. */
static inline struct rl_answer *client_into(struct rl_result *result, struct rl_answer *own)
{
	return result != NULL ? (struct rl_answer *)(void *)result : own;
}

static inline int client_verdict(int got)
{
	if (got < 0)
		return got;
	return got == 1 ? RL_ALLOWED : RL_LIMITED;
}

#endif
