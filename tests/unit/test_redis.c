/*
 * Goal:   the connection to Redis keeps itself up, and every command has exactly one answer,
 *         in order, whatever the server or the network does.
 * Method: a private redis-server that is stopped and killed; and a server played by the test
 *         itself, byte by byte, for what a real one does not do. What the callbacks are given
 *         is written into one line of text.
 */
#include "tests/t.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/redis/redis.h"
#include "agent/redis/secret.h"

#define LONG_MS 10000u /* a deadline no test is meant to reach */
#define SHA     "0123456789012345678901234567890123456789"
#define BODY    "return redis.call('INCRBY', KEYS[1], ARGV[1])"

static struct {
	char dir[64];
	char password_file[80];
	bool has_login, has_probe;
	struct redis_address address;
	struct redis_login login;
	struct event_base *base;
	struct redis *redis;
	pid_t server;     /* the real one */
	int listener;     /* of the played one */
	int peer;         /* its connection */
	char bytes[4096]; /* what came over it, and was not taken yet */
	size_t bytes_size;
	char said[8192]; /* "1=7 2=NULL": command and answer */
	int ups, downs, answers;
	bool free_in_answer, free_in_up, free_in_down;
} f;

static uint64_t now_ms(void)
{
	return t_now_ns() / 1000000;
}

/* One turn of the loop; false once it is past end_ms. */
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

/* Run the loop until the condition holds: that must come within ms. */
#define comes_within(ms, condition) \
	do { \
		for (uint64_t end_ms = now_ms() + (ms); !(condition) && turn(end_ms);) \
			; \
		assert_true(condition); \
	} while (0)
#define comes(condition) comes_within(LONG_MS, condition)

static void free_now(void)
{
	struct redis *redis = f.redis;

	f.redis = NULL;
	redis_free(redis);
}

static void on_up(void *arg)
{
	assert_ptr_equal(arg, &f);
	assert_true(redis_is_up(f.redis));
	f.ups++;
	if (f.free_in_up)
		free_now();
}

static void on_down(void *arg, const char *why)
{
	assert_ptr_equal(arg, &f);
	assert_false(redis_is_up(f.redis));
	assert_string_equal(why, redis_why(f.redis));
	f.downs++;
	if (f.free_in_down)
		free_now();
}

static void say(const char *format, ...)
{
	size_t used = strlen(f.said);
	va_list args;

	va_start(args, format);
	vsnprintf(f.said + used, sizeof(f.said) - used, format, args);
	va_end(args);
}

static void on_reply(struct redis *redis, redisReply *reply, void *arg)
{
	int number = (int)(intptr_t)arg;

	assert_ptr_equal(redis, f.redis == NULL ? redis : f.redis);
	f.answers++;
	say("%s%d=", f.said[0] == '\0' ? "" : " ", number);
	if (reply == NULL)
		say("NULL");
	else if (reply->type == REDIS_REPLY_INTEGER)
		say("%lld", reply->integer);
	else
		say("%.60s", reply->str != NULL ? reply->str : "?");
	if (f.free_in_answer && f.redis != NULL)
		free_now();
}

static int increase(int number, const char *key, const char *by)
{
	const char *argv[] = {key, by};
	const size_t lengths[] = {strlen(key), strlen(by)};

	return redis_script(f.redis, 0, 1, 2, argv, lengths, on_reply, (void *)(intptr_t)number);
}

static int command(int number, const char *name, const char *a, const char *b)
{
	const char *argv[] = {name, a, b};
	const size_t lengths[] = {strlen(name), a ? strlen(a) : 0, b ? strlen(b) : 0};

	return redis_command(f.redis, (size_t)1 + (a != NULL) + (b != NULL), argv, lengths,
			     on_reply, (void *)(intptr_t)number);
}

static void connect_with(const char *body)
{
	static const struct redis_events events = {.up = on_up, .down = on_down};

	f.redis = redis_new(f.base, &f.address, &events, &f);
	assert_non_null(f.redis);
	if (f.has_login) {
		snprintf(f.login.password_file, sizeof(f.login.password_file), "%s",
			 f.password_file);
		redis_set_login(f.redis, &f.login);
	}
	if (f.has_probe)
		assert_int_equal(redis_set_probe(f.redis, "probe", 5, "{rl:f:0}:probe"), 0);
	if (body != NULL)
		assert_int_equal(redis_add_script(f.redis, body, strlen(body)), 0);
}

static int setup(void **unused)
{
	(void)unused;
	memset(&f, 0, sizeof(f));
	f.listener = f.peer = -1;
	strcpy(f.dir, "/tmp/rl-test-XXXXXX");
	assert_non_null(mkdtemp(f.dir));
	f.address.kind = REDIS_UNIX;
	snprintf(f.address.path, sizeof(f.address.path), "%s/sock", f.dir);
	snprintf(f.password_file, sizeof(f.password_file), "%s/password", f.dir);
	f.base = event_base_new();
	assert_non_null(f.base);
	return 0;
}

static void server_end(int signal_number)
{
	kill(f.server, signal_number);
	kill(f.server, SIGCONT);
	waitpid(f.server, NULL, 0);
	f.server = 0;
}

