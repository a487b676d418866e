/*
 * Goal:   a table that is in use gets larger, and nothing of it is lost, made twice or moved; who
 *         had it mapped before finds what is in the rest of it.
 * Method: the agent's one call on a segment made by the test; clients that attached before and
 *         after; steps of others at an exact access (t_upon_access); headers written by the test.
 */
#include "tests/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/sweep.h"
#include "client/rl_client.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_extent.h"
#include "shm/rl_hash.h"
#include "shm/rl_inflight.h"
#include "shm/rl_side.h"
#include "shm/rl_table.h"
#include "shm/rl_tags.h"
#include "shm/rl_verify.h"
#include "shm/rl_word.h"

#define HOUR_NS (3600 * RL_SECOND_NS)

enum { KEYS = 500, LIMIT = 5 };

static struct t_seg t;
static struct rl_client *old, *fresh; /* attached before the table grew, and after */

static void publish(struct rl_seg *seg)
{
	const struct rl_rule_spec spec[] = {
		{.name = "window", .terms = {LIMIT, HOUR_NS}, .on_full = RL_FULL_DENY},
		{.name = "fixed", .terms = {LIMIT, HOUR_NS}, .algorithm = 1},
		{.name = "bucket", .terms = {LIMIT, HOUR_NS}, .algorithm = 2, .burst = LIMIT},
		{.name = "flight", .terms = {LIMIT, RL_WINDOW_MIN_NS}, .algorithm = RL_CONCURRENCY},
	};
	size_t other;

	assert_int_equal(rl_rules_publish(seg, spec, 4, &other), 0);
}

static int setup(void **state)
{
	const struct rl_segment_spec spec = {.mode = 0660};
	int fd;

	(void)state;
	t_seg_make(&t, KEYS);
	publish(&t.seg);
	fd = rl_alive_make(&t.seg, t.path, &spec, NULL);
	assert_true(fd >= 0);
	close(fd);
	old = t_attach(&t);
	fresh = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rl_detach(old);
	if (fresh != NULL)
		rl_detach(fresh);
	t_seg_drop(&t);
	return 0;
}

/* As an agent that starts with a larger table configured. */
static void grow_to(uint64_t keys)
{
	char why[RL_WHY_MAX] = "";

	if (rl_segment_grow(t.path, keys, why) != 1)
		fail_msg("not grown: %s", why);
	rl_segment_detach(&t.seg);
	assert_int_equal(rl_segment_attach(t.path, &t.seg, why), 0);
	if (fresh == NULL)
		fresh = t_attach(&t);
}

static int check(struct rl_client *client, const char *name, const char *key)
{
	struct rl_result result;

	return rl_check(client, t_client_rule(client, name), key, strlen(key), 1, 0, &result);
}

static int admits(struct rl_client *client, const char *name, const char *key)
{
	int n = 0;

	while (n < 10 * LIMIT && check(client, name, key) == RL_ALLOWED)
		n++;
	return n;
}

static uint64_t index_of(const char *name, const char *key)
{
	struct rl_check_key hashed;
	uint64_t head;

	rl_check_hash(&t.seg.view, t_rule(&t.seg.view, name), key, strlen(key), &hashed);
	return rl_table_find(&t.seg.view, &hashed.id, &head);
}

/* A key of the rule whose slot, made by who maps all, lies behind what there was first. */
static const char *key_beyond(const char *name)
{
	static char key[40];
	static int number;

	do {
		snprintf(key, sizeof(key), "beyond-%d", number++);
		assert_int_equal(check(fresh, name, key), RL_ALLOWED);
	} while (index_of(name, key) < t.seg.view.extent[0].count * RL_LANES);
	return key;
}

static uint64_t findings;

static void on_finding(const struct rl_finding *finding, void *arg)
{
	(void)arg;
	printf("# %s at %llu: %llx\n", rl_fault_info(finding->fault)->name,
	       (unsigned long long)finding->at, (unsigned long long)finding->found);
	findings++;
}

static void assert_sound(void)
{
	static struct rl_verify verify;

	verify = (struct rl_verify){.view = &t.seg.view, .found = on_finding};
	findings = 0;
	rl_verify(&verify);
	assert_int_equal(findings, 0);
}

static void test_grow__every_count_stays_and_there_is_room_for_more(void **state)
{
	static const char *const name[] = {"window", "fixed", "bucket"};
	uint64_t before = t.seg.view.slot_count, open = 0;
	char key[40];

	(void)state;
	for (int i = 0; i < 150; i++)
		for (int r = 0; r < 3; r++)
			for (int n = 0; n < 3; n++) {
				snprintf(key, sizeof(key), "k%d", i);
				assert_int_equal(check(old, name[r], key), RL_ALLOWED);
			}
	grow_to(20 * KEYS);
	assert_true(rl_segment_keys(t.seg.view.bucket_count) >= 20 * KEYS);
	for (int i = 0; i < 150; i++)
		for (int r = 0; r < 3; r++) {
			snprintf(key, sizeof(key), "k%d", i);
			assert_int_equal(admits(i % 2 == 0 ? old : fresh, name[r], key), LIMIT - 3);
			assert_true(index_of(name[r], key) < before);
		}
	for (int i = 0; i < 19 * KEYS; i++) {
		snprintf(key, sizeof(key), "new%d", i);
		assert_int_equal(check(fresh, "window", key), RL_ALLOWED);
	}
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		open += rl_head_is_open(t.seg.slot[i].head);
	assert_int_equal(open, 450 + 19 * KEYS);
	assert_sound();
}

