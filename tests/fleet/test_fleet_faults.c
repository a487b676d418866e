/*
 * Goal:   whatever happens to agents and to their connections, the limit holds and each admit
 *         is in Redis exactly once.
 * Method: a fault proxy before each agent; agents killed by SIGKILL, each death confirmed.
 *         After the run and when it is quiet, every unit that Redis was ever told of is held
 *         against the admits recorded, key by key. Case R15 of cases.h, then each kind
 *         of fault alone over several keys.
 */
#include "tests/fleet/cases.h"

#define FAULTY "interval: 50ms, timeout: 200ms" /* a lost reply is waited for so long */

enum { HOSTS = 10, LIMIT = 1000, KEYS = 8 };

static void start(uint32_t hosts, const char *rule)
{
	static const char *rules[2];
	const struct fleet_spec spec = {
		.hosts = hosts, .rules = rules, .redis = FAULTY, .proxy = true};

	rules[0] = rule;
	fleet_start(&fleet, &spec);
}

/* Kill one agent after the other, each 100 ms, until then. */
static void kill_agents_until(uint64_t end_ns)
{
	uint64_t next = fleet_now_ns(&fleet) + 100 * MS;

	for (uint32_t host = 0; next < end_ns; host = (host + 1) % HOSTS, next += 100 * MS) {
		fleet_sleep_until(&fleet, next);
		fleet_kill_agent(&fleet, host);
		fleet_start_agent(&fleet, host);
	}
	fleet_sleep_until(&fleet, end_ns);
}

/*
 * A fault of replies that led to no call sent again would prove nothing. A cut at a moment of
 * its own rarely meets a call under way.
 */
static void show_resends(const char *name, bool must_be)
{
	uint64_t resends = fleet_resends(&fleet);

	printf("# %s: %llu syncs sent again\n", name, (unsigned long long)resends);
	assert_true(resends > 0 || !must_be);
}

static void run_r15(const char *name, const char *fault, bool replies, uint64_t ns)
{
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "r15-",
					      .keys = 1,
					      .threads = 4,
					      .per_second = 10 * LIMIT,
					      .flags = RL_MAY_WAIT,
					      .seed = t_seed()};
	const struct fleet_part whole = FLEET_WHOLE;
	struct fleet_load *load;
	struct fleet_log log;
	struct verdict v;

	start(HOSTS, "name: r, limit: 1000/s, consistency: strict");
	fleet_fault(&fleet, FLEET_ALL, fault);
	load = fleet_load_start(&fleet, &traffic);
	kill_agents_until(fleet_load_began_ns(load) + ns);
	fleet_load_end(load, &log);
	fleet_fault(&fleet, FLEET_ALL, "clear");
	show_resends(name, replies);
	v = judge_and_print(name, &log, &whole, LIMIT, SECOND);
	assert_all_in_redis(name, &log, "r15-", 1);
	fleet_log_free(&log);
	assert_true(fleet_most(&v) <= LIMIT);
}

static void test_fleet_faults__lost_replies_and_killed_agents_lose_and_double_nothing(void **state)
{
	(void)state;
	run_r15("R15 drop-reply 5", "drop-reply 5", true,
		(fleet_is_slow_build() ? 4 : 10) * SECOND);
}

static void
test_fleet_faults__cut_connections_and_killed_agents_lose_and_double_nothing(void **state)
{
	(void)state;
	run_r15("R15 cut-ms 200", "cut-ms 200", false, 3 * SECOND);
}

/* One kind of fault for 2 s; agents live, callers do not wait, and several keys are asked for. */
static void run_with(const char *fault, bool replies)
{
	const struct fleet_traffic traffic = {.rule = "r",
					      .key = "f-",
					      .keys = KEYS,
					      .threads = 2,
					      .per_second = 2 * KEYS * 200,
					      .seed = t_seed()};
	struct fleet_part part = FLEET_WHOLE;
	struct fleet_load *load;
	struct fleet_log log;
	bool within = true;

	start(3, "name: r, limit: 200/s, consistency: strict");
	fleet_fault(&fleet, FLEET_ALL, fault);
	load = fleet_load_start(&fleet, &traffic);
	fleet_sleep_until(&fleet, fleet_load_began_ns(load) + 2 * SECOND);
	fleet_load_end(load, &log);
	fleet_fault(&fleet, FLEET_ALL, "clear");
	show_resends(fault, replies);
	for (part.key = 0; part.key < KEYS; part.key++) {
		struct verdict v;

		fleet_judge(&log, &part, 200, SECOND, &v);
		within = within && fleet_most(&v) <= 200;
	}
	assert_all_in_redis(fault, &log, "f-", KEYS);
	fleet_log_free(&log);
	assert_true(within);
}

static void test_fleet_faults__delayed_replies_are_counted_once(void **state)
{
	(void)state;
	run_with("delay 20 15", false);
}

static void test_fleet_faults__dropped_replies_are_counted_once(void **state)
{
	(void)state;
	run_with("drop-reply 4", true);
}

static void test_fleet_faults__half_replies_are_counted_once(void **state)
{
	(void)state;
	run_with("half-reply 4", true);
}

static void test_fleet_faults__garbled_replies_are_counted_once(void **state)
{
	(void)state;
	run_with("garbage 4", true);
}

static void test_fleet_faults__cut_connections_are_counted_once(void **state)
{
	(void)state;
	run_with("cut-ms 70", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fleet_faults__lost_replies_and_killed_agents_lose_and_double_nothing),
		CASE(test_fleet_faults__cut_connections_and_killed_agents_lose_and_double_nothing),
		CASE(test_fleet_faults__delayed_replies_are_counted_once),
		CASE(test_fleet_faults__dropped_replies_are_counted_once),
		CASE(test_fleet_faults__half_replies_are_counted_once),
		CASE(test_fleet_faults__garbled_replies_are_counted_once),
		CASE(test_fleet_faults__cut_connections_are_counted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
