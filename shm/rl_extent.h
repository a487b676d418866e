/*
 * rl_extent.h - where the extents of a table lie in its file, and where they are mapped.
 *
 * Rooms:  rl_segment.c, rl_create.c and rl_grow.c.
 *
 * An array of the table (tags, slots, sides, texts) is one stretch of memory whose index goes on
 * from one extent into the next; in the file what each extent adds lies at what was then the end.
 * So the arrays are cut at multiples of a chunk of buckets, which are whole pages of each: an
 * extent may begin and end anywhere, and uses what the last chunk of the one before it has left.
 *
 *	file    | header .. members | tags | slots | sides | texts | dirty .. holds |
 *	        | tags+ | slots+ | sides+ | texts+ | dirty+ | ...
 *	memory  | header .. members | tags tags+ | slots slots+ | sides sides+ | texts texts+ |
 *	        | dirty .. holds | dirty+ | ...
 *
 * A table that has not grown is mapped as its file is.
 */
#ifndef RL_EXTENT_H
#define RL_EXTENT_H

#include <stdint.h>

#include "shm/rl_segment.h"

enum { RL_TAGS, RL_SLOTS, RL_SIDES, RL_TEXTS, RL_ARRAYS };

/* Bytes all; made from a header alone. */
struct rl_plan {
	struct rl_extent extent[RL_EXTENTS_MAX];
	uint32_t extents;
	uint64_t page;                     /* that all which follows is whole ones of */
	uint64_t file_size;                /* at least */
	uint64_t size;                     /* of memory */
	uint64_t array_at[RL_ARRAYS];      /* in memory */
	uint64_t tail_at;                  /* what lies in the file from dirty_off to total_size */
	uint64_t dirty_at[RL_EXTENTS_MAX]; /* in memory; of the first: in the tail */
	uint64_t end[RL_EXTENTS_MAX];      /* buckets, to the end of a chunk */
	uint64_t off[RL_EXTENTS_MAX];      /* in the file: what each adds; 0 of the first */
};

/* Words of one bit for each of count things. */
static inline uint64_t rl_bit_words(uint64_t count)
{
	return (count + 63) / 64;
}

/* The page of the system that it was made on, whose chunks are of whole ones: of 4 KiB or more. */
static inline uint64_t rl_chunk_page(uint64_t chunk)
{
	return chunk / RL_CHUNK_MIN * RL_PAGE;
}

static inline uint64_t rl_round_to(uint64_t bytes, uint64_t page)
{
	return (bytes + page - 1) / page * page;
}

/* Words of the dirty bits of so many slots, and of their summary. */
static inline uint64_t rl_dirty_words(uint64_t slots)
{
	return rl_bit_words(slots) + rl_bit_words(rl_bit_words(slots));
}

/* Buckets, up to the end of their last chunk. */
static inline uint64_t rl_chunk_end(uint64_t buckets, uint64_t chunk)
{
	return (buckets + chunk - 1) / chunk * chunk;
}

/* Bytes of one bucket of an array. */
uint64_t rl_array_bytes(int array);

/* 0, or RL_E_SIZES: its extents contradict each other. hdr is otherwise usable. */
int rl_plan_make(const struct rl_hdr *hdr, struct rl_plan *ret);

/*
 * Map all of the plan, of the file that is open as fd; or, where fd is negative, of the file that
 * image is a mapping of, from its first byte on. 0, or -errno; async-signal-safe.
 */
struct rl_source {
	int fd;
	char *image;
};
int rl_plan_map(const struct rl_plan *plan, const struct rl_hdr *hdr, struct rl_source from,
		int prot, char **ret_base);

/*
 * All of the plan's file, as it lies there, by what is mapped of its first bytes: by mremap() of a
 * length of 0, which maps the same file once more. Nobody asks for a permission or a descriptor.
 * -errno: also when it is shorter than the plan says, or on a kernel before 5.14, where that could
 * not be told without a SIGBUS. Async-signal-safe.
 */
int rl_plan_image(const struct rl_plan *plan, void *first, char **ret_image);

#endif