static void test_grow__grown_five_times_it_is_whole_and_then_refuses(void **state)
{
	char key[40], why[RL_WHY_MAX] = "";
	uint64_t keys = KEYS;

	(void)state;
	for (uint32_t times = 0; times < RL_EXTENTS_MAX - 1; times++) {
		for (int i = 0; i < 100; i++) {
			snprintf(key, sizeof(key), "%u-%d", times, i);
			assert_int_equal(check(old, "window", key), RL_ALLOWED);
		}
		keys = times == 2 ? keys + 1000 : keys * 3; /* also by less than a chunk */
		grow_to(keys);
		assert_int_equal(t.seg.view.extents, times + 2);
		assert_int_equal(rl_segment_grow(t.path, keys, why), 0); /* it is as large */
		assert_int_equal(rl_segment_grow(t.path, 1, why), 0);
	}
	for (uint32_t times = 0; times < RL_EXTENTS_MAX - 1; times++)
		for (int i = 0; i < 100; i++) {
			snprintf(key, sizeof(key), "%u-%d", times, i);
			assert_int_equal(admits(i % 2 == 0 ? old : fresh, "window", key),
					 LIMIT - 1);
		}
	assert_sound();
	assert_int_equal(rl_segment_grow(t.path, 2 * keys, why), -ENOSPC);
	assert_non_null(strstr(why, "grown 5 times"));
	assert_int_equal(check(fresh, "window", "after"), RL_ALLOWED);
}

/* A new key, and another one for each that finds no slot: how many did not. */
static uint64_t place(uint64_t *number, struct rl_id *ret_id)
{
	struct rl_claim claim = {.rule_id = 7, .q = 1, .window_ns = HOUR_NS};
	uint64_t refused = 0;

	for (;; refused++) {
		*ret_id = rl_hash_key(t.seg.view.hash_key, claim.rule_id, number, sizeof(*number));
		rl_key_text(number, sizeof(*number), &claim.text);
		(*number)++;
		if (rl_table_claim(&t.seg, ret_id, &claim) == 1)
			return refused;
		assert_true(refused < KEYS);
	}
}

/* By a little: nearly all that comes and goes then lies in what there was. */
static void test_grow__keys_that_come_and_go_find_the_room_of_all_extents(void **state)
{
	enum { GROWN_KEYS = KEYS + 100, TURNOVERS = 50 };
	static struct rl_id live[GROWN_KEYS];
	uint64_t seed = t_seed(), number = 0, refused = 0, head;
	uint32_t placed = 0;

	(void)state;
	while (placed < KEYS)
		refused += place(&number, &live[placed++]);
	grow_to(GROWN_KEYS);
	while (placed < GROWN_KEYS)
		refused += place(&number, &live[placed++]);
	for (int i = 0; i < TURNOVERS * GROWN_KEYS; i++) {
		struct rl_id *id = &live[t_below(&seed, GROWN_KEYS)];
		uint64_t index = rl_table_find(&t.seg.view, id, &head);

		assert_true(index != RL_NO_SLOT && rl_table_free(&t.seg, index, head));
		refused += place(&number, id);
	}
	assert_int_equal(refused, 0);
}

