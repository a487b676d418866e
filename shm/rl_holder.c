#include "shm/rl_holder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INODE_MASK ((UINT64_C(1) << 48) - 1)
#define ALIVE_MODE 0660

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

static bool swap(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_seq_cst,
						       memory_order_seq_cst);
}

static uint64_t made_now(const struct rl_view *view)
{
	/* pairs[alive_file.acq]: the device was written before. */
	return atomic_load_explicit(&view->holders->file, memory_order_acquire) >> 48;
}

/* F_SETLK: 0, or -errno; -EAGAIN when another process has it. */
static int lock_byte(int fd, uint32_t number, short type)
{
	struct flock byte = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)number, .l_len = 1};

	if (fcntl(fd, F_SETLK, &byte) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

bool rl_holder_is(const struct rl_view *view, uint32_t who)
{
	uint64_t word = load(&view->holders->word[rl_holder_number(who)]);

	return rl_holder_state(word) == RL_HOLDER_TAKEN &&
	       rl_holder(rl_holder_number(who), rl_holder_life(word)) == who;
}

/* TAKEN becomes LEFT, of this life. */
static bool leave(struct rl_seg *seg, uint32_t number, uint64_t seen)
{
	return swap(&seg->holders->word[number], seen,
		    rl_holder_word(RL_HOLDER_LEFT, rl_holder_made(seen), rl_holder_life(seen),
				   rl_holder_pid(seen)));
}

/* Has another thread of this process the number, whose lock is ours as well? */
static bool is_taken_by(const struct rl_seg *seg, uint32_t number, uint32_t pid)
{
	uint64_t word = load(&seg->holders->word[number]);

	return rl_holder_state(word) == RL_HOLDER_TAKEN && rl_holder_pid(word) == pid;
}

/*
 * Give up the lock of a number that is not ours. Another thread of this process may take it just
 * then, and the lock that is dropped is its own: it locks once more after it has written the word,
 * and we look at the word after we have unlocked. So one of the two locks it again.
 */
static void unlock_byte(struct rl_seg *seg, int fd, uint32_t number, uint32_t pid)
{
	if (is_taken_by(seg, number, pid))
		return;
	lock_byte(fd, number, F_UNLCK);
	if (is_taken_by(seg, number, pid))
		lock_byte(fd, number, F_WRLCK);
}

/* One number: 0 and the lock and the word are ours, -EAGAIN when they are not, or -errno. */
static int take_number(struct rl_seg *seg, int fd, uint32_t pid, uint32_t number, uint32_t *ret_who)
{
	_Atomic uint64_t *word = &seg->holders->word[number];
	uint64_t seen = load(word), mine;
	int error;

	if (rl_holder_state(seen) != RL_HOLDER_FREE)
		return -EAGAIN;
	error = lock_byte(fd, number, F_WRLCK);
	if (error != 0)
		return error;
	mine = rl_holder_word(RL_HOLDER_TAKEN, made_now(&seg->view),
			      (rl_holder_life(seen) + 1) % RL_HOLDER_LIVES, pid);
	if (!swap(word, seen, mine)) {
		unlock_byte(seg, fd, number,
			    pid); /* it came and went, or a thread of ours has it */
		return -EAGAIN;
	}
	if (lock_byte(fd, number, F_WRLCK) != 0) { /* once more: see unlock_byte() */
		leave(seg, number, mine);
		return -EAGAIN;
	}
	*ret_who = rl_holder(number, rl_holder_life(mine));
	return 0;
}

int rl_holder_take(struct rl_seg *seg, int fd, uint32_t pid, uint32_t *ret_who)
{
	for (uint32_t number = 1; number < RL_HOLDERS_MAX; number++) {
		int error = take_number(seg, fd, pid, number, ret_who);

		if (error != -EAGAIN)
			return error;
	}
	return RL_E_HOLDERS;
}

bool rl_holder_keep(struct rl_seg *seg, int fd, uint32_t who)
{
	_Atomic uint64_t *word = &seg->holders->word[rl_holder_number(who)];
	uint64_t seen, made = made_now(&seg->view);

	if (lock_byte(fd, rl_holder_number(who), F_WRLCK) != 0)
		return false;
	seen = load(word); /* with the lock nobody buries us, nor takes the number */
	if (!rl_holder_is(&seg->view, who)) {
		unlock_byte(seg, fd, rl_holder_number(who), (uint32_t)getpid());
		return false;
	}
	/* Of a new file: the agent may now test us by it. */
	return rl_holder_made(seen) == made ||
	       swap(word, seen,
		    rl_holder_word(RL_HOLDER_TAKEN, made, rl_holder_life(seen),
				   rl_holder_pid(seen)));
}

void rl_holder_leave(struct rl_seg *seg, int fd, uint32_t who)
{
	uint32_t number = rl_holder_number(who);
	uint64_t seen = load(&seg->holders->word[number]);

	if (!rl_holder_is(&seg->view, who))
		return;
	/* First: once it is LEFT, and then FREE, another thread may take it, and this would drop
	 * that one's lock. Killed after it: the agent buries us. */
	if (fd >= 0)
		lock_byte(fd, number, F_UNLCK);
	if (!leave(seg, number, seen) && fd >= 0 && is_taken_by(seg, number, (uint32_t)getpid()))
		lock_byte(fd, number, F_WRLCK); /* buried long ago, and another thread's by now */
}

bool rl_holder_is_gone(int fd, uint32_t number)
{
	struct flock byte = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)number, .l_len = 1};

	return fcntl(fd, F_GETLK, &byte) == 0 && byte.l_type == F_UNLCK;
}

