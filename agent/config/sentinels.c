/*
 * sentinels.c - 'sentinels' of 'redis', and what goes with it.
 */
#include <string.h>

#include "agent/config/read.h"
#include "agent/config/value.h"

bool config_is_sentinel_url(const char *url)
{
	return strncmp(url, "sentinel://", strlen("sentinel://")) == 0;
}

static void read_hosts(struct yaml_file *file, const yaml_node_t *list, struct redis_sentinels *ret)
{
	static const char must_be[] = "a list of Sentinels, HOST[:PORT] each";
	yaml_node_t *node;

	if (list->type != YAML_SEQUENCE_NODE || yaml_item(file, list, 0) == NULL) {
		yaml_fault(file, list, "'sentinels' must be %s", must_be);
		return;
	}
	for (size_t i = 0; (node = yaml_item(file, list, i)) != NULL && !yaml_enough(file); i++) {
		const char *text = yaml_text(file, node, "sentinels", must_be), *wrong;

		if (text == NULL)
			continue;
		wrong = redis_sentinels_add(text, ret);
		if (wrong != NULL)
			yaml_fault(file, node, "'sentinels' must be %s: %s", must_be, wrong);
	}
}

static void read_primary(struct yaml_file *file, const yaml_node_t *node,
			 struct redis_sentinels *ret)
{
	static const char must_be[] =
		"the Sentinels' name for the primary: letters, digits, '.', '_', '-', up to 127";
	const char *text = yaml_text(file, node, "master", must_be);

	if (text == NULL)
		return;
	if (redis_primary_name_is_good(text))
		memcpy(ret->primary, text, strlen(text) + 1);
	else
		yaml_fault(file, node, "'master' must be %s", must_be);
}

static void read_database(struct yaml_file *file, const yaml_node_t *node,
			  struct redis_sentinels *ret)
{
	unsigned long long number;

	if (yaml_number(file, node, "database", 0, REDIS_DATABASE_MAX, &number))
		ret->database = (uint16_t)number;
}

void config_read_sentinels(struct yaml_file *file, const yaml_node_t *redis,
			   struct agent_config *config)
{
	static const char *const with[] = {"master", "database"};
	struct redis_sentinels *ret = &config->redis_sentinels;
	yaml_node_t *list = yaml_get(file, redis, "sentinels"), *url = yaml_get(file, redis, "url");
	yaml_node_t *login = yaml_get(file, redis, "sentinel_password_file");
	bool by_url = list == NULL && ret->primary[0] != '\0';

	config_read_login(file, redis, "sentinel_user", "sentinel_password_file", &ret->login);
	if (login != NULL && list == NULL && !by_url)
		yaml_fault(file, login, "'sentinel_password_file' without 'sentinels'");
	for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++)
		if (list == NULL && yaml_get(file, redis, with[i]) != NULL)
			yaml_fault(file, yaml_get(file, redis, with[i]),
				   "'%s' goes with 'sentinels'; in a 'url' it stands behind a '/'",
				   with[i]);
	if (list == NULL)
		return;
	if (url != NULL)
		yaml_fault(file, url, "'url' and 'sentinels': take one of them out");
	read_hosts(file, list, ret);
	if (yaml_get(file, redis, "master") == NULL)
		yaml_fault(file, list,
			   "'sentinels' without 'master', their name for the primary (in their "
			   "configuration: sentinel monitor NAME ...)");
	else
		read_primary(file, yaml_get(file, redis, "master"), ret);
	if (yaml_get(file, redis, "database") != NULL)
		read_database(file, yaml_get(file, redis, "database"), ret);
}
