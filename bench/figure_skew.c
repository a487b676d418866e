/*
 * Question: does a fleet's limit depend on its hosts' clocks?
 *
 * Ten real agents and a Redis, 1000 a second, strict, twice as many requests for 12 s. The hosts'
 * clocks are 500 ms behind to 500 ms ahead; one steps 2 s ahead in the middle. Agents have their
 * clocks from a preloaded clock_gettime, load threads from the same one linked in; the recorder
 * asks the kernel.
 *
 * Exit status 1 when any window held more than the limit, or less than 97 % of it was used.
 */
#include "bench/bench.h"
#include "bench/cases/cases.h"

int main(void)
{
	struct fleet_case c;

	bench_machine();
	case_r18(&c, 12);
	case_print(&c, "");
	bench_figure("skew_excess_percent",
		     case_excess_percent((uint64_t)case_number(&c, "maxW"), 1000), "%");
	bench_figure("skew_utilisation_percent", case_number(&c, "used"), "%");
	return !c.holds;
}
