#include "agent/sync/say.h"

#include <stdio.h>
#include <string.h>

#include "agent/log.h"
#include "agent/sync/part.h"
#include "agent/sync/word.h"
#include "shm/rl_clock.h"

#define SAY_NS UINT64_C(1000000000) /* between two words on the connection */

/*
 * A connection that comes and goes is said once in a while: what was down for no longer than
 * that is in the counters. That it is up is said in the end: on_tick().
 */
static bool too_soon(const struct sync_said *said, uint64_t now_ns)
{
	return said->any_ns != 0 && now_ns - said->any_ns < SAY_NS;
}

/*
 * Several reasons may take turns for hours, and a connection may come up and fail at its first
 * call each time. Only where the last word would be wrong one is repeated, in a while.
 */
static bool is_known(const struct sync_said *said, const char *why, uint64_t now_ns)
{
	for (unsigned i = 0; i < SAY_REASONS; i++)
		if (strncmp(said->reason[i].text, why, SAY_BYTES - 1) == 0)
			return said->down || now_ns - said->reason[i].at_ns < COMPLAIN_NS;
	return false;
}

static void remember(struct sync_said *said, const char *why, uint64_t now_ns)
{
	unsigned at = said->next;

	for (unsigned i = 0; i < SAY_REASONS; i++)
		if (strncmp(said->reason[i].text, why, SAY_BYTES - 1) == 0)
			at = i;
	snprintf(said->reason[at].text, SAY_BYTES, "%s", why);
	said->reason[at].at_ns = now_ns;
	if (at == said->next)
		said->next = (at + 1) % SAY_REASONS;
}

void say_down(struct sync *sync, const char *where, const char *why)
{
	struct sync_said *said = &sync->said;
	uint64_t now_ns = rl_clock_precise_ns();

	if (too_soon(said, now_ns) || is_known(said, why, now_ns))
		return;
	remember(said, why, now_ns);
	said->down = true;
	said->any_ns = now_ns;
	log_event(LOG_WARNING, "redis_down",
		  "redis=%s msg=\"%s\" hint=\"rules go by their on_unreachable until it is back\"",
		  where, why);
}

void say_up(struct sync *sync)
{
	struct sync_said *said = &sync->said;
	uint64_t now_ns = rl_clock_precise_ns();
	bool moved = strcmp(store_where(sync->store), said->at) != 0;

	if (too_soon(said, now_ns) || (!said->down && !moved))
		return;
	snprintf(said->at, sizeof(said->at), "%s", store_where(sync->store));
	said->down = false;
	said->any_ns = now_ns;
	log_event(LOG_INFO, "redis_up", "redis=%s server=\"%s%s%s\" fleet=%s host=%s",
		  store_where(sync->store), sync->server.name,
		  sync->server.version[0] != '\0' ? " " : "", sync->server.version,
		  sync->identity.fleet, sync->identity.host);
}

/* For tools: "redis 7.0.15, redis://10.0.0.5:6379". */
static void publish_store(struct sync *sync)
{
	const struct store_server *server = &sync->server;
	_Atomic uint64_t *store = sync->seg->fleet->store;
	char text[sizeof(sync->seg->fleet->store)];

	snprintf(text, sizeof(text), "%s%s%s, %s", server->name,
		 server->version[0] != '\0' ? " " : "", server->version, store_where(sync->store));
	put_text(store, sizeof(text) / 8, text, strlen(text));
}

/* Again when it was otherwise meanwhile. */
void say_server(struct sync *sync, const char *where, const struct store_server *server)
{
	sync->server = *server;
	publish_store(sync);
	for (unsigned i = 0; i < STORE_NOTICES; i++) {
		bool is = server->notice[i].is;

		if (is && !sync->said.noticed[i])
			log_event(server->notice[i].warning ? LOG_WARNING : LOG_INFO,
				  "redis_server", "redis=%s msg=\"%s\"", where,
				  server->notice[i].text);
		sync->said.noticed[i] = is;
	}
}

void say_nodes(struct sync *sync)
{
	struct rl_fleet *fleet = sync->seg->fleet;
	struct store_node node[RL_PARTS];
	uint32_t count = store_nodes(sync->store, node);
	uint64_t up = 0, place[RL_PARTS] = {0};

	for (uint32_t i = 0; i < count; i++) {
		size_t len = strnlen(node[i].where, 8 * RL_NODE_WORDS - 1);

		put_text(fleet->node[i], RL_NODE_WORDS, node[i].where, len);
		up |= (uint64_t)node[i].up << i;
		for (uint32_t p = 0; p < RL_PARTS; p++)
			if (node[i].parts >> p & 1)
				place[p] = i + 1;
	}
	/* In whatever order these are seen, it is a moment's mistake in a table for people. */
	put(&fleet->nodes, count);
	put(&fleet->nodes_up, up);
	for (uint32_t p = 0; p < RL_PARTS; p++)
		put(&fleet->part[p].node, place[p]);
}

void say_works(struct sync *sync)
{
	if (!sync->said.down)
		for (unsigned i = 0; i < SAY_REASONS; i++)
			sync->said.reason[i].text[0] = '\0';
}
