/*
 * rl_create.c - the writing half of rl_segment.h: the agent's lock, and a new segment.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/rl_clock_check.h"
#include "shm/rl_segment.h"
#include "shm/rl_word.h"

#define DIR_MODE  0755
#define LOCK_MODE 0660

/* mkdir the directory that path lies in; one level, as /dev/shm/rl needs after each boot. */
static int make_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];

	if (slash == NULL || slash == path)
		return 0;
	if ((size_t)(slash - path) >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	return mkdir(dir, DIR_MODE) == 0 || errno == EEXIST ? 0 : -errno;
}

/* Whom the kernel says holds the lock; 0 when it was given back meanwhile. */
static pid_t lock_holder(int fd)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &whole) != 0 || whole.l_type == F_UNLCK)
		return 0;
	return whole.l_pid;
}

int rl_segment_lock(const char *path, int *ret_fd, pid_t *ret_holder)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char name[PATH_MAX];
	int error = make_parent(path);
	int fd;

	if (error != 0)
		return error;
	if (snprintf(name, sizeof(name), "%s.lock", path) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, LOCK_MODE);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETLK, &whole) == 0) {
		*ret_fd = fd;
		return 0;
	}
	error = errno == EACCES || errno == EAGAIN ? RL_E_LOCKED : -errno;
	*ret_holder = lock_holder(fd);
	close(fd);
	return error;
}

/* Half-built segments of agents that were killed; safe because the caller holds the lock. */
static void remove_leftovers(const char *path)
{
	char pattern[PATH_MAX];
	glob_t found;

	if (snprintf(pattern, sizeof(pattern), "%s.[0-9]*.tmp", path) >= (int)sizeof(pattern))
		return;
	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		unlink(found.gl_pathv[i]);
	globfree(&found);
}

/* Buckets that hold keys at 90 % load, plus one for the unevenness of small tables. */
static uint64_t buckets_for(uint64_t keys)
{
	uint64_t buckets = (keys * 10 / 9 + RL_LANES - 1) / RL_LANES + 1;

	return buckets < 2 ? 2 : buckets;
}

static int fill(char *base, struct rl_hdr *hdr)
{
	struct rl_slot *slot = (struct rl_slot *)(void *)(base + hdr->slots_off);
	struct rl_live *live = (struct rl_live *)(void *)(base + sizeof(*hdr));

	if (getrandom(hdr->hash_key, sizeof(hdr->hash_key), 0) != sizeof(hdr->hash_key))
		return -EIO;
	memcpy(base, hdr, sizeof(*hdr));
	rl_clock_beat(live);
	/* Relaxed: nobody else has this file yet; seg_ready publishes it. */
	for (uint64_t i = 0; i < hdr->bucket_count * RL_LANES; i++)
		atomic_store_explicit(&slot[i].head, rl_head_closed(RL_N_FIRST, RL_KIND_FREE),
				      memory_order_relaxed);
	/* pairs[seg_ready.rel]: everything above is written before ready says so. */
	atomic_store_explicit(&((struct rl_hdr *)(void *)base)->ready, 1, memory_order_release);
	return 0;
}

/* Allocate, fill and give the final mode to the open temporary file. */
static int build(int fd, const struct rl_segment_spec *spec, char *why)
{
	struct rl_hdr hdr = {
		.magic = RL_MAGIC,
		.abi_major = RL_ABI_MAJOR,
		.abi_minor = RL_ABI_MINOR,
		.hdr_size = sizeof(struct rl_hdr),
		.live_size = sizeof(struct rl_live),
		.bank_size = sizeof(struct rl_bank),
		.member_size = sizeof(struct rl_member),
		.slot_size = sizeof(struct rl_slot),
		.ring_stamps = RL_RING,
		.made_real_s = (uint64_t)time(NULL),
	};
	char *base;
	int error;

	rl_segment_lay_out(&hdr, buckets_for(spec->keys));
	rl_clock_sign(&hdr);
	error = posix_fallocate(fd, 0, (off_t)hdr.total_size);
	if (error != 0)
		return rl_refuse(-error, why, "cannot allocate %llu MiB for %llu keys: %s",
				 (unsigned long long)(hdr.total_size >> 20),
				 (unsigned long long)spec->keys, strerror(error));
	base = mmap(NULL, hdr.total_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return rl_refuse(-errno, why, "cannot map it: %s", strerror(errno));
	error = fill(base, &hdr);
	munmap(base, hdr.total_size);
	if (error == 0 && fchmod(fd, spec->mode) != 0)
		error = -errno;
	return error == 0 ? 0 : rl_refuse(error, why, "cannot build it: %s", rl_error_text(error));
}

int rl_segment_create(const char *path, const struct rl_segment_spec *spec, struct rl_seg *ret,
		      char *why)
{
	char temp[PATH_MAX];
	int fd, error;

	if (spec->keys < 1 || spec->keys > RL_SEGMENT_KEYS_MAX)
		return rl_refuse(-ERANGE, why, "%llu keys: must be 1 .. %llu",
				 (unsigned long long)spec->keys,
				 (unsigned long long)RL_SEGMENT_KEYS_MAX);
	if (snprintf(temp, sizeof(temp), "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof(temp))
		return rl_refuse(-ENAMETOOLONG, why, "the path is too long");
	remove_leftovers(path);
	fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return rl_refuse(-errno, why, "cannot create %s: %s", temp, strerror(errno));
	error = build(fd, spec, why);
	close(fd);
	if (error == 0 && rename(temp, path) != 0)
		error = rl_refuse(-errno, why, "cannot rename %s: %s", temp, strerror(errno));
	if (error != 0) {
		unlink(temp);
		return error;
	}
	return rl_segment_attach(path, ret, why);
}