static int teardown(void **unused)
{
	(void)unused;
	redis_free(f.redis);
	event_base_free(f.base);
	if (f.server != 0)
		server_end(SIGKILL);
	if (f.listener >= 0)
		close(f.listener);
	if (f.peer >= 0)
		close(f.peer);
	unlink(f.address.path);
	unlink(f.password_file);
	rmdir(f.dir);
	return 0;
}

/* --- the real server --- */

static bool server_answers(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool connected;

	strcpy(at.sun_path, f.address.path);
	connected = connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0;
	close(fd);
	return connected;
}

static void server_start(void)
{
	f.server = fork();
	if (f.server == 0) {
		const char *server = getenv("RL_TEST_REDIS_SERVER"); /* or a Valkey */

		if (server == NULL)
			server = "redis-server";
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(open("/dev/null", O_RDWR), 1);
		execlp(server, server, "--port", "0", "--unixsocket", f.address.path, "--dir",
		       f.dir, "--save", "", "--appendonly", "no", NULL);
		_exit(127);
	}
	for (uint64_t end_ms = now_ms() + LONG_MS; !server_answers();) {
		if (waitpid(f.server, NULL, WNOHANG) != 0) {
			f.server = 0;
			skip(); /* there is no redis-server */
		}
		assert_true(now_ms() < end_ms);
		usleep(1000);
	}
}

static void real_and_up(void)
{
	server_start();
	connect_with(BODY);
	comes(f.ups == 1);
}

static void test_redis__script_with_any_bytes_comes_back_whole(void **unused)
{
	static const char *argv[] = {"k\0\r\n", "", "a"};
	static const size_t lengths[] = {4, 0, 1};

	(void)unused;
	server_start();
	connect_with("return #KEYS .. ':' .. #KEYS[1] .. ':' .. string.byte(KEYS[1], 3)"
		     " .. ':' .. #ARGV .. ':' .. ARGV[1] .. ARGV[2]");
	comes(f.ups == 1);
	assert_int_equal(redis_script(f.redis, 0, 1, 3, argv, lengths, on_reply, NULL), 0);
	assert_string_equal(f.said, ""); /* never before the call returns */
	comes(f.answers == 1);
	assert_string_equal(f.said, "0=1:4:13:2:a");
	assert_int_equal(f.downs, 0);
}

static void test_redis__pipelined_answers_come_in_order(void **unused)
{
	char want[sizeof(f.said)] = "";

	(void)unused;
	real_and_up();
	for (int i = 1; i <= 800; i++) {
		assert_int_equal(increase(i, "k", "1"), 0);
		sprintf(want + strlen(want), "%s%d=%d", i == 1 ? "" : " ", i, i);
	}
	comes(f.answers == 800);
	assert_string_equal(f.said, want);
}

static void test_redis__flushed_script_is_applied_once_and_in_order(void **unused)
{
	(void)unused;
	real_and_up();
	command(1, "SCRIPT", "FLUSH", NULL);
	increase(2, "k", "1");
	increase(3, "k", "10");
	command(4, "PING", NULL, NULL);
	comes(f.answers >= 2); /* PING was not refused */
	increase(5, "k", "100");
	comes(f.answers == 5);
	assert_string_equal(f.said, "1=OK 4=PONG 2=1 3=11 5=111");
	assert_int_equal(f.downs, 0);
}

static void test_redis__killed_server_gives_null_once_each_and_comes_back(void **unused)
{
	(void)unused;
	real_and_up();
	kill(f.server, SIGSTOP);
	for (int i = 1; i <= 5; i++)
		assert_int_equal(increase(i, "k", "1"), 0);
	run_for(50);
	assert_int_equal(f.answers, 0);
	server_end(SIGKILL);
	comes(f.downs > 0);
	assert_string_equal(f.said, "1=NULL 2=NULL 3=NULL 4=NULL 5=NULL");
	assert_int_equal(f.downs, 1);
	assert_int_equal(increase(6, "k", "1"), -ENOTCONN);
	run_for(100);
	assert_true(f.downs > 1);
	assert_string_equal(redis_why(f.redis), "Connection refused");
	server_start();
	comes_within(1000, f.ups == 2);
	increase(7, "k", "7");
	comes(f.answers == 6);
	assert_non_null(strstr(f.said, "5=NULL 7=7"));
}

static void test_redis__stopped_server_answers_at_once_when_it_goes_on(void **unused)
{
	uint64_t start_ms;

	(void)unused;
	real_and_up();
	kill(f.server, SIGSTOP);
	increase(1, "k", "1");
	run_for(700);
	start_ms = now_ms();
	kill(f.server, SIGCONT);
	comes(f.answers == 1);
	assert_in_range(now_ms() - start_ms, 0, 500);
	assert_string_equal(f.said, "1=1");
	assert_int_equal(f.downs, 0);
}

/* --- the server played by the test --- */

static void play_listen(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	strcpy(at.sun_path, f.address.path);
	unlink(at.sun_path);
	f.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f.listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(f.listener, 5), 0);
}

static void play_close(void)
{
	if (f.peer >= 0)
		close(f.peer);
	f.peer = -1;
}

