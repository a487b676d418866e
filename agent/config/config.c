#include "agent/config/config.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"
#include "agent/config/yaml.h"

static void read_path(struct yaml_file *file, const yaml_node_t *node, const char *key,
		      struct agent_config *config)
{
	const char *path = yaml_text(file, node, key, "an absolute path");

	if (path == NULL)
		return;
	if (*path != '/')
		yaml_fault(file, node, "the segment's path must start with '/'");
	else if (strlen(path) >
		 sizeof(config->segment_path) - 32) /* room for ".lock", ".PID.tmp" */
		yaml_fault(file, node, "the segment's path is too long");
	else
		memcpy(config->segment_path, path, strlen(path) + 1);
}

/* A name; a number is taken as it is, for hosts without names. */
static void read_group(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	const char *name = yaml_text(file, node, "group", "a group's name");
	struct group *group;

	if (name == NULL)
		return;
	group = getgrnam(name);
	config->set_group = true;
	if (group != NULL)
		config->segment_group = group->gr_gid;
	else if (strspn(name, "0123456789") != strlen(name))
		yaml_fault(file, node, "there is no group '%s' on this host", name);
	else
		config->segment_group = (gid_t)strtoul(name, NULL, 10);
}

/* Octal, as chmod has it. The owner must be able to go on; nothing here can be executed. */
static void read_mode(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	static const char must_be[] =
		"an octal file mode of read and write bits, 0600 .. 0666, e.g. 0660";
	const char *text = yaml_text(file, node, "mode", must_be);
	unsigned long mode;

	if (text == NULL)
		return;
	mode = strtoul(text, NULL, 8);
	if (strlen(text) > 4 || strspn(text, "01234567") != strlen(text) || mode < 0600 ||
	    (mode & ~0666ul) != 0)
		yaml_fault(file, node, "'mode' must be %s", must_be);
	else
		config->segment_mode = (mode_t)mode;
}

static const char *clock_name(unsigned value)
{
	return value == RL_CLOCK_GIVEN ? "given" : "own";
}

static void read_clock(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	static const struct value_choice choice = {"clock", clock_name, 2};
	uint8_t value = RL_CLOCK_OWN;

	if (value_choice(file, node, &choice, &value))
		config->clock_given = value == RL_CLOCK_GIVEN;
}

static void read_segment(struct yaml_file *file, const yaml_node_t *node,
			 struct agent_config *config)
{
	static const char *const known[] = {"path",  "keys",  "group", "mode",
					    "clock", "lists", NULL};
	unsigned long long keys, entries;
	yaml_node_t *value;

	if (node->type == YAML_SCALAR_NODE) {
		read_path(file, node, "segment", config);
		return;
	}
	if (!yaml_check_keys(file, node, "'segment'", known))
		return;
	value = yaml_get(file, node, "path");
	if (value != NULL)
		read_path(file, value, "path", config);
	value = yaml_get(file, node, "keys");
	if (value != NULL && yaml_number(file, value, "keys", 1, RL_SEGMENT_KEYS_MAX, &keys))
		config->segment_keys = keys;
	value = yaml_get(file, node, "group");
	if (value != NULL)
		read_group(file, value, config);
	value = yaml_get(file, node, "mode");
	if (value != NULL)
		read_mode(file, value, config);
	read_clock(file, node, config);
	value = yaml_get(file, node, "lists");
	if (value != NULL && yaml_number(file, value, "lists", 1, RL_LISTS_MAX, &entries))
		config->list_entries = (uint32_t)entries;
}

/* Redis has a clock of its own. */
static void check_clock(struct yaml_file *file, const yaml_node_t *segment,
			const struct agent_config *config)
{
	if (config->clock_given && config->has_redis)
		yaml_fault(file, yaml_get(file, segment, "clock"),
			   "'clock: given' with a 'redis': Redis counts by its own clock; take one "
			   "of them out");
}

static const char *const config_keys[] = {"fleet",    "host",  "segment", "redis",
					  "snapshot", "audit", "rules",   NULL};

