#include "agent/redis/sentinel.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/redis/inner.h"
#include "agent/redis/told.h"
#include "shm/rl_clock.h"

#define NS_PER_MS  UINT64_C(1000000)
#define CALM_MS    300u
#define TROUBLE_MS 100u
#define ANSWER_MS  1000u /* for one answer; others are asked meanwhile */
#define PLACES     (2 * REDIS_SENTINELS_MAX)
#define NAMES_EACH 16u                 /* of so many rounds one asks for the other Sentinels */
#define FORGET_NS  (60 * RL_SECOND_NS) /* one that was named and cannot be reached */
#define OUTDATED_NS \
	(10 * RL_SECOND_NS) /* an epoch that nobody has confirmed for so long is over \
			     */

/* One Sentinel. */
struct place {
	struct redis_sentinel *whole;
	struct redis *link; /* NULL: nobody */
	struct redis_address address;
	bool named;             /* by another one, not by the configuration */
	uint64_t down_ns;       /* since when; 0: it is up */
	unsigned awaited;       /* answers to the round under way */
	uint64_t asked_ns;      /* when that began */
	uint64_t epoch;         /* by its answer in this round */
	char why[SENTINEL_WHY]; /* it is of no use; "": it is */
};

struct redis_sentinel {
	struct event_base *base;
	struct redis *owner;
	struct redis_sentinels config;
	struct redis_trust trust;
	struct event *poll, *tell;
	struct place place[PLACES];
	unsigned round;
	bool found; /* the rest has a meaning */
	struct told_primary primary;
	uint64_t epoch, epoch_ns; /* the highest, and when it was last confirmed */
	uint64_t answered_ns;     /* when the question of the last accepted answer was asked */
	uint64_t heard_ns;        /* likewise, of any answer */
};

static void say(struct place *place, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct place *place, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(place->why, sizeof(place->why), format, args);
	va_end(args);
}

/* --- what they answer --- */

/*
 * A lower epoch than another has is of before the last failover. Only when nobody has the higher
 * one any more (the primary was removed and named anew) the lower one counts.
 */
static bool is_outdated(const struct redis_sentinel *sentinel, uint64_t epoch)
{
	return sentinel->found && epoch < sentinel->epoch &&
	       rl_clock_precise_ns() - sentinel->epoch_ns < OUTDATED_NS;
}

static void believe(struct place *place, const struct told_primary *primary)
{
	struct redis_sentinel *sentinel = place->whole;

	if (is_outdated(sentinel, place->epoch)) {
		say(place, "it has missed a failover (epoch %llu, others have %llu)",
		    (unsigned long long)place->epoch, (unsigned long long)sentinel->epoch);
		return;
	}
	place->why[0] = '\0';
	sentinel->found = true;
	sentinel->primary = *primary;
	sentinel->epoch = place->epoch;
	sentinel->epoch_ns = rl_clock_precise_ns();
	if (sentinel->answered_ns < place->asked_ns)
		sentinel->answered_ns = place->asked_ns;
	/* Not from here: what is told may end all of this. */
	event_active(sentinel->tell, EV_TIMEOUT, 0);
}

/* NULL: the connection is gone, or this place is. */
static struct place *answered(const redisReply *reply, void *arg)
{
	struct place *place = arg;

	if (reply == NULL || place->link == NULL)
		return NULL;
	if (place->awaited > 0)
		place->awaited--;
	if (place->whole->heard_ns < place->asked_ns)
		place->whole->heard_ns = place->asked_ns;
	return place;
}

static void on_state(struct redis *link, redisReply *reply, void *arg)
{
	struct place *place = answered(reply, arg);

	(void)link;
	if (place != NULL)
		place->epoch = told_epoch(reply);
}

static void on_address(struct redis *link, redisReply *reply, void *arg)
{
	struct place *place = answered(reply, arg);
	struct told_primary primary;

	(void)link;
	if (place == NULL)
		return;
	if (told_where(reply, place->whole->config.primary, &primary, place->why))
		believe(place, &primary);
}

static void add_named(struct redis_sentinel *sentinel, const struct redis_address *address);

static void on_others(struct redis *link, redisReply *reply, void *arg)
{
	struct place *place = answered(reply, arg);
	struct redis_address other;

	(void)link;
	if (place == NULL || reply->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < reply->elements && i < PLACES; i++) {
		other = place->address; /* spoken to as this one is */
		if (told_other(reply->element[i], &other))
			add_named(place->whole, &other);
	}
}

