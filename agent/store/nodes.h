/*
 * nodes.h - the servers that a Redis store consists of: one, or the nodes of a cluster.
 *
 * Rooms:  agent/store/redis.c, nodes.c, cluster.c.
 *
 * Each node is a connection that keeps itself up. A partition is routed to one of them, and is up
 * while that is.
 */
#ifndef AGENT_STORE_NODES_H
#define AGENT_STORE_NODES_H

#include "agent/redis/redis.h"
#include "agent/store/backend.h"
#include "shm/rl_terms.h"

/* All partitions may move away while the old owners still have calls to answer; and a guide. */
#define NODES_MAX (2 * RL_PARTS + 1)

enum { SCRIPT_SYNC, SCRIPT_CONTROL, SCRIPT_SHARE }; /* in the order they are added */

struct backend;

struct node {
	struct backend *self;
	struct redis *redis; /* NULL: this place is free */
	struct redis_address address;
	enum redis_use use;
	uint32_t parts; /* that are routed here, as bits */
	bool up;
	bool failed;      /* a guide: it was down since it was opened */
	uint64_t used_ns; /* when it last was of use without a partition */
	struct store_server server;
	char where[STORE_WHERE];
};

struct cluster {
	struct redis_seeds seeds;
	struct event *beat;
	uint16_t slot[RL_PARTS]; /* of the partitions */
	unsigned seed;           /* turns */
	unsigned turn;           /* of the nodes that are asked for the map */
	unsigned serial;         /* of the question: an answer to another is not for us */
	bool wanted;             /* the map may have changed */
	uint64_t asked_ns, answered_ns;
	uint64_t guide_ns; /* when the next guide may be tried */
	unsigned guide_ms; /* after a failure */
};

struct backend {
	struct store *store;
	struct event_base *base;
	char fleet[RL_NAME_MAX + 1];
	unsigned timeout_ms;
	struct redis_trust trust;
	struct redis_login login;
	struct node node[NODES_MAX];
	struct node *route[RL_PARTS]; /* NULL: nobody is known to have it */
	struct node *ask[RL_PARTS];   /* the next call goes there, this once; or NULL */
	struct cluster *cluster;      /* NULL: it is one server */
	uint64_t live_rows;           /* hosts of the fleet, as the last answer said */
};

/* A connection begins; NULL: no memory, or no place is free. sentinels NULL: none. */
struct node *node_open(struct backend *self, const struct redis_address *address,
		       enum redis_use use, const struct redis_sentinels *sentinels);

/* What waits for its answer gets STORE_LOST; its partitions have no route. */
void node_close(struct node *node);

/* An open one that has this address and is no guide, or NULL. */
struct node *node_at(struct backend *self, const struct redis_address *address);

/*
 * From now on a partition is there. again: it is reported even if both nodes are up, so that a call
 * that waits elsewhere is sent again.
 */
void node_route(struct node *node, uint32_t part, bool again);

/* cluster.c: begin to look for the map; false: no memory. */
bool cluster_begin(struct backend *self, const struct redis_seeds *seeds);
void cluster_end(struct backend *self);

/* cluster.c: a node has come up, or is lost. */
void cluster_up(struct node *node);
void cluster_down(struct node *node);

/* cluster.c: a call of this partition was answered by this node with an error: what that means. */
enum store_outcome cluster_outcome(struct node *node, uint32_t part, const char *error);

/* cluster.c: the node for the next call of a partition that is up: its own, or who was named. */
struct node *cluster_node(struct backend *self, uint32_t part);

#endif
