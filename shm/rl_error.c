#include "shm/rl_error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int error;
	const char *text;
} known[] = {
	{RL_E_SHORT, "the file is too short for a segment"},
	{RL_E_NOT_READY, "the segment is still being built"},
	{RL_E_MAGIC, "not a Ratel segment"},
	{RL_E_ABI, "the segment was made by another version of Ratel"},
	{RL_E_SIZES, "the segment's sizes disagree with this build"},
	{RL_E_CLOCKS, "the segment's clock is not this process's clock"},
	{RL_E_LOCKED, "another agent keeps this segment"},
	{RL_E_RULE, "no such rule"},
	{RL_E_COST, "the cost is above what the rule can ever admit at once"},
	{RL_E_FULL, "the table is full: no slot for a new key"},
	{RL_E_BUSY, "the key's slot stayed busy"},
	{RL_E_KEY, "the key was hashed for another segment: make it again"},
	{RL_E_SHARED, "hosts share this rule: one of them alone cannot do that"},
	{RL_E_CLOCK,
	 "the segment has no clock of its own and the call brings no time, or the other way round"},
	{RL_E_LISTS, "the lists have more entries than the segment has room for"},
	{RL_E_ABSENT, "there is no segment that can be used yet"},
	{RL_E_ALGORITHM,
	 "wrong call for the rule's algorithm: rl_acquire() and rl_release() go with concurrency, "
	 "all others with the rest"},
	{RL_E_TICKET, "nothing to give back: done before, or acquired by another process"},
	{RL_E_GROWN, "the table has grown, and this process could not map the rest of it"},
	{RL_E_HOLDERS, "too many processes hold requests: 1023 at most"},
	{RL_E_RULES, "too many rules, or two rules with the same id"},
};

const char *rl_error_text(int error)
{
	const char *text;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].error == error)
			return known[i].text;
	text = error < 0 && error > -4096 ? strerrordesc_np(-error) : NULL;
	return text != NULL ? text : "unknown error";
}

int rl_refuse(int error, char *why, const char *format, ...)
{
	va_list args;

	if (why != NULL) {
		va_start(args, format);
		vsnprintf(why, RL_WHY_MAX, format, args);
		va_end(args);
	}
	return error;
}
