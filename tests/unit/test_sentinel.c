/*
 * Goal:   a Sentinel's answers are read as they are meant, and odd ones do no harm.
 * Method: answers in the form they have on the wire, through the reader of the connection.
 */
#include "tests/t.h"

#include <stdlib.h>
#include <string.h>

#include "agent/redis/dial.h"
#include "agent/redis/told.h"

/* The array's words, each "$N..." by itself; NULL ends them. */
static redisReply *answer(const char *wire)
{
	redisReader *reader = redis_reader_new();
	void *reply = NULL;

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, wire, strlen(wire)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static void test_sentinel__where_it_is_is_taken_only_when_it_is_a_place(void **state)
{
	static const struct {
		const char *wire, *host;
		uint16_t port;
		const char *why;
	} cases[] = {
		{"*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n", "10.0.0.1", 6379, NULL},
		{"*2\r\n$3\r\n::1\r\n$5\r\n65535\r\n", "::1", 65535, NULL},
		{"*2\r\n$3\r\na-b\r\n$1\r\n1\r\n", "a-b", 1, NULL},
		{"*2\r\n$1\r\na\r\n$1\r\n0\r\n", NULL, 0, "another form"},
		{"*2\r\n$1\r\na\r\n$5\r\n65536\r\n", NULL, 0, "another form"},
		{"*2\r\n$1\r\n \r\n$1\r\n1\r\n", NULL, 0, "another form"},
		{"*2\r\n$0\r\n\r\n$1\r\n1\r\n", NULL, 0, "another form"},
		{"*2\r\n:1\r\n:2\r\n", NULL, 0, "another form"},
		{"*1\r\n$1\r\na\r\n", NULL, 0, "another form"},
		{"+OK\r\n", NULL, 0, "another form"},
		{"*-1\r\n", NULL, 0, "watches no primary of that name: correct redis.master"},
		{"*0\r\n", NULL, 0, "watches no primary of that name"},
		{"-ERR unknown command 'SENTINEL'\r\n", NULL, 0, "it is no Sentinel"},
		{"-LOADING wait\r\n", NULL, 0, "it answers LOADING wait"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		redisReply *reply = answer(cases[i].wire);
		struct told_primary where = {.host = "before", .port = 7};
		char why[SENTINEL_WHY] = "";
		bool told = told_where(reply, "shop", &where, why);

		assert_int_equal(told, cases[i].host != NULL);
		if (told)
			assert_string_equal(where.host, cases[i].host);
		if (told)
			assert_int_equal(where.port, cases[i].port);
		else
			assert_non_null(strstr(why, cases[i].why));
		freeReplyObject(reply);
	}
}

static void test_sentinel__epoch_is_found_among_the_words_or_zero(void **state)
{
	static const struct {
		const char *wire;
		uint64_t epoch;
	} cases[] = {
		{"*4\r\n$4\r\nname\r\n$4\r\nshop\r\n$12\r\nconfig-epoch\r\n$2\r\n17\r\n", 17},
		{"*4\r\n$12\r\nconfig-epoch\r\n$20\r\n18446744073709551615\r\n$1\r\na\r\n$"
		 "1\r\nb\r\n",
		 UINT64_MAX},
		{"*3\r\n$1\r\na\r\n$1\r\nb\r\n$12\r\nconfig-epoch\r\n", 0},
		{"*2\r\n$12\r\nconfig-epoch\r\n:5\r\n", 0},
		{"*2\r\n$5\r\nother\r\n$12\r\nconfig-epoch\r\n", 0},
		{"*0\r\n", 0},
		{"-ERR No such master with that name\r\n", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		redisReply *reply = answer(cases[i].wire);

		assert_true(told_epoch(reply) == cases[i].epoch);
		freeReplyObject(reply);
	}
}

static void test_sentinel__others_that_are_down_or_odd_are_not_asked(void **state)
{
#define OTHER(ip, port, flags) "*6\r\n$2\r\nip\r\n" ip "$4\r\nport\r\n" port "$5\r\nflags\r\n" flags
	static const struct {
		const char *wire;
		bool good;
	} cases[] = {
		{OTHER("$3\r\n::1\r\n", "$5\r\n26380\r\n", "$8\r\nsentinel\r\n"), true},
		{OTHER("$3\r\n::1\r\n", "$5\r\n26380\r\n", "$15\r\ns_down,sentinel\r\n"), false},
		{OTHER("$3\r\n::1\r\n", "$5\r\n26380\r\n", "$21\r\nsentinel,disconnected\r\n"),
		 false},
		{OTHER("$3\r\n::1\r\n", "$1\r\n0\r\n", "$8\r\nsentinel\r\n"), false},
		{OTHER("$0\r\n\r\n", "$5\r\n26380\r\n", "$8\r\nsentinel\r\n"), false},
		{"*0\r\n", false},
		{"$1\r\nx\r\n", false},
		{"*-1\r\n", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		redisReply *reply = answer(cases[i].wire);
		struct redis_address at = {.tls = true, .host = "before", .port = 7};

		assert_int_equal(told_other(reply, &at), cases[i].good);
		assert_true(at.tls);
		if (cases[i].good)
			assert_string_equal(at.host, "::1");
		if (cases[i].good)
			assert_int_equal(at.port, 26380);
		freeReplyObject(reply);
	}
}

static void test_sentinel__url_is_read_or_refused_with_a_reason(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"sentinel://a/m", NULL},
		{"sentinel://a/m/", NULL},
		{"sentinel://a/m/65535", NULL},
		{"sentinel://a,b,c,d,e,f,g,h/m", NULL},
		{"sentinel://a,b,c,d,e,f,g,h,i/m", "8 Sentinels are enough"},
		{"sentinel://a/m/65536", "the database is a number"},
		{"sentinel://a/m/x", "the database is a number"},
		{"sentinel://a/m/1/2", "the database is a number"},
		{"sentinel://a/", "are written sentinel://"},
		{"sentinel://a//1", "are written sentinel://"},
		{"sentinel://a", "are written sentinel://"},
		{"sentinel:///m", "are written sentinel://"},
		{"sentinel://,/m", "a host is missing"},
		{"sentinel://a,/m", "a host is missing"},
		{"sentinel://a:0/m", "the port is a number"},
		{"sentinel://u:p@a/m", "a password does not stand in the url"},
		{"sentinel://a/m m", "are written sentinel://"},
		{"redis://a", "begins with sentinel://"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct redis_sentinels all = {.count = 5, .primary = "before"};
		const char *why = redis_sentinels_parse(cases[i].text, &all);

		if (cases[i].why == NULL && why != NULL)
			fail_msg("%s: %s", cases[i].text, why);
		if (cases[i].why == NULL)
			assert_string_equal(all.primary, "m");
		else
			assert_string_equal(all.primary, "before");
		if (cases[i].why != NULL && (why == NULL || strstr(why, cases[i].why) == NULL))
			fail_msg("%s: %s", cases[i].text, why != NULL ? why : "taken");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sentinel__where_it_is_is_taken_only_when_it_is_a_place),
		cmocka_unit_test(test_sentinel__epoch_is_found_among_the_words_or_zero),
		cmocka_unit_test(test_sentinel__others_that_are_down_or_odd_are_not_asked),
		cmocka_unit_test(test_sentinel__url_is_read_or_refused_with_a_reason),
	};

	return cmocka_run_group_tests_name("sentinel", tests, NULL, NULL);
}
