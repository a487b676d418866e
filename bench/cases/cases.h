/*
 * cases.h - the reference cases of a fleet's accuracy, R1 to R19. Real agents, a real Redis; M
 * hosts, L = 1000/s, T = 50 ms, strict, callers that may wait, unless said. maxW is the most that
 * was admitted in any (t - W, t], judged by the readings of the checks and by whole spans; "used"
 * is what was admitted, of what a log of every single event would have admitted of the same
 * requests; "when" may be off by T + RTT + 5 ms.
 *
 *	R1   M=1, L=100/2s, 1000 requests at once, then 10/ms
 *		100 at once, none before W, then 100 again; maxW = 100
 *	R2, R3, R4: of windows of two buckets, which there are none of
 *	R5   M=3, L=100/s: at the end of a clock's second, then flooded
 *		100 until W, not 200
 *	R6   M=1, L=100/500ms, 100 at once each 1.1 W
 *		all of them each round
 *	R7   M=1, token bucket, L=100/s, burst 10: 200 at once, then one each 5 ms for 1 s
 *		10; then 100 +- 1; maxW <= 110
 *	R8   M=10, Poisson 10x
 *		maxW <= L; used >= 98 %; a host's share 8 .. 12 %; <= 60 syncs a second and host
 *	R9   R8 at 0.5x and 0.9x
 *		refused: 0; <= 2 %
 *	R10  R8 at 2x, all on one host; by Zipf over the hosts; on another each 0.5 s
 *		maxW <= L; used >= 97, 97, 95 %
 *	R11  M=10, 1000 requests to each host within 1 ms, cold
 *		strict: 1000 exactly; bounded 10 %, deny: <= 1100; allow: <= 1200
 *	R12  R11 again each 1.05 W; and to one of ten hosts each T
 *		the same bounds; strict used >= 90 %
 *	R13  M=20, L=10/s, 3x
 *		maxW <= 10; used >= 95 %
 *	R14  M=10, L=100, 2x for 3 W (W = 60 s in the proof)
 *		maxW <= 100; used >= 97 %
 *	R15  R8 with each 5th reply lost, or connections cut each 200 ms; an agent killed each 100
 *ms maxW <= L; when it is quiet, Redis has each admit once R16  R8 at 2x, one host vanishes with
 *its leases maxW <= L; after 10 s + T a window has 97 % of it again R17  M=3, bounded, share, 2x,
 *no waiting; Redis stopped for 5 s W = 1 s: maxW <= 1.05 L, >= 60 % admitted meanwhile; W = 60 s:
 *maxW <= 1.005 L; normal 300 ms after R18  R8 at 2x, clocks 500 ms behind to 500 ms ahead, one
 *steps by 2 s as without R19  FLUSHALL at 10x maxW <= 2 L; after W <= L again
 *
 * How long a case runs is its last argument.
 */
#ifndef BENCH_CASES_CASES_H
#define BENCH_CASES_CASES_H

#include "bench/cases/case.h"

#define T         (50 * MS)    /* between two syncs, as the cases configure it */
#define WHEN      (T + 6 * MS) /* tolerance on when something happens: T + RTT + 5 ms */
#define AS_T50    "interval: 50ms"
#define AS_FAULTY "interval: 50ms, timeout: 200ms" /* a lost reply is waited for so long */

/* window.c */
void case_r1(struct fleet_case *c, uint32_t rounds);
void case_r5(struct fleet_case *c, uint32_t rounds);
void case_r6(struct fleet_case *c, uint32_t rounds);
void case_r7(struct fleet_case *c, uint32_t rounds);

/* steady.c */
void case_r8(struct fleet_case *c, uint32_t seconds);
void case_r9_half(struct fleet_case *c, uint32_t seconds);
void case_r9_near(struct fleet_case *c, uint32_t seconds);
void case_r10_one(struct fleet_case *c, uint32_t seconds);
void case_r10_zipf(struct fleet_case *c, uint32_t seconds);
void case_r10_moving(struct fleet_case *c, uint32_t seconds);
void case_r13(struct fleet_case *c, uint32_t seconds);
void case_r14(struct fleet_case *c, uint32_t window_s);

