/*
 * cases.h - what the tests of a fleet share: a reference case (bench/cases/) that must hold, and
 * for others a fleet that is ended.
 *
 * Every case prints what it measured. In a build with a sanitizer the bounds still hold, and
 * rates and delays are only printed.
 */
#ifndef TESTS_FLEET_CASES_H
#define TESTS_FLEET_CASES_H

#include "tests/t.h"

#include <stdio.h>

#include "bench/bench.h"
#include "bench/cases/cases.h"

static inline void assert_holds(void (*run)(struct fleet_case *c, uint32_t amount), uint32_t amount)
{
	struct fleet_case c;

	run(&c, amount);
	case_print(&c, "# ");
	assert_true(c.holds);
}

#endif
