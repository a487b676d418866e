/*
 * frame.h - what agents of one machine say to the one that keeps the counts, in bytes.
 *
 * Rooms:  agent/memory/, tests/. Pure.
 *
 * Both sides send frames: how many bytes follow, 4 bytes, and those. Numbers are little-endian, a
 * text is its length in 4 bytes and its bytes. Answers come in the order of what was asked.
 *
 *	asked                                             answered
 *	HELLO    8 bytes FRAME_MAGIC, 4 its version       HELLO    the same, 4 pid
 *	SYNC     4 partition; texts: fleet, host, row,    ANSWER   8 status, 8 now ms, 8 live rows;
 *	         words, header; 4 items, and for each              texts: other, answers
 *	         texts: name, bytes
 *	CONTROL  texts: fleet, host, row, words, bytes    ANSWER   as above, answers are its bytes
 *	                                                  REFUSED  a text: why
 *
 * Each begins with its kind, 4 bytes. What cannot be read ends the connection.
 */
#ifndef MEMORY_FRAME_H
#define MEMORY_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/memory/memory.h"

#define FRAME_MAX     (2304u << 10) /* two texts of 1 MiB; a call of 64 keys has up to 50 KB */
#define FRAME_MAGIC   UINT64_C(0x31746e756f436c52)
#define FRAME_VERSION 1u /* another one counts otherwise: they do not mix */

enum frame_kind {
	FRAME_HELLO = 1,
	FRAME_SYNC,
	FRAME_CONTROL,
	FRAME_ANSWER,
	FRAME_REFUSED,
};

/* Being read: what is missing reads as 0 or empty, and bad says so in the end. */
struct frame_in {
	const unsigned char *at, *end;
	bool bad;
};

uint32_t frame_take4(struct frame_in *in);
uint64_t frame_take8(struct frame_in *in);
struct memory_text frame_take_text(struct frame_in *in);

/* True when all was there and nothing is left. */
bool frame_is_read(const struct frame_in *in);

/* Being written; what does not fit makes it bad. */
struct frame_out {
	uint32_t size; /* with the 4 bytes that say so */
	bool bad;
	unsigned char bytes[FRAME_MAX];
};

void frame_begin(struct frame_out *out, enum frame_kind kind);
void frame_put4(struct frame_out *out, uint32_t value);
void frame_put8(struct frame_out *out, uint64_t value);
void frame_put_text(struct frame_out *out, const void *bytes, size_t len);

/* Its size goes in front. False: it was too long. */
bool frame_end(struct frame_out *out);

#endif
