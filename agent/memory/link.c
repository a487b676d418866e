#include "agent/memory/link.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/memory/hub.h"
#include "agent/memory/peer.h"
#include "shm/rl_clock.h"

#define BACKOFF_SOON_MS 3u /* the first attempt after a connection that was of use */
#define BACKOFF_MIN_MS  20u
#define BACKOFF_MAX_MS  250u
#define PLACE_MS        1000u
#define LATE_MS         50u  /* a timer as late as this: it is us who were held up */
#define GRACE_MS        200u /* then what has come in meanwhile is read first */
#define NS_PER_MS       UINT64_C(1000000)

enum link_state { WAITING, GREETING, UP };

struct request {
	STAILQ_ENTRY(request) next;
	link_fn *fn;
	void *arg;
	uint64_t sent_ns;
};

STAILQ_HEAD(requests, request);

struct link {
	struct event_base *base;
	struct link_events events;
	void *arg;
	unsigned timeout_ms, backoff_ms;
	struct hub *hub; /* NULL: another agent's */
	enum link_state state;
	struct bufferevent *stream; /* NULL while waiting */
	struct requests sent;       /* oldest first */
	struct event *timer, *place;
	uint64_t greeted_ns, due_ns; /* when HELLO was sent; when the timer is due */
	bool busy;                   /* a function of the user is on the stack */
	char path[HUB_PATH_MAX + 1], why[256];
};

static bool blame(struct link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Why it is of no more use; always false. */
static bool blame(struct link *link, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(link->why, sizeof(link->why), format, args);
	va_end(args);
	return false;
}

static void arm(struct link *link, uint64_t ms)
{
	const struct timeval delay = {.tv_sec = (time_t)(ms / 1000),
				      .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	link->due_ns = rl_clock_precise_ns() + ms * NS_PER_MS;
	evtimer_add(link->timer, &delay);
}

static void retry_later(struct link *link)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)rl_clock_precise_ns();
	arm(link, link->backoff_ms * (80 + random % 41) / 100);
	link->backoff_ms *= 2;
	if (link->backoff_ms < BACKOFF_MIN_MS)
		link->backoff_ms = BACKOFF_MIN_MS;
	if (link->backoff_ms > BACKOFF_MAX_MS)
		link->backoff_ms = BACKOFF_MAX_MS;
}

static void disconnect(struct link *link)
{
	if (link->stream != NULL)
		bufferevent_free(link->stream);
	link->stream = NULL;
	link->state = WAITING;
}

static void give_up_all(struct link *link)
{
	struct request *request;

	while ((request = STAILQ_FIRST(&link->sent)) != NULL) {
		STAILQ_REMOVE_HEAD(&link->sent, next);
		request->fn(NULL, request->arg);
		free(request);
	}
}

/* The reason stands in link->why. */
static void drop(struct link *link)
{
	disconnect(link);
	retry_later(link);
	link->busy = true;
	give_up_all(link);
	link->events.down(link->arg, link->why);
	link->busy = false;
}

static void greeted(struct link *link, struct frame_in *in, bool *ret_good)
{
	pid_t keeper;

	*ret_good = frame_take4(in) == FRAME_HELLO && frame_take8(in) == FRAME_MAGIC &&
		    frame_take4(in) == FRAME_VERSION;
	keeper = (pid_t)frame_take4(in);
	if (!*ret_good || !frame_is_read(in)) {
		*ret_good = blame(link,
				  "who listens at %s is no agent, or one of a release that "
				  "counts otherwise: the agents of a machine must be alike",
				  link->path);
		return;
	}
	link->state = UP;
	link->backoff_ms = BACKOFF_MIN_MS;
	evtimer_del(link->timer);
	link->events.up(link->arg, keeper, link->hub != NULL);
}

static bool read_answer(struct frame_in *in, struct link_answer *ret)
{
	uint32_t kind = frame_take4(in);

	*ret = (struct link_answer){.refused = kind == FRAME_REFUSED};
	if (ret->refused) {
		ret->why = frame_take_text(in);
	} else {
		ret->status = (int64_t)frame_take8(in);
		ret->now_ms = frame_take8(in);
		ret->live = frame_take8(in);
		ret->other = frame_take_text(in);
		ret->answers = frame_take_text(in);
	}
	return frame_is_read(in) && (ret->refused || kind == FRAME_ANSWER);
}

static bool answered(struct link *link, struct frame_in *in)
{
	struct request *request = STAILQ_FIRST(&link->sent);
	struct link_answer answer;

	if (request == NULL || !read_answer(in, &answer))
		return blame(link, "an answer that cannot be read");
	STAILQ_REMOVE_HEAD(&link->sent, next);
	link->backoff_ms = BACKOFF_SOON_MS;
	request->fn(&answer, request->arg);
	free(request);
	return true;
}

static void on_frames(struct bufferevent *stream, void *arg)
{
	struct link *link = arg;
	enum peer_frame next;
	struct frame_in in;
	bool good = true;

	link->busy = true;
	while (good && (next = peer_next(stream, &in)) != PEER_NONE) {
		if (next == PEER_BAD)
			good = blame(link, "an answer of more than %u KiB", FRAME_MAX >> 10);
		else if (link->state == GREETING)
			greeted(link, &in, &good);
		else
			good = answered(link, &in);
		if (good)
			peer_done(stream);
	}
	link->busy = false;
	if (!good)
		drop(link);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct link *link = arg;

	(void)stream, (void)what;
	blame(link, "the agent that keeps the counts at %s closed the connection", link->path);
	drop(link);
}

