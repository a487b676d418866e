/*
 * Goal:   the most that a log says any window held is what it certainly held: all of it when the
 *         spans are short, never more than there was.
 * Method: random admits at known instants, and a count of every window by hand.
 */
#include "tests/t.h"

#include <string.h>

#include "agent/watch/log.h"

#define W    UINT64_C(1000000000)
#define MOST 600

struct truth {
	uint64_t at_ns[MOST];
	uint32_t units[MOST];
	uint32_t count;
};

/* The most in any (t - window, t], by looking at each. */
static uint64_t most_of(const struct truth *truth, uint64_t window_ns)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < truth->count; i++) {
		uint64_t held = 0;

		for (uint32_t j = 0; j < truth->count; j++)
			if (truth->at_ns[j] <= truth->at_ns[i] &&
			    truth->at_ns[i] - truth->at_ns[j] < window_ns)
				held += truth->units[j];
		most = held > most ? held : most;
	}
	return most;
}

static uint64_t measured(const struct key_log *log)
{
	static struct log_span scratch[LOG_MOST];

	return log_most(log->span, log->count, log->window_ns, 0, scratch);
}

static void test_audit_log__window_is_open_at_its_beginning_and_closed_at_its_end(void **state)
{
	struct key_log log = {0};

	(void)state;
	log_begin(&log, W, 0);
	assert_true(log_add(&log, W, W, 1));
	assert_true(log_add(&log, 2 * W, 2 * W, 1));
	assert_int_equal(measured(&log), 1);
	assert_true(log_add(&log, 2 * W + W / 2, 2 * W + W / 2, 1));
	assert_true(log_add(&log, 3 * W - 1, 3 * W - 1, 1));
	assert_int_equal(measured(&log), 3);
	log_free(&log);
}

static void test_audit_log__span_counts_only_as_a_whole(void **state)
{
	struct key_log log = {0};

	(void)state;
	log_begin(&log, W, 0);
	log_add(&log, W, W + W / 4, 1);
	log_add(&log, 2 * W - 1, 2 * W - 1, 1);
	assert_int_equal(measured(&log), 2);
	log_add(&log, 2 * W, 2 * W, 1); /* the first may have been a window before */
	assert_int_equal(measured(&log), 2);
	assert_false(log_add(&log, 2 * W, 3 * W, 1)); /* it may have been anywhere */
	assert_int_equal(measured(&log), 2);
	log_free(&log);
}

static void test_audit_log__instants_are_counted_exactly(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int run = 0; run < 300; run++) {
		static struct truth truth;
		struct key_log log = {0};
		uint64_t now_ns = 10 * W;

		truth.count = 1 + (uint32_t)t_below(&seed, 200);
		log_begin(&log, W, 0);
		for (uint32_t i = 0; i < truth.count; i++) {
			/* Far enough apart to share no span. */
			now_ns += W / LOG_PARTS + 1 + t_below(&seed, W / 20);
			truth.at_ns[i] = now_ns;
			truth.units[i] = 1 + (uint32_t)t_below(&seed, 5);
			assert_true(log_add(&log, now_ns, now_ns, truth.units[i]));
		}
		assert_int_equal(measured(&log), most_of(&truth, W));
		log_free(&log);
	}
}

/* Spans of any length, in any order, many of them shared: never more than the truth. */
static void test_audit_log__measures_no_excess_that_was_none(void **state)
{
	uint64_t seed = t_seed();
	uint64_t measured_all = 0, truth_all = 0;

	(void)state;
	for (int run = 0; run < 300; run++) {
		static struct truth truth;
		struct key_log log = {0};
		uint64_t now_ns = 10 * W, gap_ns = W / (1 + t_below(&seed, 2000));

		truth.count = 1 + (uint32_t)t_below(&seed, MOST);
		log_begin(&log, W, 0);
		for (uint32_t i = 0; i < truth.count; i++) {
			uint64_t early_ns = t_below(&seed, 8) == 0 ? t_below(&seed, W / 3) : 1000;
			uint64_t late_ns = t_below(&seed, 8) == 0 ? t_below(&seed, W / 3) : 1000;

			now_ns += t_below(&seed, 2 * gap_ns);
			truth.at_ns[i] = now_ns;
			truth.units[i] = 1 + (uint32_t)t_below(&seed, 3);
			assert_true(
				log_add(&log, now_ns - early_ns, now_ns + late_ns, truth.units[i]));
		}
		assert_true(measured(&log) <= most_of(&truth, W));
		measured_all += measured(&log);
		truth_all += most_of(&truth, W);
		log_free(&log);
	}
	/* Nor much less: an eighth of them have long spans at one end or the other. */
	assert_true(measured_all * 10 > truth_all * 8);
}

