/*
 * Goal:   what all hosts together admitted is measured from their logs: nearly all of it, and never
 *         more, though each host knows the store's time only so well; and nothing is judged that
 *         was admitted under other terms, or before the store's clock moved.
 * Method: admits at known moments of the store's time, hosts whose clocks are off; logs of random
 *         bytes.
 */
#include "tests/t.h"

#include <stdlib.h>
#include <string.h>

#include "agent/watch/fleet.h"

#define MS    UINT64_C(1000000)
#define W     UINT64_C(1000000000)
#define HOSTS 4
#define MOST  1000

/* A host: its clock less the store's, and how well it knows that. */
struct host {
	struct audit_key key;
	struct fleet_time time;
	uint64_t off_ns;
};

static void host_begin(struct host *host, uint32_t limit, uint64_t off_ns, int64_t wrong_ns,
		       uint64_t by_ns)
{
	struct rl_fleet_terms terms = {.consistency = RL_STRICT};

	memset(host, 0, sizeof(*host));
	host->off_ns = off_ns;
	host->time = (struct fleet_time){-(int64_t)off_ns + wrong_ns, by_ns};
	host->key.rule =
		(struct rl_rule){.limit = limit, .window_ns = W, .fleet = rl_fleet_pack(&terms)};
	host->key.fleet_since_us = 1;
	log_begin(&host->key.log, W, 0);
}

/* At this moment of the store's time. */
static void admit(struct host *host, uint64_t at_ns, uint64_t early_ns, uint64_t late_ns)
{
	assert_true(log_add(&host->key.log, at_ns + host->off_ns - early_ns,
			    at_ns + host->off_ns + late_ns, 1));
	host->key.seen_ns = at_ns + host->off_ns;
}

/* All hosts' logs as of now, as the store hands them out. */
static size_t gather(struct host *host, uint32_t count, uint64_t now_ns, unsigned char *out)
{
	size_t size = 0;

	for (uint32_t h = 0; h < count; h++) {
		size_t len = fleet_write(&host[h].key, host[h].time, now_ns + host[h].off_ns, count,
					 out + size + 4);

		for (unsigned i = 0; i < 4; i++)
			out[size + i] = (unsigned char)(len >> (8 * i));
		size += 4 + len;
	}
	return size;
}

static uint64_t truth_of(const uint64_t *at_ns, uint32_t count)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t held = 0;

		for (uint32_t j = 0; j <= i; j++)
			held += at_ns[i] - at_ns[j] < W;
		most = held > most ? held : most;
	}
	return most;
}

static unsigned char logs[HOSTS * (4 + FLEET_LOG_MOST)];

static void test_audit_fleet__measures_nearly_all_and_never_more(void **state)
{
	uint64_t seed = t_seed(), measured = 0, truth = 0;

	(void)state;
	for (int run = 0; run < 100; run++) {
		static uint64_t at_ns[MOST];
		struct host host[HOSTS];
		uint64_t now_ns = 100 * W, by_ns = 1 + t_below(&seed, 2 * MS), most = 0;
		uint32_t count = 1 + (uint32_t)t_below(&seed, MOST);

		for (uint32_t h = 0; h < HOSTS; h++)
			host_begin(&host[h], 100, t_below(&seed, 1000 * W),
				   (int64_t)t_below(&seed, 2 * by_ns) - (int64_t)by_ns, by_ns);
		for (uint32_t i = 0; i < count; i++) {
			now_ns += t_below(&seed, 4 * MS);
			at_ns[i] = now_ns;
			admit(&host[t_below(&seed, HOSTS)], now_ns, t_below(&seed, MS),
			      t_below(&seed, MS));
		}
		fleet_judge(&host[0].key, logs, gather(host, HOSTS, now_ns + MS, logs), &most);
		assert_true(most <= truth_of(at_ns, count));
		measured += most;
		truth += truth_of(at_ns, count);
		for (uint32_t h = 0; h < HOSTS; h++)
			log_free(&host[h].key.log);
	}
	assert_true(measured * 100 > truth * 90);
}

static void test_audit_fleet__excess_of_two_hosts_that_each_keep_the_limit_is_found(void **state)
{
	struct host host[2];
	uint64_t most = 0, judged;

	(void)state;
	host_begin(&host[0], 10, 5 * W, 0, 1000);
	host_begin(&host[1], 10, 900 * W, 0, 1000);
	for (uint64_t i = 0; i < 10; i++) {
		admit(&host[0], 100 * W + i * 40 * MS, 1000, 1000);
		admit(&host[1], 100 * W + i * 40 * MS + 20 * MS, 1000, 1000);
	}
	judged = fleet_judge(&host[1].key, logs, gather(host, 2, 101 * W, logs), &most);
	assert_int_equal(most, 20);
	assert_int_equal(judged, 0); /* none of these windows began after the logs do */
	for (uint64_t i = 0; i < 3; i++)
		admit(&host[0], 102 * W + i * 40 * MS, 1000, 1000);
	judged = fleet_judge(&host[1].key, logs, gather(host, 2, 103 * W, logs), &most);
	assert_int_equal(most, 3); /* each window once */
	assert_int_equal(judged, 3);
	log_free(&host[0].key.log);
	log_free(&host[1].key.log);
}

/* Two admits a window apart, of hosts whose clocks are wrong by all they may be, towards each
 * other. */
static void test_audit_fleet__doubt_about_clocks_is_no_excess(void **state)
{
	struct host host[2];
	uint64_t most = 0;

	(void)state;
	host_begin(&host[0], 1, W, 2 * (int64_t)MS, 2 * MS);
	host_begin(&host[1], 1, 7 * W, -2 * (int64_t)MS, 2 * MS);
	admit(&host[0], 100 * W, 0, 0);
	admit(&host[1], 101 * W, 0, 0);
	fleet_judge(&host[0].key, logs, gather(host, 2, 102 * W, logs), &most);
	assert_int_equal(most, 1);
	log_free(&host[0].key.log);
	log_free(&host[1].key.log);
}

