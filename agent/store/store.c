#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/store/backend.h"

/* By what an address begins with; the last one takes whatever has no scheme of another. */
static const struct {
	const char *begins;
	const struct store_backend *backend;
} backends[] = {
	{"memory:", &store_memory},
	{"", &store_redis}, /* redis://, rediss://, unix:, or a bare host */
};

static const struct store_backend *backend_of(const char *url)
{
	size_t i = 0;

	while (strncmp(url, backends[i].begins, strlen(backends[i].begins)) != 0)
		i++; /* "" begins all */
	return backends[i].backend;
}

const char *store_url_fault(const char *url, bool *ret_tls)
{
	*ret_tls = false;
	return backend_of(url)->fault(url, ret_tls);
}

bool store_url_is_local(const char *url)
{
	return backend_of(url)->local;
}

struct store *store_new(const struct store_setup *setup, const struct store_events *events,
			void *arg, const char **ret_why)
{
	struct store *store = calloc(1, sizeof(*store));

	*ret_why = "out of memory";
	if (store == NULL)
		return NULL;
	store->backend = backend_of(setup->url);
	store->events = *events;
	store->arg = arg;
	store->self = store->backend->open(store, setup, ret_why);
	if (store->self != NULL)
		return store;
	free(store);
	return NULL;
}

void store_free(struct store *store)
{
	if (store == NULL)
		return;
	store->backend->close(store->self);
	free(store);
}

const char *store_where(const struct store *store)
{
	return store->where;
}

bool store_is_up(const struct store *store, uint32_t part)
{
	return (store->up >> part & 1) != 0;
}

uint32_t store_nodes(const struct store *store, struct store_node ret[RL_PARTS])
{
	if (store->backend->nodes != NULL)
		return store->backend->nodes(store->self, ret);
	ret[0] = (struct store_node){store->where, store->up == STORE_ALL, STORE_ALL};
	return 1;
}

uint32_t store_up(const struct store *store)
{
	return store->up;
}

int store_sync(struct store *store, uint32_t part, const struct store_call *call, store_fn *fn,
	       void *arg)
{
	assert(part < RL_PARTS && call->count <= SYNC_BATCH_MAX);
	if (!store_is_up(store, part))
		return -ENOTCONN;
	return store->backend->sync(store->self, part, call, fn, arg);
}

int store_control(struct store *store, const struct store_call *call, const void *bytes,
		  size_t size, store_fn *fn, void *arg)
{
	if (!store_is_up(store, 0))
		return -ENOTCONN;
	return store->backend->control(store->self, call, bytes, size, fn, arg);
}

int store_share(struct store *store, uint32_t part, const struct store_log *log, store_fn *fn,
		void *arg)
{
	assert(part < RL_PARTS);
	if (store->backend->share == NULL)
		return -ENOTSUP;
	if (!store_is_up(store, part))
		return -ENOTCONN;
	return store->backend->share(store->self, part, log, fn, arg);
}

void store_ask_again(struct store *store)
{
	if (store->backend->ask_again != NULL)
		store->backend->ask_again(store->self);
}

void store_report_server(struct store *store, const char *where, const struct store_server *server)
{
	store->events.server(store->arg, where, server);
}

void store_report_up(struct store *store, uint32_t parts)
{
	store->up |= parts;
	store->events.up(store->arg, parts);
}

void store_report_down(struct store *store, uint32_t parts, const char *where, const char *why)
{
	if (parts == 0)
		return; /* nothing is worse than before */
	store->up &= ~parts;
	store->events.down(store->arg, parts, where, why);
}

void store_give(store_fn *fn, void *arg, enum store_outcome outcome, const char *why)
{
	fn(&(struct store_answer){.outcome = outcome, .why = why}, arg);
}
