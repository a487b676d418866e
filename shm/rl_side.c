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

void rl_dirty_mark(struct rl_seg *seg, uint64_t index)
{
	uint64_t word = index / 64, bit = UINT64_C(1) << (index % 64);
	_Atomic uint64_t *dirty = &seg->dirty[word], *sum = &seg->dirty_sum[word / 64];
	uint64_t sum_bit = UINT64_C(1) << (word % 64);

	/* Relaxed: a bit that is seen set is one that the agent has still to take. It clears
	 * the bit before it reads the slot, so a mark that comes too late for that is set anew. */
	if ((atomic_load_explicit(dirty, memory_order_relaxed) & bit) != 0 &&
	    (atomic_load_explicit(sum, memory_order_relaxed) & sum_bit) != 0)
		return;
	/* pairs[dirty.rel]: the slot's count before its bit, its bit before the summary's.
	 * Killed between the two: the next mark sets the summary's. */
	atomic_fetch_or_explicit(dirty, bit, memory_order_release);
	atomic_fetch_or_explicit(sum, sum_bit, memory_order_release);
}

static void take_word(struct rl_seg *seg, uint64_t word, void (*each)(uint64_t, void *), void *arg)
{
	/* pairs[dirty.acq]: with the bit comes what the slot has to report. */
	uint64_t bits = atomic_exchange_explicit(&seg->dirty[word], 0, memory_order_acq_rel);

	for (; bits != 0; bits &= bits - 1) {
		uint64_t index = word * 64 + (uint64_t)__builtin_ctzll(bits);

		if (index < seg->view.slot_count)
			each(index, arg);
	}
}

void rl_dirty_take(struct rl_seg *seg, bool whole, void (*each)(uint64_t index, void *arg),
		   void *arg)
{
	for (uint64_t s = 0; s < seg->dirty_sums; s++) {
		uint64_t bits = 0;

		/* Relaxed: nothing to take costs no write. */
		if (atomic_load_explicit(&seg->dirty_sum[s], memory_order_relaxed) != 0)
			/* pairs[dirty.acq]: as in take_word(). */
			bits = atomic_exchange_explicit(&seg->dirty_sum[s], 0,
							memory_order_acq_rel);
		if (whole)
			bits = UINT64_MAX;
		for (; bits != 0; bits &= bits - 1) {
			uint64_t word = s * 64 + (uint64_t)__builtin_ctzll(bits);

			if (word < seg->dirty_words)
				take_word(seg, word, each, arg);
		}
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
