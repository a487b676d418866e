/*
 * rl_create.c - the writing half of rl_segment.h: the agent's lock, and a new segment.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/rl_clock_check.h"
#include "shm/rl_extent.h"
#include "shm/rl_lists.h"
#include "shm/rl_rules.h"
#include "shm/rl_segment.h"
#include "shm/rl_word.h"

#define DIR_MODE   0755
#define LOCK_MODE  0660
#define LOCK_TRIES 8 /* each failed one is a lock file removed while it was being opened */

static int parent_of(const char *path, char dir[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);

	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(dir, slash == NULL ? "." : path, len == 0 ? 1 : len);
	dir[len == 0 ? 1 : len] = '\0';
	return 0;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

/* One level is made, as /dev/shm/rl is needed after each boot. */
static int make_directory(const char *dir, char *why)
{
	if (mkdir(dir, DIR_MODE) == 0) {
		chmod(dir, DIR_MODE); /* whatever the umask: workers must get in */
		return 0;
	}
	if (errno == EEXIST)
		return 0;
	if (errno == ENOENT)
		return rl_refuse(-ENOENT, why, "the directory %s does not exist: create it", dir);
	return rl_refuse(-errno, why, "cannot create the directory %s: %s", dir, strerror(errno));
}

/* Who may rename files in the directory decides which segment the workers get. */
static int check_directory(const char *dir, char *why)
{
	struct stat st;

	if (stat(dir, &st) != 0)
		return rl_refuse(-errno, why, "cannot use the directory %s: %s", dir,
				 strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return rl_refuse(-ENOTDIR, why, "%s is not a directory", dir);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return rl_refuse(-EPERM, why,
				 "the directory %s belongs to user %lu, who could replace the "
				 "segment: use one of root's or of this user's",
				 dir, (unsigned long)st.st_uid);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
		return rl_refuse(-EPERM, why,
				 "others may replace files in the directory %s (mode %04o): "
				 "chmod go-w or +t it",
				 dir, (unsigned)st.st_mode & 07777);
	return 0;
}

static int prepare_parent(const char *path, char *why)
{
	char dir[PATH_MAX];
	int error = parent_of(path, dir);

	if (error != 0)
		return rl_refuse(error, why, "the path is too long");
	error = make_directory(dir, why);
	return error != 0 ? error : check_directory(dir, why);
}

static int name_lock(const char *path, char name[PATH_MAX])
{
	return snprintf(name, PATH_MAX, "%s.lock", path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int refuse_lock(const char *name, int open_errno, char *why)
{
	char dir[PATH_MAX], denied[RL_WHY_MAX];
	bool there = access(name, F_OK) == 0;

	if (open_errno == ELOOP)
		return rl_refuse(-ELOOP, why, "%s is a symbolic link: remove it", name);
	if (open_errno != EACCES || parent_of(name, dir) != 0)
		return rl_refuse(-open_errno, why, "cannot lock %s: %s", name,
				 strerror(open_errno));
	rl_segment_denied(there ? name : dir, denied);
	return rl_refuse(-EACCES, why, "cannot lock %s: %s", there ? name : dir, denied);
}

/* Is the open file still the one of that name, and a file at all? */
static bool is_named(int fd, const char *name)
{
	struct stat open_one, named;

	return fstat(fd, &open_one) == 0 && lstat(name, &named) == 0 &&
	       open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino &&
	       S_ISREG(open_one.st_mode);
}

/* Whom the kernel says holds the lock; 0 when it was given back meanwhile. */
static pid_t holder_of(int fd)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &whole) != 0 || whole.l_type == F_UNLCK)
		return 0;
	return whole.l_pid;
}

/* One try: -EAGAIN when the file was removed by its last holder while we opened it. */
static int try_lock(const char *name, int *ret_fd, pid_t *ret_holder, char *why)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		      LOCK_MODE);
	int error = 0;

	if (fd < 0)
		return refuse_lock(name, errno, why);
	if (fcntl(fd, F_SETLK, &whole) != 0) {
		error = errno == EACCES || errno == EAGAIN ? RL_E_LOCKED : -errno;
		*ret_holder = holder_of(fd);
		rl_refuse(error, why, "cannot lock %s: %s", name, rl_error_text(error));
	} else if (!is_named(fd, name)) {
		error = rl_refuse(-EAGAIN, why, "%s is being removed, or is not a regular file",
				  name);
	}
	if (error == 0)
		*ret_fd = fd;
	else
		close(fd);
	return error;
}

