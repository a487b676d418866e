/*
 * rl_sha256.h - SHA-256, for the names of long keys: what many hosts must agree on and nobody
 * may make collide.
 *
 * Rooms:  shm/, and agent/orders/ for what is pushed. Pure; thread- and async-signal-safe. Some 3
 * us for a key of 1,024 bytes, paid once, when its slot is claimed.
 *
 * Source: FIPS 180-4.
 */
#ifndef RL_SHA256_H
#define RL_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define RL_SHA256_BYTES 32

/* Digest of len bytes, len < 2^32. */
void rl_sha256(const void *bytes, size_t len, uint8_t ret[RL_SHA256_BYTES]);

#endif
