#include "shm/rl_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_extent.h"
#include "shm/rl_lists.h"

#define LOAD_PERCENT 90 /* while keys come and go: at 93, one new key in 160,000 finds no slot */

#define LIVE_OFF   sizeof(struct rl_hdr)
#define BANK_OFF   (LIVE_OFF + sizeof(struct rl_live))
#define FLEET_OFF  (BANK_OFF + 2 * sizeof(struct rl_bank))
#define BEFORE_OFF (FLEET_OFF + sizeof(struct rl_fleet))
#define WATCH_OFF  (BEFORE_OFF + RL_RULES_MAX * sizeof(struct rl_before))

#define SLOT_BYTES (sizeof(struct rl_slot) + sizeof(struct rl_side) + sizeof(struct rl_text))

/* Which layouts are taken. */
struct abis {
	uint32_t first, last;
};
static const struct abis ours = {RL_ABI_MAJOR, RL_ABI_MAJOR};

/* Bytes before the lists. What an ABI had not, it had no room for. */
static uint64_t front_bytes(uint32_t abi)
{
	uint64_t bytes = BEFORE_OFF + RL_RULES_MAX * sizeof(struct rl_before);

	if (abi >= 6)
		bytes = WATCH_OFF + sizeof(struct rl_watch);
	return abi > RL_ABI_NOW ? bytes + RL_PAGE : bytes; /* RL_ABI_AHEAD */
}

uint64_t rl_segment_keys(uint64_t bucket_count)
{
	return bucket_count * RL_LANES * LOAD_PERCENT / 100;
}

uint64_t rl_segment_buckets(uint64_t keys)
{
	uint64_t slots = (keys * 100 + LOAD_PERCENT - 1) / LOAD_PERCENT;
	uint64_t buckets = (slots + RL_LANES - 1) / RL_LANES;

	return buckets < RL_CHOICES ? RL_CHOICES : buckets;
}

uint32_t rl_segment_members(uint64_t bucket_count)
{
	uint64_t members = bucket_count * RL_LANES * SLOT_BYTES / 16 / sizeof(struct rl_member);

	if (members < RL_MEMBERS_MIN)
		return RL_MEMBERS_MIN;
	return members < RL_MEMBERS_MAX ? (uint32_t)members : RL_MEMBERS_MAX;
}

static uint64_t hold_count(uint64_t slots)
{
	uint64_t count = slots / 8;

	if (count > RL_HOLDS_MAX)
		return RL_HOLDS_MAX;
	return count < RL_HOLDS_MIN ? RL_HOLDS_MIN : count;
}

void rl_segment_lay_out(struct rl_hdr *hdr, uint64_t bucket_count, uint64_t list_slots)
{
	uint64_t slots = bucket_count * RL_LANES;
	uint64_t room = rl_chunk_end(bucket_count, hdr->chunk); /* buckets that an array has */
	uint64_t page = rl_chunk_page(hdr->chunk); /* mapped apart, once the table has grown */

	hdr->bucket_count = bucket_count;
	hdr->slot_count = slots;
	hdr->list_slots = list_slots;
	hdr->member_count = rl_segment_members(bucket_count);
	hdr->lists_off = rl_round_to(front_bytes(hdr->abi_major), page);
	hdr->members_off =
		rl_round_to(hdr->lists_off + 2 * list_slots * sizeof(struct rl_list_entry), page);
	hdr->tags_off =
		rl_round_to(hdr->members_off + hdr->member_count * sizeof(struct rl_member), page);
	hdr->slots_off = hdr->tags_off + room * rl_array_bytes(RL_TAGS);
	hdr->sides_off = hdr->slots_off + room * rl_array_bytes(RL_SLOTS);
	hdr->texts_off = hdr->sides_off + room * rl_array_bytes(RL_SIDES);
	hdr->dirty_off = hdr->texts_off + room * rl_array_bytes(RL_TEXTS);
	hdr->holders_off =
		rl_round_to(hdr->dirty_off + rl_dirty_words(slots) * sizeof(uint64_t), page);
	hdr->holds_off = hdr->holders_off + sizeof(struct rl_holders);
	hdr->hold_count = hold_count(slots);
	hdr->total_size =
		rl_round_to(hdr->holds_off + hdr->hold_count * sizeof(struct rl_hold), page);
}

