/*
 * rl_inflight.c - the calls of rl.h that limit requests in flight; who this process is to them.
 *
 * All of that belongs to one segment: a client that has moved to another is another holder there,
 * by the lock of another file. What it holds in a segment before is released there, and counts
 * nowhere else; once zeros have taken that one's place there is nothing left to release. A segment
 * that has grown is the same one, and the client the holder that it was.
 */
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_holder.h"
#include "shm/rl_inflight.h"

#define KEEP_NS    UINT64_C(100000000)
#define TAKE_TRIES 3 /* a process that loses its lock between two lines, three times */

/* Relaxed, all three: what a holder is stands in shared memory. */
static uint32_t holder_of(const struct mapped *mapped)
{
	return atomic_load_explicit(&own_of(mapped)->holder, memory_order_relaxed);
}

static void forget(struct mapped *mapped, uint32_t who)
{
	atomic_compare_exchange_strong_explicit(&own_of(mapped)->holder, &who, 0,
						memory_order_relaxed, memory_order_relaxed);
}

/* Two threads may both become one at the first call: the loser leaves. */
RL_COLD static int take(struct mapped *mapped, const char *path, uint32_t *ret_who)
{
	struct own *own = own_of(mapped);
	uint32_t mine, seen = 0;
	int fd, error;

	if (!mapped->forks_apart)
		return -ENOSYS;
	fd = client_alive(mapped, path);
	if (fd < 0)
		return fd;
	error = rl_holder_take(&mapped->seg, fd, (uint32_t)getpid(), &mine);
	if (error != 0)
		return error;
	atomic_store_explicit(&own->kept_ns, rl_clock_coarse_ns(), memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(&own->holder, &seen, mine,
						     memory_order_relaxed, memory_order_relaxed)) {
		rl_holder_leave(&mapped->seg, fd, mine);
		mine = seen;
	}
	*ret_who = mine;
	return 0;
}

/* Now and then: is the descriptor ours still, and the lock? */
RL_COLD static void see_to(struct mapped *mapped, const char *path, uint32_t who, uint64_t now_ns)
{
	int fd;

	atomic_store_explicit(&own_of(mapped)->kept_ns, now_ns, memory_order_relaxed);
	fd = client_alive(mapped, path);
	if (fd >= 0 && !rl_holder_keep(&mapped->seg, fd, who))
		forget(mapped, who);
}

/* The holder that this process is, in *ret_who: 0 of one that has none. */
static void see_holder(struct mapped *mapped, const char *path, uint32_t *ret_who)
{
	uint64_t now_ns = rl_clock_coarse_ns();
	uint64_t kept_ns = atomic_load_explicit(&own_of(mapped)->kept_ns, memory_order_relaxed);

	*ret_who = holder_of(mapped);
	if (RL_RARELY(*ret_who != 0 && now_ns - kept_ns >= KEEP_NS)) {
		see_to(mapped, path, *ret_who, now_ns);
		*ret_who = holder_of(mapped);
	}
}

static int become_holder(struct mapped *mapped, const char *path, uint32_t *ret_who)
{
	see_holder(mapped, path, ret_who);
	return *ret_who != 0 ? 0 : take(mapped, path, ret_who);
}

/* What is wrong with the call itself is told before what is wrong with this process. */
RL_COLD static int why_not(const struct mapped *mapped, uint64_t rule, const void *key,
			   size_t key_len, uint32_t cost, int error)
{
	struct rl_answer answer;
	uint32_t used;
	int got = rl_inflight_look(&mapped->seg.view, rule, key, key_len, cost, &answer, &used);

	return got < 0 && got != RL_E_BUSY ? got : error;
}

/* Once: RL_E_HOLDER when this process was taken for dead meanwhile, and has to be another one. */
static int acquire(struct mapped *mapped, const char *path, uint64_t rule, const void *key,
		   size_t key_len, uint32_t cost, struct rl_answer *answer)
{
	uint32_t who;
	int got = become_holder(mapped, path, &who);

	if (got != 0)
		return why_not(mapped, rule, key, key_len, cost, got);
	got = rl_inflight_acquire(&mapped->seg, client_member(mapped), who, rule, key, key_len,
				  cost, answer);
	if (got == RL_E_HOLDER)
		forget(mapped, who);
	return got;
}

int rl_acquire(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
	       uint32_t cost, struct rl_result *ret_result)
{
	struct mapped *mapped;
	int saved = errno, got;

	if (ret_result == NULL || client_refuses(client, key, key_len, cost, 0))
		return client_error(-EINVAL, ret_result);
	do {
		mapped = client_mapped(client);
		got = RL_E_HOLDER;
		for (int i = 0; i < TAKE_TRIES && got == RL_E_HOLDER; i++)
			got = acquire(mapped, client->path, rule, key, key_len, cost,
				      client_into(ret_result, NULL));
	} while (client_again(client, mapped, got));
	errno = saved;
	if (got == RL_E_HOLDER)
		got = RL_E_BUSY;
	if (got < 0)
		return client_error(client_look(client, mapped, got), ret_result);
	return client_verdict(client, mapped, got, client_into(ret_result, NULL));
}

/* The word that says whether a ticket is good: taken by one caller only. */
static _Atomic uint64_t *place_of(struct rl_result *result)
{
	return (_Atomic uint64_t *)&result->ticket[0];
}

/*
 * In the segment that it is of, which its identity says: that is hashed by the segment's own key.
 * Only where the client is now the lock is seen to; nobody tests it in a segment that was replaced.
 * Of one that has grown the newest mapping is whole: the others are zeros, soon.
 */
static int release(struct mapped *mapped, uint64_t rule, const struct rl_ticket *ticket)
{
	struct mapped *whole = mapped;
	int error = RL_E_TICKET;

	for (; mapped != NULL && error == RL_E_TICKET; mapped = mapped->before) {
		if (!client_same_file(mapped, whole))
			whole = mapped;
		error = rl_inflight_release(&whole->seg, holder_of(mapped), rule, ticket);
	}
	return error;
}

int rl_release(struct rl_client *client, uint64_t rule, struct rl_result *result)
{
	struct rl_ticket ticket;
	struct mapped *mapped;
	int saved = errno, error;
	uint32_t who;

	if (client == NULL || result == NULL)
		return -EINVAL;
	mapped = client_mapped(client);
	see_holder(mapped, client->path, &who);
	errno = saved;
	/* Relaxed, both: the caller's own memory, whose threads share it as they do the rest. */
	ticket.place = atomic_load_explicit(place_of(result), memory_order_relaxed);
	if (!rl_inflight_is_ticket(ticket.place) ||
	    !atomic_compare_exchange_strong_explicit(place_of(result), &ticket.place, 0,
						     memory_order_relaxed, memory_order_relaxed))
		return RL_ERR_TICKET;
	ticket.mark = result->ticket[1];
	ticket.id = result->ticket[2];
	error = release(mapped, rule, &ticket);
	if (error != 0) /* refused: it is as good as before */
		atomic_store_explicit(place_of(result), ticket.place, memory_order_relaxed);
	return error;
}

void client_leave(struct mapped *mapped)
{
	uint32_t who = holder_of(mapped);

	if (who != 0)
		rl_holder_leave(&mapped->seg, client_alive_kept(mapped), who);
}
