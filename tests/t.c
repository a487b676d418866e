#include "tests/t.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/rl.h"

/* Names of the last segment that was made: what a failed test leaves behind. */
static struct t_seg left;

static void remove_files(const struct t_seg *t)
{
	char alive[sizeof(t->path) + 8];

	snprintf(alive, sizeof(alive), "%s.alive", t->path);
	unlink(alive);
	unlink(t->path);
	rmdir(t->dir);
}

static void remove_left(void)
{
	remove_files(&left);
}

void t_seg_make(struct t_seg *t, uint64_t keys)
{
	const struct rl_segment_spec spec = {.keys = keys, .mode = 0660};

	t_seg_make_as(t, &spec);
}

void t_seg_make_as(struct t_seg *t, const struct rl_segment_spec *spec)
{
	static bool at_exit;
	char why[RL_WHY_MAX] = "";

	at_exit = at_exit || atexit(remove_left) == 0;
	remove_left();
	snprintf(t->dir, sizeof(t->dir), "/dev/shm/rl-test-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->path, sizeof(t->path), "%s/seg", t->dir);
	left = *t;
	if (rl_segment_create(t->path, spec, &t->seg, why) != 0)
		fail_msg("cannot create a segment: %s", why);
}

void t_seg_drop(struct t_seg *t)
{
	rl_segment_detach(&t->seg);
	remove_files(t);
}

int t_seg_setup(void **state, uint64_t keys)
{
	static struct t_seg t;

	t_seg_make(&t, keys);
	*state = &t;
	return 0;
}

int t_seg_teardown(void **state)
{
	t_seg_drop(*state);
	return 0;
}

void t_rules(struct rl_seg *seg, int count, ...)
{
	static struct rl_rule_spec spec[RL_RULES_MAX];
	size_t other;
	va_list args;

	memset(spec, 0, sizeof(spec));
	va_start(args, count);
	for (int i = 0; i < count; i++) {
		const char *text = va_arg(args, const char *), *space = strchr(text, ' ');

		memcpy(spec[i].name, text, (size_t)(space - text));
		assert_null(rl_terms_parse(space + 1, &spec[i].terms));
	}
	va_end(args);
	assert_int_equal(rl_rules_publish(seg, spec, (size_t)count, &other), 0);
}

uint64_t t_rule(const struct rl_view *view, const char *name)
{
	uint64_t handle = 0;

	assert_int_equal(rl_rules_find(view, name, &handle), 0);
	return handle;
}

struct rl_client *t_attach(const struct t_seg *t)
{
	struct rl_client *client = NULL;
	char why[RL_WHY_SIZE];

	if (rl_attach(t->path, &client, why) != 0)
		fail_msg("%s", why);
	return client;
}

uint64_t t_client_rule(struct rl_client *client, const char *name)
{
	uint64_t handle = 0;

	assert_int_equal(rl_rule(client, name, &handle), 0);
	return handle;
}

void *t_shared(size_t size)
{
	void *zeros = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(zeros != MAP_FAILED);
	return zeros;
}

void t_kill(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

uint64_t t_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t t_seed(void)
{
	static uint64_t seed;
	const char *given = getenv("SEED");

	if (seed == 0) {
		seed = given != NULL ? strtoull(given, NULL, 10) : t_now_ns();
		if (seed == 0)
			seed = 1;
		printf("# SEED=%llu\n", (unsigned long long)seed);
		fflush(stdout);
	}
	return seed;
}

uint64_t t_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static struct {
	char *page;
	size_t size;
	void (*step)(void *);
	void *arg;
	struct sigaction before;
} upon;

static void on_access(int number, siginfo_t *info, void *unused)
{
	const char *at = info->si_addr;

	(void)number, (void)unused;
	sigaction(SIGSEGV, &upon.before, NULL);
	if (at < upon.page || at >= upon.page + upon.size)
		return; /* a crash of its own: it comes again, and cmocka reports it */
	mprotect(upon.page, upon.size, PROT_READ | PROT_WRITE);
	upon.step(upon.arg);
}

void t_upon_access(const void *at, int prot, void (*step)(void *), void *arg)
{
	struct sigaction action = {.sa_sigaction = on_access, .sa_flags = SA_SIGINFO};

	if (t_under_tsan())
		fail_msg("the test would hang: ask t_under_tsan() first");
	upon.size = (size_t)sysconf(_SC_PAGESIZE);
	upon.page = (char *)((uintptr_t)at / upon.size * upon.size);
	upon.step = step;
	upon.arg = arg;
	assert_int_equal(sigaction(SIGSEGV, &action, &upon.before), 0);
	assert_int_equal(mprotect(upon.page, upon.size, prot), 0);
}

struct rl_slot *t_split_slot(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	return (void *)(pages + page - offsetof(struct rl_slot, ring));
}

bool t_under_tsan(void)
{
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
	printf("# left out under TSan:\n");
	return true;
#else
	return false;
#endif
}
