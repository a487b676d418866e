/*
 * Question: does every reference case of a fleet's accuracy hold, in its long form?
 *
 * A line for each case: name, input, expected, measured, verdict; behind a '#' what was seen on
 * the way. With arguments only the cases of these names (R8, kills, ...). bench/cases/cases.h says
 * what each does. Exit status 1 when one does not hold.
 */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

static const struct listed {
	const char *name;
	void (*run)(struct fleet_case *c, uint32_t amount);
	uint32_t amount;
	const char *gone; /* why there is nothing to run */
} listed[] = {
	{"R1", case_r1, 6, NULL},
	{"R2", NULL, 0, "an estimate of two buckets; windows are logs here"},
	{"R3", NULL, 0, "an estimate of two buckets; windows are logs here"},
	{"R4", NULL, 0, "two buckets left idle; windows are logs here"},
	{"R5", case_r5, 6, NULL},
	{"R5", NULL, 0, "its half of two buckets"},
	{"R6", case_r6, 10, NULL},
	{"R6", NULL, 0, "its half of two buckets"},
	{"R7", case_r7, 10, NULL},
	{"R8", case_r8, 12, NULL},
	{"R9", case_r9_half, 20, NULL},
	{"R9", case_r9_near, 30, NULL},
	{"R10", case_r10_one, 12, NULL},
	{"R10", case_r10_zipf, 12, NULL},
	{"R10", case_r10_moving, 12, NULL},
	{"R11", case_r11, 10, NULL},
	{"R12", case_r12_again, 5, NULL},
	{"R12", case_r12_rolling, 100, NULL},
	{"R13", case_r13, 40, NULL},
	{"R14", case_r14, 60, NULL},
	{"R15", case_r15_replies, 40, NULL},
	{"R15", case_r15_cuts, 40, NULL},
	{"R16", case_r16, 5000, NULL},
	{"R17", case_r17_second, 2, NULL},
	{"R17", case_r17_minute, 2, NULL},
	{"R18", case_r18, 12, NULL},
	{"R19", case_r19, 5, NULL},
	{"kills", case_agentkill, 5000, NULL},
};

static bool is_wanted(const char *name, int count, char **names)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return count == 0;
}

int main(int argc, char **argv)
{
	int held = 0, run = 0;

	bench_machine();
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		const struct listed *l = &listed[i];
		struct fleet_case c;

		if (!is_wanted(l->name, argc - 1, argv + 1))
			continue;
		if (l->run == NULL) {
			printf("%s | falls away: %s\n", l->name, l->gone);
			continue;
		}
		l->run(&c, l->amount);
		case_print(&c, "");
		held += c.holds;
		run++;
	}
	printf("%d of %d cases hold\n", held, run);
	return held != run || run == 0;
}