static void play_accept(void)
{
	play_close();
	f.bytes_size = 0;
	comes(f.peer >= 0 || (f.peer = accept(f.listener, NULL, NULL)) >= 0);
	fcntl(f.peer, F_SETFL, O_NONBLOCK);
}

static bool play_has(size_t size)
{
	ssize_t count = read(f.peer, f.bytes + f.bytes_size, sizeof(f.bytes) - f.bytes_size);

	f.bytes_size += count > 0 ? (size_t)count : 0;
	return f.bytes_size >= size;
}

/* The bytes that come next must be these. */
static void play_expect(const char *want)
{
	size_t size = strlen(want);

	comes(play_has(size));
	assert_memory_equal(f.bytes, want, size);
	f.bytes_size -= size;
	memmove(f.bytes, f.bytes + size, f.bytes_size);
}

static void play(const char *bytes)
{
	assert_int_equal(write(f.peer, bytes, strlen(bytes)), strlen(bytes));
}

#define LOAD       "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$4\r\nbody\r\n"
#define SHA_ANSWER "$40\r\n" SHA "\r\n"
#define EVALSHA(k) "*5\r\n$7\r\nEVALSHA\r\n$40\r\n" SHA "\r\n$1\r\n1\r\n$1\r\n" k "\r\n$1\r\n1\r\n"
#define EVAL(k)    "*5\r\n$4\r\nEVAL\r\n$4\r\nbody\r\n$1\r\n1\r\n$1\r\n" k "\r\n$1\r\n1\r\n"
#define NOSCRIPT   "-NOSCRIPT No matching script.\r\n"

static void play_greeting(void)
{
	int ups = f.ups;

	play_accept();
	play_expect(LOAD);
	assert_false(redis_is_up(f.redis));
	assert_int_equal(increase(0, "k", "1"), -ENOTCONN);
	play(SHA_ANSWER);
	comes(f.ups == ups + 1);
}

static void played_and_up(void)
{
	play_listen();
	connect_with("body");
	play_greeting();
}

/* As above, with commands 1 .. count on their way. */
static void played_with(int count)
{
	played_and_up();
	for (int i = 1; i <= count; i++) {
		increase(i, "k", "1");
		play_expect(EVALSHA("k"));
	}
}

static void test_redis__nothing_happens_before_the_loop_runs(void **unused)
{
	(void)unused;
	connect_with(BODY); /* to nobody */
	assert_int_equal(f.downs, 0);
	assert_false(redis_is_up(f.redis));
	assert_string_equal(redis_why(f.redis), "");
	assert_int_equal(increase(1, "k", "1"), -ENOTCONN);
	comes(f.downs > 0);
	assert_string_equal(redis_why(f.redis), "No such file or directory");
}

static void test_redis__without_a_script_a_ping_finds_it_up(void **unused)
{
	(void)unused;
	play_listen();
	connect_with(NULL);
	play_accept();
	play_expect("*1\r\n$4\r\nPING\r\n");
	assert_int_equal(f.ups, 0);
	play("+PONG\r\n");
	comes(f.ups == 1);
}

static void test_redis__refused_greeting_is_down_with_its_words(void **unused)
{
	(void)unused;
	play_listen();
	connect_with("body");
	play_accept();
	play("-LOADING Redis is loading\r\n");
	comes(f.downs == 1);
	assert_string_equal(redis_why(f.redis), "refused: LOADING Redis is loading");
	play_accept();
	play("+OK\r\n");
	comes(f.downs == 2);
	assert_non_null(strstr(redis_why(f.redis), "an odd answer to SCRIPT LOAD"));
	assert_int_equal(f.ups, 0);
	play_greeting();
}

static void test_redis__database_is_selected_before_all_else_on_each_connection(void **unused)
{
	(void)unused;
	play_listen();
	f.address.database = 12;
	connect_with("body");
	for (int i = 1; i <= 2; i++) {
		play_accept();
		play_expect("*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n");
		run_for(20);
		assert_false(play_has(1)); /* nothing goes into another database */
		play("+OK\r\n");
		play_expect(LOAD);
		play(SHA_ANSWER);
		comes(f.ups == i);
		play_close();
		comes(f.downs == i);
	}
	play_accept();
	play_expect("*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n");
	play("-ERR DB index is out of range\r\n");
	comes(f.downs == 3);
	assert_string_equal(redis_why(f.redis),
			    "refused SELECT 12: ERR DB index is out of range: does its "
			    "'databases' go that far?");
}

/* What is useless is given up: those on their way get NULL, in order, and it connects again. */
static void test_redis__server_that_does_not_serve_us_any_more_is_left(void **unused)
{
	static const struct {
		const char *error, *why;
	} lost[] = {
		{"-READONLY You can't write against a read only replica.\r\n",
		 "the server is a read-only replica: the agent needs the primary (READONLY)"},
		{"-NOAUTH Authentication required.\r\n", "the server wants a password (NOAUTH)"},
		{"-NOPERM this user has no permissions to run the 'evalsha' command\r\n",
		 "user 'default' may not do all that the agent needs: NOPERM this user has no "
		 "permissions to run the 'evalsha' command: see 'ACL' in rl-agent(8)"},
		{"-ERR The user executing the script can't run this command or subcommand\r\n",
		 "user 'default' may not do all"},
		{"-ERR ACL failure in script: No permissions to access a key\r\n",
		 "user 'default' may not do all"},
	};

	(void)unused;
	played_and_up();
	for (int i = 0; i < 5; i++) {
		f.said[0] = '\0';
		for (int n = 1; n <= 3; n++)
			increase(n, "k", "1");
		play(":1\r\n");
		play(lost[i].error);
		comes(f.downs == i + 1);
		assert_string_equal(f.said, "1=1 2=NULL 3=NULL");
		assert_non_null(strstr(redis_why(f.redis), lost[i].why));
		play_greeting();
	}
}

