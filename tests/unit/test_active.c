/*
 * Goal:   of the keys that are being synced those that are due are found, without a look at all.
 * Method: keys come, go and become due at random, and each look is compared with a count of all.
 */
#include "tests/t.h"

#include <stdlib.h>

#include "agent/sync/active.h"

enum { SLOTS = 5000, STEPS = 20000, PART = 3 };

static struct sync_active active;
static const struct sync_list *const list = &active.part[PART];

static uint64_t random_below(uint64_t most)
{
	static uint64_t state;

	if (state == 0)
		state = t_seed() | 1;
	state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
	return state * UINT64_C(2685821657736338717) % most;
}

/* What the agent does with a look: every due one gets a later time, or goes. */
static uint32_t take_due(uint64_t now_ns, uint32_t *ret_looks)
{
	uint32_t taken = 0;

	for (uint32_t at = sync_list_due(list, 0, now_ns); at < list->count;) {
		struct sync_entry *entry = &list->entry[at];

		++*ret_looks;
		if (entry->due_ns <= now_ns) {
			taken++;
			if (random_below(8) == 0) {
				sync_active_remove(&active, entry);
				continue;
			}
			entry->due_ns = now_ns + 1 + random_below(1000);
		}
		if (++at % SYNC_BLOCK == 0 || at == list->count) {
			sync_list_looked(&active.part[PART], at);
			at = sync_list_due(list, at, now_ns);
		}
	}
	return taken;
}

static uint32_t count_due(uint64_t now_ns)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < list->count; i++)
		count += list->entry[i].due_ns <= now_ns;
	return count;
}

static void test_active__every_due_key_is_found(void **state)
{
	uint64_t found = 0;
	uint32_t looks = 0;

	(void)state;
	assert_true(sync_active_init(&active, SLOTS));
	for (uint64_t now_ns = 1; now_ns < STEPS; now_ns++) {
		uint64_t index = random_below(SLOTS);
		struct sync_entry *entry = sync_active_find(&active, index);
		uint32_t due;

		if (entry == NULL)
			sync_active_add(&active, PART, index)->due_ns = now_ns + random_below(500);
		else if (random_below(3) == 0)
			sync_active_sooner(&active, entry, now_ns);
		else if (random_below(3) == 0)
			sync_active_remove(&active, entry);
		due = count_due(now_ns);
		assert_int_equal(take_due(now_ns, &looks), due);
		found += due;
	}
	assert_true(found > STEPS / 2);
	sync_active_free(&active);
}

static void test_active__a_look_costs_what_is_due(void **state)
{
	uint32_t looks = 0;

	(void)state;
	assert_true(sync_active_init(&active, SLOTS));
	for (uint64_t i = 0; i < SLOTS; i++)
		sync_active_add(&active, PART, i)->due_ns = 1000000;
	take_due(1, &looks);
	assert_int_equal(looks, SLOTS); /* each is new: it is looked at once */
	looks = 0;
	assert_int_equal(take_due(2, &looks), 0);
	assert_int_equal(looks, 0);
	sync_active_sooner(&active, sync_active_find(&active, 777), 3);
	assert_int_equal(take_due(3, &looks), 1);
	assert_in_range(looks, 1, SYNC_BLOCK + 1); /* one may go */
	sync_active_free(&active);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_active__every_due_key_is_found),
		cmocka_unit_test(test_active__a_look_costs_what_is_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
