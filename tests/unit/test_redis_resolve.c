/*
 * Goal:   a host name is resolved without holding up the event loop, however long that takes,
 *         and nothing of it is left behind when the connection is given up meanwhile.
 * Method: getaddrinfo() is this program's own: it hangs, fails or makes up addresses as a test
 *         wishes, and asks the real one otherwise. A timer of 10 ms in the same loop tells
 *         whether it was held up; /proc/self tells of threads and descriptors left over.
 */
#include "tests/t.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <event2/event.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/redis/redis.h"

#define LONG_MS 10000u /* a deadline no test is meant to reach */
#define HELD_MS 300u   /* a timer of 10 ms that is late by less may be this machine's doing */
#define UNKNOWN "the host name 'no-such-host.invalid' cannot be resolved: "
#define SLOW    "the name 'localhost' is not resolved within 1000 ms"

/* Of the resolver; atomic, for its threads. All seq_cst: nothing here is quick. */
static atomic_bool hangs, unknown;
static atomic_int questions, inside, inside_most, signals_open;
static atomic_int hang_us; /* for this long instead of forever */

static struct {
	struct event_base *base;
	struct event *tick;
	struct redis *redis;
	struct redis_address address;
	int listener, ups, downs, threads, files;
	bool free_in_down;
	uint64_t tick_ms, gap_most_ms;
	char why[512]; /* the first down's */
} f;

static uint64_t now_ms(void)
{
	return t_now_ns() / 1000000;
}

typedef int getaddrinfo_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int real(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **ret)
{
	getaddrinfo_fn *next;

	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	return next(host, port, hints, ret);
}

/* "A+B": address A and behind it address B. */
static int make_up(const char *host, const char *port, const struct addrinfo *hints,
		   struct addrinfo **ret)
{
	char first[32];
	size_t length = strcspn(host, "+");

	snprintf(first, sizeof(first), "%.*s", (int)length, host);
	if (real(first, port, hints, ret) != 0 || (*ret)->ai_next != NULL)
		return EAI_FAIL;
	return real(host + length + 1, port, hints, &(*ret)->ai_next);
}

static void look_at_signals(void)
{
	sigset_t blocked;

	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	if (!sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGHUP))
		signals_open++;
}

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **ret)
{
	int error;

	if (hints->ai_flags & AI_NUMERICHOST)
		return real(host, port, hints, ret);
	questions++;
	if (++inside > inside_most)
		inside_most = (int)inside;
	look_at_signals();
	if (hang_us > 0)
		usleep((useconds_t)hang_us);
	for (uint64_t end_ms = now_ms() + LONG_MS; hangs && now_ms() < end_ms;)
		usleep(500);
	/* A bare chroot has no /etc/hosts and knows no name at all. */
	if (strcmp(host, "localhost") == 0 && access("/etc/hosts", R_OK) != 0)
		host = "127.0.0.1";
	if (unknown)
		error = EAI_NONAME;
	else
		error = (strchr(host, '+') ? make_up : real)(host, port, hints, ret);
	inside--;
	return error;
}

static bool turn(uint64_t end_ms)
{
	event_base_loop(f.base, EVLOOP_NONBLOCK);
	usleep(200);
	return now_ms() < end_ms;
}

static void run_for(unsigned ms)
{
	for (uint64_t end_ms = now_ms() + ms; turn(end_ms);)
		;
}

/* Run the loop until the condition holds: that must come soon. */
#define comes(condition) \
	do { \
		for (uint64_t end_ms = now_ms() + LONG_MS; !(condition) && turn(end_ms);) \
			; \
		assert_true(condition); \
	} while (0)

/* The same without the loop. */
#define becomes(condition) \
	do { \
		for (uint64_t end_ms = now_ms() + LONG_MS; !(condition) && now_ms() < end_ms;) \
			usleep(200); \
		assert_true(condition); \
	} while (0)

static int entries(const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static void *nothing(void *unused)
{
	return unused;
}

/* A sanitizer may have a thread of its own from the first one on: before they are counted. */
static int group_setup(void **unused)
{
	pthread_t thread;

	(void)unused;
	return pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL);
}

static int threads(void)
{
	return entries("/proc/self/task") - f.threads;
}

static int files(void)
{
	return entries("/proc/self/fd") - f.files;
}

static void on_tick(evutil_socket_t unused, short events, void *arg)
{
	uint64_t gap_ms = now_ms() - f.tick_ms;

	(void)unused, (void)events, (void)arg;
	if (gap_ms > f.gap_most_ms)
		f.gap_most_ms = gap_ms;
	f.tick_ms += gap_ms;
}

static void free_now(void)
{
	struct redis *redis = f.redis;

	f.redis = NULL;
	redis_free(redis);
}

static void on_up(void *arg)
{
	(void)arg;
	f.ups++;
}

