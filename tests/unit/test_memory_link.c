/*
 * Goal:   agents of a machine find the one that keeps the counts, another takes over when it ends,
 *         and nobody who may not, or who sends what is no frame, gets anything or holds anything
 * up. Method: several links on one loop, each as an agent has one, in a folder of its own; peers
 * that misbehave by plain sockets.
 */
#include "tests/t.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/memory/link.h"
#include "agent/store/item.h"
#include "shm/rl_clock.h"

#define LINKS      3
#define PATIENCE   (5 * RL_SECOND_NS)
#define TIMEOUT_MS 300

struct side {
	struct link *link;
	unsigned ups, downs, answers, lost, refused;
	bool is_up, is_keeper;
	pid_t keeper;
	int64_t status;
	struct sync_answer answer;
	char why[256];
};

static struct event_base *base;
static char dir[64], path[96], lock_path[112];
static struct side side[LINKS];
static struct frame_out out;

static void on_up(void *arg, pid_t keeper, bool is_us)
{
	struct side *s = arg;

	s->ups++;
	s->is_up = true;
	s->keeper = keeper;
	s->is_keeper = is_us;
}

static void on_down(void *arg, const char *why)
{
	struct side *s = arg;

	s->downs++;
	s->is_up = s->is_keeper = false;
	snprintf(s->why, sizeof(s->why), "%s", why);
}

static void begin(int i)
{
	static const struct link_events events = {.up = on_up, .down = on_down};

	memset(&side[i], 0, sizeof(side[i]));
	side[i].link = link_new(base, path, TIMEOUT_MS, &events, &side[i]);
	assert_non_null(side[i].link);
}

static void end(int i)
{
	link_free(side[i].link);
	side[i].link = NULL;
	side[i].is_up = side[i].is_keeper = false;
}

/* Turn the loop until it is so. */
#define UNTIL(condition) \
	do { \
		uint64_t until_ns = rl_clock_precise_ns() + PATIENCE; \
\
		while (!(condition) && rl_clock_precise_ns() < until_ns) { \
			const struct timeval tick = {.tv_usec = 1000}; \
\
			event_base_loopexit(base, &tick); \
			event_base_dispatch(base); \
		} \
		assert_true(condition); \
	} while (0)

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/rl-memory-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/store.sock", dir);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
	memset(side, 0, sizeof(side));
	base = event_base_new();
	assert_non_null(base);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < LINKS; i++)
		link_free(side[i].link);
	event_base_free(base);
	unlink(path);
	unlink(lock_path);
	rmdir(dir);
	return 0;
}

static void on_answer(const struct link_answer *answer, void *arg)
{
	struct side *s = arg;

	if (answer == NULL) {
		s->lost++;
		return;
	}
	s->answers++;
	s->status = answer->status;
	s->refused += answer->refused;
	if (answer->answers.len == SYNC_ANSWER_SIZE)
		sync_answer_read((const unsigned char *)answer->answers.at, &s->answer);
}

static void put_text(const char *text)
{
	frame_put_text(&out, text, strlen(text));
}

/* A call of host 'a', 'b', ... for one key; units of 100 in a minute that callers wait for. */
static void write_call(const char *host, uint64_t seq, uint32_t waiting)
{
	const struct sync_header header = {.seq = seq, .nonce = seq, .lease_ms = 10000};
	const struct sync_item item = {.limit = 100,
				       .window_ms = 60000,
				       .interval_ms = 50,
				       .waiting = waiting,
				       .demand = waiting};
	unsigned char bytes[SYNC_ITEM_SIZE], head[SYNC_HEADER_SIZE];
	char row[32];

	snprintf(row, sizeof(row), "%s:1", host);
	sync_header_write(&header, head);
	sync_item_write(&item, bytes);
	frame_begin(&out, FRAME_SYNC);
	frame_put4(&out, 3);
	put_text("fleet");
	put_text(host);
	put_text(row);
	put_text("words");
	frame_put_text(&out, head, sizeof(head));
	frame_put4(&out, 1);
	put_text("rule:key");
	frame_put_text(&out, bytes, sizeof(bytes));
}