static void test_audit_fleet__other_terms_are_not_judged(void **state)
{
	struct host host[2];
	uint64_t most = 0;

	(void)state;
	host_begin(&host[0], 10, W, 0, 1000);
	host_begin(&host[1], 100, W, 0, 1000); /* has not reloaded yet */
	for (uint64_t i = 0; i < 50; i++)
		admit(&host[1], 100 * W + i * MS, 0, 0);
	admit(&host[0], 100 * W + 60 * MS, 0, 0);
	assert_int_equal(fleet_judge(&host[0].key, logs, gather(host, 2, 101 * W, logs), &most), 0);
	assert_int_equal(most, 0);
	log_free(&host[0].key.log);
	log_free(&host[1].key.log);
}

static void test_audit_fleet__nothing_of_before_the_clock_moved_is_judged(void **state)
{
	struct host host[2];
	uint64_t most = 0;

	(void)state;
	for (uint32_t h = 0; h < 2; h++) {
		host_begin(&host[h], 10, W, 0, 1000);
		for (uint64_t i = 0; i < 8; i++)
			admit(&host[h], 100 * W + i * MS, 0, 0);
	}
	fleet_begin_anew(&host[0].key, host[0].time, 101 * W + W);
	fleet_judge(&host[0].key, logs, gather(host, 2, 102 * W, logs), &most);
	assert_int_equal(most, 0);
	admit(&host[1], 106 * W + 1 * MS, 0, 0);
	fleet_judge(&host[0].key, logs, gather(host, 2, 107 * W, logs), &most);
	assert_int_equal(most, 1);
	log_free(&host[0].key.log);
	log_free(&host[1].key.log);
}

static void test_audit_fleet__many_hosts_show_short_logs(void **state)
{
	static unsigned char out[FLEET_LOG_MOST];
	struct host host;

	(void)state;
	host_begin(&host, 100000, W, 0, 1000);
	for (uint64_t i = 0; i < 200000; i++)
		admit(&host, 100 * W + i * 20000, 0, 0);
	assert_true(fleet_write(&host.key, host.time, 105 * W, 1, out) <= FLEET_LOG_MOST);
	assert_true(fleet_write(&host.key, host.time, 105 * W, 100, out) < 1024);
	assert_true(fleet_write(&host.key, host.time, 105 * W, UINT32_MAX, out) < 1024);
	log_free(&host.key.log);
}

static void test_audit_fleet__log_that_says_more_than_it_has_is_not_judged(void **state)
{
	struct host host;
	uint64_t most = 0;
	size_t size;

	(void)state;
	host_begin(&host, 10, W, 0, 1000);
	admit(&host, 100 * W, 0, 0);
	size = gather(&host, 1, 101 * W, logs);
	memcpy(logs + size, logs + size - 20, 20); /* what lies behind */
	logs[4 + 40] = 2;
	assert_int_equal(fleet_judge(&host.key, logs, size, &most), 0);
	assert_int_equal(most, 0);
	log_free(&host.key.log);
}

/* Under a sanitizer, which sees what is read beyond. */
static void test_audit_fleet__bytes_behind_the_last_log_are_no_log(void **state)
{
	struct host host;
	uint64_t most = 0;
	size_t size;

	(void)state;
	host_begin(&host, 10, W, 0, 1000);
	admit(&host, 100 * W, 0, 0);
	size = gather(&host, 1, 101 * W, logs);
	for (size_t more = 0; more < 4; more++) {
		unsigned char *copy = malloc(size + more);

		assert_non_null(copy);
		memset(copy, 0, size + more);
		memcpy(copy, logs, size);
		host.key.fleet_until_us = 0;
		most = 0;
		fleet_judge(&host.key, copy, size + more, &most);
		assert_int_equal(most, more == 0);
		free(copy);
	}
	log_free(&host.key.log);
}

static void test_audit_fleet__damaged_logs_are_not_judged(void **state)
{
	uint64_t seed = t_seed();
	struct host host;

	(void)state;
	host_begin(&host, 10, W, 0, 1000);
	for (uint64_t i = 0; i < 20; i++)
		admit(&host, 100 * W + i * MS, 0, 0);
	for (int run = 0; run < 20000; run++) {
		size_t size = gather(&host, 1, 101 * W, logs);
		uint64_t most = 0;

		for (uint64_t i = t_below(&seed, 4) + 1; i > 0; i--)
			logs[t_below(&seed, size)] = (unsigned char)t_random(&seed);
		size = run % 3 == 0 ? t_below(&seed, size) : size;
		fleet_judge(&host.key, logs, size, &most); /* ends, and reads nothing beyond */
		host.key.fleet_until_us = 0;
	}
	log_free(&host.key.log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_audit_fleet__measures_nearly_all_and_never_more),
		cmocka_unit_test(
			test_audit_fleet__excess_of_two_hosts_that_each_keep_the_limit_is_found),
		cmocka_unit_test(test_audit_fleet__doubt_about_clocks_is_no_excess),
		cmocka_unit_test(test_audit_fleet__other_terms_are_not_judged),
		cmocka_unit_test(test_audit_fleet__nothing_of_before_the_clock_moved_is_judged),
		cmocka_unit_test(test_audit_fleet__many_hosts_show_short_logs),
		cmocka_unit_test(test_audit_fleet__log_that_says_more_than_it_has_is_not_judged),
		cmocka_unit_test(test_audit_fleet__bytes_behind_the_last_log_are_no_log),
		cmocka_unit_test(test_audit_fleet__damaged_logs_are_not_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
