/*
 * value.h - the values that several options of a configuration have in common.
 *
 * Rooms:  agent/config/.
 *
 * Each reads the value of a key of a mapping into *ret. A key that is not there leaves *ret as
 * it was: the default. So does a fault.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/config/yaml.h"
#include "shm/rl_terms.h"

struct value_choice {
	const char *key;
	const char *(*name)(unsigned value); /* the word of each value 0 .. count - 1 */
	unsigned count;
};

struct value_span {
	const char *key;
	uint64_t low_ns, high_ns;
	const char *must_be; /* "a time LOW .. HIGH, e.g. 2s" */
};

/* One word of a few. False after a fault. */
bool value_choice(struct yaml_file *file, const yaml_node_t *mapping,
		  const struct value_choice *choice, uint8_t *ret);

/* true or false. */
void value_truth(struct yaml_file *file, const yaml_node_t *mapping, const char *key, bool *ret);

/* A span of time. */
void value_span(struct yaml_file *file, const yaml_node_t *mapping, const struct value_span *span,
		uint64_t *ret_ns);

/* A part of a whole, "10%" or "0.1", in steps of 0.01 %, as rl_fleet_pack() keeps it. */
void value_part(struct yaml_file *file, const yaml_node_t *mapping, const char *key,
		uint32_t *ret_ppm);

/* A name like a rule's. */
void value_name(struct yaml_file *file, const yaml_node_t *mapping, const char *key,
		char ret[RL_NAME_MAX + 1]);

#endif
