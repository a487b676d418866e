/*
 * log.h - what all hosts of a fleet were asked and answered, and what it proves.
 *
 * All times are ns of the recorder's clock, also where a host's own was off.
 */
#ifndef BENCH_FLEET_LOG_H
#define BENCH_FLEET_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "bench/fleet/fleet.h"
#include "bench/judge.h"

struct fleet_request {
	uint64_t begin_ns; /* before the call */
	uint64_t now_ns;   /* the check's own reading, in real time */
	uint32_t span_ns;  /* from before the call to after it, at most UINT32_MAX */
	uint8_t host, key;
	uint8_t allowed; /* 0 or 1 */
	uint8_t state;   /* RL_STATE_* */
	uint8_t by;      /* enum rl_decided */
};

/* Sorted by the check's reading. */
struct fleet_log {
	struct fleet_request *request;
	size_t count;
	uint64_t busy; /* checks that found their slot closed by a killed agent: no answer */
};

/* Add what more holds, and free that. */
void fleet_log_add(struct fleet_log *log, struct fleet_log *more);
void fleet_log_free(struct fleet_log *log);

/* A part of a log: readings in [from_ns, to_ns), of a host and a key, or FLEET_ALL of them. */
struct fleet_part {
	uint64_t from_ns, to_ns;
	int host, key;
};
#define FLEET_WHOLE ((struct fleet_part){0, UINT64_MAX, FLEET_ALL, FLEET_ALL})

uint64_t fleet_admitted(const struct fleet_log *log, const struct fleet_part *part);
uint64_t fleet_requests(const struct fleet_log *log, const struct fleet_part *part);

/* Judge the part as one key's, whose fleet-wide limit this is. */
void fleet_judge(const struct fleet_log *log, const struct fleet_part *part, uint32_t limit,
		 uint64_t window_ns, struct verdict *ret);

/* Most admits in any window, by readings or by spans: whichever proves more. */
uint64_t fleet_most(const struct verdict *verdict);

/* First and last admit of a part, by their readings; 0 when there is none. */
uint64_t fleet_first_admit(const struct fleet_log *log, const struct fleet_part *part);
uint64_t fleet_last_admit(const struct fleet_log *log, const struct fleet_part *part);

/*
 * The first moment after from_ns from which all answers of a host are fresh, and it has
 * admitted by credit. UINT64_MAX: not in this log.
 */
uint64_t fleet_recovered_ns(const struct fleet_log *log, int host, uint64_t from_ns);

/* A percentile (0 .. 1) of the spans of a part; allowed 0 or 1, or FLEET_ALL of them. */
uint32_t fleet_span(const struct fleet_log *log, const struct fleet_part *part, int allowed,
		    double percentile);

struct fleet_balance {
	uint64_t admitted, in_redis;
	uint64_t lost, doubled; /* units, summed over keys: one key's do not make up another's */
};

/*
 * When no request is sent any more: wait until Redis knows of every admit and nothing changes
 * any more, at most 15 s, and hold what it was told against the log, key by key.
 */
void fleet_balance(struct fleet *fleet, const struct fleet_log *log, const char *key_prefix,
		   uint32_t keys, struct fleet_balance *ret);

#endif
