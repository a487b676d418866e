/*
 * Goal:   the keyed identity is SipHash-1-3-128, and keys under different rules differ.
 * Method: digests made by OpenSSL 3 (openssl mac ... c-rounds:1 d-rounds:3 size:16 SIPHASH)
 *         under the key 00 01 .. 0f for the bytes 00 01 .. n-1.
 */
#include "tests/t.h"

#include <stdio.h>
#include <string.h>

#include "shm/rl_hash.h"

static const uint64_t reference_key[2] = {UINT64_C(0x0706050403020100),
					  UINT64_C(0x0f0e0d0c0b0a0908)};

static const struct {
	size_t len;
	const char *digest;
} vector[] = {
	{0, "E77EBCB22788A5BEFD62DB6ADD303001"},  {1, "FC6F370460D3EDA85E0573CC2B2FF063"},
	{7, "1084B923F2AAE0C3A62F2EC80848AB77"},  {8, "AA12FEE1D5E3DAB4724F16AB35F9C799"},
	{9, "81DDB8042CF33994F4720E0094137C42"},  {15, "C17E5505B2BD526C2921CDEC1E7E0109"},
	{16, "D0A8D95715518EEBB513B0F83D9E1793"}, {17, "234126F93FBB668D975112E8FEBDF7EC"},
	{63, "4C5800E34EFE426F079F6B0AA75260AD"}, {64, "1253DEF24B4AA5364EC8A759BA6A66C2"},
};

static void test_hash__reference_vectors_match(void **state)
{
	unsigned char bytes[64];

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		bytes[i] = (unsigned char)i;
	for (size_t v = 0; v < sizeof(vector) / sizeof(vector[0]); v++) {
		char text[33];
		uint64_t out[2];

		rl_hash128(reference_key, bytes, vector[v].len, out);
		for (unsigned i = 0; i < 16; i++)
			snprintf(text + 2 * i, 3, "%02X",
				 (unsigned)(out[i / 8] >> (i % 8 * 8)) & 0xff);
		assert_string_equal(text, vector[v].digest);
	}
}

static void test_hash__key_is_hash_of_rule_and_bytes(void **state)
{
	uint64_t seed = t_seed();
	unsigned char joined[8 + 1024] = {0};

	(void)state;
	for (size_t len = 1; len <= 1024; len += len < 40 ? 1 : 61) {
		uint32_t rule = (uint32_t)t_random(&seed);
		uint64_t want[2];
		struct rl_id id;

		for (size_t i = 0; i < len; i++)
			joined[8 + i] = (unsigned char)t_random(&seed);
		for (unsigned i = 0; i < 4; i++)
			joined[i] = (unsigned char)(rule >> (8 * i));
		rl_hash128(reference_key, joined, 8 + len, want);
		id = rl_hash_key(reference_key, rule, joined + 8, len);
		assert_memory_equal(id.word, want, sizeof(want));
	}
}

static void test_hash__one_key_under_two_rules_is_two_identities(void **state)
{
	struct rl_id a = rl_hash_key(reference_key, 1, "bob", 3);
	struct rl_id b = rl_hash_key(reference_key, 2, "bob", 3);

	(void)state;
	assert_memory_not_equal(&a, &b, sizeof(a));
}

static void test_hash__rule_id_is_the_same_on_every_host(void **state)
{
	(void)state;
	/* Frozen: a changed value would orphan every count at an upgrade. */
	assert_int_equal(rl_hash_rule("login"), rl_hash_rule("login"));
	assert_int_not_equal(rl_hash_rule("login"), rl_hash_rule("logim"));
	assert_int_equal(rl_hash_rule("login"), UINT32_C(0xd650b82b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash__reference_vectors_match),
		cmocka_unit_test(test_hash__key_is_hash_of_rule_and_bytes),
		cmocka_unit_test(test_hash__one_key_under_two_rules_is_two_identities),
		cmocka_unit_test(test_hash__rule_id_is_the_same_on_every_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
