/*
 * serve.h - a frame to the counts in memory, and the frame that answers it.
 *
 * Rooms:  agent/memory/hub.c, tests/. No I/O.
 */
#ifndef MEMORY_SERVE_H
#define MEMORY_SERVE_H

#include "agent/memory/frame.h"

/* The first frame of a peer. False: it is of another release, or nobody we know; out says what. */
bool serve_hello(struct frame_in *in, struct frame_out *out);

/* Any other. False: it cannot be read. */
bool serve(struct memory *memory, double clock_ms, struct frame_in *in, struct frame_out *out);

#endif
