/*
 * rl_client.h - what is behind a handle of rl.h, and what all its calls begin and end with.
 *
 * Rooms:  client/ only.
 */
#ifndef RL_CLIENT_H
#define RL_CLIENT_H

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/rl.h"
#include "shm/rl_check.h"
#include "shm/rl_check_usual.h"
#include "shm/rl_cold.h"
#include "shm/rl_error.h"

/*
 * Pages of our own, not malloc's: attaching must work inside a process whose allocator is not up
 * yet, and in a signal handler. Those from OWN_OFF on are emptied by the kernel in every child
 * (MADV_WIPEONFORK), however it was forked, so that a child counts in a line of its own.
 */
#define OWN_OFF   ((size_t)65536) /* the largest page of any Linux */
#define PAGES_LEN (2 * OWN_OFF)   /* address space; what is not touched costs nothing */

struct own {
	struct rl_member *_Atomic member; /* NULL: client_take_member() has something to do */
	struct rl_member *_Atomic line;   /* this process's; NULL until its first check */
	_Atomic uint64_t pid;
	_Atomic uint32_t holder;  /* rl_holder.h; 0 until the first rl_acquire() of this process */
	_Atomic uint64_t kept_ns; /* when its lock was last seen to */
};

/*
 * A segment that a client has mapped, now or before; it stays until rl_detach(). One whose table
 * has grown is mapped anew, whole: then both are the same file.
 */
struct mapped {
	struct rl_seg seg;
	struct mapped *before; /* what the client had until then; NULL: this was the first */
	uint64_t since_ns;     /* precise clock: when it was attached */
	bool absent;           /* no segment, but zeros in place of one: rl_segment_blank() */
	bool forks_apart;      /* its own pages are emptied in every child */
	_Atomic bool gone;     /* zeros in its place by now, or from the start; relaxed: once set
				* they are there, and who does it again does no harm */
};

static inline bool client_same_file(const struct mapped *a, const struct mapped *b)
{
	return a->seg.view.file[0] == b->seg.view.file[0] &&
	       a->seg.view.file[1] == b->seg.view.file[1];
}

struct rl_client {
	struct mapped *_Atomic mapped; /* where checks go; pairs[client_mapped] */
	_Atomic uint64_t look_ns;      /* coarse clock: when to look at the path again; relaxed */
	struct mapped first;
	char path[PATH_MAX]; /* absolute: the process may change its directory */
};
static_assert(sizeof(struct rl_client) <= OWN_OFF, "client and own are in pages of their own");

/* The wiped part of the pages that mapped lies in the first ones of. */
static inline struct own *own_of(const struct mapped *mapped)
{
	return (struct own *)((uintptr_t)mapped + OWN_OFF);
}

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

/*
 * Where a call goes, to its end: one call never asks two segments. Another thread may move the
 * client at any moment; what it had stays mapped (client_let_go()).
 */
static inline struct mapped *client_mapped(const struct rl_client *client)
{
	/* pairs[client_mapped.acq]: its segment was attached before it was named. */
	return atomic_load_explicit(&client->mapped, memory_order_acquire);
}

/* A client for path; may_be_absent: also when there is no segment that it can use, with why. */
int client_new(const char *path, bool may_be_absent, struct rl_client **ret_client, char *why);

/*
 * Go to the segment that lies at the path now, if that is another one or has grown: the one
 * function by which a client moves. 0: it is there already; 1: it is now; or an error of
 * rl_attach(), with why, and it stays where it is. Thread-safe; async-signal-safe when why is NULL.
 */
int client_move(struct rl_client *client, char *why);

/*
 * After RL_E_GROWN from mapped: map all of the table. True: the client has it now, or is in another
 * segment; ask again. So at most as often as a table can grow.
 */
bool client_follow(struct rl_client *client, struct mapped *mapped);

static inline bool client_again(struct rl_client *client, struct mapped *mapped, int got)
{
	return RL_RARELY(got == RL_E_GROWN) && client_follow(client, mapped);
}

