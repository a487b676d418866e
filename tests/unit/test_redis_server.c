/*
 * Goal:   what a server says of itself in INFO is read as meant, whoever wrote it, and leads to the
 *         right words; what it does not say is no reason to refuse it.
 * Method: tables of answers as servers give them, and of broken ones; any bytes at all.
 */
#include "tests/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/redis/server.h"

#define REDIS7 \
	"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\r\n# Memory\r\n" \
	"maxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\n"
#define TAIL "# Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n"

static void read_info(const char *info, struct redis_server *ret)
{
	size_t size = strlen(info);
	char *exact = malloc(size + 1); /* so that a sanitizer sees a byte read behind it */

	assert_non_null(exact);
	memcpy(exact, info, size);
	redis_server_read(exact, size, ret);
	free(exact);
}

static void test_redis_server__who_it_is_and_whether_it_can_be_used(void **unused)
{
	static const struct {
		const char *info, *who, *why; /* why NULL: it can */
	} known[] = {
		{REDIS7 TAIL, "redis 7.0.15", NULL},
		{"redis_version:5.0.0\r\n", "redis 5.0.0", NULL},
		{"redis_version:10.1\r\n", "redis 10.1", NULL},
		{"redis_version:4.9.9\r\n", "redis 4.9.9", "need Redis 5 or later, or Valkey"},
		{"redis_version:2.8\r\n", "redis 2.8", "the server is redis 2.8: its scripts"},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n",
		 "valkey 8.0.1", NULL},
		{REDIS7 "role:slave\r\n", "redis 7.0.15", "is a replica, which only reads"},
		{REDIS7 "role:replica", "redis 7.0.15", "is a replica, which only reads"},
		{REDIS7 "cluster_enabled:1\n", "redis 7.0.15", "is a node of a cluster: name"},
		{"redis_mode:cluster\r\n", "redis ", "is a node of a cluster: name"},
		{"redis_version:7.0.1\r\nredis_mode:sentinel\r\n", "redis 7.0.1", "is a Sentinel"},
		{"server_mode:sentinel\r\nvalkey_version:8.0.1\r\n", "valkey 8.0.1",
		 "is a Sentinel"},
		{"", "redis ", NULL},
		{"\r\n:\r\nrole\r\nxrole:slave\r\nrole_:slave\r\n role:slave\r\nrole:slaves\r\n",
		 "redis ", NULL},
		{"redis_version:\r\nredis_version:1\r\n", "redis ", NULL}, /* the first */
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct redis_server server;
		char who[64], why[256] = "untouched";
		bool refused;

		read_info(known[i].info, &server);
		snprintf(who, sizeof(who), "%s %s", server.name, server.version);
		assert_string_equal(who, known[i].who);
		refused = redis_server_refusal(&server, REDIS_ALONE, why, sizeof(why));
		assert_int_equal(refused, known[i].why != NULL);
		if (strstr(why, known[i].why != NULL ? known[i].why : "untouched") == NULL)
			fail_msg("%s: %s", known[i].info, why);
	}
}