static void on_down(void *arg, const char *why)
{
	(void)arg;
	if (f.downs++ == 0)
		snprintf(f.why, sizeof(f.why), "%s", why);
	if (f.free_in_down)
		free_now();
}

static void tcp_listen(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);

	f.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f.listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(f.listener, 5), 0);
	assert_int_equal(getsockname(f.listener, (struct sockaddr *)&at, &size), 0);
	f.address.kind = REDIS_TCP;
	f.address.port = ntohs(at.sin_port);
}

static int setup(void **unused)
{
	static const struct timeval ten_ms = {.tv_usec = 10000};

	(void)unused;
	memset(&f, 0, sizeof(f));
	hangs = false;
	unknown = false;
	questions = 0;
	inside_most = 0;
	signals_open = 0;
	hang_us = 0;
	tcp_listen();
	f.base = event_base_new();
	f.tick = event_new(f.base, -1, EV_PERSIST, on_tick, NULL);
	assert_int_equal(event_add(f.tick, &ten_ms), 0);
	f.tick_ms = now_ms();
	f.threads = entries("/proc/self/task");
	f.files = entries("/proc/self/fd");
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	free_now();
	event_free(f.tick);
	event_base_free(f.base);
	f.base = NULL;
	close(f.listener);
	hangs = false;
	becomes(threads() == 0); /* the last one is gone, and must have freed what is its own */
	return 0;
}

static void connect_to(const char *host)
{
	static const struct redis_events events = {.up = on_up, .down = on_down};

	snprintf(f.address.host, sizeof(f.address.host), "%s", host);
	f.redis = redis_new(f.base, &f.address, &events, NULL);
	assert_non_null(f.redis);
}

/* A Redis answers the greeting, and is gone. */
static void greet(void)
{
	int peer = -1, ups = f.ups;

	comes(peer >= 0 || (peer = accept(f.listener, NULL, NULL)) >= 0);
	assert_int_equal(write(peer, "+PONG\r\n", 7), 7);
	comes(f.ups == ups + 1);
	close(peer);
}

static void test_redis_resolve__name_is_asked_for_in_a_thread_without_signals(void **unused)
{
	(void)unused;
	connect_to("localhost"); /* may be ::1 first: then 127.0.0.1 */
	greet();
	assert_in_range(questions, 1, 2);
	assert_int_equal(signals_open, 0);
}

static void test_redis_resolve__numeric_and_unix_ask_nobody(void **unused)
{
	(void)unused;
	hangs = true;
	connect_to("127.0.0.1");
	greet();
	free_now();
	connect_to("::1");
	run_for(100);
	free_now();
	f.address.kind = REDIS_UNIX;
	strcpy(f.address.path, "/nowhere/at/all");
	connect_to("");
	run_for(100);
	assert_int_equal(questions, 0);
}

static void test_redis_resolve__unknown_name_says_why_and_goes_on_trying(void **unused)
{
	(void)unused;
	unknown = true;
	connect_to("no-such-host.invalid");
	comes(f.downs == 3);
	assert_string_equal(f.why, UNKNOWN "Name or service not known");
	assert_string_equal(redis_why(f.redis), f.why);
	assert_int_equal(questions, 3);
	assert_int_equal(inside_most, 1);
	free_now();
	assert_int_equal(files(), 0);
	unknown = false;
	connect_to("127.0.0.1+127.0.0.1");
	greet();
}

static void test_redis_resolve__longest_name_leaves_room_for_the_reason(void **unused)
{
	char name[256];

	(void)unused;
	unknown = true;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	connect_to(name);
	comes(f.downs == 1);
	assert_non_null(strstr(f.why, "x' cannot be resolved: Name or service not known"));
}

static void test_redis_resolve__addresses_are_tried_in_turn(void **unused)
{
	(void)unused;
	connect_to("127.0.0.2+127.0.0.1");
	greet();
	assert_int_equal(f.downs, 1);
	assert_string_equal(f.why, "Connection refused");
	assert_int_equal(questions, 2);
}

static void test_redis_resolve__hanging_resolver_fails_the_attempt_not_the_loop(void **unused)
{
	uint64_t start_ms = now_ms();

	(void)unused;
	hangs = true;
	connect_to("localhost");
	comes(f.downs == 1);
	assert_in_range(now_ms() - start_ms, 990, 2500);
	assert_string_equal(f.why, SLOW);
	comes(f.downs == 3); /* the later ones wait for the first one's thread */
	assert_in_range(now_ms() - start_ms, 2990, 6000);
	assert_string_equal(redis_why(f.redis), SLOW);
	assert_int_equal(questions, 1);
	assert_int_equal(threads(), 1);
	assert_in_range(f.gap_most_ms, 0, HELD_MS);
	hangs = false;
	greet();
	assert_int_equal(inside_most, 1);
}

