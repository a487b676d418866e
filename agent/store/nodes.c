#include "agent/store/nodes.h"

#include <stdio.h>
#include <string.h>

#include <agent/store/rl_control.lua.h> /* made from rl_control.lua: rl_control_lua[] */
#include <agent/store/rl_probe.lua.h>   /* likewise */
#include <agent/store/rl_share.lua.h>   /* likewise */
#include <agent/store/rl_sync.lua.h>    /* likewise */

#include "shm/rl_clock.h"

static_assert((int)NOTICES <= (int)STORE_NOTICES, "each kind of notice has a place");

/* What there is to be known of any node is known of the store: each thing is said once. */
static void gather(const struct backend *self, struct store_server *ret)
{
	for (size_t n = 0; n < NODES_MAX; n++)
		for (size_t i = 0; i < STORE_NOTICES; i++)
			if (self->node[n].redis != NULL && self->node[n].server.notice[i].is &&
			    !ret->notice[i].is)
				ret->notice[i] = self->node[n].server.notice[i];
}

/* Sentinel may have sent us elsewhere. */
static void name_it(struct node *node)
{
	redis_name(node->redis, node->where);
	if (node->self->cluster == NULL)
		memcpy(node->self->store->where, node->where, sizeof(node->where));
}

static void on_server(void *arg, const struct redis_server *redis)
{
	struct node *node = arg;
	struct store_server *server = &node->server, all;

	memset(server, 0, sizeof(*server));
	memcpy(server->name, redis->name, sizeof(server->name));
	memcpy(server->version, redis->version, sizeof(server->version));
	for (int i = 0; i < NOTICES; i++) {
		server->notice[i].warning = i == NOTICE_EVICTS;
		server->notice[i].is =
			redis_server_notice(redis, (enum redis_notice)i, server->notice[i].text,
					    sizeof(server->notice[i].text));
	}
	name_it(node);
	all = *server;
	gather(node->self, &all);
	if (node->use != REDIS_GUIDE)
		store_report_server(node->self->store, node->where, &all);
}

static void on_up(void *arg)
{
	struct node *node = arg;

	name_it(node);
	node->up = true;
	node->used_ns = rl_clock_precise_ns();
	if (node->parts != 0)
		store_report_up(node->self->store, node->parts);
	if (node->self->cluster != NULL)
		cluster_up(node);
}

static void on_down(void *arg, const char *why)
{
	struct node *node = arg;

	name_it(node);
	node->up = false;
	node->failed = true;
	if (node->parts != 0)
		store_report_down(node->self->store, node->parts, node->where, why);
	else if (node->use == REDIS_GUIDE) /* nothing is known of where they are */
		store_report_down(node->self->store, STORE_ALL & ~node->self->store->up,
				  node->where, why);
	if (node->self->cluster != NULL)
		cluster_down(node);
}

/* In a partition that the node has, beside its keys "s", "h", "k:..." and "l:...". */
static void probe_there(struct node *node, uint32_t part)
{
	char key[128];

	snprintf(key, sizeof(key), "{rl:%s:%u}:probe", node->self->fleet, part);
	redis_set_probe_key(node->redis, key);
}

static bool prepare(struct node *node, const struct redis_sentinels *sentinels)
{
	struct redis *redis = node->redis;

	redis_set_use(redis, node->use);
	redis_set_login(redis, &node->self->login);
	redis_set_timeout(redis, node->self->timeout_ms);
	if (node->address.tls && redis_set_trust(redis, &node->self->trust) != 0)
		return false;
	if (sentinels != NULL && redis_set_sentinels(redis, sentinels, &node->self->trust) != 0)
		return false;
	return node->use == REDIS_GUIDE ||
	       (redis_add_script(redis, rl_sync_lua, sizeof(rl_sync_lua)) == SCRIPT_SYNC &&
		redis_add_script(redis, rl_control_lua, sizeof(rl_control_lua)) == SCRIPT_CONTROL &&
		redis_add_script(redis, rl_share_lua, sizeof(rl_share_lua)) == SCRIPT_SHARE &&
		redis_set_probe(redis, rl_probe_lua, sizeof(rl_probe_lua), "") == 0);
}

struct node *node_open(struct backend *self, const struct redis_address *address,
		       enum redis_use use, const struct redis_sentinels *sentinels)
{
	static const struct redis_events events = {
		.server = on_server, .up = on_up, .down = on_down};
	struct node *node = NULL;

	for (size_t i = 0; i < NODES_MAX && node == NULL; i++)
		if (self->node[i].redis == NULL)
			node = &self->node[i];
	if (node == NULL)
		return NULL;
	memset(node, 0, sizeof(*node));
	node->self = self;
	node->address = *address;
	node->use = use;
	node->used_ns = rl_clock_precise_ns();
	node->redis = redis_new(self->base, address, &events, node);
	if (node->redis == NULL)
		return NULL;
	if (prepare(node, sentinels)) {
		probe_there(node, 0);
		redis_name(node->redis, node->where);
		return node;
	}
	node_close(node);
	return NULL;
}

void node_close(struct node *node)
{
	struct backend *self = node->self;
	struct redis *redis = node->redis;

	for (uint32_t p = 0; p < RL_PARTS; p++) {
		if (self->route[p] == node)
			self->route[p] = NULL;
		if (self->ask[p] == node)
			self->ask[p] = NULL;
	}
	node->up = false;
	node->parts = 0;
	redis_free(redis); /* whoever is told of a lost call finds it down, and its place taken */
	node->redis = NULL;
}

struct node *node_at(struct backend *self, const struct redis_address *address)
{
	for (size_t i = 0; i < NODES_MAX; i++) {
		struct node *node = &self->node[i];

		if (node->redis != NULL && node->use != REDIS_GUIDE &&
		    node->address.port == address->port &&
		    strcmp(node->address.host, address->host) == 0)
			return node;
	}
	return NULL;
}

void node_route(struct node *node, uint32_t part, bool again)
{
	struct backend *self = node->self;
	struct node *before = self->route[part];
	uint32_t bit = UINT32_C(1) << part;

	if (before == node)
		return;
	if (before != NULL) {
		before->parts &= ~bit;
		before->used_ns = rl_clock_precise_ns();
	}
	self->route[part] = node;
	if (node->parts == 0)
		probe_there(node, part);
	node->parts |= bit;
	if (node->up && (again || !store_is_up(self->store, part)))
		store_report_up(self->store, bit);
	else if (!node->up && store_is_up(self->store, part))
		store_report_down(self->store, bit, node->where, NULL);
}
