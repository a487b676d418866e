/*
 * rl_client.h - what is behind a handle of rl.h, and what all its calls begin and end with.
 *
 * Rooms:  client/ only.
 */
#ifndef RL_CLIENT_H
#define RL_CLIENT_H

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

static inline int client_answer(int got, const struct rl_answer *answer,
				struct rl_result *ret_result)
{
	if (ret_result != NULL)
		*ret_result = (struct rl_result){
			.state = answer->state,
			.limit = answer->limit,
			.remaining = answer->remaining,
			.decided_by = answer->by,
			.window_ns = answer->window_ns,
			.retry_after_ns = answer->wait_ns,
			.delay_ns = answer->delay_ns,
			.ticket = {answer->ticket.place, answer->ticket.mark, answer->ticket.id},
		};
	if (got < 0)
		return got;
	return got == 1 ? RL_ALLOWED : RL_LIMITED;
}

#endif
