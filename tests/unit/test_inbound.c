/*
 * Goal:   whatever arrives between two looks at a connection, a request is asked for once, an
 *         application's call is never lost, and nobody else's bytes are touched.
 * Method: the shim's reading half over a real TCP connection; libc's recv behind it runs a
 *         hook after the peek of the test's choice, so that races happen every time.
 */
/* Not in libtest.a: they need the shim's own libc functions and limiter, which are ours here. */
#include "client/preload/conn.c"
#include "client/preload/inbound.c"
#include "client/preload/inbound_call.c"
#include "client/preload/inbound_pieces.c"
#include "client/preload/inbound_refuse.c"
#include "client/preload/inbound_socket.c"
#include "client/preload/inbound_wait.c"
#include "client/preload/reply.c"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include "tests/t.h"

#define REQUEST "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#define SIZE    (sizeof(REQUEST) - 1)

static struct real functions;
static int client, server; /* both ends of the connection of the running test */
static bool allow;
static int asked;
static int peeks;                /* of the shim, so far */
static void (*after_peek)(void); /* the hook, run once */
static volatile sig_atomic_t alarms;

const struct real *real(void)
{
	return &functions;
}

bool limiter_allows(const struct conn *conn, uint64_t *ret_retry_after_s)
{
	(void)conn;
	asked++;
	*ret_retry_after_s = 1;
	return allow;
}

static ssize_t recv_and_hook(int fd, void *bytes, size_t size, int flags)
{
	ssize_t got = recv(fd, bytes, size, flags);

	if ((flags & MSG_PEEK) != 0 && ++peeks == 1 && after_peek != NULL)
		after_peek();
	return got;
}

static void say(const char *text)
{
	assert_int_equal(send(client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void wait_for_bytes(size_t count)
{
	char bytes[4096];

	for (int i = 0; i < 5000; i++, usleep(1000))
		if (recv(server, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT) == (ssize_t)count)
			return;
	fail_msg("%zu bytes did not arrive", count);
}

static int set_up(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	socklen_t len = sizeof(at);

	(void)state;
	functions = (struct real){
		.recv = recv_and_hook, .recvmsg = recvmsg, .send = send, .fcntl = fcntl};
	assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, len), 0);
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	server = accept(listener, NULL, NULL);
	assert_true(server >= 0);
	close(listener);
	conn_init();
	allow = true;
	asked = peeks = 0;
	alarms = 0;
	after_peek = NULL;
	assert_true(conn_open(server, "127.0.0.1", 9));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	conn_close(server);
	close(server);
	close(client);
	return 0;
}

static ssize_t receive_some(void *bytes, size_t size, int flags)
{
	struct iovec piece = {bytes, size};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

	return inbound_receive(server, conn_of(server), &message, flags);
}

static void rest_and_end(void)
{
	say(" x\r\n\r\n");
	shutdown(client, SHUT_WR);
	wait_for_bytes(SIZE);
}

static void test_inbound__head_made_whole_together_with_the_end_is_asked_for(void **state)
{
	char bytes[100];

	(void)state;
	say("GET / HTTP/1.1\r\nHost:");
	wait_for_bytes(21);
	after_peek = rest_and_end;
	assert_int_equal(receive_some(bytes, sizeof(bytes), MSG_DONTWAIT), SIZE);
	assert_int_equal(asked, 1);
}

static void just_end(void)
{
	shutdown(client, SHUT_WR);
	usleep(20000);
}

static void test_inbound__half_a_head_and_the_end_is_the_applications(void **state)
{
	char bytes[100];

	(void)state;
	say("GET / HT");
	wait_for_bytes(8);
	after_peek = just_end;
	assert_int_equal(receive_some(bytes, sizeof(bytes), MSG_DONTWAIT), INBOUND_YOURS);
	assert_int_equal(asked, 0);
}

static void test_inbound__urgent_byte_in_a_head_is_the_applications(void **state)
{
	char bytes[100];

	(void)state;
	say("GET / HT");
	assert_int_equal(send(client, "!", 1, MSG_OOB), 1);
	say("TP/1.1\r\n\r\n");
	usleep(20000);
	assert_int_equal(receive_some(bytes, sizeof(bytes), 0), INBOUND_YOURS);
	assert_int_equal(receive_some(bytes, sizeof(bytes), 0), INBOUND_YOURS);
}

static void on_alarm(int number)
{
	(void)number;
	if (++alarms == 2)
		say(" x\r\n\r\n");
}

/* Two alarms, 50 ms apart; the second sends the rest of the head. */
static ssize_t receive_under_alarms(int flags)
{
	struct itimerval twice = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags}, old;
	char bytes[100];
	ssize_t got;
	int error;

	say("GET / HTTP/1.1\r\nHost:");
	wait_for_bytes(21);
	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &twice, NULL);
	got = receive_some(bytes, sizeof(bytes), 0);
	error = errno;
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	errno = error;
	return got;
}