/* --- AUTH --- */

static void put_password(const char *text, mode_t mode)
{
	FILE *out = fopen(f.password_file, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(f.password_file, mode), 0);
}

#define AUTH(password, size) "*2\r\n$4\r\nAUTH\r\n$" #size "\r\n" password "\r\n"

static void login_listen(const char *password)
{
	put_password(password, 0600);
	f.has_login = true;
	play_listen();
	connect_with("body");
}

static void test_redis__password_goes_first_and_is_read_for_each_connection(void **unused)
{
	(void)unused;
	login_listen("one\n");
	play_accept();
	play_expect(AUTH("one", 3));
	run_for(20);
	assert_false(play_has(1)); /* nothing else before the answer */
	play("+OK\r\n");
	play_expect(LOAD);
	play(SHA_ANSWER);
	comes(f.ups == 1);
	put_password("two words", 0640); /* a group may be ours; without an end of the line */
	play_close();
	play_accept();
	play_expect(AUTH("two words", 9));
	play("+OK\r\n");
	play_expect(LOAD);
}

static void test_redis__user_goes_with_the_password(void **unused)
{
	(void)unused;
	strcpy(f.login.user, "ratel");
	login_listen("one\r\n");
	play_accept();
	play_expect("*3\r\n$4\r\nAUTH\r\n$5\r\nratel\r\n$3\r\none\r\n");
}

