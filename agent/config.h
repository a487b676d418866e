/*
 * config.h - the agent's configuration: a YAML file to a checked struct.
 *
 *	segment:                      # or just a path
 *	  path: /dev/shm/rl/default   # where workers attach
 *	  keys: 100000                # distinct keys the table holds
 *	  group: www-data             # of the file; without it, the agent's
 *	  mode: 0660                  # who may take part: owner and group read and write
 *	rules:
 *	  - name: login               # letters, digits, '.', '_', '-'; up to 63
 *	    limit: 100/minute         # COUNT/WINDOW
 */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "shm/rl_rules.h"

#define CONFIG_KEYS_DEFAULT 100000u

struct agent_config {
	char segment_path[PATH_MAX];
	uint64_t segment_keys;
	bool set_group;
	gid_t segment_group; /* with set_group */
	mode_t segment_mode; /* 0 = not given */
	size_t rule_count;
	struct rl_rule_spec rule[RL_RULES_MAX];
};

/*
 * Read and check the whole file. True and *ret filled, or false after printing every fault
 * in it to out, one line each: file:line:column: what is wrong. *ret is then unspecified.
 */
bool config_load(const char *file_name, FILE *out, struct agent_config *ret);

#endif
