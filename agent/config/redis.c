#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"
#include "agent/store/store.h"

#define MS_NS UINT64_C(1000000)

static const char must_be[] = "a URL, unix:/PATH, memory:/PATH, redis[s]://HOST[:PORT][/DB] or "
			      "sentinel://HOST,.../NAME[/DB]";

/* False: it has no TLS, or is wrong. It is not repeated in a message: it may hold a password. */
static bool read_url(struct yaml_file *file, const yaml_node_t *node, const char *key,
		     struct agent_config *config)
{
	const char *url = yaml_text(file, node, key, must_be);
	bool has_tls = false;
	const char *wrong;

	if (url == NULL)
		return false;
	if (config_is_sentinel_url(url))
		wrong = redis_sentinels_parse(url, &config->redis_sentinels);
	else
		wrong = store_url_fault(url, &has_tls);
	if (wrong != NULL)
		yaml_fault(file, node, "'%s' must be %s: %s", key, must_be, wrong);
	else if (strlen(url) >= sizeof(config->redis_url))
		yaml_fault(file, node, "'%s' is too long: at most %zu bytes", key,
			   sizeof(config->redis_url) - 1);
	else
		memcpy(config->redis_url, url, strlen(url) + 1);
	return has_tls;
}

/* Where a file is; the agent's folder is /, or any. */
static void read_file_name(struct yaml_file *file, const yaml_node_t *mapping, const char *key,
			   char ret[PATH_MAX])
{
	static const char path[] = "an absolute path";
	yaml_node_t *node = yaml_get(file, mapping, key);
	const char *text;

	if (node == NULL)
		return;
	text = yaml_text(file, node, key, path);
	if (text == NULL)
		return;
	if (*text != '/' || strlen(text) >= PATH_MAX)
		yaml_fault(file, node, "'%s' must be %s", key, path);
	else
		memcpy(ret, text, strlen(text) + 1);
}

static void read_server_name(struct yaml_file *file, const yaml_node_t *mapping, char ret[256])
{
	static const char name[] = "the name in the server's certificate, up to 255 bytes";
	yaml_node_t *node = yaml_get(file, mapping, "server_name");
	const char *text;

	if (node == NULL)
		return;
	text = yaml_text(file, node, "server_name", name);
	if (text == NULL)
		return;
	if (strlen(text) >= sizeof(((struct redis_trust *)0)->server_name))
		yaml_fault(file, node, "'server_name' must be %s", name);
	else
		memcpy(ret, text, strlen(text) + 1);
}

/* As an ACL has it: no spaces, which would end it there. */
static void read_user(struct yaml_file *file, const yaml_node_t *mapping, const char *key,
		      struct redis_login *ret)
{
	static const char name[] = "a user's name, 1 .. 127 bytes without spaces";
	yaml_node_t *node = yaml_get(file, mapping, key);
	const char *text;

	if (node == NULL)
		return;
	text = yaml_text(file, node, key, name);
	if (text == NULL)
		return;
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f) {
			yaml_fault(file, node, "'%s' must be %s", key, name);
			return;
		}
	if (strlen(text) >= sizeof(ret->user))
		yaml_fault(file, node, "'%s' must be %s", key, name);
	else
		memcpy(ret->user, text, strlen(text) + 1);
}

void config_read_login(struct yaml_file *file, const yaml_node_t *node, const char *user_key,
		       const char *file_key, struct redis_login *ret)
{
	yaml_node_t *user = yaml_get(file, node, user_key);

	read_user(file, node, user_key, ret);
	read_file_name(file, node, file_key, ret->password_file);
	if (user != NULL && yaml_get(file, node, file_key) == NULL)
		yaml_fault(file, user, "'%s' without a '%s'", user_key, file_key);
}

static const char *verify_name(unsigned value)
{
	return value == 0 ? "full" : "none";
}

