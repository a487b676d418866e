/*
 * cluster.c - 'cluster' of 'redis': some of its nodes, or true beside a 'url' that is one.
 */
#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"

static const char must_be[] = "a list of nodes, HOST[:PORT] each, or true beside a 'url'";

static void add(struct yaml_file *file, const yaml_node_t *node, const char *text, bool tls,
		struct redis_seeds *ret)
{
	const char *wrong = redis_seeds_add(text, tls, ret);

	if (wrong != NULL)
		yaml_fault(file, node, "'cluster' must be %s: %s", must_be, wrong);
}

static void read_nodes(struct yaml_file *file, const yaml_node_t *list, bool tls,
		       struct redis_seeds *ret)
{
	yaml_node_t *node;

	if (list->type != YAML_SEQUENCE_NODE || yaml_item(file, list, 0) == NULL) {
		yaml_fault(file, list, "'cluster' must be %s", must_be);
		return;
	}
	for (size_t i = 0; (node = yaml_item(file, list, i)) != NULL && !yaml_enough(file); i++) {
		const char *text = yaml_text(file, node, "cluster", must_be);

		if (text != NULL)
			add(file, node, text, tls, ret);
	}
}

/* It is read, and good: only what a cluster has not is wrong with it. */
static void read_url_of(struct yaml_file *file, const yaml_node_t *url, struct agent_config *config)
{
	struct redis_address address = {0};

	if (config->redis_url[0] == '\0')
		return; /* a fault was told */
	if (redis_url_parse(config->redis_url, &address) != NULL || address.kind != REDIS_TCP)
		yaml_fault(file, url, "'cluster': the 'url' of a node is redis[s]://HOST[:PORT]");
	else if (address.database != 0)
		yaml_fault(file, url, "'cluster': a cluster has database 0 alone");
	else
		add(file, url, config->redis_url, address.tls, &config->redis_seeds);
}

void config_read_cluster(struct yaml_file *file, const yaml_node_t *redis,
			 struct agent_config *config)
{
	yaml_node_t *cluster = yaml_get(file, redis, "cluster"),
		    *url = yaml_get(file, redis, "url");
	bool is = true;

	if (cluster == NULL)
		return;
	if (yaml_get(file, redis, "sentinels") != NULL || config->redis_sentinels.count > 0) {
		yaml_fault(file, cluster, "'cluster' and Sentinels: take one of them out");
		return;
	}
	if (cluster->type == YAML_SCALAR_NODE) {
		value_truth(file, redis, "cluster", &is);
		if (url == NULL)
			yaml_fault(file, cluster, "'cluster' must be %s", must_be);
		else if (is)
			read_url_of(file, url, config);
		return;
	}
	if (url != NULL)
		yaml_fault(file, url,
			   "'url' and a list of nodes in 'cluster': take one of them out");
	read_nodes(file, cluster, yaml_get(file, redis, "tls") != NULL, &config->redis_seeds);
}
