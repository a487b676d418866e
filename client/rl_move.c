/*
 * rl_move.c - a client and the segments it goes through: attach, look, move, let go.
 *
 * A check reads the client's pointer once and goes by that segment to its end; a move is one CAS
 * of the pointer, to a segment attached with all its checks. Nobody is waited for, so the old one
 * can never be unmapped: a thread may be stopped in it for hours. Its memory is given back all the
 * same, after a grace: zeros take its place (rl_segment_blank_out()).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"

static_assert(RL_ERR_ABSENT == RL_E_ABSENT, "one value, two names");
static_assert(GRACE_NS > RL_WAIT_MAX_NS, "who waits for credit wakes in a segment");

static void *make_pages(bool *ret_forks_apart)
{
	char *base = mmap(NULL, PAGES_LEN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return NULL;
	/* On a kernel before 4.14 children would share their parent's line: slower, not wrong; but
	 * nobody could tell what a child holds from what its parent does. */
	*ret_forks_apart = madvise(base + OWN_OFF, OWN_OFF, MADV_WIPEONFORK) == 0;
	return base;
}

/* As the process sees it now: a server changes its directory when it goes to the background. */
static int set_path(struct rl_client *client, const char *path)
{
	size_t len = 0;

	if (path[0] != '/') {
		if (getcwd(client->path, sizeof(client->path) - 1) == NULL)
			return -errno;
		len = strlen(client->path);
		client->path[len++] = '/';
	}
	if (strlen(path) >= sizeof(client->path) - len)
		return -ENAMETOOLONG;
	memcpy(client->path + len, path, strlen(path) + 1);
	return 0;
}

static int attach(const char *path, struct mapped *ret, char *why)
{
	ret->since_ns = rl_clock_precise_ns();
	return rl_segment_attach(path, &ret->seg, why);
}

/* What lies at the path; or, if that cannot be had, all of what this client is in. */
static int attach_or_remap(const struct rl_client *client, const struct mapped *old,
			   struct mapped *ret, char *why)
{
	int error = attach(client->path, ret, why);

	if (error != 0 && rl_segment_has_grown(&old->seg.view) &&
	    rl_segment_remap(&old->seg, &ret->seg) == 0)
		error = 0;
	return error;
}

static int stand_in(struct mapped *ret)
{
	int error = rl_segment_blank(&ret->seg);

	ret->absent = true;
	atomic_store_explicit(&ret->gone, true, memory_order_relaxed);
	return error;
}

int client_new(const char *path, bool may_be_absent, struct rl_client **ret_client, char *why)
{
	bool forks_apart;
	struct rl_client *client = make_pages(&forks_apart);
	int error;

	if (client == NULL)
		return rl_refuse(-errno, why, "%s", rl_error_text(-errno));
	client->first.forks_apart = forks_apart;
	error = set_path(client, path);
	if (error != 0)
		rl_refuse(error, why, "%s", rl_error_text(error));
	else
		error = attach(client->path, &client->first, why);
	if (error != 0 && may_be_absent && client->path[0] != '\0' && error != -ENAMETOOLONG)
		error = stand_in(&client->first);
	if (error != 0) {
		munmap(client, PAGES_LEN);
		return error;
	}
	/* pairs[client_mapped.rel]: as in client_move(). */
	atomic_store_explicit(&client->mapped, &client->first, memory_order_release);
	*ret_client = client;
	return 0;
}

static void drop_line(struct mapped *mapped)
{
	struct own *own = own_of(mapped);
	/* Relaxed: as in client_take_member(). */
	struct rl_member *line = atomic_load_explicit(&own->line, memory_order_relaxed);

	if (line != NULL)
		rl_member_give(line, atomic_load_explicit(&own->pid, memory_order_relaxed));
}

void rl_detach(struct rl_client *client)
{
	struct mapped *mapped = client == NULL ? NULL : client_mapped(client), *before;

	for (; mapped != NULL; mapped = before) {
		before = mapped->before;
		drop_line(mapped);
		client_leave(mapped);
		rl_segment_detach(&mapped->seg);
		if (before != NULL) /* the first one lies in the client */
			munmap(mapped, PAGES_LEN);
	}
	if (client != NULL)
		munmap(client, PAGES_LEN);
}

/* Of one file, and no more of it than before: somebody writes over its header. */
static bool is_no_gain(const struct mapped *old, const struct mapped *fresh)
{
	return client_same_file(old, fresh) && fresh->seg.view.extents <= old->seg.view.extents;
}

/*
 * The same segment, mapped anew: this process is there who it was. Relaxed, all: what a thread
 * changes in the old one from now on is found there, and left there (rl_detach()).
 */
static void inherit(const struct mapped *old, struct mapped *fresh)
{
	struct own *own = own_of(fresh), *was = own_of(old);
	struct rl_member *line = atomic_load_explicit(&was->line, memory_order_relaxed);
	uint64_t pid = atomic_load_explicit(&was->pid, memory_order_relaxed);
	uint32_t holder = atomic_load_explicit(&was->holder, memory_order_relaxed);

	if (!client_same_file(old, fresh))
		return;
	if (line != NULL)
		line = fresh->seg.member + (line - old->seg.member);
	atomic_store_explicit(&own->line, line, memory_order_relaxed);
	atomic_store_explicit(&own->pid, pid, memory_order_relaxed);
	atomic_store_explicit(&own->holder, holder, memory_order_relaxed);
}

