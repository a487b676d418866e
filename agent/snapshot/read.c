/*
 * read.c - the reading half of file.h. Whatever the file holds: nothing of it is used before all of
 * it has been checked.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/snapshot/file.h"
#include "shm/rl_error.h"

#define BEGIN_BYTES 8u
#define MOST_BYTES  (UINT64_C(1) << 40)
#define BAD         (-EBADMSG)

static int read_all(int fd, struct snapshot *ret, char *why)
{
	size_t at = 0;

	while (at < ret->size) {
		ssize_t got = read(fd, ret->bytes + at, ret->size - at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return rl_refuse(-errno, why, "cannot read it: %s", strerror(errno));
		if (got == 0)
			return rl_refuse(BAD, why, "it became shorter while it was read");
		at += (size_t)got;
	}
	return 0;
}

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

static int load(const char *path, struct snapshot *ret, char *why)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), error;
	struct stat st;

	if (fd < 0)
		return rl_refuse(-errno, why, "cannot open it: %s", strerror(errno));
	error = fstat(fd, &st) != 0 ? -errno : check_owner(&st, why);
	if (error == 0 && (uint64_t)st.st_size > MOST_BYTES)
		error = rl_refuse(BAD, why, "it is too large");
	if (error == 0) {
		ret->size = (size_t)st.st_size;
		ret->bytes = malloc(ret->size + 1);
		error = ret->bytes == NULL ? rl_refuse(-ENOMEM, why, "no memory to read it")
					   : read_all(fd, ret, why);
	}
	close(fd);
	return error;
}

/* The block at *at, whole and with its digest; *at: past it. False: it is not. */
static bool take_block(const struct snapshot *snapshot, size_t *at, uint32_t *ret_kind,
		       const uint8_t **ret_bytes, size_t *ret_size)
{
	const uint8_t *from = snapshot->bytes + *at;
	size_t left = snapshot->size - *at;
	uint8_t digest[SNAPSHOT_DIGEST_BYTES];
	uint32_t begin[2];

	if (left < BEGIN_BYTES + SNAPSHOT_DIGEST_BYTES)
		return false;
	memcpy(begin, from, sizeof(begin));
	if (begin[1] > SNAPSHOT_BLOCK_BYTES ||
	    begin[1] > left - BEGIN_BYTES - SNAPSHOT_DIGEST_BYTES)
		return false;
	snapshot_digest(from, BEGIN_BYTES + begin[1], digest);
	if (memcmp(digest, from + BEGIN_BYTES + begin[1], sizeof(digest)) != 0)
		return false;
	*ret_kind = begin[0];
	*ret_bytes = from + BEGIN_BYTES;
	*ret_size = begin[1];
	*at += BEGIN_BYTES + begin[1] + SNAPSHOT_DIGEST_BYTES;
	return true;
}

static int check_head(struct snapshot *snapshot, size_t *at, char *why)
{
	const uint8_t *bytes;
	uint32_t kind;
	size_t size;

	if (!take_block(snapshot, at, &kind, &bytes, &size) || kind != SNAPSHOT_HEAD ||
	    size != sizeof(snapshot->head))
		return rl_refuse(BAD, why, "it is damaged, or no snapshot of this release");
	memcpy(&snapshot->head, bytes, size);
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

static bool check_keys(const uint8_t *bytes, size_t size, uint64_t *keys)
{
	struct rl_saved saved;
	size_t at = 0, taken;

	for (; at < size; at += taken, (*keys)++)
		if (!take_key(bytes + at, size - at, &saved, &taken))
			return false;
	return true;
}

static int check_all(struct snapshot *snapshot, char *why)
{
	size_t at = 0, size;
	const uint8_t *bytes;
	uint32_t kind;
	uint64_t keys = 0, said;
	int error = check_head(snapshot, &at, why);

	snapshot->begin = at;
	snapshot_rewind(snapshot);
	while (error == 0) {
		if (!take_block(snapshot, &at, &kind, &bytes, &size))
			return rl_refuse(BAD, why, "it is damaged, or cut off, at byte %zu", at);
		if (kind == SNAPSHOT_END)
			break;
		if (kind != SNAPSHOT_KEYS || size == 0 || !check_keys(bytes, size, &keys))
			return rl_refuse(BAD, why, "a block before byte %zu is none of ours", at);
	}
	if (error != 0)
		return error;
	memcpy(&said, bytes, size == sizeof(said) ? size : 0);
	if (size != sizeof(said) || said != keys || at != snapshot->size)
		return rl_refuse(BAD, why, "its end does not fit: %llu keys",
				 (unsigned long long)keys);
	snapshot->keys = keys;
	return 0;
}

int snapshot_read(const char *path, struct snapshot *ret, char *why)
{
	int error;

	*ret = (struct snapshot){0};
	error = load(path, ret, why);
	if (error == 0)
		error = check_all(ret, why);
	if (error != 0)
		snapshot_free(ret);
	return error;
}

bool snapshot_next(struct snapshot *snapshot, struct rl_saved *ret)
{
	uint32_t begin[2];
	size_t taken;

	if (snapshot->at == snapshot->block_end) { /* another follows: the end's is the last */
		memcpy(begin, snapshot->bytes + snapshot->at, sizeof(begin));
		if (begin[0] != SNAPSHOT_KEYS)
			return false;
		snapshot->at += BEGIN_BYTES;
		snapshot->block_end = snapshot->at + begin[1];
	}
	if (!take_key(snapshot->bytes + snapshot->at, snapshot->block_end - snapshot->at, ret,
		      &taken))
		return false;
	snapshot->at += taken;
	if (snapshot->at == snapshot->block_end)
		snapshot->at = snapshot->block_end += SNAPSHOT_DIGEST_BYTES;
	return true;
}

void snapshot_rewind(struct snapshot *snapshot)
{
	snapshot->at = snapshot->block_end = snapshot->begin;
}

void snapshot_free(struct snapshot *snapshot)
{
	free(snapshot->bytes);
	*snapshot = (struct snapshot){0};
}
