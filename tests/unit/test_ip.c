/*
 * Goal:   addresses and networks are understood as people write them, v4-mapped ones folded.
 * Method: pure functions; every prefix of random addresses against a mask bit by bit.
 */
#include "tests/t.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/rl.h"
#include "shm/rl_ip.h"

static void expect(const char *text, const char *want)
{
	struct rl_ip ip;
	char got[RL_IP_TEXT] = "nothing";

	if (rl_ip_parse(text, strlen(text), &ip)) {
		size_t len = rl_ip_format(&ip, got);

		assert_int_equal(len, strlen(got));
	}
	if (strcmp(got, want) != 0)
		fail_msg("%s: %s, not %s", text, got, want);
}

static void test_ip__every_way_of_writing_is_one_address(void **state)
{
	(void)state;
	expect("192.0.2.7", "192.0.2.7");
	expect("192.0.2.7/32", "192.0.2.7");
	expect("192.0.2.7/24", "192.0.2.0/24");
	expect("0.0.0.0/0", "0.0.0.0/0");
	expect("2001:DB8:0:0::7", "2001:db8::7");
	expect("2001:db8::7/64", "2001:db8::/64");
	expect("::/0", "::/0");
	expect("::", "::");
	expect("fe80::1%eth0", "fe80::1");
	expect("fe80::1%eth0/64", "fe80::/64");
	expect("::ffff:192.0.2.7", "192.0.2.7");
	expect("::ffff:c000:207", "192.0.2.7");
	expect("::ffff:192.0.2.0/120", "192.0.2.0/24");
	expect("::ffff:0.0.0.0/96", "0.0.0.0/0");
	expect("::ffff:0:0/95", "::fffe:0:0/95");
}

/* A key is any bytes: an entry for an address is for no other key. */
static void test_ip__key_with_a_nul_in_it_is_no_address(void **state)
{
	struct rl_ip ip;

	(void)state;
	assert_true(rl_ip_parse("10.0.0.1", 8, &ip));
	assert_false(rl_ip_parse("10.0.0.1\0a", 10, &ip));
	assert_false(rl_ip_parse("10.0.0.1\0", 9, &ip));
	assert_false(rl_ip_parse("2001:db8::1\0%eth0", 17, &ip));
}

static void test_ip__what_is_none_is_refused(void **state)
{
	static const char *const none[] = {"",
					   "1",
					   ":",
					   "10",
					   "10.0.0",
					   "10.0.0.256",
					   "10.0.0.0/33",
					   "10.0.0.0/",
					   "10.0.0.0/-1",
					   "10.0.0.0/8 ",
					   "10.0.0.0/1/2",
					   "10.0.0.1%eth0",
					   "2001:db8::/129",
					   "2001:db8:::1",
					   "host",
					   "::ffff:10.0.0.1:80",
					   "10.0.0.0/0008"};

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		expect(none[i], "nothing");
}

static void test_ip__mask_keeps_exactly_the_prefix(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct rl_ip ip = {.bits = RL_IP6_BITS, .prefix = RL_IP6_BITS}, before;
		uint32_t prefix = (uint32_t)t_below(&seed, 129);

		for (size_t b = 0; b < sizeof(ip.bytes); b++)
			ip.bytes[b] = (uint8_t)t_random(&seed);
		before = ip;
		rl_ip_mask(&ip, prefix);
		for (uint32_t b = 0; b < 128; b++) {
			unsigned byte = before.bytes[b / 8], is = ip.bytes[b / 8];
			unsigned was = byte >> (7 - b % 8) & 1u;

			assert_int_equal(is >> (7 - b % 8) & 1u, b < prefix ? was : 0);
		}
		assert_int_equal(ip.prefix, prefix);
	}
}

static void test_ip__key_of_a_client_is_its_address_or_its_network(void **state)
{
	static const struct {
		const char *address, *key;
		unsigned prefix;
	} is[] = {
		{"192.0.2.7", "192.0.2.7", 0},
		{"::ffff:192.0.2.7", "192.0.2.7", 24},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", 0},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1::/48", 48},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", 128},
		{"fe80::1%eth0", "fe80::/64", 0},
	};
	char key[RL_IP_KEY_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(is) / sizeof(is[0]); i++) {
		assert_int_equal(rl_ip_key(is[i].address, is[i].prefix, key), strlen(is[i].key));
		assert_string_equal(key, is[i].key);
	}
	assert_int_equal(rl_ip_key("host", 0, key), -EINVAL);
	assert_int_equal(rl_ip_key("::1", 129, key), -EINVAL);
	assert_int_equal(rl_ip_key(NULL, 0, key), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip__every_way_of_writing_is_one_address),
		cmocka_unit_test(test_ip__key_with_a_nul_in_it_is_no_address),
		cmocka_unit_test(test_ip__what_is_none_is_refused),
		cmocka_unit_test(test_ip__key_of_a_client_is_its_address_or_its_network),
		cmocka_unit_test(test_ip__mask_keeps_exactly_the_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
