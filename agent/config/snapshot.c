#include <stdbool.h>
#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"

/* As of the segment: the agent may be started anywhere. */
static void read_path(struct yaml_file *file, const yaml_node_t *node, const char *key,
		      struct agent_config *config)
{
	static const char must_be[] = "the absolute path of a file";
	const char *path = yaml_text(file, node, key, must_be);

	if (path == NULL)
		return;
	if (path[0] != '/' || path[strlen(path) - 1] == '/')
		yaml_fault(file, node, "'%s' must be %s, e.g. /var/lib/ratel/default.snapshot", key,
			   must_be);
	else if (strlen(path) >= sizeof(config->snapshot_path) - sizeof(".tmp"))
		yaml_fault(file, node, "'%s' is too long", key);
	else
		strcpy(config->snapshot_path, path);
}

/* Is name base and end, as text? */
static bool is_name_of(const char *name, const char *base, const char *end)
{
	size_t len = strlen(base);

	return strncmp(name, base, len) == 0 && strcmp(name + len, end) == 0;
}

/* It would take the segment's place, or that of a file beside it. */
static void check_place(struct yaml_file *file, const yaml_node_t *node,
			const struct agent_config *config)
{
	static const char *const of_segment[] = {"", ".lock", ".alive", ".ctl", ".wait", ".before"};
	bool taken = is_name_of(config->segment_path, config->snapshot_path, ".tmp");

	for (size_t i = 0; i < sizeof(of_segment) / sizeof(of_segment[0]); i++)
		if (is_name_of(config->snapshot_path, config->segment_path, of_segment[i]))
			taken = true;
	if (taken)
		yaml_fault(file, node,
			   "'snapshot' would be written over a file of the segment: give it a path "
			   "of its own, on a disk");
}

static void read_snapshot(struct yaml_file *file, const yaml_node_t *node,
			  struct agent_config *config)
{
	static const char *const known[] = {"path", "interval", NULL};
	static const struct value_span interval = {"interval", CONFIG_SNAPSHOT_MIN_NS,
						   CONFIG_SNAPSHOT_MAX_NS,
						   "a time 1s .. 1h, e.g. 10s"};
	yaml_node_t *path;

	if (node->type != YAML_MAPPING_NODE) {
		read_path(file, node, "snapshot", config);
		return;
	}
	if (!yaml_check_keys(file, node, "'snapshot'", known))
		return;
	path = yaml_get(file, node, "path");
	if (path != NULL)
		read_path(file, path, "path", config);
	else
		yaml_fault(file, node, "'snapshot' has no 'path'");
	value_span(file, node, &interval, &config->snapshot_interval_ns);
}

void config_read_snapshot(struct yaml_file *file, const yaml_node_t *node,
			  struct agent_config *config)
{
	read_snapshot(file, node, config);
	check_place(file, node, config);
}