static bool sizes_agree(const struct rl_hdr *hdr)
{
	struct rl_hdr want;

	if (hdr->hdr_size != sizeof(struct rl_hdr) || hdr->live_size != sizeof(struct rl_live) ||
	    hdr->bank_size != sizeof(struct rl_bank) ||
	    hdr->member_size != sizeof(struct rl_member) ||
	    hdr->slot_size != sizeof(struct rl_slot) || hdr->ring_stamps != RL_RING)
		return false;
	if (hdr->bucket_count < RL_CHOICES || hdr->bucket_count > RL_BUCKETS_MAX)
		return false;
	if (hdr->chunk < RL_CHUNK_MIN || hdr->chunk > RL_CHUNK_MAX ||
	    (hdr->chunk & (hdr->chunk - 1)) != 0)
		return false;
	if (hdr->tick_ns < 1 || hdr->tick_ns > RL_TICK_MAX_NS || hdr->clock > RL_CLOCK_GIVEN)
		return false;
	if (hdr->list_slots < 2 || hdr->list_slots > 4 * (uint64_t)RL_LISTS_MAX ||
	    (hdr->list_slots & (hdr->list_slots - 1)) != 0)
		return false;
	want.abi_major = hdr->abi_major;
	want.chunk = hdr->chunk;
	rl_segment_lay_out(&want, hdr->bucket_count, hdr->list_slots);
	return hdr->slot_count == want.slot_count && hdr->member_count == want.member_count &&
	       hdr->lists_off == want.lists_off && hdr->members_off == want.members_off &&
	       hdr->tags_off == want.tags_off && hdr->slots_off == want.slots_off &&
	       hdr->sides_off == want.sides_off && hdr->texts_off == want.texts_off &&
	       hdr->dirty_off == want.dirty_off && hdr->holders_off == want.holders_off &&
	       hdr->holds_off == want.holds_off && hdr->hold_count == want.hold_count &&
	       hdr->total_size == want.total_size;
}

static int refuse_abi(uint32_t abi, char *why)
{
	return rl_refuse(RL_E_ABI, why,
			 "its layout is version %u, this program speaks version %u: use the "
			 "rl-agent, rlctl and librl of one release",
			 abi, RL_ABI_MAJOR);
}

static int usable(const struct rl_hdr *hdr, uint64_t file_size, struct abis abis, char *why)
{
	struct rl_plan plan;
	uint32_t ready;

	if (file_size < sizeof(*hdr))
		return rl_refuse(RL_E_SHORT, why, "%llu bytes are too few for a segment's header",
				 (unsigned long long)file_size);

	/* pairs[seg_ready.acq]: after seeing 1, the frozen header fields are final. */
	ready = atomic_load_explicit(&hdr->ready, memory_order_acquire);
	/* First: a segment being built has no magic only while it has a temporary name. */
	if (hdr->magic != RL_MAGIC)
		return rl_refuse(RL_E_MAGIC, why,
				 "it is not a Ratel segment; name another path or remove it");
	if (ready != 1)
		return rl_refuse(RL_E_NOT_READY, why, "it is still being built: try again");
	if (hdr->abi_major < abis.first || hdr->abi_major > abis.last)
		return refuse_abi(hdr->abi_major, why);
	if (!sizes_agree(hdr) || rl_plan_make(hdr, &plan) != 0)
		return rl_refuse(
			RL_E_SIZES, why,
			"its header contradicts this build's layout: it is damaged, or made by "
			"an incompatible build; remove it and start rl-agent again");
	if (file_size < plan.file_size)
		return rl_refuse(
			RL_E_SHORT, why,
			"it says %llu bytes and has only %llu: it was truncated; remove it and "
			"start rl-agent again",
			(unsigned long long)plan.file_size, (unsigned long long)file_size);
	return 0;
}

int rl_segment_usable(const struct rl_hdr *hdr, uint64_t file_size, char *why)
{
	return usable(hdr, file_size, ours, why);
}

static const void *at_array(const char *base, const struct rl_plan *plan, int array)
{
	return base + plan->array_at[array];
}

/* The extents, as they are when this is mapped. */
static void point_table(struct rl_view *view, const char *base, const struct rl_plan *plan)
{
	view->tags = at_array(base, plan, RL_TAGS);
	view->slot = at_array(base, plan, RL_SLOTS);
	view->side = at_array(base, plan, RL_SIDES);
	view->text = at_array(base, plan, RL_TEXTS);
	view->extents = plan->extents;
	for (uint32_t e = 0; e < plan->extents; e++) {
		view->extent[e] = view->newest = plan->extent[e];
		view->dirty_at[e] = plan->dirty_at[e];
	}
	view->bucket_count = view->newest.first + view->newest.count;
	view->slot_count = view->bucket_count * RL_LANES;
	view->size = plan->size;
}