bool rl_holder_bury(struct rl_seg *seg, int fd, uint32_t number)
{
	uint64_t seen = load(&seg->holders->word[number]);
	bool buried;

	/* Under a file of before: it may have its lock there still. */
	if (rl_holder_state(seen) != RL_HOLDER_TAKEN ||
	    rl_holder_made(seen) != made_now(&seg->view) || lock_byte(fd, number, F_WRLCK) != 0)
		return false;
	/* With the lock: its process is not there to take it again. */
	buried = leave(seg, number, seen);
	lock_byte(fd, number, F_UNLCK);
	return buried;
}

void rl_holder_mend(struct rl_seg *seg, uint32_t number, uint64_t seen)
{
	swap(&seg->holders->word[number], seen,
	     number == 0 ? 0 : rl_holder_word(RL_HOLDER_FREE, 0, rl_holder_life(seen), 0));
}

void rl_holder_free(struct rl_seg *seg, uint32_t number)
{
	uint64_t seen = load(&seg->holders->word[number]);

	if (rl_holder_state(seen) == RL_HOLDER_LEFT)
		swap(&seg->holders->word[number], seen,
		     rl_holder_word(RL_HOLDER_FREE, 0, rl_holder_life(seen), 0));
}

static int name_alive(const char *path, char name[PATH_MAX])
{
	return snprintf(name, PATH_MAX, "%s.alive", path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool is_known(const struct rl_view *view, const struct stat *st)
{
	/* pairs[alive_file.acq]: with the device that belongs to it. */
	uint64_t file = atomic_load_explicit(&view->holders->file, memory_order_acquire);
	/* Relaxed: written before file. */
	uint64_t dev = atomic_load_explicit(&view->holders->file_dev, memory_order_relaxed);

	return file != 0 && (file & INODE_MASK) == ((uint64_t)st->st_ino & INODE_MASK) &&
	       dev == (uint64_t)st->st_dev && S_ISREG(st->st_mode);
}

bool rl_alive_is(const struct rl_view *view, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && is_known(view, &st);
}

static int open_alive(const char *name, int flags)
{
	int fd = open(name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags,
		      ALIVE_MODE);

	return fd < 0 ? -errno : fd;
}

int rl_alive_open(const struct rl_view *view, const char *path)
{
	char name[PATH_MAX];
	struct stat st;
	int fd;

	if (made_now(view) == 0)
		return -ENOENT;
	if (name_alive(path, name) != 0)
		return -ENAMETOOLONG;
	/* Looked at first: opening the next segment's file, and closing it, would drop the locks
	 * that this process has there. */
	if (lstat(name, &st) != 0)
		return -errno;
	if (!is_known(view, &st))
		return -ESTALE;
	fd = open_alive(name, 0);
	if (fd >= 0 && !rl_alive_is(view, fd)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

/* A new file takes the place of whatever is there. */
static int make_new(struct rl_seg *seg, const char *name)
{
	uint64_t made = made_now(&seg->view) % RL_HOLDER_MADE + 1;
	struct stat st;
	int fd;

	if (unlink(name) != 0 && errno != ENOENT)
		return -errno;
	fd = open_alive(name, O_CREAT | O_EXCL);
	if (fd < 0 || fstat(fd, &st) != 0)
		return fd < 0 ? fd : -errno;
	/* Relaxed: published by file. */
	atomic_store_explicit(&seg->holders->file_dev, (uint64_t)st.st_dev, memory_order_relaxed);
	/* pairs[alive_file.rel]: killed before this, the next agent makes another one. */
	atomic_store_explicit(&seg->holders->file, made << 48 | ((uint64_t)st.st_ino & INODE_MASK),
			      memory_order_release);
	return fd;
}

int rl_alive_make(struct rl_seg *seg, const char *path, const struct rl_segment_spec *spec,
		  char *why)
{
	char name[PATH_MAX];
	int fd;

	if (name_alive(path, name) != 0)
		return rl_refuse(-ENAMETOOLONG, why, "the path is too long");
	fd = rl_alive_open(&seg->view, path);
	if (fd < 0)
		fd = make_new(seg, name);
	if (fd < 0)
		return rl_refuse(fd, why, "cannot make %s: %s", name, strerror(-fd));
	/* It closes a descriptor of its own: we have no lock there yet. Refused: as for the
	 * segment, whose group it may be. */
	rl_segment_permit(name, spec, why);
	return fd;
}