/* All calls of a client that maps what there was: of a key that is in the rest. */
static void test_grow__client_of_before_finds_what_lies_in_the_rest(void **state)
{
	struct rl_ask ask[2] = {{.cost = 1}, {.cost = 1}};
	struct rl_result result;
	struct rl_key hashed;
	struct rl_client *other[8];
	const char *key;

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(rl_attach(t.path, &other[i], NULL), 0);
	assert_int_equal(
		rl_key_make(other[5], t_client_rule(old, "window"), "prehashed", 9, &hashed), 0);
	grow_to(20 * KEYS);
	key = key_beyond("window");
	for (int n = 1; n < LIMIT; n++)
		assert_int_equal(check(fresh, "window", key), RL_ALLOWED);
	for (int i = 0; i < 8; i++)
		assert_int_equal(client_mapped(other[i])->seg.view.extents, 1);
	assert_int_equal(check(other[0], "window", key), RL_LIMITED);
	assert_int_equal(
		rl_check(other[1], t_client_rule(old, "window"), key, strlen(key), 2, 0, NULL),
		RL_LIMITED);
	assert_int_equal(
		rl_peek(other[2], t_client_rule(old, "window"), key, strlen(key), 1, &result),
		RL_LIMITED);
	for (int i = 0; i < 2; i++) {
		ask[i].rule = t_client_rule(old, i == 0 ? "window" : "fixed");
		ask[i].key = key;
		ask[i].key_len = strlen(key);
	}
	assert_int_equal(rl_check_all(other[3], ask, 2), RL_LIMITED);
	assert_int_equal(admits(other[3], "fixed", key), LIMIT); /* nothing was spent there */
	assert_int_equal(rl_check_batch(other[4], ask, 1), 0);
	assert_int_equal(ask[0].answer, RL_LIMITED);
	while (check(fresh, "window", "prehashed") == RL_ALLOWED)
		;
	assert_int_equal(rl_check_key(other[5], &hashed, 1, 0, &result), RL_LIMITED);
	assert_int_equal(rl_reset(other[6], t_client_rule(old, "window"), key, strlen(key)), 0);
	assert_int_equal(admits(fresh, "window", key), LIMIT);
	assert_int_equal(rl_reset(fresh, t_client_rule(old, "window"), key, strlen(key)), 0);
	assert_int_equal(
		rl_block(other[7], t_client_rule(old, "window"), key, strlen(key), HOUR_NS), 0);
	assert_int_equal(check(fresh, "window", key), RL_LIMITED);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(client_mapped(other[i])->seg.view.extents, 2);
		rl_detach(other[i]);
	}
}

/* One rule refuses by what is mapped; what the other says of the key lies in the rest. */
static void test_grow__several_rules_are_answered_whoever_of_them_refuses_first(void **state)
{
	static const char *const name[] = {"window", "bucket", "fixed"};
	struct rl_ask ask[3];

	(void)state;
	assert_int_equal(admits(old, "bucket", "spent"), LIMIT);
	grow_to(20 * KEYS);
	for (int i = 0; i < 3; i++)
		ask[i] = (struct rl_ask){.rule = t_client_rule(old, name[i]), .cost = 1};
	ask[0].key = ask[2].key = key_beyond("window");
	ask[0].key_len = ask[2].key_len = strlen(ask[0].key);
	ask[1].key = "spent";
	ask[1].key_len = 5;
	for (int first = 1; first >= 0; first--) {
		struct rl_client *client;
		struct rl_ask asked[3] = {ask[first], ask[!first], ask[2]};

		assert_int_equal(rl_attach(t.path, &client, NULL), 0);
		client_mapped(client)->seg.view.extents = 1; /* as one of before */
		client_mapped(client)->seg.view.newest = client_mapped(client)->seg.view.extent[0];
		assert_int_equal(rl_check_all(client, asked, 3), RL_LIMITED);
		assert_int_equal(asked[first].answer, RL_ALLOWED);
		assert_int_equal(asked[!first].answer, RL_LIMITED);
		assert_int_equal(asked[2].answer, RL_ALLOWED);
		rl_detach(client);
	}
}

/* Hosts share the rule: a key without a slot goes on in its pool while that is used. */
static void test_grow__pool_does_not_answer_for_a_key_in_the_rest(void **state)
{
	const struct rl_rule_spec spec = {.name = "shared",
					  .terms = {LIMIT, HOUR_NS},
					  .fleet = {.consistency = RL_STRICT,
						    .no_credit = RL_NO_CREDIT_DENY,
						    .on_unreachable = RL_OWN}};
	struct rl_result result;
	char name[RL_POOL_NAME];
	struct rl_check_key pool;
	const char *key;
	size_t other;

	(void)state;
	assert_int_equal(rl_rules_publish(&t.seg, &spec, 1, &other), 0);
	assert_int_equal(rl_pool_ensure(&t.seg), 0);
	grow_to(20 * KEYS);
	t.seg.live->beat_ns = rl_clock_precise_ns() - 2 * RL_SECOND_NS; /* alone: its own window */
	key = key_beyond("shared");
	atomic_store(&old->look_ns, UINT64_MAX); /* nor does it look for another reason */
	for (uint32_t i = 0; i < RL_POOL_KEYS; i++) {
		rl_pool_key(&t.seg.view, t_client_rule(old, "shared"), i, name, &pool);
		assert_int_equal(rl_check(old, t_client_rule(old, "shared"), pool.bytes, pool.len,
					  1, 0, NULL),
				 RL_ALLOWED);
	}
	assert_int_equal(client_mapped(old)->seg.view.extents, 1);
	assert_int_equal(
		rl_check(old, t_client_rule(old, "shared"), key, strlen(key), 1, 0, &result),
		RL_ALLOWED);
	assert_int_not_equal(result.decided_by, RL_BY_POOL);
	assert_int_equal(client_mapped(old)->seg.view.extents, 2);
}

