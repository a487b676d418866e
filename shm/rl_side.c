#include "shm/rl_side.h"

#include <string.h>

#include "shm/rl_hash.h"
#include "shm/rl_sha256.h"

void rl_key_text(const void *key, size_t key_len, struct rl_key_text *ret)
{
	char text[RL_TEXT_BYTES] = {0};

	if (key_len <= RL_TEXT_BYTES) {
		memcpy(text, key, key_len);
		ret->code = 1 + (uint32_t)key_len;
	} else {
		memcpy(text, key, RL_TEXT_PREFIX);
		rl_sha256(key, key_len, (uint8_t *)text + RL_TEXT_PREFIX);
		ret->code = RL_TEXT_LONG;
	}
	memcpy(ret->word, text, sizeof(text));
}

/* A name of text: ':' and a verbatim key, or '#' and a long one's prefix and digest. */
static size_t name_of(const struct rl_key_text *text, char ret[RL_NAME_BYTES])
{
	if (text->code < 1 || text->code > RL_TEXT_LONG)
		return 0;
	ret[0] = text->code == RL_TEXT_LONG ? '#' : ':';
	memcpy(ret + 1, text->word, RL_TEXT_BYTES);
	return text->code == RL_TEXT_LONG ? RL_NAME_BYTES : text->code;
}

size_t rl_side_name(const struct rl_view *view, uint64_t index, char ret[RL_NAME_BYTES])
{
	struct rl_key_text text;

	/* Relaxed, both: under a head that was acquired. */
	text.code =
		rl_acked_text(atomic_load_explicit(&view->side[index].acked, memory_order_relaxed));
	for (size_t i = 0; i < RL_TEXT_BYTES / 8; i++)
		text.word[i] =
			atomic_load_explicit(&view->text[index].word[i], memory_order_relaxed);
	return name_of(&text, ret);
}

uint32_t rl_side_part(uint32_t rule_id, const char *name, size_t len)
{
	static const uint64_t everywhere[2] = {0, 0}; /* all hosts must agree: no secret */

	return (uint32_t)(rl_hash_key(everywhere, rule_id, name, len).word[0] % RL_PARTS);
}

uint32_t rl_key_part(uint32_t rule_id, const struct rl_key_text *text)
{
	char name[RL_NAME_BYTES];

	return rl_side_part(rule_id, name, name_of(text, name));
}

static void mark(struct rl_dirty *dirty, uint64_t slot)
{
	uint64_t at = slot / 64, bit = UINT64_C(1) << (slot % 64);
	_Atomic uint64_t *word = &dirty->word[at], *sum = &dirty->sum[at / 64];
	uint64_t sum_bit = UINT64_C(1) << (at % 64);

	/* Relaxed: a bit that is seen set is one that the agent has still to take. It clears
	 * the bit before it reads the slot, so a mark that comes too late for that is set anew. */
	if ((atomic_load_explicit(word, memory_order_relaxed) & bit) != 0 &&
	    (atomic_load_explicit(sum, memory_order_relaxed) & sum_bit) != 0)
		return;
	/* pairs[dirty.rel]: the slot's count before its bit, its bit before the summary's.
	 * Killed between the two: the next mark sets the summary's. */
	atomic_fetch_or_explicit(word, bit, memory_order_release);
	atomic_fetch_or_explicit(sum, sum_bit, memory_order_release);
}

void rl_dirty_mark(struct rl_seg *seg, uint64_t index)
{
	uint32_t e = seg->view.extents - 1;

	while (e > 0 && index < seg->view.extent[e].first * RL_LANES)
		e--;
	mark(&seg->dirty[e], index - seg->view.extent[e].first * RL_LANES);
}

/* What each slot that is taken is told to. */
struct taker {
	void (*each)(uint64_t index, void *arg);
	void *arg;
	uint64_t first, count; /* slots of the extent */
};

static void take_word(struct rl_dirty *dirty, uint64_t at, const struct taker *taker)
{
	/* pairs[dirty.acq]: with the bit comes what the slot has to report. */
	uint64_t bits = atomic_exchange_explicit(&dirty->word[at], 0, memory_order_acq_rel);

	for (; bits != 0; bits &= bits - 1) {
		uint64_t slot = at * 64 + (uint64_t)__builtin_ctzll(bits);

		if (slot < taker->count)
			taker->each(taker->first + slot, taker->arg);
	}
}

static void take_extent(struct rl_dirty *dirty, bool whole, const struct taker *taker)
{
	for (uint64_t s = 0; s < dirty->sums; s++) {
		uint64_t bits = 0;

		/* Relaxed: nothing to take costs no write. */
		if (atomic_load_explicit(&dirty->sum[s], memory_order_relaxed) != 0)
			/* pairs[dirty.acq]: as in take_word(). */
			bits = atomic_exchange_explicit(&dirty->sum[s], 0, memory_order_acq_rel);
		if (whole)
			bits = UINT64_MAX;
		for (; bits != 0; bits &= bits - 1) {
			uint64_t at = s * 64 + (uint64_t)__builtin_ctzll(bits);

			if (at < dirty->words)
				take_word(dirty, at, taker);
		}
	}
}

void rl_dirty_take(struct rl_seg *seg, bool whole, void (*each)(uint64_t index, void *arg),
		   void *arg)
{
	for (uint32_t e = 0; e < seg->view.extents; e++) {
		const struct rl_extent *extent = &seg->view.extent[e];
		const struct taker taker = {each, arg, extent->first * RL_LANES,
					    extent->count * RL_LANES};

		take_extent(&seg->dirty[e], whole, &taker);
	}
}

uint64_t rl_total_now(uint64_t total, uint64_t window_ns, uint64_t now_ns)
{
	uint32_t then = (uint32_t)(total >> 32);
	uint64_t gone_ns = (uint64_t)((uint32_t)(now_ns >> RL_TOTAL_SHIFT) - then)
			   << RL_TOTAL_SHIFT;

	if ((total & UINT32_MAX) == 0 || gone_ns >= window_ns)
		return 0;
	return (uint64_t)((double)(total & UINT32_MAX) *
			  (1.0 - (double)gone_ns / (double)window_ns)) +
	       1;
}
