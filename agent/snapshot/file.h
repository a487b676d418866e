/*
 * file.h - what a snapshot is made of: blocks with a digest each, all or nothing.
 *
 * Rooms:  agent/snapshot/.
 *
 * A block is [ kind:32 | bytes:32 ], so many bytes, and a digest of both, against accidents (a
 * forger is kept out by the file's owner and mode). The first is the head, the last one says how
 * many keys came before it. In this machine's byte order: a snapshot is of one host.
 */
#ifndef SNAPSHOT_FILE_H
#define SNAPSHOT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "shm/rl_hash.h"
#include "shm/rl_saved.h"

#define SNAPSHOT_MAGIC       "ratelsn2"
#define SNAPSHOT_BEGIN_BYTES 8u
#define SNAPSHOT_BLOCK_BYTES 65536u /* of keys, at most */
#define SNAPSHOT_BOOT_BYTES  40u

#define SNAPSHOT_DIGEST_BYTES 16u

/* SipHash-1-3-128 under a key of zeros: SHA-256 took 1.5 s of each snapshot of a million keys. */
static inline void snapshot_digest(const void *bytes, size_t size,
				   uint8_t ret[SNAPSHOT_DIGEST_BYTES])
{
	static const uint64_t zeros[2];
	uint64_t digest[2];

	rl_hash128(zeros, bytes, size, digest);
	memcpy(ret, digest, sizeof(digest));
}

enum snapshot_kind { SNAPSHOT_HEAD = 1, SNAPSHOT_KEYS = 2, SNAPSHOT_END = 3 };

struct snapshot_head {
	char magic[8];
	uint32_t order;                 /* 1, in the byte order of the machine that wrote it */
	uint32_t stamps;                /* RL_RING */
	char boot[SNAPSHOT_BOOT_BYTES]; /* boot id of the kernel, text */
	uint64_t hash_key[2];
	uint64_t clock_ns; /* the biased precise clock when it was begun, and just after that */
	uint64_t wall_ns;  /* CLOCK_REALTIME: a machine put to sleep between them gives nothing back
			    */
};

/* One key: this, and then its stamps that have not expired, those of the lowest cells first. */
struct snapshot_key {
	uint64_t id[2];
	uint64_t text[RL_TEXT_BYTES / 8];
	uint64_t n, window_ns, mark, blocked_ns, taken_ns;
	uint32_t rule_id, algorithm, scale, units;
	uint32_t text_code;
	uint32_t cells; /* which stamps follow: bit i stands for cell i */
};

/* Writes blocks; the first failure is kept, and what comes after it does nothing. */
struct snapshot_writer {
	int fd;
	int error; /* 0 or -errno */
	uint64_t keys;
	size_t used;
	uint8_t block[SNAPSHOT_BLOCK_BYTES];
};

void snapshot_write_head(struct snapshot_writer *writer, const struct snapshot_head *head);
void snapshot_write_key(struct snapshot_writer *writer, const struct rl_saved *saved);
void snapshot_write_end(struct snapshot_writer *writer);

/* A snapshot that has been checked from the first byte to the last. One block is in memory. */
struct snapshot {
	int fd;
	uint64_t size; /* of the file */
	struct snapshot_head head;
	uint64_t keys; /* all; pools: of these, those that rules' pools count by */
	uint64_t pools;
	uint64_t begin; /* of the first block of keys, in the file */
	uint64_t next;  /* where the next block begins */
	size_t at, end; /* where snapshot_next() is in this one */
	bool changed;   /* the file is not what was checked any more: nothing of it is to be used */
	uint8_t block[SNAPSHOT_BEGIN_BYTES + SNAPSHOT_BLOCK_BYTES + SNAPSHOT_DIGEST_BYTES];
};

/* The next key; false after the last one, or with changed set. And from the first one again. */
bool snapshot_next(struct snapshot *snapshot, struct rl_saved *ret);
void snapshot_rewind(struct snapshot *snapshot);

/*
 * Open and check the file. 0, -ENOENT, or another error with one line in why that says what is
 * wrong with it. snapshot_free() in the end.
 */
int snapshot_read(const char *path, struct snapshot *ret, char *why);
void snapshot_free(struct snapshot *snapshot);

#endif