static void test_grow__ticket_of_the_rest_is_good_in_a_client_of_before(void **state)
{
	struct rl_result result;
	const char *key;

	(void)state;
	grow_to(20 * KEYS);
	key = key_beyond("window");
	assert_int_equal(
		rl_check(fresh, t_client_rule(fresh, "window"), key, strlen(key), 1, 0, &result),
		RL_ALLOWED);
	assert_int_equal(rl_refund(old, t_client_rule(old, "window"), &result), RL_REFUNDED);
	assert_int_equal(admits(old, "window", key), LIMIT - 1);
}

/* A client that has moved is who it was: one line of statistics, one holder. */
static void test_grow__requests_in_flight_are_released_after_the_move(void **state)
{
	struct rl_result held[LIMIT], more;
	struct rl_member *line;
	uint64_t flight = t_client_rule(old, "flight");
	uint32_t who;

	(void)state;
	for (int i = 0; i < LIMIT; i++)
		assert_int_equal(rl_acquire(old, flight, "k", 1, 1, &held[i]), RL_ALLOWED);
	line = own_of(client_mapped(old))->line;
	who = own_of(client_mapped(old))->holder;
	assert_int_not_equal(who, 0);
	grow_to(20 * KEYS);
	assert_int_equal(check(old, "window", "a new key moves it"), RL_ALLOWED);
	assert_int_equal(client_mapped(old)->seg.view.extents, 2);
	assert_int_equal(own_of(client_mapped(old))->holder, who);
	assert_int_equal((char *)own_of(client_mapped(old))->line -
				 (char *)client_mapped(old)->seg.member,
			 (char *)line - (char *)client_mapped(old)->before->seg.member);
	assert_int_equal(rl_acquire(old, flight, "k", 1, 1, &more), RL_LIMITED);
	assert_int_equal(rl_release(old, flight, &held[0]), 0);
	client_let_go(client_mapped(old));
	for (int i = 1; i < LIMIT; i++)
		assert_int_equal(rl_release(old, flight, &held[i]), 0);
	for (int i = 0; i < LIMIT; i++)
		assert_int_equal(rl_acquire(old, flight, "k", 1, 1, &held[i]), RL_ALLOWED);
	assert_int_equal(rl_acquire(old, flight, "k", 1, 1, &more), RL_LIMITED);
}

/* What a thread acquires in the old mapping while another one moves the client. */
static void test_grow__request_acquired_beside_the_move_is_released_too(void **state)
{
	uint64_t flight = t_client_rule(old, "flight");
	struct mapped *before = client_mapped(old), *after;
	struct rl_result first, held;

	(void)state;
	fresh = t_attach(&t);
	assert_int_equal(rl_acquire(fresh, flight, "k", 1, 1, &first), RL_ALLOWED);
	grow_to(20 * KEYS);
	assert_int_equal(rl_refresh(old, NULL), 1);
	after = client_mapped(old);
	atomic_store(&old->mapped, before); /* the thread had read it */
	assert_int_equal(rl_acquire(old, flight, "k", 1, 1, &held), RL_ALLOWED);
	assert_ptr_equal(client_mapped(old), before);
	atomic_store(&old->mapped, after);
	client_let_go(after);
	assert_int_equal(rl_release(old, flight, &held), 0);
	assert_int_equal(rl_release(old, flight, &held), RL_ERR_TICKET);
}

/* MADV_POPULATE_READ, Linux 5.14. */
static bool kernel_can(void)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool can = page != MAP_FAILED && (madvise(page, 4096, 22) == 0 || errno != EINVAL);

	munmap(page, 4096);
	if (!can)
		printf("# left out: Linux before 5.14\n");
	return can;
}

/* As of a worker that has dropped its rights, or has no descriptor free. */
static void test_grow__client_that_cannot_open_the_file_maps_the_rest_all_the_same(void **state)
{
	char away[sizeof(t.path) + 8];
	struct rl_result result;
	const char *key;

	(void)state;
	if (!kernel_can())
		return;
	assert_int_equal(check(old, "window", "k"), RL_ALLOWED);
	grow_to(3 * KEYS);
	grow_to(20 * KEYS);
	key = key_beyond("window");
	snprintf(away, sizeof(away), "%s.away", t.path);
	assert_int_equal(rename(t.path, away), 0);
	assert_int_equal(admits(old, "window", key), LIMIT - 1);
	assert_int_equal(client_mapped(old)->seg.view.extents, 3);
	assert_int_equal(admits(old, "window", "k"), LIMIT - 1);
	assert_int_equal(
		rl_peek(fresh, t_client_rule(fresh, "window"), key, strlen(key), 1, &result),
		RL_LIMITED);
	assert_int_equal(rl_refresh(old, NULL), -ENOENT);
	assert_int_equal(rename(away, t.path), 0);
	assert_int_equal(rl_refresh(old, NULL), 0);
	assert_sound();
}