int rl_segment_lock(const char *path, int *ret_fd, pid_t *ret_holder, char *why)
{
	char name[PATH_MAX];
	int error = prepare_parent(path, why);

	if (error != 0)
		return error;
	if (name_lock(path, name) != 0)
		return rl_refuse(-ENAMETOOLONG, why, "the path is too long");
	for (int i = 0; i < LOCK_TRIES; i++) {
		error = try_lock(name, ret_fd, ret_holder, why);
		if (error != -EAGAIN)
			break;
	}
	return error;
}

void rl_segment_unlock(const char *path, int fd, bool remove_file)
{
	char name[PATH_MAX];

	if (remove_file && name_lock(path, name) == 0)
		unlink(name); /* still under the lock: who opens it now finds it gone, and retries
			       */
	close(fd);
}

pid_t rl_segment_lock_holder(const char *path)
{
	char name[PATH_MAX];
	pid_t holder;
	int fd;

	if (name_lock(path, name) != 0)
		return 0;
	fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	holder = holder_of(fd);
	close(fd);
	return holder;
}

/* "BASE.4711.tmp": neither "BASE.notes.tmp" nor "BASE.1.4711.tmp", which is of BASE.1. */
static bool is_leftover(const char *name, const char *base)
{
	size_t len = strlen(base), digits;

	if (strncmp(name, base, len) != 0 || name[len] != '.')
		return false;
	digits = strspn(name + len + 1, "0123456789");
	return digits > 0 && strcmp(name + len + 1 + digits, ".tmp") == 0;
}