static int dial(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error;

	memcpy(address.sun_path, path, strlen(path) + 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static bool say_hello(struct link *link)
{
	static struct frame_out out;

	frame_begin(&out, FRAME_HELLO);
	frame_put8(&out, FRAME_MAGIC);
	frame_put4(&out, FRAME_VERSION);
	if (!peer_send(link->stream, &out))
		return blame(link, "no memory for a connection");
	link->state = GREETING;
	link->greeted_ns = rl_clock_precise_ns();
	arm(link, link->timeout_ms);
	return true;
}

static bool connect_over(struct link *link, int fd)
{
	pid_t pid;

	if (fd < 0)
		return blame(link, "%s: %s", link->path, strerror(errno));
	if (!peer_is_ours(fd, &pid)) {
		close(fd);
		return blame(link, "who listens at %s is another user's process", link->path);
	}
	link->stream = bufferevent_socket_new(link->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (link->stream == NULL) {
		close(fd);
		return blame(link, "no memory for a connection");
	}
	bufferevent_setcb(link->stream, on_frames, NULL, on_event, link);
	bufferevent_setwatermark(link->stream, EV_READ, 0, FRAME_MAX);
	if (bufferevent_enable(link->stream, EV_READ | EV_WRITE) != 0)
		return blame(link, "no memory for a connection");
	return say_hello(link);
}

static bool connect_now(struct link *link)
{
	const char *why = NULL;

	if (link->hub == NULL)
		link->hub = hub_new(link->base, link->path, &why);
	if (why != NULL)
		return blame(link, "the counts cannot be kept at %s: %s", link->path, why);
	return connect_over(link, dial(link->path));
}

/* The time of the oldest request, or of the greeting: over, or still to come. */
static bool in_time(struct link *link)
{
	const struct request *oldest = STAILQ_FIRST(&link->sent);
	uint64_t now_ns = rl_clock_precise_ns(), since_ns = link->greeted_ns, due_ns;

	if (oldest != NULL)
		since_ns = oldest->sent_ns;
	else if (link->state == UP)
		return true;
	due_ns = since_ns + link->timeout_ms * NS_PER_MS;
	if (now_ns >= due_ns)
		return blame(link, "no answer for %u ms", link->timeout_ms);
	arm(link, (due_ns - now_ns) / NS_PER_MS + 1);
	return true;
}

static void on_timer(evutil_socket_t unused, short events, void *arg)
{
	struct link *link = arg;
	bool fine = true;

	(void)unused, (void)events;
	if (link->state == WAITING)
		fine = connect_now(link);
	else if (rl_clock_precise_ns() > link->due_ns + LATE_MS * NS_PER_MS)
		arm(link, GRACE_MS);
	else
		fine = in_time(link);
	if (!fine)
		drop(link);
}

/* Somebody has tidied up: what was ours may be another's by now. */
static void on_place(evutil_socket_t unused, short events, void *arg)
{
	struct link *link = arg;

	(void)unused, (void)events;
	if (link->hub == NULL || hub_is_in_place(link->hub))
		return;
	hub_free(link->hub);
	link->hub = NULL;
	blame(link,
	      "%s.lock was removed: another agent may keep counts by now, so ours are dropped",
	      link->path);
	drop(link);
}

const char *link_path_fault(const char *path)
{
	if (path[0] != '/')
		return "the path of its socket must be absolute";
	if (strlen(path) > HUB_PATH_MAX)
		return "the path of its socket has at most 100 bytes";
	if (path[strlen(path) - 1] == '/')
		return "its path is that of a socket, and not of a folder";
	return NULL;
}

struct link *link_new(struct event_base *base, const char *path, unsigned timeout_ms,
		      const struct link_events *events, void *arg)
{
	const struct timeval every = {.tv_sec = PLACE_MS / 1000};
	struct link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return NULL;
	*link = (struct link){.base = base, .events = *events, .arg = arg};
	link->timeout_ms = timeout_ms;
	link->backoff_ms = BACKOFF_MIN_MS;
	snprintf(link->path, sizeof(link->path), "%s", path);
	STAILQ_INIT(&link->sent);
	link->timer = evtimer_new(base, on_timer, link);
	link->place = event_new(base, -1, EV_PERSIST, on_place, link);
	if (link->timer != NULL && link->place != NULL && event_add(link->place, &every) == 0) {
		arm(link, 0);
		return link;
	}
	link_free(link);
	return NULL;
}

void link_free(struct link *link)
{
	if (link == NULL)
		return;
	disconnect(link);
	give_up_all(link);
	hub_free(link->hub);
	if (link->timer != NULL)
		event_free(link->timer);
	if (link->place != NULL)
		event_free(link->place);
	free(link);
}

int link_ask(struct link *link, struct frame_out *out, link_fn *fn, void *arg)
{
	struct request *request;

	if (link->state != UP)
		return -ENOTCONN;
	request = malloc(sizeof(*request));
	if (request == NULL || !peer_send(link->stream, out)) {
		free(request);
		return -ENOMEM;
	}
	*request = (struct request){.fn = fn, .arg = arg, .sent_ns = rl_clock_precise_ns()};
	STAILQ_INSERT_TAIL(&link->sent, request, next);
	if (!evtimer_pending(link->timer, NULL))
		arm(link, link->timeout_ms);
	return 0;
}
