#include "agent/sync/share.h"

#include <stdlib.h>
#include <string.h>

#include "agent/sync/call.h"
#include "agent/watch/fleet.h"
#include "shm/rl_clock.h"
#include "shm/rl_shared.h"

/* Whose logs an answer has. */
struct ticket {
	struct sync *sync;
	uint64_t index;
	uint32_t made, moves;
};

static bool time_of(const struct watch *watch, uint64_t now_ns, struct fleet_time *ret)
{
	return skew_is_steady(&watch->skew) &&
	       skew_now(&watch->skew, now_ns, &ret->add_ns, &ret->by_ns);
}

static void on_logs(const struct store_answer *answer, void *arg)
{
	struct ticket ticket = *(struct ticket *)arg;
	struct watch *watch = ticket.sync->watch;
	struct audit_key *key = audit_find(watch->audit, ticket.index);
	struct fleet_time time;
	uint64_t judged, most = 0;

	free(arg);
	if (key == NULL || key->made != ticket.made)
		return;
	key->asked = false;
	if (answer->outcome != STORE_ANSWERED || ticket.moves != watch->moves ||
	    !time_of(watch, rl_clock_precise_ns(), &time))
		return;
	judged = fleet_judge(key, answer->answers, answer->answers_size, &most);
	audit_fleet(watch->audit, key, judged, most);
}

static void share(struct sync *sync, struct audit_key *key, struct fleet_time time, uint64_t now_ns)
{
	static unsigned char bytes[FLEET_LOG_MOST];
	char name[CALL_NAME_SIZE];
	struct store_log log = {
		.row = sync->identity.row,
		.name = name,
		.name_size = call_name(sync, key->index, name),
		.bytes = bytes,
		.size = fleet_write(key, time, now_ns, rl_shared_hosts(&sync->seg->view), bytes),
		.keep_ms = fleet_keep_ms(key->rule.window_ns),
	};
	struct ticket *ticket = malloc(sizeof(*ticket));

	key->told_ns = now_ns;
	if (ticket == NULL)
		return;
	*ticket = (struct ticket){sync, key->index, key->made, sync->watch->moves};
	key->asked = store_share(sync->store, sync_part_of(sync, key->index), &log, on_logs,
				 ticket) == 0;
	if (!key->asked)
		free(ticket);
}

/* The store's clock has moved: what was shown before is in another time. */
static void follow_clock(struct sync *sync, struct audit_key *key, struct fleet_time time,
			 uint64_t now_ns)
{
	if (key->fleet_since_us == 0) /* a new key */
		key->fleet_since_us = 1;
	else if (key->moves != sync->watch->moves)
		fleet_begin_anew(key, time, now_ns);
	key->moves = sync->watch->moves;
}

void share_some(struct sync *sync, uint64_t now_ns)
{
	struct audit *audit = sync->watch == NULL ? NULL : sync->watch->audit;
	uint32_t left = SHARE_MOST, hosts = rl_shared_hosts(&sync->seg->view);
	struct fleet_time time;

	if (audit == NULL || hosts < 2 || !time_of(sync->watch, now_ns, &time))
		return;
	for (uint32_t i = 0; i < audit->key_count && left > 0; i++) {
		struct audit_key *key = &audit->key[(audit->shown + i) % audit->key_count];

		if (!fleet_is_due(key, hosts, now_ns) ||
		    rl_audit_id(&sync->seg->view, key->index) != key->id)
			continue;
		if (key->reset) /* by all hosts, within a while */
			fleet_begin_anew(key, time, now_ns);
		key->reset = false;
		follow_clock(sync, key, time, now_ns);
		share(sync, key, time, now_ns);
		left--;
	}
	audit->shown++;
}
