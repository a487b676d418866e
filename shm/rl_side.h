/*
 * rl_side.h - the packed words beside a slot: what the sync has acknowledged, the key's text,
 * the agent's hint for workers, and the bit that says "something to report".
 *
 * Rooms:  shm/ and agent/. Arithmetic on values, and a few loads; no I/O.
 *
 *   acked  [ n:42 | tracked:1 | audit:1 | text:20 ]
 *          n: the count up to which Redis knows of this slot's admits. A claimant writes it
 *          (with the count the slot opens at) before the slot opens; then the agent alone.
 *          tracked: the agent has begun to report this slot.
 *          audit: the key's admits are noted, rl_audit.h.
 *          text: 1 + bytes of the key, up to 64; RL_TEXT_LONG for a longer key, of which the
 *          text holds 32 bytes and the 32 of its SHA-256. 0 = not written.
 *   total  [ when:32 | units:32 ]   at the last answer: the fleet's window and the leases of the
 *          other hosts; when in units of 2^22 ns (4.2 ms; it wraps after 208 days)
 *   hint   [ again:40 | low:16 | part:8 ]
 *          again: ms of the slot's clock until which asking is useless; 0 = ask
 *          low: ring when credit falls to this; part: 1 + partition, 0 = not known
 *          Of an eventual rule again: until then nothing that total counts leaves the window;
 *          low: all of it has left so many 65536ths of W before a whole W is over
 */
#ifndef RL_SIDE_H
#define RL_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/rl_segment.h"

#define RL_TEXT_LONG   66u /* text: of a key above RL_TEXT_BYTES */
#define RL_TEXT_PREFIX 32u /* bytes of a long key that are kept as they are */
#define RL_NAME_BYTES  (1 + RL_TEXT_BYTES)

#define RL_TRACKED    (UINT64_C(1) << 21)
#define RL_TEXT_AUDIT (UINT32_C(1) << 20)
#define RL_TEXT_MASK  ((UINT64_C(1) << 20) - 1)

static inline uint64_t rl_acked(uint64_t n, bool tracked, uint32_t text)
{
	return n << 22 | (tracked ? RL_TRACKED : 0) | text;
}

static inline uint64_t rl_acked_n(uint64_t acked)
{
	return acked >> 22;
}

static inline uint32_t rl_acked_text(uint64_t acked)
{
	return (uint32_t)(acked & RL_TEXT_MASK);
}

/* What of it stays as long as the slot is the key's: text, and audit. */
static inline uint32_t rl_acked_kept(uint64_t acked)
{
	return (uint32_t)(acked & (RL_TEXT_AUDIT | RL_TEXT_MASK));
}

/* total: when, in units of 2^22 ns. */
#define RL_TOTAL_SHIFT 22

static inline uint64_t rl_total(uint64_t now_ns, uint64_t units)
{
	return (uint64_t)(uint32_t)(now_ns >> RL_TOTAL_SHIFT) << 32 |
	       (units > UINT32_MAX ? UINT32_MAX : units);
}

/* What the fleet held at the last answer, less what has left the window since. */
uint64_t rl_total_now(uint64_t total, uint64_t window_ns, uint64_t now_ns);

/* infl: head's fields, with valid in the place of closed. */
#define RL_INFL_VALID (UINT64_C(1) << 21)

static inline uint64_t rl_hint(uint64_t again_ms, uint32_t low, uint32_t part)
{
	return again_ms << 24 | (uint64_t)(low > 0xffff ? 0xffff : low) << 8 | (part + 1);
}

static inline uint64_t rl_hint_again_ns(uint64_t hint)
{
	return (hint >> 24) * UINT64_C(1000000);
}

static inline uint32_t rl_hint_low(uint64_t hint)
{
	return (uint32_t)(hint >> 8) & 0xffff;
}

/* Always below RL_PARTS, whatever the word holds. */
static inline uint32_t rl_hint_part(uint64_t hint)
{
	return (uint32_t)(hint - 1) % RL_PARTS;
}

/* The words a claimant writes for a key of 1 .. 1024 bytes: its text and the text's code. */
struct rl_key_text {
	uint64_t word[RL_TEXT_BYTES / 8];
	uint32_t code; /* 1 + bytes, or RL_TEXT_LONG */
};
void rl_key_text(const void *key, size_t key_len, struct rl_key_text *ret);

/* Bytes of a key that are in its text as they are; 0 of a long one, of which only some are. */
static inline size_t rl_key_text_len(const struct rl_key_text *text)
{
	return text->code >= 1 && text->code <= 1 + RL_TEXT_BYTES ? text->code - 1 : 0;
}

/*
 * The part of a Redis name that stands for the key, the same on every host: ':' and the key,
 * or '#', its first 32 bytes and its SHA-256. No two keys have the same. Returns its length,
 * at most RL_NAME_BYTES, or 0 when the text is not written or damaged.
 */
size_t rl_side_name(const struct rl_view *view, uint64_t index, char ret[RL_NAME_BYTES]);

/* The partition of a key's name under a rule, the same on every host. */
uint32_t rl_side_part(uint32_t rule_id, const char *name, size_t len);
uint32_t rl_key_part(uint32_t rule_id, const struct rl_key_text *text);

/*
 * A worker: this slot has something to report. One load when it is marked already, else two
 * fetch_or. Killed between them: the slot's next mark, or the sweep, repairs the summary.
 */
void rl_dirty_mark(struct rl_seg *seg, uint64_t index);

/*
 * The agent: call each(index, arg) for every marked slot and clear its mark before the call.
 * Reads one summary word for 4096 slots; whole != false: every word, as after a start.
 */
void rl_dirty_take(struct rl_seg *seg, bool whole, void (*each)(uint64_t index, void *arg),
		   void *arg);

#endif