static void point_view(struct rl_view *view, const char *base, const struct rl_hdr *hdr,
		       const struct rl_plan *plan, const uint64_t file[2])
{
	const char *tail = base + plan->tail_at;

	view->hdr = (const struct rl_hdr *)(const void *)base;
	view->live = (const struct rl_live *)(const void *)(base + LIVE_OFF);
	view->bank = (const struct rl_bank *)(const void *)(base + BANK_OFF);
	view->fleet = (const struct rl_fleet *)(const void *)(base + FLEET_OFF);
	view->lists = (const struct rl_list_entry *)(const void *)(base + hdr->lists_off);
	view->list_slots = hdr->list_slots;
	view->before = (const struct rl_before *)(const void *)(base + BEFORE_OFF);
	view->watch = (const struct rl_watch *)(const void *)(base + WATCH_OFF);
	view->member_count = (uint32_t)hdr->member_count;
	view->member = (const struct rl_member *)(const void *)(base + hdr->members_off);
	point_table(view, base, plan);
	view->holders = (const void *)(tail + (hdr->holders_off - hdr->dirty_off));
	view->hold = (const void *)(tail + (hdr->holds_off - hdr->dirty_off));
	view->hold_count = (uint32_t)hdr->hold_count;
	view->hash_key[0] = hdr->hash_key[0];
	view->hash_key[1] = hdr->hash_key[1];
	view->tick_ns = hdr->tick_ns;
	view->given = hdr->clock == RL_CLOCK_GIVEN;
	view->file[0] = file[0];
	view->file[1] = file[1];
}

static void point_dirty(struct rl_seg *seg, char *base, uint32_t e)
{
	struct rl_dirty *dirty = &seg->dirty[e];

	dirty->words = rl_bit_words(seg->view.extent[e].count * RL_LANES);
	dirty->sums = rl_bit_words(dirty->words);
	dirty->sum = (void *)(base + seg->view.dirty_at[e]);
	dirty->word = dirty->sum + dirty->sums;
}

static void point_seg(struct rl_seg *seg, char *base, const struct rl_hdr *hdr,
		      const struct rl_plan *plan, const uint64_t file[2])
{
	char *tail = base + plan->tail_at;

	point_view(&seg->view, base, hdr, plan, file);
	seg->live = (struct rl_live *)(void *)(base + LIVE_OFF);
	seg->bank = (struct rl_bank *)(void *)(base + BANK_OFF);
	seg->fleet = (struct rl_fleet *)(void *)(base + FLEET_OFF);
	seg->lists = (struct rl_list_entry *)(void *)(base + hdr->lists_off);
	seg->before = (struct rl_before *)(void *)(base + BEFORE_OFF);
	seg->watch = (struct rl_watch *)(void *)(base + WATCH_OFF);
	seg->member = (struct rl_member *)(void *)(base + hdr->members_off);
	seg->tags = (struct rl_tags *)(void *)(base + plan->array_at[RL_TAGS]);
	seg->slot = (struct rl_slot *)(void *)(base + plan->array_at[RL_SLOTS]);
	seg->side = (struct rl_side *)(void *)(base + plan->array_at[RL_SIDES]);
	seg->text = (struct rl_text *)(void *)(base + plan->array_at[RL_TEXTS]);
	seg->holders = (void *)(tail + (hdr->holders_off - hdr->dirty_off));
	seg->hold = (void *)(tail + (hdr->holds_off - hdr->dirty_off));
	for (uint32_t e = 0; e < plan->extents; e++)
		point_dirty(seg, base, e);
	seg->timed = 0;
}

static const struct rl_live *live_after(const void *hdr)
{
	return (const struct rl_live *)(const void *)((const char *)hdr + sizeof(struct rl_hdr));
}

/* It may be growing: with as many extents as it has when the copy begins. */
static void copy_header(const struct rl_hdr *from, struct rl_hdr *ret)
{
	/* pairs[seg_ready.acq]: as in rl_segment_usable(), which is asked of the copy alone. */
	uint32_t ready = atomic_load_explicit(&from->ready, memory_order_acquire);
	/* pairs[grown.acq]: the ends of so many were written before, and the file was as long. */
	uint64_t grown = atomic_load_explicit(&from->grown, memory_order_acquire);

	memcpy(ret, from, sizeof(*ret));
	/* Relaxed, both: our own. */
	atomic_store_explicit(&ret->ready, ready, memory_order_relaxed);
	atomic_store_explicit(&ret->grown, grown, memory_order_relaxed);
}

