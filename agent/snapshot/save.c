/*
 * save.c - one snapshot of a segment in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/snapshot/boot.h"
#include "agent/snapshot/file.h"
#include "agent/snapshot/snapshot.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"

#define WAITS_MOST 100 /* in all, of 1 ms: for the loop, if it is not run in mid-step */

/* The loop's steps take less than a microsecond: it was stopped in one, or the slot is damaged. */
static int take_soon(const struct rl_view *view, uint64_t index, int *waits, struct rl_saved *ret)
{
	const struct timespec one_ms = {.tv_nsec = 1000000};
	int got = rl_saved_take(view, index, ret);

	for (; got == RL_E_BUSY && *waits > 0; --*waits) {
		nanosleep(&one_ms, NULL);
		got = rl_saved_take(view, index, ret);
	}
	return got;
}

static void write_slots(struct snapshot_writer *writer, const struct rl_view *view)
{
	int waits = WAITS_MOST;
	struct rl_saved saved;

	for (uint64_t i = 0; i < view->slot_count && writer->error == 0; i++)
		if (take_soon(view, i, &waits, &saved) == 1)
			snapshot_write_key(writer, &saved);
}

static int write_file(int fd, const struct rl_view *view, uint64_t *ret_keys)
{
	struct snapshot_writer *writer = calloc(1, sizeof(*writer));
	struct snapshot_head head = {.magic = SNAPSHOT_MAGIC, .order = 1, .stamps = RL_RING};
	int error;

	if (writer == NULL)
		return -ENOMEM;
	writer->fd = fd;
	snapshot_boot(head.boot);
	memcpy(head.hash_key, view->hash_key, sizeof(head.hash_key));
	head.clock_ns = rl_clock_precise_ns();
	head.wall_ns = rl_clock_read_ns(CLOCK_REALTIME);
	snapshot_write_head(writer, &head);
	write_slots(writer, view);
	snapshot_write_end(writer);
	*ret_keys = writer->keys;
	error = writer->error;
	if (error == 0 && fsync(fd) != 0)
		error = -errno;
	free(writer);
	return error;
}

static void directory_of(const char *path, char ret[PATH_MAX])
{
	char *slash;

	strcpy(ret, path);
	slash = strrchr(ret, '/');
	*(slash == ret ? slash + 1 : slash) = '\0';
}

/* The new name must be on the disk, too. */
static int sync_directory(const char *path)
{
	char dir[PATH_MAX];
	int fd, error = 0;

	directory_of(path, dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		error = -errno;
	if (fd >= 0)
		close(fd);
	return error;
}

int snapshot_check_place(const char *path, char *why)
{
	char dir[PATH_MAX];

	directory_of(path, dir);
	if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	if (errno == ENOENT)
		return rl_refuse(-ENOENT, why, "the directory %s does not exist: create it", dir);
	return rl_refuse(-errno, why, "cannot write to the directory %s: %s", dir, strerror(errno));
}

/* Killed anywhere: PATH is the old one or the new one; PATH.tmp is written over by the next. */
int snapshot_save(const struct rl_view *view, const char *path, uint64_t *ret_keys, char *why)
{
	char temp[PATH_MAX + sizeof(".tmp")];
	int fd, error;

	*ret_keys = 0;
	strcpy(temp, path);
	strcat(temp, ".tmp");
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return rl_refuse(-errno, why, "cannot create %s: %s", temp, strerror(errno));
	error = write_file(fd, view, ret_keys);
	close(fd);
	if (error == 0 && rename(temp, path) != 0)
		error = -errno;
	if (error == 0)
		error = sync_directory(path);
	else
		unlink(temp);
	return error == 0 ? 0
			  : rl_refuse(error, why, "cannot write %s: %s", path, strerror(-error));
}
