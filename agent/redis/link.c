#include "agent/redis/inner.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "agent/redis/dial.h"
#include "shm/rl_clock.h"

#define CONNECT_MS 1000u
#define ASK_MS     1000u /* for a Sentinel to say where the primary is */
#define LOOK_MS    250u  /* while a long wait lasts: has the password been changed? */
#define SLOW_MS    150u  /* without an answer for so long it may be gone */
#define LATE_MS    50u   /* a timer as late as this: it is us who were held up */
#define GRACE_MS   200u  /* then what has come in meanwhile is read first */
#define NS_PER_MS  UINT64_C(1000000)

bool redis_blame(struct redis *redis, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(redis->why, sizeof(redis->why), format, args);
	va_end(args);
	return false;
}

static void arm(struct redis *redis, uint64_t ms)
{
	const struct timeval delay = {.tv_sec = (time_t)(ms / 1000),
				      .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	redis->timer_due_ns = rl_clock_precise_ns() + ms * NS_PER_MS;
	evtimer_add(redis->timer, &delay);
}

/* From here on nothing can be written, and nothing is read any more. */
static void disconnect(struct redis *redis)
{
	if (redis->stream != NULL)
		bufferevent_free(redis->stream);
	if (redis->reader != NULL)
		redisReaderFree(redis->reader);
	redis->stream = NULL;
	redis->reader = NULL;
	redis_password_wipe(&redis->password);
	redis->state = STATE_WAITING;
}

/* Until the next attempt, or until it is time to see whether the password was changed. */
static void wait_on(struct redis *redis)
{
	uint64_t now_ns = rl_clock_precise_ns();
	uint64_t left_ms =
		redis->retry_ns > now_ns ? (redis->retry_ns - now_ns) / NS_PER_MS + 1 : 0;

	arm(redis, redis->denied && left_ms > LOOK_MS ? LOOK_MS : left_ms);
}

uint32_t redis_random(void)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)rl_clock_precise_ns();
	return random;
}

static void retry_later(struct redis *redis)
{
	unsigned most_ms = redis->denied ? REDIS_DENIED_MAX_MS : REDIS_BACKOFF_MAX_MS;

	if (redis->backoff_ms > most_ms)
		redis->backoff_ms = most_ms;
	redis->lost_ns = rl_clock_precise_ns();
	redis->retry_ns =
		redis->lost_ns + redis->backoff_ms * NS_PER_MS * (80 + redis_random() % 41) / 100;
	redis->backoff_ms *= 2;
	if (redis->backoff_ms < REDIS_BACKOFF_MIN_MS)
		redis->backoff_ms = REDIS_BACKOFF_MIN_MS;
	if (redis->sentinel != NULL)
		redis_sentinel_hurry(redis->sentinel);
	wait_on(redis);
}

/* Is it worth another attempt now? */
static bool is_due(struct redis *redis)
{
	return rl_clock_precise_ns() >= redis->retry_ns ||
	       (redis->denied && redis_stamp_take(redis->login.password_file, &redis->password_is));
}

void redis_link_hurry(struct redis *redis)
{
	if (redis->state != STATE_WAITING)
		return;
	redis->backoff_ms = REDIS_BACKOFF_MIN_MS;
	redis->retry_ns = 0;
	arm(redis, 0);
}

/* The reason stands in redis->why. */
static void drop(struct redis *redis)
{
	redis_enter(redis);
	if (redis->state < STATE_GREETING)
		redis->known_ns = 0;
	disconnect(redis);
	retry_later(redis);
	redis_give_up_all(redis);
	if (!redis->gone)
		redis->events.down(redis->arg, redis->why);
	redis_leave(redis);
}

bool redis_link_write(struct redis *redis, struct redis_request *request)
{
	if (!redis_request_write(request, &redis->lua[request->script],
				 bufferevent_get_output(redis->stream)))
		return redis_blame(redis, "no memory for a command");
	request->written_ns = rl_clock_precise_ns();
	/* A timer that is armed already is never too late: it looks at the oldest and goes on. */
	if (!evtimer_pending(redis->timer, NULL))
		arm(redis, redis->timeout_ms);
	return true;
}

/* It has not answered anything yet. */
static bool is_early(const struct redis *redis)
{
	return redis->state == STATE_GREETING && !redis->heard;
}

/* What a server may have expected that ends the connection before its first answer. */
static const char *first_hint(const struct redis *redis)
{
	if (redis->state == STATE_SECURING)
		return ": is this its tls-port?";
	if (is_early(redis) && redis->tls == NULL && redis->address.kind == REDIS_TCP)
		return ": does it expect TLS (rediss://)?";
	return "";
}

static bool take_answers(struct redis *redis)
{
	void *reply = NULL;
	bool fine = true;

	while (fine && !redis->gone) {
		if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK)
			return redis_blame(redis, "an answer that cannot be read: %s%s",
					   redis->reader->errstr, first_hint(redis));
		if (reply == NULL)
			break;
		redis->fed = 0;
		fine = redis_answered(redis, reply);
		freeReplyObject(reply);
	}
	if (fine && redis->fed > REDIS_ANSWER_BYTES)
		return redis_blame(redis, "an answer of more than %u MiB",
				   REDIS_ANSWER_BYTES >> 20);
	return fine;
}