static void test_redis__wrong_password_is_read_again_at_once_when_it_has_changed(void **unused)
{
	(void)unused;
	login_listen("one");
	play_accept();
	play_expect(AUTH("one", 3));
	put_password("two", 0600);
	play("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
	play_expect(AUTH("two", 3)); /* on the same connection */
	play("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
	comes(f.downs == 1);
	assert_non_null(
		strstr(redis_why(f.redis), "the server does not take the password in /tmp"));
	assert_non_null(strstr(redis_why(f.redis), "for user 'default': put the right one there"));
	play_accept();
	play_expect(AUTH("two", 3));
	play("-NOAUTH x\r\n");
	comes(f.downs == 2);
	play_accept();
	for (int i = 0; i < 3; i++) { /* also while somebody keeps writing it: three times */
		char text[] = "a1", want[64];

		text[1] = (char)('1' + i);
		if (i > 0) {
			sprintf(want, "*2\r\n$4\r\nAUTH\r\n$2\r\n%s\r\n", text);
			play_expect(want);
		} else {
			play_expect(AUTH("two", 3));
		}
		text[1]++;
		put_password(text, 0600);
		play("-WRONGPASS x\r\n");
	}
	comes(f.downs == 3);
}

/* An attempt with this password that is refused; ms until it came. */
static uint64_t refused_attempt(const char *want)
{
	uint64_t began_ms = now_ms();
	int downs = f.downs;

	play_accept();
	began_ms = now_ms() - began_ms;
	play_expect(want);
	play("-WRONGPASS x\r\n");
	comes(f.downs == downs + 1);
	return began_ms;
}

static void
test_redis__refused_login_is_tried_more_and_more_seldom_until_something_changes(void **u)
{
	uint64_t waited_ms = 0;

	(void)u;
	login_listen("one");
	for (int i = 0; i <= 7; i++) /* 20 ms, 40 ms, ... 1280 ms, +-20 % */
		waited_ms = refused_attempt(AUTH("one", 3));
	assert_true(waited_ms > 1000);
	put_password("two", 0600);
	assert_true(refused_attempt(AUTH("two", 3)) < 1000); /* not 2 s and more */
	redis_ask_again(f.redis);
	assert_true(refused_attempt(AUTH("two", 3)) < 1000); /* not 4 s and more */
	assert_true(refused_attempt(AUTH("two", 3)) < 500);  /* and begins anew from there */
}

static void test_redis__password_is_in_no_reason(void **unused)
{
	static const char *const answers[] = {
		"-ERR unknown command `AUTH`, with args beginning with: `sesame`, \r\n",
		"-sesame\r\n",
		"-ERR Client sent AUTH, but no password is set\r\n",
		"-ERR wrong number of arguments for 'auth' command\r\n",
		"-ERR invalid password\r\n",
		"-NOPERM sesame\r\n",
	};
	static const char *const reasons[] = {
		"the server does not let user 'default' in: AUTH is answered ERR",
		"the server does not let user 'default' in: AUTH is answered with another error",
		"the server has no password for its default user: set redis.user, or leave "
		"redis.password_file out",
		"the server knows no users (before Redis 6): leave redis.user out",
		"the server does not take the password in ",
		"the server does not let user 'default' in: AUTH is answered NOPERM",
	};

	(void)unused;
	login_listen("sesame");
	for (int i = 0; i < 6; i++) {
		play_accept();
		play_expect(AUTH("sesame", 6));
		play(answers[i]);
		comes(f.downs == i + 1);
		assert_null(strstr(redis_why(f.redis), "sesame"));
		assert_non_null(strstr(redis_why(f.redis), reasons[i]));
	}
}

static bool somebody_came(void)
{
	int fd = accept(f.listener, NULL, NULL);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Nobody is even connected to; and it is taken as soon as it is right. */
static void test_redis__password_file_that_is_no_good_is_not_used(void **unused)
{
	static char too_long[REDIS_PASSWORD_MAX + 1];
	static const struct {
		const char *text;
		mode_t mode;
		const char *why;
	} bad[] = {
		{"one", 0604,
		 "any user of this host can read or change it (mode 0604): chmod o= /"},
		{"one", 0602, "any user of this host can read or change it (mode 0602)"},
		{"", 0600, "is empty: it must hold the password, in one line"},
		{"\n", 0600, "is empty"},
		{"one\ntwo\n", 0600, "has more than one line"},
		{too_long, 0600, "is too long"},
	};

	(void)unused;
	memset(too_long, 'x', REDIS_PASSWORD_MAX);
	login_listen("");
	comes(f.downs > 0);
	for (int i = 0; i < 6; i++) {
		int downs;

		unlink(f.password_file);
		put_password(bad[i].text, bad[i].mode);
		downs = f.downs;
		comes(f.downs == downs + 2);
		assert_non_null(strstr(redis_why(f.redis), bad[i].why));
	}
	unlink(f.password_file);
	assert_int_equal(mkfifo(f.password_file, 0600), 0);
	f.downs = 0;
	comes(f.downs == 2);
	assert_non_null(strstr(redis_why(f.redis), "it is no file"));
	unlink(f.password_file);
	f.downs = 0;
	comes(f.downs == 2);
	assert_non_null(strstr(redis_why(f.redis), "No such file or directory: correct the file or "
						   "redis.password_file"));
	assert_false(somebody_came());
	too_long[REDIS_PASSWORD_MAX - 1] = '\0';
	put_password(too_long, 0600);
	play_accept();
}

/* --- the probe --- */

#define PROBE "*4\r\n$4\r\nEVAL\r\n$5\r\nprobe\r\n$1\r\n1\r\n$14\r\n{rl:f:0}:probe\r\n"

static void test_redis__probe_that_finds_rights_missing_is_down_with_their_names(void **unused)
{
	static const char *const answers[] = {
		"*2\r\n$4\r\nzadd\r\n$1\r\n~\r\n",
		"-NOPERM No permissions to access a key\r\n",
		"-NOPERM this user has no permissions to run the 'eval' command\r\n",
	};
	static const char *const reasons[] = {
		"user 'u' lacks rights: ACL SETUSER u +zadd ~{rl:*",
		"user 'u' lacks rights: ACL SETUSER u ~{rl:*",
		"user 'u' may not do all that the agent needs: NOPERM this user has no "
		"permissions to run the 'eval' command: see 'ACL' in rl-agent(8)",
	};

	(void)unused;
	f.has_probe = true;
	strcpy(f.login.user, "u");
	login_listen("p");
	for (int i = 0; i < 4; i++) {
		play_accept();
		play_expect("*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n");
		play("+OK\r\n");
		play_expect(LOAD);
		play(SHA_ANSWER);
		play_expect(PROBE);
		assert_int_equal(f.ups, 0);
		play(i < 3 ? answers[i] : "*0\r\n");
		if (i == 3)
			break;
		comes(f.downs == i + 1);
		assert_string_equal(redis_why(f.redis), reasons[i]);
	}
	comes(f.ups == 1);
}

static void test_redis__issued_after_a_refusal_waits_for_the_refused(void **unused)
{
	(void)unused;
	played_and_up();
	increase(1, "a", "1");
	increase(2, "b", "1");
	play_expect(EVALSHA("a") EVALSHA("b"));
	play(NOSCRIPT);
	run_for(20);
	increase(3, "c", "1");
	run_for(20);
	assert_false(play_has(1)); /* b may be refused as well, and comes before c */
	play(NOSCRIPT);
	play_expect(EVAL("a") EVAL("b") EVALSHA("c"));
	play(":1\r\n:2\r\n:3\r\n");
	comes(f.answers == 3);
	assert_string_equal(f.said, "1=1 2=2 3=3");
	increase(4, "d", "1");
	play_expect(EVALSHA("d"));
}

#define OTHER_SHA "d0941e68da8f38151ff86a61fc59f7c5cf9fcaa2"
#define OTHER(by) "*5\r\n$4\r\nEVAL\r\n$5\r\nother\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\n" by "\r\n"
#define OTHERSHA  "*5\r\n$7\r\nEVALSHA\r\n$40\r\n" OTHER_SHA "\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\n1\r\n"

static int run_other(int number)
{
	const char *argv[] = {"k", "1"};
	const size_t lengths[] = {1, 1};

	return redis_script(f.redis, 1, 1, 2, argv, lengths, on_reply, (void *)(intptr_t)number);
}

static void test_redis__second_script_is_sent_whole_once_a_connection(void **unused)
{
	(void)unused;
	play_listen();
	connect_with("body");
	assert_int_equal(redis_add_script(f.redis, "other", 5), 1);
	play_greeting(); /* which loads the first alone */
	run_other(1);
	run_other(2);
	increase(3, "k", "1");
	play_expect(OTHER("1") OTHERSHA EVALSHA("k"));
	play(":1\r\n" NOSCRIPT ":3\r\n"); /* flushed in between */
	play_expect(OTHER("1"));
	play(":2\r\n");
	comes(f.answers == 3);
	assert_string_equal(f.said, "1=1 3=3 2=2");
	play_close();
	comes(f.downs == 1);
	play_greeting();
	run_other(4);
	play_expect(OTHER("1"));
}

static void test_redis__scripts_are_named_as_the_server_names_them(void **unused)
{
	(void)unused;
	server_start();
	connect_with(BODY);
	assert_int_equal(redis_add_script(f.redis, "return 5", 8), 1);
	comes(f.ups == 1);
	for (int i = 0; i < 3; i++)
		run_other(i);
	command(3, "INFO", "commandstats", NULL);
	comes(f.answers == 4);
	assert_non_null(strstr(f.said, "0=5 1=5 2=5 "));
	command(4, "EVAL", "return redis.call('INFO', 'errorstats'):match('NOSCRIPT') or 'none'",
		"0");
	comes(f.answers == 5);
	assert_non_null(strstr(f.said, "4=none"));
}

static void test_redis__lost_while_refused_ones_wait_gives_null_in_order(void **unused)
{
	(void)unused;
	played_with(3);
	play(NOSCRIPT);
	run_for(20);
	increase(4, "c", "1");
	play_close();
	comes(f.downs == 1);
	assert_string_equal(f.said, "1=NULL 2=NULL 3=NULL 4=NULL");
}

static void test_redis__errors_are_handed_on_and_noscript_the_second_time(void **unused)
{
	(void)unused;
	played_with(4);
	play("-MISCONF m\r\n-OOM o\r\n-BUSY b\r\n" NOSCRIPT);
	play_expect(EVAL("k"));
	play(NOSCRIPT);
	comes(f.answers == 4);
	assert_string_equal(f.said, "1=MISCONF m 2=OOM o 3=BUSY b 4=NOSCRIPT No matching script.");
	assert_int_equal(f.downs, 0);
}

static void test_redis__answer_in_single_bytes_is_put_together(void **unused)
{
	static const char answers[] = "$5\r\nhe\r\no\r\n:12\r\n-ERR x\r\n";

	(void)unused;
	played_with(3);
	for (const char *at = answers; *at != '\0'; at++) {
		play((char[]){*at, '\0'});
		run_for(2);
	}
	assert_string_equal(f.said, "1=he\r\no 2=12 3=ERR x");
}

static void test_redis__garbage_drops_the_connection_behind_good_answers(void **unused)
{
	(void)unused;
	played_with(3);
	play(":1\r\n!garbage\r\n:2\r\n");
	comes(f.downs == 1);
	assert_string_equal(f.said, "1=1 2=NULL 3=NULL");
	assert_non_null(strstr(redis_why(f.redis), "an answer that cannot be read"));
	play_greeting();
}

static void test_redis__half_an_answer_and_the_end_is_null(void **unused)
{
	(void)unused;
	played_with(2);
	play("$10\r\nhalf");
	run_for(20);
	play_close();
	comes(f.downs == 1);
	assert_string_equal(f.said, "1=NULL 2=NULL");
	assert_string_equal(redis_why(f.redis), "the server closed the connection");
}

static void test_redis__answer_nobody_asked_for_drops_the_connection(void **unused)
{
	(void)unused;
	played_with(1);
	play(":1\r\n:2\r\n");
	comes(f.downs == 1);
	assert_string_equal(f.said, "1=1");
	assert_string_equal(redis_why(f.redis), "an answer that nobody asked for");
}

/* Bytes of a bulk string, as fast as the other side takes them. */
static void play_filler(size_t size)
{
	static char filler[65536];
	size_t sent = 0;

	memset(filler, 'x', sizeof(filler));
	for (uint64_t end_ms = now_ms() + LONG_MS; sent < size && f.downs == 0 && turn(end_ms);) {
		size_t rest = size - sent < sizeof(filler) ? size - sent : sizeof(filler);
		ssize_t count = send(f.peer, filler, rest, MSG_NOSIGNAL);

		sent += count > 0 ? (size_t)count : 0;
	}
}

static void test_redis__answer_over_the_limit_is_refused_and_one_below_is_not(void **unused)
{
	(void)unused;
	played_with(3);
	for (int i = 1; i <= 2; i++) {
		play("$16777000\r\n");
		play_filler(16777000);
		play("\r\n");
		comes(f.answers == i);
	}
	play("$900000000\r\n");
	play_filler(REDIS_ANSWER_BYTES + 1);
	comes(f.downs == 1);
	assert_string_equal(redis_why(f.redis), "an answer of more than 16 MiB");
	assert_int_equal(f.answers, 3);
}

static void test_redis__array_that_claims_to_be_huge_is_refused(void **unused)
{
	(void)unused;
	played_with(1);
	play("*20000000\r\n"); /* its 160 MB would be there for the asking */
	comes_within(1000, f.downs == 1);
	assert_string_equal(f.said, "1=NULL");
}

static void test_redis__silent_server_is_dropped_after_the_timeout(void **unused)
{
	uint64_t start_ms;

	(void)unused;
	play_listen();
	connect_with("body");
	redis_set_timeout(f.redis, 200);
	play_greeting();
	run_for(300); /* idle is not silent */
	start_ms = now_ms();
	increase(1, "k", "1");
	run_for(100);
	increase(2, "k", "1");
	comes(f.downs == 1);
	assert_in_range(now_ms() - start_ms, 195, 1000);
	assert_string_equal(f.said, "1=NULL 2=NULL");
	assert_string_equal(redis_why(f.redis), "no answer for 200 ms");
}

static void test_redis__each_command_has_the_whole_timeout(void **unused)
{
	(void)unused;
	play_listen();
	connect_with("body");
	redis_set_timeout(f.redis, 200);
	play_greeting();
	for (int i = 1; i <= 6; i++) { /* always one on its way, for 900 ms */
		increase(i, "k", "1");
		run_for(150);
		if (i > 1)
			play(":1\r\n");
		increase(0, "k", "1");
		play(":0\r\n");
	}
	assert_int_equal(f.downs, 0);
}

static void test_redis__silence_after_connecting_is_down_too(void **unused)
{
	(void)unused;
	play_listen();
	connect_with("body");
	redis_set_timeout(f.redis, 100);
	play_accept();
	comes(f.downs == 1);
	assert_string_equal(redis_why(f.redis), "no answer for 100 ms");
}

static void test_redis__timeout_does_not_run_while_this_process_is_held_up(void **unused)
{
	(void)unused;
	play_listen();
	connect_with("body");
	redis_set_timeout(f.redis, 100);
	play_greeting();
	increase(1, "k", "1");
	usleep(300000); /* as SIGSTOP does: the command has not even left */
	play_expect(EVALSHA("k"));
	play(":1\r\n");
	comes(f.answers == 1);
	assert_string_equal(f.said, "1=1");
	increase(2, "k", "1");
	comes(f.downs == 1); /* and then it does run */
}

static void test_redis__backs_off_and_is_quick_again_after_an_answer(void **unused)
{
	static const unsigned nominal_ms[] = {20, 40, 80, 160, 320, 500, 500, 500};
	uint64_t start_ms;

	(void)unused;
	connect_with("body");
	comes(f.downs == 1);
	for (int i = 0; i < 8; i++) { /* +-20 %; the loop's clock is a tick or two behind */
		start_ms = now_ms();
		comes(f.downs == 2 + i);
		assert_in_range(now_ms() - start_ms, nominal_ms[i] * 8 / 10 - 10,
				nominal_ms[i] * 12 / 10 + 300);
	}
	play_listen();
	play_greeting();
	play_close(); /* up, but nothing answered: still slow */
	start_ms = now_ms();
	play_greeting();
	assert_in_range(now_ms() - start_ms, 390, 2000);
	increase(1, "k", "1");
	play(":1\r\n");
	comes(f.answers == 1);
	play_close();
	start_ms = now_ms();
	play_greeting();
	assert_in_range(now_ms() - start_ms, 0, 350); /* nominally 3 */
}

static void test_redis__freed_in_an_answer_the_others_get_null_in_order(void **unused)
{
	(void)unused;
	played_with(4);
	f.free_in_answer = true;
	play(":1\r\n:2\r\n:3\r\n:4\r\n");
	comes(f.answers > 0);
	run_for(20);
	assert_string_equal(f.said, "1=1 2=NULL 3=NULL 4=NULL");
	assert_int_equal(f.downs, 0);
}

static void test_redis__freed_in_a_lost_answer_the_others_get_null_once(void **unused)
{
	(void)unused;
	played_with(3);
	f.free_in_answer = true;
	play_close();
	comes(f.answers > 0);
	run_for(50);
	assert_string_equal(f.said, "1=NULL 2=NULL 3=NULL");
	assert_int_equal(f.downs, 0);
}

static void test_redis__freed_in_up_and_in_down(void **unused)
{
	(void)unused;
	f.free_in_up = true;
	play_listen();
	connect_with("body");
	play_greeting();
	assert_null(f.redis);
	f.free_in_up = false;
	f.free_in_down = true;
	connect_with("body");
	play_greeting();
	play_close();
	comes(f.downs == 1);
	assert_null(f.redis);
	run_for(50);
}

static void issue_more(struct redis *redis, redisReply *reply, void *arg)
{
	on_reply(redis, reply, arg);
	if (f.answers < 4)
		say("(%d)", increase(f.answers, "k", "1"));
}

static void test_redis__answers_may_issue_commands_but_lost_ones_cannot(void **unused)
{
	const char *argv[] = {"k", "1"};
	const size_t lengths[] = {1, 1};

	(void)unused;
	played_and_up();
	for (intptr_t i = 8; i < 10; i++)
		redis_script(f.redis, 0, 1, 2, argv, lengths, issue_more, (void *)i);
	play(":8\r\n");
	comes(f.answers == 1);
	play_close();
	comes(f.downs == 1);
	assert_string_equal(f.said, "8=8(0) 9=NULL(-107) 1=NULL");
	assert_int_equal(ENOTCONN, 107);
}

/* --- TCP --- */

static void tcp_listen(int backlog)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);

	f.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f.listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(f.listener, backlog), 0);
	assert_int_equal(getsockname(f.listener, (struct sockaddr *)&at, &size), 0);
	f.address.kind = REDIS_TCP;
	strcpy(f.address.host, "127.0.0.1");
	f.address.port = ntohs(at.sin_port);
}