static void test_audit_log__flood_takes_a_bounded_number_of_spans(void **state)
{
	struct key_log log = {0};

	(void)state;
	log_begin(&log, W, 0);
	for (uint64_t i = 0; i < 1000000; i++)
		assert_true(log_add(&log, 10 * W + i * 5000, 10 * W + i * 5000 + 300, 1));
	assert_true(log.count <= LOG_MOST);
	assert_in_range(measured(&log), 200000 * 99 / 100, 200000);
	assert_true(log.from_ns > 10 * W); /* what was dropped is said */
	log_free(&log);
}

/* As somebody may write it to make it long: of each the beginning is before all of before. */
static void test_audit_log__spans_in_the_worst_order_are_measured_alike(void **state)
{
	static struct log_span span[16384], scratch[16384];
	const uint32_t count = sizeof(span) / sizeof(span[0]);

	(void)state;
	for (uint32_t i = 0; i < count; i++)
		span[i] = (struct log_span){10 * W - i, 10 * W + i, 1};
	assert_int_equal(log_most(span, count, W, 0, scratch), count);
	for (uint32_t i = 1; i < count; i++)
		assert_true(scratch[i - 1].begun_ns < scratch[i].begun_ns);
}

static void test_audit_log__units_that_were_given_back_are_gone(void **state)
{
	struct key_log log = {0};

	(void)state;
	log_begin(&log, W, 0);
	for (uint64_t i = 1; i <= 5; i++)
		log_add(&log, W + i * W / 10, W + i * W / 10, 2);
	log_give_back(&log, 3);
	assert_int_equal(measured(&log), 7);
	log_give_back(&log, 100);
	assert_int_equal(measured(&log), 0);
	log_free(&log);
}

static void test_audit_log__what_was_forgotten_is_gone(void **state)
{
	struct key_log log = {0};

	(void)state;
	log_begin(&log, W, 0);
	for (uint64_t i = 1; i <= 5; i++)
		log_add(&log, W + i * W / 10, W + i * W / 10, 1);
	log_forget(&log, W + 3 * W / 10);
	assert_int_equal(measured(&log), 3);
	assert_true(log_add(&log, W, W + W / 5, 1)); /* it began before */
	assert_int_equal(measured(&log), 3);
	log_free(&log);
}

static void test_audit_log__coarser_is_never_more(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (int run = 0; run < 100; run++) {
		static struct log_span coarse[LOG_MOST], scratch[LOG_MOST];
		struct key_log log = {0};
		uint64_t now_ns = 10 * W;
		uint32_t count;

		log_begin(&log, W, 0);
		for (int i = 0; i < 500; i++) {
			now_ns += t_below(&seed, W / 100);
			log_add(&log, now_ns, now_ns + t_below(&seed, 100000), 1);
		}
		count = log_coarsen(log.span, log.count, W / 16, coarse);
		assert_true(count < 200);
		assert_true(log_most(coarse, count, W, 0, scratch) <= measured(&log));
		assert_true(log_most(coarse, count, W, 0, scratch) * 10 > measured(&log) * 8);
		log_free(&log);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_audit_log__window_is_open_at_its_beginning_and_closed_at_its_end),
		cmocka_unit_test(test_audit_log__span_counts_only_as_a_whole),
		cmocka_unit_test(test_audit_log__instants_are_counted_exactly),
		cmocka_unit_test(test_audit_log__measures_no_excess_that_was_none),
		cmocka_unit_test(test_audit_log__flood_takes_a_bounded_number_of_spans),
		cmocka_unit_test(test_audit_log__spans_in_the_worst_order_are_measured_alike),
		cmocka_unit_test(test_audit_log__units_that_were_given_back_are_gone),
		cmocka_unit_test(test_audit_log__what_was_forgotten_is_gone),
		cmocka_unit_test(test_audit_log__coarser_is_never_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