static void on_readable(struct bufferevent *stream, void *arg)
{
	struct evbuffer *input = bufferevent_get_input(stream);
	struct redis *redis = arg;
	bool fine = true;
	size_t size;

	redis_enter(redis);
	while (fine && !redis->gone && (size = evbuffer_get_contiguous_space(input)) > 0) {
		redisReaderFeed(redis->reader, (char *)evbuffer_pullup(input, (ev_ssize_t)size),
				size);
		evbuffer_drain(input, size);
		redis->fed += size;
		fine = take_answers(redis);
	}
	if (!fine && !redis->gone)
		drop(redis);
	redis_leave(redis);
}

static void on_event(struct bufferevent *stream, short what, void *arg);

/* The connection is there: from here on its socket belongs to TLS, which begins its handshake. */
static bool secure(struct redis *redis)
{
	int fd = bufferevent_getfd(redis->stream);
	struct bufferevent *stream =
		redis_tls_stream(redis->tls, redis->base, fd, redis->address.host);

	if (stream == NULL)
		return redis_blame(redis, "no memory for TLS");
	bufferevent_setfd(redis->stream, -1);
	bufferevent_free(redis->stream);
	redis->stream = stream;
	redis->state = STATE_SECURING;
	arm(redis, CONNECT_MS);
	bufferevent_setcb(stream, on_readable, NULL, on_event, redis);
	return bufferevent_enable(stream, EV_READ | EV_WRITE) == 0 ||
	       redis_blame(redis, "no memory for a connection");
}

static bool connected(struct redis *redis)
{
	if (redis->tls != NULL && redis->state == STATE_CONNECTING)
		return secure(redis);
	redis->state = STATE_GREETING;
	evtimer_del(redis->timer);
	return redis_greet(redis);
}

/* Whoever gives up with bytes of ours unread resets; it says no more than a close. */
static void blame_loss(struct redis *redis, short what, int error)
{
	bool secured = redis->tls != NULL && redis->state >= STATE_SECURING;

	if (secured && redis_tls_explain(redis->tls, redis->stream, is_early(redis), redis->why,
					 sizeof(redis->why)))
		return;
	/* Below TLS the error of the socket is not handed up. */
	if ((what & BEV_EVENT_EOF) || secured || error == ECONNRESET || error == EPIPE)
		redis_blame(redis, "the server closed the connection%s", first_hint(redis));
	else
		redis_blame(redis, "%s", error != 0 ? strerror(error) : "the connection failed");
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	int error = EVUTIL_SOCKET_ERROR();
	struct redis *redis = arg;

	(void)stream;
	if ((what & BEV_EVENT_CONNECTED) && connected(redis))
		return;
	if (!(what & BEV_EVENT_CONNECTED))
		blame_loss(redis, what, error);
	drop(redis);
}