/* What a call is given. */
static uint32_t call(int i, const char *host, uint64_t seq, uint32_t waiting)
{
	unsigned before = side[i].answers;

	write_call(host, seq, waiting);
	assert_int_equal(link_ask(side[i].link, &out, on_answer, &side[i]), 0);
	assert_int_equal(side[i].answers, before); /* never before it returns */
	UNTIL(side[i].answers > before);
	return side[i].answer.grant;
}

static void all_up(int count)
{
	for (int i = 0; i < count; i++) {
		begin(i);
		UNTIL(side[i].is_up);
	}
}

static void test_memory_link__one_alone_keeps_the_counts_and_asks_itself(void **state)
{
	struct stat st;

	(void)state;
	begin(0);
	write_call("a", 1, 60);
	assert_int_equal(link_ask(side[0].link, &out, on_answer, &side[0]), -ENOTCONN);
	UNTIL(side[0].is_up);
	assert_true(side[0].is_keeper);
	assert_int_equal(side[0].keeper, getpid());
	assert_int_equal(side[0].downs, 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(call(0, "a", 1, 60), 60);
	assert_int_equal(call(0, "a", 1, 60), 60);
	assert_int_equal(side[0].status, SYNC_DUPLICATE);
	end(0);
	assert_int_equal(stat(path, &st), -1); /* whoever looks finds nobody, at once */
}

static void test_memory_link__three_share_one_count(void **state)
{
	static const char *const host[] = {"a", "b", "c"};
	uint32_t granted = 0;

	(void)state;
	all_up(LINKS);
	assert_int_equal(side[0].is_keeper + side[1].is_keeper + side[2].is_keeper, 1);
	for (int i = 0; i < LINKS; i++)
		granted += call(i, host[i], 1, 60);
	assert_int_equal(granted, 100);
	assert_int_equal(side[2].answer.others_out, 100);
}

static void test_memory_link__another_takes_over_within_a_second_with_no_counts(void **state)
{
	uint64_t began_ns;

	(void)state;
	all_up(LINKS);
	assert_int_equal(call(1, "b", 1, 100), 100);
	write_call("c", 1, 1);
	assert_int_equal(link_ask(side[2].link, &out, on_answer, &side[2]), 0);
	began_ns = rl_clock_precise_ns();
	end(0);
	UNTIL(side[1].ups == 2 && side[2].ups == 2 && side[1].is_up && side[2].is_up);
	print_message("# took over in %.0f ms\n", (double)(rl_clock_precise_ns() - began_ns) / 1e6);
	assert_true(rl_clock_precise_ns() - began_ns < RL_SECOND_NS);
	assert_int_equal(side[1].is_keeper + side[2].is_keeper, 1);
	assert_int_equal(side[2].lost, 1); /* it may have been applied, or not */
	assert_non_null(strstr(side[1].why, "closed the connection"));
	/* As after a FLUSHALL: nothing is known, and any number is a first one. */
	assert_int_equal(call(2, "c", 1, 100), 100);
	assert_int_equal(side[2].status, SYNC_APPLIED);
	/* Who comes back is one of them. */
	begin(0);
	UNTIL(side[0].is_up);
	assert_false(side[0].is_keeper);
	assert_int_equal(call(0, "a", 1, 1), 0);
}

static void test_memory_link__socket_that_was_removed_is_made_anew(void **state)
{
	struct stat st;

	(void)state;
	all_up(2);
	assert_int_equal(call(0, "a", 1, 60), 60);
	assert_int_equal(unlink(path), 0);
	UNTIL(stat(path, &st) == 0);
	begin(2);
	UNTIL(side[2].is_up);
	assert_int_equal(call(2, "c", 1, 60), 40); /* the same counts */
	assert_int_equal(side[0].downs + side[1].downs, 0);
}

static void test_memory_link__keeper_whose_lock_was_removed_gives_way(void **state)
{
	(void)state;
	all_up(1);
	assert_int_equal(unlink(lock_path), 0);
	begin(1); /* finds no lock, and takes a new one */
	UNTIL(side[1].is_up && side[1].is_keeper);
	UNTIL(side[0].downs == 1);
	assert_non_null(strstr(side[0].why, "lock was removed"));
	UNTIL(side[0].is_up);
	assert_int_equal(side[0].is_keeper + side[1].is_keeper, 1);
	assert_int_equal(call(0, "a", 1, 60) + call(1, "b", 1, 60), 100);
}

static void test_memory_link__place_that_cannot_be_used_is_said(void **state)
{
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/no/store.sock", dir);
	begin(0);
	UNTIL(side[0].downs >= 2);
	assert_non_null(strstr(side[0].why, "its folder is not there"));
	end(0);
	/* What is no socket of ours is not removed. */
	snprintf(path, sizeof(path), "%s/store.sock", dir);
	file = fopen(path, "we");
	assert_non_null(file);
	fclose(file);
	begin(0);
	UNTIL(side[0].downs >= 2);
	assert_non_null(strstr(side[0].why, "File exists"));
	assert_int_equal(access(path, F_OK), 0);
	assert_string_equal(link_path_fault("/x/"), "its path is that of a socket, and not of a "
						    "folder");
	assert_null(link_path_fault(path));
	assert_non_null(link_path_fault("x"));
}

/* A peer that is no agent: its end of a connection, blocking. */
static int stranger(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static bool is_hung_up(int fd)
{
	char byte[256];
	ssize_t size;

	do
		size = read(fd, byte, sizeof(byte));
	while (size > 0);
	return size == 0 || errno == ECONNRESET || errno == EPIPE;
}

static void send_hello(int fd)
{
	frame_begin(&out, FRAME_HELLO);
	frame_put8(&out, FRAME_MAGIC);
	frame_put4(&out, FRAME_VERSION);
	assert_true(frame_end(&out));
	assert_int_equal(write(fd, out.bytes, out.size), out.size);
}

static void hang_up_on(const void *bytes, size_t size, bool greeted)
{
	int fd = stranger();

	if (greeted)
		send_hello(fd);
	assert_int_equal(write(fd, bytes, size), (ssize_t)size);
	UNTIL(is_hung_up(fd));
	close(fd);
}

static void test_memory_link__peer_that_sends_no_frames_is_hung_up_on(void **state)
{
	static const unsigned char too_long[] = {0xff, 0xff, 0xff, 0x7f};
	static const unsigned char odd[] = {4, 0, 0, 0, 99, 0, 0, 0};
	static const unsigned char empty[] = {0, 0, 0, 0};
	unsigned char bytes[1024];
	const char *http = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

	(void)state;
	all_up(1);
	hang_up_on(http, strlen(http), false);
	hang_up_on(too_long, sizeof(too_long), true);
	hang_up_on(odd, sizeof(odd), true);
	hang_up_on(empty, sizeof(empty), true);
	hang_up_on(empty, sizeof(empty), false);
	/* A call before the greeting; and one that has more behind it. */
	write_call("a", 1, 1);
	assert_true(frame_end(&out));
	hang_up_on(out.bytes, out.size, false);
	write_call("a", 1, 1);
	frame_put4(&out, 0); /* behind what is a call */
	assert_true(frame_end(&out));
	memcpy(bytes, out.bytes, out.size);
	hang_up_on(bytes, out.size, true);
	assert_int_equal(call(0, "a", 1, 60), 60);
}

/* Any byte of a call may be any other: an answer, or hung up on; the next call is served. */
static void test_memory_link__spoilt_calls_harm_nobody(void **state)
{
	static unsigned char good[4096];
	unsigned hung_up = 0;
	uint32_t size;

	(void)state;
	srand((unsigned)t_seed());
	all_up(1);
	write_call("z", 1, 1);
	assert_true(frame_end(&out));
	size = out.size;
	memcpy(good, out.bytes, size);
	for (int try = 0; try < 300; try++) {
		int fd = stranger();
		unsigned char bad[sizeof(good)];
		uint32_t cut = rand() % 4 == 0 ? (uint32_t)rand() % size : size;

		memcpy(bad, good, size);
		for (int i = rand() % 6; i >= 0; i--)
			bad[4 + (uint32_t)rand() % (size - 4)] = (unsigned char)rand();
		send_hello(fd);
		assert_int_equal(write(fd, bad, cut), cut);
		event_base_loop(base, EVLOOP_NONBLOCK);
		event_base_loop(base, EVLOOP_NONBLOCK);
		hung_up += is_hung_up(fd);
		close(fd);
	}
	assert_true(hung_up > 0);
	call(0, "a", 1, 60); /* is answered; some of those calls were good enough to count */
}

static void test_memory_link__peer_that_reads_no_answer_is_hung_up_on(void **state)
{
	int fd;
	ssize_t sent = 0;

	(void)state;
	all_up(1);
	fd = stranger();
	send_hello(fd);
	frame_begin(&out, FRAME_HELLO);
	for (int i = 0; i < 20; i++) /* asks for answers without end */
		frame_put4(&out, 0);
	write_call("a", 1, 1);
	assert_true(frame_end(&out));
	for (uint64_t until_ns = rl_clock_precise_ns() + PATIENCE; sent >= 0 || errno == EAGAIN;) {
		sent = send(fd, out.bytes, out.size, MSG_NOSIGNAL);
		event_base_loop(base, EVLOOP_NONBLOCK);
		assert_true(rl_clock_precise_ns() < until_ns);
	}
	close(fd);
	assert_int_equal(call(0, "b", 1, 60), 60);
}

static void test_memory_link__many_peers_are_turned_away_above_the_most(void **state)
{
	int fd[70];
	unsigned away = 0;

	(void)state;
	all_up(1);
	for (size_t i = 0; i < 70; i++) {
		fd[i] = stranger();
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	for (size_t i = 0; i < 70; i++)
		away += is_hung_up(fd[i]);
	assert_int_equal(away, 70 - 63); /* the keeper is the first of 64 */
	for (size_t i = 0; i < 70; i++)
		close(fd[i]);
	assert_int_equal(call(0, "a", 1, 60), 60);
	begin(1);
	UNTIL(side[1].is_up);
}

/* Another user's agent neither gets the counts nor is believed. */
static void test_memory_link__another_users_process_is_turned_away(void **state)
{
	pid_t child, ended = 0;
	int status;

	(void)state;
	if (geteuid() != 0) {
		print_message("# not root: nobody to be\n");
		return;
	}
	all_up(1);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(chmod(dir, 0755), 0);
	child = fork();
	if (child == 0) {
		int fd = setuid(65534) == 0 ? stranger() : -1;
		char byte;

		fcntl(fd, F_SETFL, 0);
		frame_begin(&out, FRAME_HELLO);
		frame_put8(&out, FRAME_MAGIC);
		frame_put4(&out, FRAME_VERSION);
		frame_end(&out);
		if (fd < 0 || send(fd, out.bytes, out.size, MSG_NOSIGNAL) < 0)
			_exit(errno == EPIPE ? 0 : 3);
		_exit(read(fd, &byte, 1) > 0);
	}
	UNTIL(ended != 0 || (ended = waitpid(child, &status, WNOHANG)) != 0);
	assert_int_equal(ended, child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Who listens at a socket, and never says a word. */
static void test_memory_link__keeper_that_stands_still_is_given_up_on_in_time(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int held = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t began_ns;

	(void)state;
	assert_int_equal(fcntl(held, F_OFD_SETLK, &lock), 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 9), 0);
	begin(0);
	began_ns = rl_clock_precise_ns();
	UNTIL(side[0].downs == 1);
	assert_non_null(strstr(side[0].why, "no answer for 300 ms"));
	assert_true(rl_clock_precise_ns() - began_ns >= 250000000);
	assert_int_equal(side[0].ups, 0);
	/* It ends: then ours takes over. */
	close(fd);
	close(held);
	UNTIL(side[0].is_up && side[0].is_keeper);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_memory_link__one_alone_keeps_the_counts_and_asks_itself),
		CASE(test_memory_link__three_share_one_count),
		CASE(test_memory_link__another_takes_over_within_a_second_with_no_counts),
		CASE(test_memory_link__socket_that_was_removed_is_made_anew),
		CASE(test_memory_link__keeper_whose_lock_was_removed_gives_way),
		CASE(test_memory_link__place_that_cannot_be_used_is_said),
		CASE(test_memory_link__peer_that_sends_no_frames_is_hung_up_on),
		CASE(test_memory_link__spoilt_calls_harm_nobody),
		CASE(test_memory_link__peer_that_reads_no_answer_is_hung_up_on),
		CASE(test_memory_link__many_peers_are_turned_away_above_the_most),
		CASE(test_memory_link__another_users_process_is_turned_away),
		CASE(test_memory_link__keeper_that_stands_still_is_given_up_on_in_time),
	};

	signal(SIGPIPE, SIG_IGN); /* as agents do */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