/* The copy is what is checked and what is used; against the size that the file has after it. */
static int inspect_header(int fd, const void *page, struct abis abis, struct rl_hdr *ret_hdr,
			  char *why)
{
	struct stat st;
	int error;

	copy_header(page, ret_hdr);
	if (fstat(fd, &st) != 0)
		return rl_refuse(-errno, why, "cannot stat it: %s", rl_error_text(-errno));
	error = usable(ret_hdr, (uint64_t)st.st_size, abis, why);
	return error != 0 ? error : rl_clock_check(ret_hdr, live_after(page), why);
}

/* Map the header alone and decide whether the file is a segment we may use. */
static int inspect(int fd, struct abis abis, struct rl_hdr *ret_hdr, uint64_t ret_file[2],
		   char *why)
{
	struct stat st;
	void *page;
	int error;

	if (fstat(fd, &st) != 0)
		return rl_refuse(-errno, why, "cannot stat it: %s", rl_error_text(-errno));
	if (S_ISDIR(st.st_mode))
		return rl_refuse(-EISDIR, why, "it is a directory, not a segment");
	if (!S_ISREG(st.st_mode))
		return rl_refuse(RL_E_MAGIC, why, "it is not a regular file");
	if ((uint64_t)st.st_size < sizeof(struct rl_hdr) + sizeof(struct rl_live))
		return rl_refuse(RL_E_SHORT, why, "%lld bytes are too few for a segment's header",
				 (long long)st.st_size);
	page = mmap(NULL, sizeof(struct rl_hdr) + sizeof(struct rl_live), PROT_READ, MAP_SHARED, fd,
		    0);
	if (page == MAP_FAILED)
		return rl_refuse(-errno, why, "cannot map it: %s", rl_error_text(-errno));

	ret_file[0] = st.st_dev;
	ret_file[1] = st.st_ino;
	error = inspect_header(fd, page, abis, ret_hdr, why);
	munmap(page, sizeof(struct rl_hdr) + sizeof(struct rl_live));
	return error;
}

int rl_segment_denied(const char *path, char *why)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return rl_refuse(-EACCES, why,
				 "Permission denied: this user may not enter its directory");
	return rl_refuse(-EACCES, why,
			 "Permission denied: it belongs to user %lu, group %lu, mode %04o; run as "
			 "one of them",
			 (unsigned long)st.st_uid, (unsigned long)st.st_gid,
			 (unsigned)st.st_mode & 07777);
}

static int refuse_open(const char *path, int open_errno, char *why)
{
	if (open_errno == EACCES)
		return rl_segment_denied(path, why);
	if (open_errno == ENOENT)
		return rl_refuse(-ENOENT, why, "there is no such file: is rl-agent running?");
	if (open_errno == EISDIR)
		return rl_refuse(-EISDIR, why, "it is a directory, not a segment");
	if (open_errno == ENXIO || open_errno == ENODEV) /* a socket, a device of nobody */
		return rl_refuse(RL_E_MAGIC, why, "it is not a regular file");
	return rl_refuse(-open_errno, why, "%s", rl_error_text(-open_errno));
}

/* A segment's file, mapped. */
struct found {
	struct rl_hdr hdr;
	struct rl_plan plan;
	uint64_t file[2];
	char *base;
};

