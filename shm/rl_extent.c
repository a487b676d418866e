#include "shm/rl_extent.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#define POPULATE_READ 22 /* MADV_POPULATE_READ: Linux 5.14; older headers lack it */

uint64_t rl_array_bytes(int array)
{
	static const uint64_t bytes[RL_ARRAYS] = {
		[RL_TAGS] = sizeof(struct rl_tags),
		[RL_SLOTS] = RL_LANES * sizeof(struct rl_slot),
		[RL_SIDES] = RL_LANES * sizeof(struct rl_side),
		[RL_TEXTS] = RL_LANES * sizeof(struct rl_text),
	};

	return bytes[array];
}

static uint64_t all_arrays_bytes(void)
{
	uint64_t bytes = 0;

	for (int a = 0; a < RL_ARRAYS; a++)
		bytes += rl_array_bytes(a);
	return bytes;
}

static uint64_t dirty_bytes(const struct rl_plan *plan, uint32_t e)
{
	uint64_t words = rl_dirty_words(plan->extent[e].count * RL_LANES);

	return rl_round_to(words * sizeof(uint64_t), plan->page);
}

/* The extents themselves. Each has room for all choices of an identity. */
static int list_extents(const struct rl_hdr *hdr, struct rl_plan *ret)
{
	/* Relaxed, all: a copy of the header, or one that nobody else has. */
	uint64_t grown = atomic_load_explicit(&hdr->grown, memory_order_relaxed);

	if (grown >= RL_EXTENTS_MAX)
		return RL_E_SIZES;
	ret->extents = (uint32_t)grown + 1;
	ret->extent[0] = (struct rl_extent){0, hdr->bucket_count};
	for (uint32_t e = 1; e < ret->extents; e++) {
		uint64_t first = ret->extent[e - 1].first + ret->extent[e - 1].count;
		uint64_t end = atomic_load_explicit(&hdr->extent_end[e - 1], memory_order_relaxed);

		if (end > RL_BUCKETS_MAX || end < first + RL_CHOICES)
			return RL_E_SIZES;
		ret->extent[e] = (struct rl_extent){first, end - first};
	}
	return 0;
}

static void place_in_file(const struct rl_hdr *hdr, struct rl_plan *plan)
{
	plan->file_size = hdr->total_size;
	plan->off[0] = 0;
	for (uint32_t e = 0; e < plan->extents; e++) {
		const struct rl_extent *extent = &plan->extent[e];

		plan->end[e] = rl_chunk_end(extent->first + extent->count, hdr->chunk);
		if (e == 0)
			continue;
		plan->off[e] = plan->file_size;
		plan->file_size += (plan->end[e] - plan->end[e - 1]) * all_arrays_bytes() +
				   dirty_bytes(plan, e);
	}
}

static void place_in_memory(const struct rl_hdr *hdr, struct rl_plan *plan)
{
	uint64_t at = hdr->tags_off;

	for (int a = 0; a < RL_ARRAYS; a++) {
		plan->array_at[a] = at;
		at += plan->end[plan->extents - 1] * rl_array_bytes(a);
	}
	plan->tail_at = at;
	plan->dirty_at[0] = at;
	at += hdr->total_size - hdr->dirty_off;
	for (uint32_t e = 1; e < plan->extents; e++) {
		plan->dirty_at[e] = at;
		at += dirty_bytes(plan, e);
	}
	plan->size = at;
}

int rl_plan_make(const struct rl_hdr *hdr, struct rl_plan *ret)
{
	int error = list_extents(hdr, ret);

	if (error != 0)
		return error;
	ret->page = rl_chunk_page(hdr->chunk);
	place_in_file(hdr, ret);
	place_in_memory(hdr, ret);
	return 0;
}

/* A stretch of the file over what was reserved for it. */
static bool map_piece(char *base, uint64_t at, uint64_t len, struct rl_source from, uint64_t off,
		      int prot)
{
	if (len == 0)
		return true;
	if (from.fd < 0)
		return mremap(from.image + off, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, base + at) !=
		       MAP_FAILED;
	return mmap(base + at, len, prot, MAP_SHARED | MAP_FIXED, from.fd, (off_t)off) !=
	       MAP_FAILED;
}

/* What extent e, not the first, adds to the arrays and to the dirty bits. */
static bool map_extent(const struct rl_plan *plan, uint32_t e, char *base, struct rl_source from,
		       int prot)
{
	uint64_t first = plan->end[e - 1], buckets = plan->end[e] - first, off = plan->off[e];

	for (int a = 0; a < RL_ARRAYS; a++) {
		uint64_t bytes = rl_array_bytes(a);

		if (!map_piece(base, plan->array_at[a] + first * bytes, buckets * bytes, from, off,
			       prot))
			return false;
		off += buckets * bytes;
	}
	return map_piece(base, plan->dirty_at[e], dirty_bytes(plan, e), from, off, prot);
}

static bool map_pieces(const struct rl_plan *plan, const struct rl_hdr *hdr, char *base,
		       struct rl_source from, int prot)
{
	uint64_t off = hdr->tags_off;
	bool good = map_piece(base, 0, hdr->tags_off, from, 0, prot);

	for (int a = 0; good && a < RL_ARRAYS; a++) {
		uint64_t len = plan->end[0] * rl_array_bytes(a);

		good = map_piece(base, plan->array_at[a], len, from, off, prot);
		off += len;
	}
	good = good && map_piece(base, plan->tail_at, hdr->total_size - hdr->dirty_off, from,
				 hdr->dirty_off, prot);
	for (uint32_t e = 1; good && e < plan->extents; e++)
		good = map_extent(plan, e, base, from, prot);
	return good;
}

int rl_plan_image(const struct rl_plan *plan, void *first, char **ret_image)
{
	char *image = mremap(first, 0, plan->file_size, MREMAP_MAYMOVE);
	int error;

	if (image == MAP_FAILED)
		return -errno;
	/* Behind the file's end this fails, where a read would be a SIGBUS. */
	if (madvise(image + plan->file_size - plan->page, plan->page, POPULATE_READ) == 0) {
		*ret_image = image;
		return 0;
	}
	error = -errno;
	munmap(image, plan->file_size);
	return error;
}

int rl_plan_map(const struct rl_plan *plan, const struct rl_hdr *hdr, struct rl_source from,
		int prot, char **ret_base)
{
	bool whole = plan->extents == 1 && from.fd >= 0;
	char *base = whole ? mmap(NULL, plan->size, prot, MAP_SHARED, from.fd, 0)
			   : mmap(NULL, plan->size, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int error;

	if (base == MAP_FAILED)
		return -errno;
	if (!whole && !map_pieces(plan, hdr, base, from, prot)) {
		error = -errno;
		munmap(base, plan->size);
		return error;
	}
	*ret_base = base;
	return 0;
}
