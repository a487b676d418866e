/*
 * t.h - what the C tests share: cmocka, a segment of their own, a seeded random source.
 *
 * Names: test_<module>__<situation>_<result>. Each test file opens with Goal and Method.
 */
#ifndef TESTS_T_H
#define TESTS_T_H

/* cmocka wants these before itself; the blank line keeps the formatter from sorting it in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "shm/rl_rules.h"
#include "shm/rl_segment.h"

/* A new segment in a folder of its own under /dev/shm; the test fails when it cannot be. */
struct t_seg {
	char dir[64];
	char path[96];
	struct rl_seg seg;
};
void t_seg_make(struct t_seg *t, uint64_t keys);
void t_seg_make_as(struct t_seg *t, const struct rl_segment_spec *spec);
void t_seg_drop(struct t_seg *t);

/* A group's fixture: *state is a segment of its own for this many keys. */
int t_seg_setup(void **state, uint64_t keys);
int t_seg_teardown(void **state);

struct rl_client;

/* A client of the segment, and the handle of a rule of it; both must be there. */
struct rl_client *t_attach(const struct t_seg *t);
uint64_t t_client_rule(struct rl_client *client, const char *name);

/* Publish rules: "name limit" each, e.g. t_rules(&seg, 2, "a 5/10s", "b 100/minute"). */
void t_rules(struct rl_seg *seg, int count, ...);

/* Handle of a rule that must exist. */
uint64_t t_rule(const struct rl_view *view, const char *name);

/*
 * Random numbers (xorshift64*). The seed is $SEED or the clock's, printed once so that a
 * failure can be run again with SEED=n.
 */
uint64_t t_seed(void);
uint64_t t_random(uint64_t *state);
static inline uint64_t t_below(uint64_t *state, uint64_t bound)
{
	return t_random(state) % bound;
}

/* Zeros that this process shares with those it forks. */
void *t_shared(size_t size);

/* SIGKILL a child, and see that this is what it died of. */
void t_kill(pid_t pid);

/* Nanoseconds, CLOCK_MONOTONIC. */
uint64_t t_now_ns(void);

/*
 * Another process's step at an exact moment: just before the next access to the page of at
 * that prot forbids (PROT_NONE: any; PROT_READ: a write), step(arg) runs, once. It is called
 * from a SIGSEGV handler: what it asserts must hold.
 */
void t_upon_access(const void *at, int prot, void (*step)(void *), void *arg);

/* A zeroed slot whose head ends one page and whose ring begins the next; stays mapped. */
struct rl_slot *t_split_slot(void);

/* Then that test must return at once: TSan's runtime holds locks during an access. Says so. */
bool t_under_tsan(void);

#endif
