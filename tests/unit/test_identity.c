/*
 * Goal:   a host is the same to Redis over restarts of its agent, and another one as soon as
 *         anything of its identity differs; the list of active keys loses and doubles none.
 * Method: an agent's start, again and again on one segment; random adds and removes beside a
 *         plain array.
 */
#include "tests/shared_key.h"

#include <stdio.h>

#include "agent/sync/active.h"
#include "agent/sync/identity.h"

static struct shared_key k;

static int setup(void **state)
{
	(void)state;
	shared_key_make(&k, "100/s", (struct rl_fleet_terms){RL_STRICT, 1, 0, 0, 0}, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	shared_key_drop(&k);
	return 0;
}

static bool open_as(const char *fleet, const char *host, struct identity *ret)
{
	bool good = false, fresh;

	fresh = identity_open(&k.t.seg, fleet, host, "/dev/shm/rl/x", ret, &good);
	assert_true(good);
	return fresh;
}

static uint64_t epoch(void)
{
	return k.t.seg.fleet->epoch;
}

static void test_identity__restarted_agent_is_the_same_host(void **state)
{
	struct identity first, again;
	uint64_t is;

	(void)state;
	assert_true(open_as("f", "", &first));
	assert_int_equal(strlen(first.host), 17);
	assert_int_equal(first.host[0], 'h');
	assert_null(rl_name_fault(first.host));
	is = epoch();
	assert_true(is > 0 && is < UINT64_C(1) << 53);
	k.t.seg.fleet->part[3].seq = 99;
	assert_false(open_as("f", "", &again));
	assert_string_equal(again.host, first.host);
	assert_string_equal(again.row, first.row);
	assert_true(epoch() == is);
	assert_int_equal(k.t.seg.fleet->part[3].seq, 99);
	assert_non_null(strstr(again.about, "/dev/shm/rl/x"));
}

static void test_identity__row_is_host_and_epoch(void **state)
{
	struct identity identity;
	char row[120];

	(void)state;
	open_as("f", "web-1", &identity);
	snprintf(row, sizeof(row), "web-1:%llu", (unsigned long long)epoch());
	assert_string_equal(identity.row, row);
}

static void test_identity__configured_host_is_kept_when_it_is_configured_no_longer(void **state)
{
	struct identity identity;

	(void)state;
	assert_true(open_as("f", "web-1", &identity));
	assert_false(open_as("f", "", &identity));
	assert_string_equal(identity.host, "web-1");
}

static void test_identity__other_host_or_fleet_begins_a_new_epoch(void **state)
{
	static const char *const as[][2] = {{"f", "b"}, {"g", "b"}, {"g", "a"}, {"f", "a"}};
	struct identity identity;

	(void)state;
	assert_true(open_as("f", "a", &identity));
	for (size_t i = 0; i < 4; i++) {
		uint64_t before = epoch();

		for (uint32_t p = 0; p < RL_PARTS; p++) {
			k.t.seg.fleet->part[p].seq = 70 + p;
			k.t.seg.fleet->part[p].sent_ns = 5;
		}
		assert_true(open_as(as[i][0], as[i][1], &identity));
		assert_true(epoch() != before);
		for (uint32_t p = 0; p < RL_PARTS; p++) {
			assert_int_equal(k.t.seg.fleet->part[p].seq, 1);
			assert_int_equal(k.t.seg.fleet->part[p].sent_ns, 0);
		}
		assert_false(open_as(as[i][0], as[i][1], &identity));
	}
}

static void test_identity__renewed_row_is_another(void **state)
{
	struct identity identity, before;

	(void)state;
	open_as("f", "", &identity);
	before = identity;
	k.t.seg.fleet->part[15].seq = 8;
	assert_true(identity_renew(&k.t.seg, &identity));
	assert_string_equal(identity.host, before.host);
	assert_string_not_equal(identity.row, before.row);
	assert_int_equal(k.t.seg.fleet->part[15].seq, 1);
	open_as("f", "", &before);
	assert_string_equal(identity.row, before.row); /* it is in the segment */
}

/* A host that was given another's name in damaged memory makes one of its own. */
static void test_identity__damaged_host_is_made_anew(void **state)
{
	struct identity identity;

	(void)state;
	open_as("f", "", &identity);
	k.t.seg.fleet->host[0] = UINT64_C(0x2f2f2f2f2f2f2f2f); /* "////////" */
	assert_true(open_as("f", "", &identity));
	assert_null(rl_name_fault(identity.host));
}

static void test_identity__longest_names_fit(void **state)
{
	char name[RL_NAME_MAX + 1];
	struct identity identity;

	(void)state;
	memset(name, 'x', RL_NAME_MAX);
	name[RL_NAME_MAX] = '\0';
	assert_true(open_as(name, name, &identity));
	assert_string_equal(identity.host, name);
	assert_string_equal(identity.fleet, name);
	assert_string_equal(strchr(identity.row, ':') - RL_NAME_MAX, identity.row);
	assert_false(open_as(name, name, &identity));
}

static void test_identity__active_list_holds_each_key_once(void **state)
{
	enum { SLOTS = 500 };
	static uint8_t part_of[SLOTS]; /* 1 + partition; 0: not active */
	struct sync_active active;
	uint64_t seed = t_seed();

	(void)state;
	assert_true(sync_active_init(&active, SLOTS));
	assert_null(sync_active_add(&active, 0, SLOTS)); /* beyond the table */
	for (int i = 0; i < 20000; i++) {
		uint64_t index = t_below(&seed, SLOTS);
		struct sync_entry *entry = sync_active_find(&active, index);

		assert_int_equal(entry != NULL, part_of[index] != 0);
		if (entry != NULL && t_below(&seed, 2) == 0) {
			assert_int_equal(entry->index, index);
			assert_int_equal(entry->debt, index % 7);
			assert_int_equal(sync_active_part(&active, index), part_of[index] - 1u);
			sync_active_remove(&active, entry);
			part_of[index] = 0;
		} else if (entry == NULL) {
			part_of[index] = 1 + (uint8_t)t_below(&seed, RL_PARTS);
			entry = sync_active_add(&active, part_of[index] - 1u, index);
			assert_non_null(entry);
			assert_int_equal(entry->debt, 0);
			entry->debt = (uint16_t)(index % 7);
		} else {
			assert_ptr_equal(sync_active_add(&active, part_of[index] - 1u, index),
					 entry);
		}
	}
	for (uint32_t p = 0, all = 0; p < RL_PARTS; p++) {
		all = 0;
		for (uint64_t i = 0; i < SLOTS; i++)
			all += part_of[i] == p + 1;
		assert_int_equal(active.part[p].count, all);
	}
	sync_active_free(&active);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity__restarted_agent_is_the_same_host),
		TEST(test_identity__row_is_host_and_epoch),
		TEST(test_identity__configured_host_is_kept_when_it_is_configured_no_longer),
		TEST(test_identity__other_host_or_fleet_begins_a_new_epoch),
		TEST(test_identity__renewed_row_is_another),
		TEST(test_identity__damaged_host_is_made_anew),
		TEST(test_identity__longest_names_fit),
		TEST(test_identity__active_list_holds_each_key_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
