/*
 * read.c - the reading half of file.h. Whatever the file holds: nothing of it is used before all of
 * it has been checked. It is gone through once for that, and once more for each round of
 * snapshot_next(), a block in memory at a time; every block is checked each time, as the file may
 * be written over between two of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/snapshot/file.h"
#include "shm/rl_check.h"
#include "shm/rl_error.h"

#define MOST_BYTES (UINT64_C(1) << 40)
#define BAD        (-EBADMSG)

/* Whoever may write it can forge counts. */
static int check_owner(const struct stat *st, char *why)
{
	if (!S_ISREG(st->st_mode))
		return rl_refuse(BAD, why, "it is not a regular file");
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return rl_refuse(-EPERM, why, "it belongs to user %lu, not to root or this one",
				 (unsigned long)st->st_uid);
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return rl_refuse(-EPERM, why, "others may write it (mode %04o): chmod go-w it",
				 (unsigned)st->st_mode & 07777);
	return 0;
}

static int open_file(const char *path, struct snapshot *ret, char *why)
{
	struct stat st;
	int error;

	ret->fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (ret->fd < 0)
		return rl_refuse(-errno, why, "cannot open it: %s", strerror(errno));
	error = fstat(ret->fd, &st) != 0 ? -errno : check_owner(&st, why);
	if (error == 0 && (uint64_t)st.st_size > MOST_BYTES)
		error = rl_refuse(BAD, why, "it is too large");
	if (error == 0)
		ret->size = (uint64_t)st.st_size;
	return error;
}

/* As much as there is of what the longest block takes; 0 also when it cannot be read. */
static size_t fetch(struct snapshot *snapshot, uint64_t at)
{
	size_t got = 0;

	while (got < sizeof(snapshot->block)) {
		ssize_t more = pread(snapshot->fd, snapshot->block + got,
				     sizeof(snapshot->block) - got, (off_t)(at + got));

		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			break;
		got += (size_t)more;
	}
	return got;
}

/* The block at *at into memory, whole and with its digest; *at: past it. False: it is not. */
static bool take_block(struct snapshot *snapshot, uint64_t *at, uint32_t *ret_kind)
{
	size_t got = fetch(snapshot, *at);
	uint8_t digest[SNAPSHOT_DIGEST_BYTES];
	uint32_t begin[2];

	if (got < SNAPSHOT_BEGIN_BYTES + SNAPSHOT_DIGEST_BYTES)
		return false;
	memcpy(begin, snapshot->block, sizeof(begin));
	if (begin[1] > SNAPSHOT_BLOCK_BYTES ||
	    begin[1] > got - SNAPSHOT_BEGIN_BYTES - SNAPSHOT_DIGEST_BYTES)
		return false;
	snapshot_digest(snapshot->block, SNAPSHOT_BEGIN_BYTES + begin[1], digest);
	if (memcmp(digest, snapshot->block + SNAPSHOT_BEGIN_BYTES + begin[1], sizeof(digest)) != 0)
		return false;
	*ret_kind = begin[0];
	snapshot->at = SNAPSHOT_BEGIN_BYTES;
	snapshot->end = SNAPSHOT_BEGIN_BYTES + begin[1];
	*at += SNAPSHOT_BEGIN_BYTES + begin[1] + SNAPSHOT_DIGEST_BYTES;
	return true;
}

static int check_head(struct snapshot *snapshot, uint64_t *at, char *why)
{
	uint32_t kind;

	if (!take_block(snapshot, at, &kind) || kind != SNAPSHOT_HEAD ||
	    snapshot->end - snapshot->at != sizeof(snapshot->head))
		return rl_refuse(BAD, why, "it is damaged, or no snapshot of this release");
	memcpy(&snapshot->head, snapshot->block + snapshot->at, sizeof(snapshot->head));
	if (memcmp(snapshot->head.magic, SNAPSHOT_MAGIC, sizeof(snapshot->head.magic)) != 0 ||
	    snapshot->head.order != 1 || snapshot->head.stamps != RL_RING)
		return rl_refuse(BAD, why, "it is of another release, or of another machine");
	snapshot->head.boot[SNAPSHOT_BOOT_BYTES - 1] = '\0';
	return 0;
}

