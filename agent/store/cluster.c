/*
 * cluster.c - Redis Cluster: which node has which partition, and what happens when that changes.
 *
 * The map is asked of any node that is up, else of a guide: one seed after the other. It is asked
 * when a node says that a slot has moved, and while anything is down or slow, REFRESH_MS apart at
 * most. What a node says of a single slot stands above the map until the next one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/redis/slots.h"
#include "agent/store/nodes.h"
#include "shm/rl_clock.h"

#define BEAT_MS      50u
#define REFRESH_MS   UINT64_C(100)
#define UNHEARD_MS   UINT64_C(300)  /* then another node is asked */
#define GUIDE_MS     UINT64_C(3000) /* for a seed to answer */
#define GUIDE_MIN_MS 50u            /* between two seeds, and twice as much after each */
#define GUIDE_MAX_MS 2000u
#define IDLE_MS      UINT64_C(5000) /* without a partition: then a connection is closed */
#define NS_PER_MS    UINT64_C(1000000)

static bool is_past(uint64_t since_ns, uint64_t ms)
{
	return rl_clock_precise_ns() - since_ns >= ms * NS_PER_MS;
}

static struct node *guide_of(struct backend *self)
{
	for (size_t i = 0; i < NODES_MAX; i++)
		if (self->node[i].redis != NULL && self->node[i].use == REDIS_GUIDE)
			return &self->node[i];
	return NULL;
}

/* The next node that is up and has not just failed to answer; or NULL. */
static struct node *somebody(struct backend *self)
{
	for (size_t i = 0; i < NODES_MAX; i++) {
		struct node *node = &self->node[self->cluster->turn++ % NODES_MAX];

		if (node->redis != NULL && node->up && !redis_is_slow(node->redis))
			return node;
	}
	return NULL;
}

/* --- the map --- */

static void take_owner(struct backend *self, uint32_t part, const struct redis_address *owner)
{
	struct node *node = node_at(self, owner);

	if (owner->port != 0) {
		if (node == NULL)
			node = node_open(self, owner, REDIS_NODE, NULL);
		if (node != NULL)
			node_route(node, part, true);
		else
			self->cluster->wanted = true; /* it stays where it was for now */
		return;
	}
	if (self->route[part] != NULL) {
		self->route[part]->parts &= ~(UINT32_C(1) << part);
		self->route[part] = NULL;
	}
	store_report_down(self->store, UINT32_C(1) << part, self->store->where,
			  "no node serves some slots that are ours: redis-cli --cluster check");
}

static void take_map(struct backend *self, const struct node *from, const redisReply *reply)
{
	static struct redis_address owner[RL_PARTS];
	const char *why =
		redis_slots_read(reply, &from->address, self->cluster->slot, RL_PARTS, owner);

	if (why != NULL) {
		store_report_down(self->store, STORE_ALL & ~self->store->up, from->where, why);
		return;
	}
	self->cluster->wanted = false;
	for (uint32_t p = 0; p < RL_PARTS; p++)
		take_owner(self, p, &owner[p]);
}

struct question {
	struct node *node;
	unsigned serial;
};

static void on_map(struct redis *redis, redisReply *reply, void *arg)
{
	struct question question = *(struct question *)arg;
	struct backend *self = question.node->self;
	char why[256];

	(void)redis;
	free(arg);
	if (reply == NULL || question.serial != self->cluster->serial)
		return;
	self->cluster->answered_ns = rl_clock_precise_ns();
	self->cluster->serial++;
	if (reply->type != REDIS_REPLY_ERROR) {
		take_map(self, question.node, reply);
		return;
	}
	snprintf(why, sizeof(why), "CLUSTER SLOTS is answered %.200s", reply->str);
	store_report_down(self->store, STORE_ALL & ~self->store->up, question.node->where, why);
}

static void ask(struct backend *self, struct node *node)
{
	const char *argv[] = {"CLUSTER", "SLOTS"};
	const size_t length[] = {7, 5};
	struct question *question = malloc(sizeof(*question));

	if (question == NULL)
		return;
	self->cluster->asked_ns = rl_clock_precise_ns();
	*question = (struct question){node, ++self->cluster->serial};
	if (redis_command(node->redis, 2, argv, length, on_map, question) != 0)
		free(question);
}

/* --- the guide --- */

/* Seeds that we are connected to as nodes keep trying by themselves. */
static const struct redis_address *next_seed(struct backend *self)
{
	struct cluster *cluster = self->cluster;

	for (unsigned i = 0; i < cluster->seeds.count; i++) {
		const struct redis_address *seed =
			&cluster->seeds.address[cluster->seed++ % cluster->seeds.count];

		if (node_at(self, seed) == NULL)
			return seed;
	}
	return NULL;
}

static void guide(struct backend *self)
{
	struct cluster *cluster = self->cluster;
	struct node *node = guide_of(self);
	const struct redis_address *seed;

	if (node != NULL && !node->failed && !is_past(node->used_ns, GUIDE_MS))
		return;
	if (rl_clock_precise_ns() < cluster->guide_ns)
		return;
	if (node != NULL)
		node_close(node);
	seed = next_seed(self);
	if (seed != NULL)
		node_open(self, seed, REDIS_GUIDE, NULL);
	cluster->guide_ns = rl_clock_precise_ns() + cluster->guide_ms * NS_PER_MS;
	cluster->guide_ms *= 2;
	if (cluster->guide_ms > GUIDE_MAX_MS)
		cluster->guide_ms = GUIDE_MAX_MS;
}

