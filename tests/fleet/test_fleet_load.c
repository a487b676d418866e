/*
 * Goal:   a Redis that answers slowly is asked less often, visibly and in steps, and the limit
 *         holds; when it is back it is not stormed. Who waited for credit is charged at once.
 * Method: real agents behind fault proxies that delay answers; a Redis that is stopped for a
 *         while; what Redis knows of a key right after its one check.
 */
#include "tests/fleet/cases.h"

#include <stdlib.h>
#include <unistd.h>

#include "bench/fleet/load.h"
#include "shm/rl_check.h"
#include "shm/rl_fleet.h"
#include "shm/rl_rules.h"

enum { LIMIT = 200, HOSTS = 3, WAITERS = 21 };

static struct fleet fleet;

static int end_fleet(void **state)
{
	(void)state;
	fleet_stop(&fleet);
	return 0;
}

static void start(const char *rule, uint32_t hosts)
{
	const char *const rules[] = {rule, NULL};
	const struct fleet_spec spec = {.hosts = hosts, .rules = rules, .proxy = true};

	fleet_start(&fleet, &spec);
}

/* The lowest level of all hosts, and the highest. */
static void levels(uint64_t *ret_low, uint64_t *ret_high)
{
	*ret_low = UINT64_MAX;
	*ret_high = 0;
	for (uint32_t h = 0; h < fleet.spec.hosts; h++) {
		uint64_t level = atomic_load(&fleet.host[h].seg.fleet->slowed);

		*ret_low = level < *ret_low ? level : *ret_low;
		*ret_high = level > *ret_high ? level : *ret_high;
	}
}

/* Until all hosts have this level or more (up), or less. Returns how long it took. */
static double wait_for_level(uint64_t wanted, bool up)
{
	uint64_t began_ns = fleet_now_ns(&fleet), low, high;

	do {
		fleet_sleep_until(&fleet, fleet_now_ns(&fleet) + 10 * MS);
		levels(&low, &high);
		if (fleet_now_ns(&fleet) - began_ns > 20000 * MS)
			break;
	} while (up ? low < wanted : high > wanted);
	assert_true(up ? low >= wanted : high <= wanted);
	return (double)(fleet_now_ns(&fleet) - began_ns) / 1e6;
}

static struct fleet_load *load(uint32_t keys, double per_second)
{
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "k",
					      .keys = keys,
					      .threads = 1,
					      .per_second = per_second,
					      .seed = t_seed()};

	return fleet_load_start(&fleet, &traffic);
}

static void assert_limit_held(const struct fleet_log *log, uint32_t keys)
{
	for (uint32_t k = 0; k < keys; k++) {
		const struct fleet_part part = {0, UINT64_MAX, FLEET_ALL, (int)k};
		struct verdict verdict;

		fleet_judge(log, &part, LIMIT, 1000 * MS, &verdict);
		assert_true(fleet_most(&verdict) <= LIMIT);
	}
}

static void test_fleet_load__slow_answers_are_asked_for_less_often_until_they_are_not(void **state)
{
	struct fleet_load *sent;
	struct fleet_log log;
	double rise_ms, fall_ms;

	(void)state;
	start("name: r, limit: 200/s, consistency: strict", HOSTS);
	sent = load(8, 8 * 2 * LIMIT);
	fleet_sleep_until(&fleet, fleet_now_ns(&fleet) + 500 * MS);
	fleet_fault(&fleet, FLEET_ALL, "delay 60");
	rise_ms = wait_for_level(4, true); /* by then all keys are slowed */
	fleet_fault(&fleet, FLEET_ALL, "clear");
	fall_ms = wait_for_level(0, false);
	fleet_load_end(sent, &log);
	printf("# all keys slowed after %.0f ms, none %.0f ms after the end; %llu admitted\n",
	       rise_ms, fall_ms, (unsigned long long)fleet_admitted(&log, &FLEET_WHOLE));
	assert_limit_held(&log, 8);
	assert_true(fleet_admitted(&log, &FLEET_WHOLE) > 8 * LIMIT);
	fleet_log_free(&log);
}

static uint64_t syncs_in_100_ms(void)
{
	uint64_t before = fleet_syncs(&fleet);

	fleet_sleep_until(&fleet, fleet_now_ns(&fleet) + 100 * MS);
	return fleet_syncs(&fleet) - before;
}

/* All keys have something to tell, and one call of each partition is under way, sent again. */
static void test_fleet_load__a_redis_that_is_back_is_not_stormed(void **state)
{
	struct fleet_load *sent;
	struct fleet_log log;
	uint64_t before, after;

	(void)state;
	start("name: r, limit: 200/s, consistency: strict", HOSTS);
	sent = load(250, 10000);
	fleet_sleep_until(&fleet, fleet_now_ns(&fleet) + 1000 * MS);
	before = syncs_in_100_ms();
	fleet_stop_redis(&fleet);
	fleet_sleep_until(&fleet, fleet_now_ns(&fleet) + 1000 * MS);
	fleet_continue_redis(&fleet);
	after = syncs_in_100_ms();
	fleet_load_end(sent, &log);
	printf("# %llu calls in 100 ms before, %llu in the first 100 ms after\n",
	       (unsigned long long)before, (unsigned long long)after);
	assert_limit_held(&log, 250);
	if (!fleet_is_slow_build())
		assert_true(after <= 2 * before + 2 * HOSTS * RL_PARTS);
	fleet_log_free(&log);
}

/* From a check that waited for its credit until Redis knows that it was used; T is 100 ms. */
static double charged_after_ms(uint64_t rule, struct rl_member *member, int number)
{
	struct rl_answer answer;
	char key[16];
	int len = snprintf(key, sizeof(key), "w%d", number);
	uint64_t used_ns;

	assert_int_equal(rl_check_spend(&fleet.host[0].seg, member, rule, key, (size_t)len, 1,
					RL_MAY_WAIT, &answer),
			 1);
	used_ns = fleet_now_ns(&fleet);
	while (fleet_total(&fleet, key) == 0)
		assert_true(fleet_now_ns(&fleet) - used_ns < 5000 * MS);
	return (double)(fleet_now_ns(&fleet) - used_ns) / 1e6;
}

static void test_fleet_load__who_waited_for_credit_is_charged_at_once(void **state)
{
	struct rl_member *member;
	double ms[WAITERS], median;
	uint64_t rule;

	(void)state;
	start("name: r, limit: 1000/60s, consistency: strict, wait: 500ms", 1);
	rule = bench_rule(&fleet.host[0].seg.view, "r");
	member = rl_member_take(&fleet.host[0].seg, (uint64_t)getpid());
	for (int i = 0; i < WAITERS; i++)
		ms[i] = charged_after_ms(rule, member, i);
	rl_member_give(member, (uint64_t)getpid());
	median = bench_median(ms, WAITERS);
	printf("# charged after %.1f ms, at most %.1f\n", median, ms[WAITERS - 1]);
	if (!fleet_is_slow_build())
		assert_true(median < 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(
			test_fleet_load__slow_answers_are_asked_for_less_often_until_they_are_not,
			end_fleet),
		cmocka_unit_test_teardown(test_fleet_load__a_redis_that_is_back_is_not_stormed,
					  end_fleet),
		cmocka_unit_test_teardown(test_fleet_load__who_waited_for_credit_is_charged_at_once,
					  end_fleet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