/* Give back the memory of the segments before this one. Thread- and async-signal-safe. */
void client_let_go(struct mapped *mapped);

/*
 * Where every answer ends that is no fresh one: an error, or the agent is silent. Looks at the
 * path, LOOK_NS after the last time at the earliest. Returns what the caller is told for got.
 */
#define LOOK_NS UINT64_C(250000000)
int client_look(struct rl_client *client, const struct mapped *mapped, int got);

/*
 * This process's statistics line in a segment, taken at its first check there. As long as the
 * segment before it is kept, GRACE_NS, every check comes by here: the hot path has no other branch
 * for things to be done later.
 */
#define GRACE_NS UINT64_C(2000000000) /* longer than a check may wait */
struct rl_member *client_take_member(struct mapped *mapped);

static inline struct rl_member *client_member(struct mapped *mapped)
{
	/* Relaxed: the line is shared memory, valid for whoever has a pointer. */
	struct rl_member *member =
		atomic_load_explicit(&own_of(mapped)->member, memory_order_relaxed);

	return member != NULL ? member : client_take_member(mapped);
}

/* Give back the lock and what is held by it: rl_inflight.c. */
void client_leave(struct mapped *mapped);

/*
 * The descriptor that this process keeps of "<path>.alive", path being where the segment lies or
 * lay; opened if there is none; or -errno. Not to be closed: rl_alive.c.
 */
int client_alive(const struct mapped *mapped, const char *path);

/* The same if it is open, else -EBADF. */
int client_alive_kept(const struct mapped *mapped);

/* What is in an rl_key: all that the usual check needs, and the rest. */
struct whose {
	uint64_t rule;
	uint64_t segment; /* its hash_key[0] */
	struct rl_id id;
	uint64_t guess; /* where its slot was, or is likely to be: usual_find() */
};
struct hashed {
	struct whose of;
	struct rl_key_text text;
};
static_assert(sizeof(struct hashed) <= sizeof(struct rl_key), "rl.h promises this size");

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

/* What the caller is told. One branch, as without the look: negative, or the bit of alone. */
static inline int client_verdict(struct rl_client *client, const struct mapped *mapped, int got,
				 const struct rl_answer *answer)
{
	static_assert(RL_ALONE == 2 && RL_STALE == 1, "alone has a bit of its own, above got's");

	if (RL_RARELY(((uint32_t)got | (answer->state & RL_ALONE)) > 1)) {
		got = client_look(client, mapped, got);
		if (got < 0)
			return got;
	}
	return got == 1 ? RL_ALLOWED : RL_LIMITED;
}

/* When a check begins that is to be timed; 0: it is not. And how it ends. */
static inline uint64_t client_begin(struct mapped *mapped)
{
	return RL_RARELY(rl_member_is_timed(&mapped->seg)) ? rl_member_time(&mapped->seg) : 0;
}

static inline void client_end(struct mapped *mapped, uint64_t begun_ns)
{
	if (RL_RARELY(begun_ns != 0))
		rl_member_timed(client_member(mapped), begun_ns);
}

/* rl_check_usual(), once this process has its statistics line and if the check is not to be timed;
 * else RL_NOT_USUAL. */
static inline __attribute__((always_inline)) int
client_check_usual(struct mapped *mapped, uint64_t rule, const struct rl_id *id, uint64_t guess,
		   struct rl_result *ret_result)
{
	/* Relaxed: as in client_member(). */
	struct rl_member *member =
		atomic_load_explicit(&own_of(mapped)->member, memory_order_relaxed);

	if (RL_RARELY(member == NULL) || RL_RARELY(rl_member_is_timed(&mapped->seg)))
		return RL_NOT_USUAL;
	return rl_check_usual(&mapped->seg, member, rule, id, guess,
			      (struct rl_answer *)(void *)ret_result);
}

#endif
