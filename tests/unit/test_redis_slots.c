/*
 * Goal:   a key's slot is the one that a cluster gives it; a map and a redirection are read
 *         whatever a server says, and what makes no sense is refused as a whole.
 * Method: values that Redis itself answers (CLUSTER KEYSLOT), answers as they come over the wire,
 *         through hiredis's reader; random ones with a printed seed.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>

#include "agent/redis/slots.h"

static const struct redis_address asked = {.kind = REDIS_TCP, .host = "10.0.0.9", .port = 7009};
static struct redis_address owner[3];
static const uint16_t slot[3] = {0, 5461, 16383};

static uint16_t slot_of(const char *key)
{
	return redis_slot_of(key, strlen(key));
}

static void test_redis_slots__slot_of_a_key_is_that_of_redis(void **unused)
{
	(void)unused;
	assert_int_equal(redis_crc16("123456789", 9), 0x31c3);
	assert_int_equal(redis_crc16("", 0), 0);
	assert_int_equal(slot_of("foo"), 12182);
	assert_int_equal(slot_of("somekey"), 11058);
	assert_int_equal(slot_of("{user1000}.following"), slot_of("user1000"));
	assert_int_equal(slot_of("a{user1000}b{c}"), slot_of("user1000"));
	assert_int_equal(slot_of("foo{{bar}}zap"), slot_of("{bar"));
	assert_int_equal(slot_of("foo{}{bar}"), redis_crc16("foo{}{bar}", 10) % 16384);
	assert_int_equal(slot_of("foo{bar"), redis_crc16("foo{bar", 7) % 16384);
	assert_int_equal(slot_of("{"), redis_crc16("{", 1) % 16384);
	assert_int_equal(redis_slot_of("{a}}", 3), slot_of("a")); /* never behind its end */
	assert_int_equal(redis_slot_of("{a}", 2), redis_crc16("{a", 2) % 16384);
}

/* What is wrong with a map as it comes over the wire; NULL: nothing is. */
static const char *read_map(const char *wire)
{
	redisReader *reader = redisReaderCreate();
	const char *why;
	void *reply = NULL;

	redisReaderFeed(reader, wire, strlen(wire));
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	why = redis_slots_read(reply, &asked, slot, 3, owner);
	freeReplyObject(reply);
	redisReaderFree(reader);
	return why;
}

#define RANGE(first, last, nodes) "*3\r\n:" first "\r\n:" last "\r\n" nodes
#define NODE(size, host, port)    "*3\r\n$" size "\r\n" host "\r\n:" port "\r\n$2\r\nid\r\n"

static void is_at(size_t i, const char *host, uint16_t port)
{
	assert_string_equal(owner[i].host, host);
	assert_int_equal(owner[i].port, port);
}

static void test_redis_slots__map_says_who_owns_what(void **unused)
{
	(void)unused;
	assert_null(read_map("*3\r\n" RANGE("5461", "10922", NODE("8", "10.0.0.2", "7002"))
				     RANGE("0", "5460", NODE("2", "::", "65535"))
					     RANGE("16383", "16383", NODE("6", "node-3", "1"))));
	is_at(0, "::", 65535);
	is_at(1, "10.0.0.2", 7002);
	is_at(2, "node-3", 1);
	assert_false(owner[0].tls);
	/* One that does not know its own host is where it was asked. */
	assert_null(read_map("*3\r\n" RANGE("0", "1", NODE("0", "", "7001"))
				     RANGE("5461", "5461", NODE("1", "?", "7002"))
					     RANGE("16382", "16383", "*2\r\n$-1\r\n:7003\r\n")));
	is_at(0, "10.0.0.9", 7001);
	is_at(1, "10.0.0.9", 7002);
	is_at(2, "10.0.0.9", 7003);
	/* A slot may have nobody, and replicas and what is behind the id do not matter. */
	assert_null(read_map("*1\r\n*4\r\n:1\r\n:16382\r\n*4\r\n$1\r\nh\r\n:5\r\n$2\r\nid\r\n*0\r\n"
			     ":77\r\n"));
	assert_int_equal(owner[0].port, 0);
	is_at(1, "h", 5);
	assert_int_equal(owner[2].port, 0);
	assert_null(read_map("*0\r\n"));
	assert_int_equal(owner[1].port, 0);
	/* Told twice alike, as two ranges that overlap. */
	assert_null(read_map("*2\r\n" RANGE("0", "9", NODE("1", "h", "5"))
				     RANGE("0", "3", NODE("1", "h", "5"))));
}

