/*
 * verify.h - what a finding of rl_verify() means, in words.
 */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "shm/rl_verify.h"

struct verify_words {
	const char *what;   /* is wrong */
	const char *effect; /* on answers */
	const char *advice;
};

const struct verify_words *verify_words(enum rl_fault fault);

#endif
