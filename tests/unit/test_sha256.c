/*
 * Goal:   SHA-256 is that of FIPS 180-4 for every length, or long keys would have other names
 *         here than on a host that was built elsewhere.
 * Method: the standard's vectors, a million bytes, and every length around the edges of the
 *         padding; digests made with coreutils' sha256sum.
 */
#include "tests/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/rl_sha256.h"

static void assert_digest(const void *bytes, size_t len, const char *want)
{
	uint8_t digest[RL_SHA256_BYTES];
	char hex[2 * RL_SHA256_BYTES + 1];

	rl_sha256(bytes, len, digest);
	for (size_t i = 0; i < RL_SHA256_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hex, want);
}

static void test_sha256__vectors_of_the_standard(void **state)
{
	(void)state;
	assert_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_sha256__lengths_around_the_edges_of_the_padding(void **state)
{
	static const struct {
		size_t len;
		const char *want;
	} a[] = {
		{1, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},
		{55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
		{56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
		{57, "f13b2d724659eb3bf47f2dd6af1accc87b81f09f59f2b75e5c0bed6589dfe8c6"},
		{63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
		{64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
		{65, "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"},
		{119, "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb"},
		{120, "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c"},
		{127, "c57e9278af78fa3cab38667bef4ce29d783787a2f731d4e12200270f0c32320a"},
		{128, "6836cf13bac400e9105071cd6af47084dfacad4e5e302c94bfed24e013afb73e"},
		{129, "c12cb024a2e5551cca0e08fce8f1c5e314555cc3fef6329ee994a3db752166ae"},
		{1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
	};
	char *bytes = malloc(1000000);

	(void)state;
	assert_non_null(bytes);
	memset(bytes, 'a', 1000000);
	for (size_t i = 0; i < sizeof(a) / sizeof(a[0]); i++)
		assert_digest(bytes, a[i].len, a[i].want);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256__vectors_of_the_standard),
		cmocka_unit_test(test_sha256__lengths_around_the_edges_of_the_padding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