static void test_inbound__signal_ends_the_wait_for_a_head(void **state)
{
	(void)state;
	assert_int_equal(receive_under_alarms(0), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(alarms, 1);
}

static void test_inbound__signal_that_restarts_calls_does_not_end_the_wait(void **state)
{
	(void)state;
	if (t_under_tsan())
		return; /* it delivers signals at moments of its own, and the kernel sees its flags
			 */
	assert_int_equal(receive_under_alarms(SA_RESTART), SIZE);
	assert_true(alarms >= 2);
}

static void test_inbound__receive_timeout_ends_the_wait_for_a_head(void **state)
{
	struct timeval most = {0, 60000};
	char bytes[100];

	(void)state;
	say("GET / HT");
	wait_for_bytes(8);
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
	assert_int_equal(receive_some(bytes, sizeof(bytes), 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* Close the descriptor where the shim does not see it, and give its number to a pipe. */
static void reuse_number(int ends[2])
{
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "file", 4), 4);
	assert_int_equal(dup2(ends[0], server), server);
}

static void test_inbound__reused_number_is_forgotten_in_every_state(void **state)
{
	static const uint8_t states[] = {CONN_BOUNDARY, CONN_INSIDE, CONN_CHUNKED, CONN_ENDED};
	char bytes[10];
	int ends[2];

	(void)state;
	reuse_number(ends);
	for (size_t i = 0; i < 2 * sizeof(states); i++) {
		struct conn *conn;

		conn_close(server);
		assert_true(conn_open(server, "127.0.0.1", 9));
		conn = conn_of(server);
		conn->cookie = 1; /* of the socket it was */
		conn->left = 2;
		conn->discard = i >= sizeof(states);
		atomic_store(&conn->state, states[i % sizeof(states)]);
		errno = 7;
		assert_int_equal(receive_some(bytes, sizeof(bytes), 0), INBOUND_YOURS);
		assert_int_equal(errno, 7);
		assert_null(conn_of(server));
	}
	assert_int_equal(read(server, bytes, sizeof(bytes)), 4);
	close(ends[0]);
	close(ends[1]);
}

static void test_inbound__other_socket_under_the_number_is_not_refused(void **state)
{
	char bytes[100];

	(void)state;
	allow = false;
	conn_of(server)->cookie++; /* as if this were another one */
	say(REQUEST);
	wait_for_bytes(SIZE);
	assert_int_equal(receive_some(bytes, sizeof(bytes), 0), INBOUND_YOURS);
	assert_int_equal(recv(server, bytes, sizeof(bytes), 0), SIZE);
}

static void test_inbound__read_into_many_pieces_ends_with_the_request(void **state)
{
	char bytes[40][3];
	struct iovec piece[40];
	struct msghdr message = {.msg_iov = piece, .msg_iovlen = 40};

	(void)state;
	for (int i = 0; i < 40; i++)
		piece[i] = (struct iovec){bytes[i], 3};
	say(REQUEST REQUEST);
	wait_for_bytes(2 * SIZE);
	assert_int_equal(inbound_receive(server, conn_of(server), &message, 0), SIZE);
	assert_memory_equal(bytes, REQUEST, SIZE);
	assert_int_equal(inbound_receive(server, conn_of(server), &message, 0), SIZE);
	assert_memory_equal(bytes, REQUEST, SIZE);
	assert_int_equal(asked, 2);
}

static void test_inbound__chunked_body_into_pieces_ends_with_the_body(void **state)
{
	static const char head[] = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
	static const char body[] = "5\r\nhello\r\n0\r\n\r\n";
	char bytes[40][3];
	struct iovec piece[40];
	struct msghdr message = {.msg_iov = piece, .msg_iovlen = 40};

	(void)state;
	for (int i = 0; i < 40; i++)
		piece[i] = (struct iovec){bytes[i], 3};
	say(head);
	say(body);
	say(REQUEST);
	wait_for_bytes(strlen(head) + strlen(body) + SIZE);
	assert_int_equal(inbound_receive(server, conn_of(server), &message, 0), strlen(head));
	assert_int_equal(inbound_receive(server, conn_of(server), &message, 0), strlen(body));
	assert_memory_equal(bytes, body, strlen(body));
	assert_int_equal(inbound_receive(server, conn_of(server), &message, 0), SIZE);
}

static void *send_body_soon(void *unused)
{
	(void)unused;
	usleep(10000);
	say("0123456789");
	return NULL;
}

static void test_inbound__blocking_caller_takes_the_rest_of_a_refused_body_away(void **state)
{
	char bytes[1000];
	pthread_t sender;

	(void)state;
	allow = false;
	say("PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n");
	assert_int_equal(pthread_create(&sender, NULL, send_body_soon, NULL), 0);
	assert_int_equal(receive_some(bytes, sizeof(bytes), 0), 0);
	pthread_join(sender, NULL);
	assert_int_equal(recv(server, bytes, sizeof(bytes), MSG_DONTWAIT), -1);
	assert_true(recv(client, bytes, sizeof(bytes), MSG_DONTWAIT) > 12);
	assert_memory_equal(bytes, "HTTP/1.1 429", 12);
}

static void test_inbound__blocking_caller_is_not_held_up_long_for_a_refused_body(void **state)
{
	char bytes[100];
	uint64_t start = t_now_ns();

	(void)state;
	allow = false;
	say("PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n");
	assert_int_equal(receive_some(bytes, sizeof(bytes), 0), 0);
	assert_true(t_now_ns() - start < 1000000000);
}

static void test_inbound__calls_that_take_nothing_are_the_applications(void **state)
{
	char bytes[10];

	(void)state;
	assert_int_equal(receive_some(bytes, 0, 0), INBOUND_YOURS);
	assert_int_equal(receive_some(bytes, 10, MSG_PEEK), INBOUND_YOURS);
	assert_int_equal(receive_some(bytes, 10, MSG_OOB), INBOUND_YOURS);
	assert_int_equal(receive_some(bytes, 10, MSG_ERRQUEUE), INBOUND_YOURS);
	conn_leave(conn_of(server));
	assert_int_equal(receive_some(bytes, 10, 0), INBOUND_YOURS);
}

static void test_inbound__duplicate_is_the_same_connection(void **state)
{
	char bytes[100];
	int copy = dup(server);
	struct conn *conn = conn_of(server);

	(void)state;
	conn_share(server, copy);
	assert_ptr_equal(conn_of(copy), conn);
	assert_false(conn_is_alone(server));
	conn_close(server);
	assert_null(conn_of(server));
	assert_ptr_equal(conn_of(copy), conn);
	assert_true(conn_open(server, "127.0.0.2", 9)); /* the number is used again meanwhile */
	assert_ptr_not_equal(conn_of(server), conn);
	assert_int_equal(conn->key[8], '1');
	say(REQUEST);
	wait_for_bytes(SIZE);
	assert_int_equal(receive_some(bytes, 100, 0), SIZE);
	conn_close(copy);
	assert_null(conn_of(copy));
	close(copy);
}

static void test_inbound__duplicate_out_of_reach_leaves_the_connection_alone(void **state)
{
	char bytes[10];

	(void)state;
	conn_share(server, CONN_MAX);
	assert_int_equal(receive_some(bytes, 10, 0), INBOUND_YOURS);
}

static void test_inbound__close_drains_only_what_this_process_has_served(void **state)
{
	char bytes[100];

	(void)state;
	say(REQUEST);
	wait_for_bytes(SIZE);
	inbound_drain(server); /* a parent that leaves it to its child */
	wait_for_bytes(SIZE);
	conn_spoke(conn_of(server));
	conn_set_state(conn_of(server), CONN_INSIDE);
	inbound_drain(server); /* the body of a request that was passed on */
	wait_for_bytes(SIZE);
	conn_set_state(conn_of(server), CONN_BOUNDARY);
	conn_share(server, 60000);
	inbound_drain(server); /* another descriptor lives */
	wait_for_bytes(SIZE);
	conn_close(60000);
	inbound_drain(server);
	assert_int_equal(recv(server, bytes, sizeof(bytes), MSG_DONTWAIT), -1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_inbound__head_made_whole_together_with_the_end_is_asked_for),
		CASE(test_inbound__half_a_head_and_the_end_is_the_applications),
		CASE(test_inbound__urgent_byte_in_a_head_is_the_applications),
		CASE(test_inbound__signal_ends_the_wait_for_a_head),
		CASE(test_inbound__signal_that_restarts_calls_does_not_end_the_wait),
		CASE(test_inbound__receive_timeout_ends_the_wait_for_a_head),
		CASE(test_inbound__reused_number_is_forgotten_in_every_state),
		CASE(test_inbound__other_socket_under_the_number_is_not_refused),
		CASE(test_inbound__read_into_many_pieces_ends_with_the_request),
		CASE(test_inbound__chunked_body_into_pieces_ends_with_the_body),
		CASE(test_inbound__blocking_caller_takes_the_rest_of_a_refused_body_away),
		CASE(test_inbound__blocking_caller_is_not_held_up_long_for_a_refused_body),
		CASE(test_inbound__calls_that_take_nothing_are_the_applications),
		CASE(test_inbound__duplicate_is_the_same_connection),
		CASE(test_inbound__duplicate_out_of_reach_leaves_the_connection_alone),
		CASE(test_inbound__close_drains_only_what_this_process_has_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
