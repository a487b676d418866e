/*
 * Goal:   ten hosts share one limit: never above it, nearly all of it used, fairly, and with few
 *         calls to Redis; and a flood that hits all of them cold stays within the rule's bound.
 * Method: real agents and Redis, Poisson traffic and bursts, every request recorded. Cases R8
 *         and R11 of cases.h.
 */
#include "tests/fleet/cases.h"

enum { HOSTS = 10, LIMIT = 1000 };

/* R8 */
static void test_fleet_hosts__ten_at_ten_times_the_limit_share_it_fairly(void **state)
{
	static const char *const rules[] = {"name: r, limit: 1000/s, consistency: strict", NULL};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .redis = AS_T50};
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r8-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 10 * LIMIT,
					      .flags = RL_MAY_WAIT,
					      .seed = t_seed()};
	const uint64_t seconds = fleet_is_slow_build() ? 3 : 12;
	struct fleet_part part = FLEET_WHOLE;
	double least = 100, most = 0, syncs;
	struct fleet_log log;
	struct verdict v;

	(void)state;
	fleet_start(&fleet, &spec);
	syncs = -(double)fleet_syncs(&fleet);
	fleet_load_run(&fleet, &traffic, seconds * SECOND, &log);
	syncs = (syncs + (double)fleet_syncs(&fleet)) / HOSTS / (double)seconds;
	v = judge_and_print("R8", &log, &part, LIMIT, SECOND);
	for (part.host = 0; part.host < HOSTS; part.host++) {
		double share = percent_of(fleet_admitted(&log, &part), v.allowed);

		least = share < least ? share : least;
		most = share > most ? share : most;
	}
	printf("# R8: a host's share %.1f .. %.1f %%, %.1f syncs/s/host\n", least, most, syncs);
	fleet_log_free(&log);
	assert_true(fleet_most(&v) <= LIMIT);
	if (fleet_is_slow_build())
		return;
	assert_true(v.allowed * 100 >= v.exact * 98);
	assert_true(least >= 8 && most <= 12);
	assert_true(syncs <= 60);
}

static int bursts;

/* 1000 requests to each host at once, of a key that nobody knows yet. */
static struct verdict burst(const char *rule, uint32_t threads, uint32_t flags)
{
	char key[32], name[48];
	const struct fleet_traffic traffic = {.rule = rule,
					      .key = key,
					      .keys = 1,
					      .threads = threads,
					      .at_once = LIMIT,
					      .flags = flags,
					      .seed = t_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_log log;
	struct verdict v;

	snprintf(key, sizeof(key), "r11-%s-%d-", rule, bursts++);
	snprintf(name, sizeof(name), "R11 %s", rule);
	fleet_load_run(&fleet, &traffic, 0, &log);
	v = judge_and_print(name, &log, &whole, LIMIT, SECOND);
	fleet_log_free(&log);
	return v;
}

/* R11 */
static void test_fleet_hosts__a_burst_on_ten_cold_hosts_stays_within_the_bound(void **state)
{
	static const char *const rules[] = {
		"name: strict, limit: 1000/s, consistency: strict, wait: 200ms",
		"name: deny, limit: 1000/s, consistency: bounded, beta: 10%, no_credit: deny",
		"name: allow, limit: 1000/s, consistency: bounded, beta: 10%, no_credit: allow",
		NULL,
	};
	const struct fleet_spec spec = {.hosts = HOSTS, .rules = rules, .redis = AS_T50};
	struct verdict strict, deny, allow;
	uint64_t most = 0;

	(void)state;
	fleet_start(&fleet, &spec);
	/* A host that gets no processor for 100 ms stops waiting: then another try, on a new key.
	 */
	for (int try = 0; try < 3; try++) {
		strict = burst("strict", 25, RL_MAY_WAIT);
		most = fleet_most(&strict) > most ? fleet_most(&strict) : most;
		if (strict.allowed == LIMIT)
			break;
	}
	deny = burst("deny", 2, 0);
	allow = burst("allow", 2, 0);
	assert_true(most <= LIMIT);
	assert_true(fleet_most(&deny) <= LIMIT + LIMIT / 10);
	assert_true(fleet_most(&allow) <= LIMIT + LIMIT / 5);
	assert_true(deny.allowed > 0 && allow.allowed > 0);
	if (!fleet_is_slow_build())
		assert_int_equal(strict.allowed, LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fleet_hosts__ten_at_ten_times_the_limit_share_it_fairly),
		CASE(test_fleet_hosts__a_burst_on_ten_cold_hosts_stays_within_the_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