static void read_verify(struct yaml_file *file, const yaml_node_t *mapping, struct redis_trust *ret)
{
	static const struct value_choice choice = {"verify", verify_name, 2};
	uint8_t value = 0;

	if (!value_choice(file, mapping, &choice, &value) || value == 0)
		return;
	ret->anyone = true;
	yaml_warning(file, yaml_get(file, mapping, "verify"),
		     "'verify: none': whoever answers at this address is taken for Redis, and is "
		     "given the password");
}

static void read_tls(struct yaml_file *file, const yaml_node_t *node, struct redis_trust *ret)
{
	static const char *const known[] = {"ca_file",     "cert_file", "key_file",
					    "server_name", "verify",    NULL};

	if (!yaml_check_keys(file, node, "'tls'", known))
		return;
	read_file_name(file, node, "ca_file", ret->ca_file);
	read_file_name(file, node, "cert_file", ret->cert_file);
	read_file_name(file, node, "key_file", ret->key_file);
	read_server_name(file, node, ret->server_name);
	read_verify(file, node, ret);
	if (yaml_get(file, node, "cert_file") != NULL && yaml_get(file, node, "key_file") == NULL)
		yaml_fault(file, node, "'cert_file' without the 'key_file' that belongs to it");
	if (yaml_get(file, node, "cert_file") == NULL && yaml_get(file, node, "key_file") != NULL)
		yaml_fault(file, node, "'key_file' without the 'cert_file' it belongs to");
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

/* What says who we are to a Redis, and whom to trust. */
static void refuse_login(struct yaml_file *file, const yaml_node_t *node)
{
	static const char *const no_use[] = {"sentinels",
					     "master",
					     "database",
					     "sentinel_user",
					     "sentinel_password_file",
					     "user",
					     "password_file",
					     "tls",
					     NULL};

	for (size_t i = 0; no_use[i] != NULL; i++) {
		yaml_node_t *given = yaml_get(file, node, no_use[i]);

		if (given != NULL)
			yaml_fault(file, given,
				   "'%s' is for a Redis: with a url of memory:/PATH agents meet at "
				   "that socket, and the kernel says whose they are",
				   no_use[i]);
	}
}

void config_read_redis(struct yaml_file *file, const yaml_node_t *node, struct agent_config *config)
{
	static const char *const known[] = {"url",
					    "cluster",
					    "sentinels",
					    "master",
					    "database",
					    "sentinel_user",
					    "sentinel_password_file",
					    "user",
					    "password_file",
					    "tls",
					    "stale_after",
					    "timeout",
					    "interval",
					    NULL};
	yaml_node_t *url, *tls;
	bool has_tls = false;

	config->has_redis = true; /* a wrong one too: no rule is blamed for it */
	if (node->type != YAML_MAPPING_NODE) {
		read_url(file, node, "redis", config);
		return;
	}
	yaml_check_keys(file, node, "'redis'", known);
	url = yaml_get(file, node, "url");
	tls = yaml_get(file, node, "tls");
	config->redis_sentinels.tls = tls != NULL; /* if there are any */
	if (url != NULL)
		has_tls = read_url(file, url, "url", config);
	read_times(file, node, config);
	if (url != NULL && store_url_is_local(config->redis_url)) {
		refuse_login(file, node);
		return;
	}
	config_read_sentinels(file, node, config);
	config_read_cluster(file, node, config);
	if (url == NULL && yaml_get(file, node, "sentinels") == NULL &&
	    yaml_get(file, node, "cluster") == NULL)
		yaml_fault(file, node,
			   "'redis' has no 'url', and no 'sentinels' or 'cluster' either");
	config_read_login(file, node, "user", "password_file", &config->redis_login);
	if (tls != NULL)
		read_tls(file, tls, &config->redis_trust);
	if (tls != NULL && url != NULL && !has_tls && config->redis_sentinels.count == 0)
		yaml_fault(file, tls, "'tls' is for a url that begins with rediss://");
}
