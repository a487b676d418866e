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
#include <stdint.h>

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

#endif
