/*
 * read.h - the parts of config_load(), each for one top-level key.
 *
 * Rooms:  agent/config/. What is wrong is printed and counted by file; see yaml.h.
 */
#ifndef CONFIG_READ_H
#define CONFIG_READ_H

#include "agent/config/config.h"
#include "agent/config/yaml.h"

/* The value of 'redis'. */
void config_read_redis(struct yaml_file *file, const yaml_node_t *node,
		       struct agent_config *config);

/* 'sentinels' of the value of 'redis', what goes with it, and a 'url' of that kind; url is read. */
void config_read_sentinels(struct yaml_file *file, const yaml_node_t *redis,
			   struct agent_config *config);
bool config_is_sentinel_url(const char *url);

/* 'cluster' of the value of 'redis'; url and sentinels are read. */
void config_read_cluster(struct yaml_file *file, const yaml_node_t *redis,
			 struct agent_config *config);

/* A user and the file of its password, by these two keys of a mapping. */
void config_read_login(struct yaml_file *file, const yaml_node_t *node, const char *user_key,
		       const char *file_key, struct redis_login *ret);

/* The value of 'snapshot'. */
void config_read_snapshot(struct yaml_file *file, const yaml_node_t *node,
			  struct agent_config *config);

/* 'audit' of a mapping; true: it is there, and may be kept. */
bool config_read_audit(struct yaml_file *file, const yaml_node_t *mapping, uint32_t *ret);

/* 'audit' of a rule whose algorithm has been read. */
void config_read_rule_audit(struct yaml_file *file, const yaml_node_t *rule,
			    const struct agent_config *config, struct rl_rule_spec *ret);

/* The value of 'rules'. Needs has_redis: it decides a rule's default consistency. */
void config_read_rules(struct yaml_file *file, const yaml_node_t *node,
		       struct agent_config *config);

/* 'consistency', 'beta', 'wait', 'no_credit' and 'on_unreachable' of a rule. */
void config_read_sharing(struct yaml_file *file, const yaml_node_t *rule,
			 const struct agent_config *config, struct rl_fleet_terms *ret);

/* 'algorithm', 'burst', 'delay' and 'interpolate' of a rule whose sharing has been read. */
void config_read_algorithm(struct yaml_file *file, const yaml_node_t *rule,
			   struct rl_rule_spec *ret);

/* 'allow', 'deny', 'overrides', 'shadow' and 'enforce' of a rule whose algorithm has been read. */
void config_read_lists(struct yaml_file *file, const yaml_node_t *rule, struct rl_rule_spec *ret);

#endif
