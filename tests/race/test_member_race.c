/*
 * Goal:   while workers count and rules go and come at the same index, nothing is lost from the
 *         totals, and nobody who reads a rule's numbers meanwhile sees more than were ever counted.
 * Method: threads that count through the public functions, an agent's step in a loop, a reader;
 *         the sums at the end are exact.
 */
#include "tests/t.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "client/rl.h"
#include "shm/rl_clock.h"
#include "shm/rl_member.h"

#define WORKERS 2
#define RUN_NS  (RL_SECOND_NS / 2)

static struct t_seg t;
static struct rl_client *client;
static struct rl_rule_spec spec[RL_RULES_MAX];
static _Atomic uint64_t allowed, limited, errors, published;
static _Atomic uint64_t wrong; /* readings above what was counted */
static atomic_bool stop;

static int setup(void **state)
{
	(void)state;
	t_seg_make(&t, 200);
	client = t_attach(&t);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(client);
	t_seg_drop(&t);
	return 0;
}

/* All places taken, so that the changing rule can only come to its own index. */
static void publish(uint32_t number)
{
	size_t other;

	for (uint32_t i = 0; i < RL_RULES_MAX; i++) {
		spec[i].terms = (struct rl_terms){1000000, 3600 * RL_SECOND_NS};
		snprintf(spec[i].name, sizeof(spec[i].name), "rule%u", i);
	}
	snprintf(spec[0].name, sizeof(spec[0].name), "turn%u", number);
	assert_int_equal(rl_rules_publish(&t.seg, spec, RL_RULES_MAX, &other), 0);
	atomic_store(&published, number);
}

static void *work(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop)) {
		char name[16];
		uint64_t rule;
		int got;

		snprintf(name, sizeof(name), "turn%u", (unsigned)atomic_load(&published));
		if (rl_rule(client, name, &rule) != 0)
			continue;
		got = rl_check(client, rule, "k", 1, 1, 0, NULL);
		atomic_fetch_add(got == RL_ALLOWED   ? &allowed
				 : got == RL_LIMITED ? &limited
						     : &errors,
				 1);
	}
	return NULL;
}

static void *look(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop)) {
		struct rl_rule_totals got;
		struct rl_rule rule;
		char name[16];
		uint64_t handle;

		snprintf(name, sizeof(name), "turn%u", (unsigned)atomic_load(&published));
		if (rl_rules_find(&t.seg.view, name, &handle) != 0 ||
		    rl_rules_read(&t.seg.view, handle, &rule) != 0)
			continue;
		rl_member_rule_totals(&t.seg.view, rule.index, rule.id, &got);
		/* Later than the numbers: what was counted by then is no less. */
		atomic_fetch_add(&wrong, got.allowed > atomic_load(&allowed) + WORKERS ||
						 got.limited > atomic_load(&limited) + WORKERS ||
						 got.errors > atomic_load(&errors) + WORKERS);
	}
	return NULL;
}

static void test_member_race__rules_that_go_and_come_lose_nothing(void **state)
{
	uint64_t end_ns = t_now_ns() + RUN_NS, sum;
	pthread_t thread[WORKERS + 1];
	struct rl_totals totals;
	uint32_t number = 0;

	(void)state;
	publish(0);
	for (int i = 0; i < WORKERS; i++)
		pthread_create(&thread[i], NULL, work, NULL);
	pthread_create(&thread[WORKERS], NULL, look, NULL);
	while (t_now_ns() < end_ns)
		publish(++number % 1000);
	atomic_store(&stop, true);
	for (int i = 0; i <= WORKERS; i++)
		pthread_join(thread[i], NULL);
	rl_member_totals(&t.seg.view, &totals);
	sum = atomic_load(&allowed) + atomic_load(&limited) + atomic_load(&errors);
	printf("# %u publishes, %llu checks\n", number, (unsigned long long)sum);
	assert_int_equal(totals.allowed, atomic_load(&allowed));
	assert_int_equal(totals.limited, atomic_load(&limited));
	assert_int_equal(totals.errors, atomic_load(&errors));
	assert_int_equal(atomic_load(&wrong), 0);
	assert_true(number > 10);
	assert_true(sum > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_member_race__rules_that_go_and_come_lose_nothing, setup, teardown),
	};

	return cmocka_run_group_tests_name("member_race", tests, NULL, NULL);
}
