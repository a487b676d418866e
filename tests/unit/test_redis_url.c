/*
 * Goal:   every way to write an address is read as meant, any other is refused with its reason.
 * Method: tables of both.
 */
#include "tests/t.h"

#include <string.h>

#include "agent/redis/url.h"

static void test_redis_url__good_ones_are_read_and_written_back(void **unused)
{
	static const struct {
		const char *text, *back;
	} good[] = {
		{"unix:///run/redis.sock", "unix:/run/redis.sock"},
		{"unix:/run/redis.sock", "unix:/run/redis.sock"},
		{"redis://127.0.0.1:6380", "redis://127.0.0.1:6380"},
		{"redis://cache-1.example.org", "redis://cache-1.example.org:6379"},
		{"redis://[::1]:6380", "redis://[::1]:6380"},
		{"redis://[2001:db8::1]", "redis://[2001:db8::1]:6379"},
		{"localhost:1", "redis://localhost:1"},
		{"localhost:65535", "redis://localhost:65535"},
		{"localhost", "redis://localhost:6379"},
		{"[::1]", "redis://[::1]:6379"},
		{"rediss://h", "rediss://h:6379"},
		{"rediss://[::1]:1/2", "rediss://[::1]:1/2"},
		{"redis://h/0", "redis://h:6379"},
		{"redis://h:6379/", "redis://h:6379"},
		{"redis://h/3", "redis://h:6379/3"},
		{"[::1]:1/65535", "redis://[::1]:1/65535"},
		{"h/07", "redis://h:6379/7"},
		{"unix:/r.sock?db=3", "unix:/r.sock?db=3"},
		{"unix:///r.sock?db=0", "unix:/r.sock"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct redis_address address, again;
		char text[REDIS_URL_MAX];

		assert_null(redis_url_parse(good[i].text, &address));
		assert_string_equal(redis_url_format(&address, text), good[i].back);
		assert_null(redis_url_parse(text, &again));
		assert_memory_equal(&address, &again, sizeof(again));
	}
}

static void test_redis_url__others_are_refused_with_a_reason(void **unused)
{
	static const struct {
		const char *text, *reason;
	} bad[] = {
		{"rediss://user:pw@host", "does not stand in the url"},
		{"rediss:host", "the port is a number"},
		{"redis://user:pw@host", "but in redis.user and redis.password_file"},
		{"redis://:pw@host", "does not stand in the url"},
		{"redis://host/x", "the database is a number"},
		{"redis://host/-1", "the database is a number"},
		{"redis://host/65536", "the database is a number"},
		{"redis://host/1/2", "the database is a number"},
		{"redis://host:1/1x", "the database is a number"},
		{"redis://host:/1", "the port is a number"},
		{"unix:/r?db=", "the database is a number"},
		{"unix:/r?db=1&x=2", "the database is a number"},
		{"unix:/r?", "only db=N is known"},
		{"unix:/r?database=1", "only db=N is known"},
		{"http://host", "begins with redis://, rediss://, sentinel:// or unix:"},
		{"/run/redis.sock", "written unix:/PATH"},
		{"unix:", "begins with '/'"},
		{"unix:redis.sock", "begins with '/'"},
		{"unix://redis.sock", "begins with '/'"},
		{"", "a host is missing"},
		{"redis://", "a host is missing"},
		{"redis://:6379", "a host is missing"},
		{":6379", "a host is missing"},
		{"redis://a host", "a host has letters"},
		{"redis://::1", "needs brackets"},
		{"::1", "needs brackets"},
		{"fe80::1", "needs brackets"},
		{"redis://[::1", "only an IPv6 address"},
		{"redis://[host]:1", "only an IPv6 address"},
		{"redis://[::1]x", "a host has letters"},
		{"host:", "the port is a number"},
		{"host:0", "the port is a number"},
		{"host:65536", "the port is a number"},
		{"host:+80", "the port is a number"},
		{"host:80x", "the port is a number"},
		{"host:184467440737095516", "the port is a number"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct redis_address address = {.port = 7};
		const char *why = redis_url_parse(bad[i].text, &address);

		if (why == NULL || strstr(why, bad[i].reason) == NULL)
			fail_msg("'%s': %s", bad[i].text, why == NULL ? "accepted" : why);
		assert_int_equal(address.port, 7);
	}
}

static void test_redis_url__longest_path_and_host_fit_and_longer_ones_do_not(void **unused)
{
	struct redis_address address;
	char text[300] = "unix:/", url[REDIS_URL_MAX];

	(void)unused;
	memset(text + 6, 'x', 106);
	assert_null(redis_url_parse(text, &address));
	assert_string_equal(redis_url_format(&address, url), text);
	strcat(text, "?db=65535");
	assert_null(redis_url_parse(text, &address));
	assert_string_equal(redis_url_format(&address, url), text);
	strcpy(text + 6 + 106, "x");
	assert_non_null(redis_url_parse(text, &address));
	memset(text, 0, sizeof(text));
	memset(text, 'h', 255);
	assert_null(redis_url_parse(text, &address));
	assert_int_equal(strlen(redis_url_format(&address, url)), 8 + 255 + 5);
	text[255] = 'h';
	assert_non_null(redis_url_parse(text, &address));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis_url__good_ones_are_read_and_written_back),
		cmocka_unit_test(test_redis_url__others_are_refused_with_a_reason),
		cmocka_unit_test(test_redis_url__longest_path_and_host_fit_and_longer_ones_do_not),
	};

	return cmocka_run_group_tests_name("redis_url", tests, NULL, NULL);
}