static void read_top(struct yaml_file *file, struct agent_config *config)
{
	yaml_node_t *root = yaml_root(file), *node, *segment;

	if (!yaml_check_keys(file, root, "the file", config_keys))
		return;
	value_name(file, root, "fleet", config->fleet);
	value_name(file, root, "host", config->host);
	segment = yaml_get(file, root, "segment");
	if (segment != NULL)
		read_segment(file, segment, config);
	node = yaml_get(file, root, "redis"); /* before the rules, wherever it stands */
	if (node != NULL)
		config_read_redis(file, node, config);
	check_clock(file, segment, config);
	node = yaml_get(file, root, "snapshot");
	if (node != NULL)
		config_read_snapshot(file, node, config);
	if (node != NULL && config->clock_given)
		yaml_fault(file, node,
			   "'snapshot' with 'clock: given': what its callers will say is not known "
			   "after a reboot; take one of them out");
	config_read_audit(file, root, &config->audit);
	node = yaml_get(file, root, "rules");
	if (node != NULL)
		config_read_rules(file, node, config);
	else
		yaml_fault(file, root, "there is no 'rules' list (write 'rules: []' to have none)");
}

/* Only what the rules need of the host they are for. */
static void read_rules_of(struct yaml_file *file, struct agent_config *config)
{
	yaml_node_t *root = yaml_root(file), *node;

	if (!yaml_check_keys(file, root, "the file", config_keys))
		return;
	node = yaml_get(file, root, "rules");
	if (node != NULL)
		config_read_rules(file, node, config);
	else
		yaml_fault(file, root, "there is no 'rules' list (write 'rules: []' to have none)");
}

bool config_load_rules(const char *name, const char *text, size_t size,
		       const struct agent_config *host, FILE *out, struct agent_config *ret)
{
	struct yaml_file file;
	unsigned faults;

	config_free(ret);
	memset(ret, 0, sizeof(*ret));
	ret->has_redis = host->has_redis;
	ret->clock_given = host->clock_given;
	ret->audit = host->audit;
	if (yaml_open_text(&file, name, text, size, out))
		read_rules_of(&file, ret);
	faults = file.faults;
	yaml_close(&file);
	return faults == 0;
}

bool config_load(const char *file_name, FILE *out, struct agent_config *ret)
{
	struct yaml_file file;
	unsigned faults;

	config_free(ret);
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->segment_path, RL_SEGMENT_DEFAULT, sizeof(RL_SEGMENT_DEFAULT));
	ret->segment_keys = CONFIG_KEYS_DEFAULT;
	memcpy(ret->fleet, CONFIG_FLEET_DEFAULT, sizeof(CONFIG_FLEET_DEFAULT));
	ret->stale_after_ns = CONFIG_STALE_AFTER_NS;
	ret->redis_timeout_ns = CONFIG_REDIS_TIMEOUT_NS;
	ret->snapshot_interval_ns = CONFIG_SNAPSHOT_NS;
	ret->audit = CONFIG_AUDIT;
	if (yaml_open(&file, file_name, out))
		read_top(&file, ret);
	faults = file.faults;
	yaml_close(&file);
	return faults == 0;
}

void config_swap_rules(struct agent_config *a, struct agent_config *b)
{
	static struct rl_rule_spec rule[RL_RULES_MAX];
	size_t count = a->rule_count;
	uint32_t audit = a->audit;

	a->audit = b->audit; /* of rules that say nothing of it */
	b->audit = audit;
	memcpy(rule, a->rule, sizeof(rule));
	memcpy(a->rule, b->rule, sizeof(rule));
	memcpy(b->rule, rule, sizeof(rule));
	a->rule_count = b->rule_count;
	b->rule_count = count;
}

/* Without a redis the URL is empty. What is not given is zero throughout. */
bool config_same_fleet(const struct agent_config *a, const struct agent_config *b)
{
	return strcmp(a->fleet, b->fleet) == 0 && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->redis_url, b->redis_url) == 0 &&
	       memcmp(&a->redis_sentinels, &b->redis_sentinels, sizeof(a->redis_sentinels)) == 0 &&
	       memcmp(&a->redis_seeds, &b->redis_seeds, sizeof(a->redis_seeds)) == 0 &&
	       memcmp(&a->redis_login, &b->redis_login, sizeof(a->redis_login)) == 0 &&
	       memcmp(&a->redis_trust, &b->redis_trust, sizeof(a->redis_trust)) == 0 &&
	       a->stale_after_ns == b->stale_after_ns &&
	       a->redis_timeout_ns == b->redis_timeout_ns && a->interval_ns == b->interval_ns;
}