/* And a header that tells of more than there is: no look behind the end of the file. */
static void test_grow__client_that_cannot_open_the_file_believes_no_header(void **state)
{
	static const uint64_t ends[] = {1 << 20, 1000, RL_BUCKETS_MAX};
	char away[sizeof(t.path) + 8];
	struct rl_hdr *hdr = (struct rl_hdr *)(void *)((char *)t.seg.live - sizeof(struct rl_hdr));
	uint64_t buckets = hdr->bucket_count;

	(void)state;
	if (!kernel_can())
		return;
	snprintf(away, sizeof(away), "%s.away", t.path);
	assert_int_equal(rename(t.path, away), 0);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		hdr->extent_end[0] = ends[i];
		hdr->grown = 1;
		assert_int_equal(check(old, "window", "unknown"), RL_ERR_GROWN);
		assert_int_equal(client_mapped(old)->seg.view.extents, 1);
	}
	hdr->grown = 0;
	assert_int_equal(rename(away, t.path), 0);
	grow_to(20 * KEYS);
	hdr = (struct rl_hdr *)(void *)((char *)t.seg.live - sizeof(struct rl_hdr));
	assert_int_equal(rename(t.path, away), 0);
	hdr->bucket_count = buckets + 3; /* all else agrees with that */
	hdr->slot_count = hdr->bucket_count * RL_LANES;
	assert_int_equal(check(old, "window", "unknown"), RL_ERR_GROWN);
	hdr->bucket_count = buckets;
	hdr->slot_count = buckets * RL_LANES;
	assert_int_equal(check(old, "window", "unknown"), RL_ALLOWED);
	assert_int_equal(rename(away, t.path), 0);
}

static void test_grow__refresh_maps_the_rest_and_then_nothing_more(void **state)
{
	static struct rl_hdr wrong = {.grown = RL_EXTENTS_MAX};

	(void)state;
	assert_int_equal(rl_refresh(old, NULL), 0);
	grow_to(20 * KEYS);
	assert_int_equal(rl_refresh(old, NULL), 1);
	assert_int_equal(rl_refresh(old, NULL), 0);
	/* Somebody writes over the header: nobody moves for ever. */
	client_mapped(old)->seg.view.hdr = &wrong;
	for (int i = 0; i < 3; i++)
		assert_int_equal(rl_refresh(old, NULL), 0);
	assert_int_equal(check(old, "window", "unknown"), RL_ERR_GROWN);
	assert_ptr_equal(client_mapped(old)->before->before, NULL);
	client_mapped(old)->seg.view.hdr = t.seg.view.hdr;
	((struct rl_hdr *)(uintptr_t)t.seg.view.hdr)->grown = 2;
	assert_int_equal(rl_refresh(old, NULL), RL_ERR_SIZES);
	assert_int_equal(check(old, "window", "unknown"), RL_ERR_GROWN);
	assert_int_equal(check(fresh, "window", "unknown"), RL_ERR_GROWN);
	((struct rl_hdr *)(uintptr_t)t.seg.view.hdr)->grown = 1;
	assert_int_equal(check(old, "window", "unknown"), RL_ALLOWED);
}

/* Claims beside a growing table. */

static struct race {
	struct rl_seg seg; /* of who mapped it before */
	struct rl_id id;
	struct rl_claim claim;
	uint64_t made; /* where who maps all has made the key */
} race;

static uint64_t open_slots(void)
{
	uint64_t open = 0;

	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		open += rl_head_is_open(t.seg.slot[i].head);
	return open;
}

static void begin_race(void)
{
	uint64_t window = t_rule(&t.seg.view, "window");
	struct rl_check_key key;

	assert_int_equal(rl_segment_attach(t.path, &race.seg, NULL), 0);
	rl_check_hash(&t.seg.view, window, "k", 1, &key);
	race.id = key.id;
	race.claim =
		(struct rl_claim){.rule_id = rl_pair_high(window), .q = 1, .window_ns = HOUR_NS};
	rl_key_text("k", 1, &race.claim.text);
}

/* The table grows and another makes the key, at once. */
static void grow_and_claim(void *unused)
{
	uint64_t head;

	(void)unused;
	grow_to(20 * KEYS);
	assert_int_equal(rl_table_claim(&t.seg, &race.id, &race.claim), 1);
	race.made = rl_table_find(&t.seg.view, &race.id, &head);
}

static void assert_made_once(bool beyond)
{
	uint64_t head;

	assert_int_equal(open_slots(), 1);
	assert_int_equal(rl_table_find(&t.seg.view, &race.id, &head), race.made);
	assert_int_equal(race.made >= t.seg.view.extent[0].count * RL_LANES, beyond);
	rl_segment_detach(&race.seg);
}

