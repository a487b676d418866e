/*
 * guard - preloaded: each mapping of a file that may be shared lies between two regions that
 * nobody may touch, so that a stray access to the segment's neighbours is a crash.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GUARD ((size_t)1 << 32) /* as far as any index of 32 bits times 1 reaches */

static void *map(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	/* The number of a page would do on 32 bits: this is for 64. */
	return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

__attribute__((visibility("default"))) void *mmap(void *at, size_t size, int prot, int flags,
						  int fd, off_t offset)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
	char *region;

	if ((flags & MAP_SHARED) == 0 || (flags & (MAP_ANONYMOUS | MAP_FIXED)) != 0 || size == 0)
		return map(at, size, prot, flags, fd, offset);
	region = map(NULL, whole + 2 * GUARD, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (region == MAP_FAILED)
		return MAP_FAILED;
	return map(region + GUARD, size, prot, flags | MAP_FIXED, fd, offset);
}
