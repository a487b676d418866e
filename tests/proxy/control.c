/* Commands, a line each, and their answers. */
#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/proxy/proxy.h"

#define NUMBER_MAX 1000000ul

static void set_delay(struct proxy *proxy, const unsigned *number)
{
	proxy->delay_ms = number[0];
	proxy->jitter_ms = number[1];
}

static void set_drop(struct proxy *proxy, const unsigned *number)
{
	proxy->drop = (struct every){.nth = number[0]};
}

static void set_half(struct proxy *proxy, const unsigned *number)
{
	proxy->half = (struct every){.nth = number[0]};
}

static void set_garbage(struct proxy *proxy, const unsigned *number)
{
	proxy->garbage = (struct every){.nth = number[0]};
}

static void set_cut(struct proxy *proxy, const unsigned *number)
{
	const struct timeval interval = {.tv_sec = number[0] / 1000,
					 .tv_usec = number[0] % 1000 * 1000};

	event_del(proxy->cut_timer);
	if (number[0] > 0)
		event_add(proxy->cut_timer, &interval);
}

static void stall(struct proxy *proxy, const unsigned *unused)
{
	(void)unused;
	pair_stall_all(proxy, true);
}

static void go(struct proxy *proxy, const unsigned *unused)
{
	(void)unused;
	pair_stall_all(proxy, false);
}

static void refuse(struct proxy *proxy, const unsigned *unused)
{
	(void)unused;
	proxy_refuse(proxy);
}

static void take(struct proxy *proxy, const unsigned *unused)
{
	(void)unused;
	proxy_accept(proxy);
}

static void clear(struct proxy *proxy, const unsigned *unused)
{
	static const unsigned zero[2];

	(void)unused;
	set_delay(proxy, zero);
	set_drop(proxy, zero);
	set_half(proxy, zero);
	set_garbage(proxy, zero);
	set_cut(proxy, zero);
	go(proxy, zero);
	proxy_accept(proxy);
}

static const struct {
	const char *name;
	int numbers_min, numbers_max;
	void (*run)(struct proxy *proxy, const unsigned *number);
} commands[] = {
	{"clear", 0, 0, clear},         {"delay", 1, 2, set_delay},
	{"drop-reply", 1, 1, set_drop}, {"half-reply", 1, 1, set_half},
	{"garbage", 1, 1, set_garbage}, {"cut-ms", 1, 1, set_cut},
	{"stall", 0, 0, stall},         {"go", 0, 0, go},
	{"refuse", 0, 0, refuse},       {"accept", 0, 0, take},
};

/* Up to two numbers behind the name; how many, or -1. */
static int numbers_in(char *text, unsigned number[2])
{
	int count = 0;

	for (char *word; (word = strsep(&text, " ")) != NULL; count++) {
		unsigned long value = strtoul(word, NULL, 10);

		if (count == 2 || *word == '\0' || word[strspn(word, "0123456789")] != '\0' ||
		    value > NUMBER_MAX)
			return -1;
		number[count] = (unsigned)value;
	}
	return count;
}

static void stats(const struct proxy *proxy, struct evbuffer *out)
{
	evbuffer_add_printf(out,
			    "connections=%lu replies=%lu dropped=%lu halved=%lu garbage=%lu "
			    "cut=%lu\n",
			    proxy->did.connections, proxy->did.replies, proxy->did.dropped,
			    proxy->did.halved, proxy->did.garbage, proxy->did.cut);
}

static void run_line(struct proxy *proxy, char *line, struct evbuffer *out)
{
	char *name = strsep(&line, " ");
	unsigned number[2] = {0, 0};
	int count = numbers_in(line, number);

	if (strcmp(name, "stats") == 0 && count == 0) {
		stats(proxy, out);
		return;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(name, commands[i].name) != 0 || count < commands[i].numbers_min ||
		    count > commands[i].numbers_max)
			continue;
		commands[i].run(proxy, number);
		evbuffer_add_printf(out, "ok\n");
		return;
	}
	evbuffer_add_printf(out, "error: no such command, or not its numbers\n");
}

static void on_line(struct bufferevent *stream, void *arg)
{
	char *line;

	while ((line = evbuffer_readln(bufferevent_get_input(stream), NULL, EVBUFFER_EOL_CRLF))) {
		run_line(arg, line, bufferevent_get_output(stream));
		free(line);
	}
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	(void)what, (void)arg;
	bufferevent_free(stream);
}

static void on_controller(struct evconnlistener *listener, evutil_socket_t fd,
			  struct sockaddr *unused, int size, void *arg)
{
	struct bufferevent *stream = bufferevent_socket_new(evconnlistener_get_base(listener), fd,
							    BEV_OPT_CLOSE_ON_FREE);

	(void)unused, (void)size;
	assert(stream != NULL);
	bufferevent_setcb(stream, on_line, NULL, on_event, arg);
	bufferevent_enable(stream, EV_READ);
}

void control_begin(struct proxy *proxy, const struct place *place)
{
	proxy_listen(proxy, place, on_controller);
}