/* Stopped before it takes a slot: what it then makes tentative it does not open. */
static void test_grow__claimant_of_before_that_comes_too_late_opens_nothing(void **state)
{
	uint64_t bucket[RL_CHOICES];

	(void)state;
	if (t_under_tsan())
		return;
	begin_race();
	rl_tag_buckets(&race.id, &race.seg.view.newest, bucket);
	t_upon_access(&race.seg.slot[bucket[0] * RL_LANES + rl_tag_home(&race.id)], PROT_READ,
		      grow_and_claim, NULL);
	assert_int_equal(rl_table_claim(&race.seg, &race.id, &race.claim), RL_E_GROWN);
	assert_made_once(true);
}

/* Asked before it begins. */
static void test_grow__claimant_of_before_makes_nothing_in_a_grown_table(void **state)
{
	(void)state;
	begin_race();
	grow_and_claim(NULL);
	assert_int_equal(rl_table_claim(&race.seg, &race.id, &race.claim), RL_E_GROWN);
	assert_made_once(true);
}

/* Its claim is under way when the table grows: whoever maps all finishes that one. */
static void leave_tentative(void)
{
	uint64_t bucket[RL_CHOICES], index;
	struct rl_slot *slot;

	rl_tag_buckets(&race.id, &race.seg.view.newest, bucket);
	index = bucket[0] * RL_LANES;
	slot = &race.seg.slot[index];
	slot->id[0] = race.id.word[0];
	slot->id[1] = race.id.word[1];
	slot->shape = rl_shape(race.claim.rule_id, RL_SLIDING, 1);
	slot->window_ns = HOUR_NS;
	race.seg.tags[bucket[0]].word[0] = rl_tag_of(&race.id);
	slot->head = rl_head_closed(RL_N_FIRST + 1, RL_KIND_TENT);
}

static void test_grow__claim_under_way_is_finished_where_it_is(void **state)
{
	uint64_t head;

	(void)state;
	begin_race();
	leave_tentative();
	grow_and_claim(NULL);
	assert_made_once(false);
	assert_int_equal(rl_segment_attach(t.path, &race.seg, NULL), 0);
	race.seg.view.extents = 1; /* one of before */
	race.seg.view.newest = race.seg.view.extent[0];
	assert_int_equal(rl_table_claim(&race.seg, &race.id, &race.claim), 0);
	assert_int_equal(rl_table_find(&race.seg.view, &race.id, &head), race.made);
	rl_segment_detach(&race.seg);
}

/* Marks, frees and statistics go by index, wherever the slot lies. */
static uint64_t taken[8], taken_count;

static void take_mark(uint64_t index, void *arg)
{
	(void)arg;
	if (taken_count < 8)
		taken[taken_count] = index;
	taken_count++;
}

static void test_grow__dirty_marks_of_each_extent_are_taken(void **state)
{
	uint64_t mark[6], count = 0;

	(void)state;
	grow_to(3 * KEYS);
	grow_to(20 * KEYS);
	for (uint32_t e = 0; e < 3; e++) {
		const struct rl_extent *extent = &t.seg.view.extent[e];

		mark[count++] = extent->first * RL_LANES;
		mark[count++] = (extent->first + extent->count) * RL_LANES - 1;
	}
	for (uint64_t i = 0; i < count; i++)
		rl_dirty_mark(&t.seg, mark[i]);
	for (int whole = 0; whole < 2; whole++) {
		taken_count = 0;
		rl_dirty_take(&t.seg, whole == 1, take_mark, NULL);
		assert_int_equal(taken_count, whole == 0 ? count : 0);
	}
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(taken[i], mark[i]);
}

static void test_grow__idle_slots_of_the_rest_are_given_back(void **state)
{
	static struct sweep sweep;
	const struct rl_rule_spec brief = {.name = "window", .terms = {LIMIT, RL_WINDOW_MIN_NS}};
	size_t other;
	char key[40];

	(void)state;
	grow_to(20 * KEYS);
	assert_int_equal(rl_rules_publish(&t.seg, &brief, 1, &other), 0);
	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "%d", i);
		assert_int_equal(check(fresh, "window", key), RL_ALLOWED);
	}
	assert_int_equal(rl_table_used(&t.seg.view), 2000);
	for (uint64_t end = t_now_ns() + 50000000; t_now_ns() < end;)
		; /* the window has passed */
	sweep_init(&sweep, &t.seg);
	for (uint64_t i = 0; i < t.seg.view.slot_count; i++)
		sweep_slot(&sweep, i, rl_clock_precise_ns());
	assert_int_equal(rl_table_used(&t.seg.view), 0);
}

