/*
 * rl_holder.h - which processes hold requests in flight, and which of them are dead for certain.
 *
 * Rooms:  shm/ and above.
 *
 * A process that acquires is a holder: it has a number, 1 .. RL_HOLDERS_MAX - 1, and keeps a POSIX
 * record lock on that byte of "<path>.alive". The kernel gives the lock up with the process, in
 * every pid namespace, and not while it is stopped; a child of fork() does not inherit it. So a
 * lock that is free says that its process is dead, which no pid can: kill(pid, 0) knows neither
 * another namespace nor a pid's second owner. That file is for nothing else: a process loses its
 * locks when it closes any descriptor of a file, so it cannot be the segment, which attaching
 * opens and closes.
 *
 * LIFE OF A NUMBER (states of its word)
 *
 *	FREE(life) --a process, under the byte's lock--> TAKEN(life + 1) --it leaves--------+
 *	    ^                                                |                              |
 *	    |                                                +--the agent, with the lock--> LEFT
 *	    +------the agent, when no cell of this life is left (rl_hold.h) -----------------+
 *
 * Killed between lock and TAKEN: the lock is gone, the word is FREE still. An agent that is killed
 * after LEFT: the next one finds LEFT and goes on. All threads of a process have one lock: who
 * drops it takes care not to drop that of another thread's number (unlock_byte()).
 *
 * A process whose lock was lost while it lives (the server closed our descriptor) takes it again
 * when it acquires or releases next, if 100 ms have passed since it last did so. The agent takes
 * it for dead when it finds the byte free twice, 250 ms apart; what it held is given back then,
 * and it finds its word LEFT and becomes another holder.
 *
 * All loads and stores of the words are seq_cst: rl_inflight.h has the reason.
 */
#ifndef RL_HOLDER_H
#define RL_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/rl_segment.h"

#define RL_HOLDER_FREE  UINT64_C(0)
#define RL_HOLDER_TAKEN UINT64_C(1)
#define RL_HOLDER_LEFT  UINT64_C(2)

#define RL_HOLDER_LIVES 4096u
#define RL_HOLDER_MADE  UINT64_C(0xffff) /* of a word: under which file it was locked */

/* A holder: [ number:12 | life:12 ]; 0 = none. */
static inline uint32_t rl_holder(uint32_t number, uint32_t life)
{
	return number << 12 | life;
}

static inline uint32_t rl_holder_number(uint32_t who)
{
	return who >> 12 & (RL_HOLDERS_MAX - 1);
}

static inline uint64_t rl_holder_word(uint64_t state, uint64_t made, uint32_t life, uint32_t pid)
{
	return state << 60 | made << 44 | (uint64_t)life << 32 | pid;
}

static inline uint64_t rl_holder_state(uint64_t word)
{
	return word >> 60;
}

static inline uint64_t rl_holder_made(uint64_t word)
{
	return word >> 44 & RL_HOLDER_MADE;
}

static inline uint32_t rl_holder_life(uint64_t word)
{
	return (uint32_t)(word >> 32) % RL_HOLDER_LIVES;
}

static inline uint32_t rl_holder_pid(uint64_t word)
{
	return (uint32_t)word;
}

/* Is it a word that this number can have? The first number is nobody's. */
static inline bool rl_holder_sound(uint32_t number, uint64_t word)
{
	uint64_t state = rl_holder_state(word);
	uint32_t pid = rl_holder_pid(word);

	if (number == 0)
		return word == 0;
	if (state == RL_HOLDER_FREE) /* keeps its life, and no more */
		return (rl_holder_made(word) | pid) == 0;
	return state <= RL_HOLDER_LEFT && pid != 0 && pid <= INT32_MAX;
}

/* Has this holder neither left nor been taken for dead? */
bool rl_holder_is(const struct rl_view *view, uint32_t who);

/*
 * A process: become a holder, by the descriptor fd of rl_alive_open(). 0 and *ret_who, or
 * RL_E_HOLDERS, or -errno of the lock (ENOLCK, EBADF). Async-signal-safe.
 */
int rl_holder_take(struct rl_seg *seg, int fd, uint32_t pid, uint32_t *ret_who);

/* Take the lock again, if it was lost. False: taken for dead meanwhile, or fd is of no use. */
bool rl_holder_keep(struct rl_seg *seg, int fd, uint32_t who);

/* Leave: what it still holds goes back as of a dead one. */
void rl_holder_leave(struct rl_seg *seg, int fd, uint32_t who);

/* The agent, by a descriptor of its own: has no process the lock of this holder's byte? */
bool rl_holder_is_gone(int fd, uint32_t number);

/* The agent: TAKEN becomes LEFT, unless the lock is taken after all. */
bool rl_holder_bury(struct rl_seg *seg, int fd, uint32_t number);

/* The agent: a word that is not sound becomes FREE; whose it was, it is not any more. */
void rl_holder_mend(struct rl_seg *seg, uint32_t number, uint64_t seen);

/* The agent: LEFT becomes FREE. No cell of it may be left. */
void rl_holder_free(struct rl_seg *seg, uint32_t number);

/*
 * The agent, under the segment's lock: open "<path>.alive", or make it, with the group and mode of
 * spec. A descriptor, or -errno and why. It must be the only one of that file in the process.
 * A file that is not the one the segment knows is made anew: who locked the old one cannot be
 * tested any more and counts as alive until it has locked the new one, at its next call.
 */
int rl_alive_make(struct rl_seg *seg, const char *path, const struct rl_segment_spec *spec,
		  char *why);

/*
 * A process: open the file that the agent made. A descriptor, or -errno: -ENOENT when there is
 * none, -ESTALE when it is another one.
 */
int rl_alive_open(const struct rl_view *view, const char *path);

/* Is this descriptor of the file that the segment knows? */
bool rl_alive_is(const struct rl_view *view, int fd);

#endif