/* fd is on its way, or -1: then why says why it is not. */
static bool connect_over(struct redis *redis, int fd, const char *why)
{
	if (fd < 0)
		return redis_blame(redis, "%s", why);
	redis->state = STATE_CONNECTING;
	redis->fed = 0;
	redis->heard = false;
	redis->denied = false;
	redis->logins = 0;
	redis->reader = redis_reader_new();
	redis->stream = bufferevent_socket_new(redis->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (redis->stream == NULL)
		evutil_closesocket(fd);
	if (redis->stream == NULL || redis->reader == NULL)
		return redis_blame(redis, "no memory for a connection");
	bufferevent_setcb(redis->stream, on_readable, NULL, on_event, redis);
	if (bufferevent_enable(redis->stream, EV_READ) != 0 ||
	    bufferevent_socket_connect(redis->stream, NULL, 0) != 0)
		return redis_blame(redis, "no memory for a connection");
	return true;
}

/* The host's addresses are there. */
static bool connect_to_host(struct redis *redis)
{
	const char *why = NULL;
	struct addrinfo *list = redis_resolver_take(redis->resolver, &why);
	int fd;

	if (list == NULL)
		return redis_blame(redis, "the host name '%s' cannot be resolved: %s",
				   redis->address.host, why);
	fd = redis_dial_tcp(list, redis->turn++, &why);
	freeaddrinfo(list);
	return connect_over(redis, fd, why);
}

static void on_resolved(void *arg)
{
	struct redis *redis = arg;

	/* In any other state it is too late for its attempt; the next one finds it there. */
	if (redis->state == STATE_RESOLVING && !connect_to_host(redis))
		drop(redis);
}

/* One time limit for all of it, from here to the connection. */
static bool connect_there(struct redis *redis)
{
	const char *why = NULL;
	int fd;

	if (redis->tls != NULL && !redis_tls_ready(redis->tls, redis->why, sizeof(redis->why)))
		return false;
	if (!redis_login_ready(redis))
		return false;
	arm(redis, CONNECT_MS);
	if (redis->address.kind == REDIS_UNIX) {
		fd = redis_dial_unix(redis->address.path, &why);
		return connect_over(redis, fd, why);
	}
	redis->state = STATE_RESOLVING;
	return !redis_resolver_ask(redis->resolver, &redis->address) || connect_to_host(redis);
}

static bool is_at(const struct redis *redis, const struct redis_address *at)
{
	return redis->address.port == at->port && strcmp(redis->address.host, at->host) == 0;
}

static bool connect_to(struct redis *redis, const struct redis_address *at)
{
	if (!is_at(redis, at))
		redis_resolver_forget(redis->resolver);
	redis->address = *at;
	return connect_there(redis);
}

/* Where Sentinel says that it is; it is asked when its last word is of before the last loss. */
static bool connect_now(struct redis *redis)
{
	struct redis_address at = redis->address;

	if (redis->sentinel == NULL)
		return connect_there(redis);
	if (redis_sentinel_where(redis->sentinel, redis->lost_ns, &at))
		return connect_to(redis, &at);
	redis->state = STATE_ASKING;
	arm(redis, ASK_MS);
	return true;
}

/* No Sentinel has said it in time. While none of them can be reached it may be where it was. */
static bool connect_unasked(struct redis *redis)
{
	struct redis_address at = redis->address;

	if (redis_sentinel_was(redis->sentinel, redis->lost_ns, &at))
		return connect_to(redis, &at);
	return redis_sentinel_blame(redis->sentinel, redis->why, sizeof(redis->why));
}

void redis_link_moved(struct redis *redis)
{
	struct redis_address at = redis->address;

	if (!redis_sentinel_where(redis->sentinel, redis->lost_ns, &at))
		return;
	if (redis->state == STATE_ASKING) {
		if (!connect_now(redis))
			drop(redis);
	} else if (!is_at(redis, &at)) {
		redis->known_ns = 0; /* it is another server */
		redis->backoff_ms = REDIS_BACKOFF_MIN_MS;
		if (redis->state == STATE_WAITING) {
			redis_link_hurry(redis);
			return;
		}
		redis_blame(redis, "Sentinel says that the primary is %s:%u now", at.host, at.port);
		drop(redis);
	}
}

bool redis_link_is_well(const struct redis *redis)
{
	const struct redis_request *oldest = STAILQ_FIRST(&redis->sent);

	return redis->state == STATE_UP &&
	       (oldest == NULL || rl_clock_precise_ns() - oldest->written_ns < SLOW_MS * NS_PER_MS);
}

/* The time of the oldest command: over, or still to come. */
static bool in_time(struct redis *redis)
{
	const struct redis_request *oldest = STAILQ_FIRST(&redis->sent);
	uint64_t now_ns = rl_clock_precise_ns(), due_ns;

	if (oldest == NULL)
		return true;
	due_ns = oldest->written_ns + redis->timeout_ms * NS_PER_MS;
	if (now_ns >= due_ns)
		return redis_blame(redis, "no answer for %u ms", redis->timeout_ms);
	arm(redis, (due_ns - now_ns) / NS_PER_MS + 1);
	return true;
}

/*
 * This process was stopped, or starved, while the time ran: the answer may lie in the socket
 * for long, or the command may not even have left. Neither is the server's fault.
 */
static bool held_up(const struct redis *redis)
{
	return rl_clock_precise_ns() > redis->timer_due_ns + LATE_MS * NS_PER_MS;
}

static void on_timer(evutil_socket_t unused, short events, void *arg)
{
	struct redis *redis = arg;
	bool fine = true;

	(void)unused, (void)events;
	if (redis->state == STATE_WAITING && !is_due(redis))
		wait_on(redis);
	else if (redis->state == STATE_WAITING)
		fine = connect_now(redis);
	else if (redis->state == STATE_ASKING)
		fine = connect_unasked(redis);
	else if (held_up(redis))
		arm(redis, GRACE_MS);
	else if (redis->state == STATE_RESOLVING)
		fine = redis_blame(redis, "the name '%s' is not resolved within %u ms",
				   redis->address.host, CONNECT_MS);
	else if (redis->state == STATE_CONNECTING)
		fine = redis_blame(redis, "no connection within %u ms", CONNECT_MS);
	else if (redis->state == STATE_SECURING)
		fine = redis_blame(redis, "no TLS handshake within %u ms%s", CONNECT_MS,
				   first_hint(redis));
	else
		fine = in_time(redis);
	if (!fine)
		drop(redis);
}

bool redis_link_init(struct redis *redis, struct event_base *base)
{
	redis->base = base;
	redis->backoff_ms = REDIS_BACKOFF_MIN_MS;
	redis->timer = evtimer_new(base, on_timer, redis);
	redis->resolver = redis_resolver_new(base, on_resolved, redis);
	if (redis->timer != NULL && redis->resolver != NULL) {
		arm(redis, 0);
		return true;
	}
	if (redis->timer != NULL)
		event_free(redis->timer);
	redis_resolver_free(redis->resolver);
	return false;
}

void redis_link_end(struct redis *redis)
{
	disconnect(redis);
	event_free(redis->timer);
	redis_resolver_free(redis->resolver);
	redis_sentinel_free(redis->sentinel);
}