/* One key from a block; false when it is cut off, or of words that nothing can hold. */
static bool take_key(const uint8_t *bytes, size_t left, struct rl_saved *ret, size_t *ret_size)
{
	struct snapshot_key key;
	size_t at = sizeof(key);

	if (left < sizeof(key))
		return false;
	memcpy(&key, bytes, sizeof(key));
	*ret = (struct rl_saved){.id = {{key.id[0], key.id[1]}},
				 .text.code = key.text_code,
				 .n = key.n,
				 .window_ns = key.window_ns,
				 .mark = key.mark,
				 .blocked_ns = key.blocked_ns,
				 .taken_ns = key.taken_ns,
				 .rule_id = key.rule_id,
				 .algorithm = key.algorithm,
				 .scale = key.scale,
				 .units = key.units};
	memcpy(ret->text.word, key.text, sizeof(key.text));
	for (uint32_t i = 0; i < RL_RING; i++) {
		if ((key.cells >> i & 1) == 0)
			continue;
		if (left - at < sizeof(ret->ring[i]))
			return false;
		memcpy(&ret->ring[i], bytes + at, sizeof(ret->ring[i]));
		at += sizeof(ret->ring[i]);
	}
	*ret_size = at;
	return key.cells >> RL_RING == 0 && rl_saved_sound(ret);
}

/* The key at snapshot->at, in the block that is in memory. */
static bool take_next(struct snapshot *snapshot, struct rl_saved *ret)
{
	size_t taken;

	if (!take_key(snapshot->block + snapshot->at, snapshot->end - snapshot->at, ret, &taken))
		return false;
	snapshot->at += taken;
	return true;
}

static bool check_keys(struct snapshot *snapshot)
{
	struct rl_saved saved;

	for (; snapshot->at < snapshot->end; snapshot->keys++) {
		if (!take_next(snapshot, &saved))
			return false;
		snapshot->pools += rl_pool_is_text(&saved.text);
	}
	return true;
}

static int check_end(const struct snapshot *snapshot, uint64_t at, char *why)
{
	size_t size = snapshot->end - snapshot->at;
	uint64_t said = 0;

	memcpy(&said, snapshot->block + snapshot->at, size == sizeof(said) ? size : 0);
	if (size == sizeof(said) && said == snapshot->keys && at == snapshot->size)
		return 0;
	return rl_refuse(BAD, why, "its end does not fit: %llu keys",
			 (unsigned long long)snapshot->keys);
}

static int check_all(struct snapshot *snapshot, char *why)
{
	uint64_t at = 0;
	uint32_t kind;
	int error = check_head(snapshot, &at, why);

	snapshot->begin = at;
	while (error == 0) {
		if (!take_block(snapshot, &at, &kind))
			return rl_refuse(BAD, why, "it is damaged, or cut off, at byte %llu",
					 (unsigned long long)at);
		if (kind == SNAPSHOT_END)
			return check_end(snapshot, at, why);
		if (kind != SNAPSHOT_KEYS || snapshot->at == snapshot->end || !check_keys(snapshot))
			return rl_refuse(BAD, why, "a block before byte %llu is none of ours",
					 (unsigned long long)at);
	}
	return error;
}

int snapshot_read(const char *path, struct snapshot *ret, char *why)
{
	int error;

	memset(ret, 0, sizeof(*ret));
	error = open_file(path, ret, why);
	if (error == 0)
		error = check_all(ret, why);
	if (error != 0)
		snapshot_free(ret);
	else
		snapshot_rewind(ret);
	return error;
}

bool snapshot_next(struct snapshot *snapshot, struct rl_saved *ret)
{
	uint32_t kind = SNAPSHOT_KEYS;

	if (snapshot->at == snapshot->end && !take_block(snapshot, &snapshot->next, &kind))
		snapshot->changed = true;
	else if (kind == SNAPSHOT_KEYS && take_next(snapshot, ret))
		return true;
	else
		snapshot->changed = kind != SNAPSHOT_END || snapshot->next != snapshot->size;
	return false;
}

void snapshot_rewind(struct snapshot *snapshot)
{
	snapshot->next = snapshot->begin;
	snapshot->at = snapshot->end = 0;
}

void snapshot_free(struct snapshot *snapshot)
{
	if (snapshot->fd >= 0)
		close(snapshot->fd);
	snapshot->fd = -1;
}