static void test_redis_resolve__late_answer_is_the_next_attempts(void **unused)
{
	(void)unused;
	hangs = true;
	connect_to("127.0.0.1+127.0.0.2");
	comes(f.downs == 1);
	hangs = false;
	becomes(threads() == 0);
	greet(); /* and the first address is still the first one */
	assert_int_equal(f.downs, 1);
	assert_int_equal(questions, 1);
}

static void test_redis_resolve__late_refusal_is_the_next_attempts_too(void **unused)
{
	(void)unused;
	hangs = true;
	unknown = true;
	connect_to("no-such-host.invalid");
	comes(f.downs == 2);
	hangs = false;
	comes(f.downs == 3);
	assert_string_equal(redis_why(f.redis), UNKNOWN "Name or service not known");
	assert_int_equal(questions, 1);
	comes(f.downs == 4); /* but no one else's */
	assert_int_equal(questions, 2);
}

static void test_redis_resolve__time_limit_is_for_name_and_connection_together(void **unused)
{
	uint64_t start_ms = now_ms();
	int filler[4];

	(void)unused;
	listen(f.listener, 0);
	for (int i = 0; i < 4; i++) { /* a full queue answers no further one */
		struct sockaddr_in at = {.sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
					 .sin_port = htons(f.address.port)};

		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&at, sizeof(at));
	}
	hang_us = 700000;
	connect_to("127.0.0.1+127.0.0.1");
	comes(f.downs == 1);
	assert_string_equal(f.why, "no connection within 1000 ms");
	assert_in_range(now_ms() - start_ms, 990, 1600);
	for (int i = 0; i < 4; i++)
		close(filler[i]);
}

static void test_redis_resolve__freed_while_it_hangs_returns_at_once(void **unused)
{
	uint64_t start_ms;

	(void)unused;
	hangs = true;
	connect_to("localhost");
	comes(inside == 1);
	start_ms = now_ms();
	free_now();
	assert_in_range(now_ms() - start_ms, 0, HELD_MS);
	assert_int_equal(inside, 1);
	hangs = false;
	becomes(threads() == 0);
	assert_int_equal(files(), 0);
	run_for(50);
	assert_int_equal(f.downs, 0);
}

static void test_redis_resolve__freed_before_and_after_the_answer_is_seen(void **unused)
{
	(void)unused;
	hangs = true;
	connect_to("localhost");
	comes(inside == 1);
	hangs = false;
	becomes(threads() == 0);
	free_now(); /* the loop has not looked yet */
	assert_int_equal(files(), 0);
	hangs = true;
	connect_to("localhost");
	comes(f.downs == 1);
	hangs = false;
	becomes(threads() == 0);
	turn(0);
	free_now(); /* it has, and keeps it for the next attempt */
	assert_int_equal(files(), 0);
}

static void test_redis_resolve__freed_in_the_answer(void **unused)
{
	(void)unused;
	unknown = true;
	f.free_in_down = true;
	connect_to("no-such-host.invalid");
	comes(f.downs == 1);
	assert_null(f.redis);
	run_for(50);
	becomes(threads() == 0);
	assert_int_equal(files(), 0);
}

static void test_redis_resolve__freed_at_any_moment_leaves_nothing(void **unused)
{
	uint64_t seed = t_seed();

	(void)unused;
	unknown = true;
	for (int i = 0; i < 500; i++) {
		hang_us = (int)t_below(&seed, 300) + 1;
		connect_to("no-such-host.invalid");
		turn(0);
		usleep((useconds_t)t_below(&seed, 400));
		if (i % 2 == 0)
			event_base_loop(f.base, EVLOOP_NONBLOCK);
		free_now();
	}
	becomes(threads() == 0);
	assert_int_equal(files(), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_redis_resolve__name_is_asked_for_in_a_thread_without_signals),
		TEST(test_redis_resolve__numeric_and_unix_ask_nobody),
		TEST(test_redis_resolve__unknown_name_says_why_and_goes_on_trying),
		TEST(test_redis_resolve__longest_name_leaves_room_for_the_reason),
		TEST(test_redis_resolve__addresses_are_tried_in_turn),
		TEST(test_redis_resolve__hanging_resolver_fails_the_attempt_not_the_loop),
		TEST(test_redis_resolve__late_answer_is_the_next_attempts),
		TEST(test_redis_resolve__late_refusal_is_the_next_attempts_too),
		TEST(test_redis_resolve__time_limit_is_for_name_and_connection_together),
		TEST(test_redis_resolve__freed_while_it_hangs_returns_at_once),
		TEST(test_redis_resolve__freed_before_and_after_the_answer_is_seen),
		TEST(test_redis_resolve__freed_in_the_answer),
		TEST(test_redis_resolve__freed_at_any_moment_leaves_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("redis_resolve", tests, group_setup, NULL);
}