static bool put_question(struct place *place, const char *what, redis_reply_fn *fn)
{
	const char *argv[] = {"SENTINEL", what, place->whole->config.primary};
	const size_t length[] = {8, strlen(what), strlen(argv[2])};

	if (redis_command(place->link, 3, argv, length, fn, place) != 0)
		return false;
	place->awaited++;
	return true;
}

/* Its epoch before the address: amid a failover an old one with the new address is put right by
 * the next round, a new one with the old address would stand. */
static void ask(struct place *place)
{
	if (place->link == NULL || !redis_is_up(place->link) || place->awaited > 0)
		return;
	place->asked_ns = rl_clock_precise_ns();
	if (put_question(place, "MASTER", on_state) &&
	    put_question(place, "GET-MASTER-ADDR-BY-NAME", on_address) &&
	    place->whole->round % NAMES_EACH == 0)
		put_question(place, "SENTINELS", on_others);
}

/* --- who they are --- */

static void on_up(void *arg)
{
	struct place *place = arg;

	place->down_ns = 0;
	place->awaited = 0;
	ask(place);
}

static void on_down(void *arg, const char *why)
{
	struct place *place = arg;

	place->awaited = 0;
	if (place->down_ns == 0)
		place->down_ns = rl_clock_precise_ns();
	say(place, "%s", why);
}

static bool link_up(struct redis_sentinel *sentinel, struct place *place)
{
	static const struct redis_events events = {.up = on_up, .down = on_down};

	place->link = redis_new(sentinel->base, &place->address, &events, place);
	if (place->link == NULL)
		return false;
	redis_set_login(place->link, &sentinel->config.login);
	redis_set_timeout(place->link, ANSWER_MS);
	redis_set_option(place->link, "redis.sentinel_");
	if (!place->address.tls || redis_set_trust(place->link, &sentinel->trust) == 0)
		return true;
	redis_free(place->link);
	place->link = NULL;
	return false;
}

static bool add(struct redis_sentinel *sentinel, const struct redis_address *address, bool named)
{
	for (unsigned i = 0; i < PLACES; i++) {
		struct place *place = &sentinel->place[i];

		if (place->link != NULL)
			continue;
		*place = (struct place){.whole = sentinel,
					.address = *address,
					.named = named,
					.down_ns = rl_clock_precise_ns()};
		snprintf(place->why, sizeof(place->why), "no answer yet");
		return link_up(sentinel, place);
	}
	return true; /* there are enough */
}

/* The configuration may have it by its name, others by its address. */
static bool leads_to(const struct redis *link, const struct redis_address *address)
{
	struct sockaddr_storage peer = {0};
	socklen_t size = sizeof(peer);
	char host[INET6_ADDRSTRLEN] = "";
	unsigned port = 0;

	if (link->stream == NULL ||
	    getpeername(bufferevent_getfd(link->stream), (struct sockaddr *)&peer, &size) != 0)
		return false;
	if (peer.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)&peer;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		port = ntohs(in->sin_port);
	} else if (peer.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)&peer;

		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		port = ntohs(in6->sin6_port);
	}
	return port == address->port && strcmp(host, address->host) == 0;
}

static void add_named(struct redis_sentinel *sentinel, const struct redis_address *address)
{
	for (unsigned i = 0; i < PLACES; i++) {
		const struct place *place = &sentinel->place[i];

		if (place->link != NULL && ((place->address.port == address->port &&
					     strcmp(place->address.host, address->host) == 0) ||
					    leads_to(place->link, address)))
			return;
	}
	add(sentinel, address, true);
}

/* Those of the configuration stay. */
static void forget_dead(struct redis_sentinel *sentinel)
{
	uint64_t now_ns = rl_clock_precise_ns();

	for (unsigned i = 0; i < PLACES; i++) {
		struct place *place = &sentinel->place[i];
		struct redis *link = place->link;

		if (link == NULL || !place->named || place->down_ns == 0 ||
		    now_ns - place->down_ns < FORGET_NS)
			continue;
		place->link = NULL;
		redis_free(link);
	}
}

/* --- when --- */

static void plan(struct redis_sentinel *sentinel)
{
	unsigned ms = redis_link_is_well(sentinel->owner) ? CALM_MS : TROUBLE_MS;
	uint32_t random = redis_random();
	const struct timeval delay = {.tv_usec = (suseconds_t)(ms * (80 + random % 41) * 10)};

	evtimer_add(sentinel->poll, &delay);
}

static void on_poll(evutil_socket_t unused, short events, void *arg)
{
	struct redis_sentinel *sentinel = arg;

	(void)unused, (void)events;
	sentinel->round++;
	forget_dead(sentinel);
	for (unsigned i = 0; i < PLACES; i++)
		ask(&sentinel->place[i]);
	plan(sentinel);
}