/* flash.c */
void case_r11(struct fleet_case *c, uint32_t rounds);
void case_r12_again(struct fleet_case *c, uint32_t rounds);
void case_r12_rolling(struct fleet_case *c, uint32_t bursts);

/* faults.c */
void case_r15_replies(struct fleet_case *c, uint32_t seconds);
void case_r15_cuts(struct fleet_case *c, uint32_t seconds);
void case_agentkill(struct fleet_case *c, uint32_t kills);

/* gone.c */
void case_r16(struct fleet_case *c, uint32_t look_ms);

/* outage.c */
void case_r17_second(struct fleet_case *c, uint32_t load_factor);
void case_r17_minute(struct fleet_case *c, uint32_t load_factor);
void case_r19(struct fleet_case *c, uint32_t flushes);

/* skew.c: for programs that are linked with tests/skew/skew.o */
void case_r18(struct fleet_case *c, uint32_t seconds);

/* What case_r8() and its like do, with other numbers. */
enum steady_spread {
	STEADY_UNIFORM,
	STEADY_ONE,   /* all to the first host */
	STEADY_ZIPF,  /* host h gets a part of 1 / (h + 1) */
	STEADY_MOVING /* to one host after the other, half a window each */
};

struct steady {
	const char *rule; /* all of it: its name is r */
	const char *redis;
	uint32_t hosts, limit, threads, flags;
	uint64_t window_ns, for_ns;
	double load; /* times the limit */
	enum steady_spread spread;
};

struct steady_result {
	struct verdict verdict;
	double used_percent, refused_percent, syncs_per_host_s;
	double least_share, most_share; /* of a host, percent of what was admitted */
};

void steady_run(const char *name, const struct steady *steady, struct steady_result *ret);

/* As case_r15_replies(), with other numbers: replies lost and agents killed. */
struct faulty {
	const char *rule, *redis;
	const char *fault;
	uint32_t hosts, limit, keys, threads, flags;
	double load;           /* times the limit of all keys */
	uint64_t kill_each_ns; /* 0: nobody; at random moments around it */
	uint32_t kills;        /* the run ends with the last; 0: by for_ns */
	uint64_t for_ns;
};

struct faulty_result {
	uint64_t most; /* in a window, of the key that was furthest above its limit */
	double used_percent, least_used_percent; /* of all keys, of the one with the least */
	uint64_t kills, resends;
	double syncs_per_host_s;
	struct fleet_balance balance;
};

void faulty_run(const char *name, const struct faulty *faulty, struct faulty_result *ret);

/* 1000 requests to each host at once, of a key that nobody knows yet. */
struct verdict flash_run(struct fleet *fleet, const char *rule, uint32_t threads, uint32_t flags);

/* An outage: Redis stopped and continued. */
struct outage {
	const char *rule, *redis;
	uint32_t hosts, limit;
	uint64_t window_ns, before_ns, after_ns;
	double load;
	uint32_t probe_batch; /* not 0: also batches of checks of another key */
};

struct outage_result {
	uint64_t start_ns, stop_ns, continue_ns;
	struct fleet_log log, probes; /* for fleet_log_free() */
	uint64_t most;                /* in a window that ends between the stop and the end */
	double admitted_percent;      /* of L / W, from 250 ms after the stop to the continue */
	double recovery_ms;  /* from the continue until all hosts are fresh, for good, and have
			      * admitted by credit; all there is if they never are */
	double said_percent; /* of the answers from 1 s after the stop: those that say so */
};

#define OUTAGE_NS (5 * SECOND)
#define STALE_NS  (250 * MS) /* an unanswered sync is noticed then: the default */

void outage_run(const char *name, const struct outage *outage, struct outage_result *ret);

#endif