static void test_redis__tcp_by_address_and_by_name(void **unused)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost"};
	int known = access("/etc/hosts", R_OK) == 0 ? 2 : 1;

	(void)unused;
	if (known < 2)
		print_message("# no /etc/hosts here: by address only\n");
	tcp_listen(5);
	for (int i = 0; i < known; i++) {
		strcpy(f.address.host, hosts[i]); /* localhost may be ::1 first: then 127.0.0.1 */
		connect_with("body");
		play_greeting();
		free_now();
	}
	strcpy(f.address.host, "no-such-host.invalid");
	connect_with("body");
	comes(f.downs > 0);
}

static void test_redis__connecting_takes_a_second_at_most(void **unused)
{
	uint64_t start_ms = now_ms();
	int filler[4];

	(void)unused;
	tcp_listen(0);
	for (int i = 0; i < 4; i++) { /* a full queue answers no further one */
		struct sockaddr_in at = {.sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
					 .sin_port = htons(f.address.port)};

		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&at, sizeof(at));
	}
	connect_with("body");
	comes(f.downs == 1);
	assert_string_equal(redis_why(f.redis), "no connection within 1000 ms");
	assert_in_range(now_ms() - start_ms, 990, 2500);
	for (int i = 0; i < 4; i++)
		close(filler[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_redis__script_with_any_bytes_comes_back_whole),
		TEST(test_redis__pipelined_answers_come_in_order),
		TEST(test_redis__flushed_script_is_applied_once_and_in_order),
		TEST(test_redis__killed_server_gives_null_once_each_and_comes_back),
		TEST(test_redis__stopped_server_answers_at_once_when_it_goes_on),
		TEST(test_redis__nothing_happens_before_the_loop_runs),
		TEST(test_redis__without_a_script_a_ping_finds_it_up),
		TEST(test_redis__refused_greeting_is_down_with_its_words),
		TEST(test_redis__database_is_selected_before_all_else_on_each_connection),
		TEST(test_redis__server_that_does_not_serve_us_any_more_is_left),
		TEST(test_redis__password_goes_first_and_is_read_for_each_connection),
		TEST(test_redis__user_goes_with_the_password),
		TEST(test_redis__wrong_password_is_read_again_at_once_when_it_has_changed),
		TEST(test_redis__refused_login_is_tried_more_and_more_seldom_until_something_changes),
		TEST(test_redis__password_is_in_no_reason),
		TEST(test_redis__password_file_that_is_no_good_is_not_used),
		TEST(test_redis__probe_that_finds_rights_missing_is_down_with_their_names),
		TEST(test_redis__issued_after_a_refusal_waits_for_the_refused),
		TEST(test_redis__second_script_is_sent_whole_once_a_connection),
		TEST(test_redis__scripts_are_named_as_the_server_names_them),
		TEST(test_redis__lost_while_refused_ones_wait_gives_null_in_order),
		TEST(test_redis__errors_are_handed_on_and_noscript_the_second_time),
		TEST(test_redis__answer_in_single_bytes_is_put_together),
		TEST(test_redis__garbage_drops_the_connection_behind_good_answers),
		TEST(test_redis__half_an_answer_and_the_end_is_null),
		TEST(test_redis__answer_nobody_asked_for_drops_the_connection),
		TEST(test_redis__answer_over_the_limit_is_refused_and_one_below_is_not),
		TEST(test_redis__array_that_claims_to_be_huge_is_refused),
		TEST(test_redis__silent_server_is_dropped_after_the_timeout),
		TEST(test_redis__each_command_has_the_whole_timeout),
		TEST(test_redis__silence_after_connecting_is_down_too),
		TEST(test_redis__timeout_does_not_run_while_this_process_is_held_up),
		TEST(test_redis__backs_off_and_is_quick_again_after_an_answer),
		TEST(test_redis__freed_in_an_answer_the_others_get_null_in_order),
		TEST(test_redis__freed_in_a_lost_answer_the_others_get_null_once),
		TEST(test_redis__freed_in_up_and_in_down),
		TEST(test_redis__answers_may_issue_commands_but_lost_ones_cannot),
		TEST(test_redis__tcp_by_address_and_by_name),
		TEST(test_redis__connecting_takes_a_second_at_most),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("redis", tests, NULL, NULL);
}