static void test_redis_server__node_of_a_cluster_is_one_and_a_primary_or_asked_only(void **unused)
{
	static const struct {
		const char *info;
		const char *why[3]; /* alone, a node, a guide; NULL: it will do */
	} known[] = {
		{REDIS7 "cluster_enabled:1\r\nrole:master", {"of a cluster", NULL, NULL}},
		{REDIS7 "cluster_enabled:1\r\nrole:slave",
		 {"of a cluster", "a replica by now", NULL}},
		{REDIS7 "cluster_enabled:0\r\n",
		 {NULL, "not in cluster mode", "not in cluster mode"}},
		{"redis_version:7.0\r\n", {NULL, NULL, NULL}}, /* it does not say */
		{"redis_version:4.0\r\ncluster_enabled:1\r\n", {"Redis 5", "Redis 5", "Redis 5"}},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		for (int use = REDIS_ALONE; use <= REDIS_GUIDE; use++) {
			const char *want = known[i].why[use];
			struct redis_server server;
			char why[256] = "";

			read_info(known[i].info, &server);
			assert_int_equal(redis_server_refusal(&server, (enum redis_use)use, why,
							      sizeof(why)),
					 want != NULL);
			if (want != NULL && strstr(why, want) == NULL)
				fail_msg("%s: %s", known[i].info, why);
		}
}

static void test_redis_server__what_should_be_known_and_what_is_fine(void **unused)
{
	static const struct {
		const char *info, *said; /* E evicts, F forgets */
	} known[] = {
		{"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n", ""},
		{"maxmemory:1\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n", "E"},
		{"maxmemory:104857600\r\nmaxmemory_policy:volatile-ttl\r\n", "E"},
		{"maxmemory:1\r\nmaxmemory_policy:noeviction\r\n", ""},
		{"maxmemory:1\r\n", ""},
		{"maxmemory_policy:allkeys-lru\r\n", ""},
		{"aof_enabled:0\r\n", "F"},
		{"aof_enabled:1\r\n", ""},
		{"maxmemory:1\r\nmaxmemory_policy:allkeys-lfu\r\naof_enabled:0\r\n", "EF"},
		{"", ""},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct redis_server server;
		char said[8] = "", text[256];

		read_info(known[i].info, &server);
		assert_false(redis_server_notice(&server, NOTICE_UNKNOWN, text, sizeof(text)));
		if (redis_server_notice(&server, NOTICE_EVICTS, text, sizeof(text)))
			strcat(said, "E");
		if (redis_server_notice(&server, NOTICE_FORGETS, text, sizeof(text)))
			strcat(said, "F");
		assert_string_equal(said, known[i].said);
	}
}

static void test_redis_server__that_does_not_say_is_used_and_nothing_is_made_up(void **unused)
{
	struct redis_server server;
	char text[256];

	(void)unused;
	redis_server_unknown("NOPERM no", &server);
	assert_false(redis_server_refusal(&server, REDIS_ALONE, text, sizeof(text)));
	assert_false(redis_server_notice(&server, NOTICE_EVICTS, text, sizeof(text)));
	assert_false(redis_server_notice(&server, NOTICE_FORGETS, text, sizeof(text)));
	assert_true(redis_server_notice(&server, NOTICE_UNKNOWN, text, sizeof(text)));
	assert_non_null(strstr(text, "could not be looked at: INFO is answered NOPERM no"));
}

static void test_redis_server__any_bytes_are_read_within_their_bounds(void **unused)
{
	static const char *const pieces[] = {
		"role", ":",  "\r",         "\n", "redis_version", "slave", "maxmemory_policy",
		"9",    "\0", "aof_enabled"};
	uint64_t seed = t_seed();

	(void)unused;
	for (int i = 0; i < 20000; i++) {
		size_t count = t_below(&seed, 20), size = 0;
		char *bytes = malloc(400), text[256];
		struct redis_server server;

		assert_non_null(bytes);
		for (size_t k = 0; k < count; k++) {
			const char *piece = pieces[t_below(&seed, 10)];
			size_t length = piece[0] == '\0' ? 1 : strlen(piece);

			memcpy(bytes + size, piece, length);
			size += length;
		}
		bytes = realloc(bytes, size > 0 ? size : 1);
		redis_server_read(bytes, size, &server);
		redis_server_refusal(&server, REDIS_ALONE, text, sizeof(text));
		for (int n = 0; n < NOTICES; n++)
			redis_server_notice(&server, (enum redis_notice)n, text, sizeof(text));
		free(bytes);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis_server__who_it_is_and_whether_it_can_be_used),
		cmocka_unit_test(
			test_redis_server__node_of_a_cluster_is_one_and_a_primary_or_asked_only),
		cmocka_unit_test(test_redis_server__what_should_be_known_and_what_is_fine),
		cmocka_unit_test(
			test_redis_server__that_does_not_say_is_used_and_nothing_is_made_up),
		cmocka_unit_test(test_redis_server__any_bytes_are_read_within_their_bounds),
	};

	return cmocka_run_group_tests_name("redis_server", tests, NULL, NULL);
}