static void on_tell(evutil_socket_t unused, short events, void *arg)
{
	struct redis_sentinel *sentinel = arg;

	(void)unused, (void)events;
	redis_link_moved(sentinel->owner); /* which may free sentinel */
}

void redis_sentinel_hurry(struct redis_sentinel *sentinel)
{
	for (unsigned i = 0; i < PLACES; i++)
		ask(&sentinel->place[i]);
	plan(sentinel);
}

/* --- what the connection is told --- */

static void fill(const struct redis_sentinel *sentinel, struct redis_address *ret)
{
	snprintf(ret->host, sizeof(ret->host), "%s", sentinel->primary.host);
	ret->port = sentinel->primary.port;
}

bool redis_sentinel_where(const struct redis_sentinel *sentinel, uint64_t since_ns,
			  struct redis_address *ret)
{
	if (!sentinel->found || sentinel->answered_ns < since_ns)
		return false;
	fill(sentinel, ret);
	return true;
}

bool redis_sentinel_was(const struct redis_sentinel *sentinel, uint64_t since_ns,
			struct redis_address *ret)
{
	if (!sentinel->found || sentinel->heard_ns >= since_ns)
		return false;
	fill(sentinel, ret);
	return true;
}

/* The one whose word is worth most: it answers. Else the first. */
bool redis_sentinel_blame(const struct redis_sentinel *sentinel, char *why, size_t why_size)
{
	const struct place *first = &sentinel->place[0];
	unsigned others = 0;

	for (unsigned i = 0; i < PLACES; i++) {
		const struct place *place = &sentinel->place[i];

		if (place->link == NULL)
			continue;
		others++;
		if (redis_is_up(place->link) && !redis_is_up(first->link))
			first = place;
	}
	snprintf(why, why_size, "no Sentinel says where '%s' is: %s:%u: %.300s",
		 sentinel->config.primary, first->address.host, first->address.port, first->why);
	if (others > 1)
		snprintf(why + strlen(why), why_size - strlen(why), " (and %u more)", others - 1);
	return false;
}

const char *redis_sentinel_name(const struct redis_sentinel *sentinel, char text[REDIS_URL_MAX])
{
	const struct redis_sentinels *config = &sentinel->config;
	size_t room = REDIS_URL_MAX - sizeof(config->primary), used;

	used = (size_t)snprintf(text, REDIS_URL_MAX, "sentinel://");
	for (unsigned i = 0; i < config->count; i++) {
		const struct redis_address *at = &config->address[i];
		const char *bracket = strchr(at->host, ':') != NULL ? "[]" : "";

		if (used + strlen(at->host) + 16 > room) {
			used += (size_t)snprintf(text + used, REDIS_URL_MAX - used, "...");
			break;
		}
		used += (size_t)snprintf(text + used, REDIS_URL_MAX - used, "%s%.1s%s%s:%u",
					 i > 0 ? "," : "", bracket, at->host,
					 *bracket != '\0' ? bracket + 1 : "", at->port);
	}
	snprintf(text + used, REDIS_URL_MAX - used, "/%s", config->primary);
	return text;
}

struct redis_sentinel *redis_sentinel_new(struct event_base *base,
					  const struct redis_sentinels *sentinels,
					  const struct redis_trust *trust, struct redis *owner)
{
	struct redis_sentinel *sentinel = calloc(1, sizeof(*sentinel));
	bool fine;

	if (sentinel == NULL)
		return NULL;
	sentinel->base = base;
	sentinel->owner = owner;
	sentinel->config = *sentinels;
	sentinel->trust = *trust;
	sentinel->poll = evtimer_new(base, on_poll, sentinel);
	sentinel->tell = evtimer_new(base, on_tell, sentinel);
	fine = sentinel->poll != NULL && sentinel->tell != NULL;
	for (unsigned i = 0; fine && i < sentinels->count; i++)
		fine = add(sentinel, &sentinels->address[i], false);
	if (fine) {
		plan(sentinel);
		return sentinel;
	}
	redis_sentinel_free(sentinel);
	return NULL;
}

void redis_sentinel_free(struct redis_sentinel *sentinel)
{
	if (sentinel == NULL)
		return;
	for (unsigned i = 0; i < PLACES; i++) {
		struct redis *link = sentinel->place[i].link;

		sentinel->place[i].link = NULL;
		redis_free(link);
	}
	if (sentinel->poll != NULL)
		event_free(sentinel->poll);
	if (sentinel->tell != NULL)
		event_free(sentinel->tell);
	free(sentinel);
}
