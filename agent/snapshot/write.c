/*
 * write.c - the writing half of file.h.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/snapshot/file.h"

static void put_bytes(struct snapshot_writer *writer, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0 && writer->error == 0) {
		ssize_t written = write(writer->fd, at, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			writer->error = written < 0 ? -errno : -EIO;
			return;
		}
		at += written;
		size -= (size_t)written;
	}
}

static void put_block(struct snapshot_writer *writer, uint32_t kind, const void *bytes, size_t size)
{
	uint8_t whole[SNAPSHOT_BEGIN_BYTES + SNAPSHOT_BLOCK_BYTES + SNAPSHOT_DIGEST_BYTES];
	const uint32_t begin[2] = {kind, (uint32_t)size};

	memcpy(whole, begin, sizeof(begin));
	memcpy(whole + sizeof(begin), bytes, size);
	snapshot_digest(whole, sizeof(begin) + size, whole + sizeof(begin) + size);
	put_bytes(writer, whole, sizeof(begin) + size + SNAPSHOT_DIGEST_BYTES);
}

void snapshot_write_head(struct snapshot_writer *writer, const struct snapshot_head *head)
{
	put_block(writer, SNAPSHOT_HEAD, head, sizeof(*head));
}

static void put_keys(struct snapshot_writer *writer)
{
	if (writer->used > 0)
		put_block(writer, SNAPSHOT_KEYS, writer->block, writer->used);
	writer->used = 0;
}

void snapshot_write_key(struct snapshot_writer *writer, const struct rl_saved *saved)
{
	struct snapshot_key key = {
		.id = {saved->id.word[0], saved->id.word[1]},
		.n = saved->n,
		.window_ns = saved->window_ns,
		.mark = saved->mark,
		.blocked_ns = saved->blocked_ns,
		.taken_ns = saved->taken_ns,
		.rule_id = saved->rule_id,
		.algorithm = saved->algorithm,
		.scale = saved->scale,
		.units = saved->units,
		.text_code = saved->text.code,
	};
	uint64_t stamp[RL_RING];
	size_t stamps = 0;

	if (writer->used + sizeof(key) + sizeof(stamp) > SNAPSHOT_BLOCK_BYTES)
		put_keys(writer);
	memcpy(key.text, saved->text.word, sizeof(key.text));
	for (uint32_t i = 0; i < RL_RING; i++)
		if (saved->ring[i] != 0) {
			key.cells |= 1u << i;
			stamp[stamps++] = saved->ring[i];
		}
	memcpy(writer->block + writer->used, &key, sizeof(key));
	memcpy(writer->block + writer->used + sizeof(key), stamp, stamps * sizeof(stamp[0]));
	writer->used += sizeof(key) + stamps * sizeof(stamp[0]);
	writer->keys++;
}

void snapshot_write_end(struct snapshot_writer *writer)
{
	put_keys(writer);
	put_block(writer, SNAPSHOT_END, &writer->keys, sizeof(writer->keys));
}
