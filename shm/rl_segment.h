/*
 * rl_segment.h - the segment as a file: create, attach, refuse. The only mmap of the house.
 *
 * Rooms:  shm/ and above.
 *
 * A mapping that may write (struct rl_seg) and one that may only read (struct rl_view) are
 * different types, so that a tool cannot write by mistake; a seg contains a view.
 *
 * What a check needs of the frozen header is copied out once, when attaching, and checked
 * then: a hostile writer can change the header afterwards and reach nobody who is attached.
 */
#ifndef RL_SEGMENT_H
#define RL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/rl_error.h"
#include "shm/rl_layout.h"

#define RL_SEGMENT_DEFAULT  "/dev/shm/rl/default"
#define RL_STALE_AFTER_NS   UINT64_C(250000000)  /* unless configured */
#define RL_SEGMENT_KEYS_MAX UINT64_C(3000000000) /* under RL_BUCKETS_MAX buckets */

/* A stretch of buckets: what the table was made with, or has grown by once. */
struct rl_extent {
	uint64_t first, count;
};

struct rl_view {
	const struct rl_hdr *hdr;
	const struct rl_live *live;
	const struct rl_bank *bank; /* [2] */
	const struct rl_fleet *fleet;
	const struct rl_list_entry *lists; /* [2 * list_slots] */
	const struct rl_before *before;    /* [RL_RULES_MAX] */
	const struct rl_watch *watch;
	const struct rl_member *member; /* [member_count] */
	const struct rl_tags *tags;     /* [bucket_count] */
	const struct rl_slot *slot;     /* [slot_count] */
	const struct rl_side *side;     /* [slot_count] */
	const struct rl_text *text;     /* [slot_count] */
	const struct rl_holders *holders;
	const struct rl_hold *hold; /* [hold_count] */
	uint32_t hold_count;
	uint64_t bucket_count; /* of all extents */
	uint64_t slot_count;
	struct rl_extent newest; /* where a key is looked for first, and made */
	struct rl_extent extent[RL_EXTENTS_MAX];
	uint32_t extents;
	uint64_t dirty_at[RL_EXTENTS_MAX]; /* bytes from hdr: the dirty bits of each */
	uint64_t list_slots;               /* a power of two */
	uint32_t member_count;
	uint64_t hash_key[2];
	uint64_t tick_ns;
	bool given;       /* RL_CLOCK_GIVEN */
	uint64_t file[2]; /* device and inode; 0,0: of no file, rl_segment_blank() */
	size_t size;      /* bytes mapped */
};

/* The dirty bits of an extent. */
struct rl_dirty {
	_Atomic uint64_t *sum;  /* [sums]: a bit for each word */
	_Atomic uint64_t *word; /* [words]: a bit for each slot */
	uint64_t sums, words;
};

struct rl_seg {
	struct rl_view view;
	struct rl_live *live;
	struct rl_bank *bank;
	struct rl_fleet *fleet;
	struct rl_list_entry *lists;
	struct rl_before *before;
	struct rl_watch *watch;
	struct rl_member *member;
	struct rl_tags *tags;
	struct rl_slot *slot;
	struct rl_side *side;
	struct rl_text *text;
	struct rl_holders *holders;
	struct rl_hold *hold;
	struct rl_dirty dirty[RL_EXTENTS_MAX];
	_Atomic uint32_t timed; /* 1: this process's next check is to be timed; rl_member.h */
};

struct rl_rule_spec; /* rl_rules.h */

struct rl_segment_spec {
	uint64_t keys;         /* to hold at once, 1 .. RL_SEGMENT_KEYS_MAX */
	uint32_t list_entries; /* that its rules' lists may have; 0: RL_LISTS_DEFAULT */
	bool clock_given;      /* it counts by what its callers say: rl_now.h */
	mode_t mode;           /* of the file, e.g. 0660; rl_segment_permit(): 0 = as it is */
	bool set_group;
	gid_t group; /* of the file, with set_group; else the creator's, or as it is */
	const struct rl_rule_spec *rule; /* [rule_count], in force from the start */
	size_t rule_count;
	const uint64_t *hash_key; /* [2], one that no process knows a segment by; NULL: a new one */
	/* Before anybody can see it; NULL, or an error of it is that of rl_segment_create(). */
	int (*restore)(struct rl_seg *seg, void *arg);
	void *restore_arg;
};

/*
 * Map the segment at path. On refusal returns a negative error, leaves *ret untouched and
 * writes one line to why (NUL-terminated, RL_WHY_MAX bytes; may be NULL) that says what is
 * wrong and what to do. Nothing is printed. Uses no malloc; async-signal-safe when why is NULL.
 *
 *   -errno          from open, fstat, mmap; -EISDIR for a directory
 *   RL_E_MAGIC      also for a FIFO, a socket or a device: none of them is waited for
 *   RL_E_SHORT, RL_E_MAGIC, RL_E_NOT_READY, RL_E_ABI, RL_E_SIZES, RL_E_CLOCKS in this order
 */
int rl_segment_attach(const char *path, struct rl_seg *ret, char *why);
int rl_segment_view(const char *path, struct rl_view *ret, char *why);

/*
 * The agent, under the segment's lock, of one that RL_E_ABI was said of: the same when an earlier
 * release has made it, of RL_ABI_OLDEST or later, whose slots, sides, texts, rules, lists, fleet's
 * page, statistics and journal are as ours. So all that reads them may be asked of it, and what
 * writes in them; no more than that. RL_E_ABI: of none such.
 *
 * Who changes one of these structs keeps the old one, and what reads it, for the releases before.
 */