static int map_file(const char *path, int open_flags, int prot, struct abis abis, struct found *ret,
		    char *why)
{
	/* What is no file must neither hold us up nor become our terminal. */
	int fd = open(path, open_flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int error;

	if (fd < 0)
		return refuse_open(path, errno, why);
	error = inspect(fd, abis, &ret->hdr, ret->file, why);
	if (error == 0) {
		rl_plan_make(&ret->hdr, &ret->plan); /* as inspect() did */
		error = rl_plan_map(&ret->plan, &ret->hdr, (struct rl_source){.fd = fd}, prot,
				    &ret->base);
		if (error != 0)
			rl_refuse(error, why, "cannot map it: %s", rl_error_text(error));
	}
	close(fd);
	return error;
}

static int attach(const char *path, struct abis abis, struct rl_seg *ret, char *why)
{
	struct found found;
	int error = map_file(path, O_RDWR, PROT_READ | PROT_WRITE, abis, &found, why);

	if (error == 0)
		point_seg(ret, found.base, &found.hdr, &found.plan, found.file);
	return error;
}

int rl_segment_attach(const char *path, struct rl_seg *ret, char *why)
{
	return attach(path, ours, ret, why);
}

int rl_segment_attach_older(const char *path, struct rl_seg *ret, char *why)
{
	int error = attach(path, (struct abis){RL_ABI_OLDEST, RL_ABI_MAJOR - 1}, ret, why);

	if (error == 0 && ret->view.hdr->abi_major < 6) { /* where it had none */
		ret->view.watch = NULL;
		ret->watch = NULL;
	}
	return error;
}

uint32_t rl_segment_abi(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct rl_hdr hdr;
	ssize_t got;

	if (fd < 0)
		return 0;
	got = read(fd, &hdr, sizeof(hdr));
	close(fd);
	return got == sizeof(hdr) && hdr.magic == RL_MAGIC ? hdr.abi_major : 0;
}

int rl_segment_view(const char *path, struct rl_view *ret, char *why)
{
	struct found found;
	int error = map_file(path, O_RDONLY, PROT_READ, ours, &found, why);

	if (error == 0)
		point_view(ret, found.base, &found.hdr, &found.plan, found.file);
	return error;
}

/* The header as it is now, of the segment that is mapped: what is frozen must not have changed. */
static int grown_plan(const struct rl_view *view, struct rl_hdr *ret_hdr, struct rl_plan *ret_plan)
{
	int error;

	copy_header(view->hdr, ret_hdr);
	error = rl_segment_usable(ret_hdr, UINT64_MAX, NULL); /* its length: rl_plan_image() */
	if (error == 0 && (ret_hdr->bucket_count != view->extent[0].count ||
			   ret_hdr->list_slots != view->list_slots))
		error = RL_E_SIZES;
	return error != 0 ? error : rl_plan_make(ret_hdr, ret_plan);
}

int rl_segment_remap(const struct rl_seg *old, struct rl_seg *ret)
{
	struct rl_source from = {.fd = -1};
	struct rl_plan plan;
	struct rl_hdr hdr;
	char *base;
	int error = grown_plan(&old->view, &hdr, &plan);

	if (error == 0)
		error = rl_plan_image(&plan, (char *)old->live - sizeof(struct rl_hdr),
				      &from.image);
	if (error != 0)
		return error;
	error = rl_plan_map(&plan, &hdr, from, PROT_READ | PROT_WRITE, &base);
	munmap(from.image, plan.file_size);
	if (error == 0)
		point_seg(ret, base, &hdr, &plan, old->view.file);
	return error;
}

bool rl_segment_is_at(const struct rl_view *view, const char *path)
{
	struct stat st;

	/* While it is mapped its inode's number is nobody else's. */
	return stat(path, &st) == 0 && st.st_dev == view->file[0] && st.st_ino == view->file[1];
}

static void *map_zeros(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
}

int rl_segment_blank(struct rl_seg *ret)
{
	static const uint64_t no_file[2];
	struct rl_hdr hdr = {.abi_major = RL_ABI_MAJOR, .chunk = RL_CHUNK_MIN};
	struct rl_plan plan;
	void *base;

	rl_segment_lay_out(&hdr, RL_CHOICES, 1);
	rl_plan_make(&hdr, &plan);
	base = map_zeros(plan.size);
	if (base == MAP_FAILED)
		return -errno;
	point_seg(ret, base, &hdr, &plan, no_file);
	return 0;
}

/* rl_live is the second page, so this is the base without casting const away. */
static void *base_of(struct rl_seg *seg)
{
	return (char *)seg->live - sizeof(struct rl_hdr);
}

/* Mapped elsewhere first: mmap() over what is there takes it away even when it then fails. */
int rl_segment_blank_out(struct rl_seg *seg)
{
	void *zeros = map_zeros(seg->view.size);
	int error;

	if (zeros == MAP_FAILED)
		return -errno;
	/* At once for every thread: none finds nothing at these addresses in between. */
	if (mremap(zeros, seg->view.size, seg->view.size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   base_of(seg)) != MAP_FAILED)
		return 0;
	error = -errno;
	munmap(zeros, seg->view.size);
	return error;
}

void rl_segment_detach(struct rl_seg *seg)
{
	munmap(base_of(seg), seg->view.size);
}

void rl_segment_unview(struct rl_view *view)
{
	munmap((void *)(uintptr_t)view->hdr, view->size);
}
