/*
 * Goal:   a segment is created whole, and every damaged or foreign one is refused by name.
 * Method: make a good file, spoil one thing at a time, attach.
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/rl_clock.h"
#include "shm/rl_clock_check.h"
#include "shm/rl_extent.h"
#include "shm/rl_word.h"

static int setup(void **state)
{
	return t_seg_setup(state, 1000);
}

/* The header is frozen and mapped read-only for us to see; the test writes it by file. */
static void spoil(const struct t_seg *t, size_t offset, const void *bytes, size_t len)
{
	int fd = open(t->path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), len);
	close(fd);
}

static void assert_refused(const struct t_seg *t, int error, const char *words)
{
	struct rl_view view;
	struct rl_seg seg;
	char why[RL_WHY_MAX] = "";

	assert_int_equal(rl_segment_view(t->path, &view, why), error);
	if (strstr(why, words) == NULL)
		fail_msg("'%s' does not say '%s'", why, words);
	assert_int_equal(rl_segment_attach(t->path, &seg, NULL), error);
}

static void test_segment__created_is_attachable_and_empty(void **state)
{
	struct t_seg *t = *state;
	struct rl_view view;
	struct stat st;
	uint64_t spare;

	assert_int_equal(rl_segment_view(t->path, &view, NULL), 0);
	assert_true(rl_segment_keys(view.bucket_count) >= 1000);
	for (uint64_t i = 0; i < view.slot_count; i++)
		assert_true(rl_head_is(view.slot[i].head, RL_KIND_FREE));
	assert_int_equal(stat(t->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	/* Every page is there, but for the rest of a chunk that only a grown table uses. */
	spare = (rl_chunk_end(view.bucket_count, view.hdr->chunk) - view.bucket_count) *
		(sizeof(struct rl_tags) +
		 RL_LANES * (sizeof(struct rl_slot) + sizeof(struct rl_side) +
			     sizeof(struct rl_text)));
	assert_in_range((uint64_t)st.st_blocks * 512, view.size - spare, view.size);
	rl_segment_unview(&view);
}

static void test_segment__is_known_by_its_file_and_not_by_its_name(void **state)
{
	struct t_seg *t = *state;
	const struct rl_segment_spec spec = {.keys = 1000, .mode = 0660};
	struct rl_seg other;

	assert_true(rl_segment_is_at(&t->seg.view, t->path));
	assert_int_equal(unlink(t->path), 0);
	assert_false(rl_segment_is_at(&t->seg.view, t->path));
	assert_int_equal(rl_segment_create(t->path, &spec, &other, NULL), 0);
	assert_false(rl_segment_is_at(&t->seg.view, t->path));
	assert_true(rl_segment_is_at(&other.view, t->path));
	rl_segment_detach(&other);
}

static void test_segment__missing_is_enoent_and_says_what_to_do(void **state)
{
	struct rl_view view;
	char why[RL_WHY_MAX];

	(void)state;
	assert_int_equal(rl_segment_view("/dev/shm/rl-test-none", &view, why), -ENOENT);
	assert_string_equal(why, "there is no such file: is rl-agent running?");
}

static void test_segment__short_file_is_refused(void **state)
{
	struct t_seg *t = *state;

	assert_int_equal(truncate(t->path, 100), 0);
	assert_refused(t, RL_E_SHORT, "100 bytes are too few");
}

static void test_segment__truncated_file_is_refused(void **state)
{
	struct t_seg *t = *state;

	assert_int_equal(truncate(t->path, (off_t)t->seg.view.size - 1), 0);
	assert_refused(t, RL_E_SHORT, "it was truncated");
}

static void test_segment__unready_asks_to_try_again(void **state)
{
	const uint32_t no = 0;

	spoil(*state, offsetof(struct rl_hdr, ready), &no, sizeof(no));
	assert_refused(*state, RL_E_NOT_READY, "still being built");
}

static void test_segment__other_magic_is_refused(void **state)
{
	spoil(*state, offsetof(struct rl_hdr, magic), "GARBAGE!", 8);
	assert_refused(*state, RL_E_MAGIC, "not a Ratel segment");
}

static void test_segment__file_of_zeros_or_noise_is_no_segment(void **state)
{
	struct t_seg *t = *state;
	char page[8192] = {0};

	spoil(t, 0, page, sizeof(page));
	assert_refused(t, RL_E_MAGIC, "it is not a Ratel segment; name another path or remove it");
	memset(page, 0xa5, sizeof(page));
	spoil(t, 0, page, sizeof(page));
	assert_refused(t, RL_E_MAGIC, "it is not a Ratel segment; name another path or remove it");
}

/* Opened like a file, a FIFO would wait for its other end for ever. */
static void test_segment__what_is_no_file_is_refused_at_once(void **state)
{
	struct t_seg *t = *state;
	int fd;

	unlink(t->path);
	assert_int_equal(mkfifo(t->path, 0600), 0);
	alarm(5);
	assert_refused(t, RL_E_MAGIC, "it is not a regular file");
	unlink(t->path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	{
		struct sockaddr_un at = {.sun_family = AF_UNIX};

		memcpy(at.sun_path, t->path, strlen(t->path) + 1);
		assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	}
	close(fd);
	assert_refused(t, RL_E_MAGIC, "it is not a regular file");
	unlink(t->path);
	assert_int_equal(mkdir(t->path, 0700), 0);
	assert_refused(t, -EISDIR, "it is a directory, not a segment");
	alarm(0);
	rmdir(t->path);
}

static void test_segment__other_abi_names_both_versions(void **state)
{
	const uint32_t other = RL_ABI_MAJOR + 1;
	char words[64];

	snprintf(words, sizeof(words), "version %u, this program speaks version %u", other,
		 RL_ABI_MAJOR);
	spoil(*state, offsetof(struct rl_hdr, abi_major), &other, sizeof(other));
	assert_refused(*state, RL_E_ABI, words);
}

static void test_segment__newer_minor_is_accepted(void **state)
{
	struct t_seg *t = *state;
	const uint32_t newer = RL_ABI_MINOR + 1;
	struct rl_view view;

	spoil(t, offsetof(struct rl_hdr, abi_minor), &newer, sizeof(newer));
	assert_int_equal(rl_segment_view(t->path, &view, NULL), 0);
	rl_segment_unview(&view);
}

static void test_segment__holds_as_many_keys_as_asked_for(void **state)
{
	(void)state;
	for (uint64_t keys = 1; keys < 100000; keys += keys < 2000 ? 1 : 997) {
		uint64_t buckets = rl_segment_buckets(keys);

		assert_true(buckets >= RL_CHOICES && rl_segment_keys(buckets) >= keys);
		if (buckets > RL_CHOICES) /* and no bucket more than that takes */
			assert_true(rl_segment_keys(buckets - 1) < keys);
	}
	assert_true(rl_segment_buckets(RL_SEGMENT_KEYS_MAX) <= RL_BUCKETS_MAX);
	assert_true(rl_segment_keys(rl_segment_buckets(RL_SEGMENT_KEYS_MAX)) >=
		    RL_SEGMENT_KEYS_MAX);
}

static void test_segment__fewer_buckets_than_a_key_has_are_refused(void **state)
{
	struct t_seg *t = *state;
	struct rl_hdr hdr = *t->seg.view.hdr;

	rl_segment_lay_out(&hdr, RL_CHOICES, hdr.list_slots);
	assert_int_equal(rl_segment_usable(&hdr, hdr.total_size, NULL), 0);
	rl_segment_lay_out(&hdr, RL_CHOICES - 1, hdr.list_slots);
	assert_int_equal(rl_segment_usable(&hdr, hdr.total_size, NULL), RL_E_SIZES);
}

static void test_segment__each_disagreeing_size_is_refused(void **state)
{
	static const size_t field32[] = {
		offsetof(struct rl_hdr, hdr_size),  offsetof(struct rl_hdr, live_size),
		offsetof(struct rl_hdr, bank_size), offsetof(struct rl_hdr, member_size),
		offsetof(struct rl_hdr, slot_size), offsetof(struct rl_hdr, ring_stamps),
	};
	static const size_t field64[] = {
		offsetof(struct rl_hdr, bucket_count), offsetof(struct rl_hdr, members_off),
		offsetof(struct rl_hdr, tags_off),     offsetof(struct rl_hdr, slots_off),
		offsetof(struct rl_hdr, sides_off),    offsetof(struct rl_hdr, texts_off),
		offsetof(struct rl_hdr, dirty_off),    offsetof(struct rl_hdr, total_size),
		offsetof(struct rl_hdr, chunk),        offsetof(struct rl_hdr, slot_count),
		offsetof(struct rl_hdr, tick_ns),
	};
	static const uint64_t wrong[] = {0, 1, UINT64_C(1) << 40, UINT64_MAX};
	struct t_seg *t = *state;
	const struct rl_hdr good = *t->seg.view.hdr;

	for (size_t i = 0; i < 6; i++)
		for (size_t w = 0; w < 4; w++) {
			uint32_t narrow = (uint32_t)wrong[w];

			spoil(t, field32[i], &narrow, sizeof(narrow));
			assert_refused(t, RL_E_SIZES, "contradicts this build");
			spoil(t, 0, &good, sizeof(good));
		}
	for (size_t i = 0; i < 11; i++)
		for (size_t w = 0; w < 4; w++) {
			if (field64[i] == offsetof(struct rl_hdr, tick_ns) && wrong[w] == 1)
				continue; /* a tick of 1 ns is possible */
			spoil(t, field64[i], &wrong[w], sizeof(wrong[w]));
			assert_refused(t, RL_E_SIZES, "contradicts this build");
			spoil(t, 0, &good, sizeof(good));
		}
}

static void test_segment__another_boot_is_refused(void **state)
{
	const uint64_t other[2] = {1, 2};

	spoil(*state, offsetof(struct rl_hdr, boot_id), other, sizeof(other));
	assert_refused(*state, RL_E_CLOCKS, "before the last boot");
}

static void test_segment__beat_in_the_future_is_another_clock(void **state)
{
	struct t_seg *t = *state;

	t->seg.live->beat_ns = rl_clock_precise_ns() + 2 * RL_SECOND_NS;
	assert_refused(t, RL_E_CLOCKS, "time namespaces");
}

static void test_segment__live_agent_a_day_off_is_another_clock(void **state)
{
	struct t_seg *t = *state;
	const uint64_t other = 12345;

	spoil(t, offsetof(struct rl_hdr, timens_ino), &other, sizeof(other));
	t->seg.live->beat_ns = rl_clock_precise_ns() - RL_DAY_NS;
	assert_refused(t, RL_E_CLOCKS, "time namespaces");
}

static void test_segment__other_namespace_with_equal_clocks_is_accepted(void **state)
{
	struct t_seg *t = *state;
	const uint64_t other = 12345;
	struct rl_view view;

	spoil(t, offsetof(struct rl_hdr, timens_ino), &other, sizeof(other));
	rl_clock_beat(t->seg.live);
	assert_int_equal(rl_segment_view(t->path, &view, NULL), 0);
	rl_segment_unview(&view);
}

static void test_segment__dead_agent_of_another_namespace_cannot_be_told(void **state)
{
	struct t_seg *t = *state;
	const uint64_t other = 12345;

	spoil(t, offsetof(struct rl_hdr, timens_ino), &other, sizeof(other));
	t->seg.live->beat_real_ns -= 60 * RL_SECOND_NS;
	t->seg.live->beat_ns -= 60 * RL_SECOND_NS;
	assert_refused(t, RL_E_CLOCKS, "time namespaces");
}

static void test_segment__keys_out_of_range_are_refused(void **state)
{
	struct t_seg *t = *state;
	struct rl_segment_spec spec = {.keys = 0, .mode = 0600};
	struct rl_seg seg;
	char why[RL_WHY_MAX];

	assert_int_equal(rl_segment_create(t->path, &spec, &seg, why), -ERANGE);
	spec.keys = RL_SEGMENT_KEYS_MAX + 1;
	assert_int_equal(rl_segment_create(t->path, &spec, &seg, why), -ERANGE);
}

static void test_segment__leftovers_of_a_killed_creator_are_removed(void **state)
{
	const struct rl_segment_spec spec = {.keys = 10, .mode = 0600};
	struct t_seg *t = *state;
	char leftover[128];
	struct rl_seg seg;
	int fd;

	snprintf(leftover, sizeof(leftover), "%s.4711.tmp", t->path);
	fd = open(leftover, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(rl_segment_create(t->path, &spec, &seg, NULL), 0);
	assert_int_equal(access(leftover, F_OK), -1);
	rl_segment_detach(&seg);
}

static bool still_there(const char *path)
{
	return access(path, F_OK) == 0;
}

static void touch(char path[160], const struct t_seg *t, const char *suffix)
{
	int fd;

	snprintf(path, 160, "%s%s", t->path, suffix);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void test_segment__leftovers_of_others_are_not_touched(void **state)
{
	static const char *const suffix[] = {
		".2024-notes.tmp", ".1.4711.tmp", ".4711.tmp.old", ".tmp", "..tmp", "x.4711.tmp"};
	const struct rl_segment_spec spec = {.keys = 10, .mode = 0600};
	struct t_seg *t = *state;
	char path[160], folder[160];
	struct rl_seg seg;

	snprintf(folder, sizeof(folder), "%s.4712.tmp", t->path);
	assert_int_equal(mkdir(folder, 0700), 0);
	for (size_t i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		touch(path, t, suffix[i]);
		assert_int_equal(rl_segment_create(t->path, &spec, &seg, NULL), 0);
		rl_segment_detach(&seg);
		if (!still_there(path))
			fail_msg("%s was removed", path);
		unlink(path);
	}
	assert_int_equal(rmdir(folder), 0);
}

/* What lock says about the parent directory when that has this owner and mode. */
static void assert_directory_refused(const struct t_seg *t, uid_t owner, mode_t mode,
				     const char *words)
{
	char why[RL_WHY_MAX] = "";
	pid_t holder;
	int fd;

	assert_int_equal(chown(t->dir, owner, (gid_t)-1), 0);
	assert_int_equal(chmod(t->dir, mode), 0);
	assert_int_equal(rl_segment_lock(t->path, &fd, &holder, why), -EPERM);
	if (strstr(why, words) == NULL)
		fail_msg("'%s' does not say '%s'", why, words);
}

static void test_segment__directory_where_others_could_replace_it_is_refused(void **state)
{
	struct t_seg *t = *state;
	pid_t holder;
	int fd;

	assert_directory_refused(t, geteuid(), 0777, "others may replace files in");
	assert_directory_refused(t, geteuid(), 0775, "others may replace files in");
	if (geteuid() == 0)
		assert_directory_refused(t, 4711, 0755, "belongs to user 4711");
	assert_int_equal(chown(t->dir, geteuid(), (gid_t)-1), 0);
	assert_int_equal(chmod(t->dir, 01777), 0); /* as /dev/shm itself */
	assert_int_equal(rl_segment_lock(t->path, &fd, &holder, NULL), 0);
	rl_segment_unlock(t->path, fd, true);
}

static void test_segment__symbolic_link_in_the_place_of_the_lock_is_not_followed(void **state)
{
	struct t_seg *t = *state;
	char link_name[160], target[160], why[RL_WHY_MAX];
	pid_t holder;
	int fd;

	snprintf(link_name, sizeof(link_name), "%s.lock", t->path);
	snprintf(target, sizeof(target), "%s.victim", t->path);
	assert_int_equal(symlink(target, link_name), 0);
	assert_int_equal(rl_segment_lock(t->path, &fd, &holder, why), -ELOOP);
	assert_non_null(strstr(why, "is a symbolic link: remove it"));
	assert_false(still_there(target));
	unlink(link_name);
}

static void test_segment__lock_in_a_missing_place_names_the_directory(void **state)
{
	char why[RL_WHY_MAX];
	pid_t holder;
	int fd;

	(void)state;
	assert_int_equal(rl_segment_lock("/rl-nowhere/b/seg", &fd, &holder, why), -ENOENT);
	assert_string_equal(why, "the directory /rl-nowhere/b does not exist: create it");
}

struct lock_fight {
	_Atomic int inside, entries;
};

/* In its own process: in and out of the lock, with its file removed each time. */
static void fight_for_lock(const char *path, struct lock_fight *fight)
{
	uint64_t end_ns = t_now_ns() + 10 * RL_SECOND_NS;
	int fd, collisions = 0;
	pid_t holder;

	while (atomic_load(&fight->entries) < 1500 && t_now_ns() < end_ns) {
		if (rl_segment_lock(path, &fd, &holder, NULL) == 0) {
			collisions += atomic_fetch_add(&fight->inside, 1);
			sched_yield();
			collisions += atomic_fetch_sub(&fight->inside, 1) - 1;
			atomic_fetch_add(&fight->entries, 1);
			rl_segment_unlock(path, fd, true);
		}
		sched_yield();
	}
	_exit(collisions != 0);
}

static void test_segment__lock_whose_file_comes_and_goes_still_has_one_holder(void **state)
{
	struct t_seg *t = *state;
	struct lock_fight *fight = mmap(NULL, sizeof(*fight), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	assert_true(fight != MAP_FAILED);
	for (int i = 0; i < 3; i++)
		if (fork() == 0)
			fight_for_lock(t->path, fight);
	for (int i = 0; i < 3; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_true(fight->entries > 0);
	munmap(fight, sizeof(*fight));
	assert_int_equal(rl_segment_lock_holder(t->path), 0);
}

static void test_segment__group_and_mode_are_given_at_creation_and_later(void **state)
{
	struct rl_segment_spec spec = {.keys = 10, .mode = 0640, .set_group = true};
	struct t_seg *t = *state;
	struct rl_seg seg;
	struct stat st;

	spec.group = geteuid() == 0 ? 4711 : getegid();
	assert_int_equal(rl_segment_create(t->path, &spec, &seg, NULL), 0);
	rl_segment_detach(&seg);
	assert_int_equal(stat(t->path, &st), 0);
	assert_int_equal(st.st_gid, spec.group);
	assert_int_equal(st.st_mode & 07777, 0640);
	spec = (struct rl_segment_spec){.mode = 0666};
	assert_int_equal(rl_segment_permit(t->path, &spec, NULL), 0);
	assert_int_equal(stat(t->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	spec.mode = 0;
	assert_int_equal(rl_segment_permit(t->path, &spec, NULL), 0);
	assert_int_equal(stat(t->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
}

static void test_segment__creating_where_there_is_no_room_says_so(void **state)
{
	/* 1 TiB of tmpfs is not there; nothing may be left behind, nobody may get a SIGBUS. */
	const struct rl_segment_spec spec = {.keys = RL_SEGMENT_KEYS_MAX, .mode = 0600};
	struct t_seg *t = *state;
	char why[RL_WHY_MAX] = "", temp[128];
	struct rl_seg seg;

	snprintf(temp, sizeof(temp), "%s.%ld.tmp", t->path, (long)getpid());
	assert_int_equal(rl_segment_create(t->path, &spec, &seg, why), -ENOSPC);
	assert_non_null(strstr(why, "cannot allocate"));
	assert_int_equal(access(temp, F_OK), -1);
}

/* Looks without a pause until there is a segment: what rl_rules_find() says then. */
static void *look_for_rule(void *arg)
{
	const char *path = arg;
	const uint64_t end_ns = t_now_ns() + UINT64_C(10000000000);
	struct rl_view view;
	uint64_t handle;
	int got = -ENOENT;

	while (rl_segment_view(path, &view, NULL) != 0)
		if (t_now_ns() > end_ns)
			return (void *)(intptr_t)got;
	got = rl_rules_find(&view, "two", &handle);
	rl_segment_unview(&view);
	return (void *)(intptr_t)got;
}

static void test_segment__whoever_sees_a_new_one_sees_its_rules(void **state)
{
	static const struct rl_rule_spec rule[] = {
		{.name = "one", .terms = {.limit = 1, .window_ns = 1000000000}},
		{.name = "two", .terms = {.limit = 2, .window_ns = 1000000000}}};
	const struct rl_segment_spec spec = {
		.keys = 10, .mode = 0600, .rule = rule, .rule_count = 2};
	struct t_seg *t = *state;
	struct rl_seg seg;
	pthread_t looker;
	void *got;

	for (int i = 0; i < 200; i++) {
		unlink(t->path);
		assert_int_equal(pthread_create(&looker, NULL, look_for_rule, t->path), 0);
		assert_int_equal(rl_segment_create(t->path, &spec, &seg, NULL), 0);
		assert_int_equal(pthread_join(looker, &got), 0);
		assert_int_equal((intptr_t)got, 0);
		rl_segment_detach(&seg);
	}
}

static void test_segment__rules_that_cannot_be_in_force_leave_no_segment(void **state)
{
	static const struct rl_rule_spec rule[] = {
		{.name = "one", .terms = {.limit = 1, .window_ns = 1000000000}},
		{.name = "one", .terms = {.limit = 2, .window_ns = 1000000000}}};
	const struct rl_segment_spec spec = {
		.keys = 10, .mode = 0600, .rule = rule, .rule_count = 2};
	struct t_seg *t = *state;
	char why[RL_WHY_MAX] = "", temp[128];
	struct rl_seg seg;

	snprintf(temp, sizeof(temp), "%s.%ld.tmp", t->path, (long)getpid());
	unlink(t->path);
	assert_int_equal(rl_segment_create(t->path, &spec, &seg, why), RL_E_RULES);
	assert_non_null(strstr(why, "rule 2: "));
	assert_int_equal(access(temp, F_OK), -1);
	assert_int_equal(access(t->path, F_OK), -1);
}

static void test_segment__lock_is_held_against_others_and_names_its_holder(void **state)
{
	struct t_seg *t = *state;
	pid_t holder = 0, child;
	int fd, status;

	assert_int_equal(rl_segment_lock(t->path, &fd, &holder, NULL), 0);
	child = fork();
	if (child == 0) {
		int got = rl_segment_lock(t->path, &fd, &holder, NULL);

		_exit(got == RL_E_LOCKED && holder == getppid() &&
				      rl_segment_lock_holder(t->path) == getppid()
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	rl_segment_unlock(t->path, fd, true);
	assert_int_equal(rl_segment_lock_holder(t->path), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, t_seg_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_segment__created_is_attachable_and_empty),
		TEST(test_segment__is_known_by_its_file_and_not_by_its_name),
		TEST(test_segment__missing_is_enoent_and_says_what_to_do),
		TEST(test_segment__short_file_is_refused),
		TEST(test_segment__truncated_file_is_refused),
		TEST(test_segment__unready_asks_to_try_again),
		TEST(test_segment__other_magic_is_refused),
		TEST(test_segment__file_of_zeros_or_noise_is_no_segment),
		TEST(test_segment__what_is_no_file_is_refused_at_once),
		TEST(test_segment__other_abi_names_both_versions),
		TEST(test_segment__newer_minor_is_accepted),
		TEST(test_segment__holds_as_many_keys_as_asked_for),
		TEST(test_segment__fewer_buckets_than_a_key_has_are_refused),
		TEST(test_segment__each_disagreeing_size_is_refused),
		TEST(test_segment__another_boot_is_refused),
		TEST(test_segment__beat_in_the_future_is_another_clock),
		TEST(test_segment__live_agent_a_day_off_is_another_clock),
		TEST(test_segment__other_namespace_with_equal_clocks_is_accepted),
		TEST(test_segment__dead_agent_of_another_namespace_cannot_be_told),
		TEST(test_segment__keys_out_of_range_are_refused),
		TEST(test_segment__leftovers_of_a_killed_creator_are_removed),
		TEST(test_segment__leftovers_of_others_are_not_touched),
		TEST(test_segment__directory_where_others_could_replace_it_is_refused),
		TEST(test_segment__symbolic_link_in_the_place_of_the_lock_is_not_followed),
		TEST(test_segment__lock_in_a_missing_place_names_the_directory),
		TEST(test_segment__lock_whose_file_comes_and_goes_still_has_one_holder),
		TEST(test_segment__group_and_mode_are_given_at_creation_and_later),
		TEST(test_segment__creating_where_there_is_no_room_says_so),
		TEST(test_segment__whoever_sees_a_new_one_sees_its_rules),
		TEST(test_segment__rules_that_cannot_be_in_force_leave_no_segment),
		TEST(test_segment__lock_is_held_against_others_and_names_its_holder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