int rl_segment_attach_older(const char *path, struct rl_seg *ret, char *why);

/* The version of the layout of what lies at path; 0: it is no segment, or cannot be read. */
uint32_t rl_segment_abi(const char *path);

/* Unmap. The struct must not be used again. */
void rl_segment_detach(struct rl_seg *seg);
void rl_segment_unview(struct rl_view *view);

/* Is the file at path the one that is mapped here? Async-signal-safe. */
bool rl_segment_is_at(const struct rl_view *view, const char *path);

/*
 * Has the table grown since it was mapped here? Then a key that is not found may be in the rest of
 * it, and none may be made. What is here stays right.
 */
static inline bool rl_segment_has_grown(const struct rl_view *view)
{
	/* pairs[grown.acq]: what it says is filled. seq_cst: see rl_table.h, who claims. */
	return atomic_load_explicit(&view->hdr->grown, memory_order_seq_cst) >= view->extents;
}

/*
 * What stands in for a segment that is not there yet: zeros in memory of this process's own, in
 * which no rule is in force, so that every check of it ends with RL_E_RULE. 0, or -ENOMEM.
 */
int rl_segment_blank(struct rl_seg *ret);

/*
 * Give the file's memory back and leave such zeros at the same addresses, for threads that may be
 * stopped in the middle of a check of it, for however long. Such a check ends, with an error: no
 * open slot has a head of 0, so it can neither spend nor refuse there. Costs address space only.
 * 0, or -errno and nothing has changed. Async-signal-safe.
 */
int rl_segment_blank_out(struct rl_seg *seg);

/*
 * Take the segment's agent lock: a POSIX record lock on "<path>.lock", kept by the kernel as
 * long as the process lives, also while it is stopped. Returns 0 and the open descriptor
 * (never open or close that file elsewhere in the process: it would drop the lock), or
 * RL_E_LOCKED and the holder's pid, or -errno; why as above.
 *
 * Creates the parent directory when missing, and refuses one in which another user than root
 * or this one could replace the segment (-EPERM). Follows no symbolic link.
 */
int rl_segment_lock(const char *path, int *ret_fd, pid_t *ret_holder, char *why);

/* Give it back; remove_file: also its file, when no segment is left beside it. */
void rl_segment_unlock(const char *path, int fd, bool remove_file);

/* Pid of the agent that holds the lock, 0 for none. Not in the process that holds it. */
pid_t rl_segment_lock_holder(const char *path);

/*
 * Build a new segment beside path and publish it by rename: whoever sees it sees its rules. The
 * caller holds the lock. Every page is allocated first, so a full tmpfs is an error here and not
 * a SIGBUS later. RL_E_RULES: as rl_rules_publish().
 * A kill before the rename leaves "<path>.PID.tmp", which the next create removes: exactly
 * such names, so nobody else's file, nor what the agent of "<path>.1" is building.
 */
int rl_segment_create(const char *path, const struct rl_segment_spec *spec, struct rl_seg *ret,
		      char *why);

/*
 * Map all that the table of a segment has grown to by what is mapped of it already: for a process
 * that may no longer open its file, or has no descriptor free. 0, or RL_E_SIZES, or -errno: also on
 * Linux before 5.14. Async-signal-safe.
 */
int rl_segment_remap(const struct rl_seg *old, struct rl_seg *ret);

/*
 * Let the table of the segment at path hold so many keys, by another extent; all that is in it
 * stays where it is, and who uses it goes on. The caller holds the lock. Every page is allocated
 * first. 1, or 0 when it holds as many already, or -errno and why: -ENOSPC also of a table that has
 * grown RL_EXTENTS_MAX - 1 times. The caller's own mapping is the old one until it attaches again.
 * A kill before the last step leaves a longer file, whose end the next one clears. It never gets
 * shorter.
 */
int rl_segment_grow(const char *path, uint64_t keys, char *why);

/* Give the segment at path the group and mode of spec. 0, or -errno and why. */
int rl_segment_permit(const char *path, const struct rl_segment_spec *spec, char *why);

/*
 * The refusals above as a pure function of a header, for tests and for damaged files:
 * file_size is what the file really has. Returns 0 or a negative error with why.
 */
int rl_segment_usable(const struct rl_hdr *hdr, uint64_t file_size, char *why);

/* For shm/ only: -EACCES, with whom the file belongs to in why. */
int rl_segment_denied(const char *path, char *why);

/*
 * How many keys a table of so many buckets holds at once, and how many buckets it takes to hold
 * so many keys. A promise while keys come and go, hence below what fits into a new table: DESIGN.
 */
uint64_t rl_segment_keys(uint64_t bucket_count); /* of one extent or of more */
uint64_t rl_segment_buckets(uint64_t keys);

/*
 * How many members' statistics the segment of such a table has: a 16th of what the table takes, but
 * RL_MEMBERS_MIN at least, so that a small segment stays small.
 */
uint32_t rl_segment_members(uint64_t bucket_count);

/* For shm/ only: fill in the offsets and the counts that follow from these, ABI and chunk. */
void rl_segment_lay_out(struct rl_hdr *hdr, uint64_t bucket_count, uint64_t list_slots);

#endif