static void test_redis_slots__nodes_are_reached_as_the_one_that_was_asked(void **unused)
{
	struct redis_address secret = asked;
	struct redis_redirect redirect;

	(void)unused;
	secret.tls = true;
	assert_true(redis_redirect_read("MOVED 1 h:5", &secret, &redirect));
	assert_true(redirect.to.tls);
}

static void test_redis_slots__map_that_makes_no_sense_is_refused(void **unused)
{
	static const char *const odd[] = {
		"+OK\r\n",
		":5\r\n",
		"$-1\r\n",
		"*1\r\n:1\r\n",
		"*1\r\n*0\r\n",
		"*1\r\n*2\r\n:0\r\n:1\r\n",
		"*1\r\n" RANGE("5", "4", NODE("1", "h", "5")),
		"*1\r\n" RANGE("-1", "4", NODE("1", "h", "5")),
		"*1\r\n" RANGE("0", "16384", NODE("1", "h", "5")),
		"*1\r\n" RANGE("0", "9223372036854775807", NODE("1", "h", "5")),
		"*1\r\n" RANGE("0", "4", "*0\r\n"),
		"*1\r\n" RANGE("0", "4", "*1\r\n$1\r\nh\r\n"),
		"*1\r\n" RANGE("0", "4", "$1\r\nh\r\n"),
		"*1\r\n" RANGE("0", "4", NODE("1", "h", "0")),
		"*1\r\n" RANGE("0", "4", NODE("1", "h", "65536")),
		"*1\r\n" RANGE("0", "4", NODE("1", "h", "-1")),
		"*1\r\n" RANGE("0", "4", NODE("3", "a b", "5")),
		"*1\r\n" RANGE("0", "4", NODE("3", "a\"b", "5")),
		"*1\r\n" RANGE("0", "4", NODE("3", "a\nb", "5")),
		"*1\r\n" RANGE("0", "4", "*2\r\n:1\r\n:5\r\n"),
		"*1\r\n" RANGE("0", "4", "*2\r\n$1\r\nh\r\n$1\r\n5\r\n"),
		"*2\r\n" RANGE("0", "9", NODE("1", "h", "5")) RANGE("0", "3", NODE("1", "i", "5")),
		"*2\r\n" RANGE("0", "9", NODE("1", "h", "5")) RANGE("0", "3", NODE("1", "h", "6")),
		"*2\r\n" RANGE("0", "9", NODE("1", "h", "5")) "*1\r\n:1\r\n",
	};
	char text[700];

	(void)unused;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		if (read_map(odd[i]) == NULL)
			fail_msg("taken: %s", odd[i]);
	for (int size = 255; size <= 256; size++) {
		snprintf(text, sizeof(text), "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$%d\r\n%0*d\r\n:5\r\n",
			 size, size, 7);
		assert_int_equal(read_map(text) == NULL, size == 255);
	}
}

