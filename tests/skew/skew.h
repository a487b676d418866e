/*
 * skew.h - clocks of the calling thread that are off. See skew.c.
 */
#ifndef TESTS_SKEW_SKEW_H
#define TESTS_SKEW_SKEW_H

#include <stdatomic.h>
#include <stdint.h>

/* From now on this thread's clocks are *offset_ns ahead, read at every call; NULL: real. */
void skew_thread(const _Atomic int64_t *offset_ns);

#endif
