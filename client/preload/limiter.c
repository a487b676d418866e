#include "client/preload/limiter.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/preload/real.h"
#include "client/rl.h"

#define RETRY_S 1 /* between two looks for the segment and its rule */

static char segment[PATH_MAX];
static char rule_name[64];
static uint16_t port;

static struct rl_client *client; /* NULL: nothing is limited, ever; set in the constructor */
static _Atomic uint64_t rule;
static _Atomic bool ready; /* there is a segment, and rule is its; pairs[limiter] */
static _Atomic int64_t next_try_s;

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

/*
 * A segment with our rule in force; it may come with a reload. From then on librl follows by itself
 * whatever becomes of both. Two threads, a second apart, write the same handle: it is known by the
 * name, whatever its index.
 */
static bool look_for_rule(void)
{
	uint64_t handle;

	if (rl_refresh(client, NULL) < 0 || rl_rule(client, rule_name, &handle) != 0)
		return false;
	atomic_store_explicit(&rule, handle, memory_order_relaxed);
	/* pairs[limiter.rel]: the rule is there before anyone asks. */
	atomic_store_explicit(&ready, true, memory_order_release);
	return true;
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
	if (rl_open(segment, &client, NULL) == 0)
		look_for_rule();
}

bool limiter_ready(void)
{
	/* pairs[limiter.acq]: with the word comes the rule. */
	if (atomic_load_explicit(&ready, memory_order_acquire))
		return true;
	return client != NULL && my_turn() && look_for_rule();
}

uint16_t limiter_port(void)
{
	return port;
}

bool limiter_allows(const struct conn *conn, uint64_t *ret_retry_after_s)
{
	struct rl_result result;

	/* Relaxed: limiter_ready() has been true, or there would be no conn. */
	if (rl_check(client, atomic_load_explicit(&rule, memory_order_relaxed), conn->key,
		     conn->key_len, 1, 0, &result) != RL_LIMITED)
		return true;
	*ret_retry_after_s = (result.retry_after_ns + 999999999) / 1000000000;
	if (*ret_retry_after_s == 0)
		*ret_retry_after_s = 1;
	return false;
}
