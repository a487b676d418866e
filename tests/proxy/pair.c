/* One client's connection and the one to the server behind it. */
#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>

#include "tests/proxy/lane.h"
#include "tests/proxy/proxy.h"
#include "tests/proxy/resp.h"

#define READ_MAX (1 << 20)

struct pair {
	LIST_ENTRY(pair) next;
	struct proxy *proxy;
	struct bufferevent *client, *server;
	struct lane up, down;  /* to the server, to the client */
	struct evbuffer *rest; /* a reply that is not all there yet */
	bool over;             /* cut, as soon as what was passed on is written */
};

static void pair_free(void *arg)
{
	struct pair *pair = arg;

	LIST_REMOVE(pair, next);
	lane_clear(&pair->up);
	lane_clear(&pair->down);
	bufferevent_free(pair->client);
	bufferevent_free(pair->server);
	evbuffer_free(pair->rest);
	free(pair);
}

static unsigned delay_of(const struct proxy *proxy)
{
	unsigned jitter = proxy->jitter_ms;

	return proxy->delay_ms + (jitter > 0 ? (unsigned)rand() % (jitter + 1) : 0);
}

static bool is_due(struct every *every)
{
	return every->nth > 0 && ++every->seen % every->nth == 0;
}

/* The client gets what was passed on before, then the end. */
static void cut_behind(struct pair *pair, unsigned long *counter)
{
	++*counter;
	pair->proxy->did.cut++;
	pair->over = true;
	lane_end(&pair->down);
}

/* The server has applied the command. */
static void pass_reply(struct pair *pair, const void *reply, size_t size)
{
	static const char garbage[] = "@this is no reply\r\n";
	struct proxy *proxy = pair->proxy;
	bool drop = is_due(&proxy->drop), half = is_due(&proxy->half),
	     spoil = is_due(&proxy->garbage);
	unsigned delay_ms = delay_of(proxy);

	proxy->did.replies++;
	if (!drop && spoil && !half)
		lane_push(&pair->down, garbage, sizeof(garbage) - 1, delay_ms);
	else if (!drop)
		lane_push(&pair->down, reply, half ? size / 2 : size, delay_ms);
	if (drop)
		cut_behind(pair, &proxy->did.dropped);
	else if (half)
		cut_behind(pair, &proxy->did.halved);
	else if (spoil)
		cut_behind(pair, &proxy->did.garbage);
}

static size_t frame_size(const char *data, size_t size)
{
	size_t whole = 4;

	if (size < 4)
		return 0;
	for (unsigned i = 0; i < 4; i++)
		whole += (size_t)(unsigned char)data[i] << (8 * i);
	return whole <= size ? whole : 0;
}

static void on_server_bytes(struct bufferevent *server, void *arg)
{
	struct pair *pair = arg;

	evbuffer_add_buffer(pair->rest, bufferevent_get_input(server));
	while (!pair->over && evbuffer_get_length(pair->rest) > 0) {
		size_t all = evbuffer_get_length(pair->rest);
		const char *data = (const char *)evbuffer_pullup(pair->rest, -1);
		size_t size = pair->proxy->frames ? frame_size(data, all) : resp_size(data, all);

		if (size == 0)
			return;
		if (size == RESP_BROKEN) /* not for us to judge */
			size = all;
		pass_reply(pair, data, size);
		evbuffer_drain(pair->rest, size);
	}
}

static void on_client_bytes(struct bufferevent *client, void *arg)
{
	struct evbuffer *input = bufferevent_get_input(client);
	size_t size = evbuffer_get_length(input);
	struct pair *pair = arg;

	if (!pair->over)
		lane_push(&pair->up, evbuffer_pullup(input, -1), size, delay_of(pair->proxy));
	evbuffer_drain(input, size);
}

static void on_written(struct bufferevent *to, void *arg)
{
	struct pair *pair = arg;

	lane_written(to == pair->client ? &pair->down : &pair->up);
}

/* One side is gone: the other gets what is still on its way. */
static void on_event(struct bufferevent *from, short what, void *arg)
{
	struct pair *pair = arg;

	if ((what & BEV_EVENT_CONNECTED) != 0)
		return;
	if ((what & BEV_EVENT_WRITING) != 0)
		pair_free(pair);
	else
		lane_end(from == pair->client ? &pair->up : &pair->down);
}

static void stall(struct pair *pair, bool stalled)
{
	int (*change)(struct bufferevent *, short) =
		stalled ? bufferevent_disable : bufferevent_enable;

	change(pair->client, EV_READ | EV_WRITE);
	change(pair->server, EV_READ | EV_WRITE);
}

void pair_begin(struct proxy *proxy, evutil_socket_t client)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	assert(pair != NULL);
	proxy->did.connections++;
	pair->proxy = proxy;
	pair->client = bufferevent_socket_new(proxy->base, client, BEV_OPT_CLOSE_ON_FREE);
	pair->server = bufferevent_socket_new(proxy->base, -1, BEV_OPT_CLOSE_ON_FREE);
	pair->rest = evbuffer_new();
	assert(pair->client != NULL && pair->server != NULL && pair->rest != NULL);
	bufferevent_set_max_single_read(pair->server, READ_MAX);
	bufferevent_setcb(pair->client, on_client_bytes, on_written, on_event, pair);
	bufferevent_setcb(pair->server, on_server_bytes, on_written, on_event, pair);
	lane_init(&pair->up, proxy->base, pair->server, pair_free, pair);
	lane_init(&pair->down, proxy->base, pair->client, pair_free, pair);
	LIST_INSERT_HEAD(&proxy->pairs, pair, next);
	if (bufferevent_socket_connect(pair->server, (struct sockaddr *)&proxy->target.at,
				       (int)proxy->target.size) != 0) {
		pair_free(pair);
		return;
	}
	stall(pair, proxy->stalled);
}

void pair_cut_all(struct proxy *proxy)
{
	struct pair *pair;

	while ((pair = LIST_FIRST(&proxy->pairs)) != NULL) {
		proxy->did.cut++;
		pair_free(pair);
	}
}

void pair_stall_all(struct proxy *proxy, bool stalled)
{
	proxy->stalled = stalled;
	for (struct pair *pair = LIST_FIRST(&proxy->pairs); pair != NULL;
	     pair = LIST_NEXT(pair, next))
		stall(pair, stalled);
}
