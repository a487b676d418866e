/*
 * Question: is every admit told to Redis exactly once, whenever an agent dies?
 *
 * Five real agents, each behind a proxy that loses every 5th reply, a real Redis, eight keys at
 * twice their limit of 200 a second. Agents are killed with SIGKILL at random moments, one after
 * the other, 60 ms apart on average, and started again at once. Then, when it is quiet, every
 * unit that Redis was ever told of is held against the admits recorded, key by key.
 *
 * An argument is the number of kills. Exit status 1 when a unit was lost or doubled, or a window
 * held more than the limit.
 */
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

int main(int argc, char **argv)
{
	uint32_t kills = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 400;
	struct fleet_case c;

	bench_machine();
	case_agentkill(&c, kills);
	case_print(&c, "");
	bench_figure("agentkill_kills", case_number(&c, "kills"), "kills");
	bench_figure("agentkill_units", case_number(&c, "admitted"), "units");
	bench_figure("agentkill_lost", case_number(&c, "lost"), "units");
	bench_figure("agentkill_doubled", case_number(&c, "doubled"), "units");
	return !c.holds;
}
