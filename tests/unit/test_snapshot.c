/*
 * Goal:   a snapshot is read whole or not at all: no file that is cut off, changed in any bit, of
 *         somebody else's hand or of words that nothing can hold is ever used.
 * Method: snapshots of a real segment, damaged in every way; and read back.
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/snapshot/file.h"
#include "agent/snapshot/snapshot.h"
#include "client/rl.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"

#define KEYS 300 /* more than one block of them */

static struct t_seg t;
static char path[96];
static uint8_t *whole; /* the snapshot's bytes */
static size_t size;

static void write_bytes(const void *bytes, size_t count)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, count), count);
	close(fd);
}

static int setup(void **state)
{
	struct rl_client *client;
	uint64_t keys;
	struct stat st;
	char why[RL_WHY_MAX];
	int fd;

	(void)state;
	t_seg_make(&t, 1000);
	t_rules(&t.seg, 1, "r 5/h");
	client = t_attach(&t);
	for (int i = 0; i < KEYS; i++) {
		char key[16];
		int len = snprintf(key, sizeof(key), "key-%d", i);

		assert_int_equal(
			rl_check(client, t_client_rule(client, "r"), key, (size_t)len, 3, 0, NULL),
			RL_ALLOWED);
	}
	rl_detach(client);
	snprintf(path, sizeof(path), "%s/snapshot", t.dir);
	assert_int_equal(snapshot_save(&t.seg.view, path, &keys, why), 0);
	assert_int_equal(keys, KEYS);
	assert_int_equal(stat(path, &st), 0);
	size = (size_t)st.st_size;
	whole = malloc(size);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, whole, size), size);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(whole);
	unlink(path);
	t_seg_drop(&t);
	return 0;
}

static int read_back(char *why)
{
	struct snapshot snapshot;
	struct rl_saved saved;
	uint64_t keys = 0;
	int error = snapshot_read(path, &snapshot, why);

	if (error != 0)
		return error;
	while (snapshot_next(&snapshot, &saved))
		keys++;
	assert_int_equal(keys, snapshot.keys);
	snapshot_free(&snapshot);
	return 0;
}

static void refused(void)
{
	char why[RL_WHY_MAX] = "";

	assert_true(read_back(why) < 0);
	assert_true(strlen(why) > 5);
}

static void test_snapshot__has_every_key_and_is_its_owners_alone(void **state)
{
	struct snapshot snapshot;
	struct rl_saved saved;
	struct stat st;
	char why[RL_WHY_MAX];
	uint64_t keys = 0;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(snapshot_read(path, &snapshot, why), 0);
	for (; snapshot_next(&snapshot, &saved); keys++) {
		assert_memory_equal(saved.text.word, "key-", 4);
		assert_int_equal(saved.window_ns, UINT64_C(3600000000000));
	}
	assert_int_equal(keys, KEYS);
	assert_int_equal(snapshot.keys, KEYS);
	snapshot_free(&snapshot);
}

static void test_snapshot__cut_off_anywhere_is_refused(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < size; cut += 1 + cut / 50) {
		write_bytes(whole, cut);
		refused();
	}
	write_bytes(whole, size - 1);
	refused();
}

static void test_snapshot__changed_in_any_bit_is_refused(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 400; i++) {
		size_t at = i < 200 ? (size_t)i : t_below(&seed, size);
		uint8_t bit = (uint8_t)(1u << t_below(&seed, 8));

		whole[at] ^= bit;
		write_bytes(whole, size);
		refused();
		whole[at] ^= bit;
	}
}

static void test_snapshot__longer_than_its_end_is_refused(void **state)
{
	uint8_t *longer = calloc(1, 2 * size);

	(void)state;
	memcpy(longer, whole, size);
	write_bytes(longer, size + 1);
	refused();
	memcpy(longer + size, whole, size);
	write_bytes(longer, 2 * size);
	refused();
	free(longer);
}

/* Digests that fit, over words that do not. */
static void test_snapshot__sound_digest_over_words_that_nothing_can_hold_is_refused(void **state)
{
	static const size_t word[] = {
		offsetof(struct snapshot_key, id),        offsetof(struct snapshot_key, n),
		offsetof(struct snapshot_key, window_ns), offsetof(struct snapshot_key, rule_id),
		offsetof(struct snapshot_key, scale),     offsetof(struct snapshot_key, text_code),
		offsetof(struct snapshot_key, algorithm), offsetof(struct snapshot_key, cells),
	};
	size_t block = 8 + sizeof(struct snapshot_head) + SNAPSHOT_DIGEST_BYTES;
	uint32_t begin[2];

	(void)state;
	memcpy(begin, whole + block, sizeof(begin));
	for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
		uint8_t *at = whole + block + 8 + word[i], before[8];

		memcpy(before, at, sizeof(before));
		memset(at, word[i] == offsetof(struct snapshot_key, id) ? 0 : 0xff, 4);
		if (word[i] == offsetof(struct snapshot_key, id))
			memset(at, 0, 8);
		if (word[i] == offsetof(struct snapshot_key, rule_id))
			memset(at, 0, 4);
		if (word[i] == offsetof(struct snapshot_key, window_ns) ||
		    word[i] == offsetof(struct snapshot_key, n))
			memset(at, 0, 8);
		snapshot_digest(whole + block, 8 + begin[1], whole + block + 8 + begin[1]);
		write_bytes(whole, size);
		refused();
		memcpy(at, before, sizeof(before));
	}
}

