/*
 * rl_grow.c - rl_segment_grow() of rl_segment.h: another extent for a table in use.
 *
 * Nothing that is there moves: the file gets longer, the header says last that it is. Who has it
 * mapped goes on with what there was until it looks for a key that is not in it
 * (rl_segment_has_grown()); rl_table.h says why no key is then made twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shm/rl_clock_check.h"
#include "shm/rl_extent.h"
#include "shm/rl_word.h"

#define PIECE (UINT64_C(64) << 20) /* bytes: some 50 ms */
#define FRONT (sizeof(struct rl_hdr) + sizeof(struct rl_live))

/* The header as it is, which must be one that could be attached to. */
static int read_header(int fd, struct rl_hdr *ret, char *why)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return rl_refuse(-errno, why, "cannot stat it: %s", strerror(errno));
	if (pread(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
		return rl_refuse(RL_E_SHORT, why, "it has no header");
	return rl_segment_usable(ret, (uint64_t)st.st_size, why);
}

/* The header with one extent more, to hold so many keys. 1, or 0: it does. */
static int add_extent(struct rl_hdr *hdr, const struct rl_plan *old, uint64_t keys, char *why)
{
	const struct rl_extent *last = &old->extent[old->extents - 1];
	uint64_t end = rl_segment_buckets(keys), least = last->first + last->count + RL_CHOICES;

	if (end <= last->first + last->count)
		return 0;
	if (old->extents == RL_EXTENTS_MAX)
		return rl_refuse(-ENOSPC, why, "it has grown %u times, which is all it can",
				 RL_EXTENTS_MAX - 1);
	if (end > RL_BUCKETS_MAX)
		return rl_refuse(-ERANGE, why, "%llu keys: must be 1 .. %llu",
				 (unsigned long long)keys, (unsigned long long)RL_SEGMENT_KEYS_MAX);
	/* Relaxed, both: our own copy. */
	atomic_store_explicit(&hdr->extent_end[old->extents - 1], end > least ? end : least,
			      memory_order_relaxed);
	atomic_store_explicit(&hdr->grown, old->extents, memory_order_relaxed);
	return 1;
}

/*
 * What a grow that was killed has left behind the end may be of another size: zeros in its place.
 * The file never gets shorter: were the header damaged, others would use what was cut off.
 */
static int clear_rest(int fd, const struct rl_plan *old)
{
	struct stat st;
	off_t end = (off_t)old->file_size;

	if (fstat(fd, &st) != 0)
		return errno;
	if (st.st_size <= end)
		return 0;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, st.st_size - end) == 0
		       ? 0
		       : errno;
}

/* Asked first: nobody's memory is taken for a part of it. */
static int see_room(int fd, uint64_t bytes)
{
	struct statvfs fs;

	if (fstatvfs(fd, &fs) != 0)
		return errno;
	if (fs.f_blocks == 0) /* it sets no limit, as a tmpfs may */
		return 0;
	return bytes / fs.f_frsize >= fs.f_bavail ? ENOSPC : 0;
}

/*
 * Not posix_fallocate(): where the file system cannot, that reads and writes bytes of what is in
 * use, and counts that others make in between are lost.
 */
static int allocate_piece(int fd, uint64_t off, uint64_t len)
{
	int got;

	do
		got = fallocate(fd, 0, (off_t)off, (off_t)len);
	while (got != 0 && errno == EINTR);
	return got == 0 ? 0 : errno;
}

/*
 * A piece at a time, with a heartbeat in between: it may take seconds, and whoever keeps the
 * segment is alive.
 */
static int allocate(int fd, struct rl_live *live, uint64_t end)
{
	int error = 0;

	for (uint64_t off = 0; error == 0 && off < end; off += PIECE) {
		uint64_t len = end - off < PIECE ? end - off : PIECE;

		rl_clock_beat(live);
		error = allocate_piece(fd, off, len);
	}
	return error;
}

static int lengthen(int fd, struct rl_live *live, const struct rl_plan *old,
		    const struct rl_plan *plan, char *why)
{
	int error = clear_rest(fd, old);

	if (error == 0)
		error = see_room(fd, plan->file_size - old->file_size);
	if (error == 0)
		error = allocate(fd, live, plan->file_size);
	if (error == 0)
		return 0;
	clear_rest(fd, old);
	return rl_refuse(-error, why, "cannot allocate another %llu MiB: %s",
			 (unsigned long long)((plan->file_size - old->file_size) >> 20),
			 strerror(error));
}

static void free_slots(char *base, const struct rl_plan *plan)
{
	struct rl_live *live = (void *)(base + sizeof(struct rl_hdr));
	struct rl_slot *slot = (void *)(base + plan->array_at[RL_SLOTS]);
	const struct rl_extent *fresh = &plan->extent[plan->extents - 1];
	uint64_t end = (fresh->first + fresh->count) * RL_LANES;

	for (uint64_t i = fresh->first * RL_LANES; i < end; i++) {
		/* Relaxed: nobody looks here before grown says that there is something. */
		atomic_store_explicit(&slot[i].head, rl_head_closed(RL_N_FIRST, RL_KIND_FREE),
				      memory_order_relaxed);
		if (i % (PIECE / sizeof(struct rl_slot)) == 0)
			rl_clock_beat(live);
	}
}

/* Killed before the last store: nobody has seen anything of it. */
static void tell(struct rl_hdr *hdr, const struct rl_plan *plan)
{
	const struct rl_extent *fresh = &plan->extent[plan->extents - 1];

	/* Relaxed: not looked at before grown. */
	atomic_store_explicit(&hdr->extent_end[plan->extents - 2], fresh->first + fresh->count,
			      memory_order_relaxed);
	/* pairs[grown.rel]: all of it is filled. seq_cst: before anybody claims there. */
	atomic_store_explicit(&hdr->grown, plan->extents - 1, memory_order_seq_cst);
}

static int grow(int fd, uint64_t keys, char *why)
{
	struct rl_plan old, plan;
	struct rl_hdr hdr;
	char *base;
	int error = read_header(fd, &hdr, why);

	if (error != 0)
		return error;
	rl_plan_make(&hdr, &old); /* as rl_segment_usable() did */
	error = add_extent(&hdr, &old, keys, why);
	if (error <= 0)
		return error;
	rl_plan_make(&hdr, &plan);
	base = mmap(NULL, FRONT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return rl_refuse(-errno, why, "cannot map it: %s", strerror(errno));
	error = lengthen(fd, (void *)(base + sizeof(hdr)), &old, &plan, why);
	munmap(base, FRONT);
	if (error != 0)
		return error;
	error = rl_plan_map(&plan, &hdr, (struct rl_source){.fd = fd}, PROT_READ | PROT_WRITE,
			    &base);
	if (error != 0)
		return rl_refuse(error, why, "cannot map it: %s", rl_error_text(error));
	free_slots(base, &plan);
	tell((void *)base, &plan);
	munmap(base, plan.size);
	return 1;
}

int rl_segment_grow(const char *path, uint64_t keys, char *why)
{
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int error;

	if (fd < 0)
		return rl_refuse(-errno, why, "cannot open it: %s", strerror(errno));
	error = grow(fd, keys, why);
	close(fd);
	return error;
}
