/*
 * word.h - single words of the fleet's page and of partitions, as the agent reads and writes them.
 *
 * Rooms:  agent/sync/ only.
 *
 * Relaxed, all: the agent is the only writer, and clients read each word for itself. What must
 * come in an order says so where it is done.
 */
#ifndef SYNC_WORD_H
#define SYNC_WORD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t word_of(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void add(_Atomic uint64_t *counter, uint64_t units)
{
	atomic_fetch_add_explicit(counter, units, memory_order_relaxed);
}

/* A text into words, cut to what they hold less a NUL. */
static inline void put_text(_Atomic uint64_t *word, size_t words, const char *text, size_t len)
{
	if (len > words * 8 - 1)
		len = words * 8 - 1;
	for (size_t i = 0; i < words; i++) {
		uint64_t bytes = 0;

		if (len > i * 8)
			memcpy(&bytes, text + i * 8, len - i * 8 < 8 ? len - i * 8 : 8);
		put(&word[i], bytes);
	}
}

#endif
