#include "shm/rl_bell.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAITERS_TRIES     64 /* each failure is another waiter coming or going */
#define WAITERS_ENTER_MAX 1024

/* Shared between processes, hence not FUTEX_PRIVATE. */
static void futex(_Atomic uint32_t *word, int operation, uint32_t value, uint64_t timeout_ns)
{
	const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
					 .tv_nsec = (long)(timeout_ns % 1000000000)};
	int saved = errno;

	syscall(SYS_futex, word, operation, value, operation == FUTEX_WAIT ? &timeout : NULL, NULL,
		0);
	errno = saved;
}

void rl_bell_ring(struct rl_seg *seg)
{
	struct rl_fleet *fleet = seg->fleet;
	uint32_t asleep = 1;

	/* pairs[bell.rel]: what is urgent was written before. seq_cst, both here and in
	 * rl_bell_wait(): either we see that it sleeps, or it sees that we rang (Dekker). */
	atomic_fetch_add_explicit(&fleet->bell, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&fleet->asleep, memory_order_seq_cst) != 1)
		return;
	/* One of many ringers makes the call. Killed before it: the agent wakes by its timer. */
	if (atomic_compare_exchange_strong_explicit(&fleet->asleep, &asleep, 0,
						    memory_order_relaxed, memory_order_relaxed))
		futex(&fleet->bell, FUTEX_WAKE, 1, 0);
}

bool rl_bell_wait(struct rl_seg *seg, uint32_t *heard, uint64_t timeout_ns)
{
	struct rl_fleet *fleet = seg->fleet;
	uint32_t before = *heard;

	/* seq_cst: see rl_bell_ring(). */
	atomic_store_explicit(&fleet->asleep, 1, memory_order_seq_cst);
	/* pairs[bell.acq]: with the ring comes what is urgent. */
	if (atomic_load_explicit(&fleet->bell, memory_order_seq_cst) == before)
		futex(&fleet->bell, FUTEX_WAIT, before, timeout_ns);
	atomic_store_explicit(&fleet->asleep, 0, memory_order_relaxed);
	*heard = atomic_load_explicit(&fleet->bell, memory_order_acquire);
	return *heard != before;
}

uint32_t rl_turn_seen(const struct rl_slot *slot)
{
	/* pairs[slot_turn.acq]: a head loaded after this is at least as new as the turn. */
	return atomic_load_explicit(&slot->turn, memory_order_acquire);
}

/* The agent sets it to 0 at times, so it must not fall below. Relaxed: it only saves calls. */
static void leave(_Atomic uint16_t *waiters)
{
	uint16_t seen = atomic_load_explicit(waiters, memory_order_relaxed);

	for (int i = 0; i < WAITERS_TRIES && seen > 0; i++)
		if (atomic_compare_exchange_weak_explicit(waiters, &seen, (uint16_t)(seen - 1),
							  memory_order_relaxed,
							  memory_order_relaxed))
			return;
}

/* A process may leave any number of checks pending: not beyond the range. */
void rl_turn_enter(struct rl_seg *seg, uint64_t index)
{
	_Atomic uint16_t *waiters = &seg->side[index].waiters;

	/* Relaxed: it is told by other means than a futex; this says only that somebody waits. */
	if (atomic_load_explicit(waiters, memory_order_relaxed) < WAITERS_ENTER_MAX)
		atomic_fetch_add_explicit(waiters, 1, memory_order_relaxed);
}

void rl_turn_leave(struct rl_seg *seg, uint64_t index)
{
	leave(&seg->side[index].waiters);
}

void rl_turn_wait(struct rl_seg *seg, uint64_t index, uint32_t seen, uint64_t timeout_ns)
{
	_Atomic uint16_t *waiters = &seg->side[index].waiters;

	/* pairs[slot_turn.rel]: counted before it sleeps; the agent looks after its turn. */
	atomic_fetch_add_explicit(waiters, 1, memory_order_seq_cst);
	futex(&seg->slot[index].turn, FUTEX_WAIT, seen, timeout_ns);
	leave(waiters);
}

void rl_turn_next(struct rl_seg *seg, uint64_t index, uint32_t wake)
{
	/* pairs[slot_turn.rel]: the credit is in the head before the turn; seq_cst: a waiter
	 * that we do not see counted yet will see the new turn and not sleep. */
	atomic_fetch_add_explicit(&seg->slot[index].turn, 1, memory_order_seq_cst);
	if (wake > 0 && atomic_load_explicit(&seg->side[index].waiters, memory_order_seq_cst) > 0)
		futex(&seg->slot[index].turn, FUTEX_WAKE, wake > INT_MAX ? INT_MAX : wake, 0);
}
