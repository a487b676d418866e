/*
 * rl_wait.h - what a process that may not sleep says to the agent, over "<segment>.wait": tell me
 * when this slot has had its turn. Both are processes of one machine.
 *
 * Rooms:  client/ and agent/.
 *
 * A SOCK_SEQPACKET socket. One rl_wait_note goes up for each check that is left pending; one byte
 * comes down when the slot may have had a new turn since. At most one byte for each note, and the
 * agent keeps no more of a caller than which partitions it has noted. The socket's end is the death
 * of the other side, to both of them.
 */
#ifndef RL_WAIT_H
#define RL_WAIT_H

#include <stdint.h>

#define RL_WAIT_SUFFIX ".wait"

struct rl_wait_note {
	uint64_t index; /* of the slot */
	uint32_t turn;  /* rl_turn_seen() before the try that found no credit */
	uint32_t spare; /* 0 */
};

#endif