static void test_snapshot__can_be_gone_through_again(void **state)
{
	struct snapshot snapshot;
	struct rl_saved saved;
	char why[RL_WHY_MAX];

	(void)state;
	assert_int_equal(snapshot_read(path, &snapshot, why), 0);
	for (int round = 0; round < 3; round++) {
		uint64_t keys = 0;

		for (snapshot_rewind(&snapshot); snapshot_next(&snapshot, &saved); keys++)
			if (round == 0 && keys == KEYS / 2)
				break; /* in the middle of a block */
		assert_false(snapshot.changed);
		assert_int_equal(keys, round == 0 ? KEYS / 2 : KEYS);
	}
	assert_int_equal(snapshot.pools, 0);
	snapshot_free(&snapshot);
}

/* Checked once is not for ever: it is read again to be used. */
static void test_snapshot__written_over_after_the_check_is_noticed(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 60; i++) {
		size_t first =
			SNAPSHOT_BEGIN_BYTES + sizeof(struct snapshot_head) + SNAPSHOT_DIGEST_BYTES;
		size_t at = first + t_below(&seed, size - first);
		struct snapshot snapshot;
		struct rl_saved saved;
		char why[RL_WHY_MAX];

		assert_int_equal(snapshot_read(path, &snapshot, why), 0);
		whole[at] ^= 1;
		write_bytes(whole, i % 2 == 0 ? size : at);
		while (snapshot_next(&snapshot, &saved))
			;
		assert_true(snapshot.changed);
		snapshot_free(&snapshot);
		whole[at] ^= 1;
		write_bytes(whole, size);
	}
}

static void test_snapshot__others_file_is_refused(void **state)
{
	char why[RL_WHY_MAX], elsewhere[128];

	(void)state;
	assert_int_equal(chmod(path, 0620), 0);
	assert_int_equal(read_back(why), -EPERM);
	assert_int_equal(chmod(path, 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
		assert_true(read_back(why) == 0 || read_back(why) == -EPERM);
		assert_int_equal(chown(path, 0, (gid_t)-1), 0);
	}
	snprintf(elsewhere, sizeof(elsewhere), "%s.real", path);
	assert_int_equal(rename(path, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, path), 0);
	assert_int_equal(read_back(why), -ELOOP);
	unlink(path);
	unlink(elsewhere);
	assert_int_equal(read_back(why), -ENOENT);
}

static void test_snapshot__that_cannot_be_written_leaves_the_old_one(void **state)
{
	char why[RL_WHY_MAX] = "", temp[128];
	uint64_t keys;

	(void)state;
	snprintf(temp, sizeof(temp), "%s.tmp", path);
	assert_int_equal(mkdir(temp, 0700), 0);
	assert_true(snapshot_save(&t.seg.view, path, &keys, why) < 0);
	assert_non_null(strstr(why, temp));
	assert_int_equal(rmdir(temp), 0);
	assert_int_equal(read_back(why), 0);
	assert_int_equal(snapshot_save(&t.seg.view, path, &keys, why), 0);
}

static void on_bus(int signal_number)
{
	(void)signal_number;
	_exit(42);
}

/* As keeper_catch_truncation() does; a blocked one would kill without a word. */
static void test_snapshot__truncated_segment_ends_its_thread_by_the_handler_too(void **state)
{
	char file[128];
	int status;
	pid_t pid;

	(void)state;
	snprintf(file, sizeof(file), "%s/late", t.dir);
	pid = fork();
	if (pid == 0) {
		signal(SIGBUS, on_bus);
		if (snapshot_start(&t.seg.view, file, RL_SECOND_NS / 100) == NULL ||
		    truncate(t.path, 4096) != 0)
			_exit(1);
		sleep(20);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(file);
	strcat(file, ".tmp");
	unlink(file);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_snapshot__has_every_key_and_is_its_owners_alone),
		TEST(test_snapshot__cut_off_anywhere_is_refused),
		TEST(test_snapshot__changed_in_any_bit_is_refused),
		TEST(test_snapshot__longer_than_its_end_is_refused),
		TEST(test_snapshot__sound_digest_over_words_that_nothing_can_hold_is_refused),
		TEST(test_snapshot__can_be_gone_through_again),
		TEST(test_snapshot__written_over_after_the_check_is_noticed),
		TEST(test_snapshot__others_file_is_refused),
		TEST(test_snapshot__that_cannot_be_written_leaves_the_old_one),
		TEST(test_snapshot__truncated_segment_ends_its_thread_by_the_handler_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