static void drop(struct mapped *fresh)
{
	rl_segment_detach(&fresh->seg);
	munmap(fresh, PAGES_LEN);
}

/*
 * A child forked by another thread amid this has a mapping too many, as long as it lives; and so
 * does a process whose thread is killed here, which ends with it.
 */
int client_move(struct rl_client *client, char *why)
{
	struct mapped *old = client_mapped(client), *fresh;
	bool forks_apart;
	int error;

	if (rl_segment_is_at(&old->seg.view, client->path) && !rl_segment_has_grown(&old->seg.view))
		return 0;
	fresh = make_pages(&forks_apart);
	if (fresh == NULL)
		return rl_refuse(-errno, why, "%s", rl_error_text(-errno));
	fresh->forks_apart = forks_apart;
	error = attach_or_remap(client, old, fresh, why);
	if (error != 0) {
		munmap(fresh, PAGES_LEN);
		return error;
	}
	if (is_no_gain(old, fresh)) {
		drop(fresh);
		return 0;
	}
	fresh->before = old;
	inherit(old, fresh);
	/* pairs[client_mapped.rel]: the segment is attached before it is named. */
	if (!atomic_compare_exchange_strong_explicit(&client->mapped, &old, fresh,
						     memory_order_release, memory_order_relaxed))
		drop(fresh); /* another thread was first: nobody saw ours */
	return 1;
}

RL_COLD bool client_follow(struct rl_client *client, struct mapped *mapped)
{
	int saved = errno;

	if (client_mapped(client) == mapped)
		client_move(client, NULL);
	errno = saved;
	if (client_mapped(client) != mapped)
		return true;
	rl_member_count(&client_member(mapped)->errors, 1); /* not counted by the check itself */
	return false;
}

/* One of all threads gets to look, each LOOK_NS. */
static bool may_look(struct rl_client *client)
{
	uint64_t now_ns = rl_clock_read_ns(CLOCK_MONOTONIC_COARSE);
	/* Relaxed, both: it only paces. */
	uint64_t due_ns = atomic_load_explicit(&client->look_ns, memory_order_relaxed);

	return now_ns >= due_ns &&
	       atomic_compare_exchange_strong_explicit(&client->look_ns, &due_ns, now_ns + LOOK_NS,
						       memory_order_relaxed, memory_order_relaxed);
}

RL_COLD int client_look(struct rl_client *client, const struct mapped *mapped, int got)
{
	int saved = errno; /* a check is made in signal handlers, too */

	if (may_look(client))
		client_move(client, NULL);
	errno = saved;
	if (got < 0 && mapped->absent)
		return RL_ERR_ABSENT;
	/* Zeros, perhaps: the rule may well be in the segment that the client has now. */
	if (got == RL_ERR_RULE && mapped != client_mapped(client))
		return RL_ERR_BUSY;
	return got;
}

void client_let_go(struct mapped *mapped)
{
	int saved = errno;

	for (struct mapped *m = mapped->before; m != NULL; m = m->before)
		/* Relaxed: see struct mapped. What cannot be given back now is at the next move. */
		if (!atomic_load_explicit(&m->gone, memory_order_relaxed) &&
		    rl_segment_blank_out(&m->seg) == 0)
			atomic_store_explicit(&m->gone, true, memory_order_relaxed);
	errno = saved;
}

/* Nothing before this one is left, or its time is up and it is no more. */
static bool settled(struct mapped *mapped)
{
	struct mapped *before = mapped->before;

	/* Relaxed: see struct mapped. */
	if (before == NULL || atomic_load_explicit(&before->gone, memory_order_relaxed))
		return true;
	if (rl_clock_precise_ns() - mapped->since_ns < GRACE_NS)
		return false;
	client_let_go(mapped);
	return true;
}

/*
 * Two threads may both take a line: the loser gives his back. Relaxed, all: the line is shared
 * memory, valid for whoever has a pointer.
 */
static struct rl_member *take_line(struct mapped *mapped)
{
	struct own *own = own_of(mapped);
	struct rl_member *seen = atomic_load_explicit(&own->line, memory_order_relaxed), *mine;
	uint64_t pid;

	if (seen != NULL)
		return seen;
	pid = (uint64_t)getpid();
	mine = rl_member_take(&mapped->seg, pid);
	atomic_store_explicit(&own->pid, pid, memory_order_relaxed);
	if (atomic_compare_exchange_strong_explicit(&own->line, &seen, mine, memory_order_relaxed,
						    memory_order_relaxed))
		return mine;
	rl_member_give(mine, pid);
	return seen;
}

RL_COLD struct rl_member *client_take_member(struct mapped *mapped)
{
	struct rl_member *line = take_line(mapped);

	if (settled(mapped)) /* relaxed: as take_line() */
		atomic_store_explicit(&own_of(mapped)->member, line, memory_order_relaxed);
	return line;
}
