#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"
#include "agent/redis/url.h"

#define MS_NS UINT64_C(1000000)

static const char must_be[] = "a URL, unix:/PATH or redis://HOST[:PORT][/DB]";

/* The URL is not repeated in a message: it may hold a password. */
static void read_url(struct yaml_file *file, const yaml_node_t *node, const char *key,
		     struct agent_config *config)
{
	const char *url = yaml_text(file, node, key, must_be);
	struct redis_address address;
	const char *wrong;

	if (url == NULL)
		return;
	wrong = redis_url_parse(url, &address);
	if (wrong != NULL)
		yaml_fault(file, node, "'%s' must be %s: %s", key, must_be, wrong);
	else if (strlen(url) >= sizeof(config->redis_url))
		yaml_fault(file, node, "'%s' is too long: at most %zu bytes", key,
			   sizeof(config->redis_url) - 1);
	else
		memcpy(config->redis_url, url, strlen(url) + 1);
}

static void read_times(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	static const struct value_span stale_after = {"stale_after", 50 * MS_NS, 5000 * MS_NS,
						      "a time 50ms .. 5s, e.g. 250ms"};
	static const struct value_span timeout = {"timeout", 100 * MS_NS, 30000 * MS_NS,
						  "a time 100ms .. 30s, e.g. 2s"};
	static const struct value_span interval = {
		"interval", RL_INTERVAL_MIN_NS, RL_INTERVAL_MAX_NS, "a time 5ms .. 1s, e.g. 50ms"};

	value_span(file, node, &stale_after, &config->stale_after_ns);
	value_span(file, node, &timeout, &config->redis_timeout_ns);
	value_span(file, node, &interval, &config->interval_ns);
}

void config_read_redis(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	static const char *const known[] = {"url", "stale_after", "timeout", "interval", NULL};
	yaml_node_t *url;

	config->has_redis = true; /* a wrong one too: no rule is blamed for it */
	if (node->type != YAML_MAPPING_NODE) {
		read_url(file, node, "redis", config);
		return;
	}
	yaml_check_keys(file, node, "'redis'", known);
	url = yaml_get(file, node, "url");
	if (url != NULL)
		read_url(file, url, "url", config);
	else
		yaml_fault(file, node, "'redis' has no 'url'");
	read_times(file, node, config);
}