static void test_redis_slots__redirections_are_read(void **unused)
{
	struct redis_redirect to;

	(void)unused;
	assert_true(redis_redirect_read("MOVED 3999 127.0.0.1:6381", &asked, &to));
	assert_false(to.ask);
	assert_int_equal(to.slot, 3999);
	assert_string_equal(to.to.host, "127.0.0.1");
	assert_int_equal(to.to.port, 6381);
	assert_true(redis_redirect_read("ASK 16383 fe80::1:65535", &asked, &to));
	assert_true(to.ask);
	assert_int_equal(to.slot, 16383);
	assert_string_equal(to.to.host, "fe80::1");
	assert_int_equal(to.to.port, 65535);
	assert_true(redis_redirect_read("MOVED 0 :7001", &asked, &to));
	assert_string_equal(to.to.host, "10.0.0.9");
	assert_true(redis_redirect_read("MOVED 0 ?:7001", &asked, &to));
	assert_string_equal(to.to.host, "10.0.0.9");
}

static void test_redis_slots__redirections_that_make_no_sense_are_not_taken(void **unused)
{
	static const char *const odd[] = {
		"",
		"ERR MOVED 1 h:5",
		"MOVED",
		"MOVED ",
		"MOVED 1",
		"MOVED 1 ",
		"MOVED 1 h",
		"MOVED 1 h:",
		"MOVED 1 h:0",
		"MOVED 1 h:65536",
		"MOVED 1 h:-5",
		"MOVED 1 h:5x",
		"MOVED 1 h:123456789",
		"MOVED -1 h:5",
		"MOVED 16384 h:5",
		"MOVED 99999999999999999999 h:5",
		"MOVED x h:5",
		"MOVED 1  h:5",
		"MOVED 1 a b:5",
		"MOVED 1 \n:5",
		"MOVED 1 h\":5",
		"moved 1 h:5",
		"ASKING 1 h:5",
	};
	struct redis_redirect to;

	(void)unused;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		if (redis_redirect_read(odd[i], &asked, &to))
			fail_msg("taken: %s", odd[i]);
}

/* Pieces of what a server says, in any order: nothing is read behind an end, and what is taken is
 * an owner that can be dialled. */
static void test_redis_slots__random_maps_are_refused_or_sound(void **unused)
{
	static const char *const piece[] = {"*3\r\n",     "*2\r\n",    "*0\r\n",  "$1\r\nh\r\n",
					    "$0\r\n\r\n", "$-1\r\n",   ":0\r\n",  ":5461\r\n",
					    ":16383\r\n", ":7001\r\n", ":-9\r\n", "*-1\r\n",
					    "+x\r\n",     "-ERR\r\n"};
	uint64_t random = t_seed();
	unsigned read = 0, taken = 0;

	(void)unused;
	for (int round = 0; round < 200000; round++) {
		redisReader *reader = redisReaderCreate();
		void *reply = NULL;

		redisReaderFeed(reader, "*1\r\n*3\r\n:0\r\n", 12);
		for (int i = 0; i < 8 && reply == NULL; i++) {
			const char *next =
				piece[t_below(&random, sizeof(piece) / sizeof(piece[0]))];

			redisReaderFeed(reader, next, strlen(next));
			if (redisReaderGetReply(reader, &reply) != REDIS_OK)
				break;
		}
		if (reply != NULL) {
			read++;
			if (redis_slots_read(reply, &asked, slot, 3, owner) == NULL) {
				taken++;
				assert_true(owner[0].port > 0 && owner[0].host[0] != '\0');
			}
			freeReplyObject(reply);
		}
		redisReaderFree(reader);
	}
	printf("# %u maps, %u taken\n", read, taken);
	assert_true(read > 1000 && taken > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis_slots__slot_of_a_key_is_that_of_redis),
		cmocka_unit_test(test_redis_slots__map_says_who_owns_what),
		cmocka_unit_test(test_redis_slots__nodes_are_reached_as_the_one_that_was_asked),
		cmocka_unit_test(test_redis_slots__map_that_makes_no_sense_is_refused),
		cmocka_unit_test(test_redis_slots__redirections_are_read),
		cmocka_unit_test(test_redis_slots__redirections_that_make_no_sense_are_not_taken),
		cmocka_unit_test(test_redis_slots__random_maps_are_refused_or_sound),
	};

	return cmocka_run_group_tests_name("redis_slots", tests, NULL, NULL);
}