/* On a system with pages of 64 KiB nothing else can be mapped. */
static void test_grow__every_piece_begins_at_a_page_of_the_system(void **state)
{
	enum { PAGE = 65536 };
	struct rl_hdr hdr = {.chunk = PAGE / sizeof(struct rl_tags), .grown = 2};
	struct rl_plan plan;

	(void)state;
	rl_segment_lay_out(&hdr, 1001, 4);
	hdr.extent_end[0] = 1500;
	hdr.extent_end[1] = 5001;
	assert_int_equal(rl_plan_make(&hdr, &plan), 0);
	assert_int_equal(hdr.tags_off % PAGE, 0);
	assert_int_equal(hdr.dirty_off % PAGE, 0);
	assert_int_equal(plan.tail_at % PAGE, 0);
	for (int a = 0; a < RL_ARRAYS; a++)
		assert_int_equal(plan.array_at[a] % PAGE, 0);
	for (uint32_t e = 1; e < plan.extents; e++) {
		assert_int_equal(plan.off[e] % PAGE, 0);
		assert_int_equal(plan.dirty_at[e] % PAGE, 0);
	}
}

/* Another's step when the size of a file has been read so many times more. */
static struct {
	uint32_t left;
	void (*take)(void);
} step_upon_fstat;

int fstat(int fd, struct stat *ret)
{
	int got = fstatat(fd, "", ret, AT_EMPTY_PATH);

	if (step_upon_fstat.left > 0 && --step_upon_fstat.left == 0)
		step_upon_fstat.take();
	return got;
}

/* What a file system says that sets no limit (tmpfs with size=0), or knows no fallocate(). */
static bool limitless, plain;

int fstatvfs(int fd, struct statvfs *ret)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return -1;
	*ret = (struct statvfs){.f_bsize = (unsigned long)fs.f_bsize,
				.f_frsize = (unsigned long)fs.f_frsize,
				.f_blocks = limitless ? 0 : fs.f_blocks,
				.f_bfree = limitless ? 0 : fs.f_bfree,
				.f_bavail = limitless ? 0 : fs.f_bavail};
	return 0;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	if (!plain)
		return (int)syscall(SYS_fallocate, fd, mode, off, len);
	errno = EOPNOTSUPP;
	return -1;
}

static void grow_a_little(void)
{
	assert_int_equal(
		rl_segment_grow(t.path, 2 * rl_segment_keys(t.seg.view.bucket_count), NULL), 1);
	rl_segment_detach(&t.seg);
	assert_int_equal(rl_segment_attach(t.path, &t.seg, NULL), 0);
}

static void test_grow__who_attaches_meanwhile_is_not_refused(void **state)
{
	struct rl_view view;
	char why[RL_WHY_MAX];

	(void)state;
	for (uint32_t n = 1; n <= 2; n++) {
		step_upon_fstat.left = n;
		step_upon_fstat.take = grow_a_little;
		if (rl_segment_view(t.path, &view, why) != 0)
			fail_msg("refused: %s", why);
		step_upon_fstat.left = 0;
		rl_segment_unview(&view);
	}
}

/* Kills, and damage. */

static void write_at(uint64_t off, const void *bytes, size_t size)
{
	int fd = open(t.path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, size, (off_t)off), (ssize_t)size);
	close(fd);
}

static void test_grow__who_grows_it_is_seen_to_live(void **state)
{
	uint64_t now_ns = rl_clock_precise_ns();

	(void)state;
	t.seg.live->beat_ns = now_ns - 60 * RL_SECOND_NS;
	grow_to(20 * KEYS);
	assert_true(t.seg.live->beat_ns >= now_ns);
}

/* Killed with a longer file, heads in it, and an end in the header. */
static void test_grow__what_a_killed_agent_left_does_no_harm(void **state)
{
	static char rubbish[1 << 16];
	uint64_t size = t.seg.view.size, end = 7;

	(void)state;
	memset(rubbish, 0x5a, sizeof(rubbish));
	for (int i = 0; i < 40; i++)
		write_at(size + (uint64_t)i * sizeof(rubbish), rubbish, sizeof(rubbish));
	write_at(offsetof(struct rl_hdr, extent_end), &end, sizeof(end));
	assert_int_equal(check(old, "window", "k"), RL_ALLOWED);
	fresh = t_attach(&t);
	assert_int_equal(check(fresh, "window", "k"), RL_ALLOWED);
	rl_detach(fresh);
	fresh = NULL;
	grow_to(20 * KEYS);
	assert_int_equal(open_slots(), 1);
	assert_int_equal(rl_table_used(&t.seg.view), 1);
	assert_int_equal(admits(old, "window", "k"), LIMIT - 2);
	assert_sound();
}

/* Damage that hides an extent: who uses that must not find it gone from the file. */
static void test_grow__file_never_gets_shorter_whatever_the_header_says(void **state)
{
	struct stat before, after;
	uint64_t none = 0;
	const char *key;

	(void)state;
	grow_to(20 * KEYS);
	key = key_beyond("window");
	assert_int_equal(stat(t.path, &before), 0);
	write_at(offsetof(struct rl_hdr, grown), &none, sizeof(none));
	assert_int_equal(rl_segment_grow(t.path, 2 * KEYS, NULL), 1);
	assert_int_equal(stat(t.path, &after), 0);
	assert_true(after.st_size >= before.st_size);
	(void)check(fresh, "window", key); /* any answer will do */
}

