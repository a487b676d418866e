#include "shm/rl_member.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static bool swap_owner(struct rl_member *member, uint64_t from, uint64_t to)
{
	/* Relaxed: owning a line gives no right but to be the usual writer of it. */
	return atomic_compare_exchange_strong_explicit(&member->owner, &from, to,
						       memory_order_relaxed, memory_order_relaxed);
}

struct rl_member *rl_member_take(struct rl_seg *seg, uint64_t pid)
{
	for (uint32_t i = 1; i < RL_MEMBERS_MAX; i++)
		if (swap_owner(&seg->member[i], 0, pid))
			return &seg->member[i];
	return &seg->member[0]; /* never owned: shared by all who found the others taken */
}

void rl_member_give(struct rl_member *member, uint64_t pid)
{
	swap_owner(member, pid, 0);
}

bool rl_member_is_gone(uint64_t pid)
{
	return pid > INT32_MAX || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

uint32_t rl_member_sweep(struct rl_seg *seg)
{
	uint32_t given = 0;

	for (uint32_t i = 0; i < RL_MEMBERS_MAX; i++) {
		/* Relaxed: as in swap_owner(). */
		uint64_t pid = atomic_load_explicit(&seg->member[i].owner, memory_order_relaxed);

		/* The first line is never owned: by whom it says was written there by a stranger.
		 */
		if (pid != 0 && (i == 0 || rl_member_is_gone(pid)) &&
		    swap_owner(&seg->member[i], pid, 0))
			given++;
	}
	return given;
}

uint32_t rl_member_living(const struct rl_view *view)
{
	uint32_t living = 0;

	for (uint32_t i = 0; i < RL_MEMBERS_MAX; i++) {
		/* Relaxed: as in swap_owner(). */
		uint64_t pid = atomic_load_explicit(&view->member[i].owner, memory_order_relaxed);

		living += pid != 0 && !rl_member_is_gone(pid);
	}
	return living;
}

static uint64_t read_count(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed); /* as rl_member_count */
}

void rl_member_totals(const struct rl_view *view, struct rl_totals *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint32_t i = 0; i < RL_MEMBERS_MAX; i++) {
		const struct rl_member *m = &view->member[i];

		ret->allowed += read_count(&m->allowed);
		ret->limited += read_count(&m->limited);
		ret->errors += read_count(&m->errors);
		ret->full += read_count(&m->full);
		ret->mended += read_count(&m->mended);
		ret->claims += read_count(&m->claims);
		ret->members += read_count(&m->owner) != 0;
	}
}