/* Half-built segments of agents that were killed; safe because the caller holds the lock. */
static void remove_leftovers(const char *path)
{
	char dir_name[PATH_MAX];
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (parent_of(path, dir_name) != 0 || (dir = opendir(dir_name)) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		if (is_leftover(entry->d_name, base_of(path)) &&
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

/* Twice as many as the lists may have entries, so that few are looked at. */
static uint64_t list_slots_for(uint32_t entries)
{
	uint64_t slots = 2;

	while (slots < 2 * (uint64_t)(entries != 0 ? entries : RL_LISTS_DEFAULT))
		slots *= 2;
	return slots;
}

/* Relaxed: as in fill(). */
static void fill_fleet(struct rl_fleet *fleet)
{
	atomic_store_explicit(&fleet->stale_after_ns, RL_STALE_AFTER_NS, memory_order_relaxed);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		atomic_store_explicit(&fleet->part[p].seq, 1, memory_order_relaxed);
}

static int fill(char *base, struct rl_hdr *hdr, const uint64_t *hash_key)
{
	struct rl_slot *slot = (struct rl_slot *)(void *)(base + hdr->slots_off);
	struct rl_live *live = (struct rl_live *)(void *)(base + sizeof(*hdr));

	if (hash_key != NULL)
		memcpy(hdr->hash_key, hash_key, sizeof(hdr->hash_key));
	else if (getrandom(hdr->hash_key, sizeof(hdr->hash_key), 0) != sizeof(hdr->hash_key))
		return -EIO;
	memcpy(base, hdr, sizeof(*hdr));
	rl_clock_beat(live);
	fill_fleet((struct rl_fleet *)(void *)(base + sizeof(*hdr) + sizeof(*live) +
					       2 * sizeof(struct rl_bank)));
	/* Relaxed: nobody else has this file yet; seg_ready publishes it. */
	for (uint64_t i = 0; i < hdr->bucket_count * RL_LANES; i++)
		atomic_store_explicit(&slot[i].head, rl_head_closed(RL_N_FIRST, RL_KIND_FREE),
				      memory_order_relaxed);
	/* pairs[seg_ready.rel]: everything above is written before ready says so. */
	atomic_store_explicit(&((struct rl_hdr *)(void *)base)->ready, 1, memory_order_release);
	return 0;
}

/* Group first: the mode may give it more than the old one should have. */
static int permit(int fd, const struct rl_segment_spec *spec, char *why)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return rl_refuse(-errno, why, "cannot stat it: %s", strerror(errno));
	if (spec->set_group && st.st_gid != spec->group && fchown(fd, (uid_t)-1, spec->group) != 0)
		return rl_refuse(-errno, why,
				 "cannot give it to group %lu: %s; only root, or its owner when a "
				 "member of that group, may",
				 (unsigned long)spec->group, strerror(errno));
	if (spec->mode != 0 && (st.st_mode & 07777) != spec->mode && fchmod(fd, spec->mode) != 0)
		return rl_refuse(-errno, why,
				 "cannot give it the mode %04o: %s; only its owner may",
				 (unsigned)spec->mode, strerror(errno));
	return 0;
}

int rl_segment_permit(const char *path, const struct rl_segment_spec *spec, char *why)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int error;

	if (fd < 0)
		return rl_refuse(-errno, why, "cannot open it: %s", strerror(errno));
	error = permit(fd, spec, why);
	close(fd);
	return error;
}

static uint64_t chunk_here(void)
{
	return RL_CHUNK_MIN * ((uint64_t)sysconf(_SC_PAGESIZE) / RL_PAGE);
}

/* All but the rest of the last chunk, which nobody uses before the table grows. */
static int allocate(int fd, const struct rl_hdr *hdr)
{
	uint64_t off = hdr->tags_off, room = rl_chunk_end(hdr->bucket_count, hdr->chunk);
	int error = posix_fallocate(fd, 0, (off_t)hdr->tags_off);

	for (int a = 0; a < RL_ARRAYS && error == 0; a++) {
		error = posix_fallocate(fd, (off_t)off,
					(off_t)(hdr->bucket_count * rl_array_bytes(a)));
		off += room * rl_array_bytes(a);
	}
	return error != 0 ? error
			  : posix_fallocate(fd, (off_t)hdr->dirty_off,
					    (off_t)(hdr->total_size - hdr->dirty_off));
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
		.clock = spec->clock_given ? RL_CLOCK_GIVEN : RL_CLOCK_OWN,
		.made_real_s = (uint64_t)time(NULL),
	};
	char *base;
	int error;

	hdr.chunk = chunk_here();
	rl_segment_lay_out(&hdr, rl_segment_buckets(spec->keys),
			   list_slots_for(spec->list_entries));
	rl_clock_sign(&hdr);
	error = allocate(fd, &hdr);
	if (error != 0)
		return rl_refuse(-error, why, "cannot allocate %llu MiB for %llu keys: %s",
				 (unsigned long long)(hdr.total_size >> 20),
				 (unsigned long long)spec->keys, strerror(error));
	base = mmap(NULL, hdr.total_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return rl_refuse(-errno, why, "cannot map it: %s", strerror(errno));
	error = fill(base, &hdr, spec->hash_key);
	munmap(base, hdr.total_size);
	if (error != 0)
		return rl_refuse(error, why, "cannot build it: %s", rl_error_text(error));
	return permit(fd, spec, why);
}

/* Map what was built, with its rules, and only then let others see it. */
static int reveal(const char *temp, const char *path, const struct rl_segment_spec *spec,
		  struct rl_seg *ret, char *why)
{
	size_t other = 0;
	int error = rl_segment_attach(temp, ret, why);

	if (error != 0)
		return error;
	if (spec->rule_count > 0)
		error = rl_rules_publish(ret, spec->rule, spec->rule_count, &other);
	if (error == RL_E_LISTS)
		rl_refuse(error, why, "%s: give it a larger 'lists'", rl_error_text(error));
	else if (error != 0)
		rl_refuse(error, why, "rule %zu: %s", other + 1, rl_error_text(error));
	if (error == 0 && spec->restore != NULL) {
		error = spec->restore(ret, spec->restore_arg);
		if (error != 0)
			rl_refuse(error, why, "cannot restore its counts: %s",
				  rl_error_text(error));
	}
	if (error == 0 && rename(temp, path) != 0)
		error = rl_refuse(-errno, why, "cannot rename %s: %s", temp, strerror(errno));
	if (error != 0)
		rl_segment_detach(ret);
	return error;
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
	fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return rl_refuse(-errno, why, "cannot create %s: %s", temp, strerror(errno));
	error = build(fd, spec, why);
	close(fd);
	if (error == 0)
		error = reveal(temp, path, spec, ret, why);
	if (error != 0)
		unlink(temp);
	return error;
}