static void test_grow__header_that_contradicts_itself_is_refused(void **state)
{
	static const struct {
		uint64_t grown, end[2];
		int error;
	} bad[] = {
		{1, {0, 0}, RL_E_SIZES},
		{1, {RL_BUCKETS_MAX + 1, 0}, RL_E_SIZES},
		{1, {UINT64_MAX, 0}, RL_E_SIZES},
		{2, {1000, 1000}, RL_E_SIZES},
		{2, {1000, 1002}, RL_E_SIZES},
		{RL_EXTENTS_MAX, {1000, 2000}, RL_E_SIZES},
		{UINT64_MAX, {1000, 2000}, RL_E_SIZES},
		{1, {1000, 0}, RL_E_SHORT},
		{2, {1000, 1003}, RL_E_SHORT},
	};
	struct rl_view view;
	char why[RL_WHY_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_at(offsetof(struct rl_hdr, extent_end), bad[i].end, sizeof(bad[i].end));
		write_at(offsetof(struct rl_hdr, grown), &bad[i].grown, sizeof(bad[i].grown));
		assert_int_equal(rl_segment_view(t.path, &view, why), bad[i].error);
		assert_int_equal(rl_segment_grow(t.path, 100 * KEYS, why), bad[i].error);
	}
}

static void test_grow__device_that_sets_no_limit_has_room(void **state)
{
	int got;

	(void)state;
	limitless = true;
	got = rl_segment_grow(t.path, 20 * KEYS, NULL);
	limitless = false;
	assert_int_equal(got, 1);
}

/* posix_fallocate() would write zeros into what is in use, beside those who count there. */
static void test_grow__without_fallocate_nothing_changes(void **state)
{
	char why[RL_WHY_MAX] = "";
	int got;

	(void)state;
	plain = true;
	got = rl_segment_grow(t.path, 20 * KEYS, why);
	plain = false;
	assert_int_equal(got, -EOPNOTSUPP);
	assert_non_null(strstr(why, "cannot allocate another"));
	assert_int_equal(rl_refresh(old, NULL), 0);
}

static void test_grow__without_room_on_the_device_nothing_changes(void **state)
{
	struct stat before, after;
	char why[RL_WHY_MAX] = "";

	(void)state;
	assert_int_equal(stat(t.path, &before), 0);
	assert_int_equal(rl_segment_grow(t.path, RL_SEGMENT_KEYS_MAX, why), -ENOSPC);
	assert_non_null(strstr(why, "cannot allocate another"));
	assert_int_equal(stat(t.path, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(check(old, "window", "k"), RL_ALLOWED);
	assert_int_equal(rl_segment_grow("/dev/shm/rl-test-none", 1, why), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grow__every_count_stays_and_there_is_room_for_more),
		TEST(test_grow__grown_five_times_it_is_whole_and_then_refuses),
		TEST(test_grow__keys_that_come_and_go_find_the_room_of_all_extents),
		TEST(test_grow__client_of_before_finds_what_lies_in_the_rest),
		TEST(test_grow__several_rules_are_answered_whoever_of_them_refuses_first),
		TEST(test_grow__pool_does_not_answer_for_a_key_in_the_rest),
		TEST(test_grow__ticket_of_the_rest_is_good_in_a_client_of_before),
		TEST(test_grow__requests_in_flight_are_released_after_the_move),
		TEST(test_grow__request_acquired_beside_the_move_is_released_too),
		TEST(test_grow__client_that_cannot_open_the_file_maps_the_rest_all_the_same),
		TEST(test_grow__client_that_cannot_open_the_file_believes_no_header),
		TEST(test_grow__refresh_maps_the_rest_and_then_nothing_more),
		TEST(test_grow__claimant_of_before_that_comes_too_late_opens_nothing),
		TEST(test_grow__claimant_of_before_makes_nothing_in_a_grown_table),
		TEST(test_grow__claim_under_way_is_finished_where_it_is),
		TEST(test_grow__dirty_marks_of_each_extent_are_taken),
		TEST(test_grow__idle_slots_of_the_rest_are_given_back),
		TEST(test_grow__who_grows_it_is_seen_to_live),
		TEST(test_grow__who_attaches_meanwhile_is_not_refused),
		TEST(test_grow__every_piece_begins_at_a_page_of_the_system),
		TEST(test_grow__what_a_killed_agent_left_does_no_harm),
		TEST(test_grow__file_never_gets_shorter_whatever_the_header_says),
		TEST(test_grow__header_that_contradicts_itself_is_refused),
		TEST(test_grow__device_that_sets_no_limit_has_room),
		TEST(test_grow__without_fallocate_nothing_changes),
		TEST(test_grow__without_room_on_the_device_nothing_changes),
	};

	return cmocka_run_group_tests_name("grow", tests, NULL, NULL);
}
