#include "client/preload/limiter.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/preload/real.h"
#include "client/rl.h"

#define RETRY_S   1    /* between two attempts to attach */
#define SILENT_MS 1000 /* an agent beats ten times a second */

static char segment[PATH_MAX];
static char rule_name[64];
static uint16_t port;

static struct rl_client *_Atomic client; /* NULL until attached */
static _Atomic uint64_t rule;
static _Atomic int64_t next_try_s;
static _Atomic uint64_t attached_file; /* inode; looked up before attaching */

static bool copy_env(const char *name, char *ret, size_t size)
{
	const char *value = secure_getenv(name);

	if (value == NULL || *value == '\0' || strlen(value) >= size)
		return false;
	memcpy(ret, value, strlen(value) + 1);
	return true;
}

/* False: RL_PORT is not a port, and which connections were meant cannot be guessed. */
static bool read_port(void)
{
	const char *text = secure_getenv("RL_PORT");
	unsigned long value = 0;

	if (text == NULL || *text == '\0')
		return true;
	for (const char *c = text; *c != '\0'; c++) {
		if (*c < '0' || *c > '9')
			return false;
		value = value * 10 + (unsigned long)(*c - '0');
		if (value > UINT16_MAX)
			return false;
	}
	port = (uint16_t)value;
	return value > 0;
}

static void complain_of_port(void)
{
	static const char line[] =
		"librl-preload.so: RL_PORT is not a port from 1 to 65535: nothing is limited\n";

	if (real()->write(STDERR_FILENO, line, sizeof(line) - 1) < 0)
		return; /* nobody to tell */
}

/* What lies at the segment's path; 0 = nothing. Relaxed: it only tells when to look closer. */
static uint64_t file_there(void)
{
	struct stat file;

	return stat(segment, &file) == 0 ? file.st_ino : 0;
}

/*
 * Attach to what lies at the path now. An older mapping is never unmapped: another thread may
 * be in a check of it. That is one mapping for each time a segment was replaced.
 */
static void try_to_attach(void)
{
	uint64_t file = file_there(), handle;
	struct rl_client *fresh;

	if (rl_attach(segment, &fresh, NULL) != 0)
		return;
	if (rl_rule(fresh, rule_name, &handle) != 0) {
		rl_detach(fresh); /* no such rule in force: it may come with a reload */
		return;
	}
	atomic_store_explicit(&attached_file, file, memory_order_relaxed);
	/* Relaxed: an old client finds the rule by its id, whatever the index in the handle. */
	atomic_store_explicit(&rule, handle, memory_order_relaxed);
	/* pairs[limiter.rel]: the handle and the rule are there before anyone asks. */
	atomic_store_explicit(&client, fresh, memory_order_release);
}

static struct rl_client *attached(void)
{
	/* pairs[limiter.acq]: with the client comes its rule. */
	return atomic_load_explicit(&client, memory_order_acquire);
}

void limiter_init(void)
{
	if (!copy_env("RL_RULE", rule_name, sizeof(rule_name)) ||
	    !copy_env("RL_SEGMENT", segment, sizeof(segment)))
		return;
	if (!read_port()) {
		rule_name[0] = '\0'; /* as without a rule */
		complain_of_port();
		return;
	}
	try_to_attach();
}

/* One thread a second gets to try; relaxed: it only paces. */
static bool my_turn(void)
{
	struct timespec now;
	int64_t due = atomic_load_explicit(&next_try_s, memory_order_relaxed);

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec >= due &&
	       atomic_compare_exchange_strong_explicit(&next_try_s, &due, now.tv_sec + RETRY_S,
						       memory_order_relaxed, memory_order_relaxed);
}

/* The agent is silent: has another one made a new segment at the path? */
static void follow_replacement(struct rl_client *now)
{
	uint64_t file;

	if (rl_agent_age_ms(now) < SILENT_MS || !my_turn())
		return;
	file = file_there();
	if (file != 0 && file != atomic_load_explicit(&attached_file, memory_order_relaxed))
		try_to_attach();
}

bool limiter_ready(void)
{
	struct rl_client *now = attached();

	if (now != NULL) {
		follow_replacement(now);
		return true;
	}
	if (rule_name[0] == '\0' || segment[0] == '\0' || !my_turn())
		return false;
	try_to_attach();
	return attached() != NULL;
}

uint16_t limiter_port(void)
{
	return port;
}

bool limiter_allows(const struct conn *conn, uint64_t *ret_retry_after_s)
{
	struct rl_client *now = attached();
	struct rl_result result;

	if (now == NULL || rl_check(now, atomic_load_explicit(&rule, memory_order_relaxed),
				    conn->key, conn->key_len, 1, 0, &result) != RL_LIMITED)
		return true;
	*ret_retry_after_s = (result.retry_after_ns + 999999999) / 1000000000;
	if (*ret_retry_after_s == 0)
		*ret_retry_after_s = 1;
	return false;
}
