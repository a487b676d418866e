/*
 * config_read.h - the parts of config_load(), each for one top-level key.
 *
 * Rooms:  agent/config*.c. What is wrong is printed and counted by file; see agent/yaml.h.
 */
#ifndef AGENT_CONFIG_READ_H
#define AGENT_CONFIG_READ_H

#include "agent/config.h"
#include "agent/yaml.h"

/* The value of 'rules'. */
void config_read_rules(struct yaml_file *file, const yaml_node_t *node,
		       struct agent_config *config);

#endif
