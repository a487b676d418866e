#include "agent/sync/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define RANDOM_BITS 12 /* of an epoch; above them milliseconds: below 2^53 until the year 2039 */

/* Relaxed, both: the agent's own, and text for tools. */
static void read_text(const _Atomic uint64_t word[RL_NAME_WORDS], char ret[RL_NAME_MAX + 1])
{
	for (size_t i = 0; i < RL_NAME_WORDS; i++) {
		uint64_t bytes = atomic_load_explicit(&word[i], memory_order_relaxed);

		memcpy(ret + 8 * i, &bytes, sizeof(bytes));
	}
	ret[RL_NAME_MAX] = '\0';
}

static void write_text(_Atomic uint64_t word[RL_NAME_WORDS], const char *text)
{
	char padded[RL_NAME_MAX + 1] = {0};

	memcpy(padded, text, strlen(text));
	for (size_t i = 0; i < RL_NAME_WORDS; i++) {
		uint64_t bytes;

		memcpy(&bytes, padded + 8 * i, sizeof(bytes));
		atomic_store_explicit(&word[i], bytes, memory_order_relaxed);
	}
}

uint64_t identity_random(void)
{
	uint64_t bits;

	return getrandom(&bits, sizeof(bits), 0) == sizeof(bits) ? bits : 0;
}

static uint64_t new_epoch(void)
{
	struct timespec now;
	uint64_t bits = identity_random(), ms;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	if (bits == 0)
		return 0;
	return (ms << RANDOM_BITS | bits >> (64 - RANDOM_BITS)) & ((UINT64_C(1) << 53) - 1);
}

/* The one of before, if it can be one; else a made one. */
static bool choose_host(const char *kept, const char *wanted, char ret[RL_NAME_MAX + 1])
{
	uint64_t bits = identity_random();

	if (*wanted != '\0')
		snprintf(ret, RL_NAME_MAX + 1, "%s", wanted);
	else if (*kept != '\0' && rl_name_fault(kept) == NULL)
		snprintf(ret, RL_NAME_MAX + 1, "%s", kept);
	else
		snprintf(ret, RL_NAME_MAX + 1, "h%016" PRIx64, bits);
	return bits != 0;
}

/* What people need to find the process: the row says the rest. */
static void describe(const char *path, struct identity *ret)
{
	char name[RL_NAME_MAX + 1] = "?";

	gethostname(name, sizeof(name) - 1);
	snprintf(ret->about, sizeof(ret->about), "%s pid %ld segment %s", name, (long)getpid(),
		 path);
}

static void begin_epoch(struct rl_seg *seg, uint64_t epoch)
{
	/* Killed between: seq 1 of an epoch that Redis has not seen is as good as another. */
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		atomic_store_explicit(&seg->fleet->part[p].seq, 1, memory_order_relaxed);
		atomic_store_explicit(&seg->fleet->part[p].sent_ns, 0, memory_order_relaxed);
	}
	atomic_store_explicit(&seg->fleet->epoch, epoch,
			      memory_order_release); /* pairs[epoch.rel] */
}

static void name_row(uint64_t epoch, struct identity *identity)
{
	snprintf(identity->row, sizeof(identity->row), "%s:%" PRIu64, identity->host, epoch);
}

bool identity_renew(struct rl_seg *seg, struct identity *identity)
{
	uint64_t epoch = new_epoch();

	if (epoch == 0)
		return false;
	begin_epoch(seg, epoch);
	name_row(epoch, identity);
	return true;
}

bool identity_open(struct rl_seg *seg, const char *fleet, const char *host, const char *path,
		   struct identity *ret, bool *ret_good)
{
	/* pairs[epoch.acq]: an epoch that is there has its sequence numbers. */
	uint64_t epoch = atomic_load_explicit(&seg->fleet->epoch, memory_order_acquire);
	char kept_host[RL_NAME_MAX + 1], kept_fleet[RL_NAME_MAX + 1];
	bool same;

	memset(ret, 0, sizeof(*ret));
	read_text(seg->fleet->host, kept_host);
	read_text(seg->fleet->fleet, kept_fleet);
	*ret_good = choose_host(kept_host, host, ret->host);
	snprintf(ret->fleet, sizeof(ret->fleet), "%s", fleet);
	describe(path, ret);
	same = epoch != 0 && strcmp(kept_host, ret->host) == 0 &&
	       strcmp(kept_fleet, ret->fleet) == 0;
	if (same)
		name_row(epoch, ret);
	else if (*ret_good)
		*ret_good = identity_renew(seg, ret);
	write_text(seg->fleet->host, ret->host);
	write_text(seg->fleet->fleet, ret->fleet);
	return !same;
}
