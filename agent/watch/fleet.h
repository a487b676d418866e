/*
 * fleet.h - what all hosts together admitted of an audited key: each shows the others its log, in
 * the store's time, and each judges the windows of all of them.
 *
 * Rooms:  agent/watch/, agent/sync/. Bytes and arithmetic; no store here.
 *
 * Logs are in the store's time as their host knows it (skew.h): a span is made longer by what that
 * may be wrong by, at both ends. So what is measured is never more than what was. Windows are
 * judged up to the time to which all hosts that have shown something lately have shown everything.
 * Nothing is judged while the store's clock is doubtful, and nothing of before it was found out to
 * have moved.
 *
 * A LOG   made, from, until: us of the store's clock; all that ended in between is in it
 *         window us, limit: the terms that it was admitted under
 *         count, and for each span: begun, ended us, units
 */
#ifndef WATCH_FLEET_H
#define WATCH_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/watch/audit.h"
#include "agent/watch/skew.h"

#define FLEET_SPANS     256u /* of one host's log, when there are few hosts */
#define FLEET_SPANS_ALL 4096u
#define FLEET_HEAD      44u
#define FLEET_LOG_MOST  (FLEET_HEAD + FLEET_SPANS * 20)
#define FLEET_SETTLE_US UINT64_C(5000000) /* other hosts notice what we have, later */

/* How often a host shows its log of a key that is being admitted; and how long it is of use. */
uint64_t fleet_tell_ns(uint64_t window_ns);
uint64_t fleet_keep_ms(uint64_t window_ns);

/* Is it time? hosts: live ones. */
bool fleet_is_due(const struct audit_key *key, uint32_t hosts, uint64_t now_ns);

/* The store's time, as a host knows it: ours and add_ns, wrong by by_ns at most. */
struct fleet_time {
	int64_t add_ns;
	uint64_t by_ns;
};

/* Returns the log's size. */
size_t fleet_write(const struct audit_key *key, struct fleet_time time, uint64_t now_ns,
		   uint32_t hosts, unsigned char out[FLEET_LOG_MOST]);

/*
 * Judge the windows of all logs, each behind its length. Returns how many windows were judged, and
 * the most that one held; 0: none could be.
 */
uint64_t fleet_judge(struct audit_key *key, const unsigned char *logs, size_t size,
		     uint64_t *ret_most);

/* Nothing that began before now is judged over all hosts any more. */
void fleet_begin_anew(struct audit_key *key, struct fleet_time time, uint64_t now_ns);

#endif
