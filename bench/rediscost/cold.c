#include "bench/rediscost/cold.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/bench.h"
#include "shm/rl_check.h"
#include "shm/rl_rules.h"

#define SECOND UINT64_C(1000000000)

enum { NEW_PER_SECOND = 3000, TIMES_MAX = 3 };

struct request {
	uint64_t at_ns;
	uint32_t address;
};

static int by_time(const void *a, const void *b)
{
	const struct request *left = a, *right = b;

	return (left->at_ns > right->at_ns) - (left->at_ns < right->at_ns);
}

/* All requests, in order; *ret_count of them. */
static struct request *plan(uint32_t *ret_count)
{
	struct request *request = malloc((size_t)COLD_KEYS * TIMES_MAX * sizeof(*request));
	uint64_t seed = 20261122;
	uint32_t count = 0;

	if (request == NULL)
		bench_die("no memory for the requests");
	for (uint32_t address = 0; address < COLD_KEYS; address++) {
		uint64_t at_ns = address * SECOND / NEW_PER_SECOND;
		uint32_t times = 1 + (uint32_t)(bench_random(&seed) % TIMES_MAX);

		for (uint32_t i = 0; i < times; i++) {
			request[count++] = (struct request){at_ns, address};
			at_ns += bench_random(&seed) % SECOND;
		}
	}
	qsort(request, count, sizeof(*request), by_time);
	*ret_count = count;
	return request;
}

static void check(struct fleet *fleet, struct rl_member *const *member, const uint64_t *handle,
		  uint32_t address)
{
	uint32_t host = address % fleet->spec.hosts;
	struct rl_answer answer;
	char key[16];
	size_t len = (size_t)snprintf(key, sizeof(key), "10.%u.%u.%u", address >> 16,
				      address >> 8 & 255, address & 255);
	int got = rl_check_spend(&fleet->host[host].seg, member[host], handle[host], key, len, 1, 0,
				 &answer);

	if (got != 1)
		bench_die("an address was refused");
}

uint64_t cold_run(struct fleet *fleet, const char *rule)
{
	struct rl_member *member[FLEET_HOSTS_MAX];
	uint64_t handle[FLEET_HOSTS_MAX], begin_ns;
	struct request *request;
	uint32_t count;

	request = plan(&count);
	for (uint32_t h = 0; h < fleet->spec.hosts; h++) {
		if (rl_rules_find(&fleet->host[h].seg.view, rule, &handle[h]) != 0)
			bench_die("a host does not have the rule");
		member[h] = rl_member_take(&fleet->host[h].seg, (uint64_t)getpid());
	}
	begin_ns = bench_now_ns();
	for (uint32_t i = 0; i < count; i++) {
		fleet_sleep_until(fleet, begin_ns + request[i].at_ns);
		check(fleet, member, handle, request[i].address);
	}
	fleet_sleep_until(fleet, bench_now_ns() + SECOND / 2);
	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		rl_member_give(member[h], (uint64_t)getpid());
	free(request);
	return count;
}
