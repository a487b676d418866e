/*
 * rules.c - a pushed set of rules: is it right for this host?
 */
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/orders/inner.h"

/* Only the first of what is wrong: the log has lines, not pages. */
static void log_faults(const struct rules_push *push, char *faults)
{
	faults[strcspn(faults, "\n")] = '\0';
	log_event(LOG_ERROR, "push_refused",
		  "version=%llu host=%s uid=%lld msg=\"%s: the rules that were in force stay\"",
		  (unsigned long long)push->version, push->host, (long long)push->uid, faults);
}

bool rules_use(struct orders *orders, const struct rules_push *push)
{
	static struct agent_config fresh;
	char *faults = NULL;
	size_t size;
	FILE *out = open_memstream(&faults, &size);
	bool good;

	if (out == NULL)
		return false;
	good = config_load_rules("pushed", push->text, strlen(push->text), orders->config, out,
				 &fresh);
	fclose(out);
	if (good) {
		config_free(&orders->pushed);
		orders->pushed = fresh;
		memset(&fresh, 0, sizeof(fresh)); /* its lists are the other's now */
		orders->has_pushed = true;
		orders->pushed_version = push->version;
	} else {
		log_faults(push, faults);
	}
	free(faults);
	return good;
}