/* --- time --- */

static bool is_slow(const struct backend *self)
{
	for (size_t i = 0; i < NODES_MAX; i++)
		if (self->node[i].redis != NULL && self->node[i].parts != 0 &&
		    redis_is_slow(self->node[i].redis))
			return true;
	return false;
}

static bool is_of_use(const struct node *node, bool any_up)
{
	if (node->use == REDIS_GUIDE)
		return !any_up;
	return node->parts != 0 || !is_past(node->used_ns, IDLE_MS);
}

static void tidy(struct backend *self)
{
	bool any_up = false;

	for (size_t i = 0; i < NODES_MAX; i++)
		any_up = any_up || (self->node[i].redis != NULL && self->node[i].up &&
				    self->node[i].use != REDIS_GUIDE);
	for (size_t i = 0; i < NODES_MAX; i++)
		if (self->node[i].redis != NULL && !is_of_use(&self->node[i], any_up))
			node_close(&self->node[i]);
}

static void look(struct backend *self)
{
	struct cluster *cluster = self->cluster;
	bool unheard = cluster->asked_ns > cluster->answered_ns;
	struct node *node;

	if (!is_past(cluster->asked_ns, unheard ? UNHEARD_MS : REFRESH_MS))
		return;
	if (!cluster->wanted && self->store->up == STORE_ALL && !is_slow(self))
		return;
	node = somebody(self);
	if (node != NULL)
		ask(self, node);
	else
		guide(self);
}

static void on_beat(evutil_socket_t unused, short events, void *arg)
{
	(void)unused, (void)events;
	tidy(arg);
	look(arg);
}

void cluster_up(struct node *node)
{
	struct cluster *cluster = node->self->cluster;

	cluster->guide_ms = GUIDE_MIN_MS;
	if (node->use == REDIS_GUIDE)
		look(node->self);
}

void cluster_down(struct node *node)
{
	node->self->cluster->wanted = true;
}

/* --- what a call is answered --- */

static enum store_outcome redirected(struct node *node, uint32_t part,
				     const struct redis_redirect *redirect)
{
	struct backend *self = node->self;
	struct node *to = node_at(self, &redirect->to);

	if (to == NULL)
		to = node_open(self, &redirect->to, REDIS_NODE, NULL);
	if (to == NULL)
		return STORE_LATER;
	to->used_ns = rl_clock_precise_ns();
	if (redirect->ask) {
		self->ask[part] = to;
		return to->up ? STORE_AGAIN : STORE_LATER;
	}
	self->cluster->wanted = true;
	node_route(to, part, false);
	return to->up ? STORE_AGAIN : STORE_LOST; /* it is sent again when the partition is up */
}

enum store_outcome cluster_outcome(struct node *node, uint32_t part, const char *error)
{
	struct redis_redirect redirect;

	if (strncmp(error, "TRYAGAIN", 8) == 0)
		return STORE_LATER;
	if (strncmp(error, "CLUSTERDOWN", 11) == 0)
		node->self->cluster->wanted = true;
	if (!redis_redirect_read(error, &node->address, &redirect) ||
	    redirect.slot != node->self->cluster->slot[part])
		return STORE_REFUSED;
	return redirected(node, part, &redirect);
}

static void ignore(struct redis *redis, redisReply *reply, void *arg)
{
	(void)redis, (void)reply, (void)arg;
}

struct node *cluster_node(struct backend *self, uint32_t part)
{
	const char *argv[] = {"ASKING"};
	const size_t length[] = {6};
	struct node *named = self->ask[part];

	self->ask[part] = NULL;
	if (named != NULL && named->up &&
	    redis_command(named->redis, 1, argv, length, ignore, NULL) == 0)
		return named;
	return self->route[part];
}

/* --- its life --- */

static void name_all(const struct redis_seeds *seeds, char where[STORE_WHERE])
{
	size_t used = 0;

	for (unsigned i = 0; i < seeds->count && used < STORE_WHERE; i++) {
		char url[REDIS_URL_MAX];

		redis_url_format(&seeds->address[i], url);
		used += (size_t)snprintf(where + used, STORE_WHERE - used, "%s%s",
					 i == 0 ? "" : ",", url);
	}
}

bool cluster_begin(struct backend *self, const struct redis_seeds *seeds)
{
	const struct timeval beat = {.tv_usec = BEAT_MS * 1000};
	struct cluster *cluster = calloc(1, sizeof(*cluster));

	self->cluster = cluster;
	if (cluster == NULL)
		return false;
	cluster->seeds = *seeds;
	cluster->guide_ms = GUIDE_MIN_MS;
	cluster->wanted = true;
	name_all(seeds, self->store->where);
	for (uint32_t p = 0; p < RL_PARTS; p++) {
		char tag[RL_NAME_MAX + 32];

		snprintf(tag, sizeof(tag), "rl:%s:%u", self->fleet, p);
		cluster->slot[p] = redis_slot_of(tag, strlen(tag));
	}
	cluster->beat = event_new(self->base, -1, EV_PERSIST, on_beat, self);
	return cluster->beat != NULL && event_add(cluster->beat, &beat) == 0;
}

void cluster_end(struct backend *self)
{
	if (self->cluster == NULL)
		return;
	if (self->cluster->beat != NULL)
		event_free(self->cluster->beat);
	free(self->cluster);
	self->cluster = NULL;
}
